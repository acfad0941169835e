//! Certificates and keys: read again whenever a connection is made, and when the files change.
//!
//! Files are replaced while turnip runs, one after the other, and not always well. What cannot be used leaves
//! what was read before in its place, and the log says so: with that, connections may still come about.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::certificates::Certificate;
use super::failure;
use super::settings::{SettingsError, TlsSettings};

/// What etcd speaks.
pub(super) const ALPN_H2: &[u8] = b"h2";
/// The system's authorities are many, and change seldom.
const SYSTEM_ROOTS_AGE_MAX: Duration = Duration::from_secs(60);

/// Whom this client trusts, and what it shows of itself.
pub(super) struct Trust {
    settings: TlsSettings,
    loaded: Mutex<Loaded>,
}

struct Loaded {
    usable: Usable,
    /// What the files held when they were last looked at, usable or not.
    seen: Result<Files, SettingsError>,
    read_at: Instant,
}

/// What came of files that are of use.
struct Usable {
    config: Arc<ClientConfig>,
    own: Vec<Certificate>,
    authorities: Vec<Certificate>,
}

/// What the files hold.
#[derive(Clone, PartialEq)]
struct Files {
    ca: Option<Vec<u8>>,
    client: Option<(Vec<u8>, Vec<u8>)>,
}

impl Trust {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read, or is of no use.
    pub(super) fn load(settings: &TlsSettings) -> Result<Self, SettingsError> {
        let files = Files::read(settings)?;
        let usable = Usable::of(&files, settings)?;
        let loaded = Loaded { usable, seen: Ok(files), read_at: Instant::now() };
        Ok(Trust { settings: settings.clone(), loaded: Mutex::new(loaded) })
    }

    /// What is to be used for a connection now: made of the files as they are, if they are of use.
    pub(super) fn config(&self) -> Arc<ClientConfig> {
        self.read_again();
        Arc::clone(&self.loaded().usable.config)
    }

    /// Looks whether the files have changed. What is new is of use, or is said to be of none.
    pub(super) fn read_again(&self) {
        let mut loaded = self.loaded();
        let files = Files::read(&self.settings);
        let system_roots = self.settings.ca_file.is_none();
        let stale = system_roots && loaded.read_at.elapsed() >= SYSTEM_ROOTS_AGE_MAX;
        if files.as_ref().ok() == loaded.seen.as_ref().ok()
            && files.as_ref().err() == loaded.seen.as_ref().err()
            && !stale
        {
            return;
        }
        let changed = files.as_ref().ok() != loaded.seen.as_ref().ok();
        loaded.read_at = Instant::now();
        let made = match &files {
            Ok(files) => Usable::of(files, &self.settings),
            Err(error) => Err(error.clone()),
        };
        match made {
            Ok(usable) => {
                loaded.usable = usable;
                if changed {
                    tracing::info!(
                        "certificates have changed: the next connection to etcd uses them"
                    );
                }
            }
            Err(error) => {
                tracing::warn!("going on with the certificates that were read before: {error}");
            }
        }
        loaded.seen = files;
    }

    /// The certificate that this client shows, and those that it trusts, where they come from files.
    pub(super) fn certificates(&self) -> (Vec<Certificate>, Vec<Certificate>) {
        let loaded = self.loaded();
        (loaded.usable.own.clone(), loaded.usable.authorities.clone())
    }

    /// Where they are.
    pub(super) fn settings(&self) -> &TlsSettings {
        &self.settings
    }

    fn loaded(&self) -> MutexGuard<'_, Loaded> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    fn read(settings: &TlsSettings) -> Result<Self, SettingsError> {
        let client = match &settings.client {
            Some((certificate, key)) => Some((read(certificate)?, read(key)?)),
            None => None,
        };
        Ok(Files { ca: settings.ca_file.as_deref().map(read).transpose()?, client })
    }
}

impl Usable {
    fn of(files: &Files, settings: &TlsSettings) -> Result<Self, SettingsError> {
        let unusable = |what: String| SettingsError(what);
        let name =
            |file: Option<&Path>| file.map_or_else(String::new, |file| file.display().to_string());
        let mut roots = RootCertStore::empty();
        let mut authorities = Vec::new();
        match &files.ca {
            Some(pem) => {
                let file = name(settings.ca_file.as_deref());
                let ders = chain(pem).map_err(|why| unusable(format!("{file}: {why}")))?;
                authorities.extend(ders.iter().filter_map(|der| Certificate::parse(der)));
                if let (0, _) = roots.add_parsable_certificates(ders) {
                    return Err(unusable(format!("{file} holds no authority's certificate")));
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if roots.is_empty() {
                    let why = "this system has no certificate authorities (ca-certificates): name yours as etcd.ca";
                    return Err(unusable(why.into()));
                }
            }
        }
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(failure::chain(&error)))?
            .with_root_certificates(roots);
        let mut own = Vec::new();
        let mut config = match (&files.client, &settings.client) {
            (Some((certificate, key)), Some((certificate_file, key_file))) => {
                let in_file =
                    |file: &Path, why: String| unusable(format!("{}: {why}", file.display()));
                let ders = chain(certificate).map_err(|why| in_file(certificate_file, why))?;
                own.extend(ders.iter().filter_map(|der| Certificate::parse(der)));
                let key = PrivateKeyDer::from_pem_slice(key)
                    .map_err(|error| in_file(key_file, format!("no private key: {error}")))?;
                builder.with_client_auth_cert(ders, key).map_err(|error| {
                    unusable(format!(
                        "{} and {} are of no use together: {}",
                        certificate_file.display(),
                        key_file.display(),
                        failure::chain(&error)
                    ))
                })?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols.push(ALPN_H2.into());
        Ok(Usable { config: Arc::new(config), own, authorities })
    }
}

fn chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let ders = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match ders {
        Ok(ders) if ders.is_empty() => Err("no certificate".into()),
        Ok(ders) => Ok(ders),
        Err(error) => Err(error.to_string()),
    }
}

fn read(file: &Path) -> Result<Vec<u8>, SettingsError> {
    let text = std::fs::read(file)
        .map_err(|error| SettingsError(format!("cannot read {}: {error}", file.display())))?;
    if text.windows(11).any(|window| window == b"-----BEGIN ") {
        Ok(text)
    } else {
        Err(SettingsError(format!("{} holds nothing in PEM format", file.display())))
    }
}
