//! Making what would be left behind should this process end: namespaces, processes, files. Whoever
//! makes such a thing does it by [`make`], so that nothing new appears while everything is removed.

use std::fs;
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

use anyhow::{Context, Result};

/// Read by who makes something that would be left behind, written by who removes everything.
static MAKING: RwLock<()> = RwLock::new(());

/// Makes something that would be left behind. Once everything is being removed before the process
/// ends, this makes nothing and does not return.
pub fn make<T>(what: impl FnOnce() -> T) -> T {
    let _making = MAKING.read().unwrap_or_else(PoisonError::into_inner);
    what()
}

/// Waits until nobody makes anything; nobody does as long as the answer is held.
pub(crate) fn stop_making() -> RwLockWriteGuard<'static, ()> {
    MAKING.write().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a directory, and those that it is in.
///
/// # Errors
/// When it cannot be made.
pub fn make_directory(path: &Path) -> Result<()> {
    make(|| fs::create_dir_all(path)).with_context(|| path.display().to_string())
}

/// Makes a directory that nobody has made before: what is in another's is not of this lab.
///
/// # Errors
/// When it cannot be made, or is there already.
pub fn make_new_directory(path: &Path) -> Result<()> {
    make(|| fs::create_dir(path)).with_context(|| path.display().to_string())
}
