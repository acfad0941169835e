//! What systemd gives the daemon: its variables, arguments, credentials and user. systemd itself is asked
//! where it runs; elsewhere the unit's files are read as it reads them.

mod files;
mod show;
mod words;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use turnip::config::Sources;
use turnip::redact;

/// The unit of a usual installation.
pub const UNIT_DEFAULT: &str = "turnip.service";

/// A unit that runs turnip.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// The file that defines it.
    pub file: PathBuf,
    /// What `turnip` is started with, from `run` on.
    pub arguments: Vec<String>,
    /// The daemon's variables, each with where it is set.
    pub variables: BTreeMap<String, Variable>,
    /// Environment files that are not there, and have to be.
    pub missing: Vec<PathBuf>,
    /// The user that the daemon runs as.
    pub user: RunsAs,
    /// Groups that the daemon is in besides.
    pub groups: Vec<String>,
    /// Files that systemd reads as root and passes, by the name of the credential.
    pub credentials: BTreeMap<String, PathBuf>,
    /// Capabilities that the daemon has although it is not root.
    pub capabilities: Vec<String>,
    /// What it has in place of some directories.
    pub hidden: Hidden,
    /// systemd has not read what the files say now.
    pub is_outdated: bool,
}

/// A variable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Variable {
    /// Its value.
    pub value: String,
    /// The file that sets it.
    pub place: PathBuf,
}

/// A user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RunsAs {
    /// Root, who reads everything.
    Root,
    /// One that systemd makes for the unit: it owns no file that is there before.
    Dynamic(String),
    /// One of the host.
    User(String),
}

impl std::fmt::Display for RunsAs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            RunsAs::Root => f.write_str("root"),
            RunsAs::Dynamic(name) => write!(f, "{name}, a DynamicUser"),
            RunsAs::User(name) => f.write_str(name),
        }
    }
}

/// Directories of the host that the daemon does not see.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Hidden {
    /// `/home`, `/root` and `/run/user`.
    pub home: bool,
    /// `/tmp` and `/var/tmp`.
    pub tmp: bool,
}

/// What a unit says, before its environment files are read.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct Settings {
    file: PathBuf,
    environment: Vec<(String, PathBuf)>,
    /// Each with whether it may be missing.
    environment_files: Vec<(PathBuf, bool)>,
    /// What is started, with its arguments.
    command: Vec<String>,
    user: String,
    is_dynamic: bool,
    groups: Vec<String>,
    credentials: BTreeMap<String, PathBuf>,
    ambient: Vec<String>,
    hidden: Hidden,
    is_outdated: bool,
}

