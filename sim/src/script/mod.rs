//! The language of scenarios: a cluster, what befalls it when, and what is expected of it, in one file that
//! the simulator and the lab both play.
//!
//! A [`Script`] is what a file says, checked whole; [`Script::draw`] makes of it what happens in one run: the
//! random choices of a seed are made there, so that both worlds make the same. Nothing here knows either
//! world: hosts, sites, verbs, times and expectations are plain types.
//!
//! An error names the place, the value and what would be right, as those of turnip.toml do.

mod cluster;
mod draw;
mod expect;
mod fault;
mod phrase;
mod span;
mod verb;

#[cfg(test)]
mod tests;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use turnip_core::{Follow, Policy};

use turnip::config::{Collector, Config, Fence, Given, Place, Problem, Problems, Section, Sources};

pub use cluster::{Client, Etcd, Host, Link, Version};
pub use draw::{Deed, Happening, Target};
pub use expect::{Bounds, Expectation, Measure};
pub use fault::{Choice, Details, Fault};
pub use span::{Span, human};
pub use verb::{Object, Usual, Verb, World, markdown};

/// How long a scenario goes on after its last fault where it does not say how long it lasts.
const AFTERMATH: Duration = Duration::from_secs(30);

/// In less nothing can be seen.
const LASTS_MIN: Duration = Duration::from_secs(1);

/// What a file that says nothing of VIPs is about.
const VIP_DEFAULT: &str =
    "[[vip]]\nname = \"v1\"\naddress = \"10.77.0.101/32\"\ninterface = \"eth0\"\n";

/// A scenario.
#[derive(Clone, Debug)]
pub struct Script {
    /// What it is called: its file's name without the ending.
    pub name: String,
    /// What happens in it, in a sentence.
    pub about: Option<String>,
    /// The hosts that run turnip; machines are numbered in this order.
    pub hosts: Vec<Host>,
    /// Machines that run an etcd member and no turnip, by name; their numbers follow the hosts'.
    pub beside: Vec<String>,
    /// The sites, each with its name and the numbers of its machines; none where the file names none.
    pub sites: Vec<(String, Vec<usize>)>,
    /// What paths between machines are like that are not usual; both ways.
    pub links: Vec<Link>,
    /// etcd.
    pub etcd: Etcd,
    /// Where the client is that asks for the addresses.
    pub client: Client,
    /// turnip's own configuration, which all hosts have; `hosts` says in what they differ.
    pub config: Config,
    /// How long it lasts from the moment at which all VIPs are held.
    pub lasts: Duration,
    /// What befalls it, in the order in which it begins.
    pub faults: Vec<Fault>,
    /// What is expected.
    pub expect: Vec<Expectation>,
}

/// What scripts are made of besides their file.
#[derive(Clone, Default, Debug)]
pub struct Extra {
    /// How many hosts, instead of what the file says.
    pub hosts: Option<usize>,
    /// turnip's configuration.
    pub config: Option<PathBuf>,
    /// Faults, each in a phrase: `isolate h1 at 10s for 30s`.
    pub faults: Vec<String>,
    /// Expectations, each in a phrase: `gap <= 3.3s`.
    pub expect: Vec<String>,
}

impl Script {
    /// Whether addresses are silenced by a fence, and not by the end of their lifetime alone.
    pub fn is_fenced(&self) -> bool {
        self.config.fence != Fence::Lifetime
    }

