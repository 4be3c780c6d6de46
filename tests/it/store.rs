//! The contract of every store. An implementation is a line in [`every_store`].

use crate::support::database;
use crate::support::redis::*;
use countersign::domain::{
    Clock as _, Digest, FirstUse, KeyRecord, Lifetime, ListId, Purpose, StatusRow, SystemClock, TaskRecord, Timestamp,
    UsedOnce,
};
use countersign::revocation::Revocations;
use countersign::store::{
    About, Act, BudgetUse, Durability, Embedded, Entry, KeyRecords, Lease, LinkSettings, Mode, Place, Redis,
    Reservation, Reservations, Reserved, RevocationLog, Revoked, StoreError, TaskRecords,
};
use countersign_verify::key::Algorithm;
use countersign_verify::revocation::{Kind, Name, Named};
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

trait Store: Reservations + RevocationLog + TaskRecords + KeyRecords {}
impl<T: Reservations + RevocationLog + TaskRecords + KeyRecords> Store for T {}

/// A store under test, opened each time in a new folder.
struct Tried<'a> {
    name: &'a str,
    open: Open<'a>,
    /// What the broker's clock says when the test begins.
    now: Timestamp,
    server: ServerClock,
}

impl Tried<'_> {
    /// `seconds` after the test begins, by the broker's clock.
    fn at(&self, seconds: i64) -> Timestamp {
        self.now.plus(seconds)
    }

    fn begin(&self, folder: &Path, seconds: i64) -> Arc<dyn Store> {
        (self.open)(folder, self.at(seconds)).unwrap()
    }
}

/// Where the clock of the store's server stands, seen from the broker's clock. The distance is fixed at more than a year, so
/// that neither the date nor the speed of the machine decides anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ServerClock {
    /// There is no server: the broker's clock is the only one.
    None,
    /// The server's clock is behind the broker's.
    Behind,
    /// The server's clock is ahead of the broker's.
    Ahead,
}

