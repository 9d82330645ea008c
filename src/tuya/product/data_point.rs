//! One data point: its id and code, the kind of its values, and who may read and write it.

use serde::{Serialize, Serializer};

/// One data point of a product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataPoint {
    /// Its number, 1 or more; numbers may be sparse. On the wire it is a decimal string.
    pub id: u32,
    /// Its identifier, such as `water_flow`; `dp_` and the id if the model has none.
    pub code: String,
    /// Its name for people.
    pub name: Option<String>,
    /// The type of its values.
    pub kind: DataType,
    /// Who may read and write it.
    pub access: AccessMode,
    /// The unit of its values after scaling.
    pub unit: Option<String>,
}

/// The type of a data point's values (page, column "Data type").
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataType {
    /// True or false.
    Bool,
    /// An integer: the real value times ten to the power of the scale.
    Value {
        /// The smallest integer, if the model defines it.
        min: Option<i64>,
        /// The greatest integer, if the model defines it.
        max: Option<i64>,
        /// How many decimal places the integer carries, 0 to 18.
        scale: u32,
        /// The distance between neighbouring values, 1 or more; shown, not checked, as the edge checks none.
        step: u64,
    },
    /// One text of a list.
    Enum {
        /// The list; empty if the model has none, which allows any text.
        range: Vec<String>,
    },
    /// A text.
    String {
        /// The greatest length in bytes, if the model defines it.
        maxlen: Option<u32>,
    },
    /// Bytes as base64, or a text of its own format, such as JSON.
    Raw {
        /// The greatest number of bytes, if the model defines it.
        maxlen: Option<u32>,
    },
    /// A set of faults, as an integer with one bit for each.
    Bitmap {
        /// The meanings of the bits, lowest first; empty if the model does not define them.
        labels: Vec<String>,
        /// The number of bits, if the model defines it.
        maxlen: Option<u32>,
    },
}

impl DataType {
    /// The vendor's word for the type.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Value { .. } => "value",
            Self::Enum { .. } => "enum",
            Self::String { .. } => "string",
            Self::Raw { .. } => "raw",
            Self::Bitmap { .. } => "bitmap",
        }
    }
}

/// Who may read and write a data point (page, column "Data transfer type").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccessMode {
    /// Reported by the device only: `ro`.
    ReadOnly,
    /// Reported by the device and commanded by the platform: `rw`.
    ReadWrite,
    /// Commanded by the platform only: `wo`.
    WriteOnly,
}

impl AccessMode {
    /// The vendor's two letters: `ro`, `rw` or `wo`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "ro",
            Self::ReadWrite => "rw",
            Self::WriteOnly => "wo",
        }
    }
}

impl DataPoint {
    /// Whether a device may report it.
    #[must_use]
    pub fn readable(&self) -> bool {
        self.access != AccessMode::WriteOnly
    }

    /// Whether the platform may command it.
    #[must_use]
    pub fn writable(&self) -> bool {
        self.access != AccessMode::ReadOnly
    }
}

impl Serialize for DataPoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Row::from(self).serialize(serializer)
    }
}

/// A data point in the normalised form; a key that does not apply, or is not known, is absent.
#[derive(Default, Serialize)]
struct Row<'a> {
    id: String,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    r#type: &'static str,
    access: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    min: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scale: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    range: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    labels: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    maxlen: Option<u32>,
}

impl<'a> From<&'a DataPoint> for Row<'a> {
    fn from(point: &'a DataPoint) -> Self {
        let row = Self {
            id: point.id.to_string(),
            code: &point.code,
            name: point.name.as_deref(),
            r#type: point.kind.name(),
            access: point.access.name(),
            unit: point.unit.as_deref(),
            ..Self::default()
        };
        match &point.kind {
            DataType::Bool => row,
            &DataType::Value { min, max, scale, step } => {
                Self { min, max, scale: Some(scale), step: Some(step), ..row }
            }
            DataType::Enum { range } => Self { range, ..row },
            &DataType::String { maxlen } | &DataType::Raw { maxlen } => Self { maxlen, ..row },
            DataType::Bitmap { labels, maxlen } => Self { labels, maxlen: *maxlen, ..row },
        }
    }
}
