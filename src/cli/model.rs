//! `model`: shows a product model as a table or in its normalised form; and reads the model for every subcommand
//! that has `--model FILE`.

use std::{
    fs,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
};

use crate::{
    error::{Exit, Failure},
    io::console::{Console, WIDTH, print, wrapped},
    json::json_line,
    text::visible,
    tuya::product::{DataPoint, DataType, ModelError, Product},
    wrapping::refuse_wrapped,
};

/// Arguments of `model`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The file may be a thing model or a specification of the cloud API, a device schema, a tinytuya or localtuya map, \
a TEdge product, the documentation's table as CSV or TSV, or what this command printed. Its kind is found out by \
looking at it.

On a terminal a table is printed, in a pipe or with --json one line of JSON: {\"product_id\",\"name\",\"dps\"}. \
Each of dps has id, code, name, type, access, min, max, scale, step, unit, range, labels and maxlen; what does not \
apply, or is not known, is absent.

EXAMPLES
  tuyagw model                                    the smart water meter
  tuyagw model valve_state 18                     two of its data points
  tuyagw model --model thing-model.json           check and show another product
  tuyagw model --model spec.json --dp-map switch=1,temp=10 --json >product.json
  tuyagw model --json | jq -r '.dps[] | select(.access == \"rw\") | .code'")]
pub struct Args {
    /// Product model to show instead of the smart water meter
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// DP ids for codes, for a model without ids
    #[arg(long, value_name = "CODE=ID,…", value_delimiter = ',', value_parser = dp_id, requires = "model")]
    dp_map: Vec<(String, u32)>,

    /// Print JSON, on a terminal too
    #[arg(long)]
    json: bool,

    /// Show only these data points, by id or code
    #[arg(value_name = "DP")]
    points: Vec<String>,
}

/// Runs `model`.
pub fn run(args: Args, _console: Console) -> anyhow::Result<Exit> {
    let Args { model, dp_map, json, points } = args;
    let mut product = load_with_ids(model.as_deref(), &dp_map)?;
    if !points.is_empty() {
        let id = |name: &String| Ok(product.find(name).ok_or_else(|| unknown(name, &product))?.id);
        let wanted = points.iter().map(id).collect::<Result<Vec<u32>, Failure>>()?;
        product = product.retain(|point| wanted.contains(&point.id));
    }
    let as_json = json || !io::stdout().is_terminal();
    let output = if as_json { json_line(&product) } else { table(&product).into_bytes() };
    print(&output).map_err(|why| Failure::io(format!("cannot write to stdout: {why}")))?;
    Ok(Exit::SUCCESS)
}

/// The product of a model file; the smart water meter without one.
pub fn load(path: Option<&Path>) -> Result<Product, Failure> {
    load_with_ids(path, &[])
}

fn load_with_ids(path: Option<&Path>, ids: &[(String, u32)]) -> Result<Product, Failure> {
    let Some(path) = path else { return Ok(Product::smart_water_meter()) };
    let bytes = fs::read(path)
        .map_err(|why| Failure::io(format!("cannot read the model {}: {why}", path.display())))?;
    refuse_wrapped(&bytes, &format!("the model {}", path.display()))?;
    Product::read_with_ids(&bytes, ids).map_err(|why| {
        let failure = Failure::invalid(format!("the model {}: {why}", path.display()));
        let ModelError { hint, .. } = why;
        Failure { hint, ..failure }
    })
}

/// One `code=id` of `--dp-map`.
fn dp_id(text: &str) -> Result<(String, u32), String> {
    let (code, id) = text.split_once('=').ok_or("expected CODE=ID, such as water_flow=1")?;
    match id.trim().parse() {
        Ok(id) if id > 0 => Ok((code.trim().to_owned(), id)),
        _ => Err(format!("`{id}` is no DP id, which is a whole number from 1")),
    }
}

fn unknown(name: &str, product: &Product) -> Failure {
    let known: Vec<_> =
        product.data_points().iter().map(|point| format!("{} {}", point.id, point.code)).collect();
    let hint = if Path::new(name).is_file() {
        format!("It is a file: --model {name} reads it")
    } else {
        format!("It has {}.", known.join(", "))
    };
    Failure::invalid(format!("the product has no data point `{name}`")).hint(hint)
}

/// The longest code that does not get a line of its own.
const LONGEST_CODE: usize = 24;

/// The data points as a table of [`WIDTH`] columns, what values look like wrapped in the last column.
fn table(product: &Product) -> String {
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

/// What values of a data point look like, in words.
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

    #[test]
    fn a_dp_map_names_what_is_wrong() {
        assert_eq!(dp_id("switch=1"), Ok(("switch".to_owned(), 1)));
        assert!(dp_id("switch=0").unwrap_err().contains("`0`"));
        assert!(dp_id("switch").unwrap_err().contains("CODE=ID"));
    }

    #[test]
    fn a_wrong_file_is_named_with_its_place() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "{\n\"dps\": [}").unwrap();
        let failure = load(Some(file.path())).unwrap_err();
        assert!(failure.message.contains("line 2, column 9"), "{failure}");
        assert!(failure.message.contains(&*file.path().to_string_lossy()));
        assert!(load(Some(Path::new("no/such/file"))).unwrap_err().message.contains("no/such/file"));
    }
}
