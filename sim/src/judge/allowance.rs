//! What a fault explains: how long an address may go unanswered because of it, how often it may move,
//! and for how long things may be out of order.
//!
//! All of it is in one table, [`Durations::allowance`], and follows from the protocol's durations, in
//! true time and rounded to the worse side. It holds for a fault that meets a cluster in order.

use turnip_core::{Backstop, LastResort};

use crate::plan::{Change, FALLS_TOGGLING, Fault, LeaseParams, Plan, Step};
use crate::time::{MS, S, True, US};

const PPM: u64 = 1_000_000;

/// A plan's durations, in ns of true time.
#[derive(Clone, Copy, Debug)]
pub struct Durations {
    /// The longest from the last news of a host until another may expire it: `L(1 + rho)` on the
    /// slowest clock, of the longest lease.
    pub silence: u64,
    /// For how long a host can be kept from renewing and still loses nothing: `L(1 - rho)` on the
    /// fastest clock, less what the last renewal may have aged, and less the guard; of the shortest
    /// lease.
    pub bears: u64,
    /// For how long etcd can be away and nobody loses anything. Where all hosts hear each other that is
    /// as long as a session may go on without a write (rule 10.7): `E(1 - rho)` on the fastest clock, less
    /// what the last write may have aged, and less the guard. Else it is `bears`.
    pub bears_without_store: u64,
    /// How long whoever is not listed waits (rule 10.7), where hosts hear each other for a while and not all of
    /// them always: then one that does not reach etcd may go on, and one that is gone be missed late.
    pub unlisted: u64,
    /// The longest interval between renewals; and how long one waits for its answer.
    pub renew: u64,
    /// A transaction, from when it is sent until the answer is there.
    pub commit: u64,
    /// A message from one machine to another.
    pub hop: u64,
    /// An operation of the kernel.
    pub kernel: u64,
    /// How much longer an expiry takes whose transaction compares the own session, too (rule 10.2): it may
    /// meet the own renewal, once.
    pub expiry: u64,
    /// How long the store may be away for a client when a member is lost: an election with one split
    /// vote, and two requests until the client has found a member that answers.
    pub outage: u64,
    /// How long a host may be without a watch after that, and so not renew: one attempt to follow is
    /// under way in vain, as long as a snapshot may take, and the next begins.
    pub rewatch: u64,
    /// A connection that carries nothing is given up.
    pub keepalive: u64,
    /// How long another host must be preferred until an address moves to it, and the move.
    pub settle: u64,
    /// A planned move, from silence here to answers there.
    pub hand_over: u64,
    /// Until a free address is claimed by the last in rank.
    pub claims: u64,
    /// How much later things may be in order again because of hooks. How long a gap may be that waits for them, they
    /// tell themselves.
    pub hooks: u64,
}

/// What a fault explains.
#[derive(Clone, Debug)]
pub struct Allowance {
    /// The longest gap, in ns.
    pub gap: u64,
    /// How often an address may come to another host.
    pub moves: u64,
    /// How long after its begin things may be out of order, in ns.
    pub after_begin: u64,
    /// And after its end.
    pub after_end: u64,
    /// Things may be out of order as long as it lasts.
    pub unsteady: bool,
}

/// Nothing is said about gaps and moves.
const ANY: u64 = u64::MAX;

