//! Measures the broker against what one pinned core can do at all: a bare handler that reads the same form, verifies one
//! RS256 signature, makes one ES256 signature and answers the same size. Both are measured in one run, in turns, by the
//! same generator on the other core; what is compared is CPU time for each exchange, with throughput beside it.
#![expect(clippy::disallowed_methods, reason = "measuring is about the real clock")]

mod assertions;
mod bars;
mod bound;
mod draw;
mod failover;
mod hostile;
mod lists;
mod load;
mod paired;
mod process;
mod report;
mod shared;
mod soak;
mod stages;

use assertions::Assertions;
use process::Process;
use report::Report;
use stages::Stages;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Turns for each side.
const ROUNDS: usize = 3;
/// Connections that are never idle while throughput is measured.
const CONNECTIONS: usize = 8;
/// How many tokens are asked about once, and how many over and over.
const COLD: usize = 40_000;
const HOT: usize = 256;

type Fault = Box<dyn Error + Send + Sync>;

const USAGE: &str = "usage: countersign-loadtest run RESULTS-DIRECTORY [SECONDS] | soak RESULTS-DIRECTORY [EXCHANGES] | \
                     hostile RESULTS-DIRECTORY [REQUESTS] | shared RESULTS-DIRECTORY | lists RESULTS-DIRECTORY | failover RESULTS-DIRECTORY | \
                     paired PROGRAM-A PROGRAM-B [TURNS] [RESULTS-DIRECTORY] | \
                     bound JWKS-FILE";

fn main() -> Result<(), Fault> {
    let mut arguments = std::env::args().skip(1);
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("bound"), Some(jwks)) => bound::serve(Path::new(&jwks)),
        (Some("run"), Some(results)) => {
            let seconds = arguments.next().map_or(Ok(5), |seconds| seconds.parse())?;
            runtime()?.block_on(run(Path::new(&results), Duration::from_secs(seconds)))
        }
        (Some("soak"), Some(results)) => {
            let exchanges = arguments.next().map_or(Ok(10_000_000), |exchanges| exchanges.parse())?;
            runtime()?.block_on(soak::run(Path::new(&results), exchanges))
        }
        (Some("hostile"), Some(results)) => {
            let requests = arguments.next().map_or(Ok(2_000_000), |requests| requests.parse())?;
            runtime()?.block_on(hostile::run(Path::new(&results), requests))
        }
        (Some("paired"), Some(a)) => {
            let b = arguments.next().ok_or(USAGE)?;
            let turns = arguments.next().map_or(Ok(paired::TURNS), |turns| turns.parse())?;
            let results = arguments.next();
            let compared = paired::run(Path::new(&a), Path::new(&b), turns, results.as_deref().map(Path::new));
            runtime()?.block_on(awake(compared))
        }
        (Some("lists"), Some(results)) => runtime()?.block_on(lists::run(Path::new(&results))),
        (Some("failover"), Some(results)) => runtime()?.block_on(failover::run(Path::new(&results))),
        (Some("shared"), Some(results)) => runtime()?.block_on(shared::run(Path::new(&results))),
        _ => Err(USAGE.into()),
    }
}

/// Runs `work` beside a task that yields in a loop, so that the generator's thread never sleeps: waking it would cost the
/// server under test some microseconds a request, and more where the server is the slower one.
async fn awake<T>(work: impl Future<Output = T>) -> T {
    let spinning = tokio::spawn(async {
        loop {
            tokio::task::yield_now().await;
        }
    });
    let done = work.await;
    spinning.abort();
    done
}

async fn run(results: &Path, turn: Duration) -> Result<(), Fault> {
    let programs = std::env::current_exe()?.parent().map(Path::to_owned).ok_or("where are the programs?")?;
    let place = Place::create()?;
    let assertions = Assertions::new(place.path())?;
    eprintln!("signing assertions …");
    // The fastest machine seen makes some 12 000 exchanges a second on a core.
    let seconds = usize::try_from(turn.as_secs())?;
    let mut tokens = assertions.sign(seconds * (ROUNDS + 5) * 12_000)?;
    process::pin_myself()?;
    let mut report = Report::default();

    let mut broker = Process::broker(&programs, place.path())?;
    report.start_ms = broker.ready().await?.as_secs_f64() * 1e3;
    tokio::time::sleep(Duration::from_millis(500)).await;
    report.idle_mib = broker.resident_mib()?;
    let mut bound = Process::bound(&programs, place.path())?;
    bound.ready().await?;

    let sample = load::exchange(&tokens.pop().ok_or("no assertion")?, "orders");
    eprintln!("one exchange answers {} bytes", load::one(broker.address(), &sample).await?.len());
    let mut minted = Vec::new();
    let before = Stages::read(&broker).await?;
    for round in 1..=ROUNDS {
        eprintln!("turn {round} of {ROUNDS}: bound, broker");
        let mut again = tokens.iter().rev();
        let mut of_bound = || again.next().map(|token| load::exchange(token, "orders"));
        report.bound.push(load::saturate(&bound, &mut of_bound, CONNECTIONS, turn, &mut |_| ()).await?);
        let mut of_broker = || tokens.pop().map(|token| load::exchange(&token, "orders"));
        let mut keep = |answer: &str| {
            if minted.len() < COLD {
                minted.extend(access_token(answer));
            }
        };
        report.broker.push(load::saturate(&broker, &mut of_broker, CONNECTIONS, turn, &mut keep).await?);
    }
    report.stages = Stages::read(&broker).await?.since(&before);
    report.loaded_mib = broker.resident_mib()?;
    for (target, turns) in [("azure", &mut report.rs256), ("edge", &mut report.eddsa)] {
        eprintln!("the target {target}");
        let mut requests = || tokens.pop().map(|token| load::exchange(&token, target));
        turns.push(load::saturate(&broker, &mut requests, CONNECTIONS, turn, &mut |_| ()).await?);
    }
    eprintln!("introspection: {} tokens once, then {HOT} of them over and over", minted.len());
    let hot: Vec<String> = minted.iter().take(HOT).cloned().collect();
    // They were minted by this process, and never verified by it.
    let mut cold = || minted.pop().map(|token| load::introspection(&token));
    report.cold.push(load::saturate(&broker, &mut cold, CONNECTIONS, turn * 4, &mut |_| ()).await?);
    let mut round = hot.iter().cycle();
    let mut asked = || round.next().map(|token| load::introspection(token));
    report.hot.push(load::saturate(&broker, &mut asked, CONNECTIONS, turn, &mut |_| ()).await?);

    eprintln!("unloaded, then at half of the full load");
    report.unloaded = load::paced(broker.address(), &mut tokens, 100.0, turn.min(Duration::from_secs(5))).await?;
    let half = report.broker_rate() / 2.0;
    report.half = load::paced(broker.address(), &mut tokens, half, turn * 2).await?;
    eprintln!("the bound at the same pace: what the machine itself does to latency");
    report.bound_half = load::paced(bound.address(), &mut tokens.clone(), half, turn * 2).await?;
    report.write(results)?;
    print!("{report}");
    if report.holds() { Ok(()) } else { Err("a bar is not held".into()) }
}

fn access_token(answer: &str) -> Option<String> {
    let rest = answer.split("\"access_token\":\"").nth(1)?;
    rest.split('"').next().map(str::to_owned)
}

/// A folder of the run's own, gone when it ends.
struct Place(PathBuf);

impl Place {
    fn create() -> Result<Self, Fault> {
        let path = std::env::temp_dir().join(format!("countersign-loadtest-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
