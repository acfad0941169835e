//! What can be done to members, hosts and daemons: what of it concerns more than one part of the
//! world.

use turnip::seams::Command;

use crate::daemon;
use crate::plan::config::HostConfig;

use super::Inner;
use super::control::Control;
use super::env::Env;
use super::hosts::Hosts;
use super::ids::{HostId, MemberId};

impl Inner {
    /// A member's process ends.
    pub(super) fn crash_member(&mut self, member: MemberId) {
        let machine_runs = self.hosts.site_is_up(self.etcd.site(member));
        self.etcd.crash(member, machine_runs, &mut self.env);
    }

    /// The processes of a majority of the members are stopped, or go on.
    pub(super) fn pause_majority(&mut self, paused: bool) {
        for member in 0..self.etcd.size() / 2 + 1 {
            self.etcd.pause(member, paused, &mut self.env);
        }
    }

    /// A member's process begins again, where its machine is on and nothing keeps it down.
    pub(super) fn start_member(&mut self, member: MemberId) {
        let site = self.etcd.site(member);
        let has_power = site >= self.hosts.len() || self.hosts.is_powered(site);
        if has_power && !(self.env.is_played() && self.is_member_kept_down(member)) {
            self.etcd.restart(member, &mut self.env);
        }
    }

    /// A daemon is killed.
    pub(super) fn kill(&mut self, host: HostId) {
        if self.hosts.is_running(host) {
            self.hosts.end_daemon(host);
            self.controls.push(Control::Kill(host));
        }
    }

    /// Starts a daemon unless one runs, or something keeps it down.
    pub(super) fn start_daemon(&mut self, host: HostId) {
        let is_kept_down = self.env.is_played() && self.is_kept_down(host);
        let may_run = self.hosts.is_powered(host) && !self.stopping && !is_kept_down;
        if may_run && !self.hosts.is_running(host) {
            self.env.count(|tally| &mut tally.starts);
            let config = self.config_of(host);
            self.hosts.begin_daemon(host, config, &mut self.env);
            self.controls.push(Control::Start(host));
            self.checks_begin(host);
        }
    }

    /// Has a daemon read its file again: it goes by what of that takes no new session.
    pub(super) fn reload_daemon(&mut self, host: HostId) {
        if !self.hosts.is_running(host) {
            return;
        }
        let HostConfig { weight, vips, .. } = self.config_of(host);
        let config = HostConfig { weight, vips, ..self.hosts.config(host).clone() };
        self.hosts.reconfigure(host, config, &mut self.env);
        let config = daemon::node_config(self, host);
        self.hosts.command(host, Command::Configure(Box::new(config)));
    }

    /// Asks a daemon to end, and to leave all to the next one.
    pub(super) fn leave_daemon(&mut self, host: HostId) {
        self.hosts.command(host, Command::Leave);
    }

    /// Asks a daemon to stop in an orderly way.
    pub(super) fn stop_daemon(&mut self, host: HostId) {
        self.hosts.command(host, Command::Stop);
    }

    /// A daemon is stopped by a signal.
    pub(super) fn freeze(&mut self, host: HostId) {
        if self.hosts.is_running(host) {
            self.hosts.freeze(host);
            self.controls.push(Control::Pause(host));
        }
    }

    /// A daemon goes on.
    pub(super) fn thaw(&mut self, host: HostId) {
        if self.hosts.is_frozen(host) {
            self.hosts.thaw(host, &mut self.env);
            if self.hosts.is_awake(host) {
                self.controls.push(Control::Resume(host));
            }
        }
    }

    /// A whole host is paused, its member and its clock too.
    pub(super) fn pause_host(&mut self, host: HostId) {
        if self.hosts.is_powered(host) && self.hosts.is_awake(host) {
            self.rest(host, |hosts, env| hosts.pause(host, true, env));
        }
    }

    /// A paused host goes on.
    pub(super) fn resume_host(&mut self, host: HostId) {
        if self.hosts.is_paused(host) {
            self.rest(host, |hosts, env| hosts.pause(host, false, env));
        }
    }

    /// A host is suspended, its member too; its clock goes on.
    pub(super) fn suspend_host(&mut self, host: HostId) {
        if self.hosts.is_powered(host) && self.hosts.is_awake(host) {
            self.rest(host, |hosts, env| hosts.suspend(host, true, env));
        }
    }

    /// A suspended host wakes.
    pub(super) fn wake_host(&mut self, host: HostId) {
        if self.hosts.is_suspended(host) {
            self.rest(host, |hosts, env| hosts.suspend(host, false, env));
        }
    }

    /// A host comes to rest or wakes by `act`, and with it what runs on it.
    fn rest(&mut self, host: HostId, act: impl FnOnce(&mut Hosts, &mut Env)) {
        let was_awake = self.hosts.is_awake(host);
        act(&mut self.hosts, &mut self.env);
        let is_awake = self.hosts.is_awake(host);
        if was_awake == is_awake {
            return;
        }
        if let Some(member) = self.env.plan.params.member_on(host) {
            self.etcd.pause(member, was_awake, &mut self.env);
        }
        if was_awake {
            self.controls.push(Control::Pause(host));
        } else if !self.hosts.is_frozen(host) {
            self.controls.push(Control::Resume(host));
        }
    }

    /// A host is switched off, with its member.
    pub(super) fn power_off(&mut self, host: HostId) {
        if self.hosts.is_powered(host) {
            self.resume_host(host);
            self.wake_host(host);
            if let Some(member) = self.env.plan.params.member_on(host) {
                self.etcd.crash(member, false, &mut self.env);
            }
            self.hosts.power_off(host, &mut self.env);
            self.etcd.look(&mut self.env);
            self.controls.push(Control::Kill(host));
        }
    }

    /// A host is switched on again.
    pub(super) fn power_on(&mut self, host: HostId) {
        if !self.hosts.is_powered(host) {
            self.hosts.power_on(host);
            if self.env.is_played() {
                for interface in self.links_kept_down(host) {
                    self.hosts.set_link(host, interface, false, &mut self.env);
                }
            }
            if let Some(member) = self.env.plan.params.member_on(host) {
                self.start_member(member);
            }
            self.start_daemon(host);
        }
    }
}