impl Durations {
    /// Those of a plan.
    pub fn of(plan: &Plan) -> Self {
        let params = &plan.params;
        let rho = u64::from(params.drift_ppm);
        // The longest and the shortest that a duration on a host's clock takes in true time.
        // A day in ns, times a million, is more than 64 bits hold.
        let scaled = |local: u64, by: u64| {
            let scaled = u128::from(local) * u128::from(PPM) / u128::from(by);
            u64::try_from(scaled).unwrap_or(u64::MAX)
        };
        let slow = |local: u64| scaled(local, PPM - rho) + 1;
        let fast = |local: u64| scaled(local, PPM + rho);
        let leases: Vec<LeaseParams> = plan.leases().collect();
        let lease = leases.iter().map(|lease| lease.lease_ms * MS).max().unwrap_or_default();
        let renew =
            slow(leases.iter().map(|lease| lease.renew_ms() * MS).max().unwrap_or_default());

        let weather = &params.weather;
        let tail = if weather.tail_permille > 0 { weather.tail } else { 0 };
        let hop = weather.delay_max + tail;
        let disk = params.raft.disk_max;
        // To the member, to the leader, to a follower and its disk, and all the way back. As many
        // VIPs as many make several transactions, one after the other.
        let batches = 1 + params.vips.len() as u64 / 50;
        let commit = (6 * hop + 2 * disk + MS) * batches;
        let kernel = 200 * US + 4 * US * params.vips.len() as u64;

        // Lifetimes are whole seconds, and end one early.
        let coarse = if params.backstop == Some(Backstop::Lifetime) { 2 * S } else { 0 };
        let ends_early = |lease: &LeaseParams| slow(lease.guard_ms() * MS) + coarse + 2 * kernel;
        let speaks = plan.speaks_somewhere();
        let bears = |lease: &LeaseParams| {
            let duration = lease.lease_ms * MS;
            let holding = fast(duration - duration * rho / PPM);
            // At ease, a heartbeat's acknowledgement comes with the other's next one, and counts from
            // the own next one at the latest; before that it was the heartbeat before that counted.
            let guard = lease.guard_ms() * MS;
            let of_use = (duration - duration * rho / PPM).saturating_sub(guard + coarse);
            let interval = (lease.renew_ms() * MS).min(of_use * 2 / 11).max(20 * MS);
            let aged = match speaks {
                true => slow(3 * interval) + 2 * hop,
                false => slow(lease.renew_ms() * MS) + commit,
            };
            holding.saturating_sub(aged + ends_early(lease))
        };
        let bears = leases.iter().map(bears).min().unwrap_or_default();
        let bears_without_store = |lease: &LeaseParams| {
            let longest = params.without_store_ms * MS;
            let holding = fast(longest - longest * rho / PPM);
            // At ease the session is written every `L`.
            let aged = slow(lease.lease_ms * MS) + commit;
            holding.saturating_sub(aged + ends_early(lease))
        };
        let bears_without_store = match plan.all_hear() {
            true => leases.iter().map(bears_without_store).min().unwrap_or_default(),
            false => bears,
        };
        let outage = 4 * params.raft.election + 2 * renew + 2 * commit;
        let hand_over = 2 * kernel + 2 * commit + 2 * hop + 2 * MS;
        Durations {
            silence: slow(lease + lease * rho / PPM),
            bears,
            bears_without_store: bears_without_store.max(bears),
            unlisted: match speaks && !plan.all_hear() {
                true => slow(params.without_store_ms * MS / 100 * 102),
                false => 0,
            },
            expiry: if speaks { renew / 3 + 2 * commit } else { 0 },
            renew,
            commit,
            hop,
            kernel,
            outage,
            rewatch: (8 * renew).max(slow(2 * S)) + renew,
            keepalive: params.keepalive,
            // It begins right after a renewal was answered, and when the other was heard lately.
            settle: slow(lease) + 3 * renew + hand_over,
            hand_over,
            claims: params.hosts as u64 * renew / 2,
            hooks: plan.hook_time(),
        }
    }

    /// The start of all daemons: etcd's first election, the sessions, first claims by whoever is
    /// there, and what settles after that.
    pub fn start(&self, plan: &Plan) -> u64 {
        let checked = plan.params.checks.map_or(0, |checks| checks.known_after().1);
        let hooks = 2 * self.hooks;
        plan.params.start_spread + 2 * self.outage + 2 * self.settle + S + checked + hooks
    }

    /// A host falls silent and the store is well. Others wait for its lease; they may lose a race
    /// among themselves, and try again.
    fn death(&self) -> u64 {
        let tries = 4 * self.commit + 2 * self.hop + 2 * self.kernel + self.renew + self.claims;
        self.silence + self.expiry + tries
    }

    /// Whoever cannot hold an address says so before passing it on, so that nobody hands it back; what
    /// was said before may still be on its way.
    fn refusal(&self) -> u64 {
        2 * self.commit + self.hand_over
    }

    /// **The table**, in four parts. One line a kind of fault, with the reason.
    pub fn allowance(&self, plan: &Plan, step: &Step) -> Allowance {
        let lasts = step.ends(plan.heal_at).saturating_sub(step.at);
        // A fault that meets another of the same host may end that, or last as long.
        let of_host = if is_alone(plan, step) { lasts } else { u64::MAX / 4 };
        let mut allowance = self
            .of_a_host(plan, &step.fault, of_host)
            .or_else(|| self.of_checks(plan, step))
            .or_else(|| self.of_a_kernel(plan, &step.fault))
            .or_else(|| self.of_the_store(plan, &step.fault, lasts))
            .or_else(|| self.of_others(plan, &step.fault))
            .unwrap_or_else(|| Allowance {
                after_end: self.keepalive + self.return_of_host() + 2 * self.outage,
                unsteady: true,
                ..Self::nothing_said()
            });
        for window in [&mut allowance.after_begin, &mut allowance.after_end] {
            *window = window.saturating_add(self.hooks);
        }
        allowance
    }

