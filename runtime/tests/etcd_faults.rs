//! What the adapter does when members die, freeze, or cannot be reached.

mod support;

use std::pin::pin;
use std::time::Duration;

use futures::Stream;
use support::cluster::{Cluster, free_ports};
use support::proxy::Proxy;
use support::{PATIENCE, events_up_to, eventually, next, put, run, snapshot};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;
use turnip::etcd::{Etcd, EtcdSettings};
use turnip::seams::Store;
use turnip_core::{Revision, StoreError, Update};

const KEY: &str = "/turnip/faults/k";
const PREFIX: &str = "/turnip/faults/";
/// What a node with default settings gives a renewal.
const RENEWAL: Duration = Duration::from_millis(500);

fn etcd(endpoints: Vec<String>) -> Etcd {
    let local = endpoints.first().cloned();
    Etcd::new(&EtcdSettings { endpoints, local, tls: Default::default(), user: None }).unwrap()
}

fn unavailable<T: std::fmt::Debug>(answer: Result<T, StoreError>) -> String {
    match answer {
        Err(StoreError::Unavailable(why)) => why,
        other => panic!("it should be unavailable: {other:?}"),
    }
}

#[test]
fn a_dead_endpoint_costs_not_even_the_first_commit() {
    run(async {
        let cluster = Cluster::start(1).await;
        let dead = format!("http://127.0.0.1:{}", free_ports(1)[0]);
        let etcd = etcd(vec![dead, cluster.url(0)]);
        etcd.commit(put(KEY, ""), PATIENCE).await.unwrap();
    });
}

#[test]
fn when_all_endpoints_are_dead_the_error_names_each_of_them_and_the_cause() {
    run(async {
        let dead: Vec<_> =
            free_ports(2).iter().map(|port| format!("http://127.0.0.1:{port}")).collect();
        let why = unavailable(etcd(dead.clone()).commit(put(KEY, ""), PATIENCE).await);
        for url in &dead {
            assert!(why.contains(url), "{why}");
        }
        assert_eq!(why.matches("Connection refused").count(), 2, "{why}");
    });
}

#[test]
fn a_black_hole_costs_one_commit_its_timeout_and_the_next_goes_elsewhere() {
    run(async {
        let cluster = Cluster::start(1).await;
        let hole = Proxy::to(cluster.client_port(0)).await;
        let etcd = etcd(vec![hole.url(), cluster.url(0)]);
        etcd.commit(put(KEY, "through the proxy"), PATIENCE).await.unwrap();
        assert_eq!(hole.accepted(), 1);

        hole.swallow();
        let began = Instant::now();
        let why = unavailable(etcd.commit(put(KEY, "swallowed"), RENEWAL).await);
        assert!(began.elapsed() < PATIENCE, "an answer within the timeout, give or take");
        assert!(why.contains(&hole.url()), "{why}");
        etcd.commit(put(KEY, "elsewhere"), PATIENCE).await.unwrap();
    });
}

/// An address at which nobody answers, not even to the first packet: there is room for one
/// connection that nobody accepts, and the filler has it.
async fn hole() -> (String, tokio::net::TcpListener, TcpStream) {
    let hole = TcpSocket::new_v4().unwrap();
    hole.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let hole = hole.listen(0).unwrap();
    let address = hole.local_addr().unwrap();
    let filler = TcpStream::connect(address).await.unwrap();
    (format!("http://{address}"), hole, filler)
}

#[test]
fn a_host_that_drops_even_the_first_packet_costs_not_even_the_first_commit() {
    run(async {
        let cluster = Cluster::start(1).await;
        let (dead, _hole, _filler) = hole().await;
        let etcd = etcd(vec![dead, cluster.url(0)]);
        etcd.commit(put(KEY, "elsewhere"), RENEWAL).await.unwrap();
        let began = Instant::now();
        etcd.commit(put(KEY, "at once"), RENEWAL).await.unwrap();
        assert!(began.elapsed() < RENEWAL / 3, "it is not knocked at again: {:?}", began.elapsed());
    });
}

