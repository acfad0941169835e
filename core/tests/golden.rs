//! Records as each version of turnip that was given out wrote them: a newer daemon reads all of them, for
//! it finds them after an upgrade (rule 14.6), and what today's writes is the newest of them, byte by byte.
//! Who changes what is written adds an entry, and changes none.

#![allow(missing_docs, reason = "the tests' names say it")]

use turnip_core::records::{
    DrainRecord, NodeRecord, PinRecord, Record, SessionRecord, VipRecord, decode, encode,
};
use turnip_core::{Absent, Follow, HeartbeatKeys, HistoryRecord, Policy, VipAddress, VipConfig};

/// What a version wrote.
struct Golden {
    version: &'static str,
    kind: &'static str,
    value: &'static str,
    /// Whether today's writes it so.
    is_todays: bool,
}

const fn golden(
    version: &'static str,
    kind: &'static str,
    is_todays: bool,
    value: &'static str,
) -> Golden {
    Golden { version, kind, value, is_todays }
}

/// Before hosts heard each other (commit 738595cf21b1).
const FIRST: &str = "before heartbeats";
/// Hosts hear each other, and `history/` is told.
const HEARING: &str = "with heartbeats";
/// VIPs are on several interfaces, have checks and follow keys.
const SERVICES: &str = "with what VIPs stand for";

