//! A program that says by its exit status whether something works.
//!
//! It has a process group of its own, which is killed as a whole when the program has ended, or its time is
//! over. It inherits no capability, no file and no variable of the daemon's, runs behind the daemon, and is the
//! first that the kernel ends when memory runs out.

use std::os::fd::OwnedFd;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};

use super::Alive;

/// Of the output this much is kept: the last line is wanted.
const TAIL_MAX: usize = 4 << 10;
/// So much of it is read; who writes more waits until its time is over.
const OUTPUT_MAX: usize = 1 << 20;
/// How long a program that was killed may take to be gone.
const GONE_WITHIN: Duration = Duration::from_millis(200);
/// Where programs are looked for when the daemon has no `PATH`.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Puts this thread, and with it what it starts, behind others, and takes from what it starts the capabilities
/// that the unit gives the daemon. Neither is needed for a check to be right, so failing is no error.
pub(super) fn step_behind(nice: i32) {
    // SAFETY: both calls take numbers only. For Linux a thread is a process here: other threads keep what
    // they have.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, nice);
        let clear_all = libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong;
        let none: libc::c_ulong = 0;
        libc::prctl(libc::PR_CAP_AMBIENT, clear_all, none, none, none);
    }
}

/// Runs the program once.
pub(super) async fn attempt(
    name: &str,
    argv: &[String],
    within: Duration,
    alive: &Alive,
) -> Result<(), String> {
    let Some(program) = argv.first() else { return Err("names no program".into()) };
    let (mut child, pipe) =
        start(name, argv).map_err(|error| format!("cannot start {program}: {error}"))?;
    let group = Group::of(&child);
    let mut output = Output { pipe, tail: Vec::new(), read: 0, is_open: true };
    let mut over = std::pin::pin!(tokio::time::sleep(within));
    let status = loop {
        tokio::select! {
            status = child.wait() => break Some(status),
            () = &mut over => break None,
            () = output.read(), if output.is_wanted() => {}
        }
    };
    // What the program has started goes with it.
    drop(group);
    output.read_what_is_there();
    match status {
        Some(Ok(status)) if status.success() => Ok(()),
        Some(Ok(status)) => Err(output.reason(&in_words(status))),
        Some(Err(error)) => Err(format!("nobody knows how {program} ended: {error}")),
        None => {
            if tokio::time::timeout(GONE_WITHIN, child.wait()).await.is_err() {
                let alive = Arc::clone(alive);
                tokio::spawn(async move {
                    let _ = child.wait().await;
                    drop(alive);
                });
            }
            Err(output.reason(&format!("killed, for it did not end within {within:?}")))
        }
    }
}

fn start(name: &str, argv: &[String]) -> std::io::Result<(Child, Receiver)> {
    let (reader, writer) = std::io::pipe()?;
    let path = std::env::var_os("PATH").unwrap_or_else(|| PATH.into());
    let mut command = Command::new(&argv[0]);
    command
        .args(&argv[1..])
        .env_clear()
        .env("PATH", path)
        .env("TURNIP_CHECK", name)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0)
        .kill_on_drop(true);
    let child = command.spawn()?;
    if let Some(pid) = child.id() {
        // The unit protects the daemon from being ended for want of memory, and so what it starts.
        let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), "1000");
    }
    // Else the pipe would stay open by the ends that are kept for another start.
    drop(command);
    Ok((child, Receiver::from_owned_fd(OwnedFd::from(reader))?))
}

/// A process group; killed when this is dropped.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
        Group(pid.map(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // As a rule nobody is left in it.
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

fn in_words(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (_, Some(signal)) => format!("ended by signal {signal}"),
        _ => status.to_string(),
    }
}

/// What the program writes.
struct Output {
    pipe: Receiver,
    tail: Vec<u8>,
    read: usize,
    is_open: bool,
}

impl Output {
    fn is_wanted(&self) -> bool {
        self.is_open && self.read < OUTPUT_MAX
    }

    async fn read(&mut self) {
        match self.pipe.readable().await {
            Ok(()) => self.read_once(),
            Err(_) => self.is_open = false,
        }
    }

    fn read_once(&mut self) {
        let mut buffer = [0; TAIL_MAX];
        match self.pipe.try_read(&mut buffer) {
            Ok(0) => self.is_open = false,
            Ok(count) => {
                self.read += count;
                self.tail.extend_from_slice(&buffer[..count]);
                let excess = self.tail.len().saturating_sub(TAIL_MAX);
                self.tail.drain(..excess);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => self.is_open = false,
        }
    }

    /// It has ended: what it wrote last may be unread.
    fn read_what_is_there(&mut self) {
        while self.is_wanted() {
            let before = self.read;
            self.read_once();
            if self.read == before {
                return;
            }
        }
    }

    /// Its last line, with how it ended.
    fn reason(&self, how: &str) -> String {
        let text = String::from_utf8_lossy(&self.tail);
        match text.lines().rev().map(str::trim).find(|line| !line.is_empty()) {
            Some(line) => format!("{line} ({how})"),
            None => how.to_owned(),
        }
    }
}
