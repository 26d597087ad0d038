//! Reading the policies of a job: retry, misfire, overlap, history, chains, notifications.

use serde_json::{Map, Value};

use super::fields::{Fields, id, shown};
use crate::id::JobId;
use crate::policy::{Backoff, Chain, ChainOn, History, Keep, Misfire, Notifications, Overlap, Retry};

/// The retry policy that the older programs put into every document, chosen by nobody.
const UNCHOSEN: (u32, u64) = (3, 300);
/// What `skip` takes for late where the document does not say: a minute.
const DEFAULT_GRACE: std::time::Duration = std::time::Duration::from_mins(1);

const A_COUNT: &str = "a whole number from 0";

pub(super) fn retry(top: &mut Fields<'_>) -> Retry {
    let mut retry = Retry::default();
    // Every spelling is taken, so that the losing ones are not mistaken for unknown fields.
    let policy = top.object(&["retry_policy"]);
    let config = top.object(&["retry_config"]);
    let (count, delay) = (&["retry_count"][..], &["retry_delay"][..]);
    if let Some((name, map)) = policy {
        top.take(count);
        top.take(delay);
        own_retry(top, name, map, &mut retry);
    } else if let Some((name, map)) = config {
        top.take(count);
        top.take(delay);
        let mut fields = Fields::new(map, name);
        retry.max_retries = fields.integer(&["max_retries"], A_COUNT).unwrap_or(0);
        retry.delay = fields.seconds(&["retry_delay", "retry_delay_seconds"]).unwrap_or(retry.delay);
        retry.on_lost = retry.max_retries > 0;
        top.absorb(fields);
    } else {
        retry.max_retries = top.integer(count, A_COUNT).unwrap_or(0);
        retry.delay = top.seconds(delay).unwrap_or(retry.delay);
        retry.on_lost = retry.max_retries > 0;
    }
    retry
}

fn own_retry(top: &mut Fields<'_>, name: &str, map: &Map<String, Value>, retry: &mut Retry) {
    let mut fields = Fields::new(map, name);
    retry.max_retries = fields.integer(&["max_retries"], A_COUNT).unwrap_or(0);
    retry.delay = fields.seconds(&["retry_delay_seconds", "retry_delay"]).unwrap_or(retry.delay);
    let ours =
        ["backoff", "max_delay_seconds", "jitter", "on_failure", "on_timeout", "on_lost", "crash_limit"];
    let unchosen = (retry.max_retries, retry.delay.as_secs()) == UNCHOSEN
        && retry.delay.subsec_nanos() == 0
        && !ours.iter().any(|key| fields.has(key));
    retry.explicit = fields.flag(&["explicit"]).unwrap_or(!unchosen);
    let backoffs = [("fixed", Backoff::Fixed), ("exponential", Backoff::Exponential)];
    retry.backoff = fields.choice(&["backoff"], &backoffs).unwrap_or_default();
    retry.max_delay = fields.seconds(&["max_delay_seconds"]).unwrap_or(retry.max_delay);
    retry.jitter = fields.get(&["jitter"], "a number from 0 to 1", Value::as_f64).unwrap_or(retry.jitter);
    retry.on_failure = fields.flag(&["on_failure"]).unwrap_or(retry.on_failure);
    retry.on_timeout = fields.flag(&["on_timeout"]).unwrap_or(retry.on_timeout);
    retry.on_lost = fields.flag(&["on_lost"]).unwrap_or(retry.max_retries > 0);
    retry.crash_limit =
        fields.integer(&["crash_limit"], "a whole number from 1").unwrap_or(retry.crash_limit);
    let unknown: Vec<&String> = fields.unknown().map(|(key, _)| key).collect();
    for key in unknown {
        let path = fields.path_of(key);
        fields.warnings.push(format!("{path}: is not a field of a retry policy, and is left out"));
    }
    top.absorb(fields);
}

/// A policy that is an object with the field `policy`, or that word alone.
fn tagged<'a>(top: &mut Fields<'a>, name: &str) -> Option<(String, Fields<'a>)> {
    static EMPTY: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);
    let (name, value) = top.take(&[name])?;
    match value {
        Value::String(word) => Some((word.clone(), Fields::new(&EMPTY, name))),
        Value::Object(map) => {
            let mut fields = Fields::new(map, name);
            let word = fields.text(&["policy"]);
            if word.is_none() && fields.faults.is_empty() {
                fields.fault("policy", "is missing", "");
            }
            let Some(word) = word else {
                top.absorb(fields);
                return None;
            };
            Some((word, fields))
        }
        _ => {
            top.fault(name, format!("is {}", shown(value)), "give the policy's name, or an object with it");
            None
        }
    }
}

