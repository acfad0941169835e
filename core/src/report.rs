//! What an operator is told: one report per transition, in words.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::check::CheckState;
use crate::hook::{Hook, HookEnd};
use crate::kernel::{Assignment, Mac};
use crate::name::{CheckName, NodeName, Revision, SessionId, VipName};
use crate::silenced::Silenced;
use crate::transition::{Arrival, Departure};

/// How much a report matters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Level {
    /// Part of normal operation.
    Info,
    /// Somebody should look.
    Warn,
    /// Something does not work until somebody looks.
    Error,
}

/// A transition that an operator wants to see.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Report {
    /// A session is established.
    SessionOpened {
        /// The new session.
        session: SessionId,
    },
    /// The session of an earlier process goes on.
    SessionResumed {
        /// The session.
        session: SessionId,
    },
    /// The session is over; everything that it held must be taken away.
    SessionLost {
        /// The session.
        session: SessionId,
        /// Why.
        why: String,
    },
    /// Renewals fail.
    RenewalsFail {
        /// The last error.
        why: String,
        /// How long the addresses may still be held.
        left: Duration,
    },
    /// No renewal is sent any more, for no news come from etcd (rule 9.3).
    RenewingStopped {
        /// How long the addresses may still be held.
        left: Duration,
    },
    /// News come again: renewals are sent.
    RenewingGoesOn,
    /// etcd has answered a renewal after others had failed, and none is sent any more for want of news.
    RenewalAnswered,
    /// Renewals succeed again, and are sent.
    RenewalsSucceed,
    /// etcd does not answer, and addresses are held because all other hosts acknowledge (rule 10).
    HeldByConsent,
    /// Somebody does not acknowledge any more, while etcd does not answer.
    ConsentMissing {
        /// Who.
        nodes: Vec<NodeName>,
        /// How long the addresses may still be held.
        left: Duration,
    },
    /// No heartbeats of other nodes come in, and there should be some.
    PathsLost {
        /// The other nodes.
        nodes: Vec<NodeName>,
    },
    /// Heartbeats of other nodes come in again.
    PathsFound {
        /// The other nodes.
        nodes: Vec<NodeName>,
    },
    /// The watch fell silent or broke: what is known of etcd may be stale.
    WatchStale {
        /// Why.
        why: String,
    },
    /// The view is complete again.
    WatchRestored,
    /// Another node's session ran out and was deleted by this node.
    Expired {
        /// The other node.
        node: NodeName,
        /// How long nothing was heard of it; none where another host had this node's own name.
        silence: Option<Silenced>,
        /// The VIPs that this node took with that. Others may take others.
        vips: Vec<VipName>,
    },
    /// Another node's session has ended otherwise.
    SessionEnded {
        /// The other node.
        node: NodeName,
        /// How long nothing was heard of it.
        silence: Silenced,
    },
    /// An address is being put on its interface.
    Assuming {
        /// The VIP.
        vip: VipName,
        /// The address.
        assignment: Assignment,
        /// The fencing token of the ownership.
        token: Revision,
    },
    /// An address is on its interface.
    Assumed {
        /// The VIP.
        vip: VipName,
        /// The address.
        assignment: Assignment,
        /// How the VIP came here.
        arrival: Arrival,
        /// How long nobody had held it, as far as this node knows: since the last sign of life of a holder
        /// that fell silent, or since it was handed over. None when nobody is known to have held it, or
        /// when it was here all the time.
        gap: Option<Duration>,
    },
    /// An address that an earlier process put there stays.
    Kept {
        /// The VIP.
        vip: VipName,
        /// The address.
        assignment: Assignment,
    },
    /// An address is being taken away.
    Forfeiting {
        /// The VIP.
        vip: VipName,
        /// The address.
        assignment: Assignment,
        /// Why.
        why: String,
        /// The same for programs.
        departure: Departure,
    },
    /// An address is gone.
    Forfeited {
        /// The VIP.
        vip: VipName,
        /// The address.
        assignment: Assignment,
    },
    /// A VIP was handed over to another node, or released.
    HandedOver {
        /// The VIP.
        vip: VipName,
        /// The successor; none when the VIP has no owner now.
        to: Option<NodeName>,
    },
    /// Somebody else had changed an address; it is being repaired.
    Repairing {
        /// The VIP.
        vip: VipName,
        /// What was wrong.
        what: String,
        /// How often that has happened since the start.
        count: u64,
    },
    /// Addresses do not stand as they should beside the host's own, and are put there anew.
    Misplaced {
        /// The VIP.
        vip: VipName,
        /// Its addresses and their interfaces.
        addresses: String,
    },
    /// The kernel did not do what it was asked to.
    KernelFails {
        /// The VIP.
        vip: VipName,
        /// What went wrong.
        why: String,
    },
    /// A VIP cannot be held here.
    Blocked {
        /// The VIP.
        vip: VipName,
        /// Why.
        why: String,
    },
    /// A VIP can be held here again.
    Unblocked {
        /// The VIP.
        vip: VipName,
    },
    /// A check is up or down by now (rule 11).
    Checked {
        /// Which.
        check: CheckName,
        /// What it is.
        state: CheckState,
        /// Why it is down.
        why: String,
        /// Nothing was known of it before.
        is_first: bool,
    },
    /// An interface is back that was away several times lately: others that work keep the VIP (rule 7.7).
    Unsteady {
        /// The VIP.
        vip: VipName,
        /// The interface.
        interface: Arc<str>,
        /// For how long it is to stay.
        hold_down: Duration,
    },
    /// Another machine says that it has an address which is held here (rule 8.18).
    Conflict {
        /// The address.
        assignment: Assignment,
        /// The interface on which the other one was heard.
        heard_on: Arc<str>,
        /// The other one.
        mac: Mac,
    },
    /// A hook is run (rule 12).
    HookStarted {
        /// The VIP.
        vip: VipName,
        /// Which.
        hook: Hook,
        /// Why, as it is told.
        reason: &'static str,
    },
    /// It has ended.
    HookEnded {
        /// The VIP.
        vip: VipName,
        /// Which.
        hook: Hook,
        /// How.
        end: HookEnd,
    },
    /// An IP of the VIP is on the host elsewhere than turnip puts it, or with another prefix length.
    Double {
        /// The VIP.
        vip: VipName,
        /// Which address that is, and where.
        why: String,
        /// Whether the VIP is here as well.
        held: bool,
    },
    /// That is over.
    DoubleGone {
        /// The VIP.
        vip: VipName,
    },
    /// The fence is not removed at the end.
    FenceStays {
        /// Why.
        why: String,
    },
    /// An address of an earlier turnip on this host that is no longer configured.
    Stray {
        /// The address.
        assignment: Assignment,
    },
    /// A value under the prefix that is left alone.
    Unreadable {
        /// The key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// There are more of them than are told one by one.
    UnreadableKeys {
        /// How many there have been.
        count: u64,
    },
    /// A pin that names no candidate.
    PinIgnored {
        /// The VIP.
        vip: VipName,
        /// The node that it is pinned to.
        node: NodeName,
        /// Why that is no candidate.
        why: String,
    },
    /// An operator drains this node, or no longer does.
    Drained(bool),
    /// The local etcd member became the raft leader, or ceased to be.
    RaftLeader(bool),
    /// VIPs cannot follow the etcd member on this host, for what answers is none.
    NoOwnMember {
        /// Who answers.
        why: String,
    },
    /// That is over: the etcd member on this host answers for itself.
    OwnMemberAnswers,
    /// The store is not the one it was: everything starts over.
    StoreChanged {
        /// What showed it.
        why: String,
        /// For how long nothing is held or claimed, at least.
        quiet: Duration,
    },
    /// The node goes by another configuration, but for these VIPs, which wait until what was there is gone.
    Reconfigured {
        /// Today's VIPs that are on their way out.
        waits_for: Vec<VipName>,
    },
    /// A session that this very host has, and cannot go on with, is given up for a new one.
    SessionReplaced {
        /// Why it cannot go on.
        why: String,
    },
    /// The node's name is taken; the node waits to see whether its holder is alive.
    NameContested {
        /// What is known of the holder.
        why: String,
    },
}

