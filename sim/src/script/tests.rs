//! What is refused, with its place; and what the choices of a seed are.

use std::path::Path;
use std::time::Duration;

use super::{Choice, Extra, Script, Target, Verb, World};

fn parse(text: &str) -> Result<Script, String> {
    Script::parse(Path::new("two-racks.toml"), text).map_err(|problems| problems.to_string())
}

fn refused(text: &str) -> String {
    parse(text).expect_err("it is wrong")
}

const RACKS: &str = r#"
about = "the path between two racks is cut"
lease = "3s"
lasts = "60s"
[[site]]
name = "rack1"
hosts = ["h1", "h2"]
[[site]]
name = "rack2"
hosts = ["h3"]
[[link]]
between = ["rack1", "rack2"]
rtt = "2ms"
[etcd]
version = "3.4"
[[vip]]
name = "v1"
address = "10.0.0.50/32"
interface = "eth0"
[[fault]]
at = "5s..20s"
cut = "rack1"
from = "rack2"
for = "30s"
[expect]
overlap = "0"
gap = "<= 3.3s"
moves = "<= 2"
owner = ["h1", "h2"]
"#;

#[test]
fn a_whole_file_is_understood() {
    let script = parse(RACKS).unwrap();
    assert_eq!(script.name, "two-racks");
    assert_eq!(script.hosts.len(), 3);
    assert_eq!(script.links.len(), 2);
    assert_eq!(script.etcd.members, [0, 1, 2]);
    assert_eq!(script.config.lease.duration(), Duration::from_secs(3));
    let fault = &script.faults[0];
    assert_eq!(fault.verb, Verb::Cut);
    assert_eq!(fault.whom, Choice::One(Target::These(vec![0, 1])));
    assert_eq!(fault.other, Some(Choice::One(Target::These(vec![2]))));
    assert_eq!(script.expect.len(), 4);
}

