//! Certificates and keys from the text of PEM files, and what to do about files that are none. Pure.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use tokio_rustls::rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject as _},
};

const BEGIN: &str = "-----BEGIN ";
const END: &str = "-----END ";
/// The beginning of the object identifiers of PKCS #7, in DER (RFC 5652, section 14).
const PKCS7: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07";

/// Why a file cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub struct Unusable {
    /// The problem, as the end of a sentence that begins with the file's name.
    pub what: String,
    /// What to do next.
    pub hint: Option<String>,
}

/// The certificates of a file, in their order; `place` is its name for hints. Other items are skipped.
///
/// # Errors
/// A file without a certificate, or with a damaged one.
pub fn certificates(bytes: &[u8], place: &str) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let text = normalised(bytes);
    match CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        Ok(_) => Err(diagnosis(bytes, &text, Wanted::Certificate, None, place)),
        Err(why) => Err(diagnosis(bytes, &text, Wanted::Certificate, Some(&why), place)),
    }
}

/// The first private key of a file; `place` is its name for hints.
///
/// # Errors
/// A file without such a key, or with a damaged or encrypted one.
pub fn key(bytes: &[u8], place: &str) -> Result<PrivateKeyDer<'static>, Unusable> {
    let text = normalised(bytes);
    PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|why| {
        let why = Some(&why).filter(|why| !matches!(why, pem::Error::NoItemsFound));
        diagnosis(bytes, &text, Wanted::Key, why, place)
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Certificate,
    Key,
}

impl Wanted {
    fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate",
            Self::Key => "private key",
        }
    }
}