#[test]
fn an_only_endpoint_that_drops_the_first_packet_is_named_with_the_cause() {
    run(async {
        let (dead, _hole, _filler) = hole().await;
        let why = unavailable(etcd(vec![dead.clone()]).commit(put(KEY, ""), RENEWAL).await);
        assert!(why.contains(&dead) && why.contains("no connection within"), "{why}");
    });
}

#[test]
fn who_waits_for_a_leader_begins_at_a_live_member_and_not_at_a_dead_host() {
    run(async {
        let mut cluster = Cluster::start(3).await;
        let (dead, _hole, _filler) = hole().await;
        let etcd = etcd(vec![cluster.url(0), dead]);
        etcd.commit(put(KEY, "before"), PATIENCE).await.unwrap();
        cluster.kill(1);
        cluster.kill(2);
        eventually("a word of the member", async || {
            let why = unavailable(etcd.commit(put(KEY, "without a leader"), RENEWAL).await);
            match why.contains("no raft leader") {
                true => Ok(()),
                false => Err(StoreError::Unavailable(why)),
            }
        })
        .await;
        let why = unavailable(etcd.commit(put(KEY, "without a leader"), RENEWAL).await);
        assert!(why.find("no raft leader") < why.find("no connection"), "{why}");
        cluster.restart(1);
        eventually("a commit", async || etcd.commit(put(KEY, "healed"), RENEWAL).await).await;
    });
}

#[test]
fn a_connection_that_went_silent_is_replaced_by_a_fresh_one() {
    run(async {
        let cluster = Cluster::start(1).await;
        let hole = Proxy::to(cluster.client_port(0)).await;
        let etcd = etcd(vec![hole.url()]);
        etcd.commit(put(KEY, "before"), PATIENCE).await.unwrap();
        hole.swallow();
        for _ in 0..4 {
            unavailable(etcd.commit(put(KEY, "swallowed"), RENEWAL).await);
        }
        assert!(hole.accepted() > 1, "it was replaced while nothing got through");
        // What the proxy has swallowed never comes back, so only a new connection can help.
        hole.heal();
        eventually("a commit", async || etcd.commit(put(KEY, "after"), RENEWAL).await).await;
    });
}

#[test]
fn a_commit_whose_answer_is_lost_is_not_sent_again() {
    run(async {
        let cluster = Cluster::start(1).await;
        let way = Proxy::to(cluster.client_port(0)).await;
        let etcd = etcd(vec![way.url(), cluster.url(0)]);
        let before = etcd.commit(put(KEY, "before"), PATIENCE).await.unwrap().header.revision;
        way.cut_answers();
        unavailable(etcd.commit(put(KEY, "its answer is lost"), PATIENCE).await);
        let after = etcd.commit(put(KEY, "after"), PATIENCE).await.unwrap().header.revision;
        assert!((1..=2).contains(&(after.0 - before.0)), "{before} {after}");
    });
}

#[test]
fn a_follower_in_a_black_hole_finds_the_way_out() {
    run(async {
        let cluster = Cluster::start(1).await;
        let hole = Proxy::to(cluster.client_port(0)).await;
        hole.swallow();
        let etcd = etcd(vec![hole.url(), cluster.url(0)]);
        let mut updates = pin!(etcd.follow(PREFIX.to_owned(), false));
        let why = unavailable(next(&mut updates).await);
        assert!(why.contains(&hole.url()), "{why}");
        let mut updates = pin!(etcd.follow(PREFIX.to_owned(), false));
        snapshot(&mut updates).await;
    });
}

#[test]
fn a_silent_watch_is_noticed_without_the_cores_help() {
    run(async {
        let cluster = Cluster::start(1).await;
        let hole = Proxy::to(cluster.client_port(0)).await;
        let etcd = etcd(vec![hole.url()]);
        let mut updates = pin!(etcd.follow(PREFIX.to_owned(), false));
        snapshot(&mut updates).await;
        hole.swallow();
        unavailable(next(&mut updates).await);
    });
}

