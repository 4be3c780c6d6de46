//! A primary that dies under load, watched by Sentinels: how long exchanges answer 503, and what each durability loses of what was
//! acknowledged.

use crate::assertions::Assertions;
use crate::draw::{self, Figure};
use crate::load;
use crate::process::{self, Process, Redis};
use crate::shared::{PERSISTED, STRICT, brokers_folder, shared};
use crate::{CONNECTIONS, Fault, Place, access_token};
use serde_json::{Value, json};
use std::cell::{Cell, RefCell};
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::task::{LocalSet, spawn_local};

/// The number of the first broker, by which its ports are told.
const FIRST: u16 = 41;
/// How many tokens there are to be revoked.
const REVOKED: usize = 4_000;

/// How long there is load before the primary dies, and after.
const BEFORE: Duration = Duration::from_secs(3);
const AFTER: Duration = Duration::from_secs(20);
/// When what watches over the primary starts it again: another one has taken over by then.
const AGAIN: Duration = Duration::from_secs(4);
/// How often something is exchanged, and something revoked.
const EXCHANGE: Duration = Duration::from_millis(5);
const REVOKE: Duration = Duration::from_millis(10);
/// For how long the replicas hear nothing before the primary dies: what is acknowledged meanwhile is nowhere else.
const CUT_OFF: Duration = Duration::from_millis(500);
/// The longest that a request is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who dies with the primary.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dying {
    Nobody,
    Brokers,
}

/// What is exchanged: a marked assertion while the primary dies, each once.
struct Tokens {
    reusable: String,
    once: Vec<String>,
}

/// What came of one death.
struct Failover {
    /// From the death until the last exchange that was not answered with 200.
    unavailable: Duration,
    /// How many of those were answered with anything but 503.
    others: usize,
    acknowledged: usize,
    /// How many of them are accepted afterwards.
    lost: usize,
}

pub(crate) async fn run(results: &Path) -> Result<(), Fault> {
    let programs = std::env::current_exe()?.parent().map(Path::to_owned).ok_or("where are the programs?")?;
    let mut told = Vec::new();
    let mut held = true;
    let mut base = 18_400;
    for (durability, redis) in [("strict", STRICT), ("persisted", PERSISTED), ("memory", "save \"\"\n")] {
        let mut both = Vec::new();
        for dying in [Dying::Nobody, Dying::Brokers] {
            eprintln!("a failover under load, durability `{durability}`");
            let place = Place::create()?;
            let assertions = Assertions::new(place.path())?;
            let seconds = u32::try_from((BEFORE + CUT_OFF + AGAIN + AFTER).as_millis())?;
            let once = assertions.sign(usize::try_from(2 * seconds / u32::try_from(EXCHANGE.as_millis())?)?)?;
            let tokens = Tokens { reusable: assertions.reusable()?, once };
            process::pin_myself()?;
            let scene = Scene::start(&programs, place.path(), (durability, redis), base).await?;
            both.push(LocalSet::new().run_until(scene.play(tokens, dying)).await?);
            base += 20;
        }
        let [alone, with_brokers] = both.as_slice() else { return Err("two failovers".into()) };
        held &= alone.lost == 0 && alone.others == 0 && (with_brokers.lost == 0 || durability != "strict");
        println!(
            "{durability:10} 503 for {:5} ms, anything else {}; of {} acknowledged revocations {} lost; of {} {} where the brokers die too",
            alone.unavailable.as_millis(),
            alone.others,
            alone.acknowledged,
            alone.lost,
            with_brokers.acknowledged,
            with_brokers.lost
        );
        told.push(json!({
            "durability": durability,
            "unavailable_ms": alone.unavailable.as_millis(), "answers_other_than_200_and_503": alone.others,
            "acknowledged": alone.acknowledged, "lost": alone.lost,
            "brokers_die_too": {"acknowledged": with_brokers.acknowledged, "lost": with_brokers.lost},
        }));
    }
    let what = format!(
        "a primary, two replicas, three Sentinels that wait one second, two brokers; the replicas hear nothing for {} ms, and then the \
         primary dies, and is started again after {} s; under `strict` both replicas confirm",
        CUT_OFF.as_millis(),
        AGAIN.as_secs()
    );
    let report = json!({"what": what, "failovers": told, "holds": held});
    fs::write(results.join("failover.json"), serde_json::to_string_pretty(&report)? + "\n")?;
    fs::write(results.join("failover.svg"), drawn(&told))?;
    if held { Ok(()) } else { Err("what may not be lost was lost, or something else than 503 was answered".into()) }
}