/// The text without a mark of byte order, with its lines ended by a line feed and neither indented nor padded.
fn normalised(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.trim_start_matches('\u{feff}').split(['\n', '\r']).map(str::trim);
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn diagnosis(bytes: &[u8], text: &str, wanted: Wanted, why: Option<&pem::Error>, place: &str) -> Unusable {
    let name = wanted.name();
    let unusable =
        |what: String, hint: String| Unusable { what, hint: Some(hint).filter(|hint| !hint.is_empty()) };
    let label = label(text);
    let Some(label) = label else {
        if let Some(command) = conversion(bytes, wanted) {
            let command = command.replace("FILE", place);
            return unusable(format!("holds no PEM {name}"), format!("Convert it: {command}"));
        }
        let hint = format!("PEM is text, and begins with a line {BEGIN}{}-----", name.to_uppercase());
        return unusable(format!("holds no PEM {name}"), hint);
    };
    if text.lines().any(|line| line.contains("-----\\n")) {
        let hint = format!(r"Make line ends of them: sed 's/\\n/\n/g' {place} > new.pem");
        return unusable(format!(r"has the characters \n where the lines of the {name} must end"), hint);
    }
    let is_alone = |line: &str| {
        line.starts_with("-----") && line.ends_with("-----") && line.matches("-----").count() == 2
    };
    if text.lines().any(|line| (line.contains(BEGIN) || line.contains(END)) && !is_alone(line)) {
        let hint = "Put the -----BEGIN and -----END marks on lines of their own, too".to_owned();
        return unusable(
            format!("has lost its line breaks: the {name} must begin on a line of its own"),
            hint,
        );
    }
    let other = match (wanted, label) {
        (Wanted::Certificate, "TRUSTED CERTIFICATE" | "X509 CERTIFICATE") => {
            "openssl x509 -in FILE -out new.pem"
        }
        (Wanted::Certificate, "PKCS7" | "CMS" | "PKCS #7 SIGNED DATA") => {
            "openssl pkcs7 -print_certs -in FILE -out new.pem"
        }
        (Wanted::Key, "ENCRYPTED PRIVATE KEY") => "openssl pkey -in FILE -out new.pem",
        _ => "",
    };
    if !other.is_empty() {
        let command = other.replace("FILE", place);
        return unusable(format!("holds no PEM {name}, but {label:?}"), format!("Convert it: {command}"));
    }
    if wanted == Wanted::Key && text.contains("Proc-Type: 4,ENCRYPTED") {
        let hint = format!("Take its password away: openssl pkey -in {place} -out new.pem");
        return unusable("holds an encrypted private key".into(), hint);
    }
    let is_wanted = match wanted {
        Wanted::Certificate => label == "CERTIFICATE",
        Wanted::Key => label.ends_with("PRIVATE KEY"),
    };
    if !is_wanted {
        return unusable(format!("holds no PEM {name}, but {label:?}"), String::new());
    }
    match why {
        Some(pem::Error::MissingSectionEnd { .. }) => {
            let hint = "The file is cut off; copy it again".to_owned();
            unusable(format!("has no line {END}{label}-----"), hint)
        }
        Some(pem::Error::Base64Decode(_)) => {
            unusable(format!("holds a damaged {name}: its lines are no base64"), "Copy it again".into())
        }
        // The library's other errors repeat the file's bytes.
        _ => unusable(format!("holds a damaged {name}"), "Copy it again".into()),
    }
}

/// The first label of a text, such as CERTIFICATE.
fn label(text: &str) -> Option<&str> {
    let after = &text[text.find(BEGIN)? + BEGIN.len()..];
    let end = after.find("-----").or_else(|| after.find('\n'))?;
    // A file of another kind may hold the mark by chance.
    Some(after[..end].trim())
        .filter(|label| label.len() < 40 && label.bytes().all(|byte| (b' '..0x7f).contains(&byte)))
}

/// The command that makes PEM of what a file holds in another form.
fn conversion(bytes: &[u8], wanted: Wanted) -> Option<&'static str> {
    let beginning = &bytes[..bytes.len().min(64)];
    let contains = |part: &[u8]| beginning.windows(part.len()).any(|window| window == part);
    let is_der = matches!(bytes, [0x30, 0x81..=0x84, ..]);
    let is_base64 = bytes.starts_with(b"MII");
    Some(match (wanted, is_der) {
        (Wanted::Certificate, true) if contains(b"\x02\x01\x03\x30") => {
            "openssl pkcs12 -in FILE -nokeys -out new.pem"
        }
        (Wanted::Certificate, true) if contains(PKCS7) => {
            "openssl pkcs7 -inform DER -print_certs -in FILE -out new.pem"
        }
        (Wanted::Certificate, true) => "openssl x509 -inform DER -in FILE -out new.pem",
        (Wanted::Key, true) if contains(b"\x02\x01\x03\x30") => {
            "openssl pkcs12 -in FILE -nocerts -nodes -out new.pem"
        }
        (Wanted::Key, true) => "openssl pkey -inform DER -in FILE -out new.pem",
        (Wanted::Certificate, false) if is_base64 => {
            "openssl base64 -d -in FILE | openssl x509 -inform DER -out new.pem"
        }
        (Wanted::Key, false) if is_base64 => {
            "openssl base64 -d -in FILE | openssl pkey -inform DER -out new.pem"
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn refused(bytes: impl AsRef<[u8]>) -> (String, String) {
        let Unusable { what, hint } = certificates(bytes.as_ref(), "ca.file").unwrap_err();
        let hint = hint.unwrap_or_default();
        assert!(what.len() + hint.len() < 160, "{what}. {hint}");
        (what, hint)
    }

    #[test]
    fn marks_indents_and_line_ends_of_any_editor_are_passed_over() {
        let (certificate, key) = made();
        let indented = certificate.replace('\n', "\n    ");
        for text in [
            certificate.clone(),
            certificate.replace('\n', "\r\n"),
            certificate.replace('\n', "\r"),
            format!("\u{feff}{certificate}"),
            format!("    {indented}"),
            format!("# the plant's\n{certificate}{key}"),
        ] {
            assert_eq!(certificates(text.as_bytes(), "ca.file").map(|all| all.len()), Ok(1), "{text}");
        }
        assert_eq!(certificates(certificate.repeat(2).as_bytes(), "ca.file").map(|all| all.len()), Ok(2));
    }

    #[test]
    fn lost_line_breaks_are_named_and_the_text_is_not_repeated() {
        let (certificate, _) = made();
        for text in [
            certificate.replace('\n', ""),
            certificate.replace('\n', " "),
            certificate.replacen("-----\n", "-----", 1),
            format!("CA=\"{certificate}\""),
            certificate.replace('\n', "").repeat(2),
        ] {
            let (what, _) = refused(&text);
            assert_eq!(
                what, "has lost its line breaks: the certificate must begin on a line of its own",
                "{text}"
            );
        }
        let (what, hint) = refused(certificate.replace('\n', "\\n"));
        assert!(what.contains(r"\n where the lines") && hint.contains("sed"), "{what} {hint}");
    }

    #[test]
    fn other_forms_are_told_with_the_command_that_converts_them() {
        let (certificate, key) = made();
        let der = certificates(certificate.as_bytes(), "").unwrap().remove(0).to_vec();
        let relabelled = |label: &str| certificate.replace("CERTIFICATE", label);
        let pkcs7 = [b"\x30\x82\x05\x00\x06\x09".as_slice(), PKCS7, b"\x02"].concat();
        let base64: String = certificate.lines().filter(|line| !line.starts_with('-')).collect();
        for (bytes, command) in [
            (der, "openssl x509 -inform DER -in ca.file -out new.pem"),
            (pkcs7, "openssl pkcs7 -inform DER -print_certs -in ca.file -out new.pem"),
            (relabelled("PKCS7").into_bytes(), "openssl pkcs7 -print_certs -in ca.file -out new.pem"),
            (relabelled("TRUSTED CERTIFICATE").into_bytes(), "openssl x509 -in ca.file -out new.pem"),
            (b"\x30\x82\x09\x00\x02\x01\x03\x30".to_vec(), "openssl pkcs12 -in ca.file -nokeys -out new.pem"),
            (base64.into_bytes(), "openssl base64 -d -in ca.file | openssl x509 -inform DER -out new.pem"),
        ] {
            let (what, hint) = refused(&bytes);
            assert!(
                what.starts_with("holds no PEM certificate") && hint.ends_with(command),
                "{what}: {hint}"
            );
        }
        for (bytes, what) in [
            (key, "holds no PEM certificate, but \"PRIVATE KEY\""),
            (relabelled("CERTIFICATE REQUEST"), "holds no PEM certificate, but \"CERTIFICATE REQUEST\""),
            ("nonsense".to_owned(), "holds no PEM certificate"),
            (String::new(), "holds no PEM certificate"),
            (certificate[..certificate.len() - 30].to_owned(), "has no line -----END CERTIFICATE-----"),
            (certificate.replacen("MII", "M*I", 1), "holds a damaged certificate: its lines are no base64"),
        ] {
            assert_eq!(refused(bytes).0, what);
        }
    }

    #[test]
    fn a_key_is_no_certificate_and_must_not_be_encrypted() {
        let (certificate, key_pem) = made();
        assert!(key(format!("{certificate}{key_pem}").as_bytes(), "key.file").is_ok());
        let refused = |text: &str| key(text.as_bytes(), "key.file").unwrap_err().what;
        assert_eq!(refused(&certificate), "holds no PEM private key, but \"CERTIFICATE\"");
        assert_eq!(
            refused(&key_pem.replace("PRIVATE", "ENCRYPTED PRIVATE")),
            "holds no PEM private key, but \"ENCRYPTED PRIVATE KEY\""
        );
        assert_eq!(
            refused(&key_pem.replace('\n', "")),
            "has lost its line breaks: the private key must begin on a line of its own"
        );
    }
}
