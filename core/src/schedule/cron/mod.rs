//! Cron schedules: expression, dialect, time zone and what a shift of the zone does to them.

mod describe;
mod fields;
mod parse;
mod search;
mod spec;

use serde::{Deserialize, Serialize};

use super::civil::{DAY, day_of};
use super::zone::Zone;
use crate::error::Fault;
use spec::Spec;

/// A cron expression and how to read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    /// The expression, such as `0 3 * * *`.
    pub expression: String,
    /// IANA name of the zone whose local times the expression names.
    pub timezone: String,
    /// How the fields are ordered, and what they may hold.
    pub dialect: Dialect,
    /// What becomes of fixed local times that the zone skips.
    pub gap: Gap,
    /// What becomes of fixed local times that come twice.
    pub overlap: Fold,
}

/// Which grammar an expression is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dialect {
    /// Five fields; six with seconds first; seven with the year last. Knows `L`, `W`, `#`, `?`, `H`,
    /// and ranges that wrap (`FRI-MON`).
    #[default]
    Standard,
    /// What croniter 2.0 reads: five fields; six with seconds last.
    Croniter,
}

/// What becomes of a fixed local time that the zone skips.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gap {
    /// It moves by the length of the gap: 02:30 becomes 03:30.
    #[default]
    Shift,
    /// It is left out.
    Skip,
    /// It moves to the first instant past the gap.
    After,
}

/// What becomes of a fixed local time that comes twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fold {
    /// It is due the first time.
    #[default]
    First,
    /// It is due the second time.
    Second,
    /// It is due both times.
    Both,
}

impl Cron {
    /// `expression` in the standard dialect, in `timezone`, with the default policies.
    pub fn new(expression: impl Into<String>, timezone: impl Into<String>) -> Self {
        Self {
            expression: expression.into(),
            timezone: timezone.into(),
            dialect: Dialect::default(),
            gap: Gap::default(),
            overlap: Fold::default(),
        }
    }

    pub(super) fn compile(&self, job_id: &str) -> Result<CompiledCron, Vec<Fault>> {
        let spec = parse::parse(&self.expression, self.dialect, job_id).and_then(|spec| {
            // From the first instant that a schedule may name.
            match spec.next(day_of(1, 1, 1) * DAY) {
                Some(_) => Ok(spec),
                None => Err(vec![
                    Fault::new("expression", "the expression never fires: no month has such a day")
                        .at(0)
                        .help("check day against month, such as day 30 of February"),
                ]),
            }
        });
        match (spec, Zone::find(&self.timezone, "timezone")) {
            (Ok(spec), Ok(zone)) => {
                let text = describe::describe(&spec, zone.name());
                Ok(CompiledCron {
                    spec,
                    zone,
                    rules: search::Rules { gap: self.gap, fold: self.overlap },
                    text,
                })
            }
            (spec, zone) => {
                let mut faults = spec.err().unwrap_or_default();
                faults.extend(zone.err());
                Err(faults)
            }
        }
    }
}

/// A parsed expression in its zone.
#[derive(Debug)]
pub(super) struct CompiledCron {
    spec: Spec,
    zone: Zone,
    rules: search::Rules,
    text: String,
}

impl CompiledCron {
    /// The first due second later than `second`.
    pub(super) fn next(&self, second: i64) -> Option<i64> {
        search::next(&self.spec, &self.zone, self.rules, second)
    }

    pub(super) fn zone(&self) -> &Zone {
        &self.zone
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether the expression names this local time, in seconds.
    pub(super) fn names(&self, civil: i64) -> bool {
        self.spec.matches(civil)
    }
}