#[test]
fn following_elsewhere_leaves_a_silent_endpoint() {
    run(async {
        let cluster = Cluster::start(1).await;
        let hole = Proxy::to(cluster.client_port(0)).await;
        let etcd = etcd(vec![hole.url(), cluster.url(0)]);
        {
            let mut updates = pin!(etcd.follow(PREFIX.to_owned(), false));
            snapshot(&mut updates).await;
        }
        assert_eq!(hole.accepted(), 1, "the follower began at the first endpoint");
        hole.swallow();
        let mut updates = pin!(etcd.follow(PREFIX.to_owned(), true));
        snapshot(&mut updates).await;
        let written = cluster.handle(0).commit(put(KEY, ""), PATIENCE).await.unwrap();
        events_up_to(&mut updates, written.header.revision).await;
    });
}

#[test]
fn whoever_goes_elsewhere_passes_by_what_has_failed() {
    run(async {
        let cluster = Cluster::start(1).await;
        let [hole, first, second] = [
            Proxy::to(cluster.client_port(0)).await,
            Proxy::to(cluster.client_port(0)).await,
            Proxy::to(cluster.client_port(0)).await,
        ];
        hole.swallow();
        let etcd = etcd(vec![hole.url(), second.url(), first.url()]);
        unavailable(etcd.commit(put(KEY, "swallowed"), RENEWAL).await);
        let mut followed = pin!(etcd.follow(PREFIX.to_owned(), false));
        snapshot(&mut followed).await;
        assert_eq!((second.accepted(), first.accepted()), (1, 0));
        // Where it failed first would be the next but one, and has nothing to say.
        for _ in 0..2 {
            let knocked = hole.accepted();
            let mut elsewhere = pin!(etcd.follow(PREFIX.to_owned(), true));
            snapshot(&mut elsewhere).await;
            assert_eq!(hole.accepted(), knocked, "it was passed by");
        }
    });
}

#[test]
fn a_frozen_member_is_left_for_another() {
    run(async {
        let cluster = Cluster::start(3).await;
        let follower = (cluster.leader().await + 1) % 3;
        let etcd = cluster.handle(follower);
        etcd.commit(put(KEY, "before"), PATIENCE).await.unwrap();
        cluster.freeze(follower);
        unavailable(etcd.commit(put(KEY, "to the frozen one"), RENEWAL).await);
        unavailable(etcd.member_status(RENEWAL).await);
        eventually("a commit", async || etcd.commit(put(KEY, "elsewhere"), RENEWAL).await).await;
        cluster.thaw(follower);
        eventually("a status", async || etcd.member_status(RENEWAL).await).await;
    });
}

