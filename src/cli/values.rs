//! Readers of option values: durations, addresses, sizes, mappings and the like, for clap and for the configuration file.

use std::{ops::RangeInclusive, time::Duration};

pub use crate::duration::parse as duration;
use crate::{
    error::Failure, io::batch_writer::byte_size, mqtt::Direction, net::client::BrokerAddress,
    recording::ReplaySpeed, tuya::ResultCode,
};

/// The range of `--max-packet`, up to MQTT's own limit (MQTT 3.1.1, section 2.2.3).
pub const MAX_PACKET: RangeInclusive<i64> = 1024..=268_435_455;

/// Parses a size such as `500MB` or `2GiB`, in bytes.
///
/// # Errors
/// What is no size.
pub fn size(text: &str) -> Result<u64, String> {
    byte_size(text).ok_or_else(|| "expected a size such as 500KB, 100MB or 1GiB".to_owned())
}

/// Parses a keep-alive interval, which MQTT counts in whole seconds of 16 bits.
pub fn keep_alive(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if interval.subsec_nanos() != 0 || interval.as_secs() > 65_535 {
        return Err(format!("expected whole seconds from 0s to 65535s; got \"{text}\""));
    }
    Ok(interval)
}

/// Parses the speed of a replay: a factor, or `max`.
pub fn speed(text: &str) -> Result<ReplaySpeed, String> {
    match text.parse() {
        _ if text == "max" => Ok(ReplaySpeed::Max),
        Ok(factor) if f64::is_finite(factor) && factor > 0.0 => Ok(ReplaySpeed::Factor(factor)),
        _ => Err("expected a factor such as 10 or 0.5, or max".into()),
    }
}

/// Parses `OLD=NEW`.
pub fn mapping(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => Ok((old.to_owned(), new.to_owned())),
        _ => Err("expected OLD=NEW".into()),
    }
}

/// Parses `up` or `down`.
pub fn direction(text: &str) -> Result<Direction, String> {
    match text {
        "up" => Ok(Direction::Up),
        "down" => Ok(Direction::Down),
        _ => Err("expected up or down".into()),
    }
}

/// Parses the answer to every command: `success` or `CODE[:MSG]`.
pub fn fixed_answer(text: &str) -> Result<(i64, String), String> {
    if text == "success" {
        return Ok((0, text.to_owned()));
    }
    let (code, msg) = text.split_once(':').map_or((text, None), |(code, msg)| (code, Some(msg)));
    let code =
        code.parse().map_err(|_| "expected success, a code such as 2001, or CODE:MESSAGE".to_owned())?;
    Ok((code, msg.unwrap_or(ResultCode(code).name()).to_owned()))
}

/// Parses one `CODE=ID` of `--dp-map`.
pub fn dp_id(text: &str) -> Result<(String, u32), String> {
    let (code, id) = text.split_once('=').ok_or("expected CODE=ID, such as water_flow=1")?;
    match id.trim().parse() {
        Ok(id) if id > 0 => Ok((code.trim().to_owned(), id)),
        _ => Err(format!("expected a whole number from 1 as DP id; got \"{id}\"")),
    }
}

