//! What an operator is told of what happened, would happen, and happens.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;
use turnip_netns_tests::cluster::{Cluster, Terminal};
use turnip_netns_tests::plan::Plan;
use turnip_netns_tests::poll::Poll;

use crate::VERY_LONG_LEASE;

const POLL: Poll = Poll::every(Duration::from_millis(50)).within(Duration::from_secs(20));

fn name(host: usize) -> String {
    format!("h{}", host + 1)
}

/// From whom the address went to whom, and why, and whose session was ended; the oldest first.
fn told(cluster: &Cluster) -> Result<Vec<(Value, Value, String)>> {
    let history: Value = serde_json::from_str(&cluster.turnip(&["history", "api", "--json"])?)?;
    assert_eq!(history["schema"], 1);
    let all = history["transitions"].as_array().context("transitions")?;
    let what = |one: &Value| {
        let why = one["why"].as_str().unwrap_or_default().to_owned();
        (one["from"].clone(), one["to"].clone(), why)
    };
    Ok(all.iter().map(what).collect())
}

#[test]
fn the_history_tells_every_move_of_the_address_and_its_reason() -> Result<()> {
    let mut cluster = Cluster::start(Plan::default())?;
    let first = cluster.wait_for_owner()?;
    let (second, third) = ((first + 1) % 3, (first + 2) % 3);
    cluster.pin("api", second)?;
    cluster.wait_for_owner_among(|host| host == second)?;
    cluster.turnip(&["unpin", "api"])?;
    cluster.turnip(&["drain", &name(first)])?;
    cluster.turnip(&["pin", "api", &name(third)])?;
    cluster.wait_for_owner_among(|host| host == third)?;
    cluster.power_off(third)?;
    cluster.wait_for_owner_among(|host| host == second)?;
    let told = told(&cluster)?;
    let step = |from: usize, to: usize, why: &str| {
        (Value::from(name(from)), Value::from(name(to)), why.to_owned())
    };
    let moved = [step(first, second, "pinned"), step(second, third, "pinned")];
    assert!(told.windows(2).any(|steps| steps == moved), "{told:?}");
    // Who ends the dead host's session takes the address with it, or leaves that to the other.
    let at_once = vec![step(third, second, "silent")];
    let ended = (Value::from(name(third)), Value::Null, "silent".to_owned());
    let by_the_other = vec![ended, step(third, second, "free")];
    let ends_so = |steps: &[_]| told.ends_with(steps);
    assert!(ends_so(&at_once) || ends_so(&by_the_other), "{told:?}");
    let text = cluster.turnip(&["history"])?;
    for word in ["WHY", "an operator pinned it to", "was silent for"] {
        assert!(text.contains(word), "{word} in\n{text}");
    }
    Ok(())
}

#[test]
fn who_takes_the_address_is_who_was_said_to_take_it() -> Result<()> {
    let cluster = Cluster::start(Plan::default())?;
    let owner = cluster.wait_for_owner()?;
    let now = cluster.turnip(&["why", "api"])?;
    assert!(now.contains(&format!("{} keeps it", name(owner))), "{now}");
    let if_down = cluster.turnip(&["why", "api", "--if-down", &name(owner)])?;
    let if_drained = cluster.turnip(&["why", "api", "--if-drained", &name(owner)])?;
    assert!(if_drained.contains(&format!("not {}: it is drained", name(owner))), "{if_drained}");
    assert_eq!(cluster.turnip(&["why", "api"])?.lines().nth(2), now.lines().nth(2), "it only asks");
    cluster.turnip(&["drain", &name(owner)])?;
    let next = cluster.wait_for_owner_among(|host| host != owner)?;
    assert!(if_drained.contains(&format!("{} takes it at once", name(next))), "{if_drained}");
    assert!(if_down.contains(&format!("{} takes it when", name(next))), "{if_down}");
    Ok(())
}

#[test]
fn the_watch_shows_a_move_as_it_happens_and_ends_with_q() -> Result<()> {
    let cluster = Cluster::start(crate::of_both_families().with_lease(VERY_LONG_LEASE))?;
    let owner = cluster.wait_for_owner()?;
    let mut terminal = cluster.turnip_on_a_terminal(&["watch"])?;
    let shows = |terminal: &Terminal, from: usize, words: &[&str]| {
        let seen = POLL.is_so(|| {
            let written = terminal.written_since(from);
            anyhow::Ok(words.iter().all(|word| written.contains(word)))
        });
        assert!(seen.unwrap_or_default(), "{words:?} in {:?}", terminal.written_since(from));
    };
    // What is blank already is not drawn, so only single words are looked for.
    shows(&terminal, 0, &["api", &name(owner), "PREFERRED", "quit"]);
    let from = terminal.mark();
    let to = (owner + 1) % 3;
    cluster.pin("api", to)?;
    // A row that has changed is drawn whole, in another colour and with a star.
    shows(&terminal, from, &["*", "api", &name(to), "(pinned)"]);
    let from = terminal.mark();
    terminal.press("s")?;
    shows(&terminal, from, &["▲"]);
    terminal.press("q")?;
    let ended = POLL.find(|| terminal.has_ended())?;
    assert_eq!(ended, Some(Some(0)), "{:?}", terminal.written_since(0));
    assert!(
        terminal.written_since(0).contains("\u{1b}[?1049l"),
        "the screen that was there is back"
    );
    Ok(())
}

#[test]
fn of_a_host_that_is_forgotten_nothing_is_left_in_etcd() -> Result<()> {
    let mut cluster = Cluster::start(Plan::default())?;
    let owner = cluster.wait_for_owner()?;
    let gone = name(owner);
    cluster.turnip(&["drain", &gone])?;
    cluster.wait_for_owner_among(|host| host != owner)?;
    cluster.stop_daemon(owner)?;
    let (status, said) = cluster.turnip_says(&["forget", &gone])?;
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("is not drained any more"), "{said}");
    let status = cluster.status()?;
    assert!(status["nodes"][&gone].is_null(), "{status}");
    let history: Value = serde_json::from_str(&cluster.turnip(&["history", "--json"])?)?;
    let all = history["transitions"].as_array().context("transitions")?;
    assert!(all.iter().all(|one| one["by"] != gone.as_str()), "{history}");
    let (status, said) = cluster.turnip_says(&["forget", &gone])?;
    assert_eq!(status, Some(1), "nothing of it is left: {said}");
    Ok(())
}
