//! Runs every recipe of `docs/recipes` as its page says: inside `tuyagw edge -- sh`, in an empty folder.

use std::{fs, path::Path, process::Command};

use super::{generated::root, process::tuyagw};

#[test]
fn every_recipe_runs_and_is_on_the_page() {
    let folder = root().join("docs/recipes");
    let page = fs::read_to_string(folder.join("README.md")).unwrap();
    let names: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| Path::new(name).extension().is_some_and(|extension| extension == "sh"))
        .collect();
    assert!(names.len() >= 5, "{names:?}");
    let has_jq = Command::new("jq").arg("--version").output().is_ok();
    assert!(has_jq || std::env::var_os("CI").is_none(), "the recipes need jq");
    std::thread::scope(|scope| {
        for name in &names {
            let script = folder.join(name);
            assert!(page.contains(&format!("({name})")), "docs/recipes/README.md does not name {name}");
            let text = fs::read_to_string(&script).unwrap();
            if text.contains("jq ") && !has_jq {
                continue;
            }
            scope.spawn(move || {
                let empty = tempfile::tempdir().unwrap();
                let output = tuyagw()
                    .args(["edge", "--", "sh"])
                    .arg(&script)
                    .current_dir(&empty)
                    .env("TMPDIR", empty.path())
                    .output()
                    .unwrap();
                let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let (stdout, stderr) = (said(&output.stdout), said(&output.stderr));
                assert!(output.status.success(), "{name}: {}\n{stdout}\n{stderr}", output.status);
            });
        }
    });
}
