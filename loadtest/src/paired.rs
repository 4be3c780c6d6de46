//! Compares two builds of the broker, and the bound, in turns on the same assertions. The order of the three rotates through
//! every permutation, so that nobody always runs after the same neighbour. The answer is the ratio of CPU time for each
//! exchange, A over B, with its 95 % confidence interval.

use crate::assertions::Assertions;
use crate::load::{self, Turn};
use crate::process::{self, Process};
use crate::{CONNECTIONS, Fault, Place};
use serde_json::json;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// Turns that are measured, after one that is not.
pub(crate) const TURNS: usize = 96;
/// Exchanges of each side in a turn. Turns are short, so that what slows the machine down slows all sides of a turn.
const EXCHANGES: usize = 2_000;
/// Where the two builds listen; the bound has an address of its own.
const LISTEN: [(&str, &str); 2] = [("127.0.0.1:18080", "127.0.0.1:18081"), ("127.0.0.1:18084", "127.0.0.1:18085")];
/// Every order of the bound (0), A (1) and B (2).
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1], [2, 0, 1], [1, 0, 2]];
const NAMES: [&str; 3] = ["the bound", "A", "B"];

/// Compares the programs `a` and `b`; writes `paired.json` into `results`, where it is given.
pub(crate) async fn run(a: &Path, b: &Path, turns: usize, results: Option<&Path>) -> Result<(), Fault> {
    if turns < 10 {
        return Err("fewer than ten turns say nothing; leave the number out, or give ten or more".into());
    }
    let own = std::env::current_exe()?.parent().map(Path::to_owned).ok_or("where is this program?")?;
    let place = Place::create()?;
    let assertions = Assertions::new(place.path())?;
    eprintln!("signing {} assertions …", (turns + 1) * EXCHANGES);
    let tokens = assertions.sign((turns + 1) * EXCHANGES)?;
    process::pin_myself()?;

    let bound = Process::bound(&own, place.path())?;
    let [a, b] = [build(a, place.path(), 0)?, build(b, place.path(), 1)?];
    let mut sides = [bound, a, b];
    for side in &mut sides {
        side.ready().await?;
    }
    let mut measured: [Vec<f64>; 3] = Default::default();
    for (turn, tokens) in tokens.chunks_exact(EXCHANGES).enumerate() {
        for side in ORDERS.into_iter().cycle().nth(turn).unwrap_or_default() {
            let (Some(process), Some(figures)) = (sides.get(side), measured.get_mut(side)) else { continue };
            let mut tokens = tokens.iter();
            let mut requests = || tokens.next().map(|token| load::exchange(token, "orders"));
            let done =
                load::saturate(process, &mut requests, CONNECTIONS, Duration::from_secs(60), &mut |_| ()).await?;
            if done.exchanges != u64::try_from(EXCHANGES)? {
                let name = NAMES.get(side).copied().unwrap_or_default();
                return Err(format!("{name} made only {} of {EXCHANGES} exchanges in a minute", done.exchanges).into());
            }
            figures.push(micros(done));
        }
        eprint!("\rturn {turn} of {turns}");
    }
    eprintln!();
    // The first turn warms caches, allocators and the processor's clock.
    let [bound, a, b] = measured.map(|figures| figures.into_iter().skip(1).collect::<Vec<_>>());
    report(&bound, &a, &b, results)
}

/// A broker of the build `program`, in a folder of its own.
fn build(program: &Path, place: &Path, number: usize) -> Result<Process, Fault> {
    let (listen, management) = LISTEN.get(number).ok_or("there are two builds")?;
    let own = place.join(number.to_string());
    fs::create_dir_all(own.join("policies"))?;
    for name in ["github.jwks", "policies/orders.cedar"] {
        fs::copy(place.join(name), own.join(name))?;
    }
    let configuration = fs::read_to_string(place.join("countersign.toml"))?;
    let [(listen_now, management_now), _] = LISTEN;
    let configuration = configuration.replace(listen_now, listen).replace(management_now, management);
    fs::write(own.join("countersign.toml"), configuration)?;
    Process::of(program, &own, listen, management)
}

fn micros(turn: Turn) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let exchanges = turn.exchanges as f64;
    turn.cpu * 1e6 / exchanges
}

/// A ratio of two sides, turn by turn: the geometric mean without a fifth of the turns at either end, so that a turn in
/// which the machine did something else does not count, and its 95 % confidence interval (Tukey and McLaughlin 1963).
struct Ratio {
    mean: f64,
    low: f64,
    high: f64,
}

