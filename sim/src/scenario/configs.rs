//! Interleavings 14 to 17, and what else goes wrong where hosts are configured in different ways or
//! cannot do what they are configured to.

use turnip_core::Mutant;

use super::Scenario;
use super::interleavings::{meddle, ranked};
use crate::plan::{Change, Fault, Mishap, Plan, Step, TxnKind};
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
    let mut all = of_names();
    all.extend(of_hosts());
    all
}

fn of_names() -> Vec<Scenario> {
    vec![
        scenario(
            "late-freeing-after-rename",
            "interleaving 14: h1's VIP is renamed and holds the address; its next process has the old file again when what frees the old name lands late",
            &[Mutant::KeepRenamed, Mutant::FreeUncompared],
            20 * S,
            late_freeing_after_rename,
        ),
        scenario(
            "rollback-raised",
            "interleaving 15: etcd is restored from a backup in which h1 has the VIP, while h2, which has it, is cut off; with raised revisions under the same cluster id, as by etcdutl --bump-revision or by writes after the restore",
            &[Mutant::ResumeAfterRollback],
            20 * S,
            rollback_raised,
        ),
        scenario(
            "rollback-to-nothing",
            "interleaving 15: the same, and nothing is left of what etcd held",
            &[Mutant::ResumeAfterRollback],
            20 * S,
            rollback_to_nothing,
        ),
        scenario(
            "refusing-favourite",
            "interleaving 16: the preferred host's kernel never takes the address: who has it keeps it",
            &[Mutant::FailureForgotten],
            200 * MS,
            refusing_favourite,
        ),
        scenario(
            "drained-first-publisher",
            "interleaving 17: h1, which first published the address, is drained; h2 has it under another name",
            &[Mutant::NeverYields, Mutant::ConflictIgnored],
            4 * S,
            drained_first_publisher,
        ),
        scenario(
            "drained-with-a-stuck-removal",
            "interleaving 17: the same, while h1's kernel takes half a second to remove the address",
            &[Mutant::YieldsWhileHeld],
            4 * S,
            drained_with_a_stuck_removal,
        ),
        scenario(
            "address-moved-with-a-stuck-removal",
            "h1 starts with the address in another VIP, and its kernel takes long to remove it; h2 has it under a name of its own",
            &[Mutant::PublishBeforeRemoval],
            20 * S,
            moved_with_a_stuck_removal,
        ),
        scenario(
            "freed-while-it-is-here",
            "interleaving 20: h1 starts with the address in another VIP that it owns, and its kernel takes long to remove it; h2 has the old names",
            &[Mutant::LeftoversOwned],
            20 * S,
            freed_while_it_is_here,
        ),
        scenario(
            "late-publication",
            "interleaving 19: what a process of h1 published without the VIP lands when the next one has it again; h2 has the address under another name",
            &[Mutant::InheritedRecordTrusted],
            20 * S,
            late_publication,
        ),
        scenario(
            "reopened-session",
            "h1's session expires while its watch lags; when it opens another, h2 has come to have the address under another name",
            &[Mutant::ActiveOutlivesSession],
            20 * S,
            reopened_session,
        ),
    ]
}

fn of_hosts() -> Vec<Scenario> {
    vec![
        scenario(
            "outage-of-a-lease",
            "nobody's renewals get through for a lease, and h1's are the last to do so again: it is given the time",
            &[Mutant::NoGrace],
            20 * S,
            outage_of_a_lease,
        )
        .with_holder(11_900 * MS, 0),
        scenario(
            "interface-down",
            "h1's interface goes down: it passes the VIP on",
            &[Mutant::SitsOnVip],
            50 * MS,
            interface_down,
        ),
        scenario(
            "one-of-two-interfaces-down",
            "the interface of one of the VIP's two addresses goes down on h1: it passes both on",
            &[Mutant::OneLinkSuffices],
            50 * MS,
            one_of_two_interfaces_down,
        )
        .with_holder(10 * S, 1),
    ]
}

/// The name that the first VIP can go by besides its own, where it is the only one.
const OTHER_NAME: usize = 1;

fn late_freeing_after_rename() -> Plan {
    let mut plan = ranked();
    let renamed = Fault::Reconfigure { host: 0, change: Change::Rename { vip: 0, to: OTHER_NAME } };
    plan.fault(8_000, 600, renamed);
    plan.fault(8_000, 5_000, meddle(0, TxnKind::HandOver, 1, Mishap::DelayRequest(1_300 * MS)));
    plan.fault(8_010, 20, Fault::Kill { host: 0 });
    // The others do not have the address, until h2 does again under the old name.
    plan.fault(0, 8_200, Fault::Reconfigure { host: 1, change: Change::Remove { vip: 0 } });
    plan.reconfigure(0, 2, Change::Remove { vip: 0 });
    plan.fault(8_210, 20, Fault::Restart { host: 1 });
    plan.fault(8_610, 20, Fault::Kill { host: 0 });
    // And the news that the name was given free is late here.
    plan.fault(8_700, 2_000, Fault::WatchLag { host: 0, by: 700 * MS });
    plan.lasting(30 * S);
    plan
}

