//! Rule 10: what goes on while etcd is away, what costs the addresses all the same, and why each of its
//! clauses is there.

use turnip_core::Mutant;

use super::Scenario;
use super::interleavings::{meddle, ranked};
use crate::plan::{Change, Fault, Mishap, Plan, PolicyParams, TxnKind};
use crate::time::{MS, S};

fn scenario(
    name: &'static str,
    story: &'static str,
    mutants: &'static [Mutant],
    gap_max: u64,
    plan: fn() -> Plan,
) -> Scenario {
    Scenario::plan(name, story, mutants, gap_max, plan)
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    let mut all = of_expiries();
    all.extend(of_acknowledgements());
    all.extend(of_lists());
    all.extend(of_names());
    all
}

/// Rule 10.2, and what a late expiry meets.
fn of_expiries() -> Vec<Scenario> {
    vec![
        scenario(
            "expiry-of-an-earlier-process",
            "h2's daemon is killed when its expiry of h1 is on its way; the next one acknowledges h1 when that lands",
            &[Mutant::ExpiryOutlivesProcess],
            20 * S,
            || expiry_of_an_earlier_process(false),
        ),
        scenario(
            "acknowledged-before-the-own-write",
            "the same, and no write of the next one gets through before",
            &[Mutant::AcknowledgeBeforeWrite],
            20 * S,
            || expiry_of_an_earlier_process(true),
        ),
        scenario(
            "expired-without-an-answer",
            "h2's expiry of h1 lands, and it does not learn that; h3, which is not listed, has the address then",
            &[Mutant::AcknowledgedWhileExpiring, Mutant::BarEndsWithOwnWrite],
            20 * S,
            expired_without_an_answer,
        ),
        scenario(
            "expired-by-an-earlier-process",
            "the same, and the one whose expiry it was is killed: the next one's view is from before that landed",
            &[Mutant::AcknowledgeByOldView],
            20 * S,
            expired_by_an_earlier_process,
        ),
    ]
}

/// Rules 10.4, 10.5 and 10.10.
fn of_acknowledgements() -> Vec<Scenario> {
    vec![
        scenario(
            "late-acknowledgements",
            "what h2 acknowledges takes 2.4 s to h1, which does not reach etcd and is not heard any more",
            &[Mutant::AcknowledgementOfAny, Mutant::ConsentFromAcknowledgement],
            20 * S,
            late_acknowledgements,
        ),
        scenario(
            "acknowledgements-of-an-earlier-process",
            "what h2 acknowledged of h1's earlier process comes when the next one has counted as far",
            &[Mutant::AcknowledgementOfAnyProcess],
            20 * S,
            acknowledgements_of_an_earlier_process,
        ),
    ]
}

/// Rules 10.5 and 10.7.
fn of_lists() -> Vec<Scenario> {
    vec![
        scenario(
            "listed-without-an-answer",
            "h1's write that lists h3 lands, and it does not learn that; h3 does not hear it",
            &[Mutant::UnknownListIgnored],
            20 * S,
            || listed_without_an_answer(true),
        ),
        scenario(
            "no-list-without-an-answer",
            "h3 comes, which does not speak rule 10; h1's write without a list lands, and it does not learn that",
            &[Mutant::ExtendWithoutWitnesses],
            20 * S,
            || listed_without_an_answer(false),
        ),
        scenario(
            "dropped-before-it-is-committed",
            "h3 goes and comes back; h1's write that does not list it is lost",
            &[Mutant::ListBeforeCommit],
            20 * S,
            dropped_before_commit,
        ),
        scenario(
            "too-long-without-etcd",
            "h1 does not reach etcd for longer than a host waits that is not listed",
            &[Mutant::WithoutStoreForEver],
            20 * S,
            too_long_without_etcd,
        ),
    ]
}

/// Rules 10.2, 10.4 and 10.8: two machines of one name.
fn of_names() -> Vec<Scenario> {
    vec![
        scenario(
            "name-taken-over",
            "interleaving 21: h2 has acknowledged h1 and dies; another machine that has long waited for its name takes it over",
            &[Mutant::SilentFromBeforeSession],
            20 * S,
            || name_taken_over(true),
        ),
        scenario(
            "acknowledged-by-the-late",
            "h2's lease is over, and another machine has its name; h2 is alive and hears h1",
            &[Mutant::AcknowledgeWhenLate],
            20 * S,
            || name_taken_over(false),
        ),
        scenario(
            "namesake",
            "h2 does not reach etcd, and goes on by consent; another machine waits for its name",
            &[Mutant::NamesakeExpires],
            0,
            namesake,
        ),
    ]
}

/// Three hosts that hear each other, and one VIP that wants h1, else h2, else h3.
fn heard() -> Plan {
    let mut plan = ranked();
    plan.params.heartbeats.fill(true);
    plan
}

fn priorities(plan: &mut Plan, priorities: [u32; 3]) {
    let priorities = priorities.to_vec();
    plan.params.vips[0].policy = PolicyParams::Priority { priorities, preempt: true };
}

/// The same without h3.
fn two() -> Plan {
    let mut plan = heard();
    plan.params.hosts = 2;
    plan
}

/// h3 is away when h1 is cut off, and so is not listed when it comes back.
fn with_host_2_unlisted() -> Plan {
    let mut plan = heard();
    plan.fault(6_000, 2_500, Fault::Restart { host: 2 });
    plan.fault(8_000, 22_000, Fault::CutStore { host: 0 });
    plan.lasting(50 * S);
    plan
}

