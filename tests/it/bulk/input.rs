//! CSV and every shape of JSON, through every subcommand.

use std::{io::BufRead as _, io::BufReader, process::Stdio};

use serde_json::{Value, json};

use crate::{
    process::{ended, run_with, signal},
    site::{Site, accounted, all_accepted},
};

/// Line, error and field of each result, in input order.
fn outcomes(lines: &[Value]) -> Vec<(u64, Option<&str>, Option<&str>)> {
    let mut lines: Vec<_> = lines.iter().collect();
    lines.sort_by_key(|line| line["index"].as_u64());
    let outcome = |line: &&'_ Value| -> u64 { line["line"].as_u64().unwrap() };
    lines.iter().map(|line| (outcome(line), line["error"].as_str(), line["field"].as_str())).collect()
}

#[test]
fn csv_follows_rfc_4180() {
    let mut site = Site::start(&[]);
    let mut csv = b"\xef\xbb\xbfcid,product_id,device_name,install_location\r\n".to_vec();
    csv.extend_from_slice(b"m1,p1,\"Meter, \"\"north\"\"\",\r\n");
    csv.extend_from_slice(b"m2,p1,\"two\r\nlines\",cellar\r\n");
    csv.extend_from_slice(b"\r\n");
    csv.extend_from_slice(b"m3,p1,name,place,too many\r\n");
    csv.extend_from_slice(b"m4,p1,\xff\xfe,\r\n");
    csv.extend_from_slice(b",p1,nobody,\r\n");
    csv.extend_from_slice("m5,p1\r\nm6,p1,Zähler 水,".as_bytes());
    let file = site.write("fleet.csv", csv);
    let ended = site.run("sync", &[&file]);
    accounted(&ended, 7);
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    let invalid = Some("invalid");
    assert_eq!(
        outcomes(&ended.lines),
        [
            (2, None, None),
            (3, None, None),
            (6, invalid, None),
            (7, invalid, Some("device_name")),
            (8, invalid, Some("cid")),
            (9, None, None),
            (10, None, None),
        ]
    );
    let mut sent: Vec<_> =
        site.records_of("sync").into_iter().map(|record| record["payload"]["param"].clone()).collect();
    sent.sort_by_key(|param| param["cid"].to_string());
    let names: Vec<_> = sent.iter().map(|param| (&param["cid"], &param["device_name"])).collect();
    let expected = [
        (&json!("m1"), &json!("Meter, \"north\"")),
        (&json!("m2"), &json!("two\r\nlines")),
        (&json!("m5"), &json!("m5")),
        (&json!("m6"), &json!("Zähler 水")),
    ];
    assert_eq!(names, expected);
    assert_eq!(sent[0].get("install_location"), None, "an empty cell is an absent field");
    assert_eq!(sent[1]["install_location"], "cellar");
}

#[test]
fn csv_values_are_read_by_data_type() {
    let mut site = Site::start(&[]);
    site.sync(2);
    let csv = "cid,code,value\nm1,water_flow,12.345m3\nm1,valve_state,opened\nm1,switch_state,true\n\
               m2,1,x\nm2,water_flow,12.3456m3\nm2,valve_state,ajar\nm2,valve_open_degree,7\n";
    // Stdin has no file name that would show its format.
    let ended = site.run_with("report", &["--format", "csv"], csv);
    accounted(&ended, 7);
    let invalid = Some("invalid");
    assert_eq!(
        outcomes(&ended.lines),
        [
            (2, None, None),
            (3, None, None),
            (4, None, None),
            (5, invalid, Some("value")),
            (6, invalid, Some("value")),
            (7, invalid, Some("value")),
            (8, None, None),
        ]
    );
    let status = "cid,status\nm1,true\nm2,false\nm1,yes\nm2,\n";
    let ended = site.run_with("status", &["-", "--format", "csv"], status);
    accounted(&ended, 4);
    let field = Some("status");
    assert_eq!(
        outcomes(&ended.lines),
        [(2, None, None), (3, None, None), (4, invalid, field), (5, invalid, field)]
    );
    let records = site.records();
    let of = |kind: &str| records.iter().filter(|record| record["kind"] == kind).collect::<Vec<_>>();
    let mut values: Vec<_> = of("report").iter().map(|record| &record["payload"]["param"]["value"]).collect();
    values.sort_by_key(ToString::to_string);
    assert_eq!(values, [&json!("opened"), &json!(12345), &json!(7), &json!(true)]);
    let sent = &of("status")[0]["payload"]["param"];
    assert_eq!(*sent, json!([{"cid": "m1", "status": true}, {"cid": "m2", "status": false}]));
}