    /// A host that was away has a session of its own again, after that of its last boot has expired,
    /// and gets back what it is preferred for.
    fn return_of_host(&self) -> u64 {
        self.silence + self.expiry + 4 * self.commit + self.settle
    }

    /// What several faults explain that meet, as far as anything can be said of that: where all hosts hear
    /// each other.
    pub fn of_several(&self, plan: &Plan, steps: &[&Step]) -> Option<Allowance> {
        if !plan.all_hear() {
            return None;
        }
        let ends = |step: &&Step| step.ends(plan.heal_at);
        let back = self.outage + self.rewatch;
        let from = steps.iter().map(|step| step.at).min().unwrap_or_default();
        let to = steps.iter().map(ends).max().unwrap_or_default();
        let without_store = (to - from + back).saturating_sub(self.bears_without_store);
        let (gap, moves) = match steps {
            // Whatever etcd does, and whoever is cut off from it: nothing, for as long as rule 10.7 allows.
            steps if steps.iter().all(|step| is_of_the_store(&step.fault)) => {
                (without_store, if without_store == 0 { 0 } else { ANY })
            }
            // A host that is gone, or a path, takes everybody's consent away: nobody holds anything from a
            // lease later on until etcd is back. Then what the dead host had is waited for, if it still is.
            [away, other] | [other, away]
                if is_away(&away.fault)
                    && takes_consent(plan, &other.fault)
                    && other.at <= ends(away) =>
            {
                // With a member that is the majority, a host takes the store with it.
                let takes_store =
                    plan.params.members() <= 2 && matches!(other.fault, Fault::PowerOff { .. });
                let ends = if takes_store { to } else { ends(away) };
                ((ends - other.at + back + self.death()).max(without_store), ANY)
            }
            _ => return None,
        };
        Some(Allowance { gap, moves, after_begin: 0, after_end: 0, unsteady: true })
    }

    /// How much longer the store is away where one member is the majority, and that is lost.
    fn without_store(&self, plan: &Plan, lasts: u64) -> u64 {
        if plan.params.members() <= 2 { lasts + self.rewatch } else { 0 }
    }

