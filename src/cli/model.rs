//! `model`: shows a product model as a table, or in its normalised form.

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
};

use super::values::dp_id;
use crate::{
    error::{Exit, Failure},
    io::console::{Console, print},
    json::json_line,
    run::{model_table::table, product_model::load_with_ids},
    tuya::product::Product,
};

/// Arguments of `model`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The file may be a thing model or a specification of the cloud API, a device schema, a tinytuya or localtuya map, \
a TEdge product, the documentation's table as CSV or TSV, or this command's own output. The format is \
detected.

Prints a table on a terminal, and one line of JSON in a pipe or with --json: {\"product_id\",\"name\",\"dps\"}. Each of dps \
has id, code, name, type, access, min, max, scale, step, unit, range, labels and maxlen; fields that do not apply or are \
not known are absent.

EXAMPLES
  tuyagw model                                    the smart water meter
  tuyagw model valve_state 18                     two of its data points
  tuyagw model --model thing-model.json           check and show another product
  tuyagw model --model spec.json --dp-map switch=1,temp=10 --json >product.json
  tuyagw model --json | jq -r '.dps[] | select(.access == \"rw\") | .code'")]
pub struct Args {
    /// Product model to show [default: the smart water meter]
    #[arg(long, value_name = "FILE")]
    model: Option<PathBuf>,

    /// DP ids of codes, for a model without ids
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

fn unknown(name: &str, product: &Product) -> Failure {
    let known: Vec<_> =
        product.data_points().iter().map(|point| format!("{} {}", point.id, point.code)).collect();
    let hint = if Path::new(name).is_file() {
        format!("{name} is a file: give it with --model {name}")
    } else {
        format!("The product has {}", known.join(", "))
    };
    Failure::invalid(format!("the product has no data point `{name}`")).hint(hint)
}
