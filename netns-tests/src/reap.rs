//! Taking down what labs leave behind: of this process when a signal ends it, of dead ones when
//! the next lab begins.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Once, PoisonError, RwLock};
use std::thread;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::namespace::processes_in;

/// What the names of all namespaces and directories of labs begin with; the process id follows.
pub const PREFIX: &str = "turnip-lab-";

const NAMESPACES: &str = "/run/netns";

/// The variable that names where labs have their files.
pub const DIRECTORY_VARIABLE: &str = "TURNIP_LAB_DIR";

/// Where labs have their files: [`DIRECTORY_VARIABLE`], else the system's temporary directory.
pub fn directory() -> PathBuf {
    std::env::var_os(DIRECTORY_VARIABLE).map_or_else(std::env::temp_dir, PathBuf::from)
}

/// Removes what processes that are dead have left behind.
pub fn reap_the_dead() {
    for (path, process) in leftovers() {
        if !Path::new(&format!("/proc/{process}")).exists() {
            remove(&path);
        }
    }
}

/// Removes all that this process has made.
pub fn reap_own() {
    let own = std::process::id();
    for (path, _) in leftovers().filter(|&(_, process)| process == own) {
        remove(&path);
    }
}

/// Whoever makes something that would be left behind reads it; who takes all down writes it.
static MAKING: RwLock<()> = RwLock::new(());

/// Makes something that would be left behind. Once all is being taken down, nothing is made any more,
/// and this does not return.
pub fn make<T>(what: impl FnOnce() -> T) -> T {
    let _making = MAKING.read().unwrap_or_else(PoisonError::into_inner);
    what()
}

/// Makes a directory, and those that it is in.
///
/// # Errors
/// When it cannot be made.
pub fn make_directory(path: &Path) -> Result<()> {
    make(|| fs::create_dir_all(path)).with_context(|| path.display().to_string())
}

/// Has the first SIGINT, SIGTERM or SIGHUP take everything down before it ends the process.
pub fn take_down_on_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let signal = runtime.expect("a runtime for signals").block_on(first_signal());
            eprintln!("\n{signal}: taking the lab down");
            let _for_good = MAKING.write().unwrap_or_else(PoisonError::into_inner);
            reap_own();
            std::process::exit(128 + signal as i32);
        });
    });
}

async fn first_signal() -> Signal {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).expect("signals can be listened to");
    let mut interrupt = listen(SignalKind::interrupt());
    let mut terminate = listen(SignalKind::terminate());
    let mut hangup = listen(SignalKind::hangup());
    tokio::select! {
        _ = interrupt.recv() => Signal::SIGINT,
        _ = terminate.recv() => Signal::SIGTERM,
        _ = hangup.recv() => Signal::SIGHUP,
    }
}

fn leftovers() -> impl Iterator<Item = (PathBuf, u32)> {
    let entries = [PathBuf::from(NAMESPACES), directory()].into_iter();
    entries.filter_map(|place| fs::read_dir(place).ok()).flatten().flatten().filter_map(|entry| {
        let name = entry.file_name();
        let process = name.to_str()?.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()?;
        Some((entry.path(), process))
    })
}

fn remove(path: &Path) {
    if !path.starts_with(NAMESPACES) {
        let _ = fs::remove_dir_all(path);
        return;
    }
    if let Ok(meta) = fs::metadata(path) {
        use std::os::unix::fs::MetadataExt;
        for process in processes_in(meta.ino()) {
            if process != std::process::id().cast_signed() {
                let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
            }
        }
    }
    let _ = nix::mount::umount2(path, nix::mount::MntFlags::MNT_DETACH);
    let _ = fs::remove_file(path);
}
