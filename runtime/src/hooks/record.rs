//! What is owed should the daemon be killed: a file for each VIP in the runtime directory, which a boot clears
//! as it ends all else.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use turnip_core::{Assignment, Owed, OwedStage, Revision, VipName};

const OWED: &str = "owed-";
const RUNNING: &str = "running-";

/// The records of one network namespace.
pub(super) struct Record {
    directory: PathBuf,
    complained: Cell<bool>,
}

/// A file.
#[derive(Serialize, Deserialize)]
struct OwedFile {
    /// The version of this form.
    v: u32,
    vip: VipName,
    stage: Stage,
    token: i64,
    addresses: Vec<(Arc<str>, IpNet)>,
    after_release_ms: Option<u64>,
    /// The program and the arguments of `after_release`.
    run: Vec<String>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Stage {
    Taking,
    Held,
    Releasing,
}

impl Record {
    pub(super) fn open(runtime_directory: &Path, namespace: u64) -> Self {
        let directory = runtime_directory.join(format!("hooks-{namespace}"));
        Record { directory, complained: Cell::new(false) }
    }

    /// What is owed, and by which commands.
    pub(super) fn owed(&self) -> (Vec<Owed>, BTreeMap<VipName, Vec<String>>) {
        let (mut owed, mut commands) = (Vec::new(), BTreeMap::new());
        for path in self.files(OWED) {
            let read = fs::read(&path).map_err(|error| error.to_string());
            let read = read.and_then(|bytes| {
                serde_json::from_slice::<OwedFile>(&bytes).map_err(|error| error.to_string())
            });
            match read {
                Ok(file) => {
                    commands.insert(file.vip.clone(), file.run.clone());
                    owed.push(file.into());
                }
                Err(why) => tracing::error!(
                    "{} cannot be read: {why}; an after_release that an earlier turnip owed is not run",
                    path.display()
                ),
            }
        }
        (owed, commands)
    }

    /// The markers of what ran when it was last written down.
    pub(super) fn running(&self) -> Vec<String> {
        let read = |path: PathBuf| fs::read_to_string(path).ok();
        self.files(RUNNING).into_iter().filter_map(read).filter(|one| !one.is_empty()).collect()
    }

    pub(super) fn none_runs(&self) {
        self.files(RUNNING).iter().for_each(|path| self.remove(path));
    }

    pub(super) fn owe(&self, owed: &Owed, command: &[String]) {
        let file = OwedFile {
            v: 1,
            vip: owed.vip.clone(),
            stage: match owed.stage {
                OwedStage::Taking => Stage::Taking,
                OwedStage::Held => Stage::Held,
                OwedStage::Releasing => Stage::Releasing,
            },
            token: owed.token.0,
            addresses: owed
                .assignments
                .iter()
                .map(|one| (Arc::clone(&one.interface), one.address))
                .collect(),
            after_release_ms: owed
                .after_release
                .map(|timeout| u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX)),
            run: command.to_vec(),
        };
        let text = serde_json::to_vec(&file).unwrap_or_default();
        self.write(&self.path(OWED, &owed.vip), &text);
    }

    pub(super) fn paid(&self, vip: &VipName) {
        self.remove(&self.path(OWED, vip));
    }

    /// Writes down that a hook runs; by the thread that starts it, for the daemon's has more urgent things to do.
    pub(super) fn runs(&self, vip: &VipName, marker: String) -> impl FnOnce() + Send + use<> {
        let (directory, path) = (self.directory.clone(), self.path(RUNNING, vip));
        move || {
            let write = || fs::create_dir_all(&directory).and_then(|()| fs::write(&path, &marker));
            // The directory may just have been removed, for nothing was left in it.
            let written = write().or_else(|_| write());
            if let Err(error) = written {
                tracing::warn!(
                    "{} cannot be written: {error}; should turnip be killed, this hook may run beside the next one",
                    path.display()
                );
            }
        }
    }

    pub(super) fn ended(&self, vip: &VipName) {
        self.remove(&self.path(RUNNING, vip));
    }

