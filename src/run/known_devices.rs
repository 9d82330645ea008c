//! The file of `listen --devices`: the devices that exist.

use std::{collections::HashSet, path::Path};

use serde::Deserialize;

use crate::{error::Failure, io::input::text_of, request::identifier, text::is_blank};

/// Reads the cids of a file of JSON Lines, such as the inputs of `sync` or the edge's registry.
///
/// # Errors
/// A file that cannot be read, or a line without a valid cid.
pub fn read_devices(path: &Path) -> Result<HashSet<String>, Failure> {
    #[derive(Deserialize)]
    struct DeviceLine {
        cid: String,
    }
    let text = text_of(path, "--devices: ")?;
    let lines = text.lines().enumerate();
    let lines = lines.map(|(n, line)| (n, line.trim_matches(is_blank))).filter(|(_, line)| !line.is_empty());
    lines
        .map(|(n, line)| {
            let wrong = |why: String| {
                Failure::invalid(format!("--devices: {}, line {}: {why}", path.display(), n + 1))
                    .hint("Each line is a JSON object with a cid, as sync takes it")
            };
            let line: DeviceLine = serde_json::from_str(line).map_err(|why| wrong(why.to_string()))?;
            identifier::check("cid", &line.cid).map_err(wrong)?;
            Ok(line.cid)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn each_line_has_a_cid_and_a_wrong_one_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "{\"cid\":\"m1\",\"product_id\":\"p\"}\n\n{\"cid\":\"m2\"}\n").unwrap();
        assert_eq!(read_devices(file.path()).unwrap(), HashSet::from(["m1".to_owned(), "m2".to_owned()]));
        for line in ["{\"cid\":7}", "{}", "m1"] {
            fs::write(file.path(), format!("{{\"cid\":\"m1\"}}\n{line}\n")).unwrap();
            let failure = read_devices(file.path()).unwrap_err();
            assert!(failure.message.contains("line 2"), "{line}: {failure}");
        }
    }
}
