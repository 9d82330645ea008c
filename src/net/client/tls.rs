//! One-way TLS (page, "Connection authentication": "SSL/TLS is a one-way authentication mode").

use std::{fs, io, path::Path, sync::Arc};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        self, AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore,
        SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::ring,
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};

use super::address::BrokerAddress;
use crate::{
    error::{Failure, FailureKind},
    net::pem,
    wrapping::refuse_wrapped,
};

/// What to insist on in a broker's certificate.
#[derive(Clone, Debug)]
pub struct Tls {
    server_name: ServerName<'static>,
    config: Arc<ClientConfig>,
    insecure: bool,
}

impl Tls {
    /// TLS with a broker whose certificate carries `server_name` and comes from an authority in the PEM file
    /// `ca_file`, or without one from the system's; `insecure` verifies nothing.
    ///
    /// # Errors
    /// A name that is none, or authorities that cannot be read.
    pub fn new(server_name: &str, ca_file: Option<&Path>, insecure: bool) -> Result<Self, Failure> {
        let name = ServerName::try_from(server_name.to_owned()).map_err(|_| {
            Failure::invalid(format!("{server_name:?} is neither a host name nor an address"))
                .hint("Give the certificate's own name with --tls-server-name NAME")
        })?;
        Ok(Self { server_name: name, config: Arc::new(config(ca_file, insecure)?), insecure })
    }

    /// Whether nothing is verified, which the caller should warn of.
    #[must_use]
    pub fn is_insecure(&self) -> bool {
        self.insecure
    }
}

/// Does the TLS handshake on a connected socket.
pub async fn encrypt<S: AsyncRead + AsyncWrite + Unpin>(
    tls: &Tls,
    address: &BrokerAddress,
    stream: S,
) -> Result<TlsStream<S>, Failure> {
    let connector = TlsConnector::from(Arc::clone(&tls.config));
    connector
        .connect(tls.server_name.clone(), stream)
        .await
        .map_err(|why| refusal(address, &tls.server_name.to_str(), &why))
}

fn config(ca_file: Option<&Path>, insecure: bool) -> Result<ClientConfig, Failure> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|why| Failure::io(format!("TLS cannot be set up: {why}")))?;
    let config = if insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(TrustAnything)).with_no_client_auth()
    } else {
        builder.with_root_certificates(roots(ca_file)?).with_no_client_auth()
    };
    Ok(config)
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, Failure> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca_file {
        let place = path.display();
        let bytes =
            fs::read(path).map_err(|why| Failure::io(format!("--ca-file: cannot read {place}: {why}")))?;
        refuse_wrapped(&bytes, &format!("--ca-file: {place}"))?;
        let certificates = pem::certificates(&bytes, &place.to_string()).map_err(|why| {
            let failure = Failure::io(format!("--ca-file: {place} {}", why.what));
            match why.hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        })?;
        for certificate in certificates {
            roots.add(certificate).map_err(|why| {
                Failure::io(format!("--ca-file: a certificate in {place} cannot be used: {why}"))
            })?;
        }
    } else {
        let (_added, _ignored) =
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(Failure::io("the system has no trusted certificate authorities")
                .hint("Name the edge's authority with --ca-file PEM"));
        }
    }
    Ok(roots)
}

/// A failed handshake in words, with the option that helps.
fn refusal(address: &BrokerAddress, name: &str, why: &io::Error) -> Failure {
    let failure = |message: String| {
        Failure::new(FailureKind::Connection, format!("TLS with {address} failed: {message}"))
    };
    let Some(error) = why.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        return failure(format!("{why}"))
            .hint("Does the port speak plain MQTT? Then write mqtt:// in --broker");
    };
    match error {
        rustls::Error::InvalidCertificate(problem) => match problem {
            CertificateError::UnknownIssuer => failure("the certificate's issuer is not trusted".into())
                .hint("Name the edge's certificate authority with --ca-file PEM"),
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => failure(format!(
                "the certificate has expired ({error})"
            ))
            .hint("Check this machine's clock; then have the certificate renewed, or use --tls-insecure"),
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                failure(format!("the certificate is not valid yet ({error})"))
                    .hint("Check this machine's clock")
            }
            CertificateError::NotValidForNameContext { presented, .. } if presented.is_empty() => {
                failure("the certificate has no subjectAltName, so that it is for no host".into())
                    .hint("Have it made anew with one; --tls-insecure accepts it without any verification")
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                failure(format!("the certificate is not for {name:?} ({error})"))
                    .hint("Give the certificate's own name with --tls-server-name NAME")
            }
            // The library that finds these out has its error types to itself. `openssl req -x509` makes such a
            // certificate unless it is told otherwise.
            CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
                failure("the certificate is an authority's (CA:TRUE), and no server's".into()).hint(
                    "Make the edge's with basicConstraints=CA:FALSE: openssl req -x509 -addext \
                     basicConstraints=critical,CA:FALSE …; --tls-insecure accepts it without any verification",
                )
            }
            CertificateError::Other(other) if format!("{other:?}").contains("UnsupportedCertVersion") => {
                failure("the certificate is X.509 version 1".into()).hint(
                    "Have one of version 3 made, with a subjectAltName; --tls-insecure accepts it without any \
                     verification",
                )
            }
            _ => failure(format!("{error}")).hint(
                "The certificate uses what is no longer secure, such as RSA-1024; --tls-insecure accepts it without \
                 any verification",
            ),
        },
        rustls::Error::InvalidMessage(_) => failure("what answers does not speak TLS".into())
            .hint("Does the port speak plain MQTT? Then write mqtt:// in --broker"),
        _ => match advice(why) {
            Some(hint) => failure(format!("{error}")).hint(hint),
            None => failure(format!("{error}")),
        },
    }
}

/// What to do about a peer that ended an encrypted connection by an alert.
pub fn advice(why: &io::Error) -> Option<&'static str> {
    match why.get_ref()?.downcast_ref()? {
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => Some(
            "The broker wants a certificate from its clients; the protocol has one-way TLS, so turn that off there",
        ),
        _ => None,
    }
}

/// The verifier of `--tls-insecure`: neither the certificate nor the handshake's signature is checked, since
/// some boxes carry RSA-1024 keys, whose signatures cannot be checked at all.
#[derive(Debug)]
struct TrustAnything;

impl ServerCertVerifier for TrustAnything {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
