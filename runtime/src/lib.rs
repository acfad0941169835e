//! turnip's daemon as a library: the seams, the driver, and the adapters.

pub mod config;
pub mod driver;
pub mod etcd;
pub mod kernel;
pub mod seams;
pub mod store_contract;
