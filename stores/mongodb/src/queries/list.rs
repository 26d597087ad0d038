//! Lists of jobs: a page out of two collections.

use std::cmp::Ordering;

use bson::{Bson, Document, doc};
use mongodb::options::FindOptions;
use unified_scheduler_core::Timestamp;
use unified_scheduler_core::job::{Job, Origin};
use unified_scheduler_core::store::{JobQuery, JobSort, Page};

use super::ops;
use crate::db::Db;
use crate::error::Step;
use crate::ids::job_key;
use crate::jobs::JobRow;
use crate::legacy::ours;

pub(crate) async fn list(db: &Db, query: &JobQuery) -> Step<Page<Job>> {
    query.check()?;
    ops::redo(db).await?;
    let now = db.now().await?;
    let filter = filter(query);
    let mut total = 0;
    if query.count {
        for collection in db.names.of_jobs() {
            total += db.collection(collection).count_documents(filter.clone()).await?;
        }
    }
    let offset = usize::try_from(query.offset).unwrap_or(usize::MAX);
    let most = offset.saturating_add(query.limit);
    let mut jobs = Vec::new();
    if query.sort == JobSort::Id && !query.descending && query.offset == 0 {
        let items = walk(db, &filter, query, now).await?;
        return Ok(Page { items, total: query.count.then_some(total) });
    }
    if query.limit > 0 {
        for collection in db.names.of_jobs() {
            jobs.extend(page(db, collection, &filter, query, most, now).await?);
        }
        jobs.sort_by(|a, b| order(a, b, query).then_with(|| a.id.cmp(&b.id)));
    }
    let items = jobs.into_iter().skip(offset).take(query.limit).collect();
    Ok(Page { items, total: query.count.then_some(total) })
}

/// Jobs by their keys, one collection after the other, from after one on.
async fn walk(db: &Db, filter: &Document, query: &JobQuery, now: Timestamp) -> Step<Vec<Job>> {
    let mut jobs: Vec<Job> = Vec::new();
    let begin = query.after.as_ref().map(|after| (db.names.of_job(after), job_key(after)));
    let mut passed = begin.is_none();
    for collection in db.names.of_jobs() {
        let mut parts = vec![filter.clone()];
        if let Some((_, after)) = begin.as_ref().filter(|(of, _)| *of == collection) {
            // Comparisons stay within a type, and texts come before ids.
            let later = doc! { "_id": { "$gt": after.clone() } };
            let of_the_other_type = doc! { "_id": { "$type": "objectId" } };
            parts.push(match after {
                Bson::String(_) => doc! { "$or": [later, of_the_other_type] },
                _ => later,
            });
            passed = true;
        }
        let left = query.limit.saturating_sub(jobs.len());
        if !passed || left == 0 {
            continue;
        }
        let options = FindOptions::builder()
            .sort(doc! { "_id": 1 })
            .limit(i64::try_from(left).unwrap_or(i64::MAX))
            .build();
        let docs = db.find(collection, doc! { "$and": parts }, options).await?;
        jobs.extend(docs.into_iter().map(|doc| JobRow::read(doc, &db.cache, now).job));
    }
    Ok(jobs)
}

/// The first of one collection: those with a value, then, if there are too few, those without.
async fn page(
    db: &Db,
    collection: &str,
    filter: &Document,
    query: &JobQuery,
    most: usize,
    now: Timestamp,
) -> Step<Vec<Job>> {
    let field = match query.sort {
        JobSort::Name => "name",
        JobSort::CreatedAt => "createdAt",
        JobSort::DueAt => ours!("due"),
        JobSort::LastRunAt => "lastRunAt",
        JobSort::Id => "_id",
    };
    let nullable = matches!(query.sort, JobSort::DueAt | JobSort::LastRunAt);
    let kinds = if nullable {
        vec![(doc! { field: { "$ne": Bson::Null } }, query.descending), (doc! { field: Bson::Null }, false)]
    } else {
        vec![(doc! {}, query.descending)]
    };
    let mut docs: Vec<Document> = Vec::new();
    for (kind, descending) in kinds {
        let left = most.saturating_sub(docs.len());
        if left == 0 {
            break;
        }
        let wanted = doc! { "$and": [filter.clone(), kind] };
        if !descending {
            docs.extend(first(db, collection, wanted, doc! { field: 1, "_id": 1 }, left).await?);
            continue;
        }
        // Ids go up where values go down, which no index does: of those with the last value, the first
        // are asked for once more.
        let mut found = first(db, collection, wanted.clone(), doc! { field: -1 }, left).await?;
        if found.len() == left
            && let Some(last) = found.last().and_then(|doc| value(doc, field)).cloned()
        {
            found.retain(|doc| value(doc, field) != Some(&last));
            let same = doc! { "$and": [wanted, { field: last }] };
            let left = left - found.len();
            found.extend(first(db, collection, same, doc! { field: 1, "_id": 1 }, left).await?);
        }
        docs.extend(found);
    }
    Ok(docs.into_iter().map(|doc| JobRow::read(doc, &db.cache, now).job).collect())
}

