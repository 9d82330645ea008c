//! Product models of all shapes: each data point of a model is found by its id and by its code, and checks values.

use tuyagw::{json::Json, tuya::product::Product};

/// Panics where the promise above is broken.
pub fn check(data: &[u8]) {
    let Ok(product) = Product::read(data) else { return };
    for point in product.data_points() {
        let found = product.find(&point.id.to_string()).expect("a data point is found by its id");
        assert_eq!(found.id, point.id);
        assert!(product.find(&point.code).is_some());
        for text in ["1", "-1.5e3", "true", "\"a\"", "null", "[]"] {
            let value = Json::parse(text).expect("JSON");
            if let Ok(accepted) = point.accept(&value) {
                assert!(point.accept(&accepted).is_ok(), "{point:?}: {value}");
            }
        }
        let _ = point.from_text("12.345m3");
    }
}
