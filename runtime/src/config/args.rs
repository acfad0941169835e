//! The flags, and the variables behind them, that override the file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args};

use super::problem::Place;
use super::section::{Given, Section};
use super::values::nearest;
use crate::etcd::Secret;
use crate::redact;

/// Where the configuration is.
pub const FILE_DEFAULT: &str = "/etc/turnip/turnip.toml";

/// What every command needs: how to reach the cluster, and how to log.
#[derive(Args, Clone, Default, Debug)]
pub struct ReachArgs {
    /// Configuration file [default: /etc/turnip/turnip.toml, where there is one]
    #[arg(long, value_name = "FILE", env = "TURNIP_CONFIG")]
    config: Option<PathBuf>,
    /// Name of the cluster: hosts with the same one share their VIPs [default: main]
    #[arg(long, value_name = "NAME", env = "TURNIP_CLUSTER")]
    cluster: Option<String>,
    /// etcd's client URLs, separated by commas [default: http://127.0.0.1:2379]
    #[arg(long, value_name = "URLS", env = "TURNIP_ENDPOINTS", help_heading = "etcd")]
    endpoints: Option<String>,
    /// Client URL of the etcd member on this host [default: the first endpoint on loopback]
    #[arg(long, value_name = "URL", env = "TURNIP_LOCAL_ENDPOINT", help_heading = "etcd")]
    local: Option<String>,
    /// Certificate authorities to trust, PEM [default: the system's]
    #[arg(long, value_name = "FILE", env = "TURNIP_ETCD_CA", help_heading = "etcd")]
    ca: Option<String>,
    /// This client's certificate, PEM
    #[arg(long, value_name = "FILE", env = "TURNIP_ETCD_CERT", help_heading = "etcd")]
    cert: Option<String>,
    /// This client's private key, PEM
    #[arg(long, value_name = "FILE", env = "TURNIP_ETCD_KEY", help_heading = "etcd")]
    key: Option<String>,
    /// Name in etcd's certificate, when it is not the URL's host
    #[arg(long, value_name = "NAME", env = "TURNIP_ETCD_SERVER_NAME", help_heading = "etcd")]
    server_name: Option<String>,
    /// etcd user; the password is read from a file or from TURNIP_ETCD_PASSWORD
    #[arg(long, value_name = "NAME", env = "TURNIP_ETCD_USER", help_heading = "etcd")]
    user: Option<String>,
    /// File that holds the etcd user's password
    #[arg(long, value_name = "FILE", env = "TURNIP_ETCD_PASSWORD_FILE", help_heading = "etcd")]
    password_file: Option<String>,
    /// How to log: text, json, or auto (text that suits where it goes) [default: auto]
    #[arg(long, value_name = "FORMAT", env = "TURNIP_LOG", help_heading = "Log")]
    log: Option<String>,
    /// What to log: error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL", env = "TURNIP_LOG_LEVEL", help_heading = "Log")]
    log_level: Option<String>,
}

