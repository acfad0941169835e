//! A lab: namespaces and files with names of their own, and a journal of what was done to them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use anyhow::Result;

use crate::cleanup::{self, PREFIX};
use crate::guard;
use crate::namespace::Namespace;

/// The variable that, when set, has labs leave their files behind: configurations, logs, etcd's data.
pub const KEEP_VARIABLE: &str = "TURNIP_LAB_KEEP";

/// What the names of directories begin with that are kept; nobody removes these.
pub const KEPT_PREFIX: &str = "turnip-kept-";

/// A lab. What it made is taken down when it is dropped, also by a panic; on Ctrl-C; and when the
/// next lab begins, should this process be killed. Its files stay with [`KEEP_VARIABLE`].
#[derive(Debug)]
pub struct Lab {
    name: String,
    directory: PathBuf,
    kept: bool,
    namespaces_made: AtomicU32,
    journal: Journal,
}

/// What was done, and when.
#[derive(Clone, Debug)]
pub struct Journal(Arc<Mutex<Vec<(Instant, String)>>>, Instant);

impl Journal {
    fn new() -> Self {
        Journal(Arc::default(), Instant::now())
    }

    /// Notes that something happens now, and returns now.
    pub fn note(&self, what: impl Into<String>) -> Instant {
        let now = Instant::now();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((now, what.into()));
        now
    }

    /// All that was noted.
    pub fn entries(&self) -> Vec<(Instant, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// When it began.
    pub fn start(&self) -> Instant {
        self.1
    }
}

impl Lab {
    /// An empty lab.
    ///
    /// # Errors
    /// When its directory cannot be made, or signals cannot be listened to.
    pub fn new() -> Result<Arc<Self>> {
        static LABS: AtomicU32 = AtomicU32::new(0);
        cleanup::prepare()?;
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let suffix = format!("{}-{number}", std::process::id());
        let name = format!("{PREFIX}{suffix}");
        let kept = std::env::var_os(KEEP_VARIABLE).is_some();
        let directory =
            cleanup::directory().join(if kept { kept_name(&suffix) } else { name.clone() });
        guard::make_new_directory(&directory)?;
        let (namespaces_made, journal) = (AtomicU32::new(0), Journal::new());
        Ok(Arc::new(Lab { name, directory, kept, namespaces_made, journal }))
    }

    /// What the names of its namespaces begin with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A new namespace; `name` need be unique neither here nor elsewhere.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn namespace(&self, name: &str) -> Result<Arc<Namespace>> {
        let number = self.namespaces_made.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(Namespace::new(&format!("{}-{number}-{name}", self.name))?))
    }

    /// Where the lab keeps its files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A directory for one of its hosts.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn directory_of(&self, host: &str) -> Result<PathBuf> {
        let directory = self.directory.join(host);
        guard::make_directory(&directory)?;
        Ok(directory)
    }

    /// What was done.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.kept {
            eprintln!("kept: {}", self.directory.display());
            return;
        }
        // While a signal takes everything down this waits, so that nobody ends the process midway.
        if let Err(error) = guard::make(|| cleanup::remove_directory(&self.directory)) {
            eprintln!("left behind: {}: {error}", self.directory.display());
        }
    }
}

/// A name that no cleanup matches, however the lab ends. With the time, because ids of processes
/// come back; that of the newest is the last.
fn kept_name(suffix: &str) -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    format!("{KEPT_PREFIX}{}-{suffix}", since.unwrap_or_default().as_secs())
}
