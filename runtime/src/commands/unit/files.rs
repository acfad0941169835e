//! A unit's files: where they are, and what they say.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::words::split;
use super::{Settings, credentials_directory};

/// Where units are, the first one that has a file wins.
const DIRECTORIES: [&str; 5] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// The directories that `SYSTEMD_UNIT_PATH` names, else the usual ones.
pub fn directories(named: Option<&str>) -> Vec<PathBuf> {
    match named {
        Some(named) if !named.is_empty() => named.split(':').map(PathBuf::from).collect(),
        _ => DIRECTORIES.iter().map(PathBuf::from).collect(),
    }
}

/// Reads a unit, with what is dropped in beside it; none when there is none.
///
/// # Errors
/// When a file cannot be read.
pub fn read(name: &str, directories: &[PathBuf]) -> Result<Option<Settings>, String> {
    let mut found = None;
    for directory in directories {
        let path = directory.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                found = Some((path, text));
                break;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{}: {error}", path.display())),
        }
    }
    let Some((file, text)) = found else { return Ok(None) };
    let mut settings = Settings { file: file.clone(), ..Settings::default() };
    settings.learn(name, &file, &text);
    for path in dropped_in(name, directories) {
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
        settings.learn(name, &path, &text);
    }
    Ok(Some(settings))
}

/// In the order of their names; of two with one name the directory that comes first has it.
fn dropped_in(unit: &str, directories: &[PathBuf]) -> Vec<PathBuf> {
    let mut by_name = BTreeMap::new();
    for directory in directories {
        let entries = std::fs::read_dir(directory.join(format!("{unit}.d")));
        for path in entries.into_iter().flatten().flatten().map(|entry| entry.path()) {
            if path.extension().is_some_and(|ending| ending == "conf") {
                by_name.entry(path.file_name().map(ToOwned::to_owned)).or_insert(path);
            }
        }
    }
    by_name.into_values().collect()
}

impl Settings {
    fn learn(&mut self, unit: &str, file: &Path, text: &str) {
        let text = text.replace("\\\n", " ");
        let mut is_service = false;
        for line in text.lines().map(str::trim) {
            if line.starts_with(['#', ';']) {
                continue;
            }
            if line.starts_with('[') {
                is_service = line == "[Service]";
            } else if let Some((key, value)) = line.split_once('=').filter(|_| is_service) {
                self.set(file, key.trim(), &specified(unit, value.trim()));
            }
        }
    }

    /// An empty value takes back what was said before, where several add up.
    fn set(&mut self, file: &Path, key: &str, value: &str) {
        let is_yes = |value: &str| ["yes", "true", "on", "1"].contains(&value);
        match key {
            "Environment" if value.is_empty() => self.environment.clear(),
            "Environment" => {
                self.environment.extend(split(value).into_iter().map(|word| (word, file.into())));
            }
            "EnvironmentFile" if value.is_empty() => self.environment_files.clear(),
            "EnvironmentFile" => {
                let path = value.strip_prefix('-');
                self.environment_files.push((path.unwrap_or(value).into(), path.is_some()));
            }
            "ExecStart" if value.is_empty() => self.command.clear(),
            "ExecStart" => {
                self.command = split(value.trim_start_matches(['-', '@', ':', '+', '!']))
            }
            "User" => value.clone_into(&mut self.user),
            "DynamicUser" => self.is_dynamic = is_yes(value),
            "SupplementaryGroups" if value.is_empty() => self.groups.clear(),
            "SupplementaryGroups" => self.groups.extend(split(value)),
            "LoadCredential" if value.is_empty() => self.credentials.clear(),
            "LoadCredential" => {
                if let Some((id, path)) = value.split_once(':') {
                    self.credentials.insert(id.to_owned(), path.into());
                }
            }
            "AmbientCapabilities" if value.is_empty() => self.ambient.clear(),
            "AmbientCapabilities" => self.ambient.extend(split(value)),
            "ProtectHome" => self.hidden.home = value != "read-only" && !is_no(value),
            "PrivateTmp" => self.hidden.tmp = !is_no(value),
            _ => {}
        }
    }
}

fn is_no(value: &str) -> bool {
    ["no", "false", "off", "0", ""].contains(&value)
}

/// What stands for something else in a unit: of these, what a path may be made of.
fn specified(unit: &str, value: &str) -> String {
    let mut text = String::new();
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            text.push(c);
            continue;
        }
        match chars.next() {
            Some('d') => text += &credentials_directory(unit),
            Some('n') => text += unit,
            Some('N' | 'p') => text += unit.trim_end_matches(".service"),
            Some('t') => text += "/run",
            Some('S') => text += "/var/lib",
            Some('E') => text += "/etc",
            Some('%') => text.push('%'),
            other => text.extend(['%'].into_iter().chain(other)),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_in_adds_to_the_unit_and_takes_back_by_an_empty_value() {
        let directory = tempfile::tempdir().unwrap();
        let (etc, lib) = (directory.path().join("etc"), directory.path().join("lib"));
        for place in [&etc, &lib] {
            std::fs::create_dir_all(place.join("turnip.service.d")).unwrap();
        }
        let unit = "[Unit]\nUser=nobody\n[Service]\nExecStart=/usr/bin/turnip run\nEnvironmentFile=-/etc/default/turnip\nEnvironment=A=1 B=2\nUser=turnip\n";
        std::fs::write(lib.join("turnip.service"), unit).unwrap();
        let dropped = |place: &PathBuf, name: &str, text: &str| {
            std::fs::write(place.join("turnip.service.d").join(name), text).unwrap();
        };
        dropped(&lib, "10.conf", "[Service]\nUser=masked\n");
        dropped(&etc, "10.conf", "[Service]\nEnvironment=\nEnvironment=\"C=three words\"\n");
        dropped(
            &etc,
            "20.conf",
            "[Service]\nExecStart=\nExecStart=/opt/turnip run \\\n  --config /etc/t.toml\n",
        );
        let read = read("turnip.service", &[etc.clone(), lib]).unwrap().unwrap();
        let environment: Vec<&str> = read.environment.iter().map(|(text, _)| &**text).collect();
        assert_eq!(environment, ["C=three words"]);
        assert_eq!(read.command, ["/opt/turnip", "run", "--config", "/etc/t.toml"]);
        assert_eq!(read.user, "turnip");
        assert_eq!(read.environment_files, [("/etc/default/turnip".into(), true)]);
    }

    #[test]
    fn a_unit_that_is_nowhere_is_none() {
        assert_eq!(read("turnip.service", &["/nowhere".into()]), Ok(None));
    }
}
