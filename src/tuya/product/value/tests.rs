//! Every kind of data point with good, boundary and bad values.

use super::*;
use crate::tuya::product::Product;

fn json(text: &str) -> Json {
    Json::parse(text).expect(text)
}

fn everything() -> Product {
    Product::read(include_bytes!("../../../../tests/models/normalised.json")).unwrap()
}

/// What a check gives: the JSON text, or the code of the refusal.
fn outcome(result: Result<Json, ValueError>) -> Result<String, i64> {
    result.map(|value| value.get().to_owned()).map_err(|error| error.code.0)
}

/// Runs `value => expected` lines against one data point.
fn all(
    product: &Product,
    point: &str,
    fit: impl Fn(&DataPoint, &Json) -> Result<Json, ValueError>,
    lines: &[(&str, Result<&str, i64>)],
) {
    let point = product.find(point).expect(point);
    for (value, expected) in lines {
        assert_eq!(
            outcome(fit(point, &json(value))),
            expected.map(str::to_owned),
            "{} {value}",
            point.label()
        );
    }
}

fn check(point: &DataPoint, value: &Json) -> Result<Json, ValueError> {
    point.check(value.get(), ValueEncoding::Native)
}

fn check_string(point: &DataPoint, value: &Json) -> Result<Json, ValueError> {
    point.check(value.get(), ValueEncoding::String)
}

