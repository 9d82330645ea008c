//! The embedded model, read fast: every report begins with it. [`super::Product::read`] reads the same form from
//! files, with errors that name the place.

use serde::Deserialize;

use super::{AccessMode, DataPoint, DataType, Product};

#[derive(Deserialize)]
struct Model<'a> {
    name: Option<&'a str>,
    #[serde(borrow)]
    dps: Vec<Point<'a>>,
}

#[derive(Deserialize)]
struct Point<'a> {
    id: &'a str,
    code: &'a str,
    name: Option<&'a str>,
    #[serde(rename = "type")]
    kind: &'a str,
    access: &'a str,
    min: Option<i64>,
    max: Option<i64>,
    scale: Option<u32>,
    step: Option<u64>,
    unit: Option<&'a str>,
    range: Option<Vec<&'a str>>,
}

/// Reads a model of ours; `None` for what only a stranger's could hold.
pub(super) fn read(bytes: &[u8]) -> Option<Product> {
    let model: Model<'_> = serde_json::from_slice(bytes).ok()?;
    let data_points = model.dps.iter().map(point).collect::<Option<_>>()?;
    Some(Product { id: None, name: model.name.map(str::to_owned), data_points })
}

fn point(point: &Point<'_>) -> Option<DataPoint> {
    let kind = match point.kind {
        "bool" => DataType::Bool,
        "value" => DataType::Value { min: point.min, max: point.max, scale: point.scale?, step: point.step? },
        "enum" => {
            DataType::Enum { range: point.range.as_ref()?.iter().map(|text| (*text).to_owned()).collect() }
        }
        "string" => DataType::String { maxlen: None },
        _ => return None,
    };
    let access = match point.access {
        "ro" => AccessMode::ReadOnly,
        "rw" => AccessMode::ReadWrite,
        _ => return None,
    };
    Some(DataPoint {
        id: point.id.parse().ok()?,
        code: point.code.to_owned(),
        name: point.name.map(str::to_owned),
        kind,
        access,
        unit: point.unit.map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_way_and_the_general_one_read_the_same() {
        let bytes = include_bytes!("smart_water_meter.json");
        assert_eq!(read(bytes), Some(Product::read(bytes).unwrap()));
    }
}
