//! Client ids, topic names and filters at their limits.

use super::hostile::assert_small;
use crate::{
    process::Service,
    wire::{Client, Kind},
};

#[test]
fn filters_of_thirty_thousand_levels_are_refused() {
    let edge = Service::edge(&[]);
    let mut witness = edge.gateway("witness");
    let mut gateway = edge.gateway("gw1");
    let mut platform = edge.platform("console");
    for deep in ["+/".repeat(30_000) + "+", "a/".repeat(30_000) + "#", "/".repeat(60_000) + "#"] {
        assert_eq!(platform.subscribe(&[(&deep, 0), ("a/+", 0)]), [0x80, 0]);
        let own = format!("gateway_id/gw1/{}", &deep[..60_000]);
        assert_eq!(gateway.subscribe(&[(own.trim_end_matches('/'), 0)]).len(), 1);
        let name = deep.replace(['+', '#'], "b");
        platform.publish(&name, "x", 1, false);
        platform.expect(Kind::PubAck);
        witness.ping();
    }
    // Without a wildcard depth costs nothing; a hundred levels are there with one.
    let name = "/".repeat(60_000);
    assert_eq!(platform.subscribe(&[(&name, 0)]), [0]);
    let hundred = "a/".repeat(99) + "#";
    assert_eq!(platform.subscribe(&[(&hundred, 0)]), [0]);
    platform.publish(&"a/".repeat(200), "deep", 0, false);
    assert_eq!(platform.message().payload, b"deep");
    witness.ping();
    assert_small(&edge, "deep filters");
}

#[test]
fn a_client_without_an_id_gets_an_unused_id() {
    let edge = Service::edge(&[]);
    let mut gateways: Vec<Client> = (20..40).map(|n| edge.gateway(&format!("platform-{n}"))).collect();
    for _ in 0..5 {
        let mut nameless = edge.platform("");
        nameless.ping();
        gateways.iter_mut().for_each(Client::ping);
        gateways.push(nameless);
    }
}

#[test]
fn ids_and_filters_of_a_gateway_reach_no_other_gateway() {
    let edge = Service::edge(&[]);
    let mut watcher = edge.platform("watcher");
    watcher.subscribe(&[("#", 0)]);
    // As in CVE-2017-7650: ids that become patterns if a broker inserts them into one.
    for id in ["+", "#", "/", "a/+", "gw1/../gw2", "../gw2"] {
        let code = edge.client().login(id, "acme", true);
        assert_eq!(code, 2, "{id:?}");
    }
    for id in ["$SYS", "$share", "%c", "{gateway_id}", "*", "."] {
        let mut gateway = edge.gateway(id);
        let codes = gateway.subscribe(&[
            ("$SYS/#", 0),
            ("$share/group/#", 0),
            ("$share/group/gateway_id/gw1/#", 0),
            ("gateway_id/gw1/#", 0),
            ("gateway_id//#", 0),
            ("+/+/commands", 0),
        ]);
        assert_eq!(codes, [0x80; 6], "{id:?}");
    }
    // MQTT 3.1.1 knows no shared subscriptions: their names are names.
    let mut platform = edge.platform("console");
    assert_eq!(platform.subscribe(&[("$share/group/a", 0), ("$SYS/#", 0)]), [0, 0]);
    watcher.publish("a", "x", 0, false);
    assert_eq!(watcher.message().topic, "a");
    platform.ping();
    // A subscription to `#` does not receive what a platform user publishes there (4.7.2).
    watcher.publish("$SYS/broker/load", "x", 0, false);
    assert_eq!(platform.message().topic, "$SYS/broker/load");
    watcher.ping();
    let long = "g".repeat(65_535);
    assert_eq!(edge.client().login(&long, "acme", true), 2, "an id of which thousands could not be kept");
    watcher.ping();
}

#[test]
fn topics_may_contain_unicode_and_spaces() {
    let edge = Service::edge(&[]);
    let mut all = edge.platform("all");
    all.subscribe(&[("#", 0), ("$/#", 0), ("$", 0), ("+/+", 0), ("/", 0)]);
    let mut sender = edge.platform("sender");
    let long = "é".repeat(32_767);
    for name in ["$", "$/", "$x/y", "/", "//", " ", "a//b", "/a", "\u{feff}", "\u{10ffff}", &long] {
        sender.publish(name, "strange", 1, true);
        sender.expect(Kind::PubAck);
        let is_hidden = name == "$x/y";
        if !is_hidden {
            assert_eq!(all.message().topic, name);
        }
        sender.publish(name, "", 1, true);
        sender.expect(Kind::PubAck);
        if !is_hidden {
            assert_eq!(all.message().payload, b"");
        }
    }
    all.ping();
}
