//! JSON models: unwraps a model and detects its shape.
//!
//! | shape | known by |
//! | --- | --- |
//! | thing model (cloud, TuyaLink) | `services[].properties[]` |
//! | specification | `functions[]` and `status[]`, or the maps `function` and `status_range` |
//! | normalised form, TEdge product | `dps[]`, `Dps[]` |
//! | device schema, tuya-local list | an array of data points |
//! | tinytuya and localtuya map | an object whose keys are ids |

use serde_json::{Map, Value};

use super::{
    draft::{DraftPoint, ParsedModel},
    entry::ModelEntry,
    error::ModelError,
    json::{join, kind_of, open, syntax_error},
};
use crate::tuya::product::data_point::AccessMode;

/// The keys of objects that wrap a model.
const WRAPPERS: [&str; 6] = ["result", "data", "model", "schema", "mapping", "dps_data"];

/// The keys of a product or device; an array of those is not an array of data points.
const HOLDERS: [&str; 7] = ["mapping", "dps_data", "dps", "Dps", "services", "functions", "schema"];

/// How deep wrappers may be nested; known files have at most four.
const MAX_WRAPPERS: usize = 8;

pub(super) fn read(text: &str) -> Result<ParsedModel, ModelError> {
    let mut found = ParsedModel::default();
    let mut value = serde_json::from_str(text).map_err(|why| syntax_error("", text, &why))?;
    let mut path = String::new();
    for _ in 0..MAX_WRAPPERS {
        value = open(value, &path)?;
        match value {
            Value::Array(mut items) => {
                let holds_more = |item: &Value| HOLDERS.iter().any(|key| item.get(key).is_some());
                if !items.iter().any(holds_more) {
                    found.drafts = list(&items, &path, None)?;
                    return Ok(found);
                }
                if items.len() > 1 {
                    return Err(ModelError::new(
                        path,
                        format!("the file lists {} devices or products", items.len()),
                    )
                    .hint("A model is of one product: keep that one element of the list."));
                }
                path.push_str("[0]");
                value = items.remove(0);
            }
            Value::Object(mut object) => {
                about(&object, &mut found);
                if let Some(drafts) = drafts(&object, &path)? {
                    found.drafts = drafts;
                    return Ok(found);
                }
                let Some(wrapper) = WRAPPERS.into_iter().find(|key| object.contains_key(*key)) else {
                    return Err(unknown_shape(&object, &path));
                };
                path = join(&path, wrapper);
                value = object.remove(wrapper).unwrap_or_default();
            }
            other => return Err(ModelError::new(path, format!("{} is no product model", kind_of(&other)))),
        }
    }
    Err(ModelError::new(path, "no product model was found inside so many wrappers"))
}

/// Reads the product's own fields from a model or its wrapper.
fn about(object: &Map<String, Value>, found: &mut ParsedModel) {
    let text = |keys: &[&str]| {
        keys.iter()
            .find_map(|key| object.get(*key)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned))
    };
    let is_product = object.contains_key("dps") || object.contains_key("Dps");
    let id = text(&["product_id", "productId", "ProductId"]);
    found.id = id.or_else(|| text(&["id", "Id"]).filter(|_| is_product)).or(found.id.take());
    let name = text(&["product_name", "productName"]);
    found.name = name.or_else(|| text(&["name", "Name"]).filter(|_| is_product)).or(found.name.take());
}

