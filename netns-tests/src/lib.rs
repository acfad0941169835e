//! turnip as its users run it: a lab of network namespaces, with real etcd and the real kernel.
//!
//! A [`Cluster`](cluster::Cluster) is laid out by a [`Plan`](plan::Plan): hosts in namespaces of
//! their own on a [network](network::Network), an etcd member on each or apart, the daemon on each,
//! and a client. Its methods are the verbs of the field: isolate, cut, lose, slow, heal, power off
//! and on, kill, freeze, thaw, stop.
//!
//! What is true is not taken from the daemon's word. The
//! [`AddressMonitor`](address_monitor::AddressMonitor) receives the kernel's address events of all
//! namespaces on one socket, so that their order is the kernel's own and an overlap of a microsecond
//! shows. [Clients](probe::Prober) ask the floating address every 5 ms who it is. And every host has an
//! out-of-band prober, wired to it alone, which asks *this* host whether it answers, whatever the rest
//! of the network believes. [`measure`] makes gaps and overlaps of that.
//!
//! Everything has the process's id in its name: it is taken down when the cluster is dropped, also
//! by a panic; by the first Ctrl-C; and, should the process be killed, by the next lab on the
//! machine. Labs need root, and fail without it.
//!
//! A scenario file, which the simulator plays as well, is played by the [`player`].
//!
//! Parts of it serve the tests of other packages too: members of [`etcd`], on loopback as well,
//! [`certificates`], [namespaces](namespace::Namespace) and [waiting](poll::Poll).

pub mod address_event;
pub mod address_monitor;
pub mod background;
pub mod binary;
pub mod certificates;
pub mod cleanup;
pub mod cluster;
pub mod daemon;
pub mod delay;
pub mod etcd;
mod guard;
pub mod host;
pub mod lab;
pub mod links;
pub mod measure;
pub mod namespace;
pub mod network;
pub mod picture;
pub mod plan;
pub mod player;
pub mod poll;
pub mod priority;
pub mod probe;
pub mod process;
pub mod responder;
pub mod security;
pub mod switch;
pub mod timeline;
pub mod walkthrough;
