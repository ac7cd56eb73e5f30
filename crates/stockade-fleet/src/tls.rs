//! TLS: whom to trust, how to show who we are, and what is wrong with a certificate.

use std::{error::Error, io, sync::Arc};

use redis::{Client, ClientTlsConfig, TlsCertificates};
use rustls::{
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, pem::PemObject as _},
};

use crate::{Fault, Redis, RedisError};

/// What is known of certificates before anything is set: the system's authorities are trusted.
pub(crate) const SYSTEM: TlsCertificates = TlsCertificates { client_tls: None, root_cert: None };

// === impl Redis ===

impl Redis {
    /// Trusts the authorities in `roots`, which is PEM, in place of those that the system trusts.
    ///
    /// # Errors
    ///
    /// [`Fault::Tls`], if there is no certificate in it; [`Fault::Url`], if the URL does not begin with `rediss://`.
    pub fn trust(self, roots: &[u8]) -> Result<Self, RedisError> {
        self.holds_certificate("the authorities", roots)?;
        self.certified(|known| known.root_cert = Some(roots.to_vec()))
    }

    /// Shows the server this certificate where it asks for one; it and its key are PEM.
    ///
    /// # Errors
    ///
    /// [`Fault::Tls`], if either is none; [`Fault::Url`], if the URL does not begin with `rediss://`. That the two do not
    /// belong together is found when the connection is made.
    pub fn identity(self, certificate: &[u8], key: &[u8]) -> Result<Self, RedisError> {
        self.holds_certificate("the identity", certificate)?;
        let (client_cert, client_key) = (certificate.to_vec(), key.to_vec());
        self.certified(|known| known.client_tls = Some(ClientTlsConfig { client_cert, client_key }))
    }

    fn certified(self, setter: impl FnOnce(&mut TlsCertificates)) -> Result<Self, RedisError> {
        let mut certificates = self.link.to.certificates.clone();
        setter(&mut certificates);
        let info = self.link.to.client.get_connection_info().clone();
        let client = Client::build_with_tls(info, certificates.clone());
        let client = client.map_err(|error| match error.kind() {
            redis::ErrorKind::InvalidClientConfig => RedisError::url(),
            _ => RedisError::new(&self.link.to.place, Fault::Tls, error.to_string()),
        })?;
        Ok(self.set(|to| (to.client, to.certificates) = (client, certificates)))
    }

    fn holds_certificate(&self, what: &str, pem: &[u8]) -> Result<(), RedisError> {
        if matches!(CertificateDer::pem_slice_iter(pem).next(), Some(Ok(_))) {
            return Ok(());
        }
        let said = format!("{what}: expected PEM with a certificate");
        Err(RedisError::new(&self.link.to.place, Fault::Tls, said))
    }
}

/// Has the process use ring, unless it has chosen a provider by itself: without one, rustls panics.
pub(crate) fn choose_provider() {
    if CryptoProvider::get_default().is_none() {
        // Fails only if another thread has been faster.
        let _ = ring::default_provider().install_default();
    }
}

/// What rustls says, if it is what `error` comes from.
pub(crate) fn said(error: &redis::RedisError) -> Option<String> {
    let source = error.source()?;
    // The client keeps the errors of others in an `Arc`, to have its own be `Clone`.
    let shared = source.downcast_ref::<Arc<dyn Error + Send + Sync>>();
    let source = shared.map_or(source, |shared| &**shared as &(dyn Error + 'static));
    let tls = match source.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref()?.downcast_ref::<rustls::Error>(),
        None => source.downcast_ref::<rustls::Error>(),
    };
    tls.map(rustls::Error::to_string)
}
