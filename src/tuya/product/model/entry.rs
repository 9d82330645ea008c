//! Reads one data point of a JSON model. One reader serves all shapes, because they differ only in the names of keys and in
//! how deep the limits are nested.

use serde_json::{Map, Value};

use super::{
    draft::DraftPoint,
    error::ModelError,
    json::{join, kind_of, open},
    limits::{ValueLimits, access, plain_type},
};
use crate::tuya::product::data_point::{AccessMode, DataType};

/// The keys of a type's limits, which are an object, or its JSON text.
const SPECS: [&str; 5] = ["typespec", "property", "properties", "values", "format"];

/// The keys of single limits.
const LIMITS: [&str; 20] = [
    "min",
    "minimum",
    "minvalue",
    "minimumvalue",
    "valuemin",
    "max",
    "maximum",
    "maxvalue",
    "maximumvalue",
    "valuemax",
    "scale",
    "step",
    "pitch",
    "range",
    "enum",
    "label",
    "labels",
    "fault",
    "maxlen",
    "maxlength",
];

/// Other keys beside them, or with similar names: units are no limit, and an enumMap describes values.
const OTHERS: [&str; 12] = [
    "unit",
    "units",
    "type",
    "enummap",
    "default",
    "defaultvalue",
    "typedefaultvalue",
    "name",
    "desc",
    "description",
    "shift",
    "extensions",
];

/// A data point in a model, with the facts that its position determines.
pub(super) struct ModelEntry<'a> {
    pub item: &'a Value,
    pub place: String,
    pub id: Option<&'a str>,
    pub code: Option<&'a str>,
    pub access: Option<AccessMode>,
}

impl ModelEntry<'_> {
    pub(super) fn draft(self) -> Result<DraftPoint, ModelError> {
        let Value::Object(object) = self.item else {
            let message = format!("{} is no description of a data point", kind_of(self.item));
            return Err(ModelError::new(self.place, message));
        };
        let entry = EntryFields { object, place: &self.place };
        // A bool has no limits, so unreadable ones are ignored: the cloud API has {true,false}, which is not JSON.
        let is_bool = entry.text(&["type"]).is_some_and(|name| plain_type(&name) == "bool");
        let (key, spec) = if is_bool { entry.spec().unwrap_or_default() } else { entry.spec()? };
        let spec_place = if key.is_empty() { self.place.clone() } else { join(&self.place, key) };
        let spec = EntryFields { object: &spec, place: &spec_place };
        let attributes = entry.find(&["attributes"]).and_then(|(_, value)| value.as_object());

        let text = |keys| entry.text(keys);
        let code = self.code.map(str::to_owned).or_else(|| text(&["code", "identifier", "dpcode"]));
        let code =
            code.or_else(|| attributes.and_then(|object| EntryFields { object, place: "" }.text(&["code"])));
        // A tuya-local list calls the code a name.
        let code = code.or_else(|| entry.find(&["format"]).and_then(|_| text(&["name"])));
        let id = match entry.find(&["dpid", "abilityid", "id"]) {
            Some((key, value)) => Some(entry.id(key, value)?),
            None => self.id.map(|id| entry.id("", &Value::String(id.to_owned()))).transpose()?,
        };
        let type_name = spec.text(&["type"]).or_else(|| text(&["type"]).filter(|name| name != "obj"));
        let Some(type_name) = type_name else {
            return Err(ModelError::new(self.place, "the data point has no type"));
        };
        let access = match ["accessmode", "access", "mode", "readwrite"].iter().find_map(|key| {
            spec.find(&[key])
                .map(|(key, value)| (spec.place, key, value))
                .or_else(|| entry.find(&[key]).map(|(key, value)| (entry.place, key, value)))
        }) {
            Some((place, key, value)) => value.as_str().and_then(access).ok_or_else(|| {
                ModelError::new(join(place, key), format!("{value} is no access; known are ro, rw and wo"))
            })?,
            // In maps without access the device decides.
            None => self.access.unwrap_or(AccessMode::ReadWrite),
        };
        let limits = ValueLimits {
            min: spec.number(&["min", "minimum", "minvalue", "minimumvalue", "valuemin"])?,
            max: spec.number(&["max", "maximum", "maxvalue", "maximumvalue", "valuemax"])?,
            scale: spec.number(&["scale"])?,
            step: spec.number(&["step", "pitch"])?,
            range: spec.texts(&["range", "enum"])?,
            labels: spec.texts(&["label", "labels", "fault"])?,
            maxlen: spec.number(&["maxlen", "maxlength"])?,
        };
        let unit = spec.unit()?;
        let kind = limits.kind(&type_name).map_err(|message| ModelError::new(spec.place, message))?;
        if !is_bool {
            spec.refuse_unknown_limits(&kind, !key.is_empty())?;
        }
        let name = text(&["name"]).filter(|name| Some(name) != code.as_ref());
        Ok(DraftPoint { id, name, unit, access, kind, code, place: self.place })
    }
}

/// An object's fields; keys are compared without capitals and underscores.
struct EntryFields<'a> {
    object: &'a Map<String, Value>,
    place: &'a str,
}

impl<'a> EntryFields<'a> {
    /// Returns the value of the first of these keys that is present; null is absent.
    fn find(&self, keys: &[&str]) -> Option<(&'a str, &'a Value)> {
        let named = |key: &str, wanted: &str| {
            key.bytes().filter(|byte| *byte != b'_').map(|byte| byte.to_ascii_lowercase()).eq(wanted.bytes())
        };
        let found = keys.iter().find_map(|wanted| self.object.iter().find(|(key, _)| named(key, wanted)));
        found.map(|(key, value)| (key.as_str(), value)).filter(|(_, value)| !value.is_null())
    }

