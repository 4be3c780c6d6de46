//! Time as a value: `now` is read once an exchange and passed down.

use std::fmt;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Largest difference between a clock and other evidence of the time, in seconds, before the broker takes the clock for
/// wrong.
pub const MAX_SKEW: i64 = 60;

/// Whole seconds since 1970-01-01T00:00:00Z, the NumericDate of RFC 7519 §2.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The last second of the year 9999; no date of ours lies past it.
    pub const MAX: Self = Self(253_402_300_799);

    /// `seconds` since 1970, if it lies between then and [`Timestamp::MAX`].
    #[must_use]
    pub fn new(seconds: i64) -> Option<Self> {
        (0..=Self::MAX.0).contains(&seconds).then_some(Self(seconds))
    }

    /// The date of an HTTP header (RFC 9110 §5.6.7).
    #[must_use]
    pub fn from_http_date(text: &str) -> Option<Self> {
        Self::new(jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?.as_second())
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn seconds(self) -> i64 {
        self.0
    }

    /// This moment and `seconds` more, never past [`Timestamp::MAX`].
    #[must_use]
    pub fn plus(self, seconds: i64) -> Self {
        Self(self.0.saturating_add(seconds).clamp(0, Self::MAX.0))
    }

    /// Seconds from `earlier` to this moment; negative when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl FromStr for Timestamp {
    type Err = ();

    /// A moment as RFC 3339 writes it.
    fn from_str(text: &str) -> Result<Self, ()> {
        text.parse::<jiff::Timestamp>().ok().and_then(|moment| Self::new(moment.as_second())).ok_or(())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_second(self.0) {
            Ok(time) => time.fmt(out),
            Err(_) => self.0.fmt(out),
        }
    }
}

/// The end of a wait.
pub type Sleep<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// The source of the time. Dates come from the wall clock, which can jump; durations and waits come from the monotonic
/// clock. Deadlines of network connections alone are kept by the runtime.
pub trait Clock: Send + Sync {
    /// The present second of the wall clock.
    fn now(&self) -> Timestamp;

    /// The monotonic time: how long ago an arbitrary moment is. It never goes back.
    fn monotonic(&self) -> Duration {
        static BEGAN: LazyLock<Instant> = LazyLock::new(instant);
        instant().saturating_duration_since(*BEGAN)
    }

    /// Waits for `duration` of monotonic time.
    fn sleep(&self, duration: Duration) -> Sleep<'_> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// Waits for `wanted`, at most `duration` of the monotonic time of `clock`; none if that was too short.
pub async fn within<T>(clock: &dyn Clock, duration: Duration, wanted: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = wanted => Some(done),
        () = clock.sleep(duration) => None,
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's monotonic clock")]
fn instant() -> Instant {
    Instant::now()
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> Timestamp {
        let elapsed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(elapsed.as_secs()).unwrap_or(0).min(Timestamp::MAX.0))
    }
}

/// A length of time in whole seconds, between one second and ten years, written `30s`, `5m`, `1h` or `30d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lifetime(u32);

impl Lifetime {
    const MAX: u32 = 10 * 366 * 86_400;
    /// The shortest one.
    pub const SECOND: Self = Self(1);
    /// The longest one, in seconds.
    pub const MAX_SECONDS: i64 = Self::MAX as i64;

    /// `seconds`, if between one second and ten years.
    #[must_use]
    pub fn new(seconds: u32) -> Option<Self> {
        (1..=Self::MAX).contains(&seconds).then_some(Self(seconds))
    }

    /// Seconds.
    #[must_use]
    pub fn seconds(self) -> i64 {
        i64::from(self.0)
    }

    /// Returns the duration, for timers.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_secs(u64::from(self.0))
    }
}

impl FromStr for Lifetime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is not a length of time; write a whole number and `s`, `m`, `h` or `d`, e.g. `5m`");
        let unit = match text.as_bytes().last() {
            Some(b's') => 1,
            Some(b'm') => 60,
            Some(b'h') => 3_600,
            Some(b'd') => 86_400,
            _ => return Err(wrong()),
        };
        let digits = text.get(..text.len() - 1).unwrap_or_default();
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let seconds = digits.parse::<u32>().ok().and_then(|count| count.checked_mul(unit));
        seconds.and_then(Self::new).ok_or_else(|| format!("`{text}` is not between 1s and ten years"))
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, unit) = match self.0 {
            days if days % 86_400 == 0 => (days / 86_400, 'd'),
            hours if hours % 3_600 == 0 => (hours / 3_600, 'h'),
            minutes if minutes % 60 == 0 => (minutes / 60, 'm'),
            seconds => (seconds, 's'),
        };
        write!(out, "{count}{unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_is_a_whole_number_and_a_unit() {
        for (text, seconds) in [("30s", 30), ("5m", 300), ("1h", 3_600), ("30d", 2_592_000)] {
            let lifetime: Lifetime = text.parse().unwrap();
            assert_eq!((lifetime.seconds(), lifetime.to_string().as_str()), (seconds, text));
        }
        for text in ["", "5", "m", "0s", "-5m", "+5m", "5 m", "1.5h", "5M", "99999999d", "５m"] {
            assert!(text.parse::<Lifetime>().is_err(), "{text}");
        }
    }
}