impl Unit {
    /// Looks for the unit; there may be none.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn find(name: &str) -> Result<Option<Self>, String> {
        let name = match name.contains('.') {
            true => name.to_owned(),
            false => format!("{name}.service"),
        };
        let directories = files::directories(std::env::var("SYSTEMD_UNIT_PATH").ok().as_deref());
        let from_files = files::read(&name, &directories)?;
        let settings = match show::ask(&name) {
            Some(told) => Some(told.with_what_files_tell(from_files)),
            None => from_files,
        };
        Ok(settings.map(|settings| settings.unit(name)))
    }

    /// The configuration's sources, as the daemon has them. A credential is read where systemd takes it from.
    ///
    /// # Errors
    /// When the daemon does not understand its arguments.
    pub fn sources(&self) -> Result<Sources, String> {
        let source = |text: &str| self.source_of(text);
        let arguments: Vec<String> = self.arguments.iter().map(|text| source(text)).collect();
        let variables = self.variables.iter();
        let variables = variables.map(|(name, set)| (name.clone(), source(&set.value))).collect();
        Sources::given(&arguments, &variables)
            .map_err(|why| format!("{}: turnip run {}: {why}", self.name, self.arguments_shown()))
    }

    /// The arguments, without what may be secret.
    pub fn arguments_shown(&self) -> String {
        redact::arguments(&self.arguments).join(" ")
    }

    /// A path to a credential as the path to where it comes from.
    fn source_of(&self, text: &str) -> String {
        let directory = credentials_directory(&self.name);
        let mut text = text.to_owned();
        for (id, path) in &self.credentials {
            text = text.replace(&format!("{directory}/{id}"), &path.display().to_string());
        }
        text
    }

    /// Whether systemd passes the file as a credential.
    pub fn passes(&self, file: &Path) -> bool {
        self.credentials.values().any(|path| path == file)
    }

    /// What somebody with these variables sees otherwise than the daemon does.
    pub fn differences(&self, own: &BTreeMap<String, String>) -> Vec<String> {
        let shown = |name: &str, value: &str| match redact::variable(name, value) {
            hidden if hidden == redact::HIDDEN => format!("{name} {hidden}"),
            shown => format!("{name} = {shown}"),
        };
        let mut differences = Vec::new();
        for (name, set) in self.variables.iter().filter(|(name, _)| name.starts_with("TURNIP_")) {
            let (place, daemons) = (set.place.display(), shown(name, &set.value));
            match own.get(name) {
                Some(value) if *value == set.value => {}
                Some(value) => differences.push(format!(
                    "the daemon gets {daemons} from {place}, and here it is {}",
                    redact::variable(name, value)
                )),
                None => differences.push(format!(
                    "the daemon gets {daemons} from {place}, and here it is not set"
                )),
            }
        }
        for (name, value) in own.iter().filter(|(name, _)| name.starts_with("TURNIP_")) {
            if !self.variables.contains_key(name) {
                differences.push(format!(
                    "{} is set here, and the daemon does not get it",
                    shown(name, value)
                ));
            }
        }
        differences
    }
}

/// Where the daemon finds its credentials.
fn credentials_directory(unit: &str) -> String {
    format!("/run/credentials/{unit}")
}

impl Settings {
    /// systemd does not show all credentials in a form to read, nor which file sets a variable.
    fn with_what_files_tell(mut self, files: Option<Settings>) -> Self {
        let Some(files) = files else { return self };
        for (assignment, place) in &mut self.environment {
            if let Some((_, told)) = files.environment.iter().rfind(|(told, _)| told == assignment)
            {
                place.clone_from(told);
            }
        }
        if self.credentials.is_empty() {
            self.credentials = files.credentials;
        }
        self
    }

