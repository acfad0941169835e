//! A lab: namespaces and files with names of their own, and a journal of what was done to them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result};

use crate::namespace::Namespace;
use crate::reap::{self, PREFIX};

/// A lab. What it made is taken down when it is dropped, also by a panic; on Ctrl-C; and when the
/// next lab begins, should this process be killed.
#[derive(Debug)]
pub struct Lab {
    name: String,
    directory: PathBuf,
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
    /// Without root.
    pub fn new() -> Result<Arc<Self>> {
        static LABS: AtomicU32 = AtomicU32::new(0);
        reap::take_down_on_signals();
        reap::reap_the_dead();
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let directory = reap::directory().join(&name);
        std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let journal = Journal::new();
        Ok(Arc::new(Lab { name, directory, namespaces_made: AtomicU32::new(0), journal }))
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
        std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        Ok(directory)
    }

    /// What was done.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::env::var_os("TURNIP_LAB_KEEP").is_some() {
            eprintln!("kept: {}", self.directory.display());
            return;
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
