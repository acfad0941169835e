//! A process of a lab's host.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::guard;
use crate::poll::Poll;

/// A running process that logs into a file; dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`, with all its output appended to `log`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(mut command: Command, name: &str, log: PathBuf) -> Result<Self> {
        let open = || File::options().create(true).append(true).open(&log);
        command.stdin(Stdio::null()).stdout(open()?).stderr(open()?);
        let child = guard::make(|| command.spawn()).with_context(|| format!("starting {name}"))?;
        Ok(Process { name: name.to_owned(), child, log })
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// All that it has logged so far.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(self.child.id().cast_signed()), signal)
            .with_context(|| format!("{signal} for {}", self.name))
    }

    /// Whether it has a handler for a signal: a program that has only begun has none yet, and ends by it.
    #[must_use]
    pub fn handles(&self, signal: Signal) -> bool {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).unwrap_or_default();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        caught.is_some_and(|mask| mask >> (signal as u32 - 1) & 1 == 1)
    }

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Stops the execution of it and of the processes that it has started, and waits until all
    /// of its threads are stopped.
    ///
    /// # Errors
    /// When it is gone, or does not stop within a second.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        self.children().into_iter().try_for_each(|child| kill(child, Signal::SIGSTOP))?;
        let stopped = Poll::every(Duration::from_millis(1)).within(Duration::from_secs(1));
        let is_stopped = stopped.is_so(|| self.is_stopped())?;
        ensure!(is_stopped, "{} was stopped, and runs on", self.name);
        Ok(())
    }

    /// Whether all its threads are stopped.
    fn is_stopped(&self) -> Result<bool> {
        let tasks = format!("/proc/{}/task", self.child.id());
        for thread in std::fs::read_dir(&tasks).with_context(|| tasks.clone())? {
            let status = std::fs::read_to_string(thread?.path().join("stat"))?;
            // `id (name) state`, and a name may have anything in it.
            let state = status.rsplit(") ").next().and_then(|rest| rest.chars().next());
            if !matches!(state, Some('T' | 't')) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Lets it, and what it has started, go on.
    ///
    /// # Errors
    /// When it is gone.
    pub fn thaw(&self) -> Result<()> {
        self.children().into_iter().try_for_each(|child| kill(child, Signal::SIGCONT))?;
        self.signal(Signal::SIGCONT)
    }

    /// What any of its threads has started.
    fn children(&self) -> Vec<Pid> {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let threads = threads.into_iter().flatten().flatten();
        let lists = threads
            .filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
        let ids = |list: String| -> Vec<i32> {
            list.split_whitespace().filter_map(|id| id.parse().ok()).collect()
        };
        lists.flat_map(ids).map(Pid::from_raw).collect()
    }

    /// Kills it, and what it has started, and waits until all are gone.
    pub fn kill(&mut self) {
        let mut orphans = Vec::new();
        if self.runs() {
            // Frozen first: what loses its parent, or a child, may tidy up or start another.
            let _ = self.signal(Signal::SIGSTOP);
            orphans = self.children();
            for child in &orphans {
                let _ = kill(*child, Signal::SIGKILL);
            }
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        // They are the lab's now (`cleanup::prepare`). A dead one that nobody has waited for yet
        // still has its id, and keepalived does not start while that is so.
        for orphan in orphans {
            let _ = waitpid(orphan, None);
        }
    }

    /// Asks it to end, and waits until it has.
    ///
    /// # Errors
    /// When it has not after `patience`, which kills it.
    pub fn stop(&mut self, patience: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        self.signal(Signal::SIGTERM)?;
        self.wait(patience)
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// When it has not after `patience`, which kills it.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let ended = Poll::every(Duration::from_millis(2)).within(patience);
        if let Some(status) = ended.find(|| self.child.try_wait())? {
            return Ok(status);
        }
        self.kill();
        bail!("{} did not end within {patience:?}; its log:\n{}", self.name, self.log_text())
    }

    /// Resident memory in KiB, of it and of the processes that it has started. What they share
    /// counts once, as far as a single one has it all.
    ///
    /// # Errors
    /// When it is gone.
    pub fn resident_kib(&self) -> Result<u64> {
        let (mut private, mut shared) = (0, 0);
        for id in self.family() {
            let text = std::fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
            let of = |kind: &str| -> Result<u64> {
                let mut lines = text.lines().filter_map(|line| line.strip_prefix(kind));
                let number = |rest: &str| rest.split_whitespace().nth(1)?.parse::<u64>().ok();
                let sum = lines.try_fold(0, |sum, rest| Some(sum + number(rest)?));
                sum.with_context(|| format!("{kind}* of process {id}"))
            };
            private += of("Private_")?;
            shared = of("Shared_")?.max(shared);
        }
        Ok(private + shared)
    }

    /// Processor time used so far, by it and by the processes that it has started.
    ///
    /// # Errors
    /// When it is gone.
    pub fn cpu_time(&self) -> Result<Duration> {
        let of = |id: i32| -> Result<u64> {
            // Nanoseconds on a processor: finer than the ticks of `stat`.
            let mut total = 0;
            for thread in std::fs::read_dir(format!("/proc/{id}/task"))? {
                let schedstat = std::fs::read_to_string(thread?.path().join("schedstat"))?;
                total +=
                    schedstat.split_whitespace().next().context("schedstat")?.parse::<u64>()?;
            }
            Ok(total)
        };
        Ok(Duration::from_nanos(self.family().into_iter().map(of).sum::<Result<u64>>()?))
    }

    fn family(&self) -> Vec<i32> {
        let children = self.children().into_iter().map(Pid::as_raw);
        children.chain([self.child.id().cast_signed()]).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether a process was ended by this signal.
pub fn ended_by(status: ExitStatus, signal: Signal) -> bool {
    status.signal() == Some(signal as i32)
}

/// A command whose process dies with the *thread* that starts it, in the network namespace of this
/// descriptor, or in that of this process.
pub(crate) fn command(program: &str, namespace: Option<RawFd>) -> Command {
    let mut command = Command::new(program);
    let starter = nix::unistd::getpid();
    // A terminal's Ctrl-C is for the lab, which then ends its processes itself.
    command.process_group(0);
    // SAFETY: setns, prctl and getppid are system calls, which may be made after a fork.
    unsafe {
        command.pre_exec(move || {
            if namespace.is_some_and(|fd| libc::setns(fd, libc::CLONE_NEWNET) != 0) {
                return Err(std::io::Error::last_os_error());
            }
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            // The starter may have been killed before the kernel knew that this is to follow it.
            if libc::getppid() != starter.as_raw() {
                return Err(std::io::Error::from_raw_os_error(libc::ESRCH));
            }
            Ok(())
        });
    }
    command
}

/// Has a command see each `file` in the place of another one, as a machine of its own has files of its
/// own that the kernel makes.
pub(crate) fn see(command: &mut Command, files: Vec<(CString, &'static CStr)>) {
    // SAFETY: unshare and mount are system calls, which may be made after a fork.
    unsafe {
        command.pre_exec(move || {
            let checked = |returned: libc::c_int| match returned {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            };
            let none = std::ptr::null();
            checked(libc::unshare(libc::CLONE_NEWNS))?;
            let private = libc::MS_REC | libc::MS_PRIVATE;
            checked(libc::mount(none, c"/".as_ptr(), none, private, none.cast()))?;
            for (file, place) in &files {
                let (file, place) = (file.as_ptr(), place.as_ptr());
                checked(libc::mount(file, place, none, libc::MS_BIND, none.cast()))?;
            }
            Ok(())
        });
    }
}

/// The ids of the processes whose main thread is in the namespace with this inode.
///
/// # Errors
/// When the processes of the machine cannot be listed.
pub fn processes_in(inode: u64) -> std::io::Result<Vec<i32>> {
    let entries = std::fs::read_dir("/proc")?;
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    // One that has ended meanwhile is in none.
    let is_in = |id: &i32| {
        std::fs::metadata(format!("/proc/{id}/ns/net")).is_ok_and(|meta| meta.ino() == inode)
    };
    Ok(ids.filter(is_in).collect())
}