/// How long each is unavailable, of 20 s, and what of 100 it loses where nobody is left who remembers.
fn drawn(told: &[Value]) -> String {
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    let rows: Vec<(String, f64, &str, f64)> = told
        .iter()
        .flat_map(|one| {
            let name = one["durability"].as_str().unwrap_or_default();
            let of = &one["brokers_die_too"];
            let lost = 100.0 * number(&of["lost"]) / number(&of["acknowledged"]).max(1.0);
            [
                (format!("{name}: exchanges are 503 for"), number(&one["unavailable_ms"]) / 1e3, "s", 20.0),
                (format!("{name}: lost where the brokers die too, of what was acknowledged"), lost, "%", 100.0),
            ]
        })
        .collect();
    let figure = |(what, measured, unit, most)| Figure { what, measured, unit, most, is_bound: false };
    let figures: Vec<Figure<'_>> =
        rows.iter().map(|(what, measured, unit, most)| figure((what.as_str(), *measured, *unit, *most))).collect();
    draw::bars("A primary that dies half a second after it was cut off", &figures)
}

/// A store that is watched, and two brokers on it.
struct Scene<'a> {
    programs: &'a Path,
    folders: Vec<PathBuf>,
    brokers: Vec<Process>,
    primary: Redis,
    replicas: [Redis; 2],
    sentinels: Vec<Redis>,
}

impl<'a> Scene<'a> {
    async fn start(
        programs: &'a Path,
        place: &Path,
        (durability, config): (&str, &str),
        base: u16,
    ) -> Result<Self, Fault> {
        let config = format!("{config}repl-diskless-sync-delay 0\nrepl-ping-replica-period 1\n");
        let primary = Redis::start(place, base, &config)?;
        let follow = format!("{config}replicaof 127.0.0.1 {base}\n");
        let replicas = [Redis::start(place, base + 1, &follow)?, Redis::start(place, base + 2, &follow)?];
        until("the replicas follow", async || {
            Ok(primary.ask(&["INFO", "replication"]).await?.matches("state=online").count() == 2)
        })
        .await?;
        let watch = format!(
            "sentinel monitor tokens 127.0.0.1 {base} 2\nsentinel down-after-milliseconds tokens 1000\n\
             sentinel failover-timeout tokens 3000\nsentinel parallel-syncs tokens 2\n"
        );
        let sentinels = (3..6).map(|number| Redis::sentinel(place, base + number, &watch));
        let sentinels = sentinels.collect::<Result<Vec<_>, _>>()?;
        for sentinel in &sentinels {
            until("the Sentinels know each other", async || {
                let told = sentinel.ask(&["SENTINEL", "MASTER", "tokens"]).await?;
                let is_two = |name: &str| told.lines().skip_while(|line| *line != name).nth(2) == Some("2");
                Ok(is_two("num-other-sentinels") && is_two("num-slaves"))
            })
            .await?;
        }
        let urls: Vec<String> = sentinels.iter().map(|sentinel| format!("\"{}\"", sentinel.url())).collect();
        let confirmed = if durability == "strict" { "replicas = 2\n" } else { "" };
        let mode = format!(
            "mode = \"sentinel\"\nmaster = \"tokens\"\n{confirmed}timeout = \"1s\"\nurls = [{}]",
            urls.join(", ")
        );
        let folder = |number: u16| {
            brokers_folder(place, &format!("broker-{number}"), &|config| {
                shared(&config, "URL", durability, number).replace("urls = [\"URL\"]", &mode)
            })
        };
        let folders = vec![folder(FIRST)?, folder(FIRST + 1)?];
        let mut scene = Self { programs, folders, brokers: Vec::new(), primary, replicas, sentinels };
        scene.begin().await?;
        Ok(scene)
    }

    /// Starts the brokers.
    async fn begin(&mut self) -> Result<(), Fault> {
        for (folder, number) in self.folders.iter().zip(FIRST..) {
            let [listen, management] = [18_080, 18_081].map(|port| format!("127.0.0.1:{}", port + 2 * number));
            let mut broker = Process::broker_at(self.programs, folder, &listen, &management)?;
            broker.ready().await?;
            self.brokers.push(broker);
        }
        Ok(())
    }

    async fn play(mut self, tokens: Tokens, dying: Dying) -> Result<Failover, Fault> {
        let addresses: Vec<&'static str> = self.brokers.iter().map(Process::address).collect();
        let minted = self.mint(&tokens.reusable).await?;
        let traffic = Traffic { began: Instant::now(), stop: Rc::default(), addresses };
        let (failed, acknowledged) = (Rc::default(), Rc::default());
        let exchanging = spawn_local(traffic.clone().exchange(tokens.once, Rc::clone(&failed)));
        let revoking = spawn_local(traffic.clone().revoke(minted, Rc::clone(&acknowledged)));
        let died = self.kill_the_primary(dying, &traffic).await?;
        traffic.stop.set(true);
        exchanging.await?;
        revoking.await?;
        if dying == Dying::Brokers {
            self.begin().await?;
        }
        let acknowledged = acknowledged.take();
        let lost = self.lost(&acknowledged).await?;
        drop(self.sentinels);
        let failed: Vec<(Instant, bool)> = failed.take();
        let after: Vec<&(Instant, bool)> = failed.iter().filter(|(at, _)| *at >= died).collect();
        Ok(Failover {
            unavailable: after.iter().map(|(at, _)| *at - died).max().unwrap_or_default(),
            others: if dying == Dying::Brokers { 0 } else { failed.iter().filter(|(_, is_503)| !is_503).count() },
            acknowledged: acknowledged.len(),
            lost,
        })
    }

