//! Status lists: what one of a million entries costs when something is revoked, and when nothing is.

use crate::assertions::Assertions;
use crate::draw::{self, Figure};
use crate::load::{self, Turn};
use crate::process::{self, Process, Redis};
use crate::shared::{PERSISTED, added, brokers_folder, name, round, shared};
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
    let mut tokens = assertions.sign(2 * ROUNDS * 3 * 10_000)?;
    process::pin_myself()?;
    let redis = Redis::start(place.path(), 18_383, PERSISTED)?;
    let plain = brokers_folder(place.path(), "plain", &|config| shared(&config, &redis.url(), "persisted", 7))?;
    let own = brokers_folder(place.path(), "listed", &|config| {
        shared(&config, &redis.url(), "persisted", 8)
            .replace("max_lifetime = \"1h\"", "max_lifetime = \"1h\"\nstatus_list = true")
    })?;
    let start = async |place: &Path, number: u16| {
        let (listen, management) = (18_080 + 2 * number, 18_081 + 2 * number);
        let mut broker =
            Process::broker_at(&programs, place, &format!("127.0.0.1:{listen}"), &format!("127.0.0.1:{management}"))?;
        let ready = broker.ready().await?;
        Ok::<_, Fault>((broker, ready))
    };

    eprintln!("an exchange with an entry, and without");
    let (without, _) = start(&plain, 7).await?;
    let (with, _) = start(&own, 8).await?;
    let (mut none, mut listed) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (broker, turns) in [(&without, &mut none), (&with, &mut listed)] {
            let mut next = || tokens.pop().map(|token| load::exchange(&token, "orders"));
            turns.push(load::saturate(broker, &mut next, CONNECTIONS, TURN, &mut |_| ()).await?);
        }
    }
    drop((without, with));
    let ratio = micros(&listed) / micros(&none);

    eprintln!("{GIVEN} tokens in a list of {ENTRIES} entries");
    redis.ask(&["DEL", "bench:{log}:records", "bench:{log}:ends"]).await?;
    let told = redis.ask(&["HGET", "bench:{log}:state", "position"]).await?;
    let position: u64 = told.lines().nth(1).ok_or("no position")?.parse()?;
    let ends = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 3_600;
    redis
        .tell(
            (0..GIVEN)
                .flat_map(|number| added(&format!("{position}-{}", number + 1), row(number, position, ends), ends)),
        )
        .await?;
    let count = ["HSET", "bench:{log}:state", "row", &GIVEN.to_string()].map(str::to_owned);
    redis.ask(&count.each_ref().map(String::as_str)).await?;
    let (broker, ready) = start(&own, 8).await?;
    let resident = broker.resident_mib()?;
    let list = format!("GET /status/{LIST} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes();
    let mut last = served(&broker, &list).await?;
    let (cpu, began) = (broker.cpu()?, Instant::now());
    for number in 0..REVOKED {
        let position = position + 1 + u64::from(number);
        let record = [&[2][..], &workload(number), &ends.to_be_bytes(), b"r", &[0; 8], b"{}"].concat();
        let count =
            ["HSET", "bench:{log}:state", "position", &position.to_string()].map(|word| word.as_bytes().to_vec());
        redis.tell(added(&format!("{position}-0"), record, ends).into_iter().chain([count.to_vec()])).await?;
        tokio::time::sleep(HEARD).await;
        let now = served(&broker, &list).await?;
        if now == last {
            return Err("the list does not say what was revoked".into());
        }
        last = now;
    }
    let (busy, took) = (broker.cpu()? - cpu, began.elapsed());
    let each = busy * 1e3 / f64::from(REVOKED);
    let length = last.len();
    eprintln!("served from memory, {length} bytes");
    let mut again = || Some(list.clone());
    let served = load::saturate(&broker, &mut again, CONNECTIONS, TURN, &mut |_| ()).await?;

    let bars = [
        ("a revocation of 524 tokens, and the list of 2^20 entries made anew", each, "ms CPU", 50.0),
        ("CPU of an exchange with an entry / without", ratio, "x", f64::INFINITY),
        ("a list served from memory", micros(&[served]), "µs CPU", f64::INFINITY),
        ("start to ready with 524288 tokens alive", ready.as_secs_f64(), "s", f64::INFINITY),
        ("resident memory with 524288 tokens alive", resident, "MiB", f64::INFINITY),
    ];
    let told: Vec<_> = bars
        .iter()
        .map(|(what, measured, unit, bar)| {
            json!({"what": what, "measured": round(*measured), "unit": unit, "bar": Some(bar).filter(|bar| bar.is_finite()), "holds": measured <= bar})
        })
        .collect();
    let report = json!({
        "what": "one core for the broker; every row has seven names", "bars": told,
        "bytes_served": length, "rounds": REVOKED, "seconds": round(took.as_secs_f64()),
    });
    fs::write(results.join("lists.json"), serde_json::to_string_pretty(&report)? + "\n")?;
    let figure = |(what, measured, unit, bar): &(&'static str, f64, &'static str, f64)| Figure {
        what,
        measured: *measured,
        unit,
        most: if bar.is_finite() { *bar } else { 2.0 * measured },
        is_bound: bar.is_finite(),
    };
    let drawn: Vec<Figure<'_>> = bars.iter().map(figure).collect();
    fs::write(results.join("lists.svg"), draw::bars("A status list of a million entries", &drawn))?;
    for (what, measured, unit, bar) in &bars {
        let verdict = if bar.is_infinite() {
            String::new()
        } else {
            format!("of {bar} {}", if measured <= bar { "holds" } else { "MISSED" })
        };
        println!("{what:68} {measured:9.2} {unit:6} {verdict}");
    }
    if bars.iter().all(|(_, measured, _, bar)| measured <= bar) { Ok(()) } else { Err("a bar is not held".into()) }
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