/// What a node needs besides.
#[derive(Args, Clone, Default, Debug)]
pub struct NodeArgs {
    /// Name of this node, unlike all others' [default: the host's name]
    #[arg(long, value_name = "NAME", env = "TURNIP_NODE")]
    node: Option<String>,
    /// How long this node may hold addresses after a renewal, as in 3s [default: 3s]
    #[arg(long, value_name = "TIME", env = "TURNIP_LEASE", help_heading = "Lease")]
    lease: Option<String>,
    /// How often the lease is renewed [default: a sixth of it]
    #[arg(long, value_name = "TIME", env = "TURNIP_RENEW", help_heading = "Lease")]
    renew: Option<String>,
    /// Time kept for taking addresses away [default: a fifteenth of the lease]
    #[arg(long, value_name = "TIME", env = "TURNIP_GUARD", help_heading = "Lease")]
    guard: Option<String>,
    /// How far the rate of this host's clock may be from true time [default: 1%]
    #[arg(long, value_name = "PERCENT", env = "TURNIP_DRIFT", help_heading = "Lease")]
    drift: Option<String>,
    /// What silences addresses when this daemon cannot: nftables, lifetime, or auto [default: auto]
    #[arg(long, value_name = "WHICH", env = "TURNIP_FENCE")]
    fence: Option<String>,
    /// Where heartbeats of other nodes are received, or off [default: [::]:7746]
    #[arg(long, value_name = "ADDRESS:PORT", env = "TURNIP_PEERS_LISTEN", help_heading = "Peers")]
    peers_listen: Option<String>,
    /// Where other nodes send heartbeats to this one [default: the address of its etcd member, or
    /// the one that reaches etcd]
    #[arg(long, value_name = "ADDRESS", env = "TURNIP_PEERS_ADDRESS", help_heading = "Peers")]
    peers_address: Option<String>,
    /// How often addresses held here are announced again, as in 60s; 0 for never [default: 60s]
    #[arg(long, value_name = "TIME", env = "TURNIP_ANNOUNCE_EVERY")]
    announce_every: Option<String>,
    /// Where Prometheus finds this daemon, as in 127.0.0.1:9464 [default: nowhere]
    #[arg(long, value_name = "ADDRESS:PORT", env = "TURNIP_METRICS")]
    metrics: Option<String>,
    /// This node's share of VIPs with the policy spread, relative to others' [default: 100]
    #[arg(long, value_name = "NUMBER", env = "TURNIP_WEIGHT")]
    weight: Option<String>,
}

/// The keys of the file that flags and variables override: flag's id, table, key, variable.
const OVERRIDES: [(&str, Table, &str, &str); 22] = [
    ("cluster", Table::Top, "cluster", "TURNIP_CLUSTER"),
    ("endpoints", Table::Etcd, "endpoints", "TURNIP_ENDPOINTS"),
    ("local", Table::Etcd, "local", "TURNIP_LOCAL_ENDPOINT"),
    ("ca", Table::Etcd, "ca", "TURNIP_ETCD_CA"),
    ("cert", Table::Etcd, "cert", "TURNIP_ETCD_CERT"),
    ("key", Table::Etcd, "key", "TURNIP_ETCD_KEY"),
    ("server_name", Table::Etcd, "server_name", "TURNIP_ETCD_SERVER_NAME"),
    ("user", Table::Etcd, "user", "TURNIP_ETCD_USER"),
    ("password_file", Table::Etcd, "password_file", "TURNIP_ETCD_PASSWORD_FILE"),
    ("log", Table::Top, "log", "TURNIP_LOG"),
    ("log_level", Table::Top, "log_level", "TURNIP_LOG_LEVEL"),
    ("node", Table::Top, "node", "TURNIP_NODE"),
    ("lease", Table::Top, "lease", "TURNIP_LEASE"),
    ("renew", Table::Top, "renew", "TURNIP_RENEW"),
    ("guard", Table::Top, "guard", "TURNIP_GUARD"),
    ("drift", Table::Top, "drift", "TURNIP_DRIFT"),
    ("peers_listen", Table::Peers, "listen", "TURNIP_PEERS_LISTEN"),
    ("peers_address", Table::Peers, "address", "TURNIP_PEERS_ADDRESS"),
    ("fence", Table::Top, "fence", "TURNIP_FENCE"),
    ("announce_every", Table::Top, "announce_every", "TURNIP_ANNOUNCE_EVERY"),
    ("metrics", Table::Top, "metrics", "TURNIP_METRICS"),
    ("weight", Table::Top, "weight", "TURNIP_WEIGHT"),
];

/// What all of turnip's variables begin with.
const PREFIX: &str = "TURNIP_";

/// The variables that are no keys of the file, and what each says.
const ALONE: [(&str, &str); 6] = [
    ("TURNIP_CONFIG", "The file; also as `--config`."),
    (
        "TURNIP_IP",
        "With the next three: one VIP with the policy `leader`. Its address, as `10.0.0.50`.",
    ),
    ("TURNIP_NETMASK", "Its netmask, as `/32`."),
    ("TURNIP_DEV", "The interface that carries it, as `eth0`."),
    ("TURNIP_ID", "This host's name, and the address by which its etcd member talks to its peers."),
    (
        "TURNIP_ETCD_PASSWORD",
        "The password of the user of etcd, where `etcd.password_file` is not given.",
    ),
];

