//! Ids: of executions as `ObjectId`s and back, of jobs as the `_id` of their documents and back.
//!
//! The existing backend finds executions by `ObjectId`. Ours are UUIDs, of which one follows: four bytes
//! of seconds, as in every `ObjectId`, then ten bits of milliseconds, the counter, and 42 of the random
//! bits, so that both kinds sort by when they were made. One that the backend made is a UUID of version 8
//! that holds it whole.

use bson::oid::ObjectId;
use bson::{Bson, Document, doc};
use unified_scheduler_core::id::{ExecutionId, JobId};
use uuid::Uuid;

/// What tells a UUID that holds an `ObjectId` from any other of version 8: 26 bits.
const MARK: u128 = 0x02A5_A5A5;

/// The `_id` of an execution's document.
pub(crate) fn object_id(id: &ExecutionId) -> ObjectId {
    let n = id.as_uuid().as_u128();
    let bytes = if let Some(held) = held(n) {
        held
    } else {
        let millis = n >> 80;
        let seconds = (millis / 1000) & 0xFFFF_FFFF;
        let counter = (n >> 64) & 0x0FFF;
        let random = (n & ((1 << 62) - 1)) >> 20;
        (seconds << 64) | ((millis % 1000) << 54) | (counter << 42) | random
    };
    let mut twelve = [0; 12];
    twelve.copy_from_slice(&bytes.to_be_bytes()[4..]);
    ObjectId::from_bytes(twelve)
}

/// The `ObjectId` that a UUID holds, if it is one of ours that holds one.
fn held(n: u128) -> Option<u128> {
    let is_ours = (n >> 76) & 0xF == 8 && (n >> 62) & 0b11 == 0b10 && (n >> 36) & 0x03FF_FFFF == MARK;
    is_ours.then_some(((n >> 80) << 48) | (((n >> 64) & 0x0FFF) << 36) | (n & 0xF_FFFF_FFFF))
}

/// The id of an execution that the existing backend made.
pub(crate) fn holding(id: ObjectId) -> ExecutionId {
    let mut bytes = [0; 16];
    bytes[4..].copy_from_slice(&id.bytes());
    let n = u128::from_be_bytes(bytes);
    let uuid = ((n >> 48) << 80)
        | (8 << 76)
        | (((n >> 36) & 0x0FFF) << 64)
        | (0b10 << 62)
        | (MARK << 36)
        | (n & 0xF_FFFF_FFFF);
    ExecutionId::from_uuid(Uuid::from_u128(uuid))
}

/// A key inside a document of jobs or executions: as text, because a program that shows such documents as
/// they are can show no `ObjectId` but `_id`.
pub(crate) fn inner_key(key: ObjectId) -> Bson {
    Bson::String(key.to_hex())
}

/// The keys of a list inside a document.
pub(crate) fn inner_keys(keys: &[ObjectId]) -> Vec<Bson> {
    keys.iter().copied().map(inner_key).collect()
}

/// The key that stands inside a document.
pub(crate) fn read_inner_key(value: &Bson) -> Option<ObjectId> {
    ObjectId::parse_str(value.as_str()?).ok()
}

/// A document as it stands inside another one.
pub(crate) fn put_in(mut doc: Document) -> Document {
    if let Some(key) = doc.get("_id").and_then(Bson::as_object_id) {
        doc.insert("_id", inner_key(key));
    }
    doc
}

/// The document that stood inside another one.
pub(crate) fn taken_out(doc: &Document) -> Document {
    let mut doc = doc.clone();
    if let Some(key) = doc.get("_id").and_then(read_inner_key) {
        doc.insert("_id", key);
    }
    doc
}

/// The `_id` of a job's document: an `ObjectId` where the id is one in hexadecimal digits.
pub(crate) fn job_key(id: &JobId) -> Bson {
    let text = id.as_str();
    let is_hex = text.len() == 24 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match ObjectId::parse_str(text) {
        Ok(oid) if is_hex => Bson::ObjectId(oid),
        _ => Bson::String(text.to_owned()),
    }
}

/// Finds the document of a job. Some scripts gave their documents numbers.
pub(crate) fn job_filter(id: &JobId) -> Document {
    if let Ok(n) = id.as_str().parse::<i64>() {
        return doc! { "_id": { "$in": [id.as_str(), n] } };
    }
    doc! { "_id": job_key(id) }
}

/// The id of the job with this `_id`.
pub(crate) fn job_id(key: &Bson) -> JobId {
    match key {
        Bson::ObjectId(oid) => JobId::from(oid.to_hex()),
        Bson::String(text) => JobId::from(text.as_str()),
        Bson::Int32(n) => JobId::from(n.to_string()),
        Bson::Int64(n) => JobId::from(n.to_string()),
        Bson::Double(n) => JobId::from(format!("{n:.0}")),
        other => JobId::from(other.to_string()),
    }
}

/// Whether a job with this `_id` is found by its id again. `_id`s of other types, and texts that read like
/// an id of another kind, are not.
pub(crate) fn is_usable(key: &Bson) -> bool {
    match key {
        Bson::ObjectId(_) | Bson::Int32(_) | Bson::Int64(_) => true,
        Bson::String(text) => !text.is_empty() && job_key(&JobId::from(text.as_str())) == *key,
        Bson::Double(_) => crate::value::int(Some(key)).is_some(),
        _ => false,
    }
}

/// A number by which jobs are shared among nodes that are in one another's way.
pub(crate) fn share(id: &JobId) -> i32 {
    let mut print = crate::value::Fingerprint::default();
    print.bytes(id.as_str().as_bytes());
    i32::try_from(print.finish() & 0x7fff_ffff).unwrap_or_default()
}

/// Whether the job is one registered in code, which the existing backend's page is not to show.
pub(crate) fn is_static(id: &JobId) -> bool {
    id.as_str().starts_with("static:")
}

#[cfg(test)]
mod tests {
    use unified_scheduler_core::Timestamp;
    use unified_scheduler_core::id::IdSource;

    use super::*;

    #[test]
    fn object_ids_sort_as_the_ids_they_follow_from() {
        let ids = IdSource::seeded(3);
        let mut last: Option<ObjectId> = None;
        for i in 0..5000_i64 {
            let id = ids.execution(Timestamp::from_millis(1_767_323_045_678 + i / 7));
            let oid = object_id(&id);
            assert_eq!(oid.timestamp().timestamp_millis() / 1000, (1_767_323_045_678 + i / 7) / 1000);
            assert!(last.is_none_or(|last| last < oid), "{i}");
            last = Some(oid);
        }
    }

    #[test]
    fn an_object_id_comes_back_from_the_id_that_holds_it() {
        for text in ["000000000000000000000000", "ffffffffffffffffffffffff", "64b0c0ffee64b0c0ffee64b0"] {
            let oid = ObjectId::parse_str(text).unwrap();
            let id = holding(oid);
            assert_eq!(id.as_uuid().get_version_num(), 8);
            assert_eq!(object_id(&id), oid);
        }
    }

    #[test]
    fn a_job_keeps_its_id_through_the_document() {
        for id in ["64b0c0ffee64b0c0ffee64b0", "64B0C0FFEE64B0C0FFEE64B0", "static:a", "7", "ü"] {
            assert_eq!(job_id(&job_key(&id.into())).as_str(), id);
        }
    }
}