/// The field without which a policy means nothing.
fn needed(fields: &mut Fields<'_>, name: &str, why: &str) -> u32 {
    if !fields.has(name) {
        fields.fault(name, "is missing", why);
    }
    fields.integer(&[name], "a whole number from 1").unwrap_or(1)
}

pub(super) fn misfire(top: &mut Fields<'_>) -> Misfire {
    let Some((word, mut fields)) = tagged(top, "misfire") else { return Misfire::default() };
    let misfire = match word.as_str() {
        "run_once" => Misfire::RunOnce,
        "skip" => Misfire::Skip { grace: fields.seconds(&["grace_seconds"]).unwrap_or(DEFAULT_GRACE) },
        "run_all" => {
            let why = "say how many missed occurrences run at most: {\"policy\": \"run_all\", \"limit\": 10}";
            Misfire::RunAll { limit: needed(&mut fields, "limit", why) }
        }
        _ => {
            fields.fault("", format!("there is no policy `{word}`"), "there are run_once, skip, run_all");
            Misfire::default()
        }
    };
    finish(top, fields, "policy, grace_seconds (skip), limit (run_all)");
    misfire
}

pub(super) fn overlap(top: &mut Fields<'_>) -> Overlap {
    let Some((word, mut fields)) = tagged(top, "overlap") else { return Overlap::default() };
    let overlap = match word.as_str() {
        "skip" => Overlap::Skip,
        "queue_one" => Overlap::QueueOne,
        "cancel_running" => Overlap::CancelRunning,
        "allow" => {
            let why = "say how many may run at once: {\"policy\": \"allow\", \"max\": 4}";
            Overlap::Allow { max: needed(&mut fields, "max", why) }
        }
        _ => {
            let help = "there are skip, queue_one, allow, cancel_running";
            fields.fault("", format!("there is no policy `{word}`"), help);
            Overlap::default()
        }
    };
    finish(top, fields, "policy, max (allow)");
    overlap
}

/// Refuses what the chosen policy has no use for, unless the policy itself was not understood.
fn finish(top: &mut Fields<'_>, mut fields: Fields<'_>, known: &str) {
    if fields.faults.is_empty() {
        fields.refuse_unknown(known);
    }
    top.absorb(fields);
}

pub(super) fn history(top: &mut Fields<'_>) -> History {
    let Some((name, map)) = top.object(&["history"]) else { return History::default() };
    let mut fields = Fields::new(map, name);
    let keeps = [("all", Keep::All), ("failures", Keep::Failures), ("none", Keep::None)];
    let history = History {
        keep: fields.choice(&["keep"], &keeps).unwrap_or_default(),
        max_age: fields.seconds(&["max_age_seconds"]),
        max_count: fields.integer(&["max_count"], A_COUNT),
    };
    fields.refuse_unknown("keep, max_age_seconds, max_count");
    top.absorb(fields);
    history
}

pub(super) fn chains(top: &mut Fields<'_>) -> Vec<Chain> {
    let Some((name, value)) = top.take(&["chains"]) else { return Vec::new() };
    let Some(list) = value.as_array() else {
        top.fault(name, format!("is {}", shown(value)), "give a list of {on, job}");
        return Vec::new();
    };
    let ons = [("success", ChainOn::Success), ("failure", ChainOn::Failure), ("any", ChainOn::Any)];
    let mut chains = Vec::new();
    for (i, item) in list.iter().enumerate() {
        let place = format!("{name}.{i}");
        let Value::Object(map) = item else {
            top.fault(&place, format!("is {}", shown(item)), "give an object with `job`");
            continue;
        };
        let mut fields = Fields::new(map, place);
        let on = fields.choice(&["on"], &ons).unwrap_or_default();
        if !fields.has("job") {
            fields.fault("job", "is missing", "name the id of the job to run");
        }
        let job = fields.get(&["job"], "the id of a job", id);
        fields.refuse_unknown("on, job");
        top.absorb(fields);
        chains.extend(job.map(|job| Chain { on, job: JobId::from(job) }));
    }
    chains
}

pub(super) fn notifications(top: &mut Fields<'_>) -> Notifications {
    let Some((name, map)) = top.object(&["notifications"]) else { return Notifications::default() };
    let mut fields = Fields::new(map, name);
    let notifications = Notifications {
        on_success: fields.texts(&["on_success"]).unwrap_or_default(),
        on_failure: fields.texts(&["on_failure"]).unwrap_or_default(),
    };
    top.absorb(fields);
    notifications
}