/// Whether the watch reports `revision`. etcd itself ends it when there was no leader for three
/// election timeouts, as when two elections in a row are split.
async fn goes_on_to(
    updates: &mut (impl Stream<Item = Result<Update, StoreError>> + Unpin),
    revision: Revision,
) -> bool {
    loop {
        match next(updates).await {
            Ok(Update::Events(batch)) if batch.header.revision >= revision => return true,
            Ok(_) => {}
            Err(StoreError::Unavailable(why)) if why.contains("no leader") => return false,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn when_the_leader_is_killed_commits_and_the_watch_of_another_member_go_on() {
    run(async {
        let mut cluster = Cluster::start(3).await;
        for _ in 0..5 {
            let leader = cluster.leader().await;
            let etcd = cluster.handle((leader + 1) % 3);
            let mut updates = pin!(etcd.follow(PREFIX.to_owned(), false));
            snapshot(&mut updates).await;
            cluster.kill(leader);
            let after = put(KEY, "after");
            let committed =
                eventually("a commit", async || etcd.commit(after.clone(), RENEWAL).await).await;
            if goes_on_to(&mut updates, committed.header.revision).await {
                return;
            }
            cluster.restart(leader);
            cluster.healthy().await;
        }
        panic!("five times in a row two elections in a row were split");
    });
}

#[test]
fn when_the_followed_member_is_killed_the_stream_ends_and_a_new_one_begins_elsewhere() {
    run(async {
        let mut cluster = Cluster::start(3).await;
        let leader = cluster.leader().await;
        let etcd = cluster.handle(leader);
        let mut updates = pin!(etcd.follow(PREFIX.to_owned(), false));
        snapshot(&mut updates).await;
        cluster.kill(leader);
        let why = unavailable(next(&mut updates).await);
        assert!(why.contains(&cluster.url(leader)), "{why}");
        let committed =
            eventually("a commit", async || etcd.commit(put(KEY, "after"), RENEWAL).await).await;
        eventually("a snapshot with it", async || {
            let mut updates = pin!(etcd.follow(PREFIX.to_owned(), false));
            match next(&mut updates).await? {
                Update::Snapshot(snapshot)
                    if snapshot.header.revision >= committed.header.revision =>
                {
                    Ok::<(), StoreError>(())
                }
                other => panic!("{other:?} after {:?}", committed.header),
            }
        })
        .await;
    });
}

#[test]
fn a_member_that_lost_its_quorum_ends_the_watch_takes_no_commit_and_still_tells_its_status() {
    run(async {
        let mut cluster = Cluster::start(3).await;
        let etcd = etcd(vec![cluster.url(0)]);
        let mut updates = pin!(etcd.follow(PREFIX.to_owned(), false));
        snapshot(&mut updates).await;
        let before = etcd.member_status(PATIENCE).await.unwrap();
        cluster.kill(1);
        cluster.kill(2);
        unavailable(etcd.commit(put(KEY, "without a quorum"), RENEWAL).await);
        let why = unavailable(next(&mut updates).await);
        assert!(why.contains("no leader"), "{why}");
        let why = unavailable(etcd.commit(put(KEY, "without a leader"), PATIENCE).await);
        assert!(why.contains("no raft leader"), "it says so at once: {why}");
        let after = etcd.member_status(PATIENCE).await.unwrap();
        assert_eq!(after.member_id, before.member_id);
        assert!(!after.is_leader, "check-quorum has made it step down");

        cluster.restart(1);
        eventually("a commit", async || etcd.commit(put(KEY, "healed"), RENEWAL).await).await;
        eventually("a leader who says so", async || {
            let other = cluster.handle(1).member_status(RENEWAL).await?;
            let own = etcd.member_status(RENEWAL).await?;
            if own.is_leader || other.is_leader {
                Ok(())
            } else {
                Err(StoreError::Unavailable("none leads".to_owned()))
            }
        })
        .await;
    });
}

#[test]
fn a_restarted_member_is_used_again() {
    run(async {
        let mut cluster = Cluster::start(1).await;
        let etcd = cluster.handle(0);
        let before = etcd.commit(put(KEY, "before"), PATIENCE).await.unwrap();
        cluster.kill(0);
        unavailable(etcd.commit(put(KEY, "while it is down"), RENEWAL).await);
        cluster.restart(0);
        let after =
            eventually("a commit", async || etcd.commit(put(KEY, "after"), RENEWAL).await).await;
        assert_eq!(after.header.cluster_id, before.header.cluster_id);
        assert!(after.header.revision > before.header.revision);
    });
}

#[test]
fn without_a_local_endpoint_nobody_is_asked_for_the_status() {
    run(async {
        let endpoints = vec!["http://127.0.0.1:1".to_owned()];
        let settings = EtcdSettings { endpoints, local: None, tls: Default::default(), user: None };
        let answer = Etcd::new(&settings).unwrap().member_status(RENEWAL).await;
        assert!(matches!(answer, Err(StoreError::Refused(_))), "{answer:?}");
    });
}
