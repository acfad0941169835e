//! `turnip reload`: the daemon goes by what its configuration says now (rule 14).
//!
//! The daemon reads its own sources again: the file, under what it was started with of flags and variables.
//! Everything is checked before anything is changed.

use std::cell::{Cell, RefCell};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use clap::Args;
use tokio::sync::{Notify, mpsc, watch};
use turnip::checks::Checks;
use turnip::config::{Config, Difference, Sources};
use turnip::etcd::Etcd;
use turnip::hooks::HostHooks;
use turnip::kernel::Netlink;
use turnip::seams::Command;
use turnip_core::{NodeConfig, Report, SessionId, VipName};

use super::control::{self, Answer, Request};
use super::manager::Manager;
use super::run::{interfaces, log_dangers, runtime_directory};
use super::{FAILED, OK, fail, own_addresses, print};

/// What its help ends with.
pub const AFTER_HELP: &str = "\
The daemon on this host reads its configuration again, and takes all of it or nothing: VIPs, their settings, \
weight and announce_every. What did not change is not touched. A VIP that is renamed, or gets other \
addresses, moves at most as in a hand-over. What takes a new process or a new session is named, and \
refused: `systemctl restart turnip` for the first, --new-session for the second. Variables are those that the \
daemon was started with. Exit status: 0 the daemon goes by it, 1 it does not, and why.";

/// How long etcd may take to say whether an address is the host's own.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long a new session may take.
const NEW_SESSION_WITHIN: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How far to go.
#[derive(Args)]
pub struct ReloadArgs {
    /// Say what differs, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Where it takes one, hand all VIPs over and open a new session
    #[arg(long, conflicts_with = "dry_run")]
    new_session: bool,
}

/// Asks the daemon on this host.
pub fn reload(args: &ReloadArgs) -> ExitCode {
    let &ReloadArgs { dry_run, new_session } = args;
    let directory = runtime_directory();
    let session = || control::ask(&directory, Request::Session).ok().filter(|answer| answer.done);
    let before = session();
    let answer = match control::ask(&directory, Request::Reload { dry_run, new_session }) {
        Ok(answer) if answer.done => answer,
        Ok(answer) => return fail(FAILED, answer.said.trim_end()),
        Err(why) => return fail(FAILED, why),
    };
    print(&answer.said);
    if !answer.said.contains(NEW_SESSION) {
        return ExitCode::from(OK);
    }
    let start = Instant::now();
    while start.elapsed() < NEW_SESSION_WITHIN {
        std::thread::sleep(LOOK_EVERY);
        let now = session();
        if let Some(now) = now
            && Some(&now) != before.as_ref()
        {
            print(&format!("session {}\n", now.said));
            return ExitCode::from(OK);
        }
    }
    fail(
        FAILED,
        format!("there is no new session after {NEW_SESSION_WITHIN:?}: see the daemon's log"),
    )
}

/// What the daemon says when it hands all over for a new session.
const NEW_SESSION: &str = "handing all VIPs over for a new session";

/// What follows from the node's reports.
pub struct Progress {
    waits_for: watch::Sender<Option<Vec<VipName>>>,
    session: Cell<Option<SessionId>>,
    /// How many VIPs there are, for the service manager's status.
    configured: Rc<Cell<usize>>,
}

impl Progress {
    pub fn new(configured: Rc<Cell<usize>>) -> Self {
        Progress { waits_for: watch::channel(None).0, session: Cell::new(None), configured }
    }

    /// Takes note of a transition.
    pub fn report(&self, report: &Report) {
        match report {
            Report::Reconfigured { waits_for } => {
                let _ = self.waits_for.send_replace(Some(waits_for.clone()));
            }
            Report::SessionOpened { session } | Report::SessionResumed { session } => {
                self.session.set(Some(*session));
            }
            Report::SessionLost { .. } => self.session.set(None),
            _ => {}
        }
    }
}

/// The daemon's side while it waits for etcd, and touches nothing: it is started anew, by itself.
pub struct Waiting<'a> {
    pub sources: &'a Sources,
    pub config: &'a Config,
    pub again: &'a Cell<bool>,
    pub ends: Notify,
}

impl Waiting<'_> {
    /// Does what it is asked.
    pub async fn act(&self, request: Request) -> Answer {
        match request {
            Request::Reload { dry_run, .. } => Answer::of(self.reload(dry_run)),
            Request::Stop { .. } => {
                self.ends.notify_one();
                Answer { done: true, said: "stopped; it was waiting for etcd\n".to_owned() }
            }
            Request::Session => Answer { done: false, said: "no session".to_owned() },
        }
    }

    /// Reads the configuration again; where that differs it is the end.
    pub fn reload(&self, dry_run: bool) -> Result<String, String> {
        let config = Config::load(self.sources).map_err(|problems| problems.to_string());
        let config = config.inspect_err(|why| tracing::error!("not reloaded: {why}"))?;
        let difference = Difference::between(self.config, &config);
        if !dry_run && !difference.is_empty() {
            self.again.set(true);
            self.ends.notify_one();
        }
        Ok(format!("{difference}nothing is held yet: turnip waits for etcd\n"))
    }
}

