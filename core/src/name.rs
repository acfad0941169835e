//! Names and numbers that identify things.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameError(String);

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = crate::text::shown(&self.0);
        write!(f, "\"{text}\" is not a name: 1 to 63 letters, digits, '.', '_', '-' or ':' are")
    }
}

impl std::error::Error for NameError {}

fn check(text: &str) -> Result<Arc<str>, NameError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_:".contains(c);
    if (1..=63).contains(&text.len()) && text.chars().all(allowed) {
        Ok(Arc::from(text))
    } else {
        Err(NameError(text.to_owned()))
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                check(text).map($name)
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                text.parse()
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// The name of a host in its cluster.
    NodeName
}
name! {
    /// The name of a floating address, or of several that move as one.
    VipName
}
name! {
    /// The name of a cluster: hosts with the same one share their VIPs.
    ClusterName
}
name! {
    /// The name of a check of what stands behind addresses.
    CheckName
}

/// A revision of the whole store. It only grows.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Revision(pub i64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A session, identified by the create_revision of its key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub Revision);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which host this is: machine id, boot id and network namespace, as one opaque text.
///
/// Two daemons with the same host id share the kernel state that the protocol manages; two with
/// different ones do not (rules 6.2 and 6.5).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostId(pub Arc<str>);

impl HostId {
    /// The machine, if it has an id.
    pub fn machine(&self) -> Option<&str> {
        self.0.split('/').next().filter(|machine| *machine != "-")
    }

    /// Whether the other is this machine before it was booted the last time: that is gone (A4).
    pub fn is_later_boot_of(&self, other: &HostId) -> bool {
        let parts = |id: &HostId| {
            let mut parts = id.0.splitn(3, '/').map(str::to_owned);
            Some((parts.next()?, parts.next()?))
        };
        match (parts(self), parts(other)) {
            (Some((machine, boot)), Some((of_other, other_boot))) => {
                // Without a machine id nobody knows.
                machine == of_other && machine != "-" && boot != other_boot
            }
            _ => false,
        }
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::text::shown(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_boot_is_of_the_same_machine_which_has_an_id() {
        let is_later = |id: &str, of: &str| HostId(id.into()).is_later_boot_of(&HostId(of.into()));
        assert!(is_later("m/2/7", "m/1/7"));
        assert!(!is_later("m/1/8", "m/1/7"), "another namespace of the same boot");
        assert!(!is_later("n/2/7", "m/1/7"), "another machine");
        assert!(!is_later("-/2/7", "-/1/7"), "nobody knows");
    }
}