    /// Reads a file.
    ///
    /// # Errors
    /// All that is wrong with it, at once.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) => {
                let mut problems = Collector::default();
                let value = Some(path.display().to_string());
                let what = format!("the file cannot be read: {error}");
                problems.add(Problem::new(Place::Default, "scenario", value, what));
                problems.finish(None)
            }
        }
    }

    /// Reads the text of a file; `path` is what it is called in errors, and where `config` is looked for.
    ///
    /// # Errors
    /// All that is wrong with it, at once.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Problems> {
        let mut problems = Collector::default();
        let top = Section::parse(path, text, &mut problems);
        // What TOML does not understand makes what follows seem to lack.
        if !problems.is_empty() {
            return problems.finish(None);
        }
        let script = read(top, path, &[], &mut problems);
        problems.finish(script)
    }

    /// A scenario from the command line.
    ///
    /// # Errors
    /// All that is wrong with it, at once.
    pub fn of_phrases(extra: &Extra) -> Result<Self, Problems> {
        let mut problems = Collector::default();
        let mut top = Section::empty("");
        if let Some(hosts) = extra.hosts {
            top.override_with(
                "hosts",
                Given::text(Place::Flag("--hosts".into()), hosts.to_string()),
            );
        }
        if let Some(config) = &extra.config {
            let text = config.display().to_string();
            top.override_with("config", Given::text(Place::Flag("--config".into()), text));
        }
        phrase::expectations(&extra.expect, &mut top, &mut problems);
        let faults = phrase::faults(&extra.faults, &mut problems);
        let script = read(top, Path::new("command line"), &faults, &mut problems);
        problems.finish(script)
    }

    /// Refuses what a world cannot play, by name.
    ///
    /// # Errors
    /// When there is such a verb.
    pub fn check_world(&self, world: World) -> Result<(), Problems> {
        let mut problems = Collector::default();
        for fault in self.faults.iter().filter(|fault| !fault.verb.is_in(world)) {
            let word = fault.verb.word();
            let what = format!("only {} can do this; here it is {world}", fault.verb.only_in());
            problems.add(Problem::new(fault.place.clone(), format!("fault.{word}"), None, what));
        }
        problems.finish(Some(()))
    }

    /// The name of a machine.
    pub fn machine(&self, number: usize) -> &str {
        match self.hosts.get(number) {
            Some(host) => &host.name,
            None => &self.beside[number - self.hosts.len()],
        }
    }

    /// How many machines there are.
    pub fn machines(&self) -> usize {
        self.hosts.len() + self.beside.len()
    }

    /// The names of the VIPs, in the order of the configuration.
    pub fn vips(&self) -> impl Iterator<Item = &str> {
        self.config.vips.iter().map(|vip| vip.config.name.as_str())
    }

    /// The key that a VIP follows, if it does; when all begins it names the first host, by its name.
    pub fn followed(&self, vip: usize) -> Option<&Follow> {
        match &self.config.vips[vip].config.policy {
            Policy::Follow(follow) => Some(follow),
            _ => None,
        }
    }

    /// The machines of the site that a machine is in; only itself where it is in none.
    pub fn site_of(&self, machine: usize) -> Vec<usize> {
        let site = self.sites.iter().find(|(_, machines)| machines.contains(&machine));
        site.map_or_else(|| vec![machine], |(_, machines)| machines.clone())
    }
}

fn read(
    mut top: Section,
    path: &Path,
    phrases: &[Section],
    problems: &mut Collector,
) -> Option<Script> {
    let about = top.read("about", problems, |given| given.as_text().map(str::to_owned));
    let cluster = cluster::read(&mut top, problems);
    let lasts = top.read("lasts", problems, |given| {
        match given.as_text().and_then(turnip::config::duration)? {
            lasts if lasts < LASTS_MIN => Err("shorter than a second".to_owned()),
            lasts => Ok(lasts),
        }
    });
    let (faults, expect) = (top.take("fault"), top.take("expect"));
    let config = config(top, path, cluster.hosts.first().map(|host| host.name.as_str()), problems);
    // What names VIPs cannot be judged without them.
    let config = config?;
    let names = fault::Names::new(&cluster, &config);
    cluster::check_priorities(&cluster.priorities, &config, problems);
    let faults = fault::read(faults, phrases, &names, problems);
    let last = faults.iter().map(Fault::ends_at_most).max().unwrap_or_default();
    let lasts = lasts.unwrap_or(last + AFTERMATH);
    fault::check_times(&faults, lasts, problems);
    let expect = expect::read(expect, &names, lasts, problems);
    let cluster::Cluster { hosts, beside, sites, links, etcd, client, .. } = cluster;
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    Some(Script {
        name: name.unwrap_or_default(),
        about,
        hosts,
        beside,
        sites,
        links,
        etcd: etcd?,
        client,
        config,
        lasts,
        faults,
        expect,
    })
}

/// turnip's configuration: what is left of the file, or another file.
fn config(
    mut top: Section,
    path: &Path,
    node: Option<&str>,
    problems: &mut Collector,
) -> Option<Config> {
    let Some(given) = top.take("config") else {
        top.override_with("node", Given::text(Place::Default, node.unwrap_or("h1").to_owned()));
        if !top.has("vip") {
            let vip = Section::parse(path, VIP_DEFAULT, problems).take("vip");
            vip.into_iter().for_each(|vip| top.override_with("vip", vip));
        }
        return Config::of_tables(top, problems);
    };
    let here = [
        "lease",
        "renew",
        "guard",
        "drift",
        "fence",
        "weight",
        "announce_every",
        "vip",
        "check",
        "peers",
    ];
    for key in here {
        if let Some(doubled) = top.take(key) {
            let what = format!(
                "stands in {} as well, which `config` names; leave one of the two out",
                given.shown()
            );
            top.refuse(key, &doubled, what, problems);
        }
    }
    let file = given.as_text().map(|text| match path.parent() {
        Some(folder) if matches!(given.place, Place::File { .. }) => folder.join(text),
        _ => PathBuf::from(text),
    });
    let readable = file.and_then(|file| match fs::read_to_string(&file) {
        Ok(_) => Ok(file),
        Err(error) => Err(format!("{}: the file cannot be read: {error}", file.display())),
    });
    let loaded = match readable {
        Ok(file) => Config::load(&Sources::of_file(file)).map_err(|all| problems.add_all(all)).ok(),
        Err(what) => {
            top.refuse("config", &given, what, problems);
            None
        }
    };
    top.finish(problems);
    loaded
}
