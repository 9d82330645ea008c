//! Types, limits and access in a model's own words.

use crate::tuya::product::data_point::{AccessMode, DataType};

/// The limits of a data point's values in a model, independent of their names there.
#[derive(Debug, Default)]
pub(super) struct ValueLimits {
    pub(super) min: Option<i64>,
    pub(super) max: Option<i64>,
    pub(super) scale: Option<i64>,
    pub(super) step: Option<i64>,
    pub(super) range: Vec<String>,
    pub(super) labels: Vec<String>,
    pub(super) maxlen: Option<i64>,
}

impl ValueLimits {
    /// Returns the data type for a type's name and these limits; the error names limits that contradict each other.
    pub(super) fn kind(self, type_name: &str) -> Result<DataType, String> {
        let maxlen = match self.maxlen {
            // On the platform a length of 0 means that there is no limit.
            None | Some(0) => None,
            Some(length) => {
                Some(u32::try_from(length).map_err(|_| format!("the length {length} is impossible"))?)
            }
        };
        let kind = plain_type(type_name);
        if matches!(kind, "enum") && self.range.is_empty() && (self.min.is_some() || self.max.is_some()) {
            return Err("an enum has a list of values, not a minimum and a maximum".to_owned());
        }
        Ok(match kind {
            "bool" => DataType::Bool,
            "value" => {
                let (min, max) = self.ends()?;
                if let (Some(min), Some(max)) = (min, max)
                    && min > max
                {
                    return Err(format!("the minimum {min} is above the maximum {max}"));
                }
                let scale = self.scale.unwrap_or(0);
                let scale = u32::try_from(scale).ok().filter(|scale| *scale <= 18);
                // Official samples have a step of 0.
                let step = u64::try_from(self.step.unwrap_or(1)).ok().map(|step| step.max(1));
                DataType::Value {
                    min,
                    max,
                    scale: scale.ok_or("the scale is not within 0 to 18")?,
                    step: step.ok_or("the step is negative")?,
                }
            }
            "enum" => DataType::Enum { range: self.range },
            "string" => DataType::String { maxlen },
            "raw" => DataType::Raw { maxlen },
            "bitmap" => DataType::Bitmap { labels: self.labels, maxlen },
            _ => {
                return Err(format!(
                    "`{type_name}` is no DP type; an Edge Gateway in DP mode has value, bool, enum, string, raw and \
                     fault (bitmap)"
                ));
            }
        })
    }

    /// Returns the smallest and the greatest value; some models have a range of two numbers.
    pub(super) fn ends(&self) -> Result<(Option<i64>, Option<i64>), String> {
        let numbers = self.range.iter().map(|end| end.trim().parse()).collect::<Result<Vec<i64>, _>>();
        match (numbers.as_deref(), self.min, self.max) {
            (Ok([]), min, max) => Ok((min, max)),
            (Ok(&[min, max]), None, None) => Ok((Some(min), Some(max))),
            _ => Err(format!("the range of a value is its minimum and its maximum, not {:?}", self.range)),
        }
    }
}

/// Returns an Edge Gateway's name of a type; empty if the name is unknown.
pub(super) fn plain_type(name: &str) -> &'static str {
    let name = name.trim().to_ascii_lowercase();
    let name = name.strip_suffix("type").unwrap_or(&name).trim_end_matches([' ', '_', '-']);
    match name {
        "bool" | "boolean" => "bool",
        "value" | "integer" | "int" | "number" | "numeric" | "numerical" | "numeric value"
        | "numerical value" => "value",
        "enum" | "enumeration" | "enumerated" | "enum value" | "enumeration value" => "enum",
        "string" | "str" | "text" | "json" | "char" | "character" => "string",
        "raw" | "transparent" | "transparent transmission" | "passthrough" => "raw",
        "bitmap" | "fault" | "failure" => "bitmap",
        _ => "",
    }
}

/// Returns the access that a model's word means.
pub(super) fn access(text: &str) -> Option<AccessMode> {
    let (mut reads, mut writes, mut only) = (false, false, false);
    // The platform's word for send only is wr, that of the vendor's driver SDK wo.
    if text.trim().eq_ignore_ascii_case("wr") {
        return Some(AccessMode::WriteOnly);
    }
    for word in text.to_ascii_lowercase().split(|c: char| !c.is_alphanumeric()) {
        match word {
            "report" | "reports" | "reported" | "reportable" | "reporting" | "read" | "r" | "upload"
            | "可上报" => {
                reads = true;
            }
            "send" | "sent" | "sending" | "issue" | "issued" | "issuable" | "deliver" | "delivered"
            | "distribute" | "distributed" | "distribution" | "distributable" | "release" | "released"
            | "write" | "w" | "可下发" => {
                writes = true;
            }
            "rw" | "readwrite" | "可下发可上报" => (reads, writes) = (true, true),
            "ro" | "readonly" | "只上报" | "仅上报" => (reads, only) = (true, true),
            "wo" | "wr" | "writeonly" | "只下发" | "仅下发" => (writes, only) = (true, true),
            "only" => only = true,
            "" | "and" | "or" | "can" | "be" | "data" | "both" => {}
            _ => return None,
        }
    }
    match (reads, writes) {
        (true, true) if !only => Some(AccessMode::ReadWrite),
        (true, false) => Some(AccessMode::ReadOnly),
        (false, true) => Some(AccessMode::WriteOnly),
        _ => None,
    }
}
