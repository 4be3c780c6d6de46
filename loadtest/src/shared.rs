//! Brokers on one Redis: what it costs an exchange, how long a revocation takes to hold on every replica, and what a million of
//! them weigh.

use crate::assertions::Assertions;
use crate::bars::round;
use crate::draw::{self, Figure};
use crate::load::{self, Turn};
use crate::process::{self, Process, Redis};
use crate::{CONNECTIONS, Fault, Place, ROUNDS, access_token};
use hdrhistogram::Histogram;
use serde_json::json;
use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long each side is measured.
const TURN: Duration = Duration::from_secs(5);
/// How long revocations are made, how many a second, and every how many is watched on every replica.
const REVOKING: Duration = Duration::from_secs(60);
const A_SECOND: usize = 500;
const WATCHED: usize = 25;
/// How often a replica is asked about a token that was revoked.
const PROBE: Duration = Duration::from_millis(2);
/// How many revocations are in force at once.
const MANY: usize = 1_000_000;
/// What a server of a store that loses nothing is started with.
pub(crate) const STRICT: &str = "save \"\"\nappendonly yes\nappendfsync always\n";
pub(crate) const PERSISTED: &str = "save \"\"\nappendonly yes\nappendfsync everysec\n";

pub(crate) async fn run(results: &Path) -> Result<(), Fault> {
    let programs = std::env::current_exe()?.parent().map(Path::to_owned).ok_or("where are the programs?")?;
    let place = Place::create()?;
    let assertions = Assertions::new(place.path())?;
    eprintln!("signing assertions …");
    let seconds = usize::try_from(TURN.as_secs())?;
    let mut tokens = assertions.sign(seconds * (2 * ROUNDS + 4) * 10_000)?;
    let reusable = assertions.reusable()?;
    process::pin_myself()?;

    eprintln!("an exchange with the embedded store, and with Redis");
    let (alone, with_redis) = embedded_and_redis(&programs, place.path(), &mut tokens).await?;

    eprintln!("{A_SECOND} revocations a second on three replicas, for {} s", REVOKING.as_secs());
    let redis = Redis::start(place.path(), 18_380, STRICT)?;
    let replicas = three_replicas(&programs, place.path(), &redis).await?;
    let mut minted = Vec::new();
    let wanted = A_SECOND * usize::try_from(REVOKING.as_secs())?;
    let mut again = || Some(load::exchange(&reusable, "orders"));
    while minted.len() < wanted {
        let first = replicas.first().ok_or("no replica")?;
        let mut keep = |answer: &str| minted.extend(access_token(answer));
        load::saturate(first, &mut again, CONNECTIONS, TURN, &mut keep).await?;
    }
    minted.truncate(wanted);
    let full = {
        let first = replicas.first().ok_or("no replica")?;
        let mut next = || tokens.pop().map(|token| load::exchange(&token, "orders"));
        load::saturate(first, &mut next, CONNECTIONS, TURN, &mut |_| ()).await?
    };
    // All three have the one core.
    #[expect(clippy::cast_precision_loss, reason = "a count of a few seconds")]
    let half = full.exchanges as f64 / full.seconds / 2.0;
    let addresses: Vec<&'static str> = replicas.iter().map(Process::address).collect();
    let spread = revoke_all(&addresses, &minted, &reusable, half).await?;
    eprintln!("looking at all {wanted} of them again");
    let mut alive = 0;
    for (number, token) in minted.iter().enumerate() {
        let address = addresses.get(number % 3).ok_or("no replica")?;
        let told = load::one(address, &load::introspection(token)).await?;
        alive += usize::from(!told.contains("{\"active\":false}"));
    }
    drop((replicas, redis));

    eprintln!("{MANY} revocations in force");
    let many = with_many(&programs, place.path(), &reusable).await?;
    let report = Report { alone, with_redis, half, spread, alive, many };
    report.write(results)
}