#[test]
fn what_is_wrong_is_refused_with_its_place_and_what_would_be_right() {
    for (fault, said) in [
        (
            "at = \"1s\"\nisolte = \"h1\"",
            "two-racks.toml:3:10: fault.isolte: unknown verb; did you mean \"isolate\"?",
        ),
        (
            "at = \"1s\"\nisolate = \"h9\"",
            "two-racks.toml:3:11: fault.isolate = \"h9\": there is none of this name; did you mean \"h1\"?",
        ),
        (
            "at = \"9s..2s\"\nisolate = \"h1\"",
            "two-racks.toml:2:6: fault.at = \"9s..2s\": runs backwards; write \"2s..9s\"",
        ),
        (
            "at = \"1\"\nisolate = \"h1\"",
            "fault.at = \"1\": not a duration; write it with its unit, as in \"1s\"",
        ),
        ("isolate = \"h1\"", "fault.at: missing; say when it begins, as in \"10s\""),
        ("at = \"1s\"\ncut = \"h1\"", "fault.from: missing; cut takes it; write it beside"),
        ("at = \"1s\"\nkill = \"h1\"\nby = \"1s\"", "fault.by: unknown key"),
        ("at = \"1s\"\nkill = \"h1\"\nfreeze = \"h2\"", "beside"),
        (
            "at = \"1s\"\nmove_leader = true\nfor = \"2s\"",
            "move leader happens in a moment; leave it out",
        ),
        (
            "at = \"1s\"\nmove_leader = true\nto = \"h4\"",
            "fault.to = \"h4\": there is none of this name; did you mean",
        ),
        ("at = \"1s\"\nkill = \"h1\"\ntimes = 3", "fault.every: missing"),
        ("at = \"1s\"\nkill = \"each\"\nevery = \"0s\"", "fault.every = \"0s\": all at once"),
        (
            "at = \"1s\"\nfreeze = \"h1\"\nfor = \"0s\"",
            "fault.for = \"0s\": nothing happens in no time",
        ),
        ("at = \"1s\"\ncut = \"h1\"\nfrom = \"h1\"", "nothing is between a machine and itself"),
        ("at = \"1s\"\nfail_check = \"api\"\non = \"h1\"", "there is none in the configuration"),
        ("at = \"1s\"\nundrain = \"h1\"", "nothing to take back"),
        (
            "at = \"1s\"\nmove_key = \"v1\"\nto = \"h2\"",
            "two-racks.toml:3:12: fault.move_key = \"v1\": it follows no key; give it policy = \"follow\"",
        ),
        (
            "at = \"9s\"\nkill = \"h1\"\n[[fault]]\nat = \"8s\"\nkill = \"h2\"",
            "time does not run backwards",
        ),
    ] {
        let error = refused(&format!("[[fault]]\n{fault}\n"));
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn a_word_for_several_that_is_the_name_of_one_is_refused() {
    for word in ["all", "any", "each"] {
        let error = refused(&format!(
            "[[vip]]\nname = \"{word}\"\naddress = \"10.0.0.50/32\"\ninterface = \"eth0\"\n\
             [[fault]]\nat = \"1s\"\nremove_address = \"{word}\"\n"
        ));
        assert!(error.contains("one of them has this name"), "{error}");
    }
}

#[test]
fn an_expectation_that_cannot_be_judged_is_refused() {
    for (expect, said) in [
        (
            "gap = \"3.3s\"",
            "two-racks.toml:3:7: expect.gap = \"3.3s\": no measured time is exactly that; write it as in \"<= 3.3s\"",
        ),
        ("gap = \"<= 60s\"", "cannot be judged: the scenario lasts 60 s"),
        ("gap = \"3s..1s\"", "runs backwards"),
        ("moves = \"<= 2s\"", "moves are counted"),
        ("owner = \"h4\"", "there is none of this name; did you mean"),
        ("gaps = \"<= 1s\"", "expect.gaps: unknown key; did you mean \"gap\"?"),
        ("v2.gap = \"<= 1s\"", "expect.v2: unknown key"),
        ("gap = \"< 1s\"", "write \"<= 3.3s\""),
    ] {
        let error = refused(&format!("lasts = \"60s\"\n[expect]\n{expect}\n"));
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn the_cluster_is_checked() {
    for (text, said) in [
        ("hosts = 0", "hosts = 0: not from 1 to 20"),
        ("hosts = [\"a\", \"a\"]", "\"a\" twice"),
        ("[etcd]\nversion = \"3.6\"", "write \"3.4\" or \"3.5\""),
        ("[etcd]\nelection = \"200ms\"", "five times"),
        ("[etcd]\non = [\"h7\"]", "there is none of this name"),
        ("leese = \"3s\"", "leese: unknown key; did you mean \"lease\"?"),
        ("lease = \"3\"", "as in \"3s\""),
        ("[[link]]\nbetween = [\"h1\"]\nrtt = \"1ms\"", "not two"),
        (
            "[[host]]\nname = \"h1\"\npriority = 5",
            "two-racks.toml:3:12: host.priority = 5: no VIP has",
        ),
        (
            "[[host]]\nname = \"h1\"\n[[host]]\nname = \"h1\"",
            "there is a [[host]] of this name above",
        ),
        ("hosts = [\"a\", \"leader\"]", "\"leader\" is a word of faults"),
        ("[[site]]\nname = \"any\"\nhosts = [\"h1\"]", "\"any\" is a word of faults"),
        ("[[site]]\nname = \"h1\"\nhosts = [\"h1\"]", "a machine has this name as well"),
        (
            "[[site]]\nname = \"a\"\nhosts = [\"h1\"]\n[[site]]\nname = \"a\"\nhosts = [\"h2\"]",
            "two sites have this name",
        ),
        (
            "[etcd]\nbeside = [\"h2\"]",
            "two-racks.toml:2:10: etcd.beside = [\"h2\"]: \"h2\" is a host",
        ),
        ("hosts = [\"e1\"]\n[etcd]\nbeside = 1", "\"e1\" is a host"),
        ("[etcd]\non = []", "etcd.on = []: nobody has a member"),
        ("[etcd]\non = [\"h1\", \"h1\"]", "\"h1\" twice"),
        ("[[link]]\nbetween = [\"h1\", \"h1\"]\nrtt = \"1ms\"", "no path from a machine to itself"),
        ("[[link]]\nbetween = [\"h1\", \"h2\"]", "link.rtt: missing"),
        (
            "[[link]]\nbetween = [\"h1\", \"h2\"]\nrtt = \"1ms\"\n[[link]]\nbetween = [\"h2\", \"h1\"]\nrtt = \"2ms\"",
            "a [[link]] above is about the same path",
        ),
        ("lasts = \"0s\"", "two-racks.toml:1:9: lasts = \"0s\": shorter than a second"),
        ("lasts = \"2d\"", "\"d\" is no unit here; write ms, s, m or h"),
        (
            "config = \"/none/such.toml\"",
            "two-racks.toml:1:10: config = \"/none/such.toml\": /none/such.toml: the file cannot be read",
        ),
        ("client = \"nowhere\"", "there is none of this name"),
        (
            "hosts = 3\n[[site]]\nname = \"a\"\nhosts = [\"h1\", \"h5\"]",
            "there is none of this name",
        ),
        ("config = \"none-here.toml\"", "none-here.toml: the file cannot be read"),
    ] {
        let error = refused(text);
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn a_verb_of_the_other_world_is_refused_by_its_name() {
    let script = parse("[[fault]]\nat = \"1s\"\npause = \"h1\"\n").unwrap();
    script.check_world(World::Simulator).unwrap();
    let error = script.check_world(World::Lab).unwrap_err().to_string();
    let said =
        "two-racks.toml:3:9: fault.pause: only the simulator can do this; here it is the lab";
    assert!(error.contains(said), "{error}");
}

#[test]
fn a_phrase_says_what_a_table_says() {
    let extra = Extra {
        faults: vec![
            "isolate h1 at 10s for 30s".into(),
            "cut from store h2 at 12s".into(),
            "cut h1 from h2 at 13s for 1s..2s".into(),
            "move leader at 20s".into(),
        ],
        expect: vec!["gap <= 20s".into(), "overlap = 0".into()],
        ..Extra::default()
    };
    let script = Script::of_phrases(&extra).unwrap();
    let table = "[[fault]]\nat = \"10s\"\nisolate = \"h1\"\nfor = \"30s\"\n";
    let [from_phrase, from_table] =
        [&script, &parse(table).unwrap()].map(|script| script.draw(3)[0].clone());
    assert_eq!(from_phrase, from_table);
    let verbs: Vec<Verb> = script.faults.iter().map(|fault| fault.verb).collect();
    assert_eq!(verbs, [Verb::Isolate, Verb::CutFromStore, Verb::Cut, Verb::MoveLeader]);
    let wrong = Extra { faults: vec!["isolat h1 at 1s".into()], ..Extra::default() };
    let error = Script::of_phrases(&wrong).unwrap_err().to_string();
    assert!(error.contains("did you mean \"isolate\"?"), "{error}");
}

#[test]
fn a_seed_makes_the_same_choices_each_time_and_another_seed_makes_others() {
    let text = "[[fault]]\nat = \"5s..20s\"\nisolate = [\"h1\", \"h2\"]\nfor = \"1s..9s\"\n\
                [[fault]]\nat = \"21s\"\nreboot = \"each\"\nevery = \"30s\"\nfor = \"20s\"\n";
    let script = parse(text).unwrap();
    assert_eq!(script.draw(7), script.draw(7));
    let firsts: Vec<Duration> = (0..20).map(|seed| script.draw(seed)[0].at).collect();
    assert!(firsts.iter().any(|at| *at != firsts[0]));
    assert!(firsts.iter().all(|at| (5..=20).contains(&at.as_secs())));
    let reboots = script.draw(1).into_iter().filter(|one| one.deed.verb == Verb::Reboot);
    let told: Vec<String> = reboots.map(|one| script.tell(&one)).collect();
    assert_eq!(told[1], "at 51 s for 20 s: reboot h2");
    assert_eq!(told.len(), 3);
}

#[test]
fn a_drain_lasts_until_it_is_taken_back() {
    let text =
        "[[fault]]\nat = \"5s\"\ndrain = \"h1\"\n[[fault]]\nat = \"12s\"\nundrain = \"h1\"\n";
    let drawn = parse(text).unwrap().draw(1);
    assert_eq!(drawn.len(), 1);
    assert_eq!(drawn[0].lasts, Some(Duration::from_secs(7)));
}

#[test]
fn every_verb_is_read_back_by_its_word() {
    for verb in Verb::ALL {
        assert_eq!(Verb::of(verb.word()), Some(*verb));
    }
}