    /// Tokens to revoke.
    async fn mint(&self, reusable: &str) -> Result<Vec<String>, Fault> {
        let mut minted = Vec::new();
        while minted.len() < REVOKED {
            let first = self.brokers.first().ok_or("no broker")?;
            let mut again = || Some(load::exchange(reusable, "orders"));
            let mut keep = |answer: &str| minted.extend(access_token(answer));
            load::saturate(first, &mut again, CONNECTIONS, Duration::from_secs(1), &mut keep).await?;
        }
        minted.truncate(REVOKED);
        Ok(minted)
    }

    /// Cuts the primary off, kills it, and starts it again. Returns when it died.
    async fn kill_the_primary(&mut self, dying: Dying, traffic: &Traffic) -> Result<Instant, Fault> {
        tokio::time::sleep(BEFORE).await;
        self.replicas.iter().try_for_each(|replica| replica.signal("-STOP"))?;
        // What is sent from now on reaches nobody.
        self.primary.ask(&["CLIENT", "KILL", "TYPE", "replica"]).await?;
        tokio::time::sleep(CUT_OFF).await;
        self.primary.signal("-KILL")?;
        let died = Instant::now();
        if dying == Dying::Brokers {
            self.brokers.clear();
            traffic.stop.set(true);
        }
        self.replicas.iter().try_for_each(|replica| replica.signal("-CONT"))?;
        tokio::time::sleep(AGAIN).await;
        self.primary.again()?;
        tokio::time::sleep(AFTER).await;
        Ok(died)
    }

    /// Returns the number of acknowledged revocations that some broker does not know.
    async fn lost(&self, acknowledged: &[String]) -> Result<usize, Fault> {
        let mut lost = 0;
        let addresses: Vec<&'static str> = self.brokers.iter().map(Process::address).collect();
        for token in acknowledged {
            for address in &addresses {
                let told = load::one(address, &load::introspection(token)).await?;
                if told.contains("\"active\":true") {
                    lost += 1;
                    break;
                }
                if !told.contains("{\"active\":false}") {
                    return Err(format!("not answered: {told}").into());
                }
            }
        }
        Ok(lost)
    }
}

/// The load while the primary dies.
#[derive(Clone)]
struct Traffic {
    began: Instant,
    stop: Rc<Cell<bool>>,
    addresses: Vec<&'static str>,
}

impl Traffic {
    /// Exchanges at an even pace. `failed` gets each that was not answered with 200: when it was due, and whether the
    /// answer was 503.
    async fn exchange(self, assertions: Vec<String>, failed: Rc<RefCell<Vec<(Instant, bool)>>>) {
        let mut running = Vec::new();
        for ((number, assertion), address) in (0_u32..).zip(assertions).zip(self.addresses.into_iter().cycle()) {
            let due = self.began + EXCHANGE * number;
            tokio::time::sleep_until(due.into()).await;
            if self.stop.get() {
                break;
            }
            let failed = Rc::clone(&failed);
            running.push(spawn_local(async move {
                let told = answer(address, &load::exchange(&assertion, "orders")).await;
                if !told.starts_with("HTTP/1.1 200") {
                    failed.borrow_mut().push((due, told.starts_with("HTTP/1.1 503")));
                }
            }));
        }
        for one in running {
            let _ = one.await;
        }
    }

    /// Revokes at an even pace. `acknowledged` gets each token whose revocation was answered with 200.
    async fn revoke(self, minted: Vec<String>, acknowledged: Rc<RefCell<Vec<String>>>) {
        for ((number, token), address) in (0_u32..).zip(minted).zip(self.addresses.into_iter().cycle()) {
            tokio::time::sleep_until((self.began + REVOKE * number).into()).await;
            if self.stop.get() {
                break;
            }
            let told = answer(address, &load::post("/revoke", &format!("token={token}"))).await;
            if told.starts_with("HTTP/1.1 200") {
                acknowledged.borrow_mut().push(token);
            }
        }
    }
}

/// What is answered, whatever it is; nothing where nobody answers.
async fn answer(address: &str, request: &[u8]) -> String {
    let told = tokio::time::timeout(PATIENCE, load::one(address, request)).await;
    told.ok().and_then(Result::ok).unwrap_or_default()
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> Result<bool, Fault>) -> Result<(), Fault> {
    let began = Instant::now();
    while !is_so().await.unwrap_or(false) {
        if began.elapsed() > Duration::from_secs(30) {
            return Err(format!("within 30 s: {what}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
