//! Holds `runtime/STATUS.md` against what `turnip status --json` prints.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use turnip::etcd::certificates::{CertificateEnd, Whose};
use turnip::peers::Counts;
use turnip_core::records::{CheckRecord, SharedPolicy};
use turnip_core::{CheckState, HostId, NodeName, Revision};

use super::local::{Claim, Heartbeats, Local, Way};
use super::overview::{Node, Overview, Vip};
use super::status::{Answer, SCHEMA};

const PAGE: &str = include_str!("../../STATUS.md");
/// Objects whose keys are names.
const BY_NAME: [&str; 4] = ["vips", "nodes", "nodes.*.checks", "local.heartbeats.from"];
/// Objects that the page describes as a whole.
const WHOLE: [&str; 6] = [
    "nodes.*.blocked",
    "nodes.*.notices",
    "unreadable",
    "certificates[].whose",
    "local.heartbeats.datagrams",
    "local.certificates[].whose",
];

/// Everything that there can be, once. Every field is named: whoever adds one adds it to the page.
fn overview() -> Overview {
    let name = |name: &str| -> NodeName { name.parse().unwrap() };
    let vip = Vip {
        addresses: vec!["10.0.0.50/32".parse().unwrap()],
        policy: Some(SharedPolicy::Leader),
        follows: Some("/service/batman/leader".into()),
        owner: Some(name("h1")),
        named: None,
        since_unix_ms: Some(1_764_200_000_000),
        token: Some(Revision(17)),
        preferred: Some(name("h1")),
        pinned: Some(name("h2")),
        pin_ignored: None,
        pin: None,
        order: Vec::new(),
        unfit: BTreeMap::new(),
        notes: vec!["the pin to h2 is ignored: it is drained".to_owned()],
    };
    let check = CheckRecord {
        state: CheckState::Down,
        since_unix_ms: 1_764_200_000_000,
        reason: "127.0.0.1:8080: Connection refused (os error 111)".to_owned(),
    };
    let node = Node {
        session: Some(Revision(5)),
        lease_ms: Some(3_000),
        renewed_ago_ms: Some(310),
        silent_for_ms: None,
        silent_beyond_lease: false,
        session_unreadable: false,
        healthy: true,
        drained: false,
        owns: vec!["kube-api".parse().unwrap()],
        blocked: BTreeMap::new(),
        notices: BTreeMap::new(),
        checks: [("api".parse().unwrap(), check)].into(),
        weight: Some(100),
        member: Some("8e9e05c52164694d".to_owned()),
        raft_leader: Some(true),
        raft_term: Some(4),
        repairs: 0,
        heartbeats: Some("10.1.0.11:7746".parse().unwrap()),
        witnesses: BTreeSet::from([name("h2")]),
        version: Some("0.1.0".to_owned()),
    };
    Overview {
        revision: Revision(123),
        vips: [("kube-api".parse().unwrap(), vip)].into(),
        nodes: [(name("h1"), node)].into(),
        unreadable: [("/turnip/main/x".to_owned(), "not a key of turnip".to_owned())].into(),
        certificates: vec![certificate()],
    }
}

fn certificate() -> CertificateEnd {
    let whose = Whose::Client("/etc/turnip/client.crt".into());
    let subject = "turnip".to_owned();
    CertificateEnd { whose, subject, ends_unix: 1_795_736_000 }
}

fn local() -> Local {
    let claim = Claim {
        vip: "kube-api".parse().unwrap(),
        address: "10.0.0.50/32".parse().unwrap(),
        mac: "02:00:00:00:00:07".to_owned(),
        heard_on: "eth0".to_owned(),
        packets: 3,
        first_ago_ms: 61_000,
        last_ago_ms: 900,
    };
    let way = Way { heard_ago_ms: Some(120), lost: false };
    Local {
        cluster: "main".parse().unwrap(),
        node: "h1".parse().unwrap(),
        host: Some(HostId("f3a1/0c5e/4026531840".into())),
        lease_ms: 3_000,
        holds: BTreeSet::from(["kube-api".parse().unwrap()]),
        etcd_away_ms: None,
        etcd_says: None,
        by_consent: false,
        heartbeats: Some(Heartbeats {
            from: [("h2".parse().unwrap(), way)].into(),
            datagrams: Counts::default(),
        }),
        claims: vec![claim],
        claims_received: 3,
        etcd_concerns: vec!["http://10.1.0.11:2379: nobody compacts its history".to_owned()],
        certificates: vec![certificate()],
    }
}

fn example() -> Value {
    let (overview, local) = (overview(), local());
    let (overview, local) = (Some(&overview), Some(&local));
    let answer = Answer { schema: SCHEMA, cluster: "main", overview, local };
    serde_json::to_value(&answer).unwrap()
}

/// The names of all fields, as the page has them.
fn fields(value: &Value, path: &str, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let key = if BY_NAME.contains(&path) { "*" } else { key.as_str() };
                let field = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                if !BY_NAME.contains(&field.as_str()) && key != "*" {
                    all.insert(field.clone());
                }
                if !WHOLE.contains(&field.as_str()) {
                    fields(value, &field, all);
                }
            }
        }
        Value::Array(array) if array.iter().any(Value::is_object) => {
            all.remove(path);
            array.iter().for_each(|value| fields(value, &format!("{path}[]"), all));
        }
        _ => {}
    }
}

#[test]
fn the_page_names_every_field_and_no_other() {
    let mut printed = BTreeSet::new();
    fields(&example(), "", &mut printed);
    let rows = PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let named: BTreeSet<String> = rows.map(|(field, _)| field.to_owned()).collect();
    let of = |a: &BTreeSet<String>, b: &BTreeSet<String>| {
        a.difference(b).cloned().collect::<Vec<_>>().join(", ")
    };
    assert_eq!(of(&printed, &named), "", "not on the page");
    assert_eq!(of(&named, &printed), "", "on the page, and not printed");
    assert!(PAGE.contains(&format!("form, now {SCHEMA}.")), "the version");
}

#[test]
fn the_example_on_the_page_is_what_is_printed() {
    let shown = PAGE.split("```json\n").nth(1).and_then(|rest| rest.split("```").next());
    let printed = serde_json::to_string_pretty(&example()).unwrap();
    let shown: Option<Value> = shown.and_then(|shown| serde_json::from_str(shown).ok());
    assert!(shown.as_ref() == Some(&example()), "put this into runtime/STATUS.md:\n{printed}");
}
