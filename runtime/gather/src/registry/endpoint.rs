//! One address of a registry, and how it is spoken to.

use std::{fs, io::Read as _, path::PathBuf, sync::Arc};

use ureq::tls::{Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, parse_pem};

use crate::{GatherError, blobs::open};

/// Where the certificate authorities of the node are.
///
/// Source: `certFiles`, Go crypto/x509/root_linux.go, which is containerd's list.
const ROOT_FILES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
];

/// Largest file of certificates, in bytes.
const PEM_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// One address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// `https://registry.example/v2`, without a slash at its end.
    pub(super) base: String,
    /// Whose credentials are used.
    pub(super) host: String,
    /// Certificate authorities beside the node's.
    pub(super) ca: Vec<PathBuf>,
    /// Certificate and key of ours; both in one file where there is no second.
    pub(super) client: Option<(PathBuf, Option<PathBuf>)>,
    /// Whether anybody may answer.
    pub(super) skip_verify: bool,
    /// Headers of every request.
    pub(super) headers: Vec<(String, String)>,
}

impl Endpoint {
    /// Certificates and keys, read.
    pub(super) fn tls(&self) -> Result<TlsConfig, GatherError> {
        self.tls_with(self.skip_verify, self.client.as_ref())
    }

    /// For a host that the registry leads to, or that gives tokens for it: it proves who it is, and is shown no
    /// certificate of ours. The authorities that the node was told of count there too: a registry of one's own has its
    /// tokens and its storage under the same.
    pub(super) fn tls_elsewhere(&self) -> Result<TlsConfig, GatherError> {
        self.tls_with(false, None)
    }

    fn tls_with(
        &self,
        skip_verify: bool,
        client: Option<&(PathBuf, Option<PathBuf>)>,
    ) -> Result<TlsConfig, GatherError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut builder = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(provider)
            .disable_verification(skip_verify);
        if self.base.starts_with("https://") {
            let mut roots = Vec::new();
            if let Some(path) = ROOT_FILES.iter().map(PathBuf::from).find(|path| path.exists()) {
                roots.extend(certificates(&path)?);
            }
            for path in &self.ca {
                roots.extend(certificates(path)?);
            }
            builder = builder.root_certs(RootCerts::Specific(Arc::new(roots)));
        }
        if let Some((certificate, key)) = client {
            let chain = certificates(certificate)?;
            let path = key.as_ref().unwrap_or(certificate);
            let key = PrivateKey::from_pem(&read(path)?).map_err(|_| GatherError::Configuration {
                path: path.clone(),
                why: "it has no private key in PEM".to_owned(),
            })?;
            builder = builder.client_cert(Some(ClientCert::new_with_certs(&chain, key)));
        }
        Ok(builder.build())
    }
}

fn certificates(path: &PathBuf) -> Result<Vec<Certificate<'static>>, GatherError> {
    let pem = read(path)?;
    let found: Vec<_> = parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        let why = "it has no certificate in PEM".to_owned();
        return Err(GatherError::Configuration { path: path.clone(), why });
    }
    Ok(found)
}

fn read(path: &PathBuf) -> Result<Vec<u8>, GatherError> {
    let mut bytes = Vec::new();
    open(path)?.take(PEM_BYTES_MAX).read_to_end(&mut bytes).map_err(GatherError::file("read(2)", path))?;
    Ok(bytes)
}

/// Whether there is a file of that name.
pub(super) fn is_file(path: &PathBuf) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
}
