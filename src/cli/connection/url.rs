//! The broker's URL: a host, a port, and whether TLS is spoken.

use crate::{error::Failure, net::client::BrokerAddress};

/// Parses a broker URL into its address and whether it wants TLS.
pub fn parse_url(url: &str) -> Result<(BrokerAddress, bool), Failure> {
    let wrong = |why: &str| {
        Failure::invalid(format!("--broker: {why}"))
            .hint("Write mqtt://HOST:PORT, mqtts://HOST:PORT or HOST:PORT")
    };
    let (tls, rest) = match url.split_once("://") {
        None => (false, url),
        // The case of a scheme means nothing (RFC 3986, section 3.1).
        Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
            "mqtt" | "tcp" => (false, rest),
            "mqtts" | "ssl" | "tls" => (true, rest),
            _ => return Err(wrong(&format!("{scheme:?} is not a scheme tuyagw speaks"))),
        },
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('@') {
        // The URL itself is not repeated: what stands before the @ may be a password.
        return Err(wrong("a username or password does not belong in the URL")
            .hint("Use --username and --password-file, or let the password be derived"));
    }
    if rest.contains(['/', '?', '#']) || rest.contains(char::is_whitespace) {
        return Err(wrong(&format!("{url:?} has more than a host and a port")));
    }
    let (host, port) = if let Some(inner) = rest.strip_prefix('[') {
        let (host, after) = inner.split_once(']').ok_or_else(|| wrong("an IPv6 address misses its ]"))?;
        let port = if after.is_empty() {
            None
        } else {
            Some(after.strip_prefix(':').ok_or_else(|| wrong("after ] comes :PORT"))?)
        };
        (host, port)
    } else if rest.matches(':').count() > 1 {
        (rest, None)
    } else {
        rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port)))
    };
    if host.is_empty() {
        return Err(wrong(&format!("{url:?} names no host")));
    }
    let port = match port {
        None => 21_883,
        Some("") => {
            return Err(wrong(&format!("after the colon of {url:?} the port is missing"))
                .hint("Without a colon the port is 21883"));
        }
        Some(port) => match port.parse() {
            Ok(port) if port > 0 => port,
            _ => return Err(wrong(&format!("{port:?} is not a port from 1 to 65535"))),
        },
    };
    Ok((BrokerAddress { host: host.to_owned(), port }, tls))
}

#[cfg(test)]
mod tests {
    use super::*;

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
