use super::{
    input::{InputContent, InputValue},
    object::tests::WORK,
    *,
};
use crate::{
    gateway::Payload,
    tuya::{
        Uplink,
        product::{Product, ValueEncoding},
    },
};

fn parser(check: bool) -> RequestParser {
    RequestParser { product: Product::smart_water_meter(), check, encoding: ValueEncoding::Native }
}

fn parsed(parser: &RequestParser, kind: RequestKind, json: &str) -> Vec<ParsedInput> {
    let mut parsed = Vec::new();
    parser.parse(kind, InputValue::json(1, json), &mut parsed);
    parsed
}

/// The input that the result line of each failed message repeats.
fn inputs(parsed: Vec<ParsedInput>) -> Vec<String> {
    let input = |parsed: ParsedInput| {
        let subject = match parsed.request {
            Ok(request) => request.into_result_key(),
            Err(invalid) => ResultKey { part: invalid.part, ..ResultKey::default() },
        };
        subject.input_of(&parsed.text).unwrap_or_else(|| parsed.text.to_string())
    };
    parsed.into_iter().map(input).collect()
}

/// The bytes that are read for one input with so many bad properties, until all its results are told.
fn work(properties: usize) -> (usize, usize) {
    let names: Vec<_> = (0..properties).map(|n| format!(r#""bad_{n:06}":1"#)).collect();
    let json = format!(r#"{{"cid":"m1","properties":{{{}}}}}"#, names.join(","));
    WORK.set(0);
    let inputs = inputs(parsed(&parser(true), RequestKind::Report, &json));
    assert_eq!(inputs.len(), properties);
    let last = properties - 1;
    assert_eq!(inputs[last], format!(r#"{{"cid":"m1","code":"bad_{last:06}","value":1}}"#));
    (WORK.get(), json.len())
}

#[test]
fn ten_times_the_properties_are_ten_times_the_work() {
    for properties in [10, 400] {
        let (read, length) = work(properties);
        assert!(read <= 2 * length, "{read} bytes are read of {length}");
        let (again, length) = work(10 * properties);
        assert!(again <= 2 * length, "{again} bytes are read of {length}");
    }
}

#[test]
fn a_failed_part_gives_back_itself_and_what_all_parts_share() {
    let parser = parser(true);
    let whole = r#"{"op":"command","cid":"m\u00e9","gateway_id":"gw1","t":5,"properties":{"4":true,"valve\u005fopen":[1, 2]}}"#;
    let parts = [
        r#"{"op":"command","gateway_id":"gw1","cid":"m\u00e9","t":5,"id":"4","value":true}"#,
        r#"{"op":"command","gateway_id":"gw1","cid":"m\u00e9","t":5,"code":"valve_open","value":[1, 2]}"#,
    ];
    assert_eq!(inputs(parsed(&parser, RequestKind::Command, whole)), parts);
    let former = format!(r#"{{"index":0,"ok":false,"input": {whole} }}"#);
    assert_eq!(inputs(parsed(&parser, RequestKind::Command, &former)), parts);
    // One that asks once is its own input; a result line's is the one in it.
    let once = r#"{"cid":"m1","id":"1","value":"x"}"#;
    let former = format!(r#"{{"ok":false,"input":{once}}}"#);
    assert_eq!(inputs(parsed(&parser, RequestKind::Report, &former)), [once]);
    assert_eq!(inputs(parsed(&parser, RequestKind::Report, r#"{"ok":true}"#)), [r#"{"ok":true}"#]);
    let nested = format!(r#"{{"ok":false,"input":{former}}}"#);
    assert_eq!(inputs(parsed(&parser, RequestKind::Report, &nested)), [former]);
}

#[test]
fn every_input_may_give_its_t() {
    let parser = parser(true);
    let inputs = [
        (RequestKind::Sync, r#"{"cid":"m1","product_id":"p1","t":T}"#),
        (RequestKind::Report, r#"{"cid":"m1","id":"1","value":1,"t":T}"#),
        (RequestKind::Report, r#"{"cid":"m1","properties":{"1":1,"4":true},"t":T}"#),
        (RequestKind::Status, r#"{"t":T,"cid":"m1","status":true}"#),
        (RequestKind::Status, r#"{"t":T,"param":[{"cid":"m1","status":true},{"cid":"m2","status":false}]}"#),
        (RequestKind::Command, r#"{"cid":"m1","code":"valve_open_degree","value":10,"t":T}"#),
    ];
    for (kind, input) in inputs {
        for ParsedInput { request, .. } in parsed(&parser, kind, &input.replace('T', "-7")) {
            assert_eq!(request.unwrap().t, Some(-7), "{input}");
        }
        for bad in ["\"7\"", "7.5", "null"] {
            for ParsedInput { request, .. } in parsed(&parser, kind, &input.replace('T', bad)) {
                assert_eq!(request.unwrap_err().field.as_deref(), Some("t"), "{input}");
            }
        }
    }
    let fields = [("cid", "m1"), ("id", "1"), ("value", "1"), ("t", "8")];
    let fields = fields.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let mut row = Vec::new();
    parser.parse(
        RequestKind::Report,
        InputValue { line: Some(2), content: InputContent::Fields(fields.into()) },
        &mut row,
    );
    assert_eq!(row.pop().unwrap().request.unwrap().t, Some(8));
}

#[test]
fn an_unchecked_device_keeps_its_bytes_but_for_what_is_meant_for_this_program() {
    let parser = parser(false);
    let param = |json: &str| {
        let request = parsed(&parser, RequestKind::Sync, json).pop().unwrap().request.unwrap();
        let Payload::Uplink(Uplink::AsGiven { param, .. }) = request.payload else { panic!() };
        (request.t, param.get().to_owned())
    };
    let own = r#"{"cid":"m1", "extra":[1.10]}"#;
    assert_eq!(param(own), (None, own.to_owned()));
    let expected = r#"{"cid":"m1","extra":[1.10]}"#.to_owned();
    assert_eq!(param(r#"{"op":"sync","cid":"m1","extra":[1.10],"t":3}"#), (Some(3), expected.clone()));
    let former = r#"{"ok":false,"op":"sync","input":{"op":"sync","cid":"m1","extra":[1.10]}}"#;
    assert_eq!(param(former), (None, expected));
    // A whole message's own param is the user's business.
    assert_eq!(
        param(r#"{"t":4,"param":{"op":"x","cid":"m1"}}"#),
        (Some(4), r#"{"op":"x","cid":"m1"}"#.into())
    );
}

#[test]
fn a_device_of_a_status_message_gives_back_itself() {
    let json = r#"{"t":5,"request_id":"r","param":[{"cid":"m1","status":true},{"cid":"m2","status":false}]}"#;
    let ParsedInput { request, text, .. } = parsed(&parser(true), RequestKind::Status, json).pop().unwrap();
    let request = request.unwrap();
    let part = request.part.clone();
    let Payload::Uplink(Uplink::Status(statuses)) = request.payload else { panic!() };
    let given: Vec<_> = statuses
        .into_iter()
        .map(|status| ResultKey { part: part.clone(), ..status.into() }.input_of(&text).unwrap())
        .collect();
    assert_eq!(given, [r#"{"t":5,"cid":"m1","status":true}"#, r#"{"t":5,"cid":"m2","status":false}"#]);
}
