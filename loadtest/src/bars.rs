//! Figures beside their bars: printed, and as JSON.

use serde_json::{Value, json};

/// A figure, and the bar that it is held to.
pub(crate) struct Bar {
    pub(crate) what: &'static str,
    pub(crate) measured: f64,
    pub(crate) unit: &'static str,
    pub(crate) bar: Bound,
}

/// The side of a bar on which a figure has to stay.
#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// The figure is only told.
    None,
}

impl Bound {
    /// The value of the bar; none if there is none.
    pub(crate) fn value(self) -> Option<f64> {
        match self {
            Self::AtLeast(value) | Self::AtMost(value) => Some(value),
            Self::None => None,
        }
    }
}

impl Bar {
    pub(crate) fn holds(&self) -> bool {
        match self.bar {
            Bound::AtLeast(bar) => self.measured >= bar,
            Bound::AtMost(bar) => self.measured <= bar,
            Bound::None => true,
        }
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "what": self.what, "measured": round(self.measured), "unit": self.unit, "bar": self.bar.value(),
            "holds": self.holds(),
        })
    }

    fn print(&self) {
        let verdict = match self.bar.value() {
            None => String::new(),
            Some(bar) => format!("bar {bar} {}: {}", self.unit, if self.holds() { "holds" } else { "MISSED" }),
        };
        println!("{:88} {:9.2} {:6} {verdict}", self.what, self.measured, self.unit);
    }
}

/// Prints every bar.
///
/// # Errors
/// If one of them is not held.
pub(crate) fn judge(bars: &[Bar]) -> Result<(), crate::Fault> {
    bars.iter().for_each(Bar::print);
    if bars.iter().all(Bar::holds) { Ok(()) } else { Err("a bar is not held".into()) }
}

/// Rounds to two digits after the point.
pub(crate) fn round(number: f64) -> f64 {
    (number * 100.0).round() / 100.0
}
