//! `turnip watch` while etcd does not answer.

use std::time::Duration;

use anyhow::{Result, ensure};
use turnip_netns_tests::cluster::{Cluster, Terminal};
use turnip_netns_tests::poll::Poll;

use crate::of_both_families;

const POLL: Poll = Poll::every(Duration::from_millis(50)).within(Duration::from_secs(30));
const LEASE: &str = "2s";

fn shows(terminal: &Terminal, from: usize, words: &[&str]) {
    let seen = POLL.is_so(|| {
        let written = terminal.written_since(from);
        anyhow::Ok(words.iter().all(|word| written.contains(word)))
    });
    assert!(seen.unwrap_or_default(), "{words:?} in {:?}", terminal.written_since(from));
}

/// The hosts hear each other, and hold on.
#[test]
fn while_etcd_is_frozen_the_watch_calls_nobody_silent_and_says_how_old_its_tables_are() -> Result<()>
{
    let cluster = Cluster::start(of_both_families().with_lease(LEASE))?;
    cluster.wait_for_owner()?;
    cluster.wait_until_sessions_list_all_others()?;
    let terminal = cluster.turnip_on_a_terminal(&["watch"])?;
    // What is blank already is not drawn, so only single words are looked for.
    shows(&terminal, 0, &["api", "owner", "quit"]);
    let from = terminal.mark();
    cluster.freeze_etcd()?;
    shows(&terminal, from, &["known", "had"]);
    // Longer than it takes to be certain of a silence, and than etcd is given to answer.
    // It is in bold, and drawn whole when it becomes longer.
    shows(&terminal, from, &["[1m10."]);
    let written = terminal.written_since(from);
    ensure!(!written.contains("silent") && !written.contains("WITHOUT"), "{written}");
    let from = terminal.mark();
    cluster.thaw_etcd()?;
    // What was wrong goes, and the table moves up.
    shows(&terminal, from, &["PREFERRED"]);
    // The hosts' leases are longer than the moment in which they have not written yet.
    let written = terminal.written_since(from);
    ensure!(!written.contains("silent") && !written.contains("WITHOUT"), "{written}");
    Ok(())
}
