//! Each verb does in the simulator what its name says.

use std::path::Path;
use std::time::Duration;

use turnip_sim::play::{self, Algorithm, Run};
use turnip_sim::script::{Script, Verb};

/// v1 prefers h1, v2 goes with etcd's leader.
const CLUSTER: &str = r#"
lasts = "60s"

[[site]]
name = "left"
hosts = ["h1"]

[[site]]
name = "right"
hosts = ["h2", "h3"]

[[check]]
name = "api"
tcp = "127.0.0.1:6443"
interval = "500ms"

[[vip]]
name = "v1"
address = "10.77.0.101/32"
interface = "eth0"
policy = "priority"
preempt = true
checks = ["api"]

[[vip]]
name = "v2"
address = "10.77.0.102/32"
interface = "eth0"
policy = "leader"

[[host]]
name = "h1"
priority = 200
"#;

/// And with h1 until its key says otherwise: where that is tried alone, for who has it must hear of the key.
const FOLLOWING: &str = r#"
[[vip]]
name = "v3"
address = "10.77.0.103/32"
interface = "eth0"
policy = "follow"
follow = { key = "/service/db/leader" }
"#;

/// A fault as the table's lines.
type Lines = &'static str;

/// What must have come of it.
enum Effect {
    /// v1 went to another host and came back.
    ThereAndBack,
    /// v1 was not answered for so long at least, in ms.
    Gap(u64),
    /// v2 went with the leader.
    LeaderMoves,
    /// v3 went to where its key said, and back.
    FollowsKey,
    /// v1 was not answered for at most so long, and did not move.
    Stays(u64),
    /// A line of the trace says so.
    Says(&'static str),
}
use Effect::{FollowsKey, Gap, LeaderMoves, Says, Stays, ThereAndBack};

const VERBS: &[(Verb, &[Lines], Effect)] = &[
    (Verb::Isolate, &["isolate = \"h1\""], ThereAndBack),
    (Verb::Cut, &["cut = \"left\"\nfrom = \"right\""], ThereAndBack),
    (Verb::CutOneWay, &["cut_one_way = \"right\"\nto = \"left\""], ThereAndBack),
    // The others hear it, so it may go on.
    (Verb::CutFromStore, &["cut_from_store = \"h1\""], Stays(0)),
    (Verb::CutFromPeers, &["cut_from_store = \"h1\"", "cut_from_peers = \"h1\""], ThereAndBack),
    (Verb::CutMember, &["cut_member = \"leader\""], LeaderMoves),
    (Verb::Lossy, &["lossy = \"h1\"\nloss = \"100%\""], ThereAndBack),
    (Verb::Slow, &["slow = \"h1\"\nby = \"4s\""], ThereAndBack),
    (Verb::Flap, &["flap = \"h1\"\ndown = \"5s\"\nup = \"5s\""], Gap(2_000)),
    (Verb::LinkDown, &["link_down = \"h1\""], ThereAndBack),
    (Verb::Kill, &["kill = \"h1\""], ThereAndBack),
    (Verb::Stop, &["stop = \"h1\""], ThereAndBack),
    (Verb::Leave, &["leave = \"h1\""], ThereAndBack),
    (Verb::Freeze, &["freeze = \"h1\""], ThereAndBack),
    (Verb::Pause, &["pause = \"h1\""], ThereAndBack),
    (Verb::Suspend, &["suspend = \"h1\""], ThereAndBack),
    (Verb::PowerOff, &["power_off = \"h1\""], ThereAndBack),
    (Verb::Reboot, &["reboot = \"h1\""], ThereAndBack),
    (Verb::StopEtcd, &["stop_etcd = \"leader\""], LeaderMoves),
    (Verb::FreezeEtcd, &["freeze_etcd = \"leader\""], LeaderMoves),
    // Whoever is drained waits for the write.
    (
        Verb::SlowDisk,
        &["slow_disk = \"all\"\nby = \"2s\"", "drain = \"h1\""],
        Says("slow disk on h1 by 2 s"),
    ),
    (Verb::MoveLeader, &["move_leader = true"], LeaderMoves),
    (Verb::FillEtcd, &["fill_etcd = true", "power_off = \"h1\""], Gap(15_000)),
    (Verb::CompactEtcd, &["compact_etcd = true"], Says("compact etcd")),
    (Verb::BackUpEtcd, &["back_up_etcd = true"], Says("back up etcd")),
    (Verb::RestoreEtcd, &["restore_etcd = true"], Says("etcd is restored")),
    (
        Verb::ExpireCertificate,
        &["expire_certificate = \"h1\"", "cut_from_peers = \"h1\""],
        ThereAndBack,
    ),
    (Verb::Drain, &["drain = \"h1\""], ThereAndBack),
    (Verb::Undrain, &["drain = \"h1\"", "undrain = \"h1\""], ThereAndBack),
    (Verb::Pin, &["pin = \"v1\"\nto = \"h3\""], ThereAndBack),
    (Verb::MoveKey, &["move_key = \"v3\"\nto = \"h2\""], FollowsKey),
    (Verb::Reload, &["reload = \"h1\"\npriority = 10"], ThereAndBack),
    (Verb::RemoveAddress, &["remove_address = \"v1\""], Stays(1_000)),
    (Verb::AddAddress, &["add_address = \"v1\"\non = \"h2\""], Says("add address of v1 on h2")),
    (Verb::FlushRules, &["flush_rules = \"h1\""], Says("flush rules on h1")),
    (Verb::FailCheck, &["fail_check = \"api\"\non = \"h1\""], ThereAndBack),
    (Verb::Drift, &["drift_clock = \"h1\"\nby = \"-1%\""], Says("drift clock h1 by -1 %")),
    (Verb::Slew, &["slew_clock = \"h1\"\nby = \"-5%\""], Says("slew clock h1 by -5 %")),
    (Verb::DelayWatch, &["delay_watch = \"h2\"\nby = \"1s\"", "drain = \"h1\""], Gap(900)),
    (Verb::SlowNetlink, &["slow_netlink = \"h1\"\nby = \"1s\"", "drain = \"h1\""], ThereAndBack),
];

fn script(verb: Verb, faults: &[Lines]) -> Script {
    let moment = |fault: &str| {
        ["move_leader", "compact", "back_up", "undrain", "remove_address", "add_address", "flush"]
            .iter()
            .any(|word| fault.starts_with(word))
    };
    let mut text = CLUSTER.to_owned();
    if verb == Verb::MoveKey {
        text += FOLLOWING;
    }
    for (number, fault) in faults.iter().enumerate() {
        // What is taken back lasts until then.
        let at = if fault.starts_with("undrain") { 25 } else { 5 + number };
        let lasts = match moment(fault) || verb == Verb::Undrain {
            true => "",
            false => "for = \"20s\"\n",
        };
        text += &format!("[[fault]]\nat = \"{at}s\"\n{lasts}{fault}\n");
    }
    Script::parse(Path::new("verb.toml"), &text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn holds(effect: &Effect, script: &Script, run: &Run) -> bool {
    let (v1, v2) = (&run.vips[0], &run.vips[1]);
    match effect {
        ThereAndBack => v1.moves == 2 && v1.owners == ["h1"],
        Gap(least) => v1.gap_max() >= Duration::from_millis(*least),
        LeaderMoves => v2.moves >= 1,
        FollowsKey => run.vip("v3").is_some_and(|v3| v3.moves == 2 && v3.owners == ["h1"]),
        Stays(most) => v1.moves == 0 && v1.gap_max() <= Duration::from_millis(*most),
        Says(words) => {
            play::trace(script, 1, Algorithm::Turnip).iter().any(|line| line.contains(words))
        }
    }
}

#[test]
fn every_verb_does_what_it_says() {
    let mut wrong = Vec::new();
    for verb in Verb::ALL {
        let Some((_, faults, effect)) = VERBS.iter().find(|(one, ..)| one == verb) else {
            wrong.push(format!("{verb:?} is not tried"));
            continue;
        };
        let script = script(*verb, faults);
        let run = play::simulate(&script, 1, Algorithm::Turnip);
        let (v1, v2) = (&run.vips[0], &run.vips[1]);
        if !run.wrong.is_empty() || !holds(effect, &script, &run) {
            wrong.push(format!(
                "{}: v1 gap {:?}, moves {}, on {:?}; v2 moves {}; {:?}",
                verb.said(),
                v1.gap_max(),
                v1.moves,
                v1.owners,
                v2.moves,
                run.wrong
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn leadership_goes_to_the_machine_that_is_named() {
    for to in ["h1", "h2", "h3"] {
        let fault = format!("[[fault]]\nat = \"5s\"\nmove_leader = true\nto = \"{to}\"\n");
        let script = Script::parse(Path::new("lead.toml"), &format!("{CLUSTER}{fault}")).unwrap();
        for seed in 0..5 {
            let run = play::simulate(&script, seed, Algorithm::Turnip);
            assert_eq!(run.vips[1].owners, [to], "seed {seed}");
        }
    }
}

/// Among themselves they hear nobody either.
#[test]
fn whom_all_are_cut_off_from_are_all_machines() {
    let faults = "[[fault]]\nat = \"5s\"\nfor = \"20s\"\ncut_from_peers = \"all\"\n\
                  [[fault]]\nat = \"10s\"\nfor = \"10s\"\nfreeze_etcd = \"all\"\n";
    let script = Script::parse(Path::new("all.toml"), &format!("{CLUSTER}{faults}")).unwrap();
    let run = play::simulate(&script, 1, Algorithm::Turnip);
    assert!(run.vips[0].gap_max() >= Duration::from_secs(5), "{:?}", run.vips[0].gap_max());
}

#[test]
fn where_nothing_happens_nothing_moves() {
    let script = Script::parse(Path::new("quiet.toml"), CLUSTER).unwrap();
    let run = play::simulate(&script, 1, Algorithm::Turnip);
    for vip in &run.vips {
        assert_eq!(
            (vip.moves, vip.gap_max(), vip.owners.len()),
            (0, Duration::ZERO, 1),
            "{}",
            vip.vip
        );
    }
}
