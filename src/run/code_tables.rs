//! Every code of every table, for `explain`: result codes, CONNACK, SUBACK and exit codes.

use serde::Serialize;

use crate::{
    error::{Exit, Failure},
    mqtt::{ConnectCode, Explained, SUBSCRIPTION_REFUSED},
    tuya::ResultCode,
};

/// One code of one table; the fields are those of a JSON line.
#[derive(Clone, Debug, Serialize)]
#[allow(missing_docs, reason = "the fields are those of the output's contract, docs/output.md")]
pub struct CodeEntry {
    pub kind: &'static str,
    pub code: i64,
    pub name: &'static str,
    pub meaning: &'static str,
    pub hint: &'static str,
}

/// Finds the codes of `explain [TABLE] [CODE]`; all codes without arguments.
///
/// # Errors
/// A table or a code that does not exist.
pub fn look_up(first: Option<&str>, second: Option<&str>) -> Result<Vec<CodeEntry>, Failure> {
    let all = "`tuyagw explain` without an argument lists every code.";
    let (kind, code) = match (first.and_then(kind_of), first, second) {
        (Some(kind), _, code) => (Some(kind), code),
        (None, code, None) => (None, code),
        (None, Some(word), Some(_)) => {
            let message = format!("expected result, connack, suback or exit as table; got {word:?}");
            return Err(Failure::invalid(message).hint(all));
        }
        (None, None, Some(_)) => (None, second),
    };
    let code = match code {
        None => None,
        Some(word) => Some(number(word).ok_or_else(|| {
            Failure::invalid(format!("expected a number, or result, connack, suback or exit; got {word:?}"))
                .hint(all)
        })?),
    };
    let found: Vec<CodeEntry> = tables()
        .filter(|entry| {
            kind.is_none_or(|kind| entry.kind == kind) && code.is_none_or(|code| entry.code == code)
        })
        .collect();
    match (code, kind) {
        (Some(code), Some("connack")) if found.is_empty() => Err(Failure::invalid(format!(
            "connack {code} is not known: MQTT 3.1.1 has 0 to 5, and MQTT 5 refuses with 128 to 255"
        ))
        .hint(all)),
        (Some(code), kind) if found.is_empty() => {
            let kind = kind.map(|kind| format!("{kind} ")).unwrap_or_default();
            Err(Failure::invalid(format!("{kind}{code} is not a known code")).hint(all))
        }
        _ => Ok(found),
    }
}

fn kind_of(word: &str) -> Option<&'static str> {
    ["result", "connack", "suback", "exit"].into_iter().find(|kind| kind.eq_ignore_ascii_case(word))
}

fn number(word: &str) -> Option<i64> {
    match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(digits) => i64::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with(['+', '-'])),
        None => word.parse().ok(),
    }
}

/// Every code of every table.
fn tables() -> impl Iterator<Item = CodeEntry> {
    let entry = |kind| {
        move |known: &Explained| {
            let Explained { code, name, meaning, hint } = *known;
            CodeEntry { kind, code, name, meaning, hint }
        }
    };
    let exit = |(exit, meaning, hint): &(Exit, &'static str, &'static str)| CodeEntry {
        kind: "exit",
        code: exit.0.into(),
        name: exit.name(),
        meaning,
        hint,
    };
    let codes = ResultCode::TABLE.iter().map(entry("result"));
    codes
        .chain(ConnectCode::TABLE.iter().map(entry("connack")))
        .chain([SUBSCRIPTION_REFUSED].iter().map(entry("suback")))
        .chain(Exit::TABLE.iter().map(exit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(first: Option<&str>, second: Option<&str>) -> Vec<(&'static str, i64)> {
        look_up(first, second).unwrap().iter().map(|entry| (entry.kind, entry.code)).collect()
    }

    #[test]
    fn a_bare_number_has_all_its_meanings() {
        assert_eq!(found(Some("0"), None), [("result", 0), ("connack", 0), ("exit", 0)]);
        assert_eq!(found(Some("3"), None), [("connack", 3), ("exit", 3)]);
        assert_eq!(found(Some("0x87"), None), [("connack", 135)]);
        assert_eq!(found(Some("0x80"), None), [("connack", 128), ("suback", 128)]);
        assert_eq!(found(Some("2003"), None), [("result", 2003)]);
    }

    #[test]
    fn a_table_narrows_it_down() {
        assert_eq!(found(Some("connack"), Some("0x87")), [("connack", 135)]);
        assert_eq!(found(Some("result"), Some("0")), [("result", 0)]);
        assert_eq!(found(Some("exit"), None).len(), Exit::TABLE.len());
        let all = ResultCode::TABLE.len() + ConnectCode::TABLE.len() + 1 + Exit::TABLE.len();
        assert_eq!(found(None, None).len(), all);
    }

    #[test]
    fn what_is_not_known_is_said_so() {
        for (first, second) in [
            ("9999", None),
            ("connack", Some("77")),
            ("exit", Some("2003")),
            ("0x", None),
            ("0x-1", None),
            ("suback", Some("1")),
            ("unsuback", Some("128")),
            ("word", None),
        ] {
            assert!(look_up(Some(first), second).is_err(), "{first} {second:?}");
        }
    }
}