fn rollback_raised() -> Plan {
    let mut plan = ranked();
    plan.fault(6_000, 1, Fault::BackUpStore);
    plan.fault(8_000, 40_000, Fault::Drain { host: 0 });
    plan.fault(19_900, 10_000, Fault::CutStore { host: 1 });
    plan.fault(20_000, 300, Fault::RestoreStore { other_cluster: false, raise: 1_000_000 });
    plan.lasting(60 * S);
    plan
}

fn rollback_to_nothing() -> Plan {
    let mut plan = rollback_raised();
    plan.steps.retain(|step| step.fault != Fault::BackUpStore);
    plan
}

fn refusing_favourite() -> Plan {
    let mut plan = ranked();
    plan.steps.push(Step { at: 0, lasts: None, fault: Fault::RefuseAddress { host: 0, vip: 0 } });
    plan.lasting(200 * S);
    plan
}

/// Two hosts; h2 has the address under another name since 6.5 s.
fn two_names() -> Plan {
    let mut plan = ranked();
    plan.params.hosts = 2;
    let vips = plan.params.vips.len();
    plan.reconfigure(6_000, 1, Change::Rename { vip: 0, to: vips });
    plan.fault(6_001, 500, Fault::Restart { host: 1 });
    plan
}

fn drained_first_publisher() -> Plan {
    let mut plan = two_names();
    plan.fault(12_000, 60_000, Fault::Drain { host: 0 });
    plan.lasting(60 * S);
    plan
}

fn drained_with_a_stuck_removal() -> Plan {
    let mut plan = two_names();
    plan.fault(11_900, 5_000, Fault::StuckNetlink { host: 0, by: 500 * MS });
    plan.fault(12_000, 60_000, Fault::Drain { host: 0 });
    plan.lasting(60 * S);
    plan
}

fn moved_with_a_stuck_removal() -> Plan {
    let mut plan = freed_while_it_is_here();
    plan.reconfigure(6_000, 1, Change::Rename { vip: 0, to: 2 });
    plan.fault(6_001, 500, Fault::Restart { host: 1 });
    plan
}

fn freed_while_it_is_here() -> Plan {
    let mut plan = ranked();
    plan.params.hosts = 2;
    let second = plan.params.vips[0].clone();
    plan.params.vips.push(second);
    plan.reconfigure(8_000, 0, Change::MoveAddress { from: 0, to: 1 });
    plan.fault(8_001, 20, Fault::Kill { host: 0 });
    plan.fault(7_990, 3_000, Fault::StuckNetlink { host: 0, by: 400 * MS });
    plan.lasting(40 * S);
    plan
}

fn late_publication() -> Plan {
    let mut plan = two_names();
    plan.fault(8_000, 300, Fault::Reconfigure { host: 0, change: Change::Remove { vip: 0 } });
    plan.fault(8_000, 2_000, meddle(0, TxnKind::Publish, 1, Mishap::DelayRequest(600 * MS)));
    plan.fault(8_000, 2_000, meddle(0, TxnKind::HandOver, 1, Mishap::LoseRequest));
    plan.fault(8_010, 20, Fault::Kill { host: 0 });
    plan.fault(8_310, 20, Fault::Kill { host: 0 });
    plan.fault(8_450, 2_000, Fault::WatchLag { host: 0, by: 700 * MS });
    plan.lasting(40 * S);
    plan
}

fn reopened_session() -> Plan {
    let mut plan = ranked();
    plan.params.hosts = 2;
    plan.fault(7_000, 10_000, Fault::WatchLag { host: 0, by: 900 * MS });
    plan.fault(8_000, 1_000, meddle(0, TxnKind::Renew, 22, Mishap::LoseRequest));
    plan.reconfigure(8_000, 1, Change::Rename { vip: 0, to: OTHER_NAME });
    plan.fault(11_350, 40, Fault::Restart { host: 1 });
    plan.lasting(40 * S);
    plan
}

fn outage_of_a_lease() -> Plan {
    let mut plan = ranked();
    for host in 0..3 {
        let count = if host == 0 { 22 } else { 21 };
        plan.fault(8_000, 1_000, meddle(host, TxnKind::Renew, count, Mishap::LoseRequest));
    }
    // Were it expired, it could not have the VIP back at once.
    plan.fault(8_000, 1_000, meddle(0, TxnKind::Open, 1, Mishap::LoseRequest));
    plan
}

fn interface_down() -> Plan {
    let mut plan = ranked();
    plan.fault(8_000, 10_000, Fault::LinkDown { host: 0, interface: 0 });
    plan
}

fn one_of_two_interfaces_down() -> Plan {
    let mut plan = ranked();
    plan.params.interfaces = 2;
    (plan.params.vips[0].addresses, plan.params.vips[0].interfaces) = (2, [0, 1]);
    plan.fault(8_000, 10_000, Fault::LinkDown { host: 0, interface: 1 });
    plan
}
