//! turnip's daemon as a library: the seams, the driver, and the adapters.

pub mod checks;
pub mod clock;
pub mod config;
pub mod driver;
pub mod etcd;
pub mod hooks;
pub mod host;
pub mod import;
pub mod kernel;
pub mod lock;
pub mod metrics;
pub mod peers;
pub mod redact;
pub mod seams;
pub mod store_contract;