/// The turns of a broker with the embedded store, and of one with Redis.
async fn embedded_and_redis(
    programs: &Path,
    place: &Path,
    tokens: &mut Vec<String>,
) -> Result<(Vec<Turn>, Vec<Turn>), Fault> {
    let redis = Redis::start(place, 18_379, PERSISTED)?;
    let embedded = brokers_folder(place, "embedded", &|config| config)?;
    let on_redis = brokers_folder(place, "redis", &|config| shared(&config, &redis.url(), "persisted", 1))?;
    let mut one = Process::broker(programs, &embedded)?;
    one.ready().await?;
    let mut other = Process::broker_at(programs, &on_redis, "127.0.0.1:18082", "127.0.0.1:18083")?;
    other.ready().await?;
    let (mut alone, mut with_redis) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (broker, turns) in [(&one, &mut alone), (&other, &mut with_redis)] {
            let mut next = || tokens.pop().map(|token| load::exchange(&token, "orders"));
            turns.push(load::saturate(broker, &mut next, CONNECTIONS, TURN, &mut |_| ()).await?);
        }
    }
    Ok((alone, with_redis))
}

async fn three_replicas(programs: &Path, place: &Path, redis: &Redis) -> Result<Vec<Process>, Fault> {
    let mut replicas = Vec::new();
    for number in 1..=3_u16 {
        let name = format!("replica-{number}");
        let place = brokers_folder(place, &name, &|config| shared(&config, &redis.url(), "strict", number))?;
        let [listen, management] = [18_080, 18_081].map(|port| format!("127.0.0.1:{}", port + 2 * number));
        let mut broker = Process::broker_at(programs, &place, &listen, &management)?;
        broker.ready().await?;
        replicas.push(broker);
    }
    Ok(replicas)
}

/// A folder for one broker, beside what all of them share.
pub(crate) fn brokers_folder(place: &Path, name: &str, change: &dyn Fn(String) -> String) -> Result<PathBuf, Fault> {
    let own = place.join(name);
    fs::create_dir(&own)?;
    fs::copy(place.join("github.jwks"), own.join("github.jwks"))?;
    fs::create_dir(own.join("policies"))?;
    fs::copy(place.join("policies/orders.cedar"), own.join("policies/orders.cedar"))?;
    fs::write(own.join("countersign.toml"), change(fs::read_to_string(place.join("countersign.toml"))?))?;
    Ok(own)
}

/// The configuration of the `number`th broker on a shared store.
pub(crate) fn shared(config: &str, url: &str, durability: &str, number: u16) -> String {
    let store = format!(
        "kind = \"redis\"\npath = \"data\"\n[store.redis]\nurls = [\"{url}\"]\ndurability = \"{durability}\"\nkey_prefix = \"bench:\""
    );
    config
        .replace("kind = \"embedded\"\npath = \"data\"", &store)
        .replace("directory = \"keys\"", &format!("directory = \"../keys-{durability}\""))
        .replace("127.0.0.1:18080", &format!("127.0.0.1:{}", 18_080 + 2 * number))
        .replace("127.0.0.1:18081", &format!("127.0.0.1:{}", 18_081 + 2 * number))
}

