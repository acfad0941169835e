//! How the parts of the world name each other's things.

/// A host's number, and its site.
pub type HostId = usize;

/// An etcd member's number.
pub type MemberId = usize;

/// A client's request to etcd.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RequestId(pub u32);

/// A client's stream of changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WatchId(pub u32);