impl Ratio {
    fn of(above: &[f64], below: &[f64]) -> Self {
        let mut logs: Vec<f64> = above.iter().zip(below).map(|(above, below)| (above / below).ln()).collect();
        logs.sort_by(f64::total_cmp);
        let cut = logs.len() / 5;
        let kept = logs.get(cut..logs.len() - cut).unwrap_or_default();
        let (lowest, highest) = (kept.first().copied().unwrap_or(f64::NAN), kept.last().copied().unwrap_or(f64::NAN));
        let (mean, _) = mean_and_variance(kept);
        let winsorized: Vec<f64> = logs.iter().map(|log| log.clamp(lowest, highest)).collect();
        let (_, variance) = mean_and_variance(&winsorized);
        #[expect(clippy::cast_precision_loss, reason = "a few turns")]
        let (all, left) = (logs.len() as f64, kept.len() as f64);
        let half = student(left - 1.0) * variance.sqrt() * all.sqrt() / left;
        Self { mean: mean.exp(), low: (mean - half).exp(), high: (mean + half).exp() }
    }
}

fn mean_and_variance(figures: &[f64]) -> (f64, f64) {
    #[expect(clippy::cast_precision_loss, reason = "a few turns")]
    let count = figures.len() as f64;
    let mean = figures.iter().sum::<f64>() / count;
    (mean, figures.iter().map(|figure| (figure - mean).powi(2)).sum::<f64>() / (count - 1.0))
}

/// The 97.5 % quantile of Student's t distribution with `freedom` degrees of freedom, by its expansion about the normal
/// distribution's (Abramowitz and Stegun 26.7.5); right to three digits from nine degrees on.
fn student(freedom: f64) -> f64 {
    let z = 1.959_964_f64;
    let first = (z.powi(3) + z) / 4.0;
    let second = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
    let third = (3.0 * z.powi(7) + 19.0 * z.powi(5) + 17.0 * z.powi(3) - 15.0 * z) / 384.0;
    z + first / freedom + second / freedom.powi(2) + third / freedom.powi(3)
}

fn report(bound: &[f64], a: &[f64], b: &[f64], results: Option<&Path>) -> Result<(), Fault> {
    let median = |figures: &[f64]| {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    };
    for (name, figures) in NAMES.into_iter().zip([bound, a, b]) {
        println!("{name:<10} {:7.2} µs of CPU an exchange (median of {} turns)", median(figures), figures.len());
    }
    let ratios = [("A / B", Ratio::of(a, b)), ("A / bound", Ratio::of(a, bound)), ("B / bound", Ratio::of(b, bound))];
    let mut written = serde_json::Map::new();
    for (name, Ratio { mean, low, high }) in &ratios {
        println!("{name:<10} {mean:7.4}   95 % interval {low:.4} to {high:.4}");
        written.insert((*name).to_owned(), json!({"mean": mean, "low": low, "high": high}));
    }
    if let Some(results) = results {
        written.insert("cpu_us".to_owned(), json!({"bound": bound, "a": a, "b": b}));
        fs::create_dir_all(results)?;
        fs::write(results.join("paired.json"), serde_json::to_string_pretty(&written)? + "\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_students() {
        for (freedom, quantile) in [(9.0, 2.2622), (11.0, 2.2010), (23.0, 2.0687)] {
            assert!((student(freedom) - quantile).abs() < 0.002, "{freedom}: {}", student(freedom));
        }
        let one = Ratio::of(&[2.0, 2.0, 2.0], &[1.0, 1.0, 1.0]);
        assert!((one.mean - 2.0).abs() < 1e-9 && (one.low - one.high).abs() < 1e-9);
        let spread = Ratio::of(&[1.0, 1.1, 0.9, 1.0], &[1.0; 4]);
        assert!(spread.low < 1.0 && spread.high > 0.99 && spread.high - spread.low > 0.1);
        let figures = [1.00, 1.01, 0.99, 1.02, 0.98, 1.00, 1.01, 0.99, 1.00, 9.00];
        let disturbed = Ratio::of(&figures, &[1.0; 10]);
        assert!((disturbed.mean - 1.0).abs() < 0.01 && disturbed.high < 1.03, "a disturbed turn does not count");
    }

    #[test]
    fn every_order_comes_once() {
        let mut orders = ORDERS.to_vec();
        orders.sort_unstable();
        orders.dedup();
        assert_eq!(orders.len(), 6);
        assert!(ORDERS.iter().all(|order| order.iter().sum::<usize>() == 3));
    }
}