/// Revokes every token, one replica after the other, while exchanges go on at `rate`; how long each that is watched was
/// accepted anywhere after the answer, in microseconds.
async fn revoke_all(
    addresses: &[&'static str],
    tokens: &[String],
    reusable: &str,
    rate: f64,
) -> Result<Histogram<u64>, Fault> {
    let spread = RefCell::new(load::histogram()?);
    let started = Instant::now();
    let revoking = async {
        let mut running = Vec::new();
        for (number, token) in tokens.iter().enumerate() {
            let due = started
                + Duration::from_secs_f64(f64::from(u32::try_from(number)?) / f64::from(u32::try_from(A_SECOND)?));
            tokio::time::sleep_until(due.into()).await;
            let (address, spread) = (*addresses.get(number % 3).ok_or("no replica")?, &spread);
            running.push(async move {
                let told = load::one(address, &load::post("/revoke", &format!("token={token}"))).await?;
                if !told.starts_with("HTTP/1.1 200") {
                    return Err(format!("not revoked: {told}").into());
                }
                if number % WATCHED == 0 {
                    let refused = refused_everywhere(addresses, token).await?;
                    spread.borrow_mut().record(u64::try_from(refused.as_micros())?.max(1))?;
                }
                Ok::<(), Fault>(())
            });
            // Started at once, and waited for together: those of a second.
            if running.len() == A_SECOND / 10 {
                futures_util::future::try_join_all(running.drain(..)).await?;
            }
        }
        futures_util::future::try_join_all(running).await?;
        Ok::<(), Fault>(())
    };
    let exchanging = async {
        let third = rate / 3.0;
        let paced = addresses.iter().map(|address| async move {
            let mut next = || Some((load::exchange(reusable, "orders"), true));
            load::paced_with(address, &mut next, third, REVOKING).await
        });
        futures_util::future::try_join_all(paced).await
    };
    let ((), _) = futures_util::future::try_join(revoking, exchanging).await?;
    Ok(spread.into_inner())
}

/// How long `token`, which is revoked, is accepted by any of them.
async fn refused_everywhere(addresses: &[&'static str], token: &str) -> Result<Duration, Fault> {
    let began = Instant::now();
    let each = addresses.iter().map(|address| async move {
        loop {
            let told = load::one(address, &load::introspection(token)).await?;
            if told.contains("{\"active\":false}") {
                return Ok::<Duration, Fault>(began.elapsed());
            }
            tokio::time::sleep(PROBE).await;
        }
    });
    let all = futures_util::future::try_join_all(each).await?;
    Ok(all.into_iter().max().unwrap_or_default())
}

/// What very many revocations cost.
struct Many {
    bytes_each: f64,
    ready: Duration,
    exchange: (Vec<Turn>, Vec<Turn>),
    introspection: (Vec<Turn>, Vec<Turn>),
}

async fn with_many(programs: &Path, place: &Path, reusable: &str) -> Result<Many, Fault> {
    let [empty, full] = [Redis::start(place, 18_381, PERSISTED)?, Redis::start(place, 18_382, PERSISTED)?];
    let mut brokers = Vec::new();
    let mut ready = Duration::ZERO;
    for (number, redis) in [(5_u16, &empty), (6, &full)] {
        let own = brokers_folder(place, &format!("many-{number}"), &|config| {
            shared(&config, &redis.url(), "persisted", number)
        })?;
        let (listen, management) =
            (format!("127.0.0.1:{}", 18_080 + 2 * number), format!("127.0.0.1:{}", 18_081 + 2 * number));
        if number == 6 {
            // Once, so that there are keys and a history; then the log is what it would have become.
            let mut first = Process::broker_at(programs, &own, &listen, &management)?;
            first.ready().await?;
            drop(first);
            redis.tell(revocations(MANY)?).await?;
        }
        let mut broker = Process::broker_at(programs, &own, &listen, &management)?;
        ready = broker.ready().await?;
        brokers.push(broker);
    }
    let [none, many] = brokers.as_slice() else { return Err("two brokers".into()) };
    tokio::time::sleep(Duration::from_secs(1)).await;
    #[expect(clippy::cast_precision_loss, reason = "a million")]
    let bytes_each = (many.resident_mib()? - none.resident_mib()?) * 1_048_576.0 / MANY as f64;
    let mut measured = Many { bytes_each, ready, exchange: (vec![], vec![]), introspection: (vec![], vec![]) };
    for _ in 0..ROUNDS {
        let mut minted = Vec::new();
        for (broker, turns) in [(none, &mut measured.exchange.0), (many, &mut measured.exchange.1)] {
            minted.clear();
            let mut next = || Some(load::exchange(reusable, "orders"));
            let mut keep = |answer: &str| {
                if minted.len() < 64 {
                    minted.extend(access_token(answer));
                }
            };
            turns.push(load::saturate(broker, &mut next, CONNECTIONS, TURN, &mut keep).await?);
            let introspected =
                if std::ptr::eq(broker, none) { &mut measured.introspection.0 } else { &mut measured.introspection.1 };
            let mut round = minted.iter().cycle();
            let mut asked = || round.next().map(|token| load::introspection(token));
            introspected.push(load::saturate(broker, &mut asked, CONNECTIONS, TURN, &mut |_| ()).await?);
        }
    }
    Ok(measured)
}

/// `count` revocations in the log of the brokers with the prefix `bench:`, as they would have written them.
fn revocations(count: usize) -> Result<impl Iterator<Item = Vec<Vec<u8>>>, Fault> {
    let about = br#"{"kind":"token","id":"AAAAAAAAAAAAAAAAAAAAAA","by":"whoever presents it","at":1795304539,"decision":"aaaaaa.AAAAAAAAAAAAAAAA"}"#;
    let ends = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs() + 3_600;
    let each = (1..=count).flat_map(move |number| {
        let record = [&[2][..], &name(number), &ends.to_be_bytes(), b"r", &[0; 8], about].concat();
        added(&format!("{number}-0"), record, ends)
    });
    let last = ["HSET", "bench:{log}:state", "position", &count.to_string()].map(|word| word.as_bytes().to_vec());
    Ok(each.chain([last.to_vec()]))
}

/// Any sixteen bytes are a name.
pub(crate) fn name(number: usize) -> [u8; 16] {
    (number as u128 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes()
}

/// What puts `bytes` into the log under `id`.
pub(crate) fn added(id: &str, bytes: Vec<u8>, ends: u64) -> [Vec<Vec<u8>>; 2] {
    let words = |words: &[&str]| words.iter().map(|word| word.as_bytes().to_vec()).collect::<Vec<_>>();
    let mut add = words(&["XADD", "bench:{log}:records", id, "r"]);
    add.push(bytes);
    [add, words(&["ZADD", "bench:{log}:ends", &ends.to_string(), id])]
}

struct Report {
    alone: Vec<Turn>,
    with_redis: Vec<Turn>,
    half: f64,
    spread: Histogram<u64>,
    alive: usize,
    many: Many,
}

impl Report {
    fn bars(&self) -> Vec<(&'static str, f64, &'static str, f64)> {
        let slower = |(none, many): &(Vec<Turn>, Vec<Turn>)| 100.0 * (micros(many) / micros(none) - 1.0);
        let quantile = |at| as_millis(self.spread.value_at_quantile(at));
        #[expect(clippy::cast_precision_loss, reason = "a count")]
        let alive = self.alive as f64;
        vec![
            ("CPU of an exchange, Redis / embedded", micros(&self.with_redis) / micros(&self.alone), "x", 1.25),
            ("revoked to refused on three replicas, p50", quantile(0.5), "ms", 50.0),
            ("revoked to refused on three replicas, p99", quantile(0.99), "ms", 50.0),
            ("revoked and accepted at the end", alive, "", 0.0),
            ("resident memory for each of a million revocations", self.many.bytes_each, "bytes", 64.0),
            ("an exchange is slower with a million revocations by", slower(&self.many.exchange), "%", 10.0),
            ("introspection is slower with a million revocations by", slower(&self.many.introspection), "%", 10.0),
            ("start to ready with a million revocations", self.many.ready.as_secs_f64(), "s", 3.0),
        ]
    }

    fn write(&self, results: &Path) -> Result<(), Fault> {
        let side = |turns: &[Turn]| json!({"cpu_us": round(micros(turns)), "per_second": round(rate(turns))});
        let bars = self.bars();
        let told: Vec<_> = bars
            .iter()
            .map(|(what, measured, unit, bar)| {
                json!({"what": what, "measured": round(*measured), "unit": unit, "bar": bar, "holds": measured <= bar})
            })
            .collect();
        let report = json!({
            "what": "RS256 in, ES256 out, every assertion unique; Redis and the generator on the second core",
            "embedded": side(&self.alone), "redis": side(&self.with_redis), "bars": told,
            "exchanges_a_second_while_revoking": round(self.half),
            "revocations_watched": self.spread.len(), "slowest_ms": as_millis(self.spread.max()),
        });
        fs::write(results.join("shared.json"), serde_json::to_string_pretty(&report)? + "\n")?;
        fs::write(results.join("shared.svg"), self.svg())?;
        let figure = |(what, measured, unit, bar): &(&'static str, f64, &'static str, f64)| Figure {
            what,
            measured: *measured,
            unit,
            most: *bar,
            is_bound: true,
        };
        let drawn: Vec<Figure<'_>> = bars.iter().map(figure).collect();
        fs::write(
            results.join("shared-bars.svg"),
            draw::bars("Brokers on one Redis, and a million revocations", &drawn),
        )?;
        for (what, measured, unit, bar) in &bars {
            let verdict = if measured <= bar { "holds" } else { "MISSED" };
            println!("{what:55} {measured:9.2} {unit:6} of {bar} {verdict}");
        }
        println!("slowest of {} revocations watched: {:.1} ms", self.spread.len(), as_millis(self.spread.max()));
        if bars.iter().all(|(_, measured, _, bar)| measured <= bar) { Ok(()) } else { Err("a bar is not held".into()) }
    }

    /// How long revocations took to hold everywhere: a column for each millisecond up to fifty.
    fn svg(&self) -> String {
        let buckets: Vec<u64> = (0..50_u64).map(|ms| self.spread.count_between(ms * 1_000, ms * 1_000 + 999)).collect();
        let most = buckets.iter().copied().max().unwrap_or(1).max(1);
        let columns: String = buckets
            .iter()
            .enumerate()
            .map(|(ms, count)| {
                #[expect(clippy::cast_precision_loss, reason = "a count of a minute")]
                let height = 140.0 * *count as f64 / most as f64;
                let (x, y) = (16 + 13 * ms, 190.0 - height);
                format!("<rect x=\"{x}\" y=\"{y:.1}\" width=\"11\" height=\"{height:.1}\" fill=\"#2f6f4f\"/>\n")
            })
            .collect();
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 230\" font-family=\"sans-serif\" font-size=\"14\">\n\
             <rect width=\"720\" height=\"230\" fill=\"#ffffff\"/>\n\
             <text x=\"16\" y=\"28\" font-weight=\"bold\">From the answer of /revoke until the token is refused on three replicas</text>\n{columns}\
             <text x=\"16\" y=\"212\">0 ms</text><text x=\"650\" y=\"212\">50 ms</text>\
             <text x=\"200\" y=\"212\">p50 {:.1} ms · p99 {:.1} ms · slowest {:.1} ms of {}</text>\n</svg>\n",
            as_millis(self.spread.value_at_quantile(0.5)),
            as_millis(self.spread.value_at_quantile(0.99)),
            as_millis(self.spread.max()),
            self.spread.len()
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds of at most a minute")]
fn as_millis(micros: u64) -> f64 {
    micros as f64 / 1e3
}

#[expect(clippy::cast_precision_loss, reason = "exchanges of some seconds")]
fn micros(turns: &[Turn]) -> f64 {
    let (cpu, exchanges) =
        turns.iter().fold((0.0, 0.0), |(cpu, all), turn| (cpu + turn.cpu, all + turn.exchanges as f64));
    cpu * 1e6 / exchanges
}

#[expect(clippy::cast_precision_loss, reason = "exchanges of some seconds")]
fn rate(turns: &[Turn]) -> f64 {
    let (seconds, exchanges) =
        turns.iter().fold((0.0, 0.0), |(seconds, all), turn| (seconds + turn.seconds, all + turn.exchanges as f64));
    exchanges / seconds
}
