//! What `turnip check` finds out about the unit that runs the daemon: what that gets otherwise than whoever
//! checks, and what it may not read.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Group, User, getgrouplist};
use turnip::config::{Config, Reach};

use super::{Findings, Grade};
use crate::commands::unit::{RunsAs, Unit};

const SUBJECT: &str = "unit";
const CAPABILITIES: [&str; 2] = ["CAP_NET_ADMIN", "CAP_NET_RAW"];
const HOMES: [&str; 3] = ["/home", "/root", "/run/user"];
const TMPS: [&str; 2] = ["/tmp", "/var/tmp"];

/// Says what is to be known of the unit. `is_checked`: the check goes by what it gives the daemon.
pub fn check(unit: &Unit, is_checked: bool, findings: &mut Findings) {
    let file = unit.file.display();
    if unit.is_outdated {
        let what =
            format!("systemd has not read {file} since it changed: run `systemctl daemon-reload`");
        findings.warning(SUBJECT, what);
    }
    for path in &unit.missing {
        let what = format!(
            "{} does not start without {}, which is not there; write EnvironmentFile=-{} if it need not be",
            unit.name,
            path.display(),
            path.display()
        );
        findings.error(SUBJECT, what);
    }
    if unit.user != RunsAs::Root {
        let lacks = |name: &&str| !unit.capabilities.iter().any(|has| has == name);
        let lacking: Vec<&str> = CAPABILITIES.into_iter().filter(lacks).collect();
        if !lacking.is_empty() {
            let what = format!(
                "the daemon runs as {} without {}: add AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW",
                unit.user,
                lacking.join(" and ")
            );
            findings.error(SUBJECT, what);
        }
    }
    let own: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let mut differences = unit.differences(&own);
    if !is_checked && !unit.arguments.is_empty() {
        differences.push(format!("the daemon is started as turnip run {}", unit.arguments_shown()));
    }
    // By `--unit` this is what is wanted to be known; else it is what was not checked.
    let grade = if is_checked || differences.is_empty() { Grade::Ok } else { Grade::Warning };
    match (is_checked, differences.is_empty()) {
        (true, _) => {
            let what = format!("checked as {} runs it, as {} ({file})", unit.name, unit.user);
            findings.ok(SUBJECT, what);
        }
        (false, true) => {
            findings.ok(SUBJECT, format!("the daemon is given what this check is ({file})"));
        }
        (false, false) => findings.warning(
            SUBJECT,
            format!(
                "{} gives the daemon something else than this check: run `turnip check --unit`",
                unit.name
            ),
        ),
    }
    differences.into_iter().for_each(|what| findings.add(grade, SUBJECT, what));
}

/// Whether the daemon may read what the configuration names, and nobody else what is secret.
pub fn files(unit: Option<&Unit>, reach: &Reach, config: Option<&Config>, findings: &mut Findings) {
    for named in reach.named_files.iter().filter(|named| named.is_secret) {
        let Ok(stat) = std::fs::metadata(&named.path) else { continue };
        let groups = unit.map(|unit| gids(&unit.groups)).unwrap_or_default();
        let is_for_group = stat.gid() == 0 || groups.contains(&stat.gid());
        let by_others = if is_for_group { 0o004 } else { 0o044 };
        if stat.mode() & by_others != 0 {
            let (mode, right) = (stat.mode() & 0o777, if is_for_group { 640 } else { 600 });
            let what = format!(
                "{} = {:?} can be read by others than its owner (mode {mode:03o}): run chmod {right}, and change what is in it, if anybody else may have read it{}",
                named.key,
                named.path,
                match unit.is_some_and(|unit| unit.user != RunsAs::Root && groups.is_empty()) {
                    true => "; give the daemon a group that may, as the unit shows",
                    false => "",
                }
            );
            findings.warning("files", what);
        }
    }
    let Some(unit) = unit else { return };
    let file = config.and_then(|config| config.reach.file.clone()).or(reach.file.clone());
    let named = reach.named_files.iter().map(|named| (named.key, named.path.clone()));
    let all: Vec<(&str, PathBuf)> =
        file.map(|path| ("config", path)).into_iter().chain(named).collect();
    for (key, path) in all.iter().filter(|(_, path)| path.exists() && !unit.passes(path)) {
        if let Err(why) = may_read(unit, path) {
            let what = format!(
                "{key} = {path:?} is not there for the daemon, which runs as {}: {why}; {}",
                unit.user,
                match *key {
                    "config" => "chmod 644 it, for it holds no secret",
                    _ =>
                        "let a group read it, and give the daemon that by SupplementaryGroups=, as the unit shows",
                }
            );
            findings.error("files", what);
        }
    }
}

