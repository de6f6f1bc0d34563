//! TLS for the endpoint: a certificate from files, or one that is made and kept in a Secret, and a new one when that
//! changes.

pub mod files;
pub mod self_made;
#[cfg(test)]
mod testing;

use std::{io, sync::Arc};

use arc_swap::ArcSwap;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::aws_lc_rs::{Ticketer, default_provider},
    },
    server::TlsStream,
};

/// Why there is no TLS with a certificate. Nothing of a key is in it.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{file} can't be read: {error}")]
    File {
        /// Its path.
        file: String,
        /// Why not.
        error: io::Error,
    },
    /// It is not PEM, or has no certificate.
    #[error("the certificate can't be read: {0}")]
    Certificate(String),
    /// It is not PEM, or holds no key of a kind that is known.
    #[error("the private key can't be read: it has to be one in PEM (PKCS #8, PKCS #1 or SEC 1)")]
    Key,
    /// The two don't belong together, or the library does not take them.
    #[error("the certificate and the private key can't be used: {0}")]
    Pair(String),
    /// A certificate can't be made.
    #[error("a certificate can't be made: {0}")]
    Make(String),
    /// The Secret can't be read or written.
    #[error("the Secret with the certificate: {0}")]
    Secret(#[from] crate::cluster::ApiError),
}

/// Accepts connections with the certificate that is in use now.
#[derive(Clone)]
pub struct Acceptor(Arc<ArcSwap<ServerConfig>>);

impl Acceptor {
    /// Accepts with a certificate and its key, until another pair is given to [`replace`](Self::replace).
    ///
    /// # Errors
    /// [`TlsError`]: they can't be used.
    pub fn new(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(config(chain, key)?))))
    }

    /// Accepts the next connections with this pair.
    ///
    /// # Errors
    /// [`TlsError`]: they can't be used. Then everything stays as it is.
    pub fn replace(&self, chain: &[u8], key: &[u8]) -> Result<(), TlsError> {
        self.0.store(Arc::new(config(chain, key)?));
        Ok(())
    }

    /// The handshake.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        TlsAcceptor::from(self.0.load_full()).accept(stream).await
    }
}

/// TLS 1.2 and 1.3 with a certificate chain and its key, both in PEM.
fn config(chain: &[u8], key: &[u8]) -> Result<ServerConfig, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
        .collect::<Result<_, _>>()
        .map_err(|error| TlsError::Certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(TlsError::Certificate("there is none".into()));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Key)?;
    let pair = |error: tokio_rustls::rustls::Error| TlsError::Pair(error.to_string());
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(pair)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = Ticketer::new().map_err(pair)?;
    Ok(config)
}