    /// Returns the object with the limits, and its key; the data point itself if there is no such object.
    fn spec(&self) -> Result<(&'a str, Map<String, Value>), ModelError> {
        for wanted in SPECS {
            let Some((key, value)) = self.find(&[wanted]) else { continue };
            let place = join(self.place, key);
            match open(value.clone(), &place)? {
                Value::Object(spec) => return Ok((key, spec)),
                // An array: the values of an enum, or the labels of a bitmap.
                Value::Array(list) if wanted == "values" => {
                    let is_bitmap = self.text(&["type"]).is_some_and(|name| plain_type(&name) == "bitmap");
                    let name = if is_bitmap { "label" } else { "range" };
                    return Ok((key, Map::from_iter([(name.to_owned(), Value::Array(list))])));
                }
                Value::String(text) if text.trim().is_empty() => {}
                other => {
                    let message =
                        format!("{other} is no JSON object of limits, such as {{\"min\":0,\"max\":100}}");
                    return Err(ModelError::new(place, message));
                }
            }
        }
        // In diagnostics the key is `value`, which is the present value in other shapes.
        match self.find(&["value"]) {
            Some((key, Value::Object(spec))) => Ok((key, spec.clone())),
            Some((key, value @ Value::String(text))) if text.trim_start().starts_with('{') => {
                match open(value.clone(), &join(self.place, key))? {
                    Value::Object(spec) => Ok((key, spec)),
                    _ => Ok(("", self.object.clone())),
                }
            }
            _ => Ok(("", self.object.clone())),
        }
    }

    fn unit(&self) -> Result<Option<String>, ModelError> {
        match self.find(&["unit", "units"]) {
            Some((key, value)) if !value.is_string() => {
                Err(ModelError::new(join(self.place, key), format!("{value} is no unit, which is a text")))
            }
            _ => Ok(self.text(&["unit", "units"])),
        }
    }

    /// Refuses an unknown key that concerns limits, and an object of limits with unknown keys only. Without its limits the
    /// data point would accept every value.
    fn refuse_unknown_limits(&self, kind: &DataType, is_spec: bool) -> Result<(), ModelError> {
        let plain = |key: &str| key.replace(['_', '-'], "").to_ascii_lowercase();
        let is_limit = |key: &&String| {
            let key = plain(key);
            let known = LIMITS.contains(&key.as_str()) || OTHERS.contains(&key.as_str());
            let hints = [
                "min", "max", "range", "step", "pitch", "scale", "unit", "enum", "limit", "maxlen", "length",
            ];
            !known && hints.iter().any(|hint| key.starts_with(hint) || key.ends_with(hint))
        };
        let has_none = match kind {
            DataType::Value { .. } => self.find(&LIMITS).or(self.find(&["unit", "units"])).is_none(),
            DataType::Enum { range } => range.is_empty(),
            DataType::Bitmap { labels, maxlen } => labels.is_empty() && maxlen.is_none(),
            DataType::Bool | DataType::String { .. } | DataType::Raw { .. } => return Ok(()),
        };
        let keys = || self.object.iter().filter(|(_, value)| !value.is_null()).map(|(key, _)| key);
        let lost = keys().find(is_limit).or_else(|| {
            let is_other = |key: &&String| {
                !OTHERS.contains(&plain(key).as_str()) && !LIMITS.contains(&plain(key).as_str())
            };
            keys().find(is_other).filter(|_| is_spec && has_none)
        });
        let Some(key) = lost else { return Ok(()) };
        let known = "min, max, scale, step, unit, range, label and maxlen";
        Err(ModelError::new(
            join(self.place, key),
            format!("the limit `{key}` is not known; known are {known}"),
        ))
    }

    fn text(&self, keys: &[&str]) -> Option<String> {
        let text = self.find(keys)?.1.as_str()?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// A DP id: a whole number from 1, or its decimal digits.
    fn id(&self, key: &str, value: &Value) -> Result<u32, ModelError> {
        let id = match value {
            Value::String(text) => text.trim().parse().ok(),
            other => other.as_u64().and_then(|id| u32::try_from(id).ok()),
        };
        id.filter(|id| *id > 0).ok_or_else(|| {
            let place = if key.is_empty() { self.place.to_owned() } else { join(self.place, key) };
            ModelError::new(place, format!("{value} is no DP id, which is a whole number from 1"))
        })
    }

    /// A whole number, also as a string.
    fn number(&self, keys: &[&str]) -> Result<Option<i64>, ModelError> {
        let Some((key, value)) = self.find(keys) else { return Ok(None) };
        let text = match value {
            Value::String(text) if text.trim().is_empty() => return Ok(None),
            Value::String(text) => text.trim().to_owned(),
            other => other.to_string(),
        };
        let whole = text.strip_suffix(".0").unwrap_or(&text);
        whole.parse().map(Some).map_err(|_| {
            ModelError::new(join(self.place, key), format!("{value} is no whole number of 64 bits"))
        })
    }

    fn texts(&self, keys: &[&str]) -> Result<Vec<String>, ModelError> {
        let Some((key, value)) = self.find(keys) else { return Ok(Vec::new()) };
        let place = join(self.place, key);
        let Value::Array(items) = value else {
            return Err(ModelError::new(place, format!("{} is no list", kind_of(value))));
        };
        let text = |(at, item): (usize, &Value)| match item {
            Value::String(text) => Ok(text.clone()),
            Value::Number(number) => Ok(number.to_string()),
            Value::Bool(on) => Ok(on.to_string()),
            other => Err(ModelError::new(format!("{place}[{at}]"), format!("{} is no text", kind_of(other)))),
        };
        items.iter().enumerate().map(text).collect()
    }
}
