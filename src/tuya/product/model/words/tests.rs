use super::*;

/// What a text says: min, max, step, scale, unit; or why it says nothing.
fn value(text: &str) -> Result<String, String> {
    let DescribedLimits { limits, unit } = DescribedLimits::read(text, "Integer")?;
    let shown = |number: Option<i64>| number.map_or("·".to_owned(), |number| number.to_string());
    let numbers = [limits.min, limits.max, limits.step, limits.scale].map(shown).join(" ");
    Ok(format!("{numbers} {}", unit.unwrap_or("·".into())))
}

#[test]
fn ranges_are_understood_in_many_words() {
    for (text, expected) in [
        ("Value range: 0 to 999999999. Unit: ㎥.", "0 999999999 · · ㎥"),
        ("Value range: 0-100, Pitch: 1, Scale: 0, Unit: %", "0 100 1 0 %"),
        ("Unit: s. Range: 0 to 86400", "0 86400 · · s"),
        (
            "The value ranges from -100 to 600, with a pitch of 1 and a scale of 1. Unit: °C. The last digit is a tenth.",
            "-100 600 1 1 °C",
        ),
        ("The value ranges from 0 to 86,400, with a pitch of 1 and a scale of 0. Unit:s.", "0 86400 1 0 s"),
        ("Value range- 0 to 86,400\n- Pitch: 1\n- Scale: 0\n- Unit: second (s)", "0 86400 1 0 s"),
        ("- The value ranges from 10 to 1,000.\n- Pitch: 1\n- Scale: 0", "10 1000 1 0 ·"),
        ("Value range: 10-1000, spacing: 1, multiples: 0", "10 1000 1 0 ·"),
        ("Value range: 0-86400, interval: 1, multiple: 0, unit: s", "0 86400 1 0 s"),
        ("数值范围：-20～50，间距：1，倍数：0，单位：℃", "-20 50 1 0 ℃"),
        ("Range between 5 and 35; step 5", "5 35 5 · ·"),
        ("Min: 0; Max: 100; Unit = %", "0 100 · · %"),
        ("Minimum value: -5, maximum value: 5", "-5 5 · · ·"),
        ("The valid range is from 0% to 100%.", "0 100 · · %"),
        ("0-100", "0 100 · · ·"),
        ("0 ~ 1,000 W", "0 1000 · · W"),
        ("Value range: 0,100", "0 100 · · ·"),
        ("Value range: 10,100", "10 100 · · ·"),
        ("Value range: 1,000,2,000", "1000 2000 · · ·"),
        ("Value range: -1,000–-5", "-1000 -5 · · ·"),
        ("Unit: kWh. Step: 2. Scale: 1. Value range: 0~8", "0 8 2 1 kWh"),
        ("Unit: m³/h", "· · · · m³/h"),
        ("Value range: 0 to 1000. Unit: %. 0 to 19 is low, 20 to 100 is normal.", "0 1000 · · %"),
        ("Value range: 0-9; Unit: /", "0 9 · · ·"),
        ("-", "· · · · ·"),
        ("/", "· · · · ·"),
    ] {
        assert_eq!(value(text), Ok(expected.to_owned()), "{text}");
    }
}

#[test]
fn limits_that_are_not_understood_are_an_error() {
    for (text, part) in [
        ("Value range: few to many.", "`few to many` is no range"),
        ("Value range: 0.5 to 1.5", "no range"),
        ("Pitch: 0.1", "no whole number"),
        ("Scale: one", "`one` is no whole number"),
        ("Zero up to a hundred", "no limits are understood in `Zero up to a hundred`"),
        ("See the remark.", "no limits are understood"),
        ("Unit: °C. From -100 up to 600.", "no limits are understood"),
        ("Pitch: 1. Everything below 100", "no limits are understood"),
        ("Value range: 0 to 100. Value range: 32 to 212", "two minima, 0 and 32"),
    ] {
        let why = value(text).unwrap_err();
        assert!(why.contains(part), "{text}: {why}");
    }
    for (kind, text) in [
        ("enum", "See the app."),
        ("enum", "one of several modes"),
        ("Enumeration type", "Enum values:"),
        ("fault", "as the manual says"),
        ("string", "at most sixty-4 long, 64 at the limit"),
        ("string", "Maximum length: long"),
    ] {
        let why = DescribedLimits::read(text, kind).unwrap_err();
        assert!(why.contains("no limits are understood") || why.contains("` is no l"), "{text}: {why}");
    }
}

#[test]
fn lists_are_understood_in_many_words() {
    for (text, expected) in [
        ("The enum values include manual, auto, and holiday.", "manual auto holiday"),
        ("The enum values include white and color", "white color"),
        ("Enumeration values: opened, closed, opening, and closing.", "opened closed opening closing"),
        ("Enumerated values: a, b, c", "a b c"),
        ("Enumeration value: white, colour, scene", "white colour scene"),
        ("Enum values:\n- white: white light.\n- color: colored light.", "white color"),
        ("Value range: low, high. The default is low.", "low high"),
        ("枚举值：cancel、1h、2h", "cancel 1h 2h"),
        ("normal, alarm", "normal alarm"),
        ("low/middle/high", "low middle high"),
        ("Options: \"a\" or 'b'", "a b"),
        ("Enum values: range, step, unit", "range step unit"),
        ("Modes: cold, hot", "cold hot"),
        ("1.5h, 2h", "1.5h 2h"),
    ] {
        let found = DescribedLimits::read(text, "Enum").unwrap();
        assert_eq!(found.limits.range.join(" "), expected, "{text}");
    }
    let found = DescribedLimits::read("Fault values: short_circuit, surge, and overload.", "fault").unwrap();
    assert_eq!(found.limits.labels, ["short_circuit", "surge", "overload"]);
}

#[test]
fn remarks_on_texts_are_no_limits_and_lengths_are() {
    for (text, expected) in [
        ("The Unix timestamp.", None),
        ("Maximum length: 64.", Some(64)),
        ("The maximum length is 255 bytes", Some(255)),
        ("up to 128 bytes", Some(128)),
        ("Length: 0-32", Some(32)),
        ("Base64, version 2", None),
    ] {
        assert_eq!(DescribedLimits::read(text, "string").unwrap().limits.maxlen, expected, "{text}");
    }
    assert!(DescribedLimits::read("0,1 or whatever 5", "bool").is_ok());
}
