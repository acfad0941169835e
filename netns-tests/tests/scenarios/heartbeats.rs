//! Hosts that hear each other need no store to go on (rule 10).

use std::net::UdpSocket;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use turnip_netns_tests::cluster::{Cluster, Outcome};
use turnip_netns_tests::daemon::{HEARTBEAT_PORT, OWN, TurnipSettings};
use turnip_netns_tests::etcd::{self, EtcdSettings};
use turnip_netns_tests::plan::{EtcdPlan, Plan};

use crate::{a_lease_passes, with_settings};

/// Several leases: without heartbeats every host would have withdrawn long before.
pub const LONG: Duration = Duration::from_secs(12);

const DONE: Option<i32> = Some(0);
const REFUSED: Option<i32> = Some(1);
const NO_ANSWER: Option<i32> = Some(2);

/// A cluster whose hosts hear each other, and the owner.
pub fn that_hear_each_other(plan: Plan) -> Result<(Cluster, usize)> {
    let cluster = Cluster::start(plan)?;
    let owner = cluster.wait_for_owner()?;
    cluster.wait_until_sessions_list_all_others()?;
    // A heartbeat of each has been acknowledged by all by then.
    a_lease_passes();
    Ok((cluster, owner))
}

/// How many others the session of each host lists.
pub fn listed(cluster: &Cluster) -> Result<Vec<Option<usize>>> {
    (0..cluster.size()).map(|host| cluster.listed_by(host)).collect()
}

/// etcd is still for so long.
pub fn freeze_etcd_for(cluster: &Cluster, duration: Duration) -> Result<Instant> {
    let from = cluster.note(format!("all of etcd's members are frozen for {duration:?}"));
    cluster.freeze_etcd()?;
    sleep(duration);
    cluster.note("they go on");
    cluster.thaw_etcd()?;
    Ok(from)
}

/// A full etcd refuses writes, and answers everything else.
#[test]
fn an_etcd_whose_quota_is_filled_costs_nothing() -> Result<()> {
    let arguments = vec!["--quota-backend-bytes=4194304".into()];
    let settings = EtcdSettings { arguments, ..EtcdSettings::default() };
    let plan = Plan { etcd: EtcdPlan::OnHosts(settings), ..Plan::default() };
    let (mut cluster, owner) = that_hear_each_other(plan)?;
    let from = cluster.note("etcd is filled until it refuses writes");
    cluster.wait("it refuses writes", || {
        let refused = cluster.members[0].write_kib(512);
        Ok(refused.is_err_and(|error| format!("{error:#}").contains("space exceeded")))
    })?;
    sleep(LONG);
    ensure!(cluster.logs().contains("held by consent of all hosts"), "{}", cluster.logs());
    cluster.check(from, Outcome::stayed_on(owner))?;
    cluster.note("there is room again, and the alarm is off");
    cluster.members[0].compact()?;
    cluster.members.iter().try_for_each(etcd::Member::defragment)?;
    cluster.members[0].end_alarm()?;
    a_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}

/// A connection that is there outlives the certificates that it was made with, so etcd is restarted too.
#[test]
fn certificates_of_etcd_that_expire_cost_nothing_until_they_are_renewed() -> Result<()> {
    const VALID_FOR: Duration = Duration::from_secs(5);
    let settings = EtcdSettings { secured: true, ..EtcdSettings::default() };
    let plan = Plan { etcd: EtcdPlan::OnHosts(settings), ..Plan::default() };
    let (mut cluster, owner) = that_hear_each_other(plan)?;
    let from = cluster.note(format!("the certificates are some that expire in {VALID_FOR:?}"));
    cluster.renew_certificates(Some(VALID_FOR))?;
    cluster.members.iter().try_for_each(|member| member.version().map(drop))?;
    sleep(VALID_FOR + Duration::from_secs(1));
    cluster.note("they have expired, and etcd is restarted");
    cluster.stop_etcd()?;
    cluster.start_etcd()?;
    sleep(LONG);
    assert_says(cluster.turnip_says(&["status"]), NO_ANSWER, &["certificate", "xpired"]);
    for member in &cluster.members {
        ensure!(member.version().is_err(), "etcd {} lets somebody in", member.name());
    }
    ensure!(cluster.logs().contains("held by consent of all hosts"), "{}", cluster.logs());
    cluster.check(from, Outcome::stayed_on(owner))?;
    cluster.note("the certificates are renewed");
    cluster.renew_certificates(None)?;
    etcd::wait_for_leader(&cluster.members)?;
    let revision = cluster.members[0].revision()?;
    a_lease_passes();
    a_lease_passes();
    ensure!(cluster.members[0].revision()? > revision, "nobody renews: {}", cluster.logs());
    assert_says(cluster.turnip_says(&["status"]), DONE, &["api"]);
    cluster.conclude(from, Outcome::stayed_on(owner))
}

