//! TLS: whom to trust, by which name, and what to say where either is wrong.

use std::{fs, path::Path};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

use super::{edge::Edge, mosquitto::Mosquitto};
use crate::process::{Ended, gateway, run};

/// An authority and a server's certificate from it, as files of this name.
fn certify(folder: &Path, name: &str, hosts: &[&str], expired: bool) {
    let mut authority = CertificateParams::new([]).expect("a certificate");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, format!("authority {name}"));
    let authority_key = KeyPair::generate().expect("a certificate");
    let authority_pem = authority.self_signed(&authority_key).expect("a certificate").pem();
    let issuer = Issuer::new(authority, authority_key);
    let mut server = CertificateParams::new(hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>())
        .expect("a certificate");
    if expired {
        server.not_before = date_time_ymd(2020, 1, 1);
        server.not_after = date_time_ymd(2020, 12, 31);
    }
    let key = KeyPair::generate().expect("a certificate");
    let certificate = server.signed_by(&key, &issuer).expect("a certificate");
    for (end, text) in [("ca.pem", authority_pem), ("crt", certificate.pem()), ("key", key.serialize_pem())] {
        fs::write(folder.join(format!("{name}.{end}")), text).expect("a certificate");
    }
}

#[test]
fn ca_file_and_server_name_are_verified() {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (good, expired) = (free(), free());
    let lines = format!(
        "allow_anonymous true\nlistener {good} 127.0.0.1\ncertfile FOLDER/good.crt\nkeyfile FOLDER/good.key\n\
         listener {expired} 127.0.0.1\ncertfile FOLDER/old.crt\nkeyfile FOLDER/old.key\n"
    );
    let Some(mosquitto) = Mosquitto::start(&lines, |folder| {
        certify(folder, "good", &["edge.test"], false);
        certify(folder, "old", &["edge.test"], true);
        certify(folder, "other", &["edge.test"], false);
    }) else {
        return;
    };
    let _edge = Edge::behind(mosquitto.port);
    let file = |name: &str| mosquitto.folder.path().join(name).to_str().unwrap().to_owned();
    let (trusted, untrusted, old) = (file("good.ca.pem"), file("other.ca.pem"), file("old.ca.pem"));
    let report = |scheme: &str, port: u16, args: &[&str]| -> Ended {
        let args = [&["--cid", "m1", "1=1", "--timeout", "20s", "--connect-timeout", "20s"], args].concat();
        run(&mut gateway("report", &format!("{scheme}://127.0.0.1:{port}"), &args))
    };
    let named = ["--tls-server-name", "edge.test"];
    let expect = |ended: &Ended, code: i32, says: &str| {
        assert_eq!(ended.code, Some(code), "{ended:#?}");
        assert!(ended.stderr.contains(says), "{says}: {ended:#?}");
    };
    let with = |ca: &str| {
        [&["--ca-file", ca][..], &named].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let run_with_ca = |port, ca: &str| {
        let args = with(ca);
        report("mqtts", port, &args.iter().map(String::as_str).collect::<Vec<_>>())
    };

    let trusted_run = run_with_ca(good, &trusted);
    expect(&trusted_run, 0, "");
    assert_eq!(trusted_run.line()["ok"], true);
    expect(&report("mqtts", good, &["--ca-file", &trusted]), 3, "--tls-server-name");
    expect(&run_with_ca(good, &untrusted), 3, "--ca-file");
    expect(&run_with_ca(expired, &old), 3, "expired");
    expect(
        &report("mqtts", expired, &["--tls-insecure"]),
        0,
        "nothing of the broker's certificate is verified",
    );
    expect(&report("mqtts", mosquitto.port, &["--tls-insecure"]), 3, "mqtt://");
    let plain = report("mqtt", good, &[]);
    assert!(matches!(plain.code, Some(3 | 6)), "{plain:#?}");
    assert!(plain.stderr.contains("mqtts://"), "{plain:#?}");

    let args = [&["--cid", "m1", "1=1"], &named[..]].concat();
    let url = format!("mqtts://127.0.0.1:{good}");
    let system = run(gateway("report", &url, &args).env("SSL_CERT_FILE", &trusted));
    expect(&system, 0, "");
    let no_pem = run(&mut gateway("report", &url, &["--cid", "m1", "1=1", "--ca-file", &file("good.key")]));
    assert_eq!((no_pem.code, no_pem.lines.len()), (Some(2), 0), "{no_pem:#?}");
}

/// What boxes in the field carry, and what hurried people make: each is refused with its reason, and taken unverified.
#[test]
fn bad_certificates_are_accepted_only_with_tls_insecure() {
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (weak, own, nameless, mutual) = (free(), free(), free(), free());
    let lines = format!(
        "allow_anonymous true\n\
         listener {weak} 127.0.0.1\nciphers ALL:@SECLEVEL=0\ncertfile FOLDER/weak\nkeyfile FOLDER/weak\n\
         listener {own} 127.0.0.1\ncertfile FOLDER/own.crt\nkeyfile FOLDER/own.key\n\
         listener {nameless} 127.0.0.1\ncertfile FOLDER/none.crt\nkeyfile FOLDER/none.key\n\
         listener {mutual} 127.0.0.1\ncertfile FOLDER/good.crt\nkeyfile FOLDER/good.key\n\
         cafile FOLDER/good.ca.pem\nrequire_certificate true\n"
    );
    let Some(mosquitto) = Mosquitto::start(&lines, |folder| {
        // A key of 1,024 bits, which the library that makes the others refuses to make.
        fs::write(folder.join("weak"), include_str!("rsa-1024.pem")).unwrap();
        let mut own = CertificateParams::new(["edge.test".to_owned()]).unwrap();
        own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        fs::write(folder.join("own.crt"), own.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(folder.join("own.key"), key.serialize_pem()).unwrap();
        certify(folder, "none", &[], false);
        certify(folder, "good", &["edge.test"], false);
    }) else {
        return;
    };
    let _edge = Edge::behind(mosquitto.port);
    let file = |name: &str| mosquitto.folder.path().join(name).to_str().unwrap().to_owned();
    let report = |port: u16, args: &[&str]| -> Ended {
        let args = [&["--cid", "m1", "1=1", "--timeout", "20s", "--connect-timeout", "20s"], args].concat();
        run(&mut gateway("report", &format!("mqtts://127.0.0.1:{port}"), &args))
    };
    for (port, ca, says) in [
        (weak, "weak", "RSA-1024"),
        (own, "own.crt", "the certificate is an authority's (CA:TRUE)"),
        (nameless, "none.ca.pem", "no subjectAltName"),
    ] {
        let ended = report(port, &["--ca-file", &file(ca), "--tls-server-name", "edge.test"]);
        assert_eq!((ended.code, ended.line()["sent"].as_bool()), (Some(3), Some(false)), "{ended:#?}");
        assert!(ended.stderr.contains(says) && ended.stderr.contains("--tls-insecure"), "{ended:#?}");
        let insecure = report(port, &["--tls-insecure"]);
        assert_eq!((insecure.code, insecure.line()["ok"].as_bool()), (Some(0), Some(true)), "{insecure:#?}");
    }
    let asked = report(mutual, &["--ca-file", &file("good.ca.pem"), "--tls-server-name", "edge.test"]);
    assert_eq!(asked.code, Some(3), "{asked:#?}");
    assert!(asked.stderr.contains("wants a certificate from its clients"), "{asked:#?}");
}
