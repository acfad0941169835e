//! Backups as operators make them: a snapshot of a member that runs, of which all members are made anew.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{DATA, Member};
use crate::cleanup;

impl Member {
    /// Writes a snapshot of what this member has.
    ///
    /// # Errors
    /// When etcdctl is not there, or fails; with what it said.
    pub fn save_snapshot(&self, to: &Path) -> Result<()> {
        let mut command = self.etcdctl();
        command.args(["--endpoints", &self.client_url(), "snapshot", "save"]).arg(to);
        run(command)
    }

    /// Makes its data of a snapshot, as all other members are to do with the same one; without any, it begins empty.
    ///
    /// # Errors
    /// When it runs, or as of etcdctl.
    pub fn restore_snapshot(&self, from: Option<&Path>) -> Result<()> {
        ensure!(!self.runs(), "etcd {} runs: its data cannot be replaced", self.name());
        let data = self.place.directory.join(DATA);
        cleanup::remove_directory(&data)?;
        let Some(from) = from else { return Ok(()) };
        let mut command = self.etcdctl();
        command.args(["snapshot", "restore"]).arg(from);
        // With the flags that the member has.
        let kept =
            ["--name=", "--data-dir=", "--initial-cluster=", "--initial-advertise-peer-urls="];
        let of_cluster =
            self.arguments.iter().filter(|one| kept.iter().any(|key| one.starts_with(key)));
        run({
            command.args(of_cluster);
            command
        })
    }

    /// The etcdctl beside this member's etcd; the one in `PATH` where none is.
    fn etcdctl(&self) -> Command {
        let beside: PathBuf = Path::new(&self.program).with_file_name("etcdctl");
        let program = if beside.is_file() { beside } else { "etcdctl".into() };
        let mut command = self.command(&program.display().to_string());
        command.env("ETCDCTL_API", "3");
        command
    }
}

fn run(mut command: Command) -> Result<()> {
    let output = command.output().context("etcdctl")?;
    let said =
        [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat();
    ensure!(output.status.success(), "etcdctl: {}\n{said}", output.status);
    Ok(())
}