    fn path(&self, kind: &str, vip: &VipName) -> PathBuf {
        self.directory.join(format!("{kind}{vip}"))
    }

    fn files(&self, kind: &str) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(&self.directory) else { return Vec::new() };
        let is_one = |path: &PathBuf| {
            path.file_name()
                .and_then(|name| name.to_str())
                .is_some_and(|name| name.starts_with(kind))
        };
        let mut files: Vec<PathBuf> =
            entries.filter_map(|entry| Some(entry.ok()?.path())).filter(is_one).collect();
        files.sort();
        files
    }

    /// In one piece, or not at all.
    fn write(&self, path: &Path, bytes: &[u8]) {
        let unfinished = self.directory.join("unfinished");
        let written = fs::create_dir_all(&self.directory)
            .and_then(|()| fs::File::create(&unfinished))
            .and_then(|mut file| file.write_all(bytes))
            .and_then(|()| fs::rename(&unfinished, path));
        if let Err(error) = written {
            self.complain(path, &error);
        }
    }

    fn remove(&self, path: &Path) {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => self.complain(path, &error),
            _ => {}
        }
        // When it was the last one nothing is left behind.
        let _ = fs::remove_dir(&self.directory);
    }

    fn complain(&self, path: &Path, error: &io::Error) {
        if !self.complained.replace(true) {
            tracing::error!(
                "{} cannot be changed: {error}; should turnip be killed, the next start does not know which hooks are owed",
                path.display()
            );
        }
    }
}

impl From<OwedFile> for Owed {
    fn from(file: OwedFile) -> Self {
        let assignment =
            |(interface, address)| Assignment { vip: file.vip.clone(), interface, address };
        Owed {
            stage: match file.stage {
                Stage::Taking => OwedStage::Taking,
                Stage::Held => OwedStage::Held,
                Stage::Releasing => OwedStage::Releasing,
            },
            token: Revision(file.token),
            assignments: file.addresses.into_iter().map(assignment).collect(),
            after_release: file.after_release_ms.map(Duration::from_millis),
            vip: file.vip,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owed(vip: &str, stage: OwedStage) -> Owed {
        let vip: VipName = vip.parse().unwrap();
        let assignment = Assignment {
            vip: vip.clone(),
            interface: "eth0".into(),
            address: "10.0.0.50/32".parse().unwrap(),
        };
        let (token, after_release) = (Revision(7), Some(Duration::from_millis(1500)));
        Owed { vip, stage, token, assignments: vec![assignment], after_release }
    }

    #[test]
    fn what_is_owed_is_there_for_the_next_process_until_it_is_struck_out() {
        let directory = tempfile::tempdir().unwrap();
        let record = Record::open(directory.path(), 7);
        let command = ["/bin/x".to_owned(), "a b".to_owned()];
        // Names that are special to a file system are none here.
        for vip in ["..", "api:1"] {
            record.owe(&owed(vip, OwedStage::Taking), &command);
            record.owe(&owed(vip, OwedStage::Held), &command);
        }
        let (found, commands) = Record::open(directory.path(), 7).owed();
        assert_eq!(found, [owed("..", OwedStage::Held), owed("api:1", OwedStage::Held)]);
        assert!(commands.values().all(|one| one.as_slice() == command.as_slice()));
        assert!(Record::open(directory.path(), 8).owed().0.is_empty(), "another namespace");
        record.paid(&"..".parse().unwrap());
        assert_eq!(Record::open(directory.path(), 7).owed().0, [owed("api:1", OwedStage::Held)]);
    }

    #[test]
    fn what_runs_is_known_by_its_marker_until_it_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let record = Record::open(directory.path(), 7);
        let vip: VipName = "v".parse().unwrap();
        record.runs(&vip, "m-1".into())();
        assert_eq!(Record::open(directory.path(), 7).running(), ["m-1"]);
        record.ended(&vip);
        assert!(record.running().is_empty() && record.owed().0.is_empty());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is left behind");
    }
}
