//! What differs between two configurations, as `turnip reload --dry-run` says it.

use clap::Args;
use turnip::config::{Config, Difference, NodeArgs, ReachArgs, Sources};

fn load(text: &str) -> Config {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("turnip.toml");
    std::fs::write(&file, text).unwrap();
    let command = NodeArgs::augment_args(ReachArgs::augment_args(clap::Command::new("turnip")));
    let arguments = ["turnip", "--node", "a", "--config", file.to_str().unwrap()];
    Config::load(&Sources::new(&command.get_matches_from(arguments), |_| None)).unwrap()
}

const API: &str = "[[vip]]\nname = \"api\"\naddress = \"10.0.0.50/32\"\ninterface = \"lo\"\n";
const WEB: &str = "[[vip]]\nname = \"web\"\naddress = \"10.0.0.60/32\"\ninterface = \"lo\"\n";

fn between(before: &str, after: &str) -> Difference {
    Difference::between(&load(before), &load(after))
}

#[test]
fn nothing_differs_where_only_the_text_does() {
    let reordered = format!("# A comment.\n{WEB}{API}");
    let same = between(&format!("{API}{WEB}"), &reordered);
    assert!(same.is_empty() && same.beyond_a_reload().is_none());
    assert_eq!(same.to_string(), "nothing differs\n");
}

#[test]
fn vips_and_their_settings_are_named_with_what_they_were_and_are() {
    let after =
        format!("weight = 50\nannounce_every = 0\n{API}policy = \"priority\"\npriority = 7\n")
            + &WEB.replace("\"web\"", "\"new\"");
    let difference = between(&format!("{API}{WEB}"), &after);
    assert_eq!(
        difference.to_string(),
        "~ vip api: policy spread -> priority 7\n- vip web: 10.0.0.60/32 on lo\n\
         + vip new: 10.0.0.60/32 on lo\nweight: 100 -> 50\nannounce_every: 60s -> never\n"
    );
    assert!(difference.beyond_a_reload().is_none());
    let moved = between(API, &API.replace("\"lo\"", "\"eth0\"").replace("/32", "/24"));
    let said = "~ vip api: addresses 10.0.0.50/32 -> 10.0.0.50/24; interface lo -> eth0\n";
    assert_eq!(moved.to_string(), said);
}

#[test]
fn what_takes_a_new_session_or_a_new_process_is_named_with_the_way_there() {
    let session = between(API, &format!("lease = \"5s\"\n{API}")).beyond_a_reload().unwrap();
    assert!(session.contains("turnip reload --new-session"), "{session}");
    assert!(session.contains("lease: 3s -> 5s"), "{session}");
    let restart = format!("log_level = \"debug\"\n[peers]\nlisten = \"off\"\n{API}");
    let restart = between(API, &restart).beyond_a_reload().unwrap();
    assert!(restart.contains("systemctl restart turnip"), "{restart}");
    assert!(restart.contains("peers: ") && restart.contains("log: "), "{restart}");
}

#[test]
fn interfaces_routes_and_rules_are_named_one_by_one() {
    let router = |more: &str| {
        format!(
            "[[vip]]\nname = \"router\"\naddresses = [\"203.0.113.2/29 dev wan0\", \"10.0.100.1/24 dev br100\"]\n{more}"
        )
    };
    let route = "[[vip.route]]\nto = \"default\"\nvia = \"203.0.113.1\"\n";
    let difference = between(API, &format!("{API}{}", router("")));
    let said = "+ vip router: 10.0.100.1/24 on br100, 203.0.113.2/29 on wan0\n";
    assert_eq!(difference.to_string(), said);
    let said = between(&router(""), &router(route)).to_string();
    assert!(said.starts_with("~ vip router: routes none -> \"default via 203.0.113.1"), "{said}");
    let moved = between(&router(""), &router("").replace("br100", "br200")).to_string();
    assert!(
        moved.contains("interface br100 of 10.0.100.1/24") && moved.contains("br200"),
        "{moved}"
    );
}

#[test]
fn a_check_that_asks_for_another_answer_is_another_check() {
    let check = |more: &str| {
        format!("{API}[[check]]\nname = \"c\"\nhttp = \"https://127.0.0.1/\"\nnode = true\n{more}")
    };
    for more in ["status = 204", "body = \"ok\"", "host = \"a\"", "unix = \"/a\"", "ca = \"/a\""] {
        let difference = between(&check(""), &check(more));
        assert_eq!(difference.taken, ["~ check c"], "{more}");
    }
    assert!(between(&check("status = 204"), &check("status = 204")).is_empty());
}
