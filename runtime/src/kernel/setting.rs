//! Settings of the host's interfaces that turnip changes for its addresses' sake, and puts back when
//! these have gone.
//!
//! Where one was changed is written down before it is, so that it is put back too when the process that
//! changed it was killed.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use super::route::Route;

/// Which setting. Each is 0 where turnip changes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Which {
    /// The interface keeps the other IPv4 addresses of a subnet when the first of them goes.
    PromoteSecondaries,
    /// The interface does not answer ARP for addresses that others of the host's have.
    ArpIgnore,
    /// The interface does not ask for neighbours in the name of an address that another of the host's
    /// has, with its own hardware address.
    ArpAnnounce,
}

impl Which {
    /// What is set of an interface while one with a virtual hardware address is on it: neighbours would
    /// learn its own hardware address for the VIP.
    pub const OF_PARENTS: [Which; 2] = [Which::ArpIgnore, Which::ArpAnnounce];

    /// As the kernel calls it.
    pub fn name(self) -> &'static str {
        match self {
            Which::PromoteSecondaries => "promote_secondaries",
            Which::ArpIgnore => "arp_ignore",
            Which::ArpAnnounce => "arp_announce",
        }
    }

    /// The message's part that sets it: IPV4_DEVCONF_PROMOTE_SECONDARIES, _ARP_IGNORE or _ARP_ANNOUNCE,
    /// with the value.
    fn setting(self) -> (u16, u32) {
        match self {
            Which::PromoteSecondaries => (20, 1),
            Which::ArpIgnore => (19, 1),
            Which::ArpAnnounce => (18, 2),
        }
    }

    fn file(self) -> &'static str {
        match self {
            Which::PromoteSecondaries => "promote",
            Which::ArpIgnore => "arp-ignore",
            Which::ArpAnnounce => "arp-announce",
        }
    }

    /// What is to be feared where it cannot be set.
    fn consequence(self) -> &'static str {
        match self {
            Which::PromoteSecondaries => {
                "taking one address of a subnet away may take others with it, which are then put back"
            }
            Which::ArpIgnore | Which::ArpAnnounce => {
                "neighbours may learn the interface's own hardware address for a VIP"
            }
        }
    }
}

/// One setting of the interfaces of one network namespace.
pub(super) struct Setting {
    which: Which,
    path: PathBuf,
    /// The interfaces on which it was 0 before: their names, by their index.
    set: BTreeMap<u32, String>,
    /// On which it is set now, as far as was looked.
    keeps: HashMap<u32, bool>,
    complained: bool,
}

impl Setting {
    /// With what is written down in `directory` for the network namespace with the inode
    /// `namespace`.
    pub fn open(which: Which, directory: &Path, namespace: u64) -> Self {
        let path = directory.join(format!("{}-{namespace}.json", which.file()));
        let read = std::fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        let set = read.unwrap_or_else(|error: io::Error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error,
                    "cannot read on which interfaces turnip has set {}: it stays set there", which.name());
            }
            BTreeMap::new()
        });
        Setting { which, path, set, keeps: HashMap::new(), complained: false }
    }

    /// Puts it back wherever no address of turnip's is left, and tells of that.
    pub fn put_back_and_tell(&mut self, route: &mut Route, in_use: impl Fn(u32) -> bool) {
        for name in self.put_back(route, in_use) {
            tracing::info!(interface = %name, "{} is 0 again, as it was before turnip", self.which.name());
        }
    }

    /// Sets it on the interface, if it is not; whether it is set then.
    pub fn keep(&mut self, route: &mut Route, index: u32) -> bool {
        if let Some(keeps) = self.keeps.get(&index) {
            return *keeps;
        }
        let kept = self.try_keep(route, index);
        if let Err(why) = &kept {
            tracing::warn!(interface = index, %why, "cannot set {}: {}",
                self.which.name(), self.which.consequence());
        }
        let keeps = kept.is_ok();
        self.keeps.insert(index, keeps);
        keeps
    }

    /// Somebody may have changed it: it is looked at again.
    pub fn look_again(&mut self) {
        self.keeps.clear();
    }

    fn try_keep(&mut self, route: &mut Route, index: u32) -> io::Result<()> {
        let name = nix::net::if_::if_indextoname(index)?.to_string_lossy().into_owned();
        match self.which.is_set(&name) {
            Ok(true) => return Ok(()),
            Ok(false) => {
                if self.set.insert(index, name).is_none() {
                    self.write();
                }
            }
            // What it was is not known, so it is not put back.
            Err(error) => tracing::debug!(%name, %error, "cannot read {}", self.which.name()),
        }
        Ok(route.set(index, &[self.which.setting()])??)
    }

    /// Whether turnip has set it nowhere.
    pub fn is_untouched(&self) -> bool {
        self.set.is_empty()
    }

    /// Puts it back wherever turnip has set it, but for interfaces of which `in_use` says that there
    /// is an address of turnip's still. Gives the names of those where it is as it was.
    pub fn put_back(&mut self, route: &mut Route, in_use: impl Fn(u32) -> bool) -> Vec<String> {
        let (which, mut back) = (self.which, Vec::new());
        let before = self.set.len();
        self.set.retain(|index, name| {
            if in_use(*index) {
                return true;
            }
            // Without its interface there is nothing to put back.
            if nix::net::if_::if_indextoname(*index).is_err() {
                return false;
            }
            match route.set(*index, &[(which.setting().0, 0)]).and_then(|answer| Ok(answer?)) {
                Ok(()) => back.push(name.clone()),
                Err(why) => tracing::warn!(%name, %why, "{} stays as it is", which.name()),
            }
            false
        });
        self.keeps.clear();
        if self.set.len() != before {
            self.write();
        }
        back
    }

    fn write(&mut self) {
        if let Err(error) = self.try_write()
            && !std::mem::replace(&mut self.complained, true)
        {
            tracing::warn!(path = %self.path.display(), %error,
                "cannot write down where {} is set: after a kill it stays set", self.which.name());
        }
    }

    fn try_write(&self) -> io::Result<()> {
        if self.set.is_empty() {
            return match std::fs::remove_file(&self.path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let new = self.path.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(&self.set)?)?;
        std::fs::rename(&new, &self.path)
    }
}

impl Which {
    /// Whether it is set on the interface of this name. That it may be set for all interfaces at once is
    /// left aside: that may end at any time.
    ///
    /// # Errors
    /// When there is no such interface, or /proc/sys is not there.
    pub fn is_set(self, interface: &str) -> io::Result<bool> {
        let path = format!("/proc/sys/net/ipv4/conf/{interface}/{}", self.name());
        Ok(std::fs::read_to_string(path)?.trim() != "0")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_was_set_is_known_to_the_next_process_until_it_is_put_back() {
        let directory = tempfile::tempdir().unwrap();
        let mut promotion = Setting::open(Which::PromoteSecondaries, directory.path(), 1);
        promotion.set.insert(3, "eth0".to_owned());
        promotion.write();
        let mut next = Setting::open(Which::PromoteSecondaries, directory.path(), 1);
        assert_eq!(next.set, BTreeMap::from([(3, "eth0".to_owned())]));
        assert!(Setting::open(Which::PromoteSecondaries, directory.path(), 2).set.is_empty());
        next.set.clear();
        next.write();
        assert!(Setting::open(Which::PromoteSecondaries, directory.path(), 1).set.is_empty());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