    fn unit(self, name: String) -> Unit {
        let mut variables = BTreeMap::new();
        let mut missing = Vec::new();
        for (assignment, place) in &self.environment {
            if let Some((name, value)) = assignment.split_once('=') {
                let (value, place) = (value.to_owned(), place.clone());
                variables.insert(name.to_owned(), Variable { value, place });
            }
        }
        // They beat what the unit says itself, the last one first.
        for (path, may_be_missing) in &self.environment_files {
            match std::fs::read_to_string(path) {
                Ok(text) => variables.extend(
                    words::environment_file(&text)
                        .into_iter()
                        .map(|(name, value)| (name, Variable { value, place: path.clone() })),
                ),
                Err(_) if *may_be_missing => {}
                Err(_) => missing.push(path.clone()),
            }
        }
        let user = match (self.is_dynamic, self.user.as_str()) {
            (true, "") => RunsAs::Dynamic(name.trim_end_matches(".service").to_owned()),
            (true, user) => RunsAs::Dynamic(user.to_owned()),
            (false, "" | "root" | "0") => RunsAs::Root,
            (false, user) => RunsAs::User(user.to_owned()),
        };
        let arguments = self.command.into_iter().skip_while(|word| word != "run").skip(1).collect();
        Unit {
            name,
            file: self.file,
            arguments,
            variables,
            missing,
            user,
            groups: self.groups,
            credentials: self.credentials,
            capabilities: self.ambient,
            hidden: self.hidden,
            is_outdated: self.is_outdated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(text: &str) -> (Unit, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("turnip.service"), text).unwrap();
        let settings = files::read("turnip.service", &[directory.path().into()]).unwrap().unwrap();
        (settings.unit("turnip.service".into()), directory)
    }

    #[test]
    fn a_credential_is_read_where_systemd_takes_it_from() {
        let (unit, _directory) = unit(
            "[Service]\nExecStart=/usr/local/bin/turnip run\nLoadCredential=etcd-password:/etc/turnip/pw\nEnvironment=TURNIP_ETCD_PASSWORD_FILE=%d/etcd-password\n",
        );
        let password = &unit.variables["TURNIP_ETCD_PASSWORD_FILE"].value;
        assert_eq!(password, "/run/credentials/turnip.service/etcd-password");
        assert_eq!(unit.source_of(password), "/etc/turnip/pw");
        assert!(unit.passes(Path::new("/etc/turnip/pw")));
    }

    #[test]
    fn a_variable_that_systemd_tells_is_placed_in_the_file_that_sets_it() {
        let settings = |environment: &[(&str, &str)]| Settings {
            environment: environment.iter().map(|(set, at)| ((*set).into(), at.into())).collect(),
            ..Settings::default()
        };
        let told = settings(&[("TURNIP_LEASE=5s", "turnip.service"), ("A=1", "turnip.service")]);
        let files = settings(&[("A=2", "a.conf"), ("TURNIP_LEASE=5s", "lease.conf")]);
        let places = told.with_what_files_tell(Some(files)).environment.into_iter();
        let places: Vec<PathBuf> = places.map(|(_, place)| place).collect();
        assert_eq!(places, [Path::new("lease.conf"), Path::new("turnip.service")]);
    }

    #[test]
    fn what_the_daemon_gets_otherwise_is_named_and_no_password_is() {
        let (unit, _directory) = unit(
            "[Service]\nExecStart=turnip run\nEnvironment=TURNIP_LEASE=5s \"TURNIP_ETCD_PASSWORD=hunter2\" TURNIP_DEV=lo HOME=/ TURNIP_ENDPOINTS=http://root:hunter2@b:1 TURNIP_ETCD_PASWORD=hunter2\n",
        );
        let own = [("TURNIP_LEASE", "3s"), ("TURNIP_DEV", "lo"), ("TURNIP_NODE", "a")];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let text = unit.differences(&own).join("\n");
        for words in [
            "the daemon gets TURNIP_LEASE = \"5s\" from ",
            "and here it is \"3s\"",
            "TURNIP_ETCD_PASSWORD (hidden)",
            "TURNIP_ENDPOINTS = \"http://(hidden)@b:1\"",
            "TURNIP_ETCD_PASWORD (hidden)",
            "TURNIP_NODE = \"a\" is set here, and the daemon does not get it",
        ] {
            assert!(text.contains(words), "{text}\nlacks {words}");
        }
        assert!(
            !text.contains("hunter2") && !text.contains("HOME") && !text.contains("DEV"),
            "{text}"
        );
    }

    #[test]
    fn arguments_that_the_daemon_would_not_understand_are_named_and_no_password_is() {
        let (unit, _directory) = unit(
            "[Service]\nExecStart=turnip run --lease 5s --etcd-password hunter2 --password=hunter2\n",
        );
        let why = unit.sources().unwrap_err();
        assert!(why.contains("--etcd-password") && !why.contains("hunter2"), "{why}");
    }

    #[test]
    fn the_unit_that_is_shipped_is_understood() {
        let (unit, _directory) = unit(include_str!("../../dist/turnip.service"));
        assert_eq!(unit.user, RunsAs::Dynamic("turnip".into()));
        assert!(unit.hidden.home && unit.hidden.tmp);
        assert!(unit.capabilities.contains(&"CAP_NET_ADMIN".to_owned()), "{unit:?}");
        assert!(unit.arguments.is_empty() && unit.missing.is_empty(), "{unit:?}");
    }
}
