//! Pages of the documentation, followed as their readers do: each file is written and each command is
//! entered as it stands there, and has to print what it is said to.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use turnip_netns_tests::binary;
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::daemon::{
    Daemon, RUNTIME_DIRECTORY, TurnipSettings, Vip, runtime_directory, see_ids_of, turnip_file,
};
use turnip_netns_tests::namespace::Namespace;
use turnip_netns_tests::plan::{NetworkPlan, Plan, vip};
use turnip_netns_tests::poll::Poll;
use turnip_netns_tests::process::Process;
use turnip_netns_tests::walkthrough::{Page, Step, What, is_printed};

/// How long what a command prints may take to become what the page says.
const PATIENCE: Poll = Poll::every(Duration::from_millis(100)).within(Duration::from_secs(40));

/// The one that a page calls the guest is behind this host.
const GUEST: usize = 2;

/// Commands that change nothing: what they print is waited for.
const LOOKS: [&str; 12] = [
    "turnip status",
    "turnip why",
    "turnip check",
    "turnip history",
    "turnip wait",
    "ip -brief",
    "ip route show",
    "ip rule show",
    "ip neighbour show",
    "birdc show",
    "ping",
    "etcdctl get",
];

/// A reader on the way through a page.
pub struct Walk {
    pub cluster: Cluster,
    page: Page,
    /// What was started, beside turnip: where, by which unit.
    services: Vec<(String, String, Process)>,
}

impl Walk {
    /// At the page's beginning, with hosts on which etcd runs and nothing else.
    pub fn begin(name: &str, plan: Plan) -> Result<Self> {
        let settings = TurnipSettings { by_own_file: true, ..TurnipSettings::default() };
        let plan = Plan { daemon: Daemon::Turnip(settings), ..plan };
        let page = Page::read(name, plan.hosts)?;
        Ok(Walk { cluster: Cluster::lay_out(plan)?, page, services: Vec::new() })
    }

    /// Does all that the page asks for.
    pub fn follow(&mut self) -> Result<()> {
        self.follow_where(|_| true)
    }

    /// Does all that it asks for under one heading.
    pub fn follow_section(&mut self, section: &str) -> Result<()> {
        let known = self.page.steps.iter().any(|step| step.section == section);
        ensure!(known, "nothing stands under {section:?}");
        self.follow_where(|step| step.section == section)
    }

    /// Ends what was started beside turnip, and what of it has power.
    pub fn end_services(&mut self) -> Result<()> {
        for (_, _, mut process) in std::mem::take(&mut self.services) {
            process.stop(Duration::from_secs(10))?;
        }
        Ok(())
    }

    /// Brings a file of a host to where the reader sits.
    pub fn copy_to_desk(&self, place: &str, path: &str, name: &str) -> Result<()> {
        let to = self.directory("desk")?.join(name);
        std::fs::copy(self.file(place, Path::new(path))?, to)?;
        Ok(())
    }

    fn follow_where(&mut self, wanted: impl Fn(&Step) -> bool) -> Result<()> {
        for step in self.page.steps.clone().into_iter().filter(wanted) {
            for place in &step.places {
                let done = match &step.what {
                    What::File { path, text } => self.write(place, path, text),
                    What::Command { command, prints } => self.enter(place, command, prints),
                };
                done.with_context(|| format!("line {} of the page, on {place}", step.line))?;
            }
        }
        Ok(())
    }

    fn write(&self, place: &str, path: &Path, text: &str) -> Result<()> {
        let file = self.file(place, path)?;
        let text = self.with_own_files(place, text.to_owned())?;
        std::fs::create_dir_all(file.parent().context("a directory")?)?;
        Ok(std::fs::write(file, text)?)
    }