async fn first(
    db: &Db,
    collection: &str,
    filter: Document,
    sort: Document,
    limit: usize,
) -> Step<Vec<Document>> {
    let mut options = crate::db::at_most(limit);
    options.sort = Some(sort);
    options.allow_disk_use = Some(true);
    db.find(collection, filter, options).await
}

/// The value at a path.
fn value<'a>(doc: &'a Document, path: &str) -> Option<&'a Bson> {
    match path.split_once('.') {
        Some((outer, inner)) => doc.get_document(outer).ok()?.get(inner),
        None => doc.get(path),
    }
}

fn order(a: &Job, b: &Job, query: &JobQuery) -> Ordering {
    let turn = |order: Ordering| if query.descending { order.reverse() } else { order };
    match query.sort {
        JobSort::Name => turn(a.definition.name.cmp(&b.definition.name)),
        JobSort::CreatedAt => turn(a.created_at.cmp(&b.created_at)),
        JobSort::DueAt => none_last(a.due_at(), b.due_at(), turn),
        JobSort::Id => turn(a.id.cmp(&b.id)),
        JobSort::LastRunAt => none_last(a.last_run_at, b.last_run_at, turn),
    }
}

fn none_last<T: Ord>(a: Option<T>, b: Option<T>, turn: impl Fn(Ordering) -> Ordering) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => turn(a.cmp(&b)),
        (a, b) => a.is_none().cmp(&b.is_none()),
    }
}

fn filter(query: &JobQuery) -> Document {
    let mut parts = vec![Document::new()];
    if let Some(name) = &query.name {
        parts.push(doc! { "name": name });
    }
    if let Some(text) = query.search.as_deref().filter(|text| !text.is_empty()) {
        let pattern = Bson::RegularExpression(bson::Regex {
            pattern: bson::raw::CString::try_from(escaped(text)).unwrap_or_else(|_| bson::cstr!("").into()),
            options: bson::cstr!("i").into(),
        });
        parts.push(doc! { "$or": [{ "name": pattern.clone() }, { "description": pattern }] });
    }
    if !query.handlers.is_empty() {
        let any = doc! { "$in": query.handlers.clone() };
        // A document that nobody has entered into our indexes yet is found by what it says itself.
        let theirs = |key: &str| doc! { ours!("v"): Bson::Null, key: any.clone() };
        parts.push(doc! { "$or": [
            { ours!("handler"): any.clone() },
            theirs("templateType"), theirs("template_type"), theirs("template"),
        ] });
    }
    if let Some(enabled) = query.enabled {
        let on = doc! { "$or": [{ "enabled": true }, { "enabled": Bson::Null, "isEnabled": true }] };
        parts.push(if enabled {
            on
        } else {
            doc! { "$nor": [on] }
        });
    }
    match query.origin {
        Some(Origin::Static) => parts.push(doc! { ours!("origin"): "static" }),
        Some(Origin::Dynamic) => parts.push(doc! { ours!("origin"): { "$ne": "static" } }),
        None => {}
    }
    if let Some(tag) = &query.tag {
        parts.push(doc! { ours!("tags"): tag });
    }
    if let Some(faulty) = query.faulty {
        parts.push(doc! { ours!("fault"): { "$exists": faulty } });
    }
    doc! { "$and": parts }
}

/// The text as a regular expression that finds it.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() * 2);
    for c in text.chars() {
        if c.is_ascii_punctuation() {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern.replace('\0', "")
}
