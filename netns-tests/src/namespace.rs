//! A network namespace, and running things in it.

use std::fs::File;
use std::future::Future;
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use netns_rs::NetNs;
use nix::sched::{CloneFlags, setns};
use rtnetlink::Handle;

use crate::guard;
use crate::process::{self, processes_in};

/// A named network namespace; dropping it removes the name, and with it, once nothing runs in it,
/// the namespace.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    inode: u64,
    net: Option<NetNs>,
}

impl Namespace {
    /// Makes a namespace with `lo` up.
    ///
    /// # Errors
    /// Without root, or when the name is taken.
    pub fn new(name: &str) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("network namespaces need root: this did not run");
        }
        let net = guard::make(|| {
            // The first one mounts the directory of them all, which two at once would do twice.
            static MOUNTING: Mutex<()> = Mutex::new(());
            let _mounting = MOUNTING.lock().unwrap_or_else(PoisonError::into_inner);
            NetNs::new(name)
        });
        let net = net.with_context(|| format!("network namespace {name}"))?;
        let inode = net.file().metadata().with_context(|| format!("inode of {name}"))?.ino();
        let namespace = Namespace { name: name.to_owned(), inode, net: Some(net) };
        namespace.set_link("lo", LinkState::Up)?;
        Ok(namespace)
    }

    /// Its name under `/run/netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Identifies it among all namespaces.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// The open namespace.
    pub fn file(&self) -> &File {
        self.net.as_ref().expect("only drop takes it").file()
    }

    /// Makes the calling thread enter it, for good: for threads that live in it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn enter(&self) -> Result<()> {
        Ok(setns(self.file(), CloneFlags::CLONE_NEWNET)?)
    }

    /// Runs `f` in it, on a thread of its own.
    ///
    /// # Panics
    /// When `f` does.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                self.enter()?;
                f()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Runs a future in it: its sockets are the namespace's.
    pub fn block_on<T: Send, F: Future<Output = Result<T>>>(
        &self,
        f: impl FnOnce() -> F + Send,
    ) -> Result<T> {
        self.run(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(f())
        })
    }

    /// Talks to the kernel's routing netlink in it.
    pub fn netlink<T: Send, F: Future<Output = Result<T>>>(
        &self,
        f: impl FnOnce(Handle) -> F + Send,
    ) -> Result<T> {
        self.block_on(|| async {
            let (connection, handle, _) = rtnetlink::new_connection()?;
            tokio::spawn(connection);
            f(handle).await
        })
        .with_context(|| format!("in {}", self.name))
    }

    /// A command that will run in it. The process dies with the *thread* that starts it.
    pub fn command(&self, program: &str) -> Command {
        process::command(program, Some(self.raw_fd()))
    }

    /// Runs a command to its end and returns what it printed.
    ///
    /// # Errors
    /// When it cannot be run or fails; with what it said.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self.command(program).args(arguments).output();
        let output = output.with_context(|| format!("{program} cannot be run"))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(anyhow!("{program} {}: {}: {said}", arguments.join(" "), output.status));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Applies nftables rules, all of them or none.
    ///
    /// # Errors
    /// As of nft.
    pub fn nft(&self, rules: &str) -> Result<()> {
        let mut command = self.command("nft");
        command.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("nft cannot be run")?;
        let written = child.stdin.take().expect("it is piped").write_all(rules.as_bytes());
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!("nft: {}\n{rules}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(written?)
    }

    /// Sets a kernel parameter below `/proc/sys/net`, as `ipv4/ip_forward`.
    ///
    /// # Errors
    /// When there is no such parameter.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        self.run(|| {
            std::fs::write(format!("/proc/sys/net/{name}"), value).with_context(|| name.to_owned())
        })
    }

    /// The ids of the processes that run in it.
    ///
    /// # Errors
    /// When the processes of the machine cannot be listed.
    pub fn processes(&self) -> std::io::Result<Vec<i32>> {
        processes_in(self.inode)
    }

    pub(crate) fn raw_fd(&self) -> RawFd {
        self.file().as_fd().as_raw_fd()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Some(net) = self.net.take()
            && let Err(error) = net.remove()
        {
            eprintln!("network namespace {}: {error}", self.name);
        }
    }
}

/// Whether a link is wanted up or down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LinkState {
    /// Carries traffic.
    Up,
    /// Carries none; its routes are gone.
    Down,
}
