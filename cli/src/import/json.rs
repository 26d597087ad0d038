//! The documents of a JSON text, each with its line: an array, one document, `{"jobs": […]}`, or one
//! document a line, as `mongoexport` writes them.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;
use unified_scheduler::Fault;

use super::Entry;
use super::lines::Lines;

pub(super) fn entries(text: &str) -> Result<Vec<Entry>, Fault> {
    let lines = Lines::new(text);
    let mut documents = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<&RawValue>() {
        match value {
            Ok(value) => documents.push(value),
            Err(error) => return broken(text, &error),
        }
    }
    let parts = match documents.as_slice() {
        [one] => parts(one.get()).unwrap_or_else(|| vec![one]),
        _ => documents,
    };
    Ok(parts
        .into_iter()
        .map(|part| Entry { line: lines.of_part(part.get()), value: value(part.get()) })
        .collect())
}

/// The elements of an array, or of the array `jobs` of an object that is not a job itself.
fn parts(text: &str) -> Option<Vec<&RawValue>> {
    if text.starts_with('[') {
        return serde_json::from_str(text).ok();
    }
    let map: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
    if map.contains_key("name") || map.contains_key("template_type") {
        return None;
    }
    map.get("jobs").and_then(|jobs| serde_json::from_str(jobs.get()).ok())
}

fn value(text: &str) -> Result<Value, Fault> {
    serde_json::from_str(text).map_err(|e| Fault::new("", e.to_string()))
}

/// A text that breaks off somewhere. Where it has one document a line, the other lines still count, so
/// that all that are broken are told at once.
fn broken(text: &str, error: &serde_json::Error) -> Result<Vec<Entry>, Fault> {
    let mut filled = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let by_line = filled.clone().count() > 1
        && filled.next().is_some_and(|(_, line)| line.trim_start().starts_with('{') && value(line).is_ok());
    if !by_line {
        return Err(Fault::new("", format!("it is not JSON: {error}")));
    }
    Ok(text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(i, line)| {
            let value = serde_json::from_str(line)
                .map_err(|e| Fault::new("", format!("it is not JSON: {e}")).at(e.column().saturating_sub(1)));
            Entry { line: i + 1, value }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<(usize, bool)> {
        entries(text).unwrap().iter().map(|entry| (entry.line, entry.value.is_ok())).collect()
    }

    #[test]
    fn each_element_has_the_line_on_which_it_begins() {
        assert_eq!(lines("[\n {\"a\": [1,\n 2]}, {},\n\n {\"b\": 1}\n]"), [(2, true), (3, true), (5, true)]);
        assert_eq!(lines("\n{\"name\": \"n\", \"jobs\": []}"), [(2, true)]);
        assert_eq!(lines("{\"jobs\": [{},\n{}]}\n"), [(1, true), (2, true)]);
        assert_eq!(lines("{\"a\":1}\n{\"a\":2}\n"), [(1, true), (2, true)]);
        assert_eq!(lines("[]"), []);
    }

    #[test]
    fn of_a_file_with_a_document_a_line_all_broken_lines_are_told() {
        assert_eq!(
            lines("{\"a\":1}\n{\"a\":\n{\"a\":3}\n]\n"),
            [(1, true), (2, false), (3, true), (4, false)]
        );
        assert!(entries("[{}, {]").unwrap_err().message.contains("line 1"));
    }
}
