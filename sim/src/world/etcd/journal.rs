//! What is written down of etcd.

use turnip_core::{Op, Txn, TxnResponse};

use crate::check::history::Changes;
use crate::plan::words;
use crate::plan::{TxnKind, config};
use crate::record::{Mark, Naming, Tally};
use crate::world::env::Env;
use crate::world::ids::{HostId, MemberId};

/// A member won an election.
pub fn leads(member: MemberId, term: u64, env: &mut Env) {
    env.count(|tally| &mut tally.elections);
    env.record.mark(env.now(), Mark::Leads { member, term });
    env.trace(|_| format!("member {member} leads term {term}"));
}

/// A leader learnt that it leads no more, or crashed.
pub fn deposed(member: MemberId, env: &mut Env) {
    env.record.mark(env.now(), Mark::Deposed { member });
    env.trace(|_| format!("member {member} leads no more"));
}

/// A transaction was carried out.
pub fn committed(
    host: HostId,
    (txn, changes): (&Txn, &Changes),
    response: &TxnResponse,
    env: &mut Env,
) {
    named(txn, env);
    let Some(kind) = env.kind(host, txn) else { return };
    if response.succeeded {
        let counter: fn(&mut Tally) -> &mut u64 = match kind {
            TxnKind::Renew => |tally| &mut tally.renewals,
            TxnKind::Open => |tally| &mut tally.sessions_opened,
            TxnKind::Close => |tally| &mut tally.sessions_closed,
            TxnKind::Expire => |tally| &mut tally.sessions_expired,
            TxnKind::Claim => |tally| &mut tally.claims,
            TxnKind::HandOver => |tally| &mut tally.handovers,
            TxnKind::Publish => |tally| &mut tally.publications,
        };
        env.count(counter);
        let now = env.now();
        let history = &mut env.record.history;
        history.committed(now, changes);
        env.record.tally.transitions_told = history.told;
    } else {
        env.count(|tally| &mut tally.compares_failed);
    }
    let (revision, succeeded) = (response.header.revision, response.succeeded);
    env.trace(|params| {
        let ops: Vec<String> = txn.success.iter().map(brief).collect();
        format!(
            "etcd: {} of {h}, revision {revision}, succeeded {succeeded}: {}",
            words::kind_of(kind),
            ops.join(", "),
            h = params.host(host)
        )
    });
}

/// The keys that VIPs follow are another program's: only here it shows when they are written.
fn named(txn: &Txn, env: &mut Env) {
    let plan = std::rc::Rc::clone(&env.plan);
    let (now, vips) = (env.now(), 0..plan.params.vips.len());
    let followed: Vec<usize> = vips.filter(|vip| plan.params.follows(*vip)).collect();
    for op in &txn.success {
        let (key, value) = match op {
            Op::Put { key, value } => (key, Some(value)),
            Op::Delete { key } => (key, None),
            Op::Get { .. } => continue,
        };
        let is_its = |vip: &&usize| config::followed_key(**vip) == *key;
        let Some(&vip) = followed.iter().find(is_its) else { continue };
        let is_it =
            |host: &usize| value.is_some_and(|it| *it == config::name_there(*host).as_bytes());
        let host = (0..plan.params.hosts).find(is_it);
        env.record.named.push(Naming { at: now, vip, host });
    }
}

fn brief(op: &Op) -> String {
    match op {
        Op::Put { key, value } => format!("{key} = {}", String::from_utf8_lossy(value)),
        Op::Delete { key } => format!("{key} deleted"),
        Op::Get { key } => format!("{key}?"),
    }
}
