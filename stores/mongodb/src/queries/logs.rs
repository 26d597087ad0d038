//! Log lines, in the array of the execution where the existing backend's page looks for them.
//!
//! Bounded: beyond [`MOST_BYTES`] no more are kept, and the last line says so.

use bson::{Bson, Document, doc};
use serde_json::Value;
use unified_scheduler_core::execution::{Level, LogLine};
use unified_scheduler_core::id::ExecutionId;

use crate::db::{Db, only};
use crate::error::Step;
use crate::ids::object_id;
use crate::legacy::ours;
use crate::value::{Types, n, text, to_bson};

/// The bytes of log lines of one execution, at most.
const MOST_BYTES: i64 = 3 << 20;
/// The characters of one line, at most.
const LONGEST: usize = 16 << 10;

fn document(line: &LogLine) -> Document {
    let text = line.timestamp.to_string();
    let mut message = line.message.clone();
    if message.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|i| message.is_char_boundary(*i)).unwrap_or(0);
        message.truncate(end);
        message.push_str(" … (cut)");
    }
    // The existing backend's times are in UTC and do not say so.
    let mut doc = doc! {
        "timestamp": text.trim_end_matches('Z'),
        "level": line.level.as_str(),
        "message": message,
    };
    if !line.fields.is_null() {
        let (fields, exact) = to_bson(&line.fields, Types::Plain);
        doc.insert("fields", if exact { fields } else { Bson::String(line.fields.to_string()) });
        if !exact {
            doc.insert("as_text", true);
        }
    }
    doc
}

/// The stages of an update that append lines, of which the first is number `first`; those that are there
/// already are passed over.
pub(crate) fn append(lines: &[LogLine], first: u64) -> Vec<Document> {
    let docs: Vec<Bson> = lines.iter().map(|line| Bson::Document(document(line))).collect();
    let size = docs
        .iter()
        .filter_map(Bson::as_document)
        .map(|doc| doc.to_vec().map_or(0, |v| v.len()))
        .sum::<usize>();
    let known = doc! { "$ifNull": [concat!("$", ours!("n_logs")), 0_i64] };
    let bytes = doc! { "$ifNull": [concat!("$", ours!("log_bytes")), 0_i64] };
    let skip = doc! { "$max": [0_i64, { "$subtract": [known.clone(), n(first)] }] };
    let total = i64::try_from(docs.len()).unwrap_or(i64::MAX);
    let more = doc! { "$gt": [total, skip.clone()] };
    let fits = doc! { "$lte": [{ "$add": [bytes.clone(), n(size)] }, MOST_BYTES] };
    let full = doc! { "$gt": [bytes.clone(), MOST_BYTES] };
    let logs = doc! { "$ifNull": ["$logs", []] };
    let notice = doc! {
        "timestamp": lines.first().map(|line| line.timestamp.to_string().trim_end_matches('Z').to_owned()),
        "level": "warning",
        "message": "the log is full; what comes after is not kept",
    };
    let new = doc! { "$slice": [{ "$literal": docs }, { "$toInt": skip.clone() }, i32::MAX] };
    let appended = doc! { "$cond": [
        fits.clone(),
        { "$concatArrays": [logs.clone(), new] },
        { "$cond": [full, logs.clone(), { "$concatArrays": [logs.clone(), [{ "$literal": notice }]] }] },
    ] };
    vec![doc! { "$set": {
        "logs": { "$cond": [more.clone(), appended, logs] },
        ours!("log_bytes"): { "$cond": [
            more.clone(),
            { "$cond": [fits, { "$add": [bytes.clone(), n(size)] }, MOST_BYTES + 1] },
            bytes,
        ] },
        ours!("n_logs"): { "$max": [known, n(first + lines.len() as u64)] },
    } }]
}

/// The lines of an execution.
pub(crate) async fn list(db: &Db, id: &ExecutionId, skip: u64, limit: usize) -> Step<Vec<LogLine>> {
    let filter = doc! { "_id": object_id(id) };
    let found = db.find(&db.names.executions, filter, only(doc! { "logs": 1 })).await?;
    let Some(doc) = found.first() else { return Ok(Vec::new()) };
    let logs = doc.get_array("logs").map_or(&[][..], Vec::as_slice);
    let lines = logs.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)).take(limit);
    Ok(lines.filter_map(Bson::as_document).map(line).collect())
}

fn line(doc: &Document) -> LogLine {
    let at = match doc.get("timestamp") {
        Some(Bson::String(text)) => text.parse().ok().or_else(|| format!("{text}Z").parse().ok()),
        other => crate::value::time(other),
    };
    let level = match text(doc, "level").unwrap_or_default().to_ascii_lowercase().as_str() {
        "debug" => Level::Debug,
        "warning" | "warn" => Level::Warning,
        "error" | "critical" | "exception" => Level::Error,
        _ => Level::Info,
    };
    let fields = match doc.get("fields") {
        Some(Bson::String(text)) if doc.contains_key("as_text") => {
            serde_json::from_str(text).unwrap_or(Value::Null)
        }
        Some(fields) => crate::value::to_json(fields),
        None => Value::Null,
    };
    LogLine {
        timestamp: at.unwrap_or_default(),
        level,
        message: text(doc, "message").unwrap_or_default().to_owned(),
        fields,
    }
}