/// The daemon's side.
pub struct Reloader<'a> {
    pub sources: &'a Sources,
    /// What the daemon goes by.
    pub running: RefCell<Config>,
    /// What the node was started with: what a reload does not change stays so.
    pub started_with: NodeConfig,
    pub to_node: mpsc::UnboundedSender<Command>,
    pub manager: Manager,
    pub kernel: &'a Netlink,
    pub hooks: &'a HostHooks,
    pub checks: &'a Checks,
    pub etcd: &'a Etcd,
    pub progress: &'a Progress,
    /// When this process ends, another one is to go by what the file says.
    pub again: &'a Cell<bool>,
}

impl Reloader<'_> {
    /// Does what it is asked.
    pub async fn act(&self, request: Request) -> Answer {
        match request {
            Request::Reload { dry_run, new_session } => {
                Answer::of(self.reload(dry_run, new_session).await)
            }
            Request::Stop { leave } => {
                self.manager.stopping();
                let (command, said) = match leave {
                    true => (Command::Leave, "left to the next start\n"),
                    false => (Command::Stop, "stopped\n"),
                };
                tracing::info!("asked to stop: {}", said.trim_end());
                let _ = self.to_node.send(command);
                Answer { done: true, said: said.to_owned() }
            }
            Request::Session => match self.progress.session.get() {
                Some(session) => Answer { done: true, said: session.to_string() },
                None => Answer { done: false, said: "no session".to_owned() },
            },
        }
    }

    /// Reads the configuration again and goes by it. The log and the service manager learn how that went.
    pub async fn reload(&self, dry_run: bool, new_session: bool) -> Result<String, String> {
        if dry_run {
            return self.checked().await.map(|(_, difference)| difference.to_string());
        }
        self.manager.reloading();
        let outcome = self.take(new_session).await;
        match &outcome {
            Ok(said) => tracing::info!("reloaded: {}", said.trim_end().replace('\n', "; ")),
            Err(why) => tracing::error!("not reloaded, and nothing has changed: {why}"),
        }
        if !self.again.get() {
            self.manager.reloaded();
        }
        outcome
    }

    async fn take(&self, new_session: bool) -> Result<String, String> {
        let (config, difference) = self.checked().await?;
        if let Some(why) = difference.beyond_a_reload() {
            if !new_session {
                return Err(why);
            }
            self.again.set(true);
            let _ = self.to_node.send(Command::Stop);
            return Ok(format!("{difference}{NEW_SESSION}\n"));
        }
        for notice in &config.reach.notices {
            tracing::warn!("{notice}");
        }
        if difference.is_empty() {
            *self.running.borrow_mut() = config;
            return Ok(difference.to_string());
        }
        log_dangers(&config, self.etcd);
        let lease = config.lease.duration();
        let node = NodeConfig {
            weight: config.weight,
            announce_every: config.announce_every,
            checks: config.checks.iter().map(|check| check.config.clone()).collect(),
            vips: config.vips.iter().map(|vip| vip.config.clone()).collect(),
            ..self.started_with.clone()
        };
        self.hooks.reconfigure(config.hook_commands());
        let _ = self.progress.waits_for.send_replace(None);
        let mut told = self.progress.waits_for.subscribe();
        // Before the node announces anything of it.
        self.kernel.want(config.wanted());
        let _ = self.to_node.send(Command::Configure(Box::new(node)));
        // After the node has heard of them.
        if let Err(error) = self.checks.reconfigure(config.checks.clone()) {
            tracing::error!("checks that are new cannot be tried: {error}");
        }
        self.progress.configured.set(config.vips.len());
        *self.running.borrow_mut() = config;
        let is_done = told.wait_for(|waits_for| waits_for.as_ref().is_some_and(Vec::is_empty));
        let is_done = tokio::time::timeout(2 * lease, is_done).await.is_ok();
        let mut said = difference.to_string();
        if !is_done {
            let waits_for = self.progress.waits_for.borrow().clone().unwrap_or_default();
            let names: Vec<&str> = waits_for.iter().map(VipName::as_str).collect();
            said +=
                &format!("the rest follows when these have left this host: {}\n", names.join(", "));
        }
        Ok(said)
    }

    /// The configuration as its sources have it now, if this host can go by it.
    async fn checked(&self) -> Result<(Config, Difference), String> {
        let config = Config::load(self.sources).map_err(|problems| problems.to_string())?;
        let running = self.running.borrow().clone();
        let difference = Difference::between(&running, &config);
        // What did not change was looked at before, and may have been waited for.
        let known = |vip: &turnip::config::Vip| {
            let is_it = |old: &turnip::config::Vip| {
                old.config.name == vip.config.name
                    && old.config.is_where(&vip.config)
                    && old.has_companions_of(vip)
            };
            running.vips.iter().any(is_it)
        };
        let mut news = config.clone();
        news.vips.retain(|vip| !known(vip));
        news.check_interfaces(&interfaces()?).map_err(|problems| problems.to_string())?;
        let refused = own_addresses::refuse(&news, self.etcd, ANSWER_WITHIN).await;
        refused.map_err(|why| why.replacen("not starting, for it", "it", 1))?;
        Ok((config, difference))
    }
}