    fn enter(&mut self, place: &str, command: &str, prints: &[String]) -> Result<()> {
        self.cluster.note(format!("{place}# {command}"));
        match command.split(' ').collect::<Vec<_>>()[..] {
            ["systemctl", "enable" | "start", .., unit] if unit != "--now" => {
                self.start(place, unit)
            }
            ["systemctl", "stop", "--no-block", unit] => {
                self.service(place, unit)?.signal(Signal::SIGTERM)
            }
            // Without --now it was stopped before, and may be on its way to its end.
            ["systemctl", "disable" | "stop", .., unit] => self.stop(place, unit),
            ["systemctl", "reload", unit] if unit != "turnip" => {
                self.service(place, unit)?.signal(Signal::SIGHUP)
            }
            ["systemctl", "reload", "turnip"] => self.run(place, "turnip reload", prints),
            ["systemctl", ..] => bail!("the lab has no {command:?}"),
            ["poweroff", "-f"] => self.cluster.power_off(host(place)?),
            _ => self.run(place, command, prints),
        }
    }

    fn start(&mut self, place: &str, unit: &str) -> Result<()> {
        if unit == "turnip" {
            return self.start_turnip(place);
        }
        let directory = self.directory(place)?;
        let mut command = match unit {
            "bird" => {
                let mut command = self.namespace(place)?.command("bird");
                command.args(["-f", "-c"]).arg(self.file(place, Path::new("/etc/bird/bird.conf"))?);
                command.arg("-s").arg(directory.join("bird.ctl"));
                command
            }
            "keepalived" => {
                let mut command = self.namespace(place)?.command("keepalived");
                command.args(["--dont-fork", "--log-console", "--vrrp", "--use-file"]);
                command.arg(self.file(place, Path::new("/etc/keepalived/keepalived.conf"))?);
                command.arg("--pid").arg(directory.join("keepalived.pid"));
                command.arg("--vrrp_pid").arg(directory.join("vrrp.pid"));
                command
            }
            _ => bail!("the lab knows no unit {unit}"),
        };
        command.current_dir(&directory);
        let log = directory.join(format!("{unit}.log"));
        let process = Process::start(command, &format!("{unit} of {place}"), log)?;
        self.services.push((place.to_owned(), unit.to_owned(), process));
        Ok(())
    }

    /// Until it works, as its unit has `systemctl` wait.
    fn start_turnip(&mut self, place: &str) -> Result<()> {
        self.cluster.start_daemon(host(place)?)?;
        let cluster = &self.cluster;
        cluster.wait(&format!("turnip works on {place}"), || {
            let status = cluster.status();
            Ok(status.is_ok_and(|status| !status["nodes"][place]["session"].is_null()))
        })
    }

    fn stop(&mut self, place: &str, unit: &str) -> Result<()> {
        if unit == "turnip" {
            return self.cluster.stop_daemon(host(place)?);
        }
        self.service(place, unit)?.stop(Duration::from_secs(10))?;
        self.services.retain(|(at, by, _)| (at.as_str(), by.as_str()) != (place, unit));
        Ok(())
    }

    fn service(&mut self, place: &str, unit: &str) -> Result<&mut Process> {
        let of = |(at, by, _): &&mut (String, String, Process)| at == place && by == unit;
        let (_, _, process) = self.services.iter_mut().find(of).context("it does not run")?;
        Ok(process)
    }

    /// As a shell does, with what the unit and the hostname tell turnip on a machine of its own.
    fn run(&self, place: &str, command: &str, prints: &[String]) -> Result<()> {
        let mut last = (false, String::new());
        let mut attempt = || -> Result<bool> {
            let output = self.shell(place, command)?.output()?;
            let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
            // Some end with another status where all is well but for a warning, which is shown.
            let ended_well = output.status.success() || !prints.is_empty();
            last = (ended_well, said.concat());
            Ok(ended_well && (prints.is_empty() || is_printed(prints, &last.1)))
        };
        let looks = LOOKS.iter().any(|look| command.starts_with(look));
        let is_so = if looks { PATIENCE.is_so(&mut attempt)? } else { attempt()? };
        let (expected, said) = (prints.join("\n"), last.1);
        println!("{place}# {command}\n{said}");
        ensure!(
            is_so,
            "{command}: the page says\n{expected}\nand it prints\n{said}\n{}",
            self.cluster.logs()
        );
        Ok(())
    }

