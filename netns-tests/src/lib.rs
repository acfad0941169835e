//! turnip as its users run it: a lab of network namespaces.
pub mod cluster;
pub mod daemon;
pub mod etcd;
pub mod eye;
pub mod host;
pub mod lab;
pub mod links;
pub mod measure;
pub mod namespace;
pub mod probe;
pub mod process;
pub mod prompt;
pub mod reap;
pub mod responder;
pub mod switch;
pub mod timeline;
