//! How a hook is called: its arguments and its environment.

use std::time::Duration;

use turnip_core::{HookRun, NodeName};

/// By this variable a process is known to be of a run of a hook.
pub(super) const MARKER: &str = "TURNIP_HOOK_ID";
/// Where programs are looked for that a hook starts by their names alone.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Invocation {
    /// The program and its arguments.
    pub(super) argv: Vec<String>,
    /// All of its environment: nothing of the daemon's own, which may hold a password.
    pub(super) environment: Vec<(&'static str, String)>,
    /// How long it may take.
    pub(super) timeout: Duration,
    /// What its log lines begin with.
    pub(super) name: String,
    pub(super) marker: String,
}

impl Invocation {
    pub(super) fn new(command: &[String], run: &HookRun, node: &NodeName, marker: String) -> Self {
        let environment = environment(run, node, &marker);
        let argv = command.iter().map(|one| filled_in(one, &environment)).collect();
        let name = format!("{} of {}", run.hook, run.vip);
        Invocation { argv, environment, timeout: run.timeout, name, marker }
    }
}

fn environment(run: &HookRun, node: &NodeName, marker: &str) -> Vec<(&'static str, String)> {
    let addresses: Vec<String> = run.assignments.iter().map(|a| a.address.to_string()).collect();
    let interface = run.assignments.first().map(|one| one.interface.to_string());
    vec![
        ("PATH", PATH.to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        ("TURNIP_HOOK", run.hook.to_string()),
        ("TURNIP_HOOK_VIP", run.vip.to_string()),
        ("TURNIP_HOOK_ADDRESSES", addresses.join(" ")),
        ("TURNIP_HOOK_INTERFACE", interface.unwrap_or_default()),
        ("TURNIP_HOOK_NODE", node.to_string()),
        ("TURNIP_HOOK_REASON", run.reason.to_owned()),
        ("TURNIP_HOOK_PEER", run.peer.clone().unwrap_or_default()),
        ("TURNIP_HOOK_TOKEN", run.token.to_string()),
        ("TURNIP_HOOK_DEADLINE_MS", run.timeout.as_millis().to_string()),
        (MARKER, marker.to_owned()),
    ]
}

/// An argument in which `{vip}`, `{hook}` and so on stand for what the variables say.
fn filled_in(argument: &str, environment: &[(&'static str, String)]) -> String {
    let mut filled = argument.to_owned();
    for (variable, value) in environment {
        let name = match variable.strip_prefix("TURNIP_HOOK") {
            Some("") => "hook".to_owned(),
            Some(rest) => rest.trim_start_matches('_').to_lowercase(),
            None => continue,
        };
        filled = filled.replace(&format!("{{{name}}}"), value);
    }
    filled
}

#[cfg(test)]
mod tests {
    use turnip_core::{Assignment, Hook, HookId, Instant, Revision};

    use super::*;

    fn run() -> HookRun {
        let assignment = |address: &str| Assignment {
            vip: "api".parse().unwrap(),
            interface: "eth0".into(),
            address: address.parse().unwrap(),
        };
        HookRun {
            id: HookId(7),
            hook: Hook::BeforeAssume,
            vip: "api".parse().unwrap(),
            assignments: ["10.0.0.50/32", "fd00::50/128"].map(assignment).into(),
            reason: "expired",
            peer: Some("b".into()),
            token: Revision(42),
            timeout: Duration::from_secs(5),
            deadline: Instant::ZERO,
        }
    }

    fn called(command: &[&str]) -> Invocation {
        let command: Vec<String> = command.iter().map(|one| (*one).to_owned()).collect();
        Invocation::new(&command, &run(), &"a".parse().unwrap(), "m-7".into())
    }

    #[test]
    fn a_hook_is_told_all_of_its_vip_and_nothing_of_the_daemon() {
        let called = called(&["/bin/x"]);
        let told: Vec<String> = called
            .environment
            .iter()
            .skip(2)
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let expected = [
            "TURNIP_HOOK=before_assume",
            "TURNIP_HOOK_VIP=api",
            "TURNIP_HOOK_ADDRESSES=10.0.0.50/32 fd00::50/128",
            "TURNIP_HOOK_INTERFACE=eth0",
            "TURNIP_HOOK_NODE=a",
            "TURNIP_HOOK_REASON=expired",
            "TURNIP_HOOK_PEER=b",
            "TURNIP_HOOK_TOKEN=42",
            "TURNIP_HOOK_DEADLINE_MS=5000",
            "TURNIP_HOOK_ID=m-7",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn arguments_are_filled_in_and_what_is_in_other_braces_stays() {
        let called =
            called(&["/bin/x", "db@{vip}.service", "{hook}", "{token}:{peer}", "{other}", "{}"]);
        let expected = ["/bin/x", "db@api.service", "before_assume", "42:b", "{other}", "{}"];
        assert_eq!(called.argv, expected);
    }
}
