//! What can be done to daemons.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;

use super::Cluster;
use crate::binary;
use crate::daemon::{
    Daemon, Place, Policy, RUNTIME_DIRECTORY, TurnipSettings, Vip, boot_id, installed_in,
    machine_id, runtime_directory, turnip_command,
};
use crate::etcd;
use crate::guard;
use crate::host::Host;
use crate::plan::EtcdPlan;
use crate::poll::Poll;
use crate::process::Process;

impl Cluster {
    /// Starts the daemon of each host, the one that the address is to be on first. The next one is started
    /// when it is there: another host that were faster would hand it over after a lease only.
    ///
    /// # Errors
    /// When one cannot be started, or nobody takes the address.
    pub fn start_daemons(&mut self) -> Result<()> {
        for (earlier, host) in self.order_of_start()?.into_iter().enumerate() {
            self.start_daemon(host)?;
            if earlier == 0 && self.plan.daemon.settles_within().is_none() {
                self.wait_until_settled()?;
            }
        }
        Ok(())
    }

    /// With the policy `leader` the address is to be where etcd's leader is; else it is known from the plan.
    fn order_of_start(&self) -> Result<Vec<usize>> {
        let mut order = self.plan.in_order_of_start();
        let follows_leader = matches!(
            &self.plan.daemon,
            Daemon::Turnip(TurnipSettings { policy: Policy::Leader, .. })
        );
        if follows_leader && matches!(self.plan.etcd, EtcdPlan::OnHosts(_)) {
            let leader = etcd::wait_for_leader(&self.members)?;
            order.sort_by_key(|host| *host != leader);
        }
        Ok(order)
    }

