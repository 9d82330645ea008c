//! The address to listen on: its resolution, and the line on stdout that announces it.

use std::net::{SocketAddr, ToSocketAddrs as _};

use serde::Serialize;

use crate::{error::Failure, json::json_line};

/// Resolves the `HOST:PORT` of `--listen`.
///
/// # Errors
/// A text of another form, or a host without an address.
pub fn resolve(listen: &str) -> Result<SocketAddr, Failure> {
    let unusable = |why: String| {
        Failure::invalid(format!("--listen {listen}: {why}")).hint("Write HOST:PORT, such as 127.0.0.1:21883")
    };
    let mut found = listen.to_socket_addrs().map_err(|why| unusable(why.to_string()))?;
    found.next().ok_or_else(|| unusable("the host has no address".into()))
}

/// Returns the line that tells scripts the bound address.
#[must_use]
pub fn listening_event(url: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct ListeningEvent<'a> {
        event: &'static str,
        broker: &'a str,
    }
    json_line(&ListeningEvent { event: "listening", broker: url })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_a_port() {
        assert_eq!(resolve("127.0.0.1:0").unwrap(), SocketAddr::from(([127, 0, 0, 1], 0)));
        for listen in ["127.0.0.1", "127.0.0.1:x", ""] {
            assert!(resolve(listen).unwrap_err().message.contains("--listen"), "{listen}");
        }
    }

    #[test]
    fn the_event_names_the_broker() {
        assert_eq!(
            listening_event("mqtt://127.0.0.1:1"),
            b"{\"event\":\"listening\",\"broker\":\"mqtt://127.0.0.1:1\"}\n"
        );
    }
}