impl Report {
    /// How much it matters.
    pub fn level(&self) -> Level {
        match self {
            Report::SessionLost { .. }
            | Report::RenewalsFail { .. }
            | Report::RenewingStopped { .. }
            | Report::HeldByConsent
            | Report::ConsentMissing { .. }
            | Report::PathsLost { .. }
            | Report::WatchStale { .. }
            | Report::Expired { .. }
            | Report::Repairing { .. }
            | Report::Conflict { .. }
            | Report::Checked { state: CheckState::Down, .. }
            | Report::Double { held: true, .. }
            | Report::FenceStays { .. }
            | Report::Stray { .. }
            | Report::PinIgnored { .. }
            | Report::StoreChanged { .. }
            | Report::SessionReplaced { .. }
            | Report::NameContested { .. } => Level::Warn,
            Report::HookEnded { end, .. } if !end.is_success() => Level::Warn,
            Report::Forfeiting { departure, .. } if !departure.is_orderly() => Level::Warn,
            Report::KernelFails { .. }
            | Report::Blocked { .. }
            | Report::Double { held: false, .. }
            | Report::Unreadable { .. }
            | Report::NoOwnMember { .. }
            | Report::UnreadableKeys { .. } => Level::Error,
            _ => Level::Info,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::SessionOpened { .. }
            | Report::SessionResumed { .. }
            | Report::SessionLost { .. }
            | Report::RenewalsFail { .. }
            | Report::RenewingStopped { .. }
            | Report::RenewingGoesOn
            | Report::RenewalAnswered
            | Report::ConsentMissing { .. }
            | Report::Expired { .. }
            | Report::SessionEnded { .. } => self.tell_of_sessions(f),
            Report::HeldByConsent => f.write_str(
                "etcd takes no renewals; addresses are held by consent of all hosts: do not restart turnip meanwhile",
            ),
            Report::PathsLost { nodes } => write!(
                f,
                "no heartbeat comes from {}: while etcd does not answer, addresses will not outlive a lease",
                some_of(nodes)
            ),
            Report::PathsFound { nodes } => write!(f, "heartbeats come from {}", some_of(nodes)),
            Report::RenewalsSucceed => f.write_str("renewals succeed again"),
            Report::WatchStale { why } => {
                write!(f, "watch of etcd is stale, starting it again: {why}")
            }
            Report::WatchRestored => f.write_str("watch of etcd is up to date"),
            Report::Assuming { assignment, token, .. } => {
                write!(f, "assuming {assignment} (token {token})")
            }
            Report::Assumed { assignment, .. } => write!(f, "assumed {assignment}"),
            Report::Kept { assignment, .. } => {
                write!(f, "going on with {assignment}, which an earlier process put there")
            }
            Report::Forfeiting { assignment, why, .. } => {
                write!(f, "forfeiting {assignment}, because {why}")
            }
            Report::Forfeited { assignment, .. } => write!(f, "forfeited {assignment}"),
            Report::HandedOver { vip, to: Some(to) } => write!(f, "handed {vip} over to {to}"),
            Report::HandedOver { vip, to: None } => {
                write!(f, "released {vip}: no other node can take it")
            }
            Report::Repairing { what, count, .. } => {
                write!(f, "{what}; repairing it (repair {count} since the start)")
            }
            Report::Misplaced { addresses, .. } => write!(
                f,
                "putting {addresses} there anew: the host's own address beside it has come or gone, and is to be the source of its connections"
            ),
            Report::KernelFails { vip, why } => write!(f, "{vip}: {why}"),
            Report::Blocked { vip, why } => write!(f, "cannot hold {vip} here: {why}"),
            Report::HookStarted { .. } | Report::HookEnded { .. } => self.tell_of_hooks(f),
            Report::Unblocked { vip } => write!(f, "can hold {vip} here again"),
            Report::Checked { .. } | Report::Unsteady { .. } => self.tell_of_health(f),
            Report::Conflict { .. }
            | Report::Double { .. }
            | Report::DoubleGone { .. }
            | Report::FenceStays { .. } => self.tell_of_others(f),
            Report::Stray { assignment } => {
                write!(
                    f,
                    "taking away {assignment}: turnip put it there, and it is no longer configured"
                )
            }
            Report::Unreadable { key, why } => write!(f, "leaving {key} alone: {why}"),
            Report::UnreadableKeys { count } => write!(
                f,
                "leaving {count} keys alone by now that cannot be read: not all are told one by one; something else writes under turnip's prefix"
            ),
            Report::PinIgnored { vip, node, why } => {
                write!(f, "ignoring the pin of {vip} to {node}: {why}")
            }
            Report::Drained(is) => f.write_str(drained(*is)),
            Report::RaftLeader(_) | Report::NoOwnMember { .. } | Report::OwnMemberAnswers => {
                self.tell_of_own_member(f)
            }
            Report::StoreChanged { why, quiet } => write!(
                f,
                "etcd is not the store that it was: {why}; dropping everything and starting over: nothing is held or claimed here for {:.1} s, for a host that does not know yet may hold as long",
                quiet.as_secs_f64()
            ),
            Report::Reconfigured { waits_for } => reconfigured(f, waits_for),
            Report::SessionReplaced { why } => {
                write!(f, "{why}; nothing is held by it here, so it is deleted, and a new one opened")
            }
            Report::NameContested { why } => {
                write!(
                    f,
                    "this node's name is taken: {why}; waiting to see whether that session is renewed"
                )
            }
        }
    }
}

