//! What came out: for people, as JSON, and drawn.

use crate::Fault;
use crate::bars::round;
use crate::load::Turn;
use crate::stages::Stages;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::fmt;
use std::path::Path;

pub(crate) struct Report {
    pub(crate) bound: Vec<Turn>,
    pub(crate) broker: Vec<Turn>,
    pub(crate) rs256: Vec<Turn>,
    pub(crate) eddsa: Vec<Turn>,
    pub(crate) cold: Vec<Turn>,
    pub(crate) hot: Vec<Turn>,
    pub(crate) stages: Stages,
    pub(crate) unloaded: Histogram<u64>,
    pub(crate) half: Histogram<u64>,
    pub(crate) bound_half: Histogram<u64>,
    pub(crate) start_ms: f64,
    pub(crate) idle_mib: f64,
    pub(crate) loaded_mib: f64,
}

impl Default for Report {
    fn default() -> Self {
        let empty =
            || Histogram::new_with_bounds(1, 60_000_000, 3).unwrap_or_else(|_| unreachable!("the bounds are fixed"));
        Self {
            bound: vec![],
            broker: vec![],
            rs256: vec![],
            eddsa: vec![],
            cold: vec![],
            hot: vec![],
            stages: Stages::default(),
            unloaded: empty(),
            half: empty(),
            bound_half: empty(),
            start_ms: 0.0,
            idle_mib: 0.0,
            loaded_mib: 0.0,
        }
    }
}

/// A figure and the bar that it has to hold.
struct Bar {
    what: &'static str,
    measured: f64,
    unit: &'static str,
    bar: f64,
    at_least: bool,
}

impl Bar {
    fn holds(&self) -> bool {
        if self.at_least { self.measured >= self.bar } else { self.measured <= self.bar }
    }
}

impl Report {
    /// Exchanges a second, of all turns together.
    pub(crate) fn broker_rate(&self) -> f64 {
        rate(&self.broker)
    }

    fn bars(&self) -> Vec<Bar> {
        let bar = |what, measured, unit, bar, at_least| Bar { what, measured, unit, bar, at_least };
        let ratio = 100.0 * micros(&self.bound) / micros(&self.broker);
        let tail = quantile(&self.half, 0.99) / quantile(&self.unloaded, 0.5);
        vec![
            bar("CPU of the bound / CPU of the broker, ES256 out", ratio, "%", 55.0, true),
            bar("writing the audit line of a grant", self.stages.audit(), "µs", 10.0, false),
            bar(
                "introspection of hot tokens / exchanges, CPU",
                micros(&self.broker) / micros(&self.hot),
                "x",
                3.0,
                true,
            ),
            bar("p99 at half load / unloaded median", tail, "x", 10.0, false),
            bar("resident memory, idle", self.idle_mib, "MiB", 40.0, false),
            bar("resident memory, after full load", self.loaded_mib, "MiB", 100.0, false),
            bar("start to ready, two issuers pinned", self.start_ms, "ms", 200.0, false),
        ]
    }

    /// Whether every bar is held.
    pub(crate) fn holds(&self) -> bool {
        self.bars().iter().all(Bar::holds)
    }

