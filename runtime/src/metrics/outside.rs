//! What is found out beside the node, at a slow pace, and shown with its metrics: how etcd is, and when
//! certificates end. Whoever finds it out sets it; until then it is not shown.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::etcd::certificates::CertificateEnd;

/// What was found out last. Clones are the same.
#[derive(Clone, Default, Debug)]
pub struct Outside(Arc<Mutex<Watched>>);

/// What was found out.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Watched {
    /// How etcd is.
    pub etcd: Option<EtcdHealth>,
    /// When certificates end.
    pub certificates: Vec<CertificateEnd>,
}

/// How etcd is, as the member says that was asked.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct EtcdHealth {
    /// The size of its database.
    pub database_bytes: u64,
    /// How large that may become, if that is known.
    pub quota_bytes: Option<u64>,
    /// Its alarms, in etcd's own words: `NOSPACE`, `CORRUPT`.
    pub alarms: Vec<String>,
    /// How long ago it was compacted last, if that is known.
    pub compacted_ago: Option<Duration>,
}

impl Outside {
    /// Takes note of how etcd is.
    pub fn set_etcd(&self, etcd: Option<EtcdHealth>) {
        self.with(|watched| watched.etcd = etcd);
    }

    /// Takes note of all certificates and their ends.
    pub fn set_certificates(&self, certificates: Vec<CertificateEnd>) {
        self.with(|watched| watched.certificates = certificates);
    }

    /// What is known now.
    pub fn get(&self) -> Watched {
        self.with(|watched| watched.clone())
    }

    fn with<T>(&self, what: impl FnOnce(&mut Watched) -> T) -> T {
        what(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
