//! What systemd says of a unit, where it runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::Settings;
use super::words::split;

/// Is there when systemd is what the host was booted with.
const RUNS: &str = "/run/systemd/system";
const PROPERTIES: &str = "LoadState,FragmentPath,NeedDaemonReload,Environment,EnvironmentFiles,ExecStart,User,DynamicUser,SupplementaryGroups,LoadCredential,AmbientCapabilities,ProtectHome,PrivateTmp";

/// Asks systemd; none when it does not run, does not answer, or has no such unit.
pub fn ask(unit: &str) -> Option<Settings> {
    // Who names other directories wants these.
    if !Path::new(RUNS).is_dir() || std::env::var_os("SYSTEMD_UNIT_PATH").is_some() {
        return None;
    }
    let arguments = ["show", "--property", PROPERTIES, "--", unit];
    let answer = Command::new("systemctl").args(arguments).output().ok()?;
    answer.status.success().then(|| parse(&String::from_utf8_lossy(&answer.stdout)))?
}

fn parse(text: &str) -> Option<Settings> {
    let mut settings = Settings::default();
    let mut is_loaded = false;
    let mut file = PathBuf::new();
    for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
        match key {
            "LoadState" => is_loaded = value == "loaded",
            "FragmentPath" => file = value.into(),
            "NeedDaemonReload" => settings.is_outdated = value == "yes",
            "Environment" => {
                settings.environment = split(value).into_iter().map(unplaced).collect()
            }
            "EnvironmentFiles" => settings.environment_files.extend(environment_file(value)),
            "ExecStart" => settings.command = arguments(value),
            "User" => value.clone_into(&mut settings.user),
            "DynamicUser" => settings.is_dynamic = value == "yes",
            "SupplementaryGroups" => settings.groups = split(value),
            "LoadCredential" => settings.credentials.extend(credentials(value)),
            "AmbientCapabilities" => {
                settings.ambient = split(value).iter().map(|name| name.to_uppercase()).collect();
            }
            "ProtectHome" => settings.hidden.home = ["yes", "tmpfs"].contains(&value),
            "PrivateTmp" => {
                settings.hidden.tmp = ["yes", "connected", "disconnected"].contains(&value);
            }
            _ => {}
        }
    }
    for (_, place) in &mut settings.environment {
        place.clone_from(&file);
    }
    settings.file = file;
    is_loaded.then_some(settings)
}

fn unplaced(assignment: String) -> (String, PathBuf) {
    (assignment, PathBuf::new())
}

/// `/etc/default/turnip (ignore_errors=yes)`
fn environment_file(value: &str) -> Option<(PathBuf, bool)> {
    let (path, ignored) = value.rsplit_once(" (ignore_errors=")?;
    Some((path.into(), ignored.starts_with("yes")))
}

/// `{ path=/usr/local/bin/turnip ; argv[]=/usr/local/bin/turnip run ; ignore_errors=no ; … }`
fn arguments(value: &str) -> Vec<String> {
    let argv = value.split_once("argv[]=").map_or("", |(_, rest)| rest);
    split(argv.split(" ; ").next().unwrap_or_default())
}

/// `etcd-password:/etc/turnip/etcd-password`, several with blanks between. Some versions show none.
fn credentials(value: &str) -> BTreeMap<String, PathBuf> {
    let words = split(value).into_iter();
    words
        .filter_map(|word| {
            let (id, path) = word.split_once(':')?;
            Some((id.to_owned(), path.into()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "\
LoadState=loaded
FragmentPath=/etc/systemd/system/turnip.service
NeedDaemonReload=yes
Environment=TURNIP_LEASE=5s \"TURNIP_NODE=host a\" TURNIP_ETCD_PASSWORD_FILE=/run/credentials/turnip.service/pw
EnvironmentFiles=/etc/default/turnip (ignore_errors=yes)
EnvironmentFiles=/etc/turnip/env (ignore_errors=no)
ExecStart={ path=/usr/local/bin/turnip ; argv[]=/usr/local/bin/turnip run --config /etc/t.toml ; ignore_errors=no ; start_time=[n/a] ; stop_time=[n/a] ; pid=0 ; code=(null) ; status=0/0 }
User=turnip
DynamicUser=yes
LoadCredential=pw:/etc/turnip/pw
AmbientCapabilities=cap_net_admin cap_net_raw
ProtectHome=yes
PrivateTmp=yes
";

    #[test]
    fn what_systemd_shows_is_understood() {
        let settings = parse(SHOWN).unwrap();
        assert_eq!(settings.command, ["/usr/local/bin/turnip", "run", "--config", "/etc/t.toml"]);
        assert_eq!(settings.environment[1].0, "TURNIP_NODE=host a");
        let files = [("/etc/default/turnip".into(), true), ("/etc/turnip/env".into(), false)];
        assert_eq!(settings.environment_files, files);
        assert_eq!(settings.credentials["pw"], PathBuf::from("/etc/turnip/pw"));
        assert_eq!(settings.ambient, ["CAP_NET_ADMIN", "CAP_NET_RAW"]);
        assert!(settings.is_dynamic && settings.is_outdated);
        assert!(settings.hidden.home && settings.hidden.tmp);
    }

    #[test]
    fn a_unit_that_systemd_does_not_know_is_none() {
        assert_eq!(parse("LoadState=not-found\nUser=\n"), None);
    }
}
