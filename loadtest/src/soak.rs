//! A day's exchanges in a quarter of an hour: does memory stay where it is? One exchange in a hundred presents an assertion
//! that counts once, the others one that a cluster gives again and again, as pods do.

use crate::assertions::Assertions;
use crate::process::{self, Process};
use crate::{CONNECTIONS, Fault, Place, load};
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// How often memory is looked at, in exchanges.
const SAMPLES: usize = 40;

pub(crate) async fn run(results: &Path, exchanges: usize) -> Result<(), Fault> {
    let programs = std::env::current_exe()?.parent().map(Path::to_owned).ok_or("where are the programs?")?;
    let place = Place::create()?;
    let assertions = Assertions::new(place.path())?;
    eprintln!("signing assertions …");
    let mut once = assertions.sign(exchanges / 100 + 1)?;
    let reusable = assertions.reusable()?;
    process::pin_myself()?;
    let mut broker = Process::broker(&programs, place.path())?;
    broker.ready().await?;
    let (mut samples, mut done) = (Vec::new(), 0);
    while done < exchanges {
        let end = done + exchanges.div_ceil(SAMPLES);
        let mut requests = || {
            done += 1;
            (done <= end).then(|| match once.pop().filter(|_| done % 100 == 0) {
                Some(assertion) => load::exchange(&assertion, "orders"),
                None => load::exchange(&reusable, "orders"),
            })
        };
        load::saturate(&broker, &mut requests, CONNECTIONS, Duration::from_secs(3_600), &mut |_| ()).await?;
        done = end;
        samples.push((done, broker.resident_mib()?));
        eprintln!("{done} exchanges, {:.1} MiB", broker.resident_mib()?);
    }
    // What a process grows to while it warms up is no leak: the first fifth is left out.
    let settled: Vec<f64> = samples.iter().skip(SAMPLES / 5).map(|(_, mib)| *mib).collect();
    let most = settled.iter().copied().fold(f64::MIN, f64::max);
    let least = settled.iter().copied().fold(f64::MAX, f64::min);
    let flat = most - least;
    let (mark, sign) = if flat <= 5.0 { ("holds", "≤") } else { ("FAILS", "≤") };
    println!(
        "{mark}  resident memory over {done} exchanges: between {least:.1} and {most:.1} MiB, {flat:.1} MiB apart (bar {sign} 5 MiB)"
    );
    std::fs::create_dir_all(results)?;
    let points: Vec<_> = samples.iter().map(|(done, mib)| json!({"exchanges": done, "resident_mib": mib})).collect();
    let report = json!({"exchanges": done, "apart_mib": flat, "holds": flat <= 5.0, "samples": points});
    std::fs::write(results.join("soak.json"), serde_json::to_string_pretty(&report)? + "\n")?;
    if flat <= 5.0 { Ok(()) } else { Err("the bar is not held".into()) }
}
