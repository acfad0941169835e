//! Removes what labs leave behind: that of this process when a signal ends it, and that of processes
//! which were killed when the next lab begins.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Once, mpsc};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::guard;
use crate::poll::Poll;
use crate::process::processes_in;

/// What the names of all namespaces and directories of labs begin with; the process id follows.
pub const PREFIX: &str = "turnip-lab-";

const NAMESPACES: &str = "/run/netns";

/// The variable that names where labs have their files.
pub const DIRECTORY_VARIABLE: &str = "TURNIP_LAB_DIR";

/// What is killed is gone after some milliseconds; what is not by then is reported.
const GONE: Poll = Poll::every(Duration::from_millis(2)).within(Duration::from_secs(3));

/// Where labs have their files: [`DIRECTORY_VARIABLE`], else the system's temporary directory.
pub fn directory() -> PathBuf {
    std::env::var_os(DIRECTORY_VARIABLE).map_or_else(std::env::temp_dir, PathBuf::from)
}

/// Readies this process for its labs: removes what dead ones have left behind, and has the first
/// SIGINT, SIGTERM, SIGHUP or SIGQUIT take everything down before it ends the process.
///
/// # Errors
/// When signals cannot be listened to, or orphans not adopted.
pub fn prepare() -> Result<()> {
    static ONCE: Once = Once::new();
    let mut prepared = Ok(());
    ONCE.call_once(|| {
        // What loses its parent becomes this process's child, which can then wait for its end.
        let adopts = set_child_subreaper(true).context("orphans cannot be adopted");
        prepared = adopts.and_then(|()| take_down_on_signals());
        // An earlier process may have had this one's id, and is as dead as the others.
        remove_own();
    });
    prepared?;
    remove_leftovers_of_the_dead();
    Ok(())
}

fn remove_leftovers_of_the_dead() {
    for (path, process) in leftovers() {
        if !Path::new(&format!("/proc/{process}")).exists() {
            remove(&path);
        }
    }
}

/// Removes all that this process has made.
fn remove_own() {
    let own = std::process::id();
    // What runs in the namespaces writes into the directories.
    let (namespaces, directories): (Vec<PathBuf>, Vec<PathBuf>) = leftovers()
        .filter_map(|(path, process)| (process == own).then_some(path))
        .partition(|path| path.starts_with(NAMESPACES));
    namespaces.iter().chain(&directories).for_each(|path| remove(path));
}

/// From when this returns on, no signal ends the process without the lab being taken down.
fn take_down_on_signals() -> Result<()> {
    let (listening, listens) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => return listening.send(Err(error)).unwrap_or_default(),
        };
        let signal = runtime.block_on(async {
            let signals = match Signals::listen() {
                Ok(signals) => signals,
                Err(error) => {
                    let _ = listening.send(Err(error));
                    return None;
                }
            };
            let _ = listening.send(Ok(()));
            Some(signals.first().await)
        });
        let Some(signal) = signal else { return };
        eprintln!("\n{signal}: taking the lab down");
        let _for_good = guard::stop_making();
        remove_own();
        std::process::exit(128 + signal as i32);
    });
    let listens = listens.recv().context("the thread that listens to signals has died")?;
    listens.context("signals cannot be listened to")
}

/// The signals that end a lab.
struct Signals([(Signal, tokio::signal::unix::Signal); 4]);

impl Signals {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals([
            (Signal::SIGINT, signal(SignalKind::interrupt())?),
            (Signal::SIGTERM, signal(SignalKind::terminate())?),
            (Signal::SIGHUP, signal(SignalKind::hangup())?),
            (Signal::SIGQUIT, signal(SignalKind::quit())?),
        ]))
    }

    async fn first(self) -> Signal {
        let waits = self.0.into_iter().map(|(kind, mut signal)| {
            Box::pin(async move {
                signal.recv().await;
                kind
            })
        });
        futures::future::select_all(waits).await.0
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

/// Removes a namespace with all that runs in it, or a directory; reports what cannot be removed.
fn remove(path: &Path) {
    let removed = match path.starts_with(NAMESPACES) {
        true => remove_namespace(path),
        false => remove_directory(path),
    };
    if let Err(error) = removed {
        eprintln!("left behind: {}: {error}", path.display());
    }
}

fn remove_namespace(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let own = std::process::id().cast_signed();
    let inode = fs::metadata(path)?.ino();
    let mut others = Vec::new();
    let all_gone = GONE.is_so(|| {
        others = processes_in(inode)?;
        others.retain(|&process| process != own);
        for process in &others {
            let _ = kill(Pid::from_raw(*process), Signal::SIGKILL);
        }
        std::io::Result::Ok(others.is_empty())
    })?;
    if !all_gone {
        eprintln!("still in {}: processes {others:?}", path.display());
    }
    // A name that no namespace was mounted at, where its maker died between the two.
    let _ = nix::mount::umount2(path, nix::mount::MntFlags::MNT_DETACH);
    fs::remove_file(path)
}

/// Whoever was killed may have made one more file while the directory was emptied.
pub(crate) fn remove_directory(path: &Path) -> std::io::Result<()> {
    GONE.succeed(|| match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    })
}