/// The same, for the documentation.
pub(super) fn variables_without_flags() -> impl Iterator<Item = (&'static str, &'static str)> {
    ALONE.into_iter()
}

/// The flag, without its dashes, and the variable for a key of the table whose keys begin so in errors.
pub(super) fn flag_and_variable_of(prefix: &str, key: &str) -> Option<(String, &'static str)> {
    let is_it = |table: Table| match table {
        Table::Top => prefix.is_empty(),
        Table::Etcd => prefix == "etcd.",
        Table::Peers => prefix == "peers.",
    };
    let found = OVERRIDES.iter().find(|(_, table, known, _)| is_it(*table) && *known == key);
    found.map(|(id, .., variable)| (id.replace('_', "-"), *variable))
}

fn known_variables() -> impl Iterator<Item = &'static str> {
    OVERRIDES.iter().map(|(.., variable)| *variable).chain(ALONE.map(|(name, _)| name))
}

/// Whether turnip has a variable of that name.
pub fn is_variable(name: &str) -> bool {
    known_variables().any(|known| known == name)
}

/// The variable behind a flag, which is given without its dashes.
pub fn variable_of(flag: &str) -> Option<&'static str> {
    let id = flag.replace('-', "_");
    let variable =
        OVERRIDES.iter().find(|(known, ..)| *known == id).map(|(.., variable)| *variable);
    variable.or((flag == "config").then_some("TURNIP_CONFIG"))
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Table {
    Top,
    Etcd,
    Peers,
}

/// Everything outside the file that has a say.
#[derive(Clone, Default, Debug)]
pub struct Sources {
    /// The file that was asked for; without it the default one is read where it exists.
    pub(super) file: Option<PathBuf>,
    overrides: Vec<(Table, &'static str, Given)>,
    /// Names that begin as turnip's variables do, and are none.
    unknown: Vec<String>,
    /// The original's four variables, and the password.
    pub(super) variables: Variables,
}

/// The variables that have no flag.
#[derive(Clone, Default, Debug)]
pub(super) struct Variables {
    pub(super) ip: Option<String>,
    pub(super) netmask: Option<String>,
    pub(super) dev: Option<String>,
    pub(super) id: Option<String>,
    pub(super) password: Option<Secret>,
}

impl Sources {
    /// What `matches`, of a subcommand with [`ReachArgs`] and perhaps [`NodeArgs`], and the
    /// variables that `environment` knows say. An empty variable says nothing.
    pub fn new(matches: &ArgMatches, environment: impl Fn(&str) -> Option<String>) -> Self {
        let environment = |name: &str| environment(name).filter(|value| !value.trim().is_empty());
        // A command without the flag knows no file.
        let file = matches.try_get_one::<PathBuf>("config").ok().map(|given| {
            let given = given.filter(|path| !path.as_os_str().is_empty()).cloned();
            given.or_else(|| environment("TURNIP_CONFIG").map(PathBuf::from))
        });
        let mut sources = Sources {
            file: file.flatten(),
            overrides: Vec::new(),
            unknown: Vec::new(),
            variables: Variables {
                ip: environment("TURNIP_IP"),
                netmask: environment("TURNIP_NETMASK"),
                dev: environment("TURNIP_DEV"),
                id: environment("TURNIP_ID"),
                password: environment("TURNIP_ETCD_PASSWORD").map(Secret::new),
            },
        };
        for (id, table, key, variable) in OVERRIDES {
            let text = match matches.try_get_one::<String>(id) {
                Ok(Some(text)) => text,
                Ok(None) => {
                    let set = environment(variable);
                    let set = set.map(|text| Given::text(Place::Variable(variable.into()), text));
                    sources.overrides.extend(set.map(|given| (table, key, given)));
                    continue;
                }
                Err(_) => continue,
            };
            let place = match matches.value_source(id) {
                Some(ValueSource::EnvVariable) if text.trim().is_empty() => continue,
                Some(ValueSource::EnvVariable) => Place::Variable(variable.into()),
                _ => Place::Flag(format!("--{}", id.replace('_', "-"))),
            };
            sources.overrides.push((table, key, Given::text(place, text.clone())));
        }
        sources
    }

