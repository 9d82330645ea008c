//! One-way TLS for the broker: a certificate chain and its key from PEM files.

use std::{fs, path::Path, sync::Arc};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring},
};

use crate::{
    error::Failure,
    net::pem::{self, Unusable},
    wrapping::refuse_wrapped,
};

/// Reads a certificate chain, the server's own first, and its private key.
///
/// # Errors
/// A file that cannot be read or holds no such thing is named, and so is a key that does not belong to the
/// certificate.
pub fn acceptor(certificates: &Path, key: &Path) -> Result<TlsAcceptor, Failure> {
    let chain = pem::certificates(&read("--tls-cert", certificates)?, &certificates.display().to_string())
        .map_err(|why| unusable("--tls-cert", certificates, why))?;
    let key_der = pem::key(&read("--tls-key", key)?, &key.display().to_string())
        .map_err(|why| unusable("--tls-key", key, why))?;
    let useless = |why: tokio_rustls::rustls::Error| {
        Failure::io(format!("{} and {} cannot be used for TLS: {why}", certificates.display(), key.display()))
            .hint("The key must belong to the first certificate of the file.")
    };
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(useless)?
        .with_no_client_auth()
        .with_single_cert(chain, key_der)
        .map_err(useless)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn read(option: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    let place = path.display();
    let bytes = fs::read(path).map_err(|why| Failure::io(format!("{option}: cannot read {place}: {why}")))?;
    refuse_wrapped(&bytes, &format!("{option}: {place}"))?;
    Ok(bytes)
}

fn unusable(option: &str, path: &Path, why: Unusable) -> Failure {
    Failure::io(format!("{option}: {} {}", path.display(), why.what))
        .hint(why.hint.unwrap_or_else(|| "--tls-cert and --tls-key take PEM files.".to_owned()))
}
