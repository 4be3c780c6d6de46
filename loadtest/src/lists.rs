//! Status lists: what one of a million entries costs when something is revoked, and when nothing is.

use crate::assertions::Assertions;
use crate::bars::{self, Bar, Bound, round};
use crate::draw::{self, Figure};
use crate::load::{self, Turn};
use crate::process::{self, Process, Redis};
use crate::shared::{PERSISTED, added, brokers_folder, name, shared};
use crate::{CONNECTIONS, Fault, Place, ROUNDS};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How many entries a list has, and how many of them are given at most.
const ENTRIES: u32 = 1 << 20;
const GIVEN: u32 = ENTRIES / 2;
/// Of how many workloads; each is revoked, and with it a thousandth.
const WORKLOADS: u32 = 1_000;
/// How many of them, one after the other, each with the list made anew.
const REVOKED: u32 = 50;
/// How long a revocation is waited for: the list is made anew every 100 ms at most.
const HEARD: Duration = Duration::from_millis(150);
const TURN: Duration = Duration::from_secs(3);
/// The list, as it is written in its URI, and as it is stored.
const LIST: &str = "AAAAAAAAAAAAAAAAAAAAAA";

pub(crate) async fn run(results: &Path) -> Result<(), Fault> {
    let programs = std::env::current_exe()?.parent().map(Path::to_owned).ok_or("where are the programs?")?;
    let place = Place::create()?;
    let assertions = Assertions::new(place.path())?;
    eprintln!("signing assertions …");
    let tokens = assertions.sign(2 * ROUNDS * 3 * 10_000)?;
    process::pin_myself()?;
    let redis = Redis::start(place.path(), 18_383, PERSISTED)?;
    let plain = brokers_folder(place.path(), "plain", &|config| shared(&config, &redis.url(), "persisted", 7))?;
    let own = brokers_folder(place.path(), "listed", &|config| {
        shared(&config, &redis.url(), "persisted", 8)
            .replace("max_lifetime = \"1h\"", "max_lifetime = \"1h\"\nstatus_list = true")
    })?;
    eprintln!("an exchange with an entry, and without");
    let ratio = cost_of_an_entry((&programs, &plain, &own), tokens).await?;
    eprintln!("{GIVEN} tokens in a list of {ENTRIES} entries");
    let (position, ends) = store_rows(&redis).await?;
    let (broker, ready) = start(&programs, &own, 8).await?;
    let resident = broker.resident_mib()?;
    let made_anew = revoke_one_by_one(&broker, &redis, position, ends).await?;
    eprintln!("served from memory, {} bytes", made_anew.bytes);
    let list = request();
    let mut again = || Some(list.clone());
    let served = load::saturate(&broker, &mut again, CONNECTIONS, TURN, &mut |_| ()).await?;
    let bars = [
        Bar {
            what: "a revocation of 524 tokens, and the list of 2^20 entries made anew",
            measured: made_anew.each,
            unit: "ms CPU",
            bar: Bound::AtMost(50.0),
        },
        told("CPU of an exchange with an entry / without", ratio, "x"),
        told("a list served from memory", micros(&[served]), "µs CPU"),
        told("start to ready with 524288 tokens alive", ready.as_secs_f64(), "s"),
        told("resident memory with 524288 tokens alive", resident, "MiB"),
    ];
    write(results, &bars, &made_anew)?;
    bars::judge(&bars)
}

fn told(what: &'static str, measured: f64, unit: &'static str) -> Bar {
    Bar { what, measured, unit, bar: Bound::None }
}

/// A broker of its own ports, and how long it took until it was ready.
async fn start(programs: &Path, place: &Path, number: u16) -> Result<(Process, Duration), Fault> {
    let (listen, management) = (18_080 + 2 * number, 18_081 + 2 * number);
    let mut broker =
        Process::broker_at(programs, place, &format!("127.0.0.1:{listen}"), &format!("127.0.0.1:{management}"))?;
    let ready = broker.ready().await?;
    Ok((broker, ready))
}

/// The CPU of an exchange whose token has an entry, as a multiple of one without.
async fn cost_of_an_entry(
    (programs, plain, own): (&Path, &Path, &Path),
    mut tokens: Vec<String>,
) -> Result<f64, Fault> {
    let (without, _) = start(programs, plain, 7).await?;
    let (with, _) = start(programs, own, 8).await?;
    let (mut none, mut listed) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (broker, turns) in [(&without, &mut none), (&with, &mut listed)] {
            let mut next = || tokens.pop().map(|token| load::exchange(&token, "orders"));
            turns.push(load::saturate(broker, &mut next, CONNECTIONS, TURN, &mut |_| ()).await?);
        }
    }
    Ok(micros(&listed) / micros(&none))
}

