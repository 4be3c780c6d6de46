//! What refusals cost the others, and what they leave behind. One half of the load is refused, each for a reason of its own;
//! then millions of requests, no two alike in key, subject, client and path.

use crate::assertions::{Assertions, Refused};
use crate::bars::{self, Bar, Bound, round};
use crate::load::{self, Turn};
use crate::process::{self, Process};
use crate::{CONNECTIONS, Fault, Place, ROUNDS};
use serde_json::json;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

/// How long each side is measured.
const TURN: Duration = Duration::from_secs(5);
/// Refused assertions of each kind, presented in turns.
const EACH: usize = 2_000;
/// How often memory is looked at.
const SAMPLES: usize = 40;

pub(crate) async fn run(results: &Path, requests: usize) -> Result<(), Fault> {
    let programs = std::env::current_exe()?.parent().map(Path::to_owned).ok_or("where are the programs?")?;
    let place = Place::create()?;
    let assertions = Assertions::new(place.path())?;
    eprintln!("signing assertions …");
    let mut good = assertions.sign(usize::try_from(TURN.as_secs())? * 5 * 12_000)?;
    let mut bad = Vec::new();
    for kind in Refused::ALL {
        let signed: Result<Vec<_>, Fault> = (0..EACH).map(|number| assertions.refused(kind, number)).collect();
        bad.push((kind, signed?));
    }
    process::pin_myself()?;
    let mut broker = Process::broker(&programs, place.path())?;
    broker.ready().await?;

    eprintln!("nothing but good exchanges");
    let mut next = || good.pop().map(|token| load::exchange(&token, "orders"));
    let clean = load::saturate(&broker, &mut next, CONNECTIONS, TURN, &mut |_| ()).await?;
    let refusals = refusals_alone(&broker, &bad).await?;
    let mut refused = Mixed { bad: &bad, number: 0 };
    eprintln!("one half of each");
    let (both, granted) = one_half_of_each(&broker, &mut good, &mut refused).await?;
    eprintln!("a quarter of the full load, good ones alone; then as many refusals beside them");
    let pace = count(clean.exchanges) / clean.seconds / 4.0;
    let tail = tail_beside(&broker, &mut good, &mut refused, pace).await?;
    let spent: f64 = refusals.iter().map(|(_, turn)| cost(*turn)).sum::<f64>() / count(u64::try_from(refusals.len())?);
    let left = both.cpu - spent * count(both.exchanges - granted);
    let kept = 100.0 * (count(granted) / left) * cost(clean);

    eprintln!("a fifth of as many to warm up, then {requests} hostile requests, no two alike, from as many addresses");
    let warm = requests / 5;
    flood(&broker, &assertions, 0..warm).await?;
    let memory = flood(&broker, &assertions, warm..warm + requests).await?;
    Report { clean, refusals, requests, memory }.write(results, kept, tail)
}

/// Refused assertions, of each kind in turn, and of each kind every one.
struct Mixed<'a> {
    bad: &'a [(Refused, Vec<String>)],
    number: usize,
}

impl Mixed<'_> {
    fn next(&mut self) -> Option<Vec<u8>> {
        self.number += 1;
        let (_, tokens) = self.bad.get(self.number % self.bad.len())?;
        tokens.get(self.number / self.bad.len() % EACH).map(|token| load::exchange(token, "orders"))
    }
}

async fn refusals_alone(broker: &Process, bad: &[(Refused, Vec<String>)]) -> Result<Vec<(&'static str, Turn)>, Fault> {
    let mut refusals = Vec::new();
    for (kind, tokens) in bad {
        eprintln!("nothing but refusals: {}", kind.name());
        let mut round = tokens.iter().cycle();
        let mut next = || round.next().map(|token| load::exchange(token, "orders"));
        let turn = load::saturate_with(broker, &mut next, CONNECTIONS, TURN / 2, &mut load::expect_refusal).await?;
        refusals.push((kind.name(), turn));
    }
    Ok(refusals)
}

/// Good exchanges and refusals by turns. Returns the turn, and the number that was granted.
async fn one_half_of_each(
    broker: &Process,
    good: &mut Vec<String>,
    refused: &mut Mixed<'_>,
) -> Result<(Turn, u64), Fault> {
    let (mut granted, mut sent_good, mut odd) = (0_u64, 0_u64, false);
    let mut next = || {
        odd = !odd;
        sent_good += u64::from(odd);
        if odd { good.pop().map(|token| load::exchange(&token, "orders")) } else { refused.next() }
    };
    let mut judge = |answer: &str| {
        granted += u64::from(answer.starts_with("HTTP/1.1 200"));
        if answer.starts_with("HTTP/1.1 5") { Err(answer.to_owned().into()) } else { Ok(()) }
    };
    let both = load::saturate_with(broker, &mut next, CONNECTIONS, TURN, &mut judge).await?;
    if granted + u64::try_from(CONNECTIONS)? < sent_good {
        return Err(format!("{sent_good} good exchanges, and {granted} granted").into());
    }
    Ok((both, granted))
}

