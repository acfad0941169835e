//! What keeps the floating address where Patroni's leader is.

use clap::ValueEnum;
use turnip_netns_tests::daemon::{Daemon, Policy, TurnipSettings};
use turnip_netns_tests::etcd::EtcdSettings;
use turnip_netns_tests::plan::{EtcdPlan, Plan, vip};

use crate::fault::Fault;
use crate::patroni::{EtcdApi, LEADER_KEY};

/// What keeps the floating address where Patroni's leader is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Mode {
    /// turnip with `policy = "follow"`.
    Follow,
    /// The same with `absent = "last"`, in what that is for.
    FollowLast,
    /// turnip with a check of Patroni's REST API.
    Rest,
    /// vip-manager, Debian's, as it comes.
    VipManager,
}

impl Mode {
    /// Its heading.
    pub fn title(self) -> &'static str {
        match self {
            Mode::Follow => "turnip, `policy = \"follow\"`",
            Mode::FollowLast => "turnip, `policy = \"follow\"` with `absent = \"last\"`",
            Mode::Rest => "turnip, a check of the REST API",
            Mode::VipManager => "vip-manager of Debian 12",
        }
    }

    /// Whether it is turnip, which promises that never two hosts have the address.
    pub fn is_turnip(self) -> bool {
        self != Mode::VipManager
    }

    /// What it is tried with, where nobody has asked for something else.
    pub fn faults(self) -> Vec<Fault> {
        match self {
            Mode::FollowLast => {
                vec![Fault::PowerOff, Fault::CutFromEtcd, Fault::EtcdAway, Fault::EtcdAwayFailsafe]
            }
            _ => Fault::value_variants().to_vec(),
        }
    }

    /// How it, and Patroni beside it, speak with etcd: this vip-manager knows the older interface only.
    pub fn etcd_api(self) -> EtcdApi {
        match self {
            Mode::Follow | Mode::FollowLast | Mode::Rest => EtcdApi::V3,
            Mode::VipManager => EtcdApi::V2,
        }
    }

    /// Three hosts with etcd and the keeper on each, as they come.
    pub fn plan(self) -> Plan {
        let daemon = match self {
            Mode::Follow => following("key = \"/service/batman/leader\""),
            Mode::FollowLast => following("key = \"/service/batman/leader\", absent = \"last\""),
            Mode::Rest => Daemon::Turnip(TurnipSettings {
                vip_lines: REST_CHECK.lines().map(str::to_owned).collect(),
                own_member_first: true,
                ..TurnipSettings::default()
            }),
            Mode::VipManager => Daemon::VipManager { key: LEADER_KEY },
        };
        let arguments = match self.etcd_api() {
            EtcdApi::V3 => Vec::new(),
            EtcdApi::V2 => vec!["--enable-v2".into()],
        };
        Plan {
            daemon,
            etcd: EtcdPlan::OnHosts(EtcdSettings { arguments, ..EtcdSettings::default() }),
            vips: vec![vip("postgres", &["10.77.0.100/24"])],
            ..Plan::default()
        }
    }
}

fn following(follow: &'static str) -> Daemon {
    Daemon::Turnip(TurnipSettings {
        policy: Policy::Follow(follow),
        own_member_first: true,
        ..TurnipSettings::default()
    })
}

/// As docs/src/follow.md has it.
const REST_CHECK: &str = r#"checks = ["primary"]
last_resort = "release"

[[check]]
name = "primary"
http = "http://127.0.0.1:8008/primary"
interval = "500ms"
timeout = "500ms"
rise = 1
fall = 2
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_and_the_key_are_those_of_the_documentation() {
        let page = include_str!("../../../../docs/src/follow.md");
        let code = |line: &'static str| line.split('#').next().unwrap_or_default().trim();
        let lines: Vec<&str> = page.lines().map(code).collect();
        for line in REST_CHECK.lines().chain([r#"policy = "follow""#]) {
            assert!(lines.contains(&line), "{line} is not in docs/src/follow.md");
        }
        let follow = format!(r#"follow = {{ key = "{LEADER_KEY}", value = "pg1" }}"#);
        assert!(lines.contains(&&*follow), "{follow} is not in docs/src/follow.md");
    }
}