/// Fails unless what turnip said has these words, and it ended so.
#[track_caller]
fn assert_says(said: Result<(Option<i32>, String)>, code: Option<i32>, words: &[&str]) {
    let (ended, said) = said.expect("turnip runs");
    assert_eq!(ended, code, "{said}");
    for word in words {
        assert!(said.contains(word), "{said}\nlacks {word:?}");
    }
}

#[test]
fn an_operator_is_told_who_hears_whom_and_what_holds_while_etcd_is_away() -> Result<()> {
    let (mut cluster, owner) = that_hear_each_other(Plan::default())?;
    let next = (owner + 1) % 3;
    let (owner_name, next_name) =
        (cluster.host(owner).name.clone(), cluster.host(next).name.clone());
    let replies = format!("heartbeats {next_name}");
    assert_says(
        cluster.turnip_on(owner, &["check"]),
        DONE,
        &[&replies, "replies at", "all hosts take part"],
    );
    let says = |words| assert_says(cluster.turnip_on(owner, &["status"]), DONE, words);
    says(&["at revision", "and holds api", &next_name, "ok"]);

    let from = cluster.note("all of etcd's members are frozen");
    cluster.freeze_etcd()?;
    a_lease_passes();
    let words = ["held by consent of all hosts", "Do not restart turnip now", &next_name];
    assert_says(cluster.turnip_on(owner, &["status"]), NO_ANSWER, &words);
    let words = ["\"by_consent\": true", "\"etcd_away_ms\": "];
    assert_says(cluster.turnip_on(owner, &["status", "--json"]), NO_ANSWER, &words);
    cluster.thaw_etcd()?;
    a_lease_passes();

    cluster.note(format!("a firewall closes the port of heartbeats on {next_name}"));
    cluster.cut_heartbeats(next)?;
    a_lease_passes();
    let lacks = ["does not reply at", &*format!("receives none from {next_name}")];
    assert_says(cluster.turnip_on(owner, &["check"]), DONE, &lacks);
    assert_says(cluster.turnip_on(next, &["status"]), DONE, &[&owner_name, "lost"]);
    cluster.conclude(from, Outcome::stayed_on(owner))
}

/// Takes the UDP port of heartbeats on a host for another program.
fn take_port(cluster: &Cluster, host: usize, at: &str) -> Result<UdpSocket> {
    cluster.host(host).namespace().run(|| Ok(UdpSocket::bind(at)?))
}

/// Nobody has asked for the port by name: it is not worth an address.
#[test]
fn a_host_whose_port_another_program_has_runs_without_heartbeats_and_says_so() -> Result<()> {
    let mut cluster = Cluster::lay_out(Plan::default())?;
    let order = cluster.plan().in_order_of_start();
    // The first of them gets the address.
    let deaf = order[1];
    let other_program = take_port(&cluster, deaf, "0.0.0.0:7746")?;
    for host in order {
        cluster.start_daemon(host)?;
    }
    let owner = cluster.wait_until_settled()?;
    let from = cluster.note("all run, one of them without heartbeats");
    let said = cluster.daemon(deaf)?.log_text();
    for words in ["cannot receive heartbeats at UDP port 7746", "in use", "peers.listen"] {
        ensure!(said.contains(words), "{said}\nlacks {words:?}");
    }
    a_lease_passes();
    assert_eq!(listed(&cluster)?, [Some(0); 3]);
    let words = ["the daemon that runs here does not take part; its log says why"];
    assert_says(cluster.turnip_on(deaf, &["check"]), DONE, &words);
    let words = [&*format!("{} does not take part", cluster.host(deaf).name)];
    assert_says(cluster.turnip_on(owner, &["check"]), DONE, &words);
    cluster.note("the port is free, and the daemon is restarted");
    drop(other_program);
    cluster.restart_daemon(deaf)?;
    cluster.wait_until_sessions_list_all_others()?;
    a_lease_passes();
    freeze_etcd_for(&cluster, LONG)?;
    a_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}

