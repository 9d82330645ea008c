//! Loads the product model of `--model FILE`.

use std::{fs, path::Path};

use crate::{
    error::Failure,
    tuya::product::{ModelError, Product},
    wrapping::refuse_wrapped,
};

/// Loads a model file; returns the smart water meter without one.
///
/// # Errors
/// A file that cannot be read, or that holds no model.
pub fn load(path: Option<&Path>) -> Result<Product, Failure> {
    load_with_ids(path, &[])
}

/// Loads a model file, with DP ids for the codes of a model without ids.
///
/// # Errors
/// As for [`load`]; or a code that the model does not have.
pub fn load_with_ids(path: Option<&Path>, ids: &[(String, u32)]) -> Result<Product, Failure> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
