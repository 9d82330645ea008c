//! Product models of all shapes: each data point of what was read is found by its id and by its code, and judges values.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use tuyagw::product::Product;

fuzz_target!(|data: &[u8]| {
    let Ok(product) = Product::read(data) else { return };
    for point in product.data_points() {
        let found = product.find(&point.id.to_string()).expect("a data point is found by its id");
        assert_eq!(found.id, point.id);
        assert!(product.find(&point.code).is_some());
        for text in ["1", "-1.5e3", "true", "\"a\"", "null", "[]"] {
            let value = RawValue::from_string(text.to_owned()).expect("JSON");
            if let Ok(accepted) = point.accept(&value) {
                assert!(point.accept(&accepted).is_ok(), "{point:?}: {value}");
            }
        }
        let _ = point.from_text("12.345m3");
    }
});