#[test]
fn hosts_hear_each_other_at_a_port_that_is_configured_and_one_that_cannot_have_it_runs_without()
-> Result<()> {
    let settings = TurnipSettings { listen: Some("[::]:7800".into()), ..TurnipSettings::default() };
    let mut cluster = Cluster::start(with_settings(settings))?;
    let owner = cluster.wait_for_owner()?;
    let other = (owner + 1) % 3;
    let from =
        cluster.note("the daemon of a bystander is restarted, whose port is taken meanwhile");
    cluster.stop_daemon(other)?;
    let other_program = take_port(&cluster, other, "0.0.0.0:7800")?;
    cluster.start_daemon(other)?;
    // Any user may have taken it, and nobody without privileges keeps turnip from running.
    let words = "cannot receive heartbeats at peers.listen = \"[::]:7800\"";
    let name = cluster.host(other).name.clone();
    cluster.wait("it runs, and says that it hears nobody", || {
        let said = cluster.logs();
        let has_session = !cluster.status()?["nodes"][&name]["session"].is_null();
        Ok(said.contains(words) && said.contains("in use") && has_session)
    })?;
    cluster.stop_daemon(other)?;
    cluster.note("the port is free, and the daemon is started");
    drop(other_program);
    cluster.start_daemon(other)?;
    cluster.wait_until_sessions_list_all_others()?;
    a_lease_passes();
    let replies = format!("replies at {}:7800", cluster.network().address(other));
    assert_says(cluster.turnip_on(owner, &["check"]), DONE, &[&replies, "all hosts take part"]);
    freeze_etcd_for(&cluster, LONG)?;
    a_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}

/// As behind a port that is forwarded.
#[test]
fn hosts_hear_each_other_at_the_address_that_is_written_be_it_not_where_they_listen() -> Result<()>
{
    const FORWARDS: &str = "add table ip forwards\n\
        add chain ip forwards prerouting { type nat hook prerouting priority -100; }\n\
        add rule ip forwards prerouting udp dport 7801 redirect to :7800\n";
    let (listen, address) = (Some("0.0.0.0:7800".into()), Some(format!("{OWN}:7801")));
    let plan = with_settings(TurnipSettings { listen, address, ..TurnipSettings::default() });
    let mut cluster = Cluster::lay_out(plan)?;
    for host in cluster.plan().in_order_of_start() {
        cluster.host(host).namespace().nft(FORWARDS)?;
        cluster.start_daemon(host)?;
    }
    let owner = cluster.wait_until_settled()?;
    cluster.wait_until_sessions_list_all_others()?;
    a_lease_passes();
    let other = cluster.network().address((owner + 1) % 3);
    let words = [&*format!("replies at {other}:7801"), "all hosts take part"];
    assert_says(cluster.turnip_on(owner, &["check"]), DONE, &words);
    let from = freeze_etcd_for(&cluster, LONG)?;
    a_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}

#[test]
fn an_address_at_which_nobody_is_costs_the_heartbeats_and_a_check_names_it() -> Result<()> {
    let address = Some("10.77.0.250".into());
    let settings = TurnipSettings { address, ..TurnipSettings::default() };
    let mut cluster = Cluster::start(with_settings(settings))?;
    let owner = cluster.wait_for_owner()?;
    let from = cluster.note("nobody hears anybody");
    a_lease_passes();
    let next = &cluster.host((owner + 1) % 3).name;
    let words = [
        &*format!("heartbeats {next}"),
        "does not reply at 10.77.0.250:7746",
        "look at peers.address there",
        "receives none from",
    ];
    assert_says(cluster.turnip_on(owner, &["check"]), DONE, &words);
    cluster.check(from, Outcome::stayed_on(owner))?;
    cluster.note("all of etcd's members are frozen");
    cluster.freeze_etcd()?;
    cluster.wait("nobody has the address", || cluster.nobody_has_it())?;
    let back = cluster.note("they go on");
    cluster.thaw_etcd()?;
    cluster.wait_for_owner()?;
    a_lease_passes();
    cluster.conclude(from, Outcome::failed_over().since(back))
}

