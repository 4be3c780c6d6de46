//! What refusals cost the others, and what they leave behind. One half of the load is refused, each for a reason of its own;
//! then millions of requests, no two alike in key, subject, client and path.

use crate::assertions::{Assertions, Refused};
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

struct Bar {
    what: &'static str,
    measured: f64,
    unit: &'static str,
    bar: f64,
    holds: bool,
}

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
    let mut refusals = Vec::new();
    for (kind, tokens) in &bad {
        eprintln!("nothing but refusals: {}", kind.name());
        let mut round = tokens.iter().cycle();
        let mut next = || round.next().map(|token| load::exchange(token, "orders"));
        let turn = load::saturate_with(&broker, &mut next, CONNECTIONS, TURN / 2, &mut load::expect_refusal).await?;
        refusals.push((kind.name(), turn));
    }
    eprintln!("one half of each");
    // Of each kind in turn, and of each kind every one.
    let mut number = 0;
    let mut refused = || {
        number += 1;
        let (_, tokens) = bad.get(number % bad.len())?;
        tokens.get(number / bad.len() % EACH).map(|token| load::exchange(token, "orders"))
    };
    let mut counted = 0_u64;
    let mut odd = false;
    let mut sent_good = 0_u64;
    let both = {
        let mut next = || {
            odd = !odd;
            sent_good += u64::from(odd);
            if odd { good.pop().map(|token| load::exchange(&token, "orders")) } else { refused() }
        };
        let mut judge = |answer: &str| {
            counted += u64::from(answer.starts_with("HTTP/1.1 200"));
            if answer.starts_with("HTTP/1.1 5") { Err(answer.to_owned().into()) } else { Ok(()) }
        };
        load::saturate_with(&broker, &mut next, CONNECTIONS, TURN, &mut judge).await?
    };
    if counted + u64::try_from(CONNECTIONS)? < sent_good {
        return Err(format!("{sent_good} good exchanges, and {counted} granted").into());
    }
    eprintln!("a quarter of the full load, good ones alone; then as many refusals beside them");
    let pace = count(clean.exchanges) / clean.seconds / 4.0;
    // In turns, so that what the machine does meanwhile falls on both.
    let (mut alone, mut beside) = (load::histogram()?, load::histogram()?);
    for _ in 0..ROUNDS {
        alone.add(load::paced(broker.address(), &mut good, pace, TURN).await?)?;
        let mut odd = false;
        let mut next = || {
            odd = !odd;
            if odd {
                good.pop().map(|token| (load::exchange(&token, "orders"), true))
            } else {
                refused().map(|request| (request, false))
            }
        };
        beside.add(load::paced_with(broker.address(), &mut next, pace * 2.0, TURN).await?)?;
    }
    let spent: f64 = refusals.iter().map(|(_, turn)| cost(*turn)).sum::<f64>() / count(u64::try_from(refusals.len())?);
    let left = both.cpu - spent * count(both.exchanges - counted);
    let kept = 100.0 * (count(counted) / left) * cost(clean);
    let tail = count(beside.value_at_quantile(0.99)) / count(alone.value_at_quantile(0.99).max(1));

    eprintln!("a fifth of as many to warm up, then {requests} hostile requests, no two alike, from as many addresses");
    let warm = requests / 5;
    flood(&broker, &assertions, 0..warm).await?;
    let samples = flood(&broker, &assertions, warm..warm + requests).await?;
    let most = samples.iter().map(|(_, mb)| *mb).fold(f64::MIN, f64::max);
    let least = samples.iter().map(|(_, mb)| *mb).fold(f64::MAX, f64::min);
    let apart = (most - least) / 2.0;

    let bars = [
        Bar {
            what: "throughput of good exchanges per core-second left to them, beside as many refusals",
            measured: kept,
            unit: "%",
            bar: 80.0,
            holds: kept >= 80.0,
        },
        Bar {
            what: "p99 of good exchanges beside as many refusals / alone",
            measured: tail,
            unit: "x",
            bar: 3.0,
            holds: tail <= 3.0,
        },
        Bar {
            what: "resident memory over the hostile requests, to both sides of its middle",
            measured: apart,
            unit: "MB",
            bar: 5.0,
            holds: apart <= 5.0,
        },
    ];
    println!("good alone           {:6.1} µs CPU", 1e6 * cost(clean));
    for (name, turn) in &refusals {
        println!("{name:20} {:6.1} µs CPU  {:6.0} a second", 1e6 * cost(*turn), count(turn.exchanges) / turn.seconds);
    }
    println!("memory between {least:.1} and {most:.1} MB");
    for bar in &bars {
        println!(
            "{}  {}: {:.1} {} (bar {} {})",
            if bar.holds { "holds" } else { "FAILS" },
            bar.what,
            bar.measured,
            bar.unit,
            bar.bar,
            bar.unit
        );
    }
    let report = json!({
        "good_alone_cpu_us": round(1e6 * cost(clean)),
        "refusals_cpu_us": refusals.iter().map(|(name, turn)| ((*name).to_owned(), json!(round(1e6 * cost(*turn))))).collect::<serde_json::Map<_, _>>(),
        "bars": bars.iter().map(|bar| json!({"what": bar.what, "measured": round(bar.measured), "unit": bar.unit, "bar": bar.bar, "holds": bar.holds})).collect::<Vec<_>>(),
        "requests": requests,
        "memory": samples.iter().map(|(done, mb)| json!({"requests": done, "resident_mb": round(*mb)})).collect::<Vec<_>>(),
    });
    std::fs::create_dir_all(results)?;
    std::fs::write(results.join("hostile.json"), serde_json::to_string_pretty(&report)? + "\n")?;
    if bars.iter().all(|bar| bar.holds) { Ok(()) } else { Err("a bar is not held".into()) }
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

fn round(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}
