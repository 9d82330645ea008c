//! Tables as spreadsheets write them, ids as they damage them, and files in a wrapping that is not read.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _, unix::net::UnixStream},
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    process::{Ended, ended, run, run_with, tuyagw},
    site::{Site, accounted, all_accepted},
};

/// The devices that the edge was asked to synchronise, by ascending cid.
fn synchronised(site: &mut Site) -> Vec<Value> {
    let mut sent: Vec<_> =
        site.records_of("sync").into_iter().map(|record| record["payload"]["param"].clone()).collect();
    sent.sort_by_key(|param| param["cid"].to_string());
    sent
}

/// The lines of the input that have a result, in its order.
fn lines_of(ended: &Ended) -> Vec<u64> {
    ended.lines.iter().map(|line| line["line"].as_u64().unwrap()).collect()
}

#[test]
fn a_repeated_csv_header_makes_no_device() {
    let mut site = Site::start(&[]);
    let joined =
        "cid,product_id\na,p\n\u{feff}\"product_id\",\"cid\"\np,b\nproduct_id,cid,device_name\nq,c,Hall\n";
    let file = site.write("joined.csv", joined);
    let ended = site.run("sync", &["--ordered", &file]);
    all_accepted(&ended, 3);
    assert_eq!(lines_of(&ended), [2, 4, 6]);
    for line in [3, 5] {
        assert!(
            ended.stderr.contains(&format!("warning: {file}: line {line} repeats the header")),
            "{ended:#?}"
        );
    }
    let device = |cid: &str, product: &str, name: &str| json!({"cid": cid, "product_id": product, "comm_type": "mqtt", "device_name": name});
    assert_eq!(
        synchronised(&mut site),
        [device("a", "p", "a"), device("b", "p", "b"), device("c", "q", "Hall")]
    );
}

#[test]
fn padding_of_spreadsheet_cells_is_removed() {
    let mut site = Site::start(&[]);
    let file = site.write(
        "german.csv",
        "\u{feff}sep=;\r\n cid ; product_id;device_name;\r\na ; p;\" Hall; cold \" ;\r\n;;;\r\n \u{a0};\"\";;;;\r\n\u{a0}b;p\u{200b};;\r\n",
    );
    let ended = site.run("sync", &["--ordered", &file]);
    all_accepted(&ended, 2);
    assert_eq!(lines_of(&ended), [3, 6]);
    let tabs = site.write("tabs.tsv", "cid\tproduct_id\nc\tp\n");
    all_accepted(&site.run("sync", &[&tabs]), 1);
    let named = |cid: &str, name: &str| json!({"cid": cid, "product_id": "p", "comm_type": "mqtt", "device_name": name});
    assert_eq!(synchronised(&mut site), [named("a", "Hall; cold"), named("b", "b"), named("c", "c")]);
}

