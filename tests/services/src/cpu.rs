//! How much processor time processes have used, as Linux counts it.

use std::fs;
use std::time::Duration;

/// What Linux counts in, on every machine that we know: hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// Of a process, of its children that have ended, and of those that live; nothing where it can't be told.
pub(crate) fn of_family(pid: u32) -> Duration {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    ticks(pid, 4) + children.map(|child| ticks(child, 2)).sum::<Duration>()
}

/// Of this process.
pub fn own() -> Duration {
    ticks(std::process::id(), 2)
}

/// User and system time; with four fields, those of children that have ended as well.
fn ticks(pid: u32, fields: usize) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may hold anything; what follows it is numbers, from the third field on.
    let numbers = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u32 = numbers.skip(11).take(fields).filter_map(|n| n.parse::<u32>().ok()).sum();
    TICK * ticks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_uses_is_counted() {
        let before = own();
        while own() < before + TICK * 2 {
            std::hint::spin_loop();
        }
        assert!(of_family(std::process::id()) >= before + TICK * 2);
    }
}