/// One text in all shapes.
fn shapes(values: &[Value]) -> Vec<(&'static str, String)> {
    let each =
        |text: fn(&Value) -> String, between: &str| values.iter().map(text).collect::<Vec<_>>().join(between);
    let pretty: fn(&Value) -> String = |value| serde_json::to_string_pretty(value).unwrap();
    vec![
        ("lines", each(Value::to_string, "\n")),
        ("CRLF", each(Value::to_string, "\r\n\r\n")),
        ("array", Value::from(values.to_vec()).to_string()),
        ("pretty array", pretty(&Value::from(values.to_vec()))),
        ("pretty values", each(pretty, "\n")),
        ("pretty values without a break", each(pretty, "")),
        ("an array after values", format!("{}\n{}", pretty(&values[0]), Value::from(values[1..].to_vec()))),
    ]
}

#[test]
fn every_subcommand_accepts_every_shape_of_json() {
    let site = Site::start(&[]);
    site.sync(3);
    let mut listen =
        site.gateway("listen", &["--answer", "success", "--kind", "command", "--no-report-back"]);
    let mut listen =
        listen.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(listen.stderr.take().unwrap());
    said.read_line(&mut String::new()).unwrap();
    let reports = [
        json!({"cid": "m1", "code": "valve_open_degree", "value": 1}),
        json!({"cid": "m2", "id": "18", "value": 2}),
        json!({"t": 7, "request_id": "ID", "cid": "m3", "param": {"id": "18", "value": 3}}),
    ];
    // Commands first: the others push the listening gateway off.
    for (n, (name, text)) in shapes(&reports).into_iter().enumerate() {
        let text = text.replace("ID", &format!("command-{n}"));
        let ended = run_with(&mut site.command(&["-"]), text.as_bytes());
        all_accepted(&ended, 3);
        assert!(ended.lines.iter().any(|line| line["request_id"] == format!("command-{n}")), "{name}");
    }
    signal(listen.id(), "TERM");
    assert_eq!(ended(listen).code, Some(143));
    let message = |param: Value| json!({"t": 7, "request_id": "ID", "param": param});
    let inputs = [
        (
            "sync",
            [
                json!({"cid": "m4", "product_id": "p"}),
                json!({"op": "sync", "cid": "m5", "product_id": "p", "device_name": "[{\"odd\"}]"}),
                message(json!({"cid": "m6", "product_id": "p"})),
            ],
        ),
        (
            "report",
            [
                json!({"cid": "m1", "code": "water_flow", "value": 1}),
                json!({"cid": "m1", "id": 1, "value": 2}),
                message(json!({"cid": "m1", "id": "1", "value": 3})),
            ],
        ),
        (
            "status",
            [
                json!({"cid": "m1", "status": true}),
                json!({"cid": "m2", "status": false}),
                message(json!([{"cid": "m3", "status": false}])),
            ],
        ),
    ];
    for (subcommand, values) in inputs {
        for (n, (name, text)) in shapes(&values).into_iter().enumerate() {
            let id = format!("{subcommand}-{n}");
            let ended = site.run_with(subcommand, &["-"], text.replace("ID", &id));
            all_accepted(&ended, 3);
            assert!(
                ended.lines.iter().any(|line| line["request_id"] == id),
                "{subcommand}, {name}: {ended:#?}"
            );
        }
    }
}

#[test]
fn a_malformed_value_spoils_no_later_value() {
    let site = Site::start(&[]);
    let text = "{\n  \"cid\": \"a\",\n  \"product_id\": \"p\"\n}\n{\n  \"cid\": \"b\",\n  \"product_id\" \"p\"\n}\n\
                {\n  \"cid\": \"c\",\n  \"product_id\": \"p\"\n}\n";
    let ended = site.run_with("sync", &["-"], text);
    accounted(&ended, 3);
    assert_eq!(outcomes(&ended.lines), [(1, None, None), (5, Some("invalid"), None), (9, None, None)]);
    // An input over several lines is echoed as one line of JSON.
    let ended = site.run_with("sync", &["-"], "{\n\t\"cid\": \"d\"\r\n}\n");
    assert_eq!(ended.line()["input"], json!({"cid": "d"}));
}