    /// One file, and nothing else.
    pub fn of_file(file: PathBuf) -> Self {
        Sources { file: Some(file), ..Sources::default() }
    }

    /// What a daemon with these arguments and variables is given, whatever the variables of this process are.
    ///
    /// # Errors
    /// When it would not understand its arguments.
    pub fn given(
        arguments: &[String],
        variables: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        let command = clap::Command::new("turnip run").no_binary_name(true);
        let command = NodeArgs::augment_args(ReachArgs::augment_args(command));
        let command = command.mut_args(|arg| arg.env(None::<&'static str>));
        let matches = command.try_get_matches_from(arguments).map_err(|error| {
            let shown = redact::arguments(arguments);
            // The longest first: one may be a part of another.
            let mut pairs: Vec<_> =
                arguments.iter().zip(&shown).filter(|(is, as_)| is != as_).collect();
            pairs.sort_by_key(|(is, _)| std::cmp::Reverse(is.len()));
            let said = error.to_string();
            pairs.into_iter().fold(said, |said, (is, as_)| said.replace(is.as_str(), as_))
        })?;
        let environment = |name: &str| variables.get(name).cloned();
        Ok(Sources::new(&matches, environment).among(variables.keys().cloned()))
    }

    /// Whether nobody has said anything but in the file where it usually is.
    pub fn is_bare(&self) -> bool {
        let Variables { ip, netmask, dev, id, password } = &self.variables;
        let named = [ip, netmask, dev, id].into_iter().any(Option::is_some);
        self.file.is_none() && self.overrides.is_empty() && !named && password.is_none()
    }

    /// Looks through the names of all variables that there are: one that is misspelt would be ignored in
    /// silence.
    pub fn among(mut self, names: impl IntoIterator<Item = String>) -> Self {
        // A hook is told by variables of its own, and may call turnip.
        let is_known = |name: &str| name.starts_with("TURNIP_HOOK") || is_variable(name);
        let unknown = names.into_iter().filter(|name| name.starts_with(PREFIX) && !is_known(name));
        self.unknown = unknown.collect();
        self.unknown.sort();
        self
    }

    /// What is to be said of variables that are none of turnip's.
    pub(super) fn ignored(&self) -> Option<String> {
        let suffixes = || known_variables().filter_map(|known| known.strip_prefix(PREFIX));
        let described = |name: &String| {
            let near = name.strip_prefix(PREFIX).and_then(|suffix| {
                let suffix = suffix.to_lowercase();
                let known: Vec<String> = suffixes().map(str::to_lowercase).collect();
                nearest(&suffix, known.iter().map(String::as_str)).map(str::to_uppercase)
            });
            match near {
                Some(near) => format!("{name} (did you mean {PREFIX}{near}?)"),
                None => name.clone(),
            }
        };
        let names: Vec<String> = self.unknown.iter().map(described).collect();
        match names.as_slice() {
            [] => None,
            [one] => Some(format!("{one} is no variable of turnip, and ignored")),
            all => Some(format!("{} are no variables of turnip, and ignored", all.join(", "))),
        }
    }

    /// Puts what flags and variables say in the place of what the file says.
    pub(super) fn apply(&self, top: &mut Section, etcd: &mut Section, peers: &mut Section) {
        for (table, key, given) in &self.overrides {
            match table {
                Table::Top => top.override_with(key, given.clone()),
                Table::Etcd => etcd.override_with(key, given.clone()),
                Table::Peers => peers.override_with(key, given.clone()),
            }
        }
    }
}