#[test]
fn a_flood_on_the_port_of_heartbeats_costs_no_renewal() -> Result<()> {
    let (mut cluster, owner) = that_hear_each_other(Plan::default())?;
    let target = (cluster.network().address(owner), HEARTBEAT_PORT);
    let from = cluster.note("somebody floods the holder's port");
    let sent = cluster.host((owner + 1) % 3).namespace().run(|| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        let mut sent = 0;
        while from.elapsed() < LONG / 2 {
            sent += u32::from(socket.send_to(&[0x74; 160], target).is_ok());
        }
        Ok(sent)
    })?;
    ensure!(sent > 100_000, "no flood: {sent} datagrams");
    let said = cluster.daemon(owner)?.log_text();
    ensure!(!said.contains("renewal fails"), "{said}");
    a_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}

#[test]
fn after_the_key_was_rotated_twice_hosts_still_hear_each_other() -> Result<()> {
    let (mut cluster, owner) = that_hear_each_other(Plan::default())?;
    let from = cluster.note("the heartbeats' key is rotated twice");
    for _ in 0..2 {
        cluster.turnip(&["rotate-key"])?;
        a_lease_passes();
    }
    freeze_etcd_for(&cluster, Duration::from_secs(8))?;
    a_lease_passes();
    cluster.conclude(from, Outcome::stayed_on(owner))
}

#[test]
fn a_host_that_is_alive_is_not_forgotten() -> Result<()> {
    let (mut cluster, owner) = that_hear_each_other(Plan::default())?;
    let name = cluster.host(owner).name.clone();
    let from = cluster.note("an operator wants the holder forgotten");
    assert_says(cluster.turnip_says(&["forget", &name]), REFUSED, &["--it-is-off", "it owns api"]);
    let forget = ["forget", &*name, "--it-is-off"];
    assert_says(cluster.turnip_says(&forget), REFUSED, &["replies at", "Nothing was touched"]);
    cluster.cut_heartbeats(owner)?;
    assert_says(cluster.turnip_says(&forget), REFUSED, &["was renewed meanwhile"]);
    assert_says(cluster.turnip_says(&["forget", "h9"]), REFUSED, &["there is no node \"h9\""]);
    cluster.conclude(from, Outcome::stayed_on(owner))
}

#[test]
fn what_hosts_had_that_are_gone_for_good_is_taken_once_an_operator_forgets_them() -> Result<()> {
    let etcd = EtcdPlan::Apart(3, EtcdSettings::default());
    let (mut cluster, _) = that_hear_each_other(Plan { etcd, ..Plan::default() })?;
    cluster.note("h3 is stopped; the sessions of h1 and h2 list each other alone");
    cluster.stop_daemon(2)?;
    cluster.wait_until_session_lists(0, 1)?;
    cluster.wait_until_session_lists(1, 1)?;
    cluster.wait_for_owner()?;
    let from = cluster.note("h1 and h2 lose their power, and h3 is back");
    cluster.power_off(0)?;
    cluster.power_off(1)?;
    cluster.start_daemon(2)?;
    a_lease_passes();
    a_lease_passes();
    assert!(cluster.nobody_has_it()?, "h3 is not listed: {}", cluster.logs());
    let forgotten = cluster.note("both are forgotten");
    assert_says(cluster.turnip_says(&["forget", "h1", "--it-is-off"]), DONE, &["h1 is forgotten"]);
    assert_says(cluster.turnip_says(&["forget", "h2", "--it-is-off"]), DONE, &["h2 is forgotten"]);
    cluster.wait_for_owner_among(|host| host == 2)?;
    cluster.check(from, Outcome::gap_at_most(Duration::from_secs(60)).since(forgotten))?;
    Ok(())
}
