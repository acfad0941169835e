//! `promote_secondaries`: that an interface keeps the other IPv4 addresses of a subnet when the first
//! of them goes. turnip sets it where it may take such an address away, and puts it back when it has
//! gone.
//!
//! Where it was set is written down before it is, so that it is put back too when the process that
//! set it was killed.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use super::route::Route;

/// The settings of one network namespace.
pub(super) struct Promotion {
    path: PathBuf,
    /// The interfaces that did not keep them before: their names, by their index.
    set: BTreeMap<u32, String>,
    /// Which keep them now, as far as was looked.
    keeps: HashMap<u32, bool>,
    complained: bool,
}

/// Tells of interfaces on which it was put back.
pub(super) fn tell(names: &[String]) {
    for name in names {
        tracing::info!(interface = %name, "promote_secondaries is 0 again, as it was before turnip");
    }
}

impl Promotion {
    /// With what is written down in `directory` for the network namespace with the inode
    /// `namespace`.
    pub fn open(directory: &Path, namespace: u64) -> Self {
        let path = directory.join(format!("promote-{namespace}.json"));
        let read = std::fs::read(&path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        let set = read.unwrap_or_else(|error: io::Error| {
            if error.kind() != io::ErrorKind::NotFound {
                tracing::warn!(path = %path.display(), %error,
                    "cannot read on which interfaces turnip has set promote_secondaries: it stays set there");
            }
            BTreeMap::new()
        });
        Promotion { path, set, keeps: HashMap::new(), complained: false }
    }

    /// Has the interface keep them; whether it does.
    pub fn keep(&mut self, route: &mut Route, index: u32) -> bool {
        if let Some(keeps) = self.keeps.get(&index) {
            return *keeps;
        }
        let kept = self.try_keep(route, index);
        if let Err(why) = &kept {
            tracing::warn!(interface = index, %why,
                "cannot set promote_secondaries: taking one address of a subnet away may take others with it, which are then put back");
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
        match is_set(&name) {
            Ok(true) => return Ok(()),
            Ok(false) => {
                if self.set.insert(index, name).is_none() {
                    self.write();
                }
            }
            // What it was is not known, so it is not put back.
            Err(error) => tracing::debug!(%name, %error, "cannot read promote_secondaries"),
        }
        Ok(route.promote_secondaries(index, true)??)
    }

    /// Whether turnip has set it nowhere.
    pub fn is_untouched(&self) -> bool {
        self.set.is_empty()
    }

    /// Puts it back wherever turnip has set it, but for interfaces of which `in_use` says that there
    /// is an address of turnip's still. Gives the names of those where it is as it was.
    pub fn put_back(&mut self, route: &mut Route, in_use: impl Fn(u32) -> bool) -> Vec<String> {
        let mut back = Vec::new();
        let before = self.set.len();
        self.set.retain(|index, name| {
            if in_use(*index) {
                return true;
            }
            // Without its interface there is nothing to put back.
            if nix::net::if_::if_indextoname(*index).is_err() {
                return false;
            }
            match route.promote_secondaries(*index, false).and_then(|answer| Ok(answer?)) {
                Ok(()) => back.push(name.clone()),
                Err(why) => tracing::warn!(%name, %why, "promote_secondaries stays at 1"),
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
                "cannot write down where promote_secondaries is set: after a kill it stays set");
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

/// Whether the interface of this name keeps them. That all interfaces may be told so at once is left
/// aside: it may end at any time.
pub(super) fn is_set(interface: &str) -> io::Result<bool> {
    let path = format!("/proc/sys/net/ipv4/conf/{interface}/promote_secondaries");
    Ok(std::fs::read_to_string(path)?.trim() != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_it_was_set_is_known_to_the_next_process_until_it_is_put_back() {
        let directory = tempfile::tempdir().unwrap();
        let mut promotion = Promotion::open(directory.path(), 1);
        promotion.set.insert(3, "eth0".to_owned());
        promotion.write();
        let mut next = Promotion::open(directory.path(), 1);
        assert_eq!(next.set, BTreeMap::from([(3, "eth0".to_owned())]));
        assert!(Promotion::open(directory.path(), 2).set.is_empty());
        next.set.clear();
        next.write();
        assert!(Promotion::open(directory.path(), 1).set.is_empty());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