    /// Daemons and machines that stop, are stopped, or are cut off.
    fn of_a_host(&self, plan: &Plan, fault: &Fault, lasts: u64) -> Option<Allowance> {
        let Durations { silence, bears, commit, renew, outage, settle, hand_over, .. } = *self;
        let hears = plan.all_hear();
        let return_of_host = self.return_of_host();
        // A new process lists addresses, reads the store, and renews.
        let resume = 4 * commit + 2 * self.kernel;
        Some(match fault {
            // What comes of it is told by the run: another configuration makes whatever it makes.
            Fault::Kill { host }
            | Fault::Restart { host }
            | Fault::Leave { host }
            | Fault::PowerOff { host }
                if changes(plan, *host) =>
            {
                Allowance {
                    after_begin: self.death() + outage + settle,
                    after_end: 2 * return_of_host + outage + 5 * S,
                    ..Self::nothing_said()
                }
            }
            // The kernel keeps the addresses until the lease ends, and a successor resumes.
            Fault::Kill { .. } if lasts + resume < bears => Self::unnoticed(resume),
            // It waits for a renewal. If that takes longer than the step, it is the service manager that
            // starts the next one, after 2 s.
            Fault::Leave { .. } if lasts.max(2 * S) + 2 * renew + resume < bears => {
                Self::unnoticed(2 * S + 2 * renew + resume)
            }
            // Where hosts hear each other, it may be the next heartbeat that shows what is missing.
            Fault::Freeze { .. }
                if lasts + 2 * commit + u64::from(self.expiry > 0) * renew < bears =>
            {
                Self::unnoticed(2 * commit + renew)
            }
            // The others hear it: it goes on without etcd. Not where it may have a VIP that follows a key: it takes
            // that away, and loses all (rules 13.6 and 10.10).
            Fault::CutStore { .. }
                if hears
                    && !plan.params.any_follows()
                    && lasts + self.keepalive < self.bears_without_store =>
            {
                Self::unnoticed(3 * renew + self.keepalive + self.rewatch)
            }
            // Nor is a cut noticed that ends in time for a renewal; one request may wait in vain.
            Fault::CutStore { .. } if lasts + 2 * self.renew + 2 * commit < bears => {
                Self::unnoticed(3 * self.renew + self.keepalive)
            }
            // But not for longer than rules 10.7 and 13.6 allow.
            Fault::CutStore { .. } if hears => Allowance {
                gap: self.death(),
                moves: 4,
                after_begin: 0,
                after_end: self.keepalive + return_of_host + outage,
                unsteady: true,
            },
            // The others wait for its lease. Who comes back is first in line again, after settling.
            Fault::Kill { .. } | Fault::Freeze { .. } | Fault::Leave { .. } => Allowance {
                gap: self.death() + self.unlisted,
                moves: 4,
                after_begin: self.death() + settle,
                after_end: return_of_host + outage,
                unsteady: self.unlisted > 0,
            },
            Fault::CutStore { .. } => Allowance {
                gap: self.death() + self.unlisted,
                moves: 4,
                after_begin: self.death() + settle,
                after_end: self.keepalive + return_of_host + outage,
                unsteady: self.unlisted > 0,
            },
            // The same, and perhaps its member led: the election is not added to the lease, but what
            // the lease still lacks when it is over is waited for.
            Fault::PowerOff { .. } | Fault::Isolate { .. } => Allowance {
                gap: self.death() + outage + self.without_store(plan, lasts) + self.unlisted,
                moves: 4,
                after_begin: self.death() + outage + settle,
                after_end: self.keepalive + return_of_host + 2 * outage,
                unsteady: self.unlisted > 0,
            },
            // Break before make: removed, handed over in one commit, put there. The service manager
            // starts it again, and it is first in line again.
            Fault::Restart { .. } => Allowance {
                gap: hand_over,
                moves: 2,
                after_begin: silence + settle,
                after_end: silence + return_of_host + outage + 3 * S,
                unsteady: false,
            },
            _ => return None,
        })
    }

    /// What stands behind a VIP. Away at once, and back after settling; and what falls again is trusted
    /// the later (rule 11.3), so that the moves are few.
    fn of_checks(&self, plan: &Plan, step: &Step) -> Option<Allowance> {
        let Fault::FailCheck { hosts, every, .. } = &step.fault else { return None };
        let Some(checks) = plan.params.checks else { return Some(Self::unnoticed(0)) };
        let (noticed, back) = checks.known_after();
        let everywhere = hosts.len() >= plan.params.hosts;
        let released = everywhere && checks.last_resort == LastResort::Release;
        let falls = if every.is_some() { FALLS_TOGGLING } else { 1 };
        Some(Allowance {
            gap: if released { ANY } else { 2 * self.refusal() },
            moves: 2 * u64::from(falls) * hosts.len() as u64,
            after_begin: noticed + S + self.settle,
            after_end: back + plan.hold_down() + S + self.settle,
            unsteady: everywhere || every.is_some(),
        })
    }

    /// What an operator wants of a host, and what its kernel does.
    fn of_a_kernel(&self, plan: &Plan, fault: &Fault) -> Option<Allowance> {
        let Durations { settle, hand_over, .. } = *self;
        Some(match fault {
            // Away at once, and back after settling.
            Fault::Drain { .. } | Fault::Pin { .. } | Fault::Name { .. } => Allowance {
                gap: hand_over,
                moves: 2,
                after_begin: 2 * S + settle,
                after_end: 6 * S + settle,
                unsteady: false,
            },
            // Where the VIP is held already it stays.
            Fault::LinkDown { .. } | Fault::LinkGone { .. } | Fault::Double { .. } => Allowance {
                gap: self.refusal(),
                moves: 2,
                after_begin: S + settle,
                // What went away before comes back the later (rule 7.7).
                after_end: S + settle + plan.hold_down(),
                unsteady: false,
            },
            // Its renewal fails as well; it is taken away, tried once more, and passed on. It is tried
            // again within a minute, but never where somebody has it.
            Fault::RefuseAddress { .. } => Allowance {
                gap: self.refusal() + 2 * self.renew,
                moves: 2,
                after_begin: S + 2 * self.renew + settle,
                after_end: 61 * S + settle,
                unsteady: false,
            },
            // Seen at once, and put back: told, listed, added.
            Fault::StealAddress { .. } => Allowance {
                gap: 6 * self.kernel + 2 * MS,
                moves: 0,
                after_begin: S,
                after_end: 0,
                unsteady: false,
            },
            // It is put there anew in one go, and answers all the while.
            Fault::OwnAddressReturns { .. } => {
                Allowance { gap: 0, moves: 0, after_begin: S, after_end: 0, unsteady: false }
            }
            _ => return None,
        })
    }