#[test]
fn damaged_ids_are_invalid_by_line_and_field_and_never_sent() {
    let mut site = Site::start(&[]);
    site.sync(1);
    let csv = "cid,product_id,device_server_id,device_name\n8.66123E+14,p,,\nx,8E+20,,\ny,p,\"1,5E+11\",\n#N/A,p,,\nz,p,,#REF!\n";
    let outcomes = |ended: &Ended| -> Vec<(Option<u64>, String)> {
        let outcome = |line: &Value| {
            assert_eq!((&line["ok"], &line["error"]), (&json!(false), &json!("invalid")), "{line}");
            (line["line"].as_u64(), line["field"].as_str().unwrap_or_default().to_owned())
        };
        ended.lines.iter().map(outcome).collect()
    };
    let ended = site.run_with("sync", &["--ordered", "--format", "csv"], csv);
    let expected = [(2, "cid"), (3, "product_id"), (4, "device_server_id"), (5, "cid"), (6, "device_name")];
    assert_eq!(outcomes(&ended), expected.map(|(line, field)| (Some(line), field.to_owned())));
    assert_eq!(ended.code, Some(2));
    for (subcommand, args, stdin, field) in [
        ("sync", &["-"][..], r#"{"cid":"a ","product_id":"p"}"#, "cid"),
        ("sync", &["-"], "{\"cid\":\"a\",\"product_id\":\"\u{a0}p\"}", "product_id"),
        ("sync", &["-"], "{\"cid\":\"a\u{200b}\",\"product_id\":\"p\"}", "cid"),
        ("sync", &["-"], r#"{"t":1,"request_id":"r","param":{"cid":"1.5E+14","product_id":"p"}}"#, "cid"),
        ("sync", &["--cid", " a", "--product-id", "p"], "", "cid"),
        ("sync", &["--cid", "a", "--product-id", "p\u{a0}"], "", "product_id"),
        ("report", &["-"], r#"{"cid":"m1 ","id":"1","value":1}"#, "cid"),
        ("report", &["--cid", "m1 ", "water_flow=1"], "", "cid"),
        ("report", &["-"], "{\"param\":{\"cid\":\"\u{feff}m1\",\"id\":\"1\",\"value\":1}}", "cid"),
        ("status", &["-"], r#"{"cid":" m1","status":true}"#, "cid"),
        ("status", &["-"], "{\"param\":[{\"cid\":\"#N/A\",\"status\":true}]}", "cid"),
    ] {
        let ended = site.run_with(subcommand, args, stdin);
        let line = (!stdin.is_empty()).then_some(1);
        assert_eq!(
            (outcomes(&ended), ended.code),
            (vec![(line, field.to_owned())], Some(2)),
            "{args:?} {stdin}"
        );
    }
    // Without the checks, the value is sent.
    all_accepted(&site.run("sync", &["--no-check", "--cid", "8E+20", "--product-id", "p"]), 1);
    // The space after a comma of a list is none of a cid.
    let ended = site.run("status", &["--online", "m1, m2", "--offline", " m3 "]);
    all_accepted(&ended, 3);
    let records = site.records();
    let of = |kind: &str| records.iter().filter(|record| record["kind"] == kind).collect::<Vec<_>>();
    assert_eq!((of("sync").len(), of("report").len(), of("status").len()), (2, 0, 1));
    let cids: Vec<_> =
        of("status")[0]["payload"]["param"].as_array().unwrap().iter().map(|status| &status["cid"]).collect();
    assert_eq!(cids, ["m1", "m2", "m3"]);
}

const GZIP: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\xabVJ\xceLQ\xb2R\xca\n";
const XLSX: &[u8] =
    b"PK\x03\x04\x14\0\0\0\0\0\0\0!\0\0\0\0\0\0\0\0\0\0\0\0\0\x13\0\0\0[Content_Types].xml<?xml version=\"1.0\"?>\n";

/// No line of a result, one error that names the file and its format, and a hint.
fn refused(ended: &Ended, name: &str, format: &str) {
    assert_eq!((ended.code, ended.lines.len()), (Some(2), 0), "{ended:#?}");
    let errors: Vec<_> = ended.stderr.lines().filter(|line| line.starts_with("error:")).collect();
    assert!(matches!(errors[..], [error] if error.contains(name) && error.contains(format)), "{ended:#?}");
    assert!(ended.stderr.lines().any(|line| line.starts_with("hint:")), "{ended:#?}");
}

#[test]
fn a_wrapped_file_is_refused_with_its_name_and_format() {
    let mut site = Site::start(&[]);
    let utf16: Vec<u8> = "{\"cid\":\"a\"}\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (bytes, format) in [(GZIP, "gzip"), (XLSX, "an Excel workbook"), (&utf16, "UTF-16")] {
        for (name, args) in [("devices.csv", &[][..]), ("devices.jsonl", &["--format", "json"])] {
            let file = site.write(name, bytes);
            for subcommand in ["sync", "report", "status"] {
                refused(&site.run(subcommand, &[args, &[&file]].concat()), name, format);
                refused(&site.run_with(subcommand, &[args, &["-"]].concat(), bytes), "stdin", format);
            }
            refused(&run(&mut site.command(&[&file])), name, format);
            refused(&site.run("report", &["--model", &file, "--cid", "a", "b=1"]), name, format);
            refused(&site.run("listen", &["--answer", "success", "--devices", &file]), name, format);
            refused(&run(tuyagw().args(["password", &file])), name, format);
            refused(&run_with(tuyagw().args(["password", "-"]), bytes), "stdin", format);
            refused(
                &run(tuyagw().args(["edge", "--listen", "127.0.0.1:0", "--devices", &file])),
                name,
                format,
            );
            assert_eq!(fs::read(site.path(name)).unwrap(), bytes, "the edge repairs no foreign file");
        }
        let ended = site.run_with("listen", &["--stdin"], bytes);
        refused(&ended, "stdin", format);
    }
    assert!(site.records_of("sync").is_empty());
}

#[test]
fn a_file_may_have_any_name() {
    let mut site = Site::start(&[]);
    site.sync(1);
    let path = site.path("").join(OsStr::from_bytes(b"caf\xe9.jsonl"));
    fs::write(&path, "{\"cid\":\"m1\",\"id\":\"1\",\"value\":5}\n").unwrap();
    all_accepted(&run(site.gateway("report", &[]).arg(&path)), 1);
    let ended = run(site.command(&[]).arg(&path));
    assert_eq!((ended.lines.len(), ended.code), (1, Some(2)), "a reading is no command: {ended:#?}");
    assert_eq!(ended.line()["line"], 1);
    assert_eq!(site.records_of("report").len(), 1);
}

/// Another program of the same shell may have set `O_NONBLOCK` for the file that is stdin.
#[test]
fn a_non_blocking_stdin_is_read_to_its_end() {
    let site = Site::start(&[]);
    let talk = |command: &mut Command, first: &str, second: &str| {
        let (theirs, mut ours) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let stdin = Stdio::from(OwnedFd::from(theirs));
        let mut child = command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // The child may have no other end of it, or it would never see the end.
        *command = Command::new("true");
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut result = String::new();
        ours.write_all(first.as_bytes()).unwrap();
        stdout.read_line(&mut result).unwrap();
        // Having answered, it waits for more.
        ours.write_all(second.as_bytes()).unwrap();
        stdout.read_line(&mut result).unwrap();
        drop(ours);
        (result, ended(child))
    };
    let sync = |cid: &str| format!("{{\"cid\":\"{cid}\",\"product_id\":\"p\"}}\n");
    let (result, end) = talk(&mut site.gateway("sync", &["-"]), &sync("a"), &sync("b"));
    assert_eq!((result.lines().count(), end.code), (2, Some(0)), "{result} {end:#?}");
    let login = |id: &str| format!("{{\"client_id\":\"{id}\",\"username\":\"acme\"}}\n");
    let mut password = tuyagw();
    password.arg("password").arg("-");
    let (result, end) = talk(&mut password, &login("gw001"), &login("gw002"));
    assert_eq!((result.lines().count(), end.code), (2, Some(0)), "{result} {end:#?}");
    assert!(result.contains("53c9ff16b29370c9741eefcf052955cb"), "{result}");
}

/// Marks of byte order stand at the beginning of each of the files that were joined.
#[test]
fn joined_files_with_byte_order_marks_are_read() {
    let site = Site::start(&[]);
    let text = "\u{feff}{\"cid\":\"a\",\"product_id\":\"p\"}\n\u{feff}{\"cid\":\"b\",\"product_id\":\"p\"}\n";
    let ended = site.run_with("sync", &["-"], text);
    accounted(&ended, 2);
    all_accepted(&ended, 2);
}
