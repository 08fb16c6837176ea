//! Holds a page of the documentation against what is written as JSON.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::Value;

/// Fields whose own fields are named by kinds, codes and the like.
const BY_KIND: [&str; 4] = ["failed", "disconnected", "errors", "closed"];

/// Asserts that the page names every field of the values, at any depth but below those that are `elsewhere`, and that every
/// field in the first column of its tables is one of theirs.
pub(crate) fn assert_documented(page: &str, values: &[Value], elsewhere: &[&str]) {
    let mut fields = BTreeSet::new();
    values.iter().for_each(|value| collect(value, elsewhere, &mut fields));
    let named: BTreeSet<&str> = page.split('`').skip(1).step_by(2).collect();
    let unknown: Vec<_> = fields.iter().filter(|field| !named.contains(field.as_str())).collect();
    assert!(unknown.is_empty(), "not documented: {unknown:?}");
    let gone: Vec<_> = first_columns(page).into_iter().filter(|name| !fields.contains(*name)).collect();
    assert!(gone.is_empty(), "documented and not there: {gone:?}");
}

/// What a value becomes.
pub(crate) fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap()
}

fn collect(value: &Value, elsewhere: &[&str], fields: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                fields.insert(name.clone());
                match value.as_object() {
                    _ if elsewhere.contains(&name.as_str()) => {}
                    Some(kinds) if BY_KIND.contains(&name.as_str()) => {
                        kinds.values().for_each(|value| collect(value, elsewhere, fields));
                    }
                    _ => collect(value, elsewhere, fields),
                }
            }
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, elsewhere, fields)),
        _ => {}
    }
}

/// The names in the first column of each table of fields.
fn first_columns(page: &str) -> Vec<&str> {
    let mut is_of_fields = false;
    let mut names = Vec::new();
    for line in page.lines() {
        let Some((first, _)) = line.strip_prefix('|').and_then(|row| row.split_once('|')) else {
            is_of_fields = false;
            continue;
        };
        is_of_fields |= first.trim() == "field";
        if is_of_fields {
            names.extend(first.split('`').skip(1).step_by(2));
        }
    }
    names
}

#[test]
fn what_is_missing_on_either_side_is_seen() {
    let page = "`a`\n\n| field | x |\n|---|---|\n| `b`, `c` | `d` |\n\n| value |\n|---|\n| `e` |\n";
    assert_eq!(first_columns(page), ["b", "c"]);
    let value = serde_json::json!({ "a": [{ "b": 1 }], "c": { "z": 1 }, "failed": { "kind": { "d": 0 } } });
    let page = page.replace("`d`", "`d` `failed`");
    assert_documented(&page, std::slice::from_ref(&value), &["c"]);
    let fails = |page: &str, value: Value| {
        std::panic::catch_unwind(|| assert_documented(page, &[value], &["c"])).is_err()
    };
    assert!(fails(&page, serde_json::json!({ "b": 1, "c": 1, "unheard": 1 })));
    assert!(fails(&page, serde_json::json!({ "b": 1 })));
}