    /// etcd, and the way to it.
    fn of_the_store(&self, plan: &Plan, fault: &Fault, lasts: u64) -> Option<Allowance> {
        let Durations { bears_without_store: bears, outage, settle, rewatch, .. } = *self;
        let without_store = self.without_store(plan, lasts);
        let hosts = plan.params.hosts.max(2) as u64;
        Some(match fault {
            // Nobody loses anything while the store is away for less than a lease bears. When it is
            // away for longer, everybody does. Where all hear each other, it may be away for a day. The
            // others give time to be heard, but not for a watch
            // to come back, without which nobody renews: hosts come back one after the other, and each may
            // be wanted more than the one before.
            Fault::LoseQuorum | Fault::RefuseWrites => Allowance {
                gap: (lasts + outage + rewatch).saturating_sub(bears),
                moves: if lasts + outage + rewatch < bears { 0 } else { hosts },
                after_begin: 0,
                // A host that was long without a watch may be expired first, and then comes back.
                after_end: self.keepalive + outage + rewatch + self.return_of_host(),
                unsteady: true,
            },
            Fault::CrashLeader | Fault::CrashMember { .. } | Fault::PauseMember { .. } => {
                Allowance {
                    gap: (without_store + outage + rewatch).saturating_sub(bears),
                    moves: if without_store + outage + rewatch < bears { 0 } else { hosts },
                    after_begin: self.keepalive + outage + settle,
                    after_end: self.keepalive + outage + settle,
                    // With another member that is away, the quorum is.
                    unsteady: lasts > 0,
                }
            }
            // The store is there, and written as often as without rule 10.
            Fault::CutPeers { .. } | Fault::LossyPeers { .. } => Self::unnoticed(2 * self.renew),
            Fault::MoveLeader | Fault::LeadFrom { .. } => Allowance {
                gap: 0,
                moves: 0,
                after_begin: outage + settle,
                after_end: 0,
                unsteady: false,
            },
            Fault::Compact => Self::unnoticed(S),
            Fault::WatchLag { by, .. } if *by < self.renew => Self::unnoticed(S),
            // Within the margin.
            Fault::Drift { .. } => Self::unnoticed(0),
            _ => return None,
        })
    }

    /// What does nothing, what does something later, and what is anybody's guess.
    fn of_others(&self, plan: &Plan, fault: &Fault) -> Option<Allowance> {
        Some(match fault {
            // It does something when the daemon is started, and that has its own line.
            Fault::Reconfigure { change, .. } => match change {
                // But for mistakes of which nobody says how they go.
                Change::Cluster { .. } | Change::NameOf { .. } => {
                    Allowance { unsteady: true, ..Self::nothing_said() }
                }
                _ => Allowance { after_begin: 0, after_end: 0, gap: 0, moves: 0, unsteady: false },
            },
            // Removed, published otherwise, claimed, put there; or handed over to who has it as it was. Other
            // policies and weights move it, after settling.
            Fault::Reload { .. } => Allowance {
                gap: self.refusal() + self.hand_over,
                moves: ANY,
                after_begin: S + self.settle + self.claims,
                after_end: 0,
                unsteady: false,
            },
            // A mishap waits for its transaction until everything heals.
            Fault::Meddle { .. } => {
                Allowance { after_end: plan.heal_at, unsteady: true, ..Self::nothing_said() }
            }
            // An announcement more, and nothing that a client would notice, not even while it lasts.
            Fault::ClaimAddress { .. } | Fault::ChangeHardware { .. } => {
                Allowance { after_begin: 0, after_end: 0, gap: 0, moves: 0, unsteady: false }
            }
            // Somebody else's rules, and where clients look, are nothing to the hosts.
            Fault::ChangeRules { .. }
            | Fault::StallAnnouncer { .. }
            | Fault::LoseAnnouncements { .. }
            | Fault::BackUpStore => Self::unnoticed(0),
            // Whoever notices waits, at most for as long as a session may go without a write (rule 9.5).
            Fault::RestoreStore { .. } => {
                let longest = plan.lease_ms_max().max(plan.params.without_store_ms) * MS;
                let after_end = 2 * longest + 4 * plan.lease_ms_max() * MS + self.settle;
                Allowance { after_end, unsteady: true, ..Self::nothing_said() }
            }
            Fault::FailingNetlink { .. }
            | Fault::SlowNetlink { .. }
            | Fault::StallAdapter { .. } => Allowance {
                after_end: 61 * S + self.settle,
                unsteady: true,
                ..Self::nothing_said()
            },
            _ => return None,
        })
    }