/// Whether the unit's user may read the file, by the rights of it and of the directories that it is in.
fn may_read(unit: &Unit, path: &Path) -> Result<(), String> {
    let is_in = |places: &[&str]| places.iter().any(|place| path.starts_with(place));
    if unit.hidden.home && is_in(&HOMES) {
        return Err("ProtectHome= hides home directories".into());
    }
    if unit.hidden.tmp && is_in(&TMPS) {
        return Err("PrivateTmp= gives it another /tmp".into());
    }
    let who = Who::of(&unit.user, &unit.groups)?;
    let path = path.canonicalize().map_err(|error| error.to_string())?;
    for place in path.ancestors().skip(1) {
        who.may(place, 0o1, "entered")?;
    }
    who.may(&path, 0o4, "read")
}

/// Somebody as the kernel judges him.
struct Who {
    uid: Option<u32>,
    gids: Vec<u32>,
    is_root: bool,
}

/// Those that there are of these groups.
fn gids(groups: &[String]) -> Vec<u32> {
    let gid = |name: &String| match name.parse::<u32>() {
        Ok(gid) => Some(gid),
        Err(_) => Some(Group::from_name(name).ok()??.gid.as_raw()),
    };
    groups.iter().filter_map(gid).collect()
}

impl Who {
    fn of(user: &RunsAs, groups: &[String]) -> Result<Self, String> {
        let nobody = Who { uid: None, gids: gids(groups), is_root: false };
        let name = match user {
            RunsAs::Root => return Ok(Who { is_root: true, ..nobody }),
            RunsAs::Dynamic(_) => return Ok(nobody),
            RunsAs::User(name) => name,
        };
        let found = match name.parse::<u32>() {
            Ok(uid) => User::from_uid(uid.into()),
            Err(_) => User::from_name(name),
        };
        let Ok(Some(user)) = found else { return Err(format!("there is no user {name}")) };
        let c_name = std::ffi::CString::new(user.name).map_err(|error| error.to_string())?;
        let groups = getgrouplist(&c_name, user.gid).unwrap_or_else(|_| vec![user.gid]);
        let gids = groups.into_iter().map(Gid::as_raw).chain(nobody.gids).collect();
        Ok(Who { uid: Some(user.uid.as_raw()), gids, is_root: user.uid.is_root() })
    }

    fn may(&self, path: &Path, right: u32, done: &str) -> Result<(), String> {
        let stat = std::fs::metadata(path).map_err(|error| error.to_string())?;
        let mode = stat.mode();
        let rights = if self.uid == Some(stat.uid()) {
            mode >> 6
        } else if self.gids.contains(&stat.gid()) {
            mode >> 3
        } else {
            mode
        };
        if self.is_root || rights & right != 0 {
            return Ok(());
        }
        Err(format!("{} cannot be {done} by it (mode {:03o})", path.display(), mode & 0o777))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_root_alone_can_read_is_not_there_for_a_dynamic_user() {
        let directory = tempfile::Builder::new()
            .tempdir_in("/var")
            .unwrap_or_else(|_| tempfile::tempdir().unwrap());
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open).unwrap();
        let file = directory.path().join("key.pem");
        std::fs::write(&file, "x").unwrap();
        let group = std::fs::metadata(&file).unwrap().gid().to_string();
        let who = |user: RunsAs, groups: &[String], mode| {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            Who::of(&user, groups).unwrap().may(&file, 0o4, "read")
        };
        let dynamic = || RunsAs::Dynamic("turnip".into());
        assert!(who(dynamic(), &[], 0o600).unwrap_err().contains("mode 600"));
        assert_eq!(who(dynamic(), &[], 0o644), Ok(()));
        assert!(who(dynamic(), &[], 0o640).is_err());
        assert_eq!(who(dynamic(), &[group], 0o640), Ok(()), "as the unit shows");
        assert_eq!(who(RunsAs::Root, &[], 0o600), Ok(()));
        assert!(Who::of(&RunsAs::User("no-such-user".into()), &[]).is_err());
    }
}
