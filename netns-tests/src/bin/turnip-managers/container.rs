//! A Debian that systemd has booted, in a network namespace of the lab.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use turnip_netns_tests::lab::Lab;
use turnip_netns_tests::namespace::Namespace;
use turnip_netns_tests::poll::Poll;
use turnip_netns_tests::process::Process;

const BOOT: Poll = Poll::every(Duration::from_millis(100)).within(Duration::from_secs(60));

/// A container; dropping it shuts it down.
#[derive(Debug)]
pub struct Container {
    process: Process,
    init: u32,
}

impl Container {
    /// Boots what is in the directory `tree`, which stays as it is: what is written goes to memory.
    ///
    /// # Errors
    /// When systemd is not up within a minute; with what was on the console.
    pub fn boot(lab: &Lab, namespace: &Namespace, tree: &Path) -> Result<Self> {
        let mut command = namespace.command("systemd-nspawn");
        command.arg("--quiet").arg("--boot").arg("--volatile=overlay").arg("--directory").arg(tree);
        command.arg(format!("--machine={}", namespace.name()));
        command.arg(format!("--network-namespace-path=/run/netns/{}", namespace.name()));
        // A namespace that was made outside is not taken for one of the container's own.
        command.arg("--capability=CAP_NET_ADMIN");
        command.args(["--console=read-only", "--resolv-conf=off", "--timezone=off"]);
        command.arg("--register=no");
        // Managers set what is below /proc/sys/net, which is this network's own.
        command.env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "network");
        if !Path::new("/run/systemd/system").exists() {
            // Nobody is there who would make a scope for it.
            command.arg("--keep-unit");
        }
        let console = lab.directory().join(format!("{}.log", namespace.name()));
        let mut process = Process::start(command, "systemd-nspawn", console)?;
        let init = BOOT.find(|| {
            if !process.runs() {
                bail!("systemd-nspawn has ended: {}", process.log_text());
            }
            // Its first child is one that makes the container, and ends.
            let Some(init) = child_of(process.id()) else { return Ok(None) };
            let state = inside(init, "systemctl is-system-running").output()?.stdout;
            let state = String::from_utf8_lossy(&state);
            Ok(matches!(state.trim(), "running" | "degraded").then_some(init))
        })?;
        let init = init.with_context(|| format!("systemd is not up: {}", process.log_text()))?;
        Ok(Container { process, init })
    }

    /// Writes a file, which everybody may read, except what NetworkManager wants for root alone.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let path = self.path(path);
        fs::create_dir_all(path.parent().context("a directory")?)?;
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        let is_secret = path.extension().is_some_and(|extension| extension == "nmconnection");
        let mode = if is_secret { 0o600 } else { 0o644 };
        Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
    }

    /// Copies a program into it.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn install(&self, program: &Path, path: &str) -> Result<()> {
        fs::copy(program, self.path(path)).with_context(|| program.display().to_string())?;
        Ok(())
    }

    /// Runs a script of the shell to its end, and returns what it printed.
    ///
    /// # Errors
    /// When it fails; with what it said.
    pub fn run(&self, script: &str) -> Result<String> {
        let output = inside(self.init, script).output().context("nsenter")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(anyhow!("{script}: {}", said.trim().replace('\n', "; ")));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn path(&self, inside: &str) -> PathBuf {
        Path::new(&format!("/proc/{}/root", self.init)).join(inside.trim_start_matches('/'))
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Err(error) = self.process.stop(Duration::from_secs(20)) {
            eprintln!("{error:#}");
        }
    }
}

/// A script of the shell, to run where a process is.
fn inside(process: u32, script: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--target={process}"));
    command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--", "sh", "-ec", script]);
    command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin");
    command
}

/// The process that another one has started, once it has.
fn child_of(id: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}