    /// Nobody without the logs can tell that anything happened.
    fn unnoticed(after_end: u64) -> Allowance {
        Allowance { gap: 0, moves: 0, after_begin: 0, after_end, unsteady: true }
    }

    fn nothing_said() -> Allowance {
        Allowance { gap: ANY, moves: ANY, after_begin: 0, after_end: 0, unsteady: false }
    }
}

/// Whether a fault is of etcd, or of ways to it: hosts, and their ways to each other, are well.
pub fn is_of_the_store(fault: &Fault) -> bool {
    deafens(fault)
        || is_away(fault)
        || matches!(
            fault,
            Fault::SplitMembers { .. }
                | Fault::CrashMember { .. }
                | Fault::PauseMember { .. }
                | Fault::SlowDisk { .. }
                | Fault::SlowAnswers { .. }
                | Fault::MoveLeader
                | Fault::LeadFrom { .. }
                | Fault::CrashLeader
                | Fault::FlapLeader { .. }
                | Fault::Compact
        )
}

/// Whether it keeps a host from hearing of what happens in etcd: of a VIP that comes to it, for instance.
pub fn deafens(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::CutStore { .. }
            | Fault::CutEndpoint { .. }
            | Fault::CutAnswers { .. }
            | Fault::WatchLag { .. }
    )
}

/// Whether nobody writes to etcd while it lasts.
fn is_away(fault: &Fault) -> bool {
    matches!(fault, Fault::LoseQuorum | Fault::RefuseWrites)
}

/// Whether it takes a host away, or a path between two, and nothing else: what it was configured with
/// stays.
fn takes_consent(plan: &Plan, fault: &Fault) -> bool {
    match *fault {
        Fault::Kill { host }
        | Fault::Freeze { host }
        | Fault::Restart { host }
        | Fault::Leave { host }
        | Fault::PowerOff { host } => !changes(plan, host),
        Fault::CutPeers { .. } | Fault::LossyPeers { .. } => true,
        _ => false,
    }
}

/// Whether a new process of a host reads a file that may have changed, or tries once more what was
/// refused.
fn changes(plan: &Plan, hit: usize) -> bool {
    plan.steps.iter().any(|step| match step.fault {
        Fault::Reconfigure { host, .. } | Fault::RefuseAddress { host, .. } => host == hit,
        _ => false,
    })
}

/// Whether nothing else keeps the same host from its work while a step lasts.
fn is_alone(plan: &Plan, step: &Step) -> bool {
    let host_of = |fault: &Fault| match *fault {
        Fault::Kill { host }
        | Fault::Restart { host }
        | Fault::Leave { host }
        | Fault::Freeze { host }
        | Fault::PowerOff { host }
        | Fault::PauseHost { host }
        | Fault::CutStore { host }
        | Fault::Isolate { site: host } => Some(host),
        _ => None,
    };
    let host = host_of(&step.fault);
    host.is_none()
        || !plan.steps.iter().any(|other| {
            let overlaps =
                other.at <= step.ends(plan.heal_at) && step.at <= other.ends(plan.heal_at);
            other != step && host_of(&other.fault) == host && overlaps
        })
}

impl Allowance {
    /// When a step explains gaps and moves.
    pub fn windows(&self, plan: &Plan, step: &Step) -> Vec<(True, True)> {
        let end = step.ends(plan.heal_at);
        if self.unsteady {
            return vec![(step.at, end.saturating_add(self.after_end))];
        }
        vec![
            (step.at, step.at.saturating_add(self.after_begin)),
            (end, end.saturating_add(self.after_end)),
        ]
    }
}
