//! The contract of every store. An implementation is a line in [`every_store`].

use countersign::domain::{Digest, FirstUse, Timestamp};
use countersign::revocation::Revocations;
use countersign::store::{About, Act, Claimed, Embedded, Entry, RevocationLog, StoreError, Uses};
use countersign_verify::revocation::{Kind, Name};
use std::path::Path;
use std::sync::Arc;

trait Store: Uses + RevocationLog {}
impl<T: Uses + RevocationLog> Store for T {}

type Open = fn(&Path, Timestamp) -> Result<Arc<dyn Store>, StoreError>;

fn every_store(test: impl Fn(Open)) {
    let embedded: Open = |path, now| Embedded::open(path, now).map(|store| Arc::new(store) as _);
    [embedded].into_iter().for_each(test);
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::new(1_795_304_539 + seconds).unwrap()
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn entry(id: &str, act: Act, until: Timestamp) -> Entry {
    let about = About {
        reason: Some("INC-42".to_owned()),
        by: "operator (uid 0)".to_owned(),
        at: 7,
        decision: "d".to_owned(),
        ..About::default()
    };
    Entry::new(Kind::Token, id, act, until, about)
}

fn mark(number: u32, until: Timestamp) -> FirstUse {
    FirstUse { key: Digest::of("test", &[&number.to_string()]), until }
}

/// Whether this call marked it.
fn claim(store: &(impl Uses + ?Sized), number: u32, until: Timestamp, now: Timestamp) -> Result<bool, StoreError> {
    wait(store.claim(mark(number, until).into(), now)).map(|claimed| match claimed {
        Claimed::Whole(0) => true,
        Claimed::Used(0) => false,
        other => panic!("{other:?}"),
    })
}

#[test]
fn a_mark_is_claimed_once_across_threads_and_restarts_until_it_ends() {
    every_store(|open| {
        let root = tempfile::tempdir().unwrap();
        let store = open(root.path(), at(0)).unwrap();
        let first = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| (0..500).filter(|number| claim(&*store, *number, at(300), at(0)).unwrap()).count())
                })
                .collect();
            all.into_iter().map(|one| one.join().unwrap()).sum::<usize>()
        });
        assert_eq!(first, 500);
        assert_eq!(wait(store.release(mark(1, at(300)).into(), 0)), Ok(()));
        assert_eq!(wait(store.release(mark(9_999, at(300)).into(), 0)), Ok(()));
        drop(store);
        let store = open(root.path(), at(10)).unwrap();
        assert_eq!(claim(&*store, 0, at(300), at(10)), Ok(false));
        assert_eq!(claim(&*store, 1, at(300), at(10)), Ok(true), "taken back");
        assert_eq!(claim(&*store, 1, at(300), at(299)), Ok(false));
        // Kept as long as was asked for at least, and not for ever.
        assert_eq!(claim(&*store, 0, at(300), at(300)), Ok(false));
        drop(store);
        let store = open(root.path(), at(2_000)).unwrap();
        assert_eq!(claim(&*store, 0, at(2_300), at(2_000)), Ok(true));
    });
}

#[test]
fn a_torn_mark_is_taken_away_and_an_unknown_one_stops_the_start() {
    let root = tempfile::tempdir().unwrap();
    let store = Embedded::open(root.path(), at(0)).unwrap();
    assert_eq!(claim(&store, 1, at(300), at(0)), Ok(true));
    drop(store);
    let journal = std::fs::read_dir(root.path().join("first-use")).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&journal).unwrap();
    assert_eq!(whole.len(), 17, "what was reserved is cut off in the end");
    std::fs::write(&journal, [&whole[..], &[0; 40]].concat()).unwrap();
    let store = Embedded::open(root.path(), at(0)).unwrap();
    assert_eq!(claim(&store, 1, at(300), at(0)), Ok(false));
    drop(store);
    std::fs::write(&journal, [&whole[..], b"+123"].concat()).unwrap();
    let store = Embedded::open(root.path(), at(0)).unwrap();
    assert_eq!(claim(&store, 1, at(300), at(0)), Ok(false));
    assert_eq!(claim(&store, 2, at(300), at(0)), Ok(true));
    drop(store);
    assert_eq!(std::fs::read(&journal).unwrap().len(), 2 * whole.len());
    let mut unknown = whole.clone();
    unknown[0] = b'?';
    std::fs::write(&journal, unknown).unwrap();
    assert!(matches!(Embedded::open(root.path(), at(0)), Err(StoreError::UnknownRecord)));
}