    fn shell(&self, place: &str, command: &str) -> Result<Command> {
        let mut line = format!(
            "birdc() {{ command birdc -s {} \"$@\"; }}\n{command}\n",
            self.directory(place)?.join("bird.ctl").display()
        );
        line = self.with_own_files(place, line)?;
        let mut shell = self.namespace(place)?.command("sh");
        shell.current_dir(self.directory(place)?);
        shell.args(["-e", "-c", &line]);
        let programs = binary::turnip()?;
        let programs = programs.parent().context("its directory")?.display().to_string();
        let path = std::env::var("PATH").unwrap_or_default();
        shell.env("PATH", format!("{programs}:{path}"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TURNIP_LAB_") {
                shell.env_remove(name);
            }
        }
        if let Ok(index) = host(place) {
            let directory = &self.cluster.host(index).directory;
            shell.env("TURNIP_CONFIG", turnip_file(directory)).env("TURNIP_NODE", place);
            shell.env(RUNTIME_DIRECTORY, runtime_directory(directory));
            see_ids_of(directory, &mut shell)?;
        }
        Ok(shell)
    }

    /// The place's own files, for those below the directories in which the page has some.
    fn with_own_files(&self, place: &str, mut text: String) -> Result<String> {
        let files = self.page.steps.iter().filter_map(|step| match &step.what {
            What::File { path, .. } => path.parent(),
            What::Command { .. } => None,
        });
        for directory in files.collect::<BTreeSet<_>>() {
            let own = self.file(place, directory)?;
            // Not within one that was put there already.
            for before in [" ", "\""] {
                let [of_page, of_lab] =
                    [directory, &own].map(|path| format!("{before}{}/", path.display()));
                text = text.replace(&of_page, &of_lab);
            }
        }
        Ok(text)
    }

    fn namespace(&self, place: &str) -> Result<&Namespace> {
        match place {
            "router" => self.cluster.network().router(),
            "guest" => Ok(self.cluster.network().guest(GUEST)?),
            "client" | "desk" => Ok(self.cluster.client()),
            _ => Ok(self.cluster.host(host(place)?).namespace()),
        }
    }

    fn directory(&self, place: &str) -> Result<PathBuf> {
        self.cluster.lab().directory_of(place)
    }

    /// Where the lab has what is a file of a machine of its own.
    fn file(&self, place: &str, path: &Path) -> Result<PathBuf> {
        let directory = self.directory(place)?;
        // With turnip.toml where the lab has it.
        Ok(directory.join(path.strip_prefix("/etc/turnip").or(path.strip_prefix("/"))?))
    }
}

/// The number of the host that is called so.
fn host(place: &str) -> Result<usize> {
    let number = place.strip_prefix('h').and_then(|number| number.parse::<usize>().ok());
    number.and_then(|number| number.checked_sub(1)).with_context(|| format!("{place} is no host"))
}

/// Does all that a page asks for; its address was never on two hosts that answer meanwhile.
fn follow(name: &str, plan: Plan) -> Result<Walk> {
    let mut walk = Walk::begin(name, plan)?;
    let from = Instant::now();
    walk.follow()?;
    walk.cluster.check(from, Outcome::gap_at_most(Duration::MAX))?;
    Ok(walk)
}

#[test]
fn an_api_servers_address_is_carried_by_bgp_as_its_page_says() -> Result<()> {
    let plan = Plan { network: NetworkPlan::Routed, ..Plan::api_server(true) };
    follow("use-cases/api-server.md", plan).map(drop)
}

#[test]
fn a_gateway_of_guests_moves_as_its_page_says() -> Result<()> {
    follow("use-cases/gateway.md", Plan::gateway()).map(drop)
}

#[test]
fn an_address_is_where_patronis_key_says_as_its_page_has_it() -> Result<()> {
    follow("use-cases/patroni.md", Plan::default()).map(drop)
}

#[test]
fn a_router_moves_whole_as_its_page_says() -> Result<()> {
    follow("use-cases/router-pair.md", Plan::default()).map(drop)
}

#[test]
fn many_addresses_are_on_all_hosts_and_routed_there_as_their_page_says() -> Result<()> {
    let pool = Vip { interface: "lo".into(), ..vip("pool", &["10.80.200.1/32"]) };
    let plan = Plan { network: NetworkPlan::Routed, vips: vec![pool], ..Plan::default() };
    follow("use-cases/many-addresses.md", plan).map(drop)
}