fn every_store(test: impl Fn(&Tried<'_>)) {
    let embedded = |path: &Path, now| Embedded::open(path, now).map(|store| Arc::new(store) as _);
    test(&Tried { name: "embedded", open: &embedded, now: at(0), server: ServerClock::None });
    countersign::app::install_crypto();
    let server = Server::start(STRICT);
    shared("standalone", &Mode::Standalone, &[server.url()], 0, &test);
    let watched = Watched::start(STRICT);
    shared("sentinel", &Mode::Sentinel { master: "tokens".to_owned() }, &watched.urls(), 2, &test);
    let cluster = Cluster::start(STRICT);
    shared("cluster", &Mode::Cluster, &cluster.urls(), 1, &test);
}

/// Tries a shared store by a broker whose clock is far behind the server's, and by one whose clock is far ahead of it.
fn shared(name: &str, mode: &Mode, urls: &[String], replicas: u32, test: &impl Fn(&Tried<'_>)) {
    const FAR: i64 = 400 * 86_400;
    for (server, from_the_server) in [(ServerClock::Ahead, -FAR), (ServerClock::Behind, FAR)] {
        let mut settings = settings(mode.clone(), urls.to_vec(), replicas);
        settings.prefix = format!("{server:?}:");
        let open = |path: &Path, _now| Redis::new(settings.clone(), "first0", path).map(|store| Arc::new(store) as _);
        // The server is a process on this machine, so its clock is the machine's.
        let now = SystemClock.now().plus(from_the_server);
        test(&Tried { name, open: &open, now, server });
    }
}

fn settings(mode: Mode, urls: Vec<String>, replicas: u32) -> LinkSettings {
    LinkSettings {
        mode,
        urls,
        username: None,
        password: None,
        prefix: "test:".to_owned(),
        durability: Durability::Strict,
        replicas,
        timeout: Duration::from_secs(5),
        connections: 2,
        ca: None,
        client_certificate: None,
    }
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::new(1_795_304_539 + seconds).unwrap()
}

/// On one runtime for all: a connection lives on that which made it.
fn wait<T>(future: impl Future<Output = T>) -> T {
    static RUNTIME: LazyLock<tokio::runtime::Runtime> =
        LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());
    RUNTIME.block_on(future)
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
    FirstUse { of: UsedOnce::SubjectToken, key: Digest::of("test", &[&number.to_string()]), until }
}

/// Whether this call marked it.
fn reserve(
    store: &(impl Reservations + ?Sized),
    number: u32,
    until: Timestamp,
    now: Timestamp,
) -> Result<bool, StoreError> {
    wait(store.reserve(mark(number, until).into(), now)).map(|claimed| match claimed {
        Reserved::Whole(0) => true,
        Reserved::Used(UsedOnce::SubjectToken) => false,
        other => panic!("{other:?}"),
    })
}

/// Every contract, on every store: the servers are started once.
#[test]
fn every_store_keeps_the_contract() {
    every_store(|store| {
        eprintln!("{}, the server's clock: {:?}", store.name, store.server);
        a_first_use_is_reserved_once_across_threads_and_restarts_until_it_ends(store);
        a_reservation_is_whole_or_nothing(store);
        a_task_is_used_as_often_as_its_budget_says(store);
        revocations_have_positions_that_only_grow_and_outlive_the_process(store);
        rows_are_kept_until_they_are_over_and_take_no_position(store);
        keys_are_changed_by_who_holds_the_lease(store);
    });
}

type Open<'a> = &'a dyn Fn(&Path, Timestamp) -> Result<Arc<dyn Store>, StoreError>;

fn a_first_use_is_reserved_once_across_threads_and_restarts_until_it_ends(tried: &Tried<'_>) {
    let root = tempfile::tempdir().unwrap();
    let store = tried.begin(root.path(), 0);
    let (now, until) = (tried.at(0), tried.at(300));
    let first = std::thread::scope(|scope| {
        let all: Vec<_> = (0..4)
            .map(|_| {
                let store = &store;
                scope.spawn(move || {
                    wait(async {
                        let mut first = 0;
                        for number in 0..300 {
                            let claimed = store.reserve(mark(number, until).into(), now).await.unwrap();
                            first += usize::from(claimed == Reserved::Whole(0));
                        }
                        first
                    })
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).sum::<usize>()
    });
    assert_eq!(first, 300);
    assert_eq!(wait(store.release(mark(1, tried.at(300)).into(), 0)), Ok(()));
    assert_eq!(wait(store.release(mark(9_999, tried.at(300)).into(), 0)), Ok(()));
    drop(store);
    let store = tried.begin(root.path(), 10);
    assert_eq!(reserve(&*store, 0, tried.at(300), tried.at(10)), Ok(false));
    assert_eq!(reserve(&*store, 1, tried.at(300), tried.at(10)), Ok(true), "taken back");
    assert_eq!(reserve(&*store, 1, tried.at(300), tried.at(299)), Ok(false));
    // Kept as long as was asked for at least, and not for ever.
    assert_eq!(reserve(&*store, 0, tried.at(300), tried.at(300)), Ok(false));
    assert_eq!(reserve(&*store, 5_000, tried.at(300), tried.at(300)), Ok(true), "until this very second");
    assert_eq!(reserve(&*store, 5_000, tried.at(300), tried.at(300)), Ok(false), "and through it");
    drop(store);
    // A store of its own looks at its own clock.
    std::thread::sleep(Duration::from_millis(1_100));
    let store = tried.begin(root.path(), 2_000);
    assert_eq!(reserve(&*store, 5_000, tried.at(2_300), tried.at(2_000)), Ok(true));
}

fn a_reservation_is_whole_or_nothing(tried: &Tried<'_>) {
    let root = tempfile::tempdir().unwrap();
    let store = tried.begin(root.path(), 0);
    let of = |of, number| FirstUse { of, ..mark(number, tried.at(300)) };
    let three =
        |numbers: [u32; 3]| UsedOnce::ALL.into_iter().zip(numbers).map(|(kind, number)| of(kind, number)).collect();
    let whole = Reservation { first_uses: three([10_001, 10_002, 10_003]), budget: None };
    assert_eq!(wait(store.reserve(whole.clone(), tried.at(0))), Ok(Reserved::Whole(0)));
    let late = Reservation { first_uses: three([10_004, 10_005, 10_003]), budget: None };
    assert_eq!(wait(store.reserve(late, tried.at(0))), Ok(Reserved::Used(UsedOnce::Proof)));
    let absent = Reservation::from(of(UsedOnce::ClientAssertion, 10_002));
    assert_eq!(wait(store.reserve(absent, tried.at(0))), Ok(Reserved::Used(UsedOnce::ClientAssertion)), "by its name");
    for number in [10_004, 10_005] {
        assert_eq!(
            reserve(&*store, number, tried.at(300), tried.at(0)),
            Ok(true),
            "nothing of a claim that was not whole"
        );
    }
    let spending = Some(BudgetUse { task: "nobody".to_owned(), idle: Lifetime::new(60).unwrap(), until: tried.at(60) });
    let unknown = Reservation { budget: spending, ..mark(10_006, tried.at(300)).into() };
    assert_eq!(wait(store.reserve(unknown, tried.at(0))), Ok(Reserved::UnknownTask));
    assert_eq!(reserve(&*store, 10_006, tried.at(300), tried.at(0)), Ok(true));
    assert_eq!(wait(store.release(whole, 0)), Ok(()));
    for number in [10_001, 10_002, 10_003] {
        assert_eq!(reserve(&*store, number, tried.at(300), tried.at(0)), Ok(true), "taken back whole");
    }
}

fn task(id: &str, workload: &str, budget: Option<u32>, opened: Timestamp) -> TaskRecord {
    TaskRecord {
        id: id.to_owned(),
        workload: workload.to_owned(),
        issuer: "github".to_owned(),
        client: None,
        cnf: None,
        purpose: None,
        budget,
        targets: Vec::new(),
        opened: opened.seconds(),
        deadline: opened.plus(3_600).seconds(),
        decision: String::new(),
        iss: String::new(),
        kid: String::new(),
        pos: 0,
    }
}

fn a_task_is_used_as_often_as_its_budget_says(tried: &Tried<'_>) {
    let root = tempfile::tempdir().unwrap();
    let store = tried.begin(root.path(), 0);
    let spend = |store: &dyn Store, id: &str, now: i64| {
        let spending = BudgetUse { task: id.to_owned(), idle: Lifetime::new(100).unwrap(), until: tried.at(now + 50) };
        let mark = mark(20_000 + u32::try_from(now).unwrap(), tried.at(now + 9));
        wait(store.reserve(Reservation { budget: Some(spending), ..mark.into() }, tried.at(now)))
    };
    wait(store.open(task("three", "a", Some(3), tried.at(0)), tried.at(0))).unwrap();
    wait(store.open(task("free", "a", None, tried.at(0)), tried.at(0))).unwrap();
    assert_eq!(spend(&*store, "three", 1), Ok(Reserved::Whole(1)));
    assert_eq!(spend(&*store, "three", 2), Ok(Reserved::Whole(2)));
    let second = BudgetUse { task: "three".to_owned(), idle: Lifetime::new(100).unwrap(), until: tried.at(52) };
    wait(store.release(Reservation { budget: Some(second), ..Reservation::default() }, 2)).unwrap();
    drop(store);
    let store = tried.begin(root.path(), 2);
    assert_eq!(spend(&*store, "three", 3), Ok(Reserved::Whole(2)), "what was given back is there again");
    assert_eq!(spend(&*store, "three", 4), Ok(Reserved::Whole(3)));
    assert_eq!(spend(&*store, "three", 5), Ok(Reserved::BudgetSpent));
    assert_eq!(reserve(&*store, 20_005, tried.at(14), tried.at(5)), Ok(true), "and the mark of it is not set");
    assert_eq!(spend(&*store, "free", 6), Ok(Reserved::Whole(0)), "none is counted where there is no budget");
    let states = wait(store.list(tried.at(6))).unwrap();
    let three = states.iter().find(|state| state.record.id == "three").unwrap();
    assert_eq!((three.record.clone(), three.used), (task("three", "a", Some(3), tried.at(0)), 3));
    assert_eq!(spend(&*store, "free", 6 + 50 + 100), Ok(Reserved::Whole(0)), "not idle while it has a token");
    assert_eq!(spend(&*store, "free", 156 + 50 + 101), Ok(Reserved::Idle));
    wait(store.forget("free")).unwrap();
    assert_eq!(spend(&*store, "free", 8), Ok(Reserved::UnknownTask));
    assert_eq!(wait(store.list(tried.at(9))).unwrap().len(), 1);
    assert_eq!(wait(store.list(tried.at(3_601))).unwrap().len(), 0, "none whose deadline has passed");
}

fn keys_are_changed_by_who_holds_the_lease(tried: &Tried<'_>) {
    let root = tempfile::tempdir().unwrap();
    let store = tried.begin(root.path(), 0);
    let record = |kid: &str| KeyRecord {
        kid: kid.to_owned(),
        purpose: Purpose::Tokens,
        algorithm: Algorithm::Es256,
        published: tried.at(0),
        signs_from: tried.at(1),
        signs_until: Some(tried.at(2)),
        longest: 3,
        revoked: Some(tried.at(4)),
    };
    let lease = wait(store.take(Lease::named("one"))).unwrap().expect("nobody has it");
    wait(store.write(&[record("a"), record("b")], &lease)).unwrap();
    wait(store.write(&[record("b")], &lease)).unwrap();
    assert_eq!(wait(store.read()), Ok(vec![record("b")]), "all of them are replaced");
    if tried.server != ServerClock::None {
        assert_eq!(wait(store.take(Lease::named("other"))), Ok(None), "one at a time");
        wait(store.let_go(Lease::named("other"))).unwrap();
        assert_eq!(wait(store.write(&[], &Lease::named("other"))), Err(StoreError::LeaseLost));
        assert_eq!(wait(store.read()), Ok(vec![record("b")]), "nothing by who does not hold it");
    }
    wait(store.let_go(lease)).unwrap();
    assert!(wait(store.take(Lease::named("two"))).unwrap().is_some(), "it was given back");
    assert_eq!(wait(store.publish(&["a".to_owned(), "b".to_owned()])), Ok(vec![vec!["a".to_owned(), "b".to_owned()]]));
}

#[test]
fn a_torn_mark_is_taken_away_and_an_unknown_one_stops_the_start() {
    let root = tempfile::tempdir().unwrap();
    let store = Embedded::open(root.path(), at(0)).unwrap();
    assert_eq!(reserve(&store, 1, at(300), at(0)), Ok(true));
    drop(store);
    let journal = std::fs::read_dir(root.path().join("first-use")).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&journal).unwrap();
    assert_eq!(whole.len(), 17, "what was reserved is cut off in the end");
    std::fs::write(&journal, [&whole[..], &[0; 40]].concat()).unwrap();
    let store = Embedded::open(root.path(), at(0)).unwrap();
    assert_eq!(reserve(&store, 1, at(300), at(0)), Ok(false));
    drop(store);
    std::fs::write(&journal, [&whole[..], b"+123"].concat()).unwrap();
    let store = Embedded::open(root.path(), at(0)).unwrap();
    assert_eq!(reserve(&store, 1, at(300), at(0)), Ok(false));
    assert_eq!(reserve(&store, 2, at(300), at(0)), Ok(true));
    drop(store);
    assert_eq!(std::fs::read(&journal).unwrap().len(), 2 * whole.len());
    let mut unknown = whole.clone();
    unknown[0] = b'?';
    std::fs::write(&journal, unknown).unwrap();
    assert!(matches!(Embedded::open(root.path(), at(0)), Err(StoreError::UnknownRecord)));
}

/// The last position and every record, as a broker reads them at its start.
fn replay(store: &(impl RevocationLog + ?Sized), now: Timestamp) -> Result<(u64, Vec<Revoked>), StoreError> {
    wait(async {
        let position = store.begin(0, now).await?.position;
        let (records, _) = all_of(store).await?;
        Ok((position, records))
    })
}

async fn all_of(store: &(impl RevocationLog + ?Sized)) -> Result<(Vec<Revoked>, Vec<StatusRow>), StoreError> {
    let (mut records, mut rows, mut place) = (Vec::new(), Vec::new(), Place::default());
    loop {
        let page = store.page(place).await?;
        if page.is_empty() {
            return Ok((records, rows));
        }
        place = page.last;
        records.extend(page.records);
        rows.extend(page.rows);
    }
}

fn rows_are_kept_until_they_are_over_and_take_no_position(tried: &Tried<'_>) {
    let root = tempfile::tempdir().unwrap();
    let row = |index: u32, until: i64| StatusRow {
        list: ListId::new([3; 16]),
        index,
        until: tried.at(until),
        pos: 5,
        names: vec![Named::new(Kind::Token, "a", 7), Named::new(Kind::Workload, "w", -7)],
    };
    let store = tried.begin(root.path(), 0);
    let first = wait(store.begin(0, tried.at(0))).unwrap().position;
    assert_eq!(wait(store.keep(row(1, 100), tried.at(0))), Ok(()));
    assert_eq!(wait(store.append(entry("a", Act::Revoke, tried.at(100)), tried.at(0))), Ok(first + 1));
    assert_eq!(wait(store.keep(row(ListId::ENTRIES - 1, 9_000), tried.at(0))), Ok(()));
    assert_eq!(
        wait(store.append(entry("b", Act::Revoke, tried.at(100)), tried.at(0))),
        Ok(first + 2),
        "one after the other"
    );
    drop(store);
    let store = tried.begin(root.path(), 0);
    let begun = wait(store.begin(0, tried.at(0))).unwrap();
    assert!(begun.position == first + 2 && begun.records >= 2);
    let since = |store: &dyn Store| {
        let (mut records, mut rows) = wait(all_of(store)).unwrap();
        records.retain(|record| record.position > first);
        rows.retain(|row| row.list == ListId::new([3; 16]));
        (records, rows)
    };
    let (records, rows) = since(&*store);
    assert_eq!(records.iter().map(|record| record.position).collect::<Vec<_>>(), [first + 1, first + 2]);
    assert_eq!(rows, [row(1, 100), row(ListId::ENTRIES - 1, 9_000)], "whole");
    // Looked at when something is added, or when the log is begun.
    assert_eq!(wait(store.append(entry("c", Act::Revoke, tried.at(900)), tried.at(500))), Ok(first + 3));
    wait(store.begin(0, tried.at(500))).unwrap();
    let (records, rows) = since(&*store);
    let left = match tried.server {
        ServerClock::Ahead => vec![row(ListId::ENTRIES - 1, 9_000)],
        ServerClock::Behind | ServerClock::None => vec![row(1, 100), row(ListId::ENTRIES - 1, 9_000)],
    };
    assert_eq!((records.len(), rows), (3, left), "a row goes long before a record, where the server's clock agrees");
}

fn revocations_have_positions_that_only_grow_and_outlive_the_process(tried: &Tried<'_>) {
    let root = tempfile::tempdir().unwrap();
    let store = tried.begin(root.path(), 0);
    let name = |id: &str| Name::new(Kind::Token, id);
    let first = replay(&*store, tried.at(0)).unwrap().0;
    assert_eq!(
        first == 0,
        tried.server == ServerClock::None,
        "a shared store begins beyond what another one may have given"
    );
    assert_eq!(wait(store.append(entry("a", Act::Revoke, tried.at(100)), tried.at(0))), Ok(first + 1));
    assert_eq!(wait(store.append(entry("b", Act::RevokeBefore(-7), tried.at(900)), tried.at(0))), Ok(first + 2));
    assert_eq!(wait(store.confirm()), Ok(()));
    drop(store);
    let store = tried.begin(root.path(), 101);
    let replayed = replay(&*store, tried.at(101)).unwrap();
    assert_eq!((replayed.0, replayed.1.len()), (first + 2, 2), "what is over just now is kept");
    assert_eq!((replayed.1[1].entry.name, replayed.1[1].position), (name("b"), first + 2));
    assert_eq!(replayed.1[1].entry, entry("b", Act::RevokeBefore(-7), tried.at(900)), "as it was written, whole");
    // A clock that was ahead for a moment has lost nothing.
    assert_eq!(replay(&*store, tried.at(50)).unwrap().1.len(), 2);
    // A server whose clock is behind keeps what a broker whose clock is ahead takes for expired.
    let expires = tried.server != ServerClock::Behind;
    if expires {
        let replayed = replay(&*store, tried.at(86_400 + 101)).unwrap();
        assert_eq!((replayed.0, replayed.1.len()), (first + 2, 1), "for a day");
        let replayed = replay(&*store, tried.at(86_400 + 901)).unwrap();
        assert_eq!((replayed.0, replayed.1.len()), (first + 2, 0));
    }
    let late = tried.at(86_400 + 902);
    wait(store.begin(0, late)).unwrap();
    assert_eq!(
        wait(store.append(entry("c", Act::Suspend, Timestamp::MAX), late)),
        Ok(first + 3),
        "a position is never used again"
    );
    let records = replay(&*store, late).unwrap().1;
    let positions = records.iter().map(|record| record.position).collect::<Vec<_>>();
    let left = if expires { vec![first + 3] } else { vec![first + 1, first + 2, first + 3] };
    assert_eq!(positions, left, "expired records are dropped");
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
    let database = database(&root.path().join("store.redb"));
    let write = database.begin_write().unwrap();
    let table: redb::TableDefinition<'_, u64, &[u8]> = redb::TableDefinition::new("revocations");
    write.open_table(table).unwrap().insert(1, &[9_u8; 25][..]).unwrap();
    write.commit().unwrap();
    drop(database);
    let store = Arc::new(Embedded::open(root.path(), at(0)).unwrap());
    assert_eq!(replay(&*store, at(0)).err(), Some(StoreError::UnknownRecord));
    assert!(wait(Revocations::load(store, None, at(0))).is_err());
}

#[test]
fn the_view_says_what_the_log_has() {
    let root = tempfile::tempdir().unwrap();
    let store: Arc<Embedded> = Arc::new(Embedded::open(root.path(), at(0)).unwrap());
    let view = Arc::new(wait(Revocations::load(store, None, at(0))).unwrap());
    assert_eq!(view.position(), 0);
    let enter = |kind| Entry::new(kind, "AAAAAAAAAAAAAAAAAAAAAA", Act::Revoke, at(10), About::default());
    wait(view.enter(enter(Kind::Token), at(0))).unwrap();
    wait(view.enter(enter(Kind::Key), at(0))).unwrap();
    assert_eq!(view.position(), 2);
}