/// Writes the rows of half of a list into the store. Returns the position that they follow, and their end.
async fn store_rows(redis: &Redis) -> Result<(u64, u64), Fault> {
    redis.ask(&["DEL", "bench:{log}:records", "bench:{log}:ends"]).await?;
    let told = redis.ask(&["HGET", "bench:{log}:state", "position"]).await?;
    let position: u64 = told.lines().nth(1).ok_or("no position")?.parse()?;
    let ends = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 3_600;
    let stored = |number: u32| added(&format!("{position}-{}", number + 1), row(number, position, ends), ends);
    redis.tell((0..GIVEN).flat_map(stored)).await?;
    let count = ["HSET", "bench:{log}:state", "row", &GIVEN.to_string()].map(str::to_owned);
    redis.ask(&count.each_ref().map(String::as_str)).await?;
    Ok((position, ends))
}

/// A list that was made anew for each of some revocations.
struct MadeAnew {
    /// CPU of the broker for each, in ms.
    each: f64,
    took: Duration,
    bytes: usize,
}

async fn revoke_one_by_one(broker: &Process, redis: &Redis, position: u64, ends: u64) -> Result<MadeAnew, Fault> {
    let list = request();
    let mut last = served(broker, &list).await?;
    let (cpu, began) = (broker.cpu()?, Instant::now());
    for number in 0..REVOKED {
        let position = position + 1 + u64::from(number);
        let record = [&[2][..], &workload(number), &ends.to_be_bytes(), b"r", &[0; 8], b"{}"].concat();
        let count =
            ["HSET", "bench:{log}:state", "position", &position.to_string()].map(|word| word.as_bytes().to_vec());
        redis.tell(added(&format!("{position}-0"), record, ends).into_iter().chain([count.to_vec()])).await?;
        tokio::time::sleep(HEARD).await;
        let now = served(broker, &list).await?;
        if now == last {
            return Err("the list does not say what was revoked".into());
        }
        last = now;
    }
    let each = (broker.cpu()? - cpu) * 1e3 / f64::from(REVOKED);
    Ok(MadeAnew { each, took: began.elapsed(), bytes: last.len() })
}

fn request() -> Vec<u8> {
    format!("GET /status/{LIST} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()
}

fn write(results: &Path, bars: &[Bar], made_anew: &MadeAnew) -> Result<(), Fault> {
    let report = json!({
        "what": "one core for the broker; every row has seven names",
        "bars": bars.iter().map(Bar::json).collect::<Vec<_>>(),
        "bytes_served": made_anew.bytes, "rounds": REVOKED, "seconds": round(made_anew.took.as_secs_f64()),
    });
    fs::write(results.join("lists.json"), serde_json::to_string_pretty(&report)? + "\n")?;
    let figure = |bar: &Bar| Figure {
        what: bar.what,
        measured: bar.measured,
        unit: bar.unit,
        most: bar.bar.value().unwrap_or(2.0 * bar.measured),
        is_bound: bar.bar.value().is_some(),
    };
    let drawn: Vec<Figure<'_>> = bars.iter().map(figure).collect();
    fs::write(results.join("lists.svg"), draw::bars("A status list of a million entries", &drawn))?;
    Ok(())
}

async fn served(broker: &Process, request: &[u8]) -> Result<String, Fault> {
    let answer = load::one(broker.address(), request).await?;
    if answer.starts_with("HTTP/1.1 200") { Ok(answer) } else { Err(format!("no list: {answer}").into()) }
}

fn workload(number: u32) -> [u8; 16] {
    name(usize::MAX / 2 + number as usize)
}

/// The row of the `number`th token.
fn row(number: u32, position: u64, ends: u64) -> Vec<u8> {
    // Every other entry, in an order that jumps: as good as any.
    let index = number.wrapping_mul(0x9e37_79b1) % GIVEN * 2;
    let unique = 2 * number as usize;
    let names = [name(unique), name(unique + 1), workload(number % WORKLOADS), [1; 16], [2; 16], [3; 16], [4; 16]];
    let mut row = [&[1][..], &[0; 16], &index.to_be_bytes(), &ends.to_be_bytes(), &position.to_be_bytes()].concat();
    for (place, name) in names.iter().enumerate() {
        row.extend_from_slice(name);
        row.extend_from_slice(&(ends - 3_600).to_be_bytes());
        row.push(u8::from(place < 2));
    }
    row
}

#[expect(clippy::cast_precision_loss, reason = "exchanges of some seconds")]
fn micros(turns: &[Turn]) -> f64 {
    let (cpu, exchanges) =
        turns.iter().fold((0.0, 0.0), |(cpu, all), turn| (cpu + turn.cpu, all + turn.exchanges as f64));
    cpu * 1e6 / exchanges
}
