//! Stand-in with the final signatures; replaced by the real module.
#![allow(missing_docs, clippy::all, clippy::pedantic)]
use crate::{Fault, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    pub every: Option<Duration>,
    pub start: Option<Timestamp>,
    pub end: Option<Timestamp>,
    pub limit: Option<u64>,
    pub jitter: Duration,
}
impl Schedule {
    pub fn every(d: Duration) -> Self {
        Self { every: Some(d), start: None, end: None, limit: None, jitter: Duration::ZERO }
    }
    pub fn manual() -> Self {
        Self { every: None, start: None, end: None, limit: None, jitter: Duration::ZERO }
    }
    pub fn is_manual(&self) -> bool {
        self.every.is_none()
    }
    pub fn compile(&self, _job_id: &str) -> Result<CompiledSchedule, Vec<Fault>> {
        Ok(CompiledSchedule(self.every))
    }
}
#[derive(Debug, Clone)]
pub struct CompiledSchedule(Option<Duration>);
pub struct Count {
    pub n: u64,
    pub exact: bool,
}
#[derive(Debug, Clone, Default)]
pub struct Calendars(BTreeMap<String, Calendar>);
impl Calendars {
    pub fn new(_: Vec<Calendar>) -> Self {
        Self::default()
    }
}
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calendar {
    pub name: String,
}
impl CompiledSchedule {
    pub fn next_after(&self, t: Timestamp, anchor: Timestamp) -> Option<Timestamp> {
        let p = i64::try_from(self.0?.as_millis()).unwrap_or(1);
        let n = (t.as_millis() - anchor.as_millis()).div_euclid(p) + 1;
        Some(Timestamp::from_millis(anchor.as_millis() + n * p))
    }
    pub fn first_due(&self, now: Timestamp) -> Option<Timestamp> {
        self.0.map(|_| now)
    }
    pub fn last_until(
        &self,
        from: Timestamp,
        until: Timestamp,
        _anchor: Timestamp,
        k: usize,
    ) -> Vec<Timestamp> {
        let mut v = vec![];
        let mut t = from;
        while t <= until {
            v.push(t);
            match self.next_after(t, from) {
                Some(n) => t = n,
                None => break,
            }
        }
        let cut = v.len().saturating_sub(k);
        v.drain(..cut);
        v
    }
    pub fn count_until(&self, from: Timestamp, until: Timestamp, anchor: Timestamp, cap: u64) -> Count {
        Count { n: (self.last_until(from, until, anchor, usize::MAX).len() as u64).min(cap), exact: true }
    }
    pub fn excluded(&self, _t: Timestamp, _c: &Calendars) -> Option<String> {
        None
    }
    pub fn jitter_offset(&self, _t: Timestamp) -> Duration {
        Duration::ZERO
    }
    pub fn from_completion(&self) -> Option<Duration> {
        None
    }
}
