//! A product's data points (page, "Standard property values of a smart water meter"): what a value of each must
//! look like, and the model files that users have of their products.
//!
//! Pure: bytes and JSON text in, values and reasons out.

mod builtin;
mod data_point;
mod model;
mod value;

pub use data_point::{AccessMode, DataPoint, DataType};
pub use model::ModelError;
pub use value::{ValueEncoding, ValueError};

use serde::Serialize;

use crate::tuya::ResultCode;

/// A product: its data points, by ascending id.
///
/// Serialised it is the normalised form, which [`Product::read`] reads back; unknown fields are absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Product {
    /// The product's id on the platform, if the model gives one.
    #[serde(rename = "product_id", skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The product's name, if the model gives one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(rename = "dps")]
    data_points: Vec<DataPoint>,
}

impl Product {
    /// The smart water meter of the page: 18 data points.
    ///
    /// Volumes have scale 3, which the page's table leaves out: 12345 is 12.345 m³.
    #[must_use]
    pub fn smart_water_meter() -> Self {
        let name = Some(builtin::NAME.to_owned());
        Self { id: None, name, data_points: builtin::data_points() }
    }

    /// Reads a product model; the shape of the file is found out by looking at it.
    ///
    /// Understood are thing models, specifications, device schemas, DP maps, TEdge products, the documentation's
    /// table as CSV or TSV, and the normalised form.
    pub fn read(bytes: &[u8]) -> Result<Self, ModelError> {
        Self::read_with_ids(bytes, &[])
    }

    /// Reads a product model, with DP ids for codes: for a model without ids, or in place of those it has.
    pub fn read_with_ids(bytes: &[u8], ids: &[(String, u32)]) -> Result<Self, ModelError> {
        let model::ParsedModel { id, name, drafts } = model::read(bytes)?;
        Ok(Self { id, name, data_points: model::assign_ids(drafts, ids)? })
    }

    /// The data point with this id, a decimal number, or this code.
    #[must_use]
    pub fn find(&self, id_or_code: &str) -> Option<&DataPoint> {
        // An id is written one way only: "01" and "+1" are none.
        if matches!(id_or_code.as_bytes(), [b'1'..=b'9', ..])
            && let Ok(id) = id_or_code.parse::<u32>()
        {
            return self
                .data_points
                .binary_search_by_key(&id, |point| point.id)
                .ok()
                .map(|at| &self.data_points[at]);
        }
        self.data_points.iter().find(|point| point.code == id_or_code)
    }

    /// The data point that a report is about: it must exist, and a device may report it; else 2002.
    pub fn reported(&self, id_or_code: &str) -> Result<&DataPoint, ValueError> {
        self.supported(id_or_code, DataPoint::readable, "may be commanded, not reported")
    }

    /// The data point that a command is about: it must exist, and the platform may command it; else 2002.
    pub fn commanded(&self, id_or_code: &str) -> Result<&DataPoint, ValueError> {
        self.supported(id_or_code, DataPoint::writable, "may be reported, not commanded")
    }

    /// Every data point, by ascending id.
    #[must_use]
    pub fn data_points(&self) -> &[DataPoint] {
        &self.data_points
    }

    fn supported(
        &self,
        id_or_code: &str,
        allows: impl Fn(&DataPoint) -> bool,
        otherwise: &str,
    ) -> Result<&DataPoint, ValueError> {
        let not_supported = |message| ValueError { code: ResultCode::NOT_SUPPORTED, message };
        let Some(point) = self.find(id_or_code) else {
            let name = value::excerpt(id_or_code);
            return Err(not_supported(format!(
                "the product has no data point `{name}`; `tuyagw model` lists those it has"
            )));
        };
        if allows(point) {
            return Ok(point);
        }
        Err(not_supported(format!("{} is {}: it {otherwise}", point.label(), point.access.name())))
    }

    /// The same product with those data points only that `keep` says.
    #[must_use]
    pub fn retain(mut self, keep: impl FnMut(&DataPoint) -> bool) -> Self {
        self.data_points.retain(keep);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_water_meter_is_the_page_s() {
        let product = Product::smart_water_meter();
        let ids: Vec<_> = product.data_points().iter().map(|point| point.id).collect();
        assert_eq!(ids, (1..=18).collect::<Vec<_>>());
        let page = Product::read(include_bytes!("../../../tests/models/water-meter-table.csv")).unwrap();
        for (ours, theirs) in product.data_points().iter().zip(page.data_points()) {
            assert_eq!((&ours.code, &ours.name, ours.access), (&theirs.code, &theirs.name, theirs.access));
            match (&ours.kind, &theirs.kind) {
                (
                    &DataType::Value { min, max, scale, step },
                    &DataType::Value { min: page_min, max: page_max, step: page_step, .. },
                ) => {
                    assert_eq!((min, max, step), (page_min, page_max, page_step));
                    // The page does not say that volumes are sent in thousandths.
                    assert_eq!(scale, if ours.unit.as_deref() == Some("%") { 0 } else { 3 });
                }
                (ours, theirs) => assert_eq!(ours, theirs),
            }
        }
    }

    #[test]
    fn the_embedded_table_equals_the_file_in_the_normalised_form() {
        let file = include_str!("smart_water_meter.json");
        let product = Product::smart_water_meter();
        assert_eq!(Product::read(file.as_bytes()).unwrap(), product);
        let file: serde_json::Value = serde_json::from_str(file).unwrap();
        assert_eq!(serde_json::to_string(&product).unwrap(), file.to_string());
    }

    #[test]
    fn a_data_point_is_found_by_id_and_by_code() {
        let product = Product::smart_water_meter();
        assert_eq!(product.find("9").unwrap().code, "valve_state");
        assert_eq!(product.find("valve_state").unwrap().id, 9);
        for unknown in ["", "0", "19", "01", "+1", " 1", "1.0", "4294967297", "Valve_state", "valve"] {
            assert_eq!(product.find(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn access_says_what_may_be_reported_and_commanded() {
        let access = |name: &str| {
            let model = format!(r#"{{"dps":[{{"id":7,"code":"a","type":"bool","access":"{name}"}}]}}"#);
            let product = Product::read(model.as_bytes()).unwrap();
            [product.reported("a"), product.commanded("7")].map(|found| found.map(|point| point.id))
        };
        let refused = |message: &str| Err(ValueError { code: ResultCode(2002), message: message.to_owned() });
        assert_eq!(access("rw"), [Ok(7), Ok(7)]);
        assert_eq!(access("ro"), [Ok(7), refused("DP 7 a is ro: it may be reported, not commanded")]);
        assert_eq!(access("wo"), [refused("DP 7 a is wo: it may be commanded, not reported"), Ok(7)]);
        let unknown = Product::smart_water_meter().commanded("19").map(|point| point.id);
        assert_eq!(unknown, refused("the product has no data point `19`; `tuyagw model` lists those it has"));
    }
}
