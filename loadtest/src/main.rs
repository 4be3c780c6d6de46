//! Measures the broker against what one pinned core can do at all: a bare handler that reads the same form, verifies one
//! RS256 signature, makes one ES256 signature and answers the same size. Both are measured in one run, in turns, by the
//! same generator on the other core; what is compared is CPU time for each exchange, with throughput beside it.
#![expect(clippy::disallowed_methods, reason = "measuring is about the real clock")]

mod assertions;
mod bound;
mod load;
mod process;
mod report;

use assertions::Assertions;
use process::Process;
use report::Report;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Turns for each side.
const ROUNDS: usize = 3;
/// Connections that are never idle while throughput is measured.
const CONNECTIONS: usize = 8;

type Fault = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Fault> {
    let mut arguments = std::env::args().skip(1);
    match (arguments.next().as_deref(), arguments.next()) {
        (Some("bound"), Some(jwks)) => bound::serve(Path::new(&jwks)),
        (Some("run"), Some(results)) => {
            let seconds = arguments.next().map_or(Ok(5), |seconds| seconds.parse())?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run(Path::new(&results), Duration::from_secs(seconds)))
        }
        _ => Err("usage: countersign-loadtest run RESULTS-DIRECTORY [SECONDS] | bound JWKS-FILE".into()),
    }
}

async fn run(results: &Path, turn: Duration) -> Result<(), Fault> {
    let programs = std::env::current_exe()?.parent().map(Path::to_owned).ok_or("where are the programs?")?;
    let place = Place::create()?;
    let assertions = Assertions::new(place.path())?;
    eprintln!("signing assertions …");
    // The fastest machine seen makes some 12 000 exchanges a second on a core.
    let seconds = usize::try_from(turn.as_secs())?;
    let mut tokens = assertions.sign(seconds * (ROUNDS + 3) * 12_000)?;
    process::pin_myself()?;
    let mut report = Report::default();

    let mut broker = Process::broker(&programs, place.path())?;
    report.start_ms = broker.ready().await?.as_secs_f64() * 1e3;
    tokio::time::sleep(Duration::from_millis(500)).await;
    report.idle_mib = broker.resident_mib()?;
    let mut bound = Process::bound(&programs, place.path())?;
    bound.ready().await?;

    let sample = load::one(broker.address(), &load::request(&tokens.pop().ok_or("no assertion")?)).await?;
    eprintln!("one exchange answers {} bytes", sample.len());
    for round in 1..=ROUNDS {
        eprintln!("turn {round} of {ROUNDS}: bound, broker");
        report.bound.push(load::saturate(&bound, &mut tokens.clone(), CONNECTIONS, turn).await?);
        report.broker.push(load::saturate(&broker, &mut tokens, CONNECTIONS, turn).await?);
    }
    report.loaded_mib = broker.resident_mib()?;
    eprintln!("unloaded, then at half of the full load");
    report.unloaded = load::paced(broker.address(), &mut tokens, 100.0, turn.min(Duration::from_secs(5))).await?;
    let half = report.broker_rate() / 2.0;
    report.half = load::paced(broker.address(), &mut tokens, half, turn * 2).await?;
    eprintln!("the bound at the same pace: what the machine itself does to latency");
    report.bound_half = load::paced(bound.address(), &mut tokens.clone(), half, turn * 2).await?;
    report.write(results)?;
    print!("{report}");
    Ok(())
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