/// Truncated input is an error; it is not taken for the whole.
#[test]
fn truncated_input_is_reported() {
    let mut site = Site::start(&[]);
    let ended = site.run_with("sync", &["-"], "[\n{\"cid\":\"a\",\"product_id\":\"p\"},\n");
    accounted(&ended, 2);
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert_eq!(outcomes(&ended.lines), [(2, None, None), (3, Some("invalid"), None)]);
    let ended =
        site.run_with("sync", &["--format", "csv"], "cid,product_id,device_name\na,p,x\nb,p,\"y\nc,p,z\n");
    accounted(&ended, 2);
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert_eq!(outcomes(&ended.lines), [(2, None, None), (3, Some("invalid"), None)]);
    assert_eq!(site.records_of("sync").len(), 2);
}

#[test]
fn a_header_without_cid_is_refused_before_anything_is_sent() {
    let site = Site::start(&[]);
    let ended = site.run_with("sync", &["--format", "csv"], "sep=;\nname;product_id\na;p\n");
    assert_eq!((ended.code, ended.lines.len()), (Some(2), 0), "{ended:#?}");
    assert!(
        ended.stderr.contains("line 2, the header, has no column cid; its columns, separated by semicolons,"),
        "{}",
        ended.stderr
    );
}

/// A field that the message does not have is refused, because it shows that another message was meant.
#[test]
fn contradictory_fields_are_refused() {
    let mut site = Site::start(&[]);
    site.sync(1);
    for (subcommand, input, field) in [
        ("report", r#"{"gateway_id":"gw7","cid":"m1","id":"1","value":1}"#, "gateway_id"),
        ("report", r#"{"gateway_id":"gw7","cid":"m1","properties":{"1":1}}"#, "properties"),
        ("report", r#"{"gateway_id":"gw7","param":{"cid":"m1","id":"1","value":1}}"#, "gateway_id"),
        ("report", r#"{"cid":"m2","param":{"cid":"m1","id":"1","value":1}}"#, "cid"),
        ("report", r#"{"param":{"gateway_id":"gw7","cid":"m1","id":"1","value":1}}"#, "gateway_id"),
        ("report", r#"{"request_id":"","param":{"cid":"m1","id":"1","value":1}}"#, "request_id"),
        ("report", r#"{"request_id":"a","param":null}"#, "param"),
        ("report", r#"{"op":"report","cid":"m1","id":"1","ok":true,"code":0}"#, "input"),
        ("sync", r#"{"cid":"m1","param":{"cid":"m1","product_id":"p"}}"#, "cid"),
        ("status", r#"{"gateway_id":"gw7","param":[{"cid":"m1","status":true}]}"#, "gateway_id"),
    ] {
        let ended = site.run_with(subcommand, &["-"], input);
        assert_eq!(ended.code, Some(2), "{input}: {ended:#?}");
        assert_eq!(outcomes(&ended.lines), [(1, Some("invalid"), Some(field))], "{input}");
    }
    let input = r#"{"cid":"m1","param":{"cid":"m2","id":"4","value":true}}"#;
    let ended = run_with(&mut site.command(&["-"]), input.as_bytes());
    assert_eq!(outcomes(&ended.lines), [(1, Some("invalid"), Some("cid"))]);
    assert_eq!(site.records_of("report").len(), 0);
}

#[test]
fn nested_result_lines_are_refused() {
    let site = Site::start(&[]);
    let nested = |depth| [r#"{"ok":false,"input":"#.repeat(depth), "{}".into(), "}".repeat(depth)].concat();
    let ended = site.run_with("report", &["-"], nested(50));
    accounted(&ended, 1);
    assert_eq!((ended.code, &ended.lines[0]["field"]), (Some(2), &Value::from("input")), "{}", ended.stderr);
    let deep = site.write("deep.jsonl", nested(50_000));
    let mut run = site.gateway("report", &[&deep]);
    assert_eq!(run.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().code(), Some(2));
}

#[test]
fn a_failed_data_point_is_echoed_alone() {
    let mut site = Site::start(&[]);
    site.sync(1);
    let input = concat!(
        r#"{"cid":"m1","properties":{"water_flow":1,"18":-1,"valve_state":"opened","no_such":[1,2]}}"#,
        "\n",
        r#"{"cid":"m9","properties":{"water_flow":5,"valve_state":"closed"}}"#,
    );
    let ended = site.run_with("report", &["-", "--ordered"], input);
    accounted(&ended, 6);
    let echoes: Vec<_> =
        ended.lines.iter().filter(|line| line["ok"] == false).map(|line| line["input"].to_string()).collect();
    let expected = [
        r#"{"cid":"m1","id":"18","value":-1}"#,
        r#"{"cid":"m1","code":"no_such","value":[1,2]}"#,
        r#"{"cid":"m9","code":"water_flow","value":5}"#,
        r#"{"cid":"m9","code":"valve_state","value":"closed"}"#,
    ];
    assert_eq!(echoes, expected, "{ended:#?}");
    let text = "{\"cid\":\"m9\",\"product_id\":\"p\"}";
    all_accepted(&site.run_with("sync", &["-"], text), 1);
    let failed = ended.lines.iter().filter(|line| line["code"] == 2003);
    let failed: Vec<_> = failed.map(Value::to_string).collect();
    all_accepted(&site.run_with("report", &["-"], failed.join("\n")), 2);
    // One that failed twice is echoed alike.
    let again = site.run_with("report", &["-"], ended.lines[1].to_string());
    assert_eq!(again.line()["input"], ended.lines[1]["input"]);
    assert_eq!(site.records_of("report").len(), 6);
}

#[test]
fn a_failed_command_is_echoed_with_its_gateway() {
    let site = Site::start(&[]);
    let input = r#"{"gateway_id":"gw7","cid":"m1","properties":{"switch_state":true,"valve_open_degree":5}}"#;
    let ended = run_with(&mut site.command(&["-", "--ordered"]), input.as_bytes());
    accounted(&ended, 2);
    assert_eq!(
        ended.lines[1]["input"],
        json!({"gateway_id": "gw7", "cid": "m1", "code": "valve_open_degree", "value": 5})
    );
}

/// A second request with an id waits for the answer to the first, even if the window has room.
#[test]
fn requests_with_one_id_are_sent_in_turn() {
    let mut site = Site::start(&["--fault", "delay=50ms"]);
    let line = |n| {
        format!("{{\"t\":1,\"request_id\":\"same\",\"param\":{{\"cid\":\"m{n}\",\"product_id\":\"p\"}}}}\n")
    };
    let input = (1..=4).map(line).collect::<Vec<_>>().concat();
    let ended = site.run_with("sync", &["-"], &input);
    all_accepted(&ended, 4);
    let order: Vec<_> = ended.lines.iter().map(|line| line["index"].as_u64().unwrap()).collect();
    assert_eq!(order, [0, 1, 2, 3]);
    let kinds: Vec<_> = site
        .records()
        .iter()
        .filter(|record| record["payload"]["request_id"] == "same")
        .map(|record| record["kind"].to_string())
        .collect();
    assert_eq!(kinds, ["\"sync\"", "\"sync.response\""].repeat(4));
}

/// Such a line of 96 KB once blocked the event loop for minutes.
#[test]
fn thousands_of_bad_data_points_in_one_line_have_a_result_each() {
    let site = Site::start(&[]);
    site.sync(1);
    let bad: Vec<_> = (0..6000).map(|n| format!(r#""bad_{n:06}":1"#)).collect();
    let input = format!(r#"{{"cid":"m1","properties":{{"1":5,{}}}}}"#, bad.join(","));
    let ended = site.run_with("report", &["-"], input);
    accounted(&ended, 6001);
    assert_eq!(ended.code, Some(2));
    for line in ended.lines.iter().filter(|line| line["ok"] == false) {
        let name = line["input"]["code"].as_str().unwrap();
        assert_eq!(line["input"], serde_json::json!({"cid": "m1", "code": name, "value": 1}));
        assert_eq!(line["field"], format!("properties.{name}"));
    }
}