/// The p99 of good exchanges at `pace` beside as many refusals, as a multiple of their p99 alone. Both are measured in
/// turns, so that what the machine does meanwhile falls on both.
async fn tail_beside(
    broker: &Process,
    good: &mut Vec<String>,
    refused: &mut Mixed<'_>,
    pace: f64,
) -> Result<f64, Fault> {
    let (mut alone, mut beside) = (load::histogram()?, load::histogram()?);
    for _ in 0..ROUNDS {
        alone.add(load::paced(broker.address(), good, pace, TURN).await?)?;
        let mut odd = false;
        let mut next = || {
            odd = !odd;
            if odd {
                good.pop().map(|token| (load::exchange(&token, "orders"), true))
            } else {
                refused.next().map(|request| (request, false))
            }
        };
        beside.add(load::paced_with(broker.address(), &mut next, pace * 2.0, TURN).await?)?;
    }
    Ok(count(beside.value_at_quantile(0.99)) / count(alone.value_at_quantile(0.99).max(1)))
}

struct Report {
    clean: Turn,
    refusals: Vec<(&'static str, Turn)>,
    requests: usize,
    /// Requests done, and resident memory in MB.
    memory: Vec<(usize, f64)>,
}

impl Report {
    fn write(&self, results: &Path, kept: f64, tail: f64) -> Result<(), Fault> {
        let most = self.memory.iter().map(|(_, mb)| *mb).fold(f64::MIN, f64::max);
        let least = self.memory.iter().map(|(_, mb)| *mb).fold(f64::MAX, f64::min);
        let bars = [
            Bar {
                what: "throughput of good exchanges per core-second left to them, beside as many refusals",
                measured: kept,
                unit: "%",
                bar: Bound::AtLeast(80.0),
            },
            Bar {
                what: "p99 of good exchanges beside as many refusals / alone",
                measured: tail,
                unit: "x",
                bar: Bound::AtMost(3.0),
            },
            Bar {
                what: "resident memory over the hostile requests, to both sides of its middle",
                measured: (most - least) / 2.0,
                unit: "MB",
                bar: Bound::AtMost(5.0),
            },
        ];
        println!("good alone           {:6.1} µs CPU", 1e6 * cost(self.clean));
        for (name, turn) in &self.refusals {
            let a_second = count(turn.exchanges) / turn.seconds;
            println!("{name:20} {:6.1} µs CPU  {a_second:6.0} a second", 1e6 * cost(*turn));
        }
        println!("memory between {least:.1} and {most:.1} MB");
        let refusal = |(name, turn): &(&'static str, Turn)| ((*name).to_owned(), json!(round(1e6 * cost(*turn))));
        let sample = |(done, mb): &(usize, f64)| json!({"requests": done, "resident_mb": round(*mb)});
        let report = json!({
            "good_alone_cpu_us": round(1e6 * cost(self.clean)),
            "refusals_cpu_us": self.refusals.iter().map(refusal).collect::<serde_json::Map<_, _>>(),
            "bars": bars.iter().map(Bar::json).collect::<Vec<_>>(),
            "requests": self.requests,
            "memory": self.memory.iter().map(sample).collect::<Vec<_>>(),
        });
        std::fs::create_dir_all(results)?;
        std::fs::write(results.join("hostile.json"), serde_json::to_string_pretty(&report)? + "\n")?;
        bars::judge(&bars)
    }
}

/// Memory in MB after every part of `numbers`, whose requests have distinct kids, subjects, issuers, clients and paths.
async fn flood(broker: &Process, assertions: &Assertions, numbers: Range<usize>) -> Result<Vec<(usize, f64)>, Fault> {
    let template = assertions.refused(Refused::BadSignature, 0)?;
    let signature = template.rsplit('.').next().unwrap_or_default().to_owned();
    let (mut samples, mut done) = (Vec::new(), numbers.start);
    let part = numbers.len().div_ceil(SAMPLES);
    load::from_many_addresses(true);
    while done < numbers.end {
        let end = done + part;
        let mut next = || {
            done += 1;
            (done <= end).then(|| one(done, &signature))
        };
        load::saturate_with(broker, &mut next, CONNECTIONS, Duration::from_secs(3_600), &mut load::expect_refusal)
            .await?;
        done = end;
        samples.push((done - numbers.start, broker.resident_mib()? * 1.048_576));
    }
    load::from_many_addresses(false);
    Ok(samples)
}

fn one(number: usize, signature: &str) -> Vec<u8> {
    use base64::Engine as _;
    let part = |text: String| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let token = |kid: String, iss: &str, sub: String| {
        let header = part(format!("{{\"alg\":\"RS256\",\"kid\":\"{kid}\"}}"));
        format!("{header}.{}.{signature}", part(format!("{{\"iss\":\"{iss}\",\"sub\":\"{sub}\",\"aud\":\"x\"}}")))
    };
    let github = "https://token.actions.githubusercontent.com";
    match number % 5 {
        0 => load::exchange(&token(format!("kid-{number}"), github, "s".to_owned()), "orders"),
        1 => load::exchange(&token("k1".to_owned(), github, format!("subject-{number}")), "orders"),
        2 => load::exchange(
            &token("k1".to_owned(), &format!("https://issuer-{number}.example"), "s".to_owned()),
            "orders",
        ),
        3 => load::post("/introspect", &format!("client_id=client-{number}&client_secret=x&token=t-{number}")),
        _ => load::post(&format!("/path-{number}"), &format!("scope=s-{number}")),
    }
}

/// Seconds of CPU for each request.
fn cost(turn: Turn) -> f64 {
    turn.cpu / count(turn.exchanges.max(1))
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn count(number: u64) -> f64 {
    number as f64
}
