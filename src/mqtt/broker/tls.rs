//! One-way TLS for the broker: a certificate chain and its key from PEM files.

use std::{path::Path, sync::Arc};

use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};

use crate::failure::Failure;

/// Reads a certificate chain, the server's own first, and its private key.
///
/// # Errors
/// A file that cannot be read or holds no such thing is named, and so is a key that does not belong to the
/// certificate.
pub fn acceptor(certificates: &Path, key: &Path) -> Result<TlsAcceptor, Failure> {
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|why| unreadable("certificate", certificates, &why))?;
    if chain.is_empty() {
        return Err(unreadable("certificate", certificates, &"there is no PEM certificate in it"));
    }
    let key_der = PrivateKeyDer::from_pem_file(key).map_err(|why| unreadable("key", key, &why))?;
    let unusable = |why: tokio_rustls::rustls::Error| {
        Failure::io(format!("{} and {} cannot be used for TLS: {why}", certificates.display(), key.display()))
            .hint("The key must belong to the first certificate of the file.")
    };
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, key_der)
        .map_err(unusable)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn unreadable(what: &str, path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::io(format!("cannot read the TLS {what} {}: {why}", path.display()))
        .hint("--tls-cert and --tls-key take PEM files.")
}
