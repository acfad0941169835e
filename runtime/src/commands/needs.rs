//! What turnip needs of this host: privileges, and something that silences addresses when it
//! cannot.

use std::{fmt, io};

use turnip::config::Fence;
use turnip::kernel::check;
use turnip_core::{Backstop, Lease, LeaseError};

/// Why turnip may not touch this host's addresses.
#[derive(Debug)]
pub enum Unprivileged {
    /// These capabilities are missing.
    Missing(Vec<&'static str>),
    /// The kernel does not say what this process may do.
    Unknown(io::Error),
}

impl fmt::Display for Unprivileged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unprivileged::Missing(names) => {
                let verb = if names.len() == 1 { "is" } else { "are" };
                let names = names.join(" and ");
                write!(
                    f,
                    "{names} {verb} missing: run turnip as root; its systemd unit grants both"
                )
            }
            Unprivileged::Unknown(error) => {
                write!(f, "cannot read the privileges of this process: {error}")
            }
        }
    }
}

/// Whether this process may do what turnip does.
///
/// # Errors
/// When it may not, or nobody says.
pub fn privileges() -> Result<(), Unprivileged> {
    match check::missing_capabilities() {
        Ok(missing) if missing.is_empty() => Ok(()),
        Ok(missing) => Err(Unprivileged::Missing(missing)),
        Err(error) => Err(Unprivileged::Unknown(error)),
    }
}

/// What silences addresses on this host when the daemon cannot, and why it is that.
#[derive(Debug)]
pub enum Silencing {
    /// The fence.
    Fence,
    /// Lifetimes, as configured.
    Lifetimes {
        /// Though the fence would work.
        needlessly: bool,
    },
    /// Lifetimes, because nftables does not work.
    LifetimesInstead(io::Error),
}

/// Why there is nothing that silences addresses on this host.
#[derive(Debug)]
pub enum NoSilencing {
    /// The fence is configured, and nftables does not work.
    NoFence(io::Error),
    /// The fence does not work, and the lease is too short for lifetimes.
    LeaseTooShort(io::Error, LeaseError),
}

/// What nftables needs.
const REMEDY: &str = "a kernel with nf_tables is needed (`modprobe nf_tables`), and CAP_NET_ADMIN";

impl Silencing {
    /// Chooses it, as configured, by what came of [`turnip::kernel::fence::probe`].
    ///
    /// # Errors
    /// When there is none.
    pub fn choose(
        wanted: Fence,
        lease: &Lease,
        probed: io::Result<()>,
    ) -> Result<Self, NoSilencing> {
        match (wanted, probed) {
            (Fence::Lifetime, probed) => Ok(Silencing::Lifetimes { needlessly: probed.is_ok() }),
            (Fence::Auto | Fence::Nftables, Ok(())) => Ok(Silencing::Fence),
            (Fence::Nftables, Err(error)) => Err(NoSilencing::NoFence(error)),
            (Fence::Auto, Err(error)) => match lease.check_backstop(Backstop::Lifetime) {
                Ok(()) => Ok(Silencing::LifetimesInstead(error)),
                Err(too_short) => Err(NoSilencing::LeaseTooShort(error, too_short)),
            },
        }
    }

    /// The same for the core.
    pub fn backstop(&self) -> Backstop {
        match self {
            Silencing::Fence => Backstop::Fence,
            Silencing::Lifetimes { .. } | Silencing::LifetimesInstead(_) => Backstop::Lifetime,
        }
    }
}

impl fmt::Display for Silencing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Silencing::Fence => f.write_str("nftables works"),
            Silencing::Lifetimes { needlessly: false } => {
                f.write_str("by lifetimes, as configured")
            }
            Silencing::Lifetimes { needlessly: true } => f.write_str(
                "fence = \"lifetime\", though nftables works here: with it a killed daemon's addresses are silent at the deadline, to some ms",
            ),
            Silencing::LifetimesInstead(error) => write!(
                f,
                "nftables does not work here: {error}; {REMEDY}. Going on without the fence: should the daemon die, its addresses answer until the kernel ends their lifetime"
            ),
        }
    }
}

impl fmt::Display for NoSilencing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoSilencing::NoFence(error) => write!(
                f,
                "fence = \"nftables\", and nftables does not work here: {error}; {REMEDY}"
            ),
            NoSilencing::LeaseTooShort(error, too_short) => write!(
                f,
                "nftables does not work here: {error}; {REMEDY}. And {too_short}: with lease = \"4s\" or more on all hosts turnip runs without the fence"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn choose(wanted: Fence, lease_secs: u64, works: bool) -> Result<Silencing, NoSilencing> {
        let lease = Lease::new(Duration::from_secs(lease_secs)).unwrap();
        let probed = if works { Ok(()) } else { Err(io::Error::other("no such module")) };
        Silencing::choose(wanted, &lease, probed)
    }

    #[test]
    fn the_fence_silences_where_nftables_works_and_lifetimes_where_they_are_wanted() {
        for wanted in [Fence::Auto, Fence::Nftables] {
            assert_eq!(choose(wanted, 3, true).unwrap().backstop(), Backstop::Fence);
        }
        for works in [true, false] {
            let chosen = choose(Fence::Lifetime, 5, works).unwrap();
            assert_eq!(chosen.backstop(), Backstop::Lifetime);
            assert_eq!(chosen.to_string().contains("though nftables works"), works);
        }
    }

    #[test]
    fn without_nftables_lifetimes_take_its_place_only_if_that_is_left_open_and_the_lease_suffices()
    {
        let instead = choose(Fence::Auto, 5, false).unwrap();
        assert_eq!(instead.backstop(), Backstop::Lifetime);
        assert!(instead.to_string().contains("no such module"), "{instead}");
        let short = choose(Fence::Auto, 3, false).unwrap_err().to_string();
        assert!(short.contains("no such module") && short.contains("4s"), "{short}");
        let wanted = choose(Fence::Nftables, 5, false).unwrap_err().to_string();
        assert!(wanted.contains("fence = \"nftables\""), "{wanted}");
    }

    #[test]
    fn missing_capabilities_are_named_with_what_to_do() {
        let one = Unprivileged::Missing(vec!["CAP_NET_RAW"]).to_string();
        assert!(one.starts_with("CAP_NET_RAW is missing: run turnip as root"), "{one}");
        let both = Unprivileged::Missing(vec!["CAP_NET_ADMIN", "CAP_NET_RAW"]).to_string();
        assert!(both.starts_with("CAP_NET_ADMIN and CAP_NET_RAW are missing"), "{both}");
    }
}