#[test]
fn revocations_have_positions_that_only_grow_and_outlive_the_process() {
    every_store(|open| {
        let root = tempfile::tempdir().unwrap();
        let store = open(root.path(), at(0)).unwrap();
        let name = |id: &str| Name::new(Kind::Token, id);
        assert_eq!(wait(store.append(entry("a", Act::Revoke, at(100)), at(0))), Ok(1));
        assert_eq!(wait(store.append(entry("b", Act::RevokeBefore(-7), at(900)), at(0))), Ok(2));
        drop(store);
        let store = open(root.path(), at(101)).unwrap();
        let replayed = wait(store.replay(at(101))).unwrap();
        assert_eq!((replayed.position, replayed.records.len()), (2, 2), "what is over just now is kept");
        assert_eq!((replayed.records[1].entry.name, replayed.records[1].position), (name("b"), 2));
        assert_eq!(replayed.records[1].entry, entry("b", Act::RevokeBefore(-7), at(900)), "as it was written, whole");
        // A clock that was ahead for a moment has lost nothing.
        assert_eq!(wait(store.replay(at(50))).unwrap().records.len(), 2);
        let replayed = wait(store.replay(at(86_400 + 101))).unwrap();
        assert_eq!((replayed.position, replayed.records.len()), (2, 1), "for a day");
        let replayed = wait(store.replay(at(86_400 + 901))).unwrap();
        assert_eq!((replayed.position, replayed.records.len()), (2, 0));
        assert_eq!(
            wait(store.append(entry("c", Act::Suspend, at(2_000)), at(0))),
            Ok(3),
            "a position is never used again"
        );
    });
}

#[test]
fn a_store_is_open_once() {
    let root = tempfile::tempdir().unwrap();
    let first = Embedded::open(root.path(), at(0)).unwrap();
    assert!(matches!(Embedded::open(root.path(), at(0)), Err(StoreError::InUse)));
    drop(first);
    assert!(Embedded::open(root.path(), at(0)).is_ok());
}

#[test]
fn a_record_of_another_version_stops_the_start() {
    let root = tempfile::tempdir().unwrap();
    drop(Embedded::open(root.path(), at(0)).unwrap());
    let database = redb::Database::create(root.path().join("store.redb")).unwrap();
    let write = database.begin_write().unwrap();
    let table: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("revocations");
    write.open_table(table).unwrap().insert(1, &[9_u8; 25][..]).unwrap();
    write.commit().unwrap();
    drop(database);
    let store = Arc::new(Embedded::open(root.path(), at(0)).unwrap());
    assert_eq!(wait(store.replay(at(0))), Err(StoreError::UnknownRecord));
    assert!(wait(Revocations::load(store, at(0))).is_err());
}

#[test]
fn the_view_says_what_the_log_has() {
    let root = tempfile::tempdir().unwrap();
    let store: Arc<Embedded> = Arc::new(Embedded::open(root.path(), at(0)).unwrap());
    let view = Arc::new(wait(Revocations::load(store, at(0))).unwrap());
    assert_eq!(view.position(), 0);
    let enter = |kind| Entry::new(kind, "AAAAAAAAAAAAAAAAAAAAAA", Act::Revoke, at(10), About::default());
    wait(view.enter(enter(Kind::Token), at(0))).unwrap();
    wait(view.enter(enter(Kind::Key), at(0))).unwrap();
    assert_eq!(view.position(), 2);
}
