//! TLS to the nodes: whom we believe is said by a file, never by the machine.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

use super::settings::TlsSettings;
use crate::error::{BoxError, StoreError};

/// How a client is set up. A node's certificate must name the address that it is reached at.
pub(super) fn client(settings: &TlsSettings) -> Result<Arc<ClientConfig>, StoreError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&settings.ca_file)? {
        roots
            .add(certificate)
            .map_err(|error| unusable(&settings.ca_file, error.into()))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&settings.ca_file, error.into()))?
        .with_root_certificates(roots);
    let config = match &settings.client {
        None => config.with_no_client_auth(),
        Some((certificate_file, key_file)) => {
            let key =
                PrivateKeyDer::from_pem_file(key_file).map_err(|error| unusable(key_file, error.into()))?;
            config
                .with_client_auth_cert(certificates(certificate_file)?, key)
                .map_err(|error| unusable(certificate_file, error.into()))?
        }
    };
    Ok(Arc::new(config))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)
        .map_err(|error| unusable(file, error.into()))?
        .collect();
    match found {
        Ok(found) if found.is_empty() => Err(unusable(file, "it holds no certificate".into())),
        Ok(found) => Ok(found),
        Err(error) => Err(unusable(file, error.into())),
    }
}

fn unusable(file: &Path, source: BoxError) -> StoreError {
    StoreError::Open {
        reason: format!("{} is not usable for TLS; it must be PEM", file.display()),
        source: Some(source),
    }
}
