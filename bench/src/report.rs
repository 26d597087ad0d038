//! Figures for a person.

use std::io::Write;
use std::time::Duration;

/// Writes one line.
pub fn say(line: &str) {
    // Whoever reads may have gone.
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// `n` a second.
pub fn rate(n: usize, took: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "shown without decimals")]
    let n = n as f64;
    n / took.as_secs_f64()
}

/// The value below which a part `p` (0 to 1) of the sorted `values` lies.
pub fn quantile(values: &[i64], p: f64) -> i64 {
    if values.is_empty() {
        return 0;
    }
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index into a list of measurements"
    )]
    let index = ((values.len() - 1) as f64 * p).round() as usize;
    values[index.min(values.len() - 1)]
}

/// The middle of some durations.
pub fn median(mut values: Vec<Duration>) -> Duration {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// In milliseconds, for a person.
pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// The number that a variable holds, or this.
pub fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}
