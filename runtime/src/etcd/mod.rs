//! The store: etcd.

mod settings;

pub use settings::{EtcdSettings, Secret, TlsSettings};
