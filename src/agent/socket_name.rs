//! The name of an agent's socket, by which programs on the same machine find it.

use md5::{Digest as _, Md5};

use crate::tuya::GatewayId;

/// How many hexadecimal digits of the digest the name has. A socket's path has room for 108 bytes.
const DIGITS: usize = 16;

/// A broker as the name of a socket knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedBroker<'a> {
    /// Whether the connection is encrypted: `mqtts`, rather than `mqtt`.
    pub is_tls: bool,
    /// The host name or address, as it was given.
    pub host: &'a str,
    /// The TCP port.
    pub port: u16,
}

/// Returns the name of the socket of an agent for these brokers and this gateway, without a suffix: the first 16 hexadecimal
/// digits of the MD5 of `mqtt://host:port/gateway_id`. Scheme and host count in lower case; several brokers are sorted and
/// joined by commas.
#[must_use]
pub fn socket_name(brokers: &[NamedBroker<'_>], gateway: &GatewayId) -> String {
    let mut urls: Vec<_> = brokers.iter().map(url).collect();
    urls.sort();
    let mut name = hex::encode(Md5::digest(format!("{}/{gateway}", urls.join(","))));
    name.truncate(DIGITS);
    name
}

fn url(broker: &NamedBroker<'_>) -> String {
    let scheme = if broker.is_tls { "mqtts" } else { "mqtt" };
    let host = broker.host.to_lowercase();
    if host.contains(':') {
        format!("{scheme}://[{host}]:{}", broker.port)
    } else {
        format!("{scheme}://{host}:{}", broker.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broker(host: &str, port: u16) -> NamedBroker<'_> {
        NamedBroker { is_tls: false, host, port }
    }

    fn name(brokers: &[NamedBroker<'_>]) -> String {
        socket_name(brokers, &GatewayId::new("gw001").unwrap())
    }

    #[test]
    fn a_name_is_the_digest_of_the_url() {
        // printf %s mqtt://edge:21883/gw001 | md5sum | cut -c1-16
        assert_eq!(name(&[broker("edge", 21883)]), "9925b25b7bf57ad4");
        // printf %s 'mqtts://[::1]:8883/gw001' | md5sum | cut -c1-16
        let tls = NamedBroker { is_tls: true, host: "::1", port: 8883 };
        assert_eq!(name(&[tls]), "db5f93531c93b589");
    }

    #[test]
    fn letter_case_and_order_of_brokers_make_no_difference() {
        assert_eq!(name(&[broker("EDGE", 21883)]), name(&[broker("edge", 21883)]));
        let (one, two) = (broker("a", 1), broker("b", 2));
        assert_eq!(name(&[one, two]), name(&[two, one]));
        assert_ne!(name(&[one, two]), name(&[one]));
    }

    #[test]
    fn another_gateway_or_port_has_another_name() {
        let other = socket_name(&[broker("edge", 21883)], &GatewayId::new("gw002").unwrap());
        assert_ne!(name(&[broker("edge", 21883)]), other);
        assert_ne!(name(&[broker("edge", 21883)]), name(&[broker("edge", 1883)]));
    }
}