fn expiry_of_an_earlier_process(writes_are_lost: bool) -> Plan {
    let mut plan = two();
    plan.fault(8_000, 30_000, Fault::CutStore { host: 0 });
    plan.fault(8_100, 3_200, Fault::Freeze { host: 0 });
    plan.fault(8_100, 5_000, meddle(1, TxnKind::Expire, 1, Mishap::DelayRequest(2_500 * MS)));
    plan.fault(11_300, 50, Fault::Kill { host: 1 });
    if writes_are_lost {
        plan.fault(11_300, 5_000, meddle(1, TxnKind::Renew, 14, Mishap::LoseRequest));
    }
    plan.lasting(50 * S);
    plan
}

/// h1 rests until h2 expires it, and h3 is the first to have the address then.
fn expired_while_resting() -> Plan {
    let mut plan = with_host_2_unlisted();
    priorities(&mut plan, [100, 0, 50]);
    plan.fault(8_200, 3_100, Fault::Freeze { host: 0 });
    plan
}

fn expired_without_an_answer() -> Plan {
    let mut plan = expired_while_resting();
    plan.fault(8_200, 10_000, meddle(1, TxnKind::Expire, 20, Mishap::LoseAnswer));
    plan.fault(10_900, 10_000, Fault::WatchLag { host: 1, by: 4 * S });
    plan
}

fn expired_by_an_earlier_process() -> Plan {
    let mut plan = expired_while_resting();
    plan.fault(8_200, 10_000, meddle(1, TxnKind::Expire, 1, Mishap::DelayRequest(600 * MS)));
    plan.fault(11_100, 150, Fault::Kill { host: 1 });
    plan.fault(11_100, 10_000, meddle(1, TxnKind::Renew, 4, Mishap::DelayRequest(450 * MS)));
    plan.fault(11_350, 10_000, Fault::WatchLag { host: 1, by: 4 * S });
    plan
}

/// Members on machines of their own, so that what is slow between hosts is what they tell each other.
fn two_apart() -> Plan {
    let mut plan = two();
    plan.params.members_apart();
    plan.lasting(50 * S);
    plan
}

fn late_acknowledgements() -> Plan {
    let mut plan = two_apart();
    plan.fault(7_000, 20_000, Fault::Slow { from: 1, to: 0, by: 2_400 * MS });
    plan.fault(11_000, 22_000, Fault::CutStore { host: 0 });
    plan.fault(11_500, 20_000, Fault::CutPeers { from: 0, to: 1 });
    plan
}

fn acknowledgements_of_an_earlier_process() -> Plan {
    let mut plan = two_apart();
    plan.fault(7_900, 20_000, Fault::Slow { from: 1, to: 0, by: 1_500 * MS });
    plan.fault(8_000, 50, Fault::Kill { host: 0 });
    plan.fault(9_600, 50, Fault::Kill { host: 0 });
    plan.fault(9_610, 20_000, Fault::CutPeers { from: 0, to: 1 });
    plan.fault(9_800, 20_000, Fault::CutStore { host: 0 });
    plan
}

fn listed_without_an_answer(speaks: bool) -> Plan {
    let mut plan = heard();
    plan.params.heartbeats[2] = speaks;
    plan.fault(2, 8_500, Fault::Kill { host: 2 });
    plan.fault(8_300, 30_000, meddle(0, TxnKind::Renew, 100, Mishap::LoseAnswer));
    plan.fault(8_560, 30_000, Fault::WatchLag { host: 0, by: 60 * S });
    plan.fault(8_560, 20_000, Fault::CutPeers { from: 0, to: 2 });
    plan.fault(9_300, 20_000, Fault::CutStore { host: 0 });
    plan.lasting(50 * S);
    plan
}

fn dropped_before_commit() -> Plan {
    let mut plan = heard();
    plan.fault(7_990, 20_000, meddle(0, TxnKind::Renew, 400, Mishap::LoseRequest));
    plan.fault(8_000, 1_000, Fault::Restart { host: 2 });
    plan.fault(8_600, 20_000, Fault::WatchLag { host: 0, by: 60 * S });
    plan.fault(8_600, 20_000, Fault::CutPeers { from: 0, to: 2 });
    plan.lasting(50 * S);
    plan
}

fn too_long_without_etcd() -> Plan {
    let mut plan = with_host_2_unlisted();
    plan.params.without_store_ms = 8_000;
    plan
}

/// h3 has h2's name, and waits for it while h2 does not write its session any more; some time
/// later h1 is cut off from etcd, and lists that name.
fn name_taken_over(dies: bool) -> Plan {
    let mut plan = heard();
    plan.params.without_store_ms = 8_000;
    plan.reconfigure(0, 2, Change::NameOf { host: 1 });
    plan.fault(2, 3_998, Fault::Kill { host: 2 });
    plan.fault(7_500, 30_000, meddle(1, TxnKind::Renew, 400, Mishap::LoseRequest));
    plan.fault(12_000, 30_000, Fault::WatchLag { host: 1, by: 60 * S });
    plan.fault(11_800, 25_000, Fault::CutStore { host: 0 });
    if dies {
        plan.fault(12_600, 20_000, Fault::PowerOff { host: 1 });
    }
    plan.lasting(50 * S);
    plan
}

fn namesake() -> Plan {
    let mut plan = heard();
    priorities(&mut plan, [50, 100, 0]);
    plan.reconfigure(0, 2, Change::NameOf { host: 1 });
    plan.fault(2, 8_100, Fault::Kill { host: 2 });
    plan.fault(8_000, 15_000, Fault::CutStore { host: 1 });
    plan
}