    /// Starts the daemon of a host.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_daemon(&mut self, index: usize) -> Result<()> {
        let command = self.daemon_command(index)?;
        let host = &self.hosts[index];
        let log = daemon_log(host);
        let process = Process::start(command, &format!("daemon of {}", host.name), log)?;
        self.hosts[index].daemon = Some(process);
        Ok(())
    }

    /// Writes the configuration of a host as it is to be by now. Its daemon, if one runs, goes on with what it
    /// has read.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_configuration(&self, host: usize) -> Result<()> {
        self.daemon_command(host).map(drop)
    }

    /// Sets up the daemons in another way from now on, when they are started, or their configuration is
    /// written.
    pub fn set_up_daemons(&mut self, settings: TurnipSettings) {
        self.plan.daemon = Daemon::Turnip(settings);
    }

    /// Writes the configuration of a host, and the command that runs its daemon.
    fn daemon_command(&self, index: usize) -> Result<Command> {
        let has_member = self.plan.etcd.member_on(index).is_some();
        let host = &self.hosts[index];
        let place = Place {
            host: &host.name,
            index,
            namespace: host.namespace(),
            directory: &host.directory,
            has_member,
            etcd: &self.etcd_addresses,
            security: self.security.as_ref(),
        };
        self.plan.daemon.command(place, &self.configured[index])
    }

    /// Gives the first VIP this name in the configuration of a host, with the addresses that it has. The
    /// daemon reads it when it is started next.
    pub fn rename_vip(&mut self, host: usize, name: &str) {
        name.clone_into(&mut self.configured[host][0].name);
    }

    /// Gives these VIPs to a host's configuration. The daemon reads it when it is started next.
    pub fn configure(&mut self, host: usize, vips: Vec<Vip>) {
        self.configured[host] = vips;
    }

    /// Puts a turnip of its own on a host, in the place of the one that is there, which may run; its
    /// daemon is this one when it is started next.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn install_daemon(&self, host: usize) -> Result<()> {
        self.install(host, &binary::turnip()?)
    }

    /// The same with the turnip that was released before hosts heard each other.
    ///
    /// # Errors
    /// When nobody has said where that is, or it cannot be written.
    pub fn install_released_daemon(&self, host: usize) -> Result<()> {
        self.install(host, &binary::released()?)
    }

    fn install(&self, host: usize, program: &Path) -> Result<()> {
        let installed = installed_in(&self.hosts[host].directory);
        let new = installed.with_extension("new");
        binary::copy(program, &new)?;
        Ok(std::fs::rename(new, installed)?)
    }

    /// The daemon of a host.
    ///
    /// # Errors
    /// When none runs.
    pub fn daemon(&mut self, host: usize) -> Result<&mut Process> {
        let host = &mut self.hosts[host];
        host.daemon.as_mut().with_context(|| format!("no daemon runs on {}", host.name))
    }

    /// Ends the daemon of a host in an orderly way, if there is one.
    ///
    /// # Errors
    /// When it had ended before, does not end within 10 s, or does not end well: turnip cleans up
    /// after a panic as after a signal, so only its exit status shows which it was.
    pub fn stop_daemon(&mut self, host: usize) -> Result<()> {
        let says_how_it_went = matches!(self.plan.daemon, Daemon::Turnip(_));
        let Host { name, daemon, .. } = &mut self.hosts[host];
        let Some(mut process) = daemon.take() else { return Ok(()) };
        if !process.runs() {
            bail!("the daemon of {name} had ended before it was stopped:\n{}", process.log_text());
        }
        if says_how_it_went {
            let begun = Poll::every(Duration::from_millis(2)).within(Duration::from_secs(10));
            begun.is_so(|| anyhow::Ok(process.handles(Signal::SIGTERM) || !process.runs()))?;
        }
        let status = process.stop(Duration::from_secs(10))?;
        if says_how_it_went && !status.success() {
            bail!("the daemon of {name} ended with {status}:\n{}", process.log_text());
        }
        Ok(())
    }

    /// Waits for the end of the daemon of a host that was told to end by another way.
    ///
    /// # Errors
    /// When none runs, or it does not end in time, or not well.
    pub fn forget_daemon(&mut self, host: usize, patience: Duration) -> Result<()> {
        let status = self.daemon(host)?.wait(patience)?;
        self.hosts[host].daemon = None;
        if !status.success() {
            bail!("the daemon of {} ended with {status}\n{}", self.hosts[host].name, self.logs());
        }
        Ok(())
    }

    /// Ends the daemon of a host in an orderly way, starts it again, and waits until it is one of the
    /// cluster's.
    ///
    /// # Errors
    /// As of [`stop_daemon`](Self::stop_daemon) and [`start_daemon`](Self::start_daemon), or when it
    /// has no session within 30 s.
    pub fn restart_daemon(&mut self, host: usize) -> Result<()> {
        self.stop_daemon(host)?;
        self.start_daemon(host)?;
        self.wait_for_status("every daemon has a session", || self.all_have_sessions())
    }

    /// The inode of the program that the daemon of a host runs: of another file, another one, be it
    /// of the same name.
    ///
    /// # Errors
    /// When none runs.
    pub fn daemon_program(&mut self, host: usize) -> Result<u64> {
        let id = self.daemon(host)?.id();
        Ok(std::fs::metadata(format!("/proc/{id}/exe"))?.ino())
    }

    /// Fails unless every daemon that was started, and neither stopped nor killed, runs, be it
    /// frozen, and none has ever panicked.
    ///
    /// # Errors
    /// When one does not, or has; with what the daemons said.
    pub fn assert_daemons_are_well(&mut self) -> Result<()> {
        let has_ended = |daemon: &mut Process| !daemon.runs();
        let ended: Vec<bool> = (self.hosts.iter_mut())
            .map(|host| host.daemon.as_mut().is_some_and(has_ended))
            .collect();
        for (host, ended) in self.hosts.iter().zip(ended) {
            if ended {
                bail!("the daemon of {} has ended by itself\n{}", host.name, self.logs());
            }
            let log = match std::fs::read(daemon_log(host)) {
                // None was ever started there.
                Err(error) if error.kind() == ErrorKind::NotFound && host.daemon.is_none() => {
                    continue;
                }
                log => log.with_context(|| format!("what the daemon of {} said", host.name))?,
            };
            let log = String::from_utf8_lossy(&log);
            if let Some(line) = log.lines().find(|line| line.contains("panicked at")) {
                bail!("the daemon of {} panicked: {line}\n{}", host.name, self.logs());
            }
        }
        Ok(())
    }

    /// Kills the daemon of a host.
    ///
    /// # Errors
    /// When none runs.
    pub fn kill_daemon(&mut self, host: usize) -> Result<()> {
        self.daemon(host)?.kill();
        self.hosts[host].daemon = None;
        Ok(())
    }

    /// Clears a host whose daemon is dead, as an operator does.
    ///
    /// # Errors
    /// When it fails; with what it said.
    pub fn release(&self, host: usize) -> Result<()> {
        let host = &self.hosts[host];
        let mut command = turnip_command(host.namespace())?;
        let output = command
            .arg("release")
            .env(RUNTIME_DIRECTORY, runtime_directory(&host.directory))
            .output()?;
        if !output.status.success() {
            bail!("turnip release: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    }

    /// Stops the execution of the daemon of a host.
    ///
    /// # Errors
    /// When none runs.
    pub fn freeze_daemon(&mut self, host: usize) -> Result<()> {
        self.daemon(host)?.freeze()
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When none runs.
    pub fn thaw_daemon(&mut self, host: usize) -> Result<()> {
        self.daemon(host)?.thaw()
    }

    /// Starts on `host` a daemon that believes to be that of `other`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_duplicate_daemon(&self, host: usize, other: usize) -> Result<Process> {
        let directory = self.lab.directory_of(&format!("duplicate-of-h{}", other + 1))?;
        guard::make_directory(&runtime_directory(&directory))?;
        // The machine is the one that it runs on.
        for id in [machine_id, boot_id] {
            std::fs::copy(id(&self.hosts[host].directory), id(&directory))?;
        }
        let place = Place {
            host: &self.hosts[other].name,
            index: other,
            namespace: self.hosts[host].namespace(),
            directory: &directory,
            has_member: self.plan.etcd.member_on(other).is_some(),
            etcd: &self.etcd_addresses,
            security: self.security.as_ref(),
        };
        let command = self.plan.daemon.command(place, &self.configured[other])?;
        Process::start(command, "the duplicate daemon", directory.join("daemon.log"))
    }
}

/// What the daemons of a host have said, one after the other.
pub(super) fn daemon_log(host: &Host) -> PathBuf {
    host.directory.join("daemon.log")
}