impl Report {
    /// What is told of the etcd member on this host.
    fn tell_of_own_member(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::RaftLeader(true) => f.write_str("the local etcd member is the raft leader"),
            Report::RaftLeader(false) => {
                f.write_str("the local etcd member is not the raft leader")
            }
            Report::NoOwnMember { why } => write!(
                f,
                "no VIP with the policy \"leader\" prefers this host, for its etcd.local is no member of its own: {why}"
            ),
            _ => f.write_str(
                "the etcd member on this host answers for itself again: VIPs with the policy \"leader\" may prefer this host",
            ),
        }
    }

    /// What is told of checks, and of what comes and goes.
    fn tell_of_health(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::Checked { check, state: CheckState::Down, why, .. } => {
                write!(f, "check {check} fails: {why}")
            }
            Report::Checked { check, is_first: true, .. } => write!(f, "check {check} passes"),
            Report::Checked { check, .. } => write!(f, "check {check} passes again"),
            Report::Unsteady { vip, interface, hold_down } => write!(
                f,
                "{interface} is back, and was away several times lately: nobody gives {vip} up for this host until it has stayed for {} s",
                hold_down.as_secs()
            ),
            _ => Ok(()),
        }
    }

    /// What is told of the own session, and of others' that are over.
    fn tell_of_sessions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::SessionOpened { session } => write!(f, "session {session} established"),
            Report::SessionResumed { session } => {
                write!(f, "resumed session {session} of an earlier process")
            }
            Report::SessionLost { session, why } => write!(f, "lost session {session}: {why}"),
            // Nothing is left where it is another cause, long after the first one.
            Report::RenewalsFail { why, left } => renewal_fails(f, why, *left),
            Report::RenewingStopped { left } => {
                renewal_fails(f, format_args!("{NO_NEWS}, so none is sent"), *left)
            }
            Report::RenewingGoesOn => {
                f.write_str("news come from etcd again: the session is to be renewed")
            }
            Report::RenewalAnswered => {
                write!(f, "etcd has answered a renewal; it is the last one for now, for {NO_NEWS}")
            }
            Report::ConsentMissing { nodes, left } => {
                write!(
                    f,
                    "etcd does not answer, and {} does not acknowledge: {:.1} s until addresses are taken away",
                    some_of(nodes),
                    left.as_secs_f64()
                )
            }
            Report::Expired { node, silence: None, .. } => {
                write!(f, "expired the session of {node}, which another host had and did not renew")
            }
            Report::Expired { node, silence: Some(silence), vips } => {
                write!(f, "expired the session of {node}: {silence}; ")?;
                match vips.as_slice() {
                    [] => f.write_str("none of its VIPs is for this host to take with it"),
                    vips => write!(f, "taking over {}", some_of(vips)),
                }
            }
            Report::SessionEnded { node, silence } if silence.is_over() => {
                write!(f, "the session of {node} is expired, by another host: {silence}")
            }
            Report::SessionEnded { node, silence } => write!(
                f,
                "the session of {node} has ended, by an orderly stop or another host: {silence}"
            ),
            _ => Ok(()),
        }
    }

    /// What is told of hooks (rule 12).
    fn tell_of_hooks(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::HookStarted { vip, hook, reason } => {
                write!(f, "running {hook} of {vip}: {reason}")
            }
            Report::HookEnded { vip, hook, end: HookEnd::Succeeded } => {
                write!(f, "{hook} of {vip} has ended")
            }
            Report::HookEnded { vip, hook, end } => write!(f, "{hook} of {vip} failed: {end}"),
            _ => Ok(()),
        }
    }

    /// What is told of addresses that have a VIP's IP and are not turnip's, here (rule 7.9) or on
    /// another machine (rule 8.18).
    fn tell_of_others(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::Conflict { assignment, heard_on, mac } => write!(
                f,
                "{assignment} is held here, and the machine with the hardware address {mac} says on {heard_on} that it has it: clients may be led there; take the address away from it"
            ),
            Report::Double { vip, why, held: false } => {
                write!(f, "cannot hold {vip} here: {why}. Take that address away")
            }
            Report::Double { vip, why, held: true } => {
                write!(
                    f,
                    "{vip} is held here, and {why}. Take that address away before {vip} moves"
                )
            }
            Report::DoubleGone { vip } => {
                write!(f, "the addresses of {vip} are nowhere else on this host any more")
            }
            Report::FenceStays { why } => write!(
                f,
                "leaving the fence in place, for {why}, and without the fence two hosts would answer. When that address is gone, `turnip release` removes the fence"
            ),
            _ => Ok(()),
        }
    }
}

fn drained(is: bool) -> &'static str {
    if is { "drained by an operator: holding nothing" } else { "no longer drained" }
}

fn reconfigured(f: &mut fmt::Formatter<'_>, waits_for: &[VipName]) -> fmt::Result {
    match waits_for {
        [] => f.write_str("the new configuration holds"),
        some => write!(f, "the new configuration holds when these have left: {}", some_of(some)),
    }
}

/// Why no renewal is sent, though none may have failed.
pub const NO_NEWS: &str = "no news come from etcd";

fn renewal_fails(
    f: &mut fmt::Formatter<'_>,
    why: impl fmt::Display,
    left: Duration,
) -> fmt::Result {
    if left.is_zero() {
        return write!(f, "renewal fails, and nothing is held: {why}");
    }
    let left = left.as_secs_f64();
    write!(f, "renewal fails, {left:.1} s until addresses are taken away: {why}")
}

/// The names, or the first of many with how many more there are.
fn some_of(names: &[impl fmt::Display]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = names.iter().take(SHOWN).map(ToString::to_string).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