#[test]
fn values_of_the_water_meter() {
    let meter = Product::smart_water_meter();
    for volume in ["1", "2", "3", "5", "6", "10", "11", "14", "16", "18"] {
        all(
            &meter,
            volume,
            check,
            &[
                ("0", Ok("0")),
                ("-0", Ok("0")),
                ("12345", Ok("12345")),
                ("999999999", Ok("999999999")),
                ("1000000000", Err(1101)),
                ("-1", Err(1101)),
                ("9223372036854775808", Err(1101)),
                ("1.0", Err(1103)),
                ("12.345", Err(1103)),
                ("1e3", Err(1103)),
                ("1E3", Err(1103)),
                (r#""1""#, Err(1103)),
                ("true", Err(1103)),
                ("null", Err(1102)),
                ("[1]", Err(1103)),
                ("{}", Err(1103)),
            ],
        );
    }
    all(
        &meter,
        "switch_state",
        check,
        &[
            ("true", Ok("true")),
            ("false", Ok("false")),
            ("1", Err(1103)),
            (r#""true""#, Err(1103)),
            ("null", Err(1102)),
        ],
    );
    for time in ["7", "8", "12", "13"] {
        all(
            &meter,
            time,
            check,
            &[
                (r#""1627228800""#, Ok(r#""1627228800""#)),
                (r#""""#, Ok(r#""""#)),
                ("1627228800", Err(1103)),
                ("null", Err(1102)),
            ],
        );
    }
    for state in ["opened", "closed", "opening", "closing"] {
        let state = format!("{state:?}");
        all(&meter, "valve_state", check, &[(&state, Ok(&state))]);
    }
    all(
        &meter,
        "valve_state",
        check,
        &[
            (r#""open\u0065d""#, Ok(r#""open\u0065d""#)),
            (r#""run""#, Err(2002)),
            (r#""Opened""#, Err(2002)),
            (r#""""#, Err(2002)),
            ("0", Err(1103)),
            ("null", Err(1102)),
        ],
    );
    for sharing in ["cold_stall_type", "hot_stall_type"] {
        for method in ["square_area", "ignore", "consumption", "proportion", "lease", "power"] {
            let method = format!("{method:?}");
            all(&meter, sharing, check, &[(&method, Ok(&method))]);
        }
        all(&meter, sharing, check, &[(r#""equal""#, Err(2002))]);
    }
}

#[test]
fn values_of_other_products() {
    let product = everything();
    all(&product, "a_value", check, &[("-5", Ok("-5")), ("5", Ok("5")), ("-6", Err(1101)), ("6", Err(1101))]);
    all(
        &product,
        "unbounded",
        check,
        &[
            ("9223372036854775807", Ok("9223372036854775807")),
            ("-9223372036854775808", Ok("-9223372036854775808")),
            ("-9223372036854775809", Err(1101)),
        ],
    );
    all(
        &product,
        "a_string",
        check,
        &[
            (r#""0123456789abcdef""#, Ok(r#""0123456789abcdef""#)),
            (r#""0123456789abcdefg""#, Err(1101)),
            (r#""网关网关网""#, Ok(r#""网关网关网""#)),
            (r#""网关网关网关""#, Err(1101)),
            (r#""\u0000\n""#, Ok(r#""\u0000\n""#)),
        ],
    );
    all(
        &product,
        "a_raw",
        check,
        &[
            (r#""GAIYAgAAAAA=""#, Ok(r#""GAIYAgAAAAA=""#)),
            (r#""GAIYAgAAAAAA""#, Err(1101)),
            (r#""{\"a\":1}""#, Ok(r#""{\"a\":1}""#)),
            (r#""{\"a\":10}""#, Ok(r#""{\"a\":10}""#)),
            (r#""{\"a\":100}""#, Err(1101)),
            (r#"{"a":1}"#, Err(1103)),
        ],
    );
    all(
        &product,
        "faults",
        check,
        &[
            ("0", Ok("0")),
            ("7", Ok("7")),
            ("8", Err(1101)),
            ("-1", Err(1101)),
            ("[]", Ok("0")),
            (r#"["f3","f1"]"#, Ok("5")),
            (r#"["f4"]"#, Err(2002)),
            ("[1]", Err(1103)),
            (r#""5""#, Err(1103)),
            ("true", Err(1103)),
        ],
    );
}

#[test]
fn a_bitmap_has_30_bits_where_nothing_is_said() {
    let product = Product::read(br#"{"dps":[{"id":1,"code":"fault","type":"fault"}]}"#).unwrap();
    all(
        &product,
        "fault",
        check,
        &[("1073741823", Ok("1073741823")), ("1073741824", Err(1101)), (r#"["leak"]"#, Err(2002))],
    );
    let product = Product::read(br#"{"dps":[{"id":1,"code":"fault","type":"fault","maxlen":64}]}"#).unwrap();
    all(&product, "fault", check, &[("9223372036854775807", Ok("9223372036854775807"))]);
}

#[test]
fn string_encoding_makes_strings_of_all() {
    let product = everything();
    all(
        &product,
        "a_value",
        check_string,
        &[
            ("-5", Ok(r#""-5""#)),
            (r#""5""#, Ok(r#""5""#)),
            ("-0", Ok(r#""0""#)),
            ("6", Err(1101)),
            (r#""6""#, Err(1101)),
            ("1.5", Err(1103)),
        ],
    );
    all(
        &product,
        "a_bool",
        check_string,
        &[("true", Ok(r#""true""#)), (r#""false""#, Ok(r#""false""#)), (r#""yes""#, Err(1103))],
    );
    all(&product, "an_enum", check_string, &[(r#""x""#, Ok(r#""x""#)), (r#""z""#, Err(2002))]);
    all(&product, "faults", check_string, &[(r#"["f2"]"#, Ok(r#""2""#)), ("7", Ok(r#""7""#))]);
}

#[test]
fn what_arrives_is_understood_in_any_encoding() {
    let product = everything();
    let accept = DataPoint::accept;
    all(
        &product,
        "a_bool",
        accept,
        &[
            ("true", Ok("true")),
            ("1", Ok("true")),
            (r#""1""#, Ok("true")),
            (r#""true""#, Ok("true")),
            ("0", Ok("false")),
            (r#""0""#, Ok("false")),
            (r#""false""#, Ok("false")),
            ("2", Err(1103)),
            (r#""on""#, Err(1103)),
            ("null", Err(1102)),
        ],
    );
    all(
        &product,
        "a_value",
        accept,
        &[
            ("5", Ok("5")),
            (r#""5""#, Ok("5")),
            (r#""-5""#, Ok("-5")),
            (r#""6""#, Err(1101)),
            (r#""""#, Err(1103)),
            (r#""-""#, Err(1103)),
            (r#""+5""#, Err(1103)),
            (r#"" 5""#, Err(1103)),
            (r#""run""#, Err(1103)),
            ("5.0", Err(1103)),
        ],
    );
    all(&product, "an_enum", accept, &[(r#""x""#, Ok(r#""x""#)), (r#""z""#, Err(2002)), ("1", Err(1103))]);
    all(&product, "faults", accept, &[(r#""5""#, Ok("5")), ("5", Ok("5"))]);
}

#[test]
fn a_command_line_s_text() {
    let meter = Product::smart_water_meter();
    for (point, text, expected) in [
        ("water_flow", "12345", Ok("12345")),
        ("water_flow", "12.345m3", Ok("12345")),
        ("water_flow", "12.345 m³", Ok("12345")),
        ("water_flow", "12.345㎥", Ok("12345")),
        ("water_flow", "12.34500m^3", Ok("12345")),
        ("water_flow", "12m3", Ok("12000")),
        ("water_flow", "-0.5m3", Ok("-500")),
        ("water_flow", "0m3", Ok("0")),
        ("water_flow", "12.3456m3", Err(1101)),
        ("water_flow", "99999999999999999999m3", Err(1101)),
        ("water_flow", "12.345l", Err(1103)),
        ("water_flow", "12.345M3", Err(1103)),
        ("water_flow", "12,345m3", Err(1103)),
        ("water_flow", "1.2.3m3", Err(1103)),
        ("water_flow", ".5m3", Err(1103)),
        ("water_flow", "5.m3", Err(1103)),
        ("water_flow", "--5m3", Err(1103)),
        ("water_flow", "m3", Err(1103)),
        ("water_flow", "", Err(1103)),
        ("water_flow", "12345x", Err(1103)),
        ("valve_open_degree", "50%", Ok("50")),
        ("valve_open_degree", "50.5%", Err(1101)),
        ("switch_state", "true", Ok("true")),
        ("switch_state", "on", Err(1103)),
        ("valve_state", "opened", Ok(r#""opened""#)),
        ("valve_state", "\"opened\"", Ok(r#""\"opened\"""#)),
        ("d_begin_time", "1627228800", Ok(r#""1627228800""#)),
        ("d_begin_time", "", Ok(r#""""#)),
        ("d_begin_time", "null", Ok(r#""null""#)),
    ] {
        let found = outcome(meter.find(point).unwrap().from_text(text));
        assert_eq!(found, expected.map(str::to_owned), "{point}={text}");
    }
    let faults = everything();
    assert_eq!(outcome(faults.find("faults").unwrap().from_text(r#"["f1"]"#)), Ok(r#"["f1"]"#.to_owned()));
}

#[test]
fn a_refusal_names_the_data_point_the_value_and_what_fits() {
    let meter = Product::smart_water_meter();
    for (point, value, expected) in [
        (
            "1",
            "12.345",
            "DP 1 water_flow: 12.345 is not a whole number without fraction or exponent, and its scale is 3: 12.345 m³ is 12345",
        ),
        ("1", "-1", "DP 1 water_flow: -1 lies outside 0 to 999999999"),
        ("4", "\"on\"", "DP 4 switch_state: \"on\" is not a bool, true or false"),
        ("9", "\"run\"", "DP 9 valve_state: expected one of opened, closed, opening, closing; got \"run\""),
        ("7", "1", "DP 7 d_begin_time: 1 is not a string"),
    ] {
        let error = check(meter.find(point).unwrap(), &json(value)).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let long = format!("\"{}\"", "é".repeat(500));
    let error = check(meter.find("1").unwrap(), &json(&long)).unwrap_err();
    assert!(error.message.len() < 300, "{error}");
    let error = meter.find("1").unwrap().from_text("12l").unwrap_err();
    assert_eq!(error.message, "DP 1 water_flow: 12l is not a number in m³, such as 12.345 m³");
    let error = meter.find("18").unwrap().from_text("50h").unwrap_err();
    assert_eq!(error.message, "DP 18 valve_open_degree: 50h is not a number in %, such as 50 %");
}

#[test]
fn a_comma_in_a_number_is_refused_with_the_point_in_its_place() {
    let meter = Product::smart_water_meter();
    for (point, text, expected) in [
        (
            "18",
            "50,5%",
            "50,5% has a comma; the decimal sign is a point, 50.5%, and nothing stands between thousands",
        ),
        (
            "1",
            "12,345",
            "12,345 has a comma; the decimal sign is a point, 12.345, and nothing stands between thousands",
        ),
        (
            "1",
            "1,234.5m3",
            "1,234.5m3 has a comma; the decimal sign is a point, and nothing stands between thousands",
        ),
        (
            "1",
            "1,234,567",
            "1,234,567 has a comma; the decimal sign is a point, and nothing stands between thousands",
        ),
    ] {
        let error = meter.find(point).unwrap().from_text(text).unwrap_err();
        assert!(error.message.ends_with(expected), "{error}");
    }
}

#[test]
fn an_example_lies_within_the_limits() {
    for (limits, expected) in [
        ("", "12345"),
        (r#","max":600,"scale":1"#, "12.5"),
        (r#","unit":"%","max":999999999"#, "50 %"),
        (r#","unit":"%","scale":2"#, "12.34 %"),
        (r#","max":-5"#, "-5"),
    ] {
        let model = format!(r#"{{"dps":[{{"id":1,"code":"a","type":"value"{limits}}}]}}"#);
        let product = Product::read(model.as_bytes()).unwrap();
        let point = product.find("a").unwrap();
        assert_eq!(point.shown(point.sample()), expected, "{limits}");
    }
}

#[test]
fn a_percentage_above_100_is_doubtful_but_fits() {
    let meter = Product::smart_water_meter();
    let degree = meter.find("valve_open_degree").unwrap();
    assert_eq!(degree.suspicious(&json("100")), None);
    assert!(check(degree, &json("101")).is_ok());
    let suspicious = degree.suspicious(&json("101")).unwrap();
    assert_eq!(suspicious, "DP 18 valve_open_degree is a percentage, and 101 % lies outside 0 to 100 %");
    assert_eq!(meter.find("water_flow").unwrap().suspicious(&json("999999999")), None);
}

#[test]
fn integers_are_shown_scaled() {
    let meter = Product::smart_water_meter();
    let flow = meter.find("water_flow").unwrap();
    assert_eq!(flow.shown(12_345), "12.345 m³");
    assert_eq!(flow.shown(-5), "-0.005 m³");
    assert_eq!(flow.shown(i64::MIN), "-9223372036854775.808 m³");
    assert_eq!(meter.find("18").unwrap().shown(50), "50 %");
}