/// Parses a broker URL into its address and whether it wants TLS.
pub fn parse_url(url: &str) -> Result<(BrokerAddress, bool), Failure> {
    let wrong = |why: &str| {
        Failure::invalid(format!("--broker: {why}"))
            .hint("Write mqtt://HOST:PORT, mqtts://HOST:PORT or HOST:PORT")
    };
    let (tls, rest) = match url.split_once("://") {
        None => (false, url),
        // Schemes are case-insensitive (RFC 3986, section 3.1).
        Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
            "mqtt" | "tcp" => (false, rest),
            "mqtts" | "ssl" | "tls" => (true, rest),
            _ => return Err(wrong(&format!("expected mqtt or mqtts as scheme; got {scheme:?}"))),
        },
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('@') {
        // Do not repeat the URL: the part before the @ may be a password.
        return Err(wrong("a username or password does not belong in the URL")
            .hint("Use --username and --password-file, or let the password be derived"));
    }
    if rest.contains(['/', '?', '#']) || rest.contains(char::is_whitespace) {
        return Err(wrong(&format!("expected a host and a port; got {url:?}")));
    }
    let (host, port) = if let Some(inner) = rest.strip_prefix('[') {
        let (host, after) =
            inner.split_once(']').ok_or_else(|| wrong("the IPv6 address has no closing ]"))?;
        let port = if after.is_empty() {
            None
        } else {
            Some(after.strip_prefix(':').ok_or_else(|| wrong("expected :PORT after ]"))?)
        };
        (host, port)
    } else if rest.matches(':').count() > 1 {
        (rest, None)
    } else {
        rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)))
    };
    if host.is_empty() {
        return Err(wrong(&format!("{url:?} has no host")));
    }
    let port = match port {
        None => 21_883,
        Some("") => {
            return Err(wrong(&format!("the port after the colon of {url:?} is missing"))
                .hint("Without a colon the port is 21883"));
        }
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => port,
            _ => return Err(wrong(&format!("expected a port from 1 to 65535; got {port:?}"))),
        },
    };
    Ok((BrokerAddress { host: host.to_owned(), port }, tls))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_answer_is_success_or_a_code() {
        assert_eq!(fixed_answer("success"), Ok((0, "success".into())));
        assert_eq!(fixed_answer("2001"), Ok((2001, "device is offline".into())));
        assert_eq!(fixed_answer("400:tedge error: stuck"), Ok((400, "tedge error: stuck".into())));
        assert!(fixed_answer("maybe").is_err());
    }

    #[test]
    fn a_dp_map_names_what_is_wrong() {
        assert_eq!(dp_id("switch=1"), Ok(("switch".to_owned(), 1)));
        assert!(dp_id("switch=0").unwrap_err().contains("\"0\""));
        assert!(dp_id("switch").unwrap_err().contains("CODE=ID"));
    }

    #[test]
    fn a_keep_alive_is_whole_seconds_of_16_bits() {
        assert_eq!(keep_alive("0s"), Ok(Duration::ZERO));
        assert_eq!(keep_alive("65535s"), Ok(Duration::from_secs(65_535)));
        for text in ["65536s", "1500ms", "60"] {
            assert!(keep_alive(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_speed_is_a_positive_factor_or_max() {
        assert_eq!(speed("max"), Ok(ReplaySpeed::Max));
        assert_eq!(speed("0.5"), Ok(ReplaySpeed::Factor(0.5)));
        for text in ["0", "-1", "inf", "NaN", "fast"] {
            assert!(speed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_mapping_has_two_sides() {
        assert_eq!(mapping("a=b=c"), Ok(("a".into(), "b=c".into())));
        for text in ["a", "a=", "=b", ""] {
            assert!(mapping(text).is_err(), "{text}");
        }
    }

    #[test]
    fn urls_name_host_port_and_tls() {
        for (url, host, port, tls) in [
            ("mqtt://edge", "edge", 21_883, false),
            ("mqtts://edge:8883", "edge", 8883, true),
            ("10.0.0.7:1883", "10.0.0.7", 1883, false),
            ("edge", "edge", 21_883, false),
            ("mqtt://[::1]:1883", "::1", 1883, false),
            ("::1", "::1", 21_883, false),
            ("MQTT://edge", "edge", 21_883, false),
            ("Mqtts://edge:1", "edge", 1, true),
            ("mqtt://[::1]", "::1", 21_883, false),
            ("mqtt://[::1]/", "::1", 21_883, false),
        ] {
            let (address, found) = parse_url(url).unwrap();
            assert_eq!((address.host.as_str(), address.port, found), (host, port, tls), "{url}");
        }
        for url in [
            "http://edge",
            "mqtt://",
            "edge:0",
            "edge:x",
            "edge/path",
            "mqtt://[::1",
            "a b",
            "127.0.0.1:",
            "mqtt://edge:/",
            "[::1]:",
        ] {
            assert!(parse_url(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        let failure = parse_url("mqtt://me:s3cret@edge").unwrap_err();
        assert!(!format!("{failure:?}").contains("s3cret"));
    }
}
