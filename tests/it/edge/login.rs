//! Who may log in at the edge, and how.

use std::fs;

use super::{run_quietly, sync, topic};
use crate::{
    process::{Service, tuyagw},
    wire::{Connect, Frame, Kind, packet, password, publish_with_id, subscribe, text},
};

#[test]
fn each_login_has_its_return_code() {
    let edge = Service::edge(&["--username", "acme"]);
    let code = |client_id: &str, username: Option<&str>, password: Option<&str>| {
        let mut client = edge.client();
        let password = password.map(str::to_owned);
        let connect = Connect { username, password, ..Connect::new(client_id, "acme") };
        let code = client.connect(&connect);
        assert_eq!(code != 0, code != 0 && client.is_closed(), "a refused client is disconnected");
        code
    };
    let good = password("gw1", "acme");
    assert_eq!(code("gw1", Some("acme"), Some(&good)), 0);
    assert_eq!(code("gw1", Some("acme"), Some(&good.to_uppercase())), 4);
    assert_eq!(code("gw1", Some("acme"), None), 4);
    assert_eq!(code("gw1", None, None), 4);
    assert_eq!(code("gw1", Some("other"), Some(&password("gw1", "other"))), 5);
    for id in ["a/b", "+", "#", ""] {
        assert_eq!(code(id, Some("acme"), Some(&password(id, "acme"))), 2, "{id:?}");
    }
    assert_eq!(code("", Some("platform"), Some(&password("", "platform"))), 0);
    assert_eq!(code("x/y", Some("platform"), Some(&password("x/y", "platform"))), 0);

    // MQTT 3.1 and bridges are judged by their login, as MQTT 3.1.1 is.
    for (greeting, level) in [(&b"\0\x06MQIsdp"[..], 3), (b"\0\x06MQIsdp", 0x83), (b"\0\x04MQTT", 0x84)] {
        for (username, password, code) in [("acme", &good[..], 0), ("acme", "wrong", 4), ("other", &good, 5)]
        {
            let mut old = edge.client();
            let names = [text("gw1"), text(username), text(password)].concat();
            old.send(&packet(0x10, &[greeting, &[level], b"\xc2\0\x3c", &names]));
            assert_eq!(old.expect(Kind::ConnAck).body, [0, code], "{level} {username} {password}");
        }
    }
    let mut five = edge.client();
    five.send(&packet(0x10, &[b"\0\x04MQTT\x05\x02\0\x3c\0", &text("gw1")]));
    assert_eq!((five.expect(Kind::ConnAck).body, five.is_closed()), (vec![0, 1], true));

    for id in ["gw\0", "gw\u{1b}[2J"] {
        let mut client = edge.client();
        client.send(&Connect::new(id, "acme").bytes());
        assert!(client.is_closed(), "{id:?} gets no answer");
    }
}

#[test]
fn connect_subscribe_and_publish_may_come_in_one_flight() {
    let edge = Service::edge(&[]);
    let mut client = edge.client();
    let flight = [
        Connect::new("gw1", "acme").bytes(),
        subscribe(1, &[(topic("gw1", "devices/sync/response"), 1)]),
        publish_with_id(2, &topic("gw1", "devices/sync"), 2, sync("m1").as_bytes()),
    ];
    client.send(&flight.concat());
    assert_eq!(client.expect(Kind::ConnAck).body, [0, 0]);
    assert_eq!(client.expect(Kind::SubAck).body, [0, 1, 1]);
    let rest = [client.read().unwrap(), client.read().unwrap()];
    let kinds = rest.each_ref().map(Frame::kind);
    let expected = [Kind::Publish, Kind::PubAck];
    assert!(expected.iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
}

#[test]
fn a_second_client_with_the_same_id_takes_over() {
    let edge = Service::edge(&[]);
    let mut first = edge.gateway("gw1");
    first.subscribe(&[("gateway/in/gw1", 1)]);
    let mut second = edge.gateway("gw1");
    assert!(first.is_closed());
    second.publish("gateway/in/gw1", "x", 1, false);
    second.expect(Kind::PubAck);
    second.ping();
}

#[test]
fn a_certificate_enables_tls() {
    let folder = tempfile::tempdir().unwrap();
    let certified =
        rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    fs::write(&cert, certified.cert.pem()).unwrap();
    fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let output = tuyagw()
        .args(["edge", "--tls-cert", cert, "--tls-key", key, "--", "sh", "-c"])
        .arg("echo $TUYAGW_BROKER $TUYAGW_CA_FILE; tuyagw sync --cid m1 --product-id p1 --tls-insecure")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.starts_with("mqtts://127.0.0.1:") && text.contains(cert), "{text}");
    assert!(text.contains("\"code\":0"), "{text}");
    let output = run_quietly(&["edge", "--tls-cert", key, "--tls-key", key]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("key.pem"));
}

#[test]
fn a_ca_certificate_of_openssl_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let pair = rcgen::KeyPair::generate().unwrap();
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    fs::write(&cert, params.self_signed(&pair).unwrap().pem()).unwrap();
    fs::write(&key, pair.serialize_pem()).unwrap();
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let output = run_quietly(&[
        "edge",
        "--tls-cert",
        cert,
        "--tls-key",
        key,
        "--",
        "tuyagw",
        "sync",
        "--cid",
        "m1",
        "--product-id",
        "p1",
    ]);
    assert_eq!(output.status.code(), Some(3));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("CA:TRUE") && told.contains("basicConstraints=critical,CA:FALSE"), "{told}");
}
