//! A process of a lab's host.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::cleanup;

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
        let child =
            cleanup::make(|| command.spawn()).with_context(|| format!("starting {name}"))?;
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

    /// Whether it still runs.
    pub fn runs(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Stops the execution of it and of the processes that it has started, and waits until it
    /// stands still.
    ///
    /// # Errors
    /// When it is gone, or does not stand still within a second.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        self.children().into_iter().try_for_each(|child| kill(child, Signal::SIGSTOP))?;
        let deadline = Instant::now() + Duration::from_secs(1);
        while !self.stands_still()? {
            ensure!(Instant::now() < deadline, "{} was stopped, and runs on", self.name);
            sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Whether all its threads are stopped.
    fn stands_still(&self) -> Result<bool> {
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
        // They are the lab's now ([`cleanup::prepare`]). A dead one that nobody has waited for yet
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
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            sleep(Duration::from_millis(2));
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
