//! What an operator does and sees, from a machine that runs no daemon.

use std::process::{Command, Output};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use super::Cluster;
use crate::daemon::{
    CLUSTER, RUNTIME_DIRECTORY, endpoints, runtime_directory, see_ids_of, turnip_command,
    turnip_file,
};

impl Cluster {
    /// Whether each daemon has got an answer of etcd since its start: one that still waits for that touches nothing,
    /// and leaves what an earlier process left (rule 8.15).
    pub(super) fn none_waits_for_etcd(&self) -> Result<bool> {
        for (host, _) in self.hosts.iter().enumerate().filter(|(_, host)| host.daemon.is_some()) {
            let (status, said) = self.ask_daemon(host, &["reload", "--dry-run"])?;
            if status != Some(0) || said.contains("turnip waits for etcd") {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Runs turnip elsewhere, as an operator does, with the cluster's endpoints.
    ///
    /// # Errors
    /// When it fails; with what it said.
    pub fn turnip(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments)?.output()?;
        if !output.status.success() {
            bail!("turnip {}: {}\n{}", arguments.join(" "), output.status, printed(&output));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs turnip on a host, as somebody does who is logged in there, with the host's configuration:
    /// its exit status, and what it says.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn turnip_on(&self, host: usize, arguments: &[&str]) -> Result<(Option<i32>, String)> {
        let host = &self.hosts[host];
        let mut command = turnip_command(host.namespace())?;
        see_ids_of(&host.directory, &mut command)?;
        command.args(arguments).arg("--config").arg(turnip_file(&host.directory));
        command.env(RUNTIME_DIRECTORY, runtime_directory(&host.directory));
        let output = command.output()?;
        Ok((output.status.code(), printed(&output)))
    }

    /// Asks the daemon on a host: `turnip reload` and `turnip stop` need no configuration. Its exit status, and
    /// what it says.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn ask_daemon(&self, host: usize, arguments: &[&str]) -> Result<(Option<i32>, String)> {
        let host = &self.hosts[host];
        let mut command = turnip_command(host.namespace())?;
        command.args(arguments).env(RUNTIME_DIRECTORY, runtime_directory(&host.directory));
        let output = command.output()?;
        Ok((output.status.code(), printed(&output)))
    }

    /// Runs turnip elsewhere, as an operator does: its exit status, and what it says.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn turnip_says(&self, arguments: &[&str]) -> Result<(Option<i32>, String)> {
        let output = self.command(arguments)?.output()?;
        Ok((output.status.code(), printed(&output)))
    }

    /// What becomes of `turnip status` for somebody who lacks these of the settings that let one into
    /// etcd: its exit status, and what it says.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn status_without(&self, lacking: &[&str]) -> Result<(Option<i32>, String)> {
        let output = self.command_for(CLUSTER, lacking, &["status"])?.output()?;
        Ok((output.status.code(), printed(&output)))
    }

    /// The same for somebody who asks for another cluster in the same etcd.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn status_of(&self, cluster: &str) -> Result<(Option<i32>, String)> {
        let output = self.command_for(cluster, &[], &["status"])?.output()?;
        Ok((output.status.code(), printed(&output)))
    }

    /// Pins a VIP to a host.
    ///
    /// # Errors
    /// When turnip fails; with what it said.
    pub fn pin(&self, vip: &str, host: usize) -> Result<()> {
        self.turnip(&["pin", vip, &self.hosts[host].name]).map(drop)
    }

    /// What `turnip status --json` says, also when it says that a VIP has no owner.
    ///
    /// # Errors
    /// When it says nothing.
    pub fn status(&self) -> Result<Value> {
        let output = self.command(&["status", "--json"])?.output()?;
        let status = serde_json::from_slice(&output.stdout);
        status.with_context(|| format!("turnip status: {}\n{}", output.status, printed(&output)))
    }

    /// Whether every daemon has a session, and every VIP is where placement wants it.
    pub(super) fn is_settled(&self) -> Result<bool> {
        // etcd may be electing a leader.
        let Ok(status) = self.status() else { return Ok(false) };
        let vips = entries(&status, "vips")?;
        let is_at_home = |vip: &Value| !vip["owner"].is_null() && vip["owner"] == vip["preferred"];
        let all_at_home = vips.values().all(is_at_home);
        let known = vips.len() == self.plan.vips.len();
        Ok(known && all_at_home && self.has_all_sessions(&status)?)
    }

    /// Whether every daemon has a session.
    pub(super) fn all_have_sessions(&self) -> Result<bool> {
        // etcd may be electing a leader.
        let Ok(status) = self.status() else { return Ok(false) };
        self.has_all_sessions(&status)
    }

    fn has_all_sessions(&self, status: &Value) -> Result<bool> {
        let nodes = entries(status, "nodes")?;
        let live = nodes.values().filter(|node| !node["session"].is_null()).count();
        Ok(live == self.hosts.iter().filter(|host| host.daemon.is_some()).count())
    }

    pub(super) fn command(&self, arguments: &[&str]) -> Result<Command> {
        self.command_for(CLUSTER, &[], arguments)
    }

    fn command_for(&self, cluster: &str, lacking: &[&str], arguments: &[&str]) -> Result<Command> {
        let security = self.security.as_ref();
        let mut command = turnip_command(self.network.operator())?;
        command.args(arguments).args(["--cluster", cluster]);
        command.args(["--endpoints", &endpoints(&self.etcd_addresses, security).join(",")]);
        let settings = security.iter().flat_map(|security| security.turnip_settings());
        for (setting, value) in settings.filter(|(setting, _)| !lacking.contains(setting)) {
            command.args([format!("--{}", setting.replace('_', "-")), value]);
        }
        Ok(command)
    }
}

fn entries<'a>(status: &'a Value, what: &str) -> Result<&'a Map<String, Value>> {
    status[what].as_object().with_context(|| format!("{what} in {status}"))
}

fn printed(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}
