//! A VIP's hooks: `before_assume = ["/path", "argument"]`, or a table with `run`, `timeout`, `on_failure`.

use std::collections::BTreeMap;
use std::time::Duration;

use turnip_core::{Hook, HookConfig, Hooks};

use super::problem::Collector;
use super::section::{Given, Section, Value};
use super::{argv, one_of, values};

/// How long a hook may take where nothing is said.
pub(super) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
pub(super) const TIMEOUT_MIN: Duration = Duration::from_millis(100);
pub(super) const TIMEOUT_MAX: Duration = Duration::from_secs(600);

/// The programs and arguments of a VIP's hooks.
pub type HookCommands = BTreeMap<Hook, Vec<String>>;

/// Reads the hooks of a VIP's table.
pub(super) fn read(section: &mut Section, problems: &mut Collector) -> (Hooks, HookCommands) {
    let (mut hooks, mut commands) = (Hooks::new(), HookCommands::new());
    for hook in Hook::ALL {
        let Some(given) = section.take(hook.as_str()) else { continue };
        let read = match &given.value {
            Value::Table(table) => of_table(hook, table.clone(), problems),
            _ => match command(&given) {
                Ok(command) => Some((default(), command)),
                Err(what) => {
                    section.refuse(hook.as_str(), &given, what, problems);
                    None
                }
            },
        };
        if let Some((config, command)) = read {
            hooks.insert(hook, config);
            commands.insert(hook, command);
        }
    }
    (hooks, commands)
}

fn default() -> HookConfig {
    HookConfig { timeout: TIMEOUT_DEFAULT, ignores_failure: false }
}

fn of_table(
    hook: Hook,
    table: Section,
    problems: &mut Collector,
) -> Option<(HookConfig, Vec<String>)> {
    let mut table = table.with_prefix(prefix(hook));
    let has_run = table.has("run");
    let run = table.read("run", problems, command);
    if !has_run {
        table.lacks(
            "run",
            "write the program and its arguments, as in [\"/usr/local/bin/notify\"]",
            problems,
        );
    }
    let timeout = table.read("timeout", problems, |given| {
        let timeout = given.as_text().and_then(values::duration)?;
        match (TIMEOUT_MIN..=TIMEOUT_MAX).contains(&timeout) {
            true => Ok(timeout),
            false => Err("out of range; a hook may take from \"100ms\" to \"10m\"".into()),
        }
    });
    let ignores_failure = table.read("on_failure", problems, |given| {
        if hook != Hook::BeforeAssume {
            return Err("of no use here: only before_assume can keep a host from taking the VIP; leave it out".into());
        }
        Ok(one_of(given, &["refuse", "ignore"])? == "ignore")
    });
    table.finish(problems);
    let config = HookConfig {
        timeout: timeout.unwrap_or(TIMEOUT_DEFAULT),
        ignores_failure: ignores_failure.unwrap_or(false),
    };
    Some((config, run?))
}

fn prefix(hook: Hook) -> &'static str {
    match hook {
        Hook::BeforeAssume => "vip.before_assume.",
        Hook::AfterAssume => "vip.after_assume.",
        Hook::BeforeRelease => "vip.before_release.",
        Hook::AfterRelease => "vip.after_release.",
        Hook::OnConflict => "vip.on_conflict.",
    }
}

/// A program by its whole path, and its arguments.
fn command(given: &Given) -> Result<Vec<String>, String> {
    const EXAMPLE: &str = "[\"/usr/local/bin/notify\", \"{vip}\"]";
    let command = argv::read(given, EXAMPLE)?;
    match command.first() {
        Some(program) if !program.starts_with('/') => Err(format!(
            "{program:?} is no whole path, and no PATH is searched for it; write it as in {EXAMPLE}"
        )),
        _ => Ok(command),
    }
}