const ALL: &[Golden] = &[
    golden(
        FIRST,
        "session",
        true,
        r#"{"v":1,"lease_ms":3000,"host":"4f2a/8d1c/4026531840","nonce":"00000000deadbeef-17"}"#,
    ),
    golden(
        FIRST,
        "node",
        true,
        r#"{"v":1,"vips":{"api":{"digest":"0123456789abcdef","addresses":["10.0.0.50/32"],"policy":"leader"},"gw":{"digest":"fedcba9876543210","addresses":["10.0.100.1/24","fd00:100::1/64"],"policy":"priority-no-preempt","priority":100,"defined_at":12,"blocked":"interface br100 is down","yields":true,"failed_at":9}},"weight":100,"drained":false,"member":{"id":"8e9e05c52164694d","leader":true,"term":4},"repairs":2,"version":"0.1.0"}"#,
    ),
    golden(FIRST, "vip", true, r#"{"v":1,"node":"a","session":7,"since_unix_ms":1700000000000}"#),
    golden(FIRST, "drain", true, r#"{"v":1}"#),
    golden(FIRST, "pin", true, r#"{"v":1,"node":"a"}"#),
    golden(
        HEARING,
        "session",
        true,
        r#"{"v":2,"lease_ms":3000,"host":"4f2a/8d1c/4026531840","nonce":"00000000deadbeef-17","witnesses":["b","c"]}"#,
    ),
    golden(
        HEARING,
        "node",
        true,
        r#"{"v":1,"vips":{"gw":{"digest":"fedcba9876543210","addresses":["fe80::1/64"],"interface":"br100","policy":"spread","notice":"10.0.0.9/24 on eth1 is not turnip's doing"}},"weight":100,"drained":true,"repairs":0,"heartbeats":"10.1.0.11:7746","version":"0.1.0"}"#,
    ),
    golden(HEARING, "keys", true, r#"{"v":1,"current":"00ff"}"#),
    golden(HEARING, "keys", true, r#"{"v":1,"current":"00ff","previous":"11ee"}"#),
    golden(
        HEARING,
        "history",
        true,
        r#"{"v":1,"at_unix_ms":1700000000000,"transitions":[{"vips":["api","gw"],"from":"a","to":"b","why":"blocked","detail":"interface br100 is down","after_ms":4},{"vips":[],"from":"c","why":"silent","after_ms":3030}]}"#,
    ),
    golden(
        SERVICES,
        "node",
        true,
        r#"{"v":1,"vips":{"db":{"digest":"0123456789abcdef","addresses":["10.0.0.60/32"],"policy":"priority-no-preempt","follows":"/service/batman/leader","blocked":"the key /service/batman/leader names pg2, and this host is pg1 there","yields":true},"gw":{"digest":"fedcba9876543210","addresses":["fe80::1/64"],"links":{"br100":["fe80::1"],"br200":["fe80::1"]},"policy":"spread","weight":80,"defined_at":12,"blocked":"check uplink fails: no answer","last_resort":true,"unsteady":true}},"checks":{"uplink":{"state":"down","since_unix_ms":1700000000000,"reason":"no answer"}},"weight":100,"weighs_vips":true,"drained":false,"repairs":0,"heartbeats":"10.1.0.11:7746","version":"0.1.0"}"#,
    ),
];

fn written_again<T: Record>(value: &str) -> Result<Vec<u8>, String> {
    decode::<T>(value.as_bytes()).map(|record| encode(&record)).map_err(|error| error.to_string())
}

fn again(kind: &str, value: &str) -> Result<Vec<u8>, String> {
    match kind {
        "session" => written_again::<SessionRecord>(value),
        "node" => written_again::<NodeRecord>(value),
        "vip" => written_again::<VipRecord>(value),
        "drain" => written_again::<DrainRecord>(value),
        "pin" => written_again::<PinRecord>(value),
        "keys" => written_again::<HeartbeatKeys>(value),
        "history" => written_again::<HistoryRecord>(value),
        other => panic!("no kind {other}"),
    }
}

/// Rule 14.6.
#[test]
fn what_every_version_wrote_is_read_and_what_is_written_is_among_it() {
    for one in ALL {
        let again = again(one.kind, one.value);
        let again = again.unwrap_or_else(|why| panic!("{} of {}: {why}", one.kind, one.version));
        let same = String::from_utf8(again).unwrap() == one.value;
        assert!(same || !one.is_todays, "{} of {} is written otherwise", one.kind, one.version);
    }
}

/// Rule 9.6.
#[test]
fn what_a_newer_version_adds_is_passed_over_and_what_it_means_otherwise_is_left_alone() {
    for one in ALL {
        let more = one.value.replacen('{', r#"{"of_tomorrow":[1],"#, 1);
        assert!(again(one.kind, &more).is_ok(), "{}: {more}", one.kind);
        let digit = one.value.as_bytes()[5] as char;
        let newer = one.value.replacen(&format!("\"v\":{digit}"), "\"v\":9", 1);
        let why = again(one.kind, &newer).unwrap_err();
        assert!(why.starts_with("of version 9"), "{}: {why}", one.kind);
    }
}

/// Rule 5.2 needs it: hosts whose definitions differ do not hand a VIP to each other, and an upgraded host
/// must not differ from one that is not.
#[test]
fn the_digest_of_a_definition_is_what_it_always_was() {
    let vip = |policy| VipConfig {
        name: "gw".parse().unwrap(),
        addresses: VipAddress::all_on(
            "br100",
            ["10.0.100.1/24", "fd00:100::1/64"].map(|one| one.parse().unwrap()),
        ),
        policy,
        defend: false,
        require_carrier: true,
        keep_connections: false,
        checks: std::collections::BTreeSet::new(),
        last_resort: turnip_core::LastResort::Keep,
        hooks: turnip_core::Hooks::new(),
    };
    let digests = [
        vip(Policy::Leader),
        vip(Policy::Spread),
        vip(Policy::Priority { priority: 7, preempt: true }),
        vip(Policy::Priority { priority: 7, preempt: false }),
        vip(Policy::Follow(Follow {
            key: "/service/batman/leader".into(),
            value: "of this host alone".into(),
            pointer: Some("/name".into()),
            absent: Absent::Last,
            unchanged: Some(std::time::Duration::from_secs(30)),
        })),
    ]
    .map(|vip| vip.digest());
    assert_eq!(
        digests,
        [
            "e06064e8a0113e0f",
            "f2d70de628daf244",
            "b11a3c9f26b794af",
            "ca4385ceb1095959",
            "67f1654240fa2e91"
        ]
    );
}