    /// Writes `exchange.json` and `exchange.svg` into `directory`.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), Fault> {
        std::fs::create_dir_all(directory)?;
        std::fs::write(directory.join("exchange.json"), serde_json::to_string_pretty(&self.json())? + "\n")?;
        std::fs::write(directory.join("exchange.svg"), self.svg())?;
        std::fs::write(directory.join("stages.svg"), self.stages_svg())?;
        Ok(())
    }

    fn json(&self) -> Value {
        let side = |turns: &[Turn]| {
            let each: Vec<f64> = turns.iter().map(|turn| round(micros(&[*turn]))).collect();
            json!({"cpu_us": round(micros(turns)), "cpu_us_by_turn": each, "per_second": round(rate(turns))})
        };
        let times = |histogram: &Histogram<u64>| {
            json!({"requests": histogram.len(), "p50_us": quantile(histogram, 0.5), "p99_us": quantile(histogram, 0.99),
                   "p99_9_us": quantile(histogram, 0.999)})
        };
        let bars: Vec<Value> = self
            .bars()
            .iter()
            .map(|bar| json!({"what": bar.what, "measured": round(bar.measured), "unit": bar.unit, "bar": bar.bar, "holds": bar.holds()}))
            .collect();
        let stages: serde_json::Map<String, Value> =
            self.stages.micros().into_iter().map(|(name, micros)| (name.to_owned(), json!(round(micros)))).collect();
        json!({
            "what": "RS256 in, ES256 out, every assertion unique, one scope, first use and audit on, embedded store, one core",
            "bound": side(&self.bound), "broker": side(&self.broker), "bars": bars,
            "rs256_out": side(&self.rs256), "eddsa_out": side(&self.eddsa),
            "introspection_cold": side(&self.cold), "introspection_hot": side(&self.hot), "stages_us": stages, "audit_us": round(self.stages.audit()),
            "latency_unloaded": times(&self.unloaded), "latency_half_load": times(&self.half),
            "latency_bound_at_the_same_pace": times(&self.bound_half),
        })
    }

    /// Each stage as long as it takes, in the order in which they are passed.
    fn stages_svg(&self) -> String {
        const COLOURS: [&str; 8] =
            ["#9aa5b1", "#7b8794", "#2f6f4f", "#52606d", "#b7791f", "#2b6cb0", "#805ad5", "#616e7c"];
        let stages = self.stages.micros();
        let whole: f64 = stages.iter().map(|(_, micros)| micros).sum();
        let (mut strip, mut rows, mut x) = (String::new(), String::new(), 16.0);
        for (index, ((name, micros), colour)) in stages.iter().zip(COLOURS).enumerate() {
            let (width, y) = (688.0 * micros / whole.max(1e-9), 112 + 22 * index);
            strip += &format!("<rect x=\"{x:.1}\" y=\"44\" width=\"{width:.1}\" height=\"32\" fill=\"{colour}\"/>\n");
            rows += &format!(
                "<rect x=\"16\" y=\"{}\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"36\" y=\"{y}\">{name}</text>\
                 <text x=\"140\" y=\"{y}\" text-anchor=\"end\">{micros:.1} µs</text>\n",
                y - 11
            );
            x += width;
        }
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 290\" font-family=\"sans-serif\" font-size=\"14\">\n\
             <rect width=\"720\" height=\"290\" fill=\"#ffffff\"/>\n\
             <text x=\"16\" y=\"28\" font-weight=\"bold\">Where the {whole:.0} µs of an exchange go: RS256 in, ES256 out</text>\n{strip}{rows}</svg>\n"
        )
    }

    fn svg(&self) -> String {
        let (bound, broker) = (micros(&self.bound), micros(&self.broker));
        let widest = bound.max(broker).max(1.0);
        let bar = |y: u32, name: &str, micros: f64, rate: f64, colour: &str| {
            let width = 420.0 * micros / widest;
            format!(
                "<text x=\"16\" y=\"{}\">{name}</text><rect x=\"120\" y=\"{y}\" width=\"{width:.0}\" height=\"28\" rx=\"3\" fill=\"{colour}\"/>\
                 <text x=\"{:.0}\" y=\"{}\">{micros:.0} µs · {rate:.0}/s</text>\n",
                y + 19,
                width + 130.0,
                y + 19
            )
        };
        let times = |y: u32, name: &str, histogram: &Histogram<u64>| {
            format!(
                "<text x=\"16\" y=\"{y}\">{name}: p50 {:.0} µs · p99 {:.0} µs · p99.9 {:.0} µs</text>\n",
                quantile(histogram, 0.5),
                quantile(histogram, 0.99),
                quantile(histogram, 0.999)
            )
        };
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 252\" font-family=\"sans-serif\" font-size=\"14\">\n\
             <rect width=\"720\" height=\"252\" fill=\"#ffffff\"/>\n\
             <text x=\"16\" y=\"28\" font-weight=\"bold\">CPU for one exchange on one core: RS256 in, ES256 out</text>\n{}{}\
             <text x=\"16\" y=\"142\" font-weight=\"bold\">The broker does {:.0} % of what the core can do at all</text>\n{}{}{}\
             <text x=\"16\" y=\"236\">resident memory: {:.0} MiB idle, {:.0} MiB after full load · start to ready: {:.0} ms</text>\n</svg>\n",
            bar(44, "bound", bound, rate(&self.bound), "#9aa5b1"),
            bar(82, "broker", broker, rate(&self.broker), "#2f6f4f"),
            100.0 * bound / broker,
            times(166, "unloaded", &self.unloaded),
            times(188, "half load", &self.half),
            times(210, "the bound at the same pace", &self.bound_half),
            self.idle_mib,
            self.loaded_mib,
            self.start_ms
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "bound   {:6.1} µs CPU  {:6.0} a second", micros(&self.bound), rate(&self.bound))?;
        writeln!(out, "broker  {:6.1} µs CPU  {:6.0} a second", micros(&self.broker), rate(&self.broker))?;
        for (name, turns) in [
            ("RS256 out", &self.rs256),
            ("EdDSA out", &self.eddsa),
            ("introspection, cold", &self.cold),
            ("introspection, hot", &self.hot),
        ] {
            writeln!(out, "{name:20} {:6.1} µs CPU  {:6.0} a second", micros(turns), rate(turns))?;
        }
        let stages: Vec<String> =
            self.stages.micros().iter().map(|(name, micros)| format!("{name} {micros:.1}")).collect();
        writeln!(out, "stages, µs: {}", stages.join(" · "))?;
        for (name, histogram) in
            [("unloaded", &self.unloaded), ("half load", &self.half), ("its bound", &self.bound_half)]
        {
            let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|at| quantile(histogram, at));
            writeln!(
                out,
                "{name:9} p50 {p50:.0} µs  p99 {p99:.0} µs  p99.9 {p999:.0} µs  ({} requests)",
                histogram.len()
            )?;
        }
        for bar in self.bars() {
            let (mark, sign) = (if bar.holds() { "holds" } else { "FAILS" }, if bar.at_least { "≥" } else { "≤" });
            writeln!(
                out,
                "{mark}  {}: {:.1} {} (bar {sign} {} {})",
                bar.what, bar.measured, bar.unit, bar.bar, bar.unit
            )?;
        }
        Ok(())
    }
}

/// Microseconds of CPU for each exchange.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn micros(turns: &[Turn]) -> f64 {
    let exchanges: u64 = turns.iter().map(|turn| turn.exchanges).sum();
    1e6 * turns.iter().map(|turn| turn.cpu).sum::<f64>() / exchanges.max(1) as f64
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn rate(turns: &[Turn]) -> f64 {
    let exchanges: u64 = turns.iter().map(|turn| turn.exchanges).sum();
    exchanges as f64 / turns.iter().map(|turn| turn.seconds).sum::<f64>().max(1e-9)
}

#[expect(clippy::cast_precision_loss, reason = "times are far below 2^52 microseconds")]
fn quantile(histogram: &Histogram<u64>, at: f64) -> f64 {
    histogram.value_at_quantile(at) as f64
}