/// Returns the data points of a model; `None` if the object is not one.
fn drafts(object: &Map<String, Value>, path: &str) -> Result<Option<Vec<DraftPoint>>, ModelError> {
    if let Some(Value::Array(services)) = object.get("services") {
        let mut drafts = Vec::new();
        for (at, service) in services.iter().enumerate() {
            if let Some(Value::Array(properties)) = service.get("properties") {
                drafts.extend(list(
                    properties,
                    &format!("{}[{at}].properties", join(path, "services")),
                    None,
                )?);
            }
        }
        return Ok(Some(drafts));
    }
    // Diagnostics also have `status`, with present values.
    for [writable, reported] in [["function", "status_range"], ["functions", "status"]] {
        let holds_points = |key| matches!(object.get(key), Some(Value::Array(_) | Value::Object(_)));
        if holds_points(writable) || holds_points(reported) {
            return specification(object, path, writable, reported).map(Some);
        }
    }
    for key in ["dps", "Dps", "DPs"] {
        if let Some(Value::Array(items)) = object.get(key) {
            return list(items, &join(path, key), None).map(Some);
        }
    }
    if let Some(Value::Array(properties)) = object.get("properties") {
        let described = |item: &Value| item.get("typeSpec").is_some();
        if !properties.is_empty() && !properties.iter().any(described) {
            return Err(snapshot(properties, &join(path, "properties")));
        }
        return list(properties, &join(path, "properties"), None).map(Some);
    }
    let is_id = |key: &String| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_digit());
    if !object.is_empty() && object.keys().all(is_id) {
        let drafts = object.iter().map(|(id, item)| {
            ModelEntry { item, place: join(path, id), id: Some(id), code: None, access: None }.draft()
        });
        return drafts.collect::<Result<_, _>>().map(Some);
    }
    Ok(None)
}

fn list(items: &[Value], path: &str, access: Option<AccessMode>) -> Result<Vec<DraftPoint>, ModelError> {
    let draft = |(at, item)| {
        ModelEntry { item, place: format!("{path}[{at}]"), id: None, code: None, access }.draft()
    };
    items.iter().enumerate().map(draft).collect()
}

/// Joins both halves of a specification: functions are writable; data points of the status list only are not.
fn specification(
    object: &Map<String, Value>,
    path: &str,
    writable: &str,
    reported: &str,
) -> Result<Vec<DraftPoint>, ModelError> {
    let half = |key: &str, access| match object.get(key) {
        Some(Value::Array(items)) => list(items, &join(path, key), Some(access)),
        Some(Value::Object(map)) => {
            let place = join(path, key);
            let draft = |(code, item): (&String, _)| {
                let place = join(&place, code);
                ModelEntry { item, place, id: None, code: Some(code), access: Some(access) }.draft()
            };
            map.iter().map(draft).collect()
        }
        _ => Ok(Vec::new()),
    };
    let mut drafts = half(writable, AccessMode::ReadWrite)?;
    let written = drafts.len();
    for draft in half(reported, AccessMode::ReadOnly)? {
        match drafts[..written].iter_mut().find(|known| known.code == draft.code) {
            Some(known) => known.id = known.id.or(draft.id),
            None => drafts.push(draft),
        }
    }
    Ok(drafts)
}

/// A list of present values has ids and codes, but neither ranges nor access.
fn snapshot(properties: &[Value], path: &str) -> ModelError {
    let pair =
        |item: &Value| Some(format!("{}={}", item.get("code")?.as_str()?, item.get("dp_id")?.as_u64()?));
    let pairs: Vec<_> = properties.iter().filter_map(pair).collect();
    let error =
        ModelError::new(path, "this is a snapshot of present values, without types' ranges and access");
    let wanted = "Use the product's thing model or specification";
    if pairs.is_empty() {
        return error.hint(format!("{wanted}."));
    }
    error.hint(format!("{wanted}; where that has no ids, these belong to it: --dp-map {}", pairs.join(",")))
}

fn unknown_shape(object: &Map<String, Value>, path: &str) -> ModelError {
    if object.get("success") == Some(&Value::Bool(false)) {
        let part = |key: &str| object.get(key).map(ToString::to_string).unwrap_or_default();
        return ModelError::new(
            path,
            format!("this is a refusal of the cloud API: {} {}", part("code"), part("msg")),
        );
    }
    let keys: Vec<_> = object.keys().take(8).map(String::as_str).collect();
    let message = if keys.is_empty() {
        "the object is empty".to_owned()
    } else {
        format!("no known product model has the keys {}", keys.join(", "))
    };
    ModelError::new(path, message).hint(
        "Known are thing models (services), specifications (functions, status), device schemas, DP maps, TEdge \
         products (Dps), the documentation's table as CSV, and what `tuyagw model --json` prints.",
    )
}
