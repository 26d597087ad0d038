//! The documents of a YAML text, each with its line.

use serde::Deserialize;
use serde_json::Value;
use serde_saphyr::Spanned;
use unified_scheduler::Fault;

use super::Entry;

/// A list of jobs, for which lines are known.
#[derive(Deserialize)]
struct Jobs {
    jobs: Vec<Spanned<Value>>,
}

pub(super) fn entries(text: &str) -> Result<Vec<Entry>, Fault> {
    let broken = |e: serde_saphyr::Error| Fault::new("", format!("it is not YAML: {e}"));
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(broken)?;
    let located: Vec<Spanned<Value>> = match documents.as_slice() {
        [Value::Array(_)] => serde_saphyr::from_str(text).map_err(broken)?,
        [Value::Object(map)] if map.contains_key("jobs") && !map.contains_key("name") => {
            serde_saphyr::from_str::<Jobs>(text).map_err(broken)?.jobs
        }
        _ => serde_saphyr::from_multiple(text).map_err(broken)?,
    };
    Ok(located
        .into_iter()
        .map(|entry| Entry {
            line: usize::try_from(entry.referenced.line()).unwrap_or(0),
            value: Ok(entry.value),
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<usize> {
        entries(text).unwrap().iter().map(|entry| entry.line).collect()
    }

    #[test]
    fn each_element_has_the_line_on_which_it_begins() {
        assert_eq!(lines("# jobs\n- name: a\n  x: 1\n- name: b\n"), [2, 4]);
        assert_eq!(lines("jobs:\n  - name: a\n\n  - name: b\n"), [2, 4]);
        assert_eq!(lines("name: a\n"), [1]);
        assert_eq!(lines("name: a\n---\nname: b\n"), [1, 3]);
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_line() {
        let fault = entries("- a: 1\n b: [\n").unwrap_err();
        assert!(fault.message.contains("line"), "{fault}");
    }
}
