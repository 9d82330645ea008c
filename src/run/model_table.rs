//! A product model as a table for a terminal.

use crate::{
    io::console::{WIDTH, wrapped},
    text::visible,
    tuya::product::{DataPoint, DataType, Product},
};

/// The longest code that does not get a line of its own.
const LONGEST_CODE: usize = 24;

/// Returns the data points as a table of [`WIDTH`] columns; the last column describes the values, wrapped.
#[must_use]
pub fn table(product: &Product) -> String {
    let points = product.data_points();
    let mut text = String::new();
    let title: Vec<_> = [product.name.as_deref(), product.id.as_deref()].into_iter().flatten().collect();
    if !title.is_empty() {
        text.push_str(&format!("{}\n\n", visible(&title.join(", "))));
    }
    let width =
        |lengths: &mut dyn Iterator<Item = usize>, header: &str| lengths.fold(header.len(), usize::max);
    let ids = width(&mut points.iter().map(|point| point.id.to_string().len()), "ID");
    let codes =
        points.iter().map(|point| point.code.chars().count()).filter(|length| *length <= LONGEST_CODE);
    let codes = width(&mut { codes }, "CODE");
    text.push_str(&format!("{:>ids$}  {:codes$}  {:6}  ACCESS  VALUES\n", "ID", "CODE", "TYPE"));
    let indent = ids + 2 + codes + 2 + 6 + 2 + 6 + 2;
    for point in points {
        let code = visible(&point.code);
        text.push_str(&format!("{:>ids$}  {code:codes$}", point.id));
        if code.chars().count() > codes {
            text.push_str(&format!("\n{:1$}", "", ids + 2 + codes));
        }
        text.push_str(&format!("  {:6}  {:6}", point.kind.name(), point.access.name()));
        let values = values(point);
        for (at, line) in wrapped(&visible(&values), WIDTH - indent).iter().enumerate() {
            text.push_str(&if at == 0 { format!("  {line}") } else { format!("\n{:indent$}{line}", "") });
        }
        text.push('\n');
    }
    let scaled = |point: &&DataPoint| matches!(point.kind, DataType::Value { scale: 1.., .. });
    if let Some(point) = points.iter().find(scaled) {
        let (number, code) = (point.sample(), &point.code);
        let shown = point.shown(number);
        text.push_str(&format!("\nA value is sent as an integer: {code} of {number} is {shown}.\n"));
    }
    text
}

/// Describes the values of a data point.
fn values(point: &DataPoint) -> String {
    let bytes = |what: &str, maxlen: Option<u32>| match maxlen {
        Some(maxlen) => format!("{what} of at most {maxlen} bytes"),
        None => what.to_owned(),
    };
    match &point.kind {
        DataType::Bool => "true, false".to_owned(),
        &DataType::Value { min, max, scale, step } => {
            let end = |end: Option<i64>| end.map_or("any".to_owned(), |end| end.to_string());
            let mut text = format!("{} to {}", end(min), end(max));
            if step > 1 {
                text.push_str(&format!(" by {step}"));
            }
            if scale > 0 {
                text.push_str(&format!(", scale {scale}"));
            }
            if let Some(unit) = &point.unit {
                text.push_str(&format!(", {unit}"));
            }
            text
        }
        DataType::Enum { range } if range.is_empty() => "any text".to_owned(),
        DataType::Enum { range } => range.join(", "),
        DataType::String { maxlen } => bytes("text", *maxlen),
        DataType::Raw { maxlen } => bytes("base64", *maxlen),
        DataType::Bitmap { labels, maxlen } if labels.is_empty() => {
            maxlen.map_or("one bit for each fault".to_owned(), |bits| format!("{bits} bits"))
        }
        DataType::Bitmap { labels, .. } => labels.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_fits_a_terminal_of_80_columns() {
        let text = table(&Product::smart_water_meter());
        let wide: Vec<_> =
            text.lines().filter(|line| line.chars().count() > WIDTH || line.ends_with(' ')).collect();
        assert!(wide.is_empty(), "{wide:#?}");
        assert!(
            text.contains("\n 1  water_flow           value   ro      0 to 999999999, scale 3, m³\n"),
            "{text}"
        );
        assert!(text.contains("power\n16  hot_stall_userdata"), "{text}");
    }

    #[test]
    fn long_codes_and_control_characters_do_not_break_the_table() {
        let model = r#"{"dps":[{"id":1,"code":"a_code_that_is_much_longer_than_others","type":"enum",
            "range":["a\u001b[31m","b"]},{"id":1024,"code":"s","type":"string"}]}"#;
        let text = table(&Product::read(model.as_bytes()).unwrap());
        assert_eq!(
            text,
            "  ID  CODE  TYPE    ACCESS  VALUES\n   1  a_code_that_is_much_longer_than_others\n            \
             enum    rw      a\\u{1b}[31m, b\n1024  s     string  rw      text\n"
        );
    }
}
