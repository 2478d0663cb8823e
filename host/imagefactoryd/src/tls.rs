//! The certificate: named by the operator, or made at the first start and kept.
//!
//! A client that trusted the certificate once finds the same one after a restart. SIGHUP reads the
//! file again; connections that stand keep the one they began with. Keys are read from files of
//! mode
//! 0600 that we write, and never logged.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::error::DaemonError;
use crate::plan::CertificateAt;

/// The certificate in use, and where it came from.
#[derive(Debug)]
pub(crate) struct Certificate {
    at: CertificateAt,
    current: RwLock<Arc<CertifiedKey>>,
}

impl Certificate {
    /// Reads the certificate; makes it first where there is none.
    pub(crate) fn open(at: CertificateAt, names: &[String]) -> Result<Arc<Self>, DaemonError> {
        let (CertificateAt::Named(path) | CertificateAt::Kept(path)) = &at;
        if !path.exists() {
            make(path, names)?;
            tracing::warn!("made a self-signed certificate: {}", path.display());
        }
        let current = RwLock::new(Arc::new(read(path)?));
        Ok(Arc::new(Certificate { at, current }))
    }

    /// Reads the file again; the old certificate stays when the new one cannot be used.
    pub(crate) fn reload(&self) -> Result<(), DaemonError> {
        let (CertificateAt::Named(path) | CertificateAt::Kept(path)) = &self.at;
        let fresh = Arc::new(read(path)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// How rustls serves it: TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1.
    pub(crate) fn server_config(self: &Arc<Self>) -> ServerConfig {
        let resolver: Arc<dyn ResolvesServerCert> = Arc::<Certificate>::clone(self);
        let mut config = ServerConfig::builder().with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn read(path: &Path) -> Result<CertifiedKey, DaemonError> {
    let refused = |why: String| DaemonError::Certificate { path: path.to_owned(), why };
    let text = std::fs::read(path).map_err(|cause| refused(cause.to_string()))?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|cause| refused(cause.to_string()))?;
    if chain.is_empty() {
        return Err(refused("it holds no certificate".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|cause| refused(format!("it holds no private key: {cause}")))?;
    let provider = rustls::crypto::ring::default_provider();
    CertifiedKey::from_der(chain, key, &provider).map_err(|cause| refused(cause.to_string()))
}

/// A certificate for this machine's names, as a file of mode 0600.
fn make(path: &Path, names: &[String]) -> Result<(), DaemonError> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let refused = |why: String| DaemonError::Certificate { path: path.to_owned(), why };
    let mut all = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    all.extend(rustix::system::uname().nodename().to_str().ok().map(str::to_owned));
    all.extend(names.iter().cloned());
    all.sort();
    all.dedup();
    let made =
        rcgen::generate_simple_self_signed(all).map_err(|cause| refused(cause.to_string()))?;
    let text = format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem());
    let unfinished = path.with_extension("pem.new");
    std::fs::remove_file(&unfinished).ok(); // left by a crash, or not there
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&unfinished, path));
    written.map_err(|cause| refused(cause.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once_kept_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("imagefactoryd.pem");
        Certificate::open(CertificateAt::Kept(path.clone()), &[]).unwrap();
        let first = std::fs::read(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let again = Certificate::open(CertificateAt::Kept(path.clone()), &[]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first);
        std::fs::write(&path, "nonsense").unwrap();
        let refused = again.reload().unwrap_err();
        assert!(refused.to_string().contains("no certificate"), "{refused}");
    }
}
