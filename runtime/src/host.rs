//! Which host this is.

use std::io;
use std::os::unix::fs::MetadataExt;

use turnip_core::HostId;

/// The host id of rules 6.2 and 6.5: machine id, boot id and network namespace.
///
/// Images without an initialised machine id exist, and containers have none: it is then left
/// out, which the boot id, drawn at random at every boot, makes up for.
///
/// # Errors
/// When /proc cannot be read.
pub fn host_id() -> io::Result<HostId> {
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(compose(&machine, &boot, network_namespace()?))
}

fn compose(machine: &str, boot: &str, namespace: u64) -> HostId {
    let machine = match machine.trim() {
        "" | "uninitialized" => "-",
        machine => machine,
    };
    HostId(format!("{machine}/{}/{namespace}", boot.trim()).into())
}

/// The inode of the network namespace that the calling thread is in.
///
/// # Errors
/// When /proc cannot be read.
pub fn network_namespace() -> io::Result<u64> {
    Ok(std::fs::metadata("/proc/thread-self/ns/net")?.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_a_machine_id_is_known_by_its_boot_and_namespace() {
        assert_eq!(&*compose("", "b\n", 7).0, "-/b/7");
        assert_eq!(&*compose("uninitialized\n", "b\n", 7).0, "-/b/7");
        assert_eq!(&*compose("m\n", "b\n", 7).0, "m/b/7");
    }

    #[test]
    fn this_host_has_the_same_id_twice() {
        assert_eq!(host_id().unwrap(), host_id().unwrap());
    }
}
