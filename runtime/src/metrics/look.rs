//! Looks at the node, which is the driver's alone: whoever wants one asks, and the loop answers between
//! two inputs.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::channel::oneshot;
use futures::stream::{self, Stream};
use tokio::sync::Notify;
use turnip_core::{CheckName, CheckState, Instant, Node, NodeName, NodeStanding, VipName};

use crate::kernel::Conflicts;
use crate::peers::Counts;
use crate::seams::Command;

/// What a look shows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// The node.
    pub node: NodeStanding,
    /// Its VIPs.
    pub vips: Vec<VipSeen>,
    /// Its checks.
    pub checks: Vec<CheckSeen>,
    /// What became of datagrams; absent when it hears nobody.
    pub datagrams: Option<Counts>,
    /// Machines that are none of turnip's and claim addresses which are held here.
    pub conflicts: usize,
    /// Packets with such claims, since the start.
    pub conflict_packets: u64,
    /// How often somebody else's change of the fence was put right, since the start.
    pub fence_repairs: u64,
}

/// A VIP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VipSeen {
    /// Its name.
    pub vip: VipName,
    /// Its owner, in the store.
    pub owner: Option<NodeName>,
    /// It is held here.
    pub is_held: bool,
    /// It should be.
    pub is_wanted: bool,
    /// It cannot be.
    pub is_blocked: bool,
}

/// A check of what stands behind VIPs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckSeen {
    /// Its name.
    pub name: CheckName,
    /// What it is.
    pub state: CheckState,
    /// Since when, in ms since 1970; 0 for since the start.
    pub since_unix_ms: u64,
    /// It counts as down although attempts pass.
    pub is_held_down: bool,
    /// How many attempts passed, and how many failed.
    pub attempts: (u64, u64),
}

impl Seen {
    /// What the node itself shows.
    pub fn of(node: &Node, now: Instant) -> Self {
        let vip = |vip: turnip_core::VipStanding<'_>| VipSeen {
            vip: vip.vip.clone(),
            owner: vip.owner.cloned(),
            is_held: vip.is_held,
            is_wanted: vip.is_wanted,
            is_blocked: vip.is_blocked,
        };
        let check = |check: turnip_core::CheckStanding<'_>| CheckSeen {
            name: check.name.clone(),
            state: check.state,
            since_unix_ms: check.since_unix_ms,
            is_held_down: check.held_down_for.is_some(),
            attempts: check.attempts,
        };
        Seen {
            node: node.standing(now),
            vips: node.vips(now).map(vip).collect(),
            checks: node.checks(now).map(check).collect(),
            datagrams: None,
            conflicts: 0,
            conflict_packets: 0,
            fence_repairs: 0,
        }
    }

    /// With what the kernel's threads have counted.
    #[must_use]
    pub fn with_kernel(self, conflicts: &Conflicts, fence_repairs: u64) -> Self {
        Seen {
            conflicts: conflicts.recent(std::time::Instant::now()).len(),
            conflict_packets: conflicts.packets(),
            fence_repairs,
            ..self
        }
    }

    /// With what became of datagrams.
    #[must_use]
    pub fn with_datagrams(self, datagrams: Option<Counts>) -> Self {
        Seen { datagrams, ..self }
    }

    /// Why the node is not ready: it holds all that it should, or these are missing.
    pub(super) fn missing(&self) -> Vec<String> {
        const SHOWN: usize = 5;
        if self.node.is_ending {
            return vec!["the daemon is ending".into()];
        }
        if !self.node.has_session {
            return vec!["no session in etcd".into()];
        }
        let lacks = |vip: &&VipSeen| vip.is_wanted && !vip.is_held;
        let mut missing: Vec<String> = Vec::new();
        let mut count = 0_usize;
        for vip in self.vips.iter().filter(lacks) {
            count += 1;
            if count <= SHOWN {
                let why = if vip.is_blocked { ", and cannot be" } else { "" };
                missing.push(format!("{} is not held here{why}", vip.vip));
            }
        }
        if count > SHOWN {
            missing.push(format!("and {} more", count - SHOWN));
        }
        missing
    }
}

/// What is known of the daemon at a look.
#[derive(Clone, Debug)]
pub(super) enum Look {
    /// It waits for etcd before it starts.
    Waiting,
    /// It runs.
    Running(Arc<Seen>),
}

/// Who waits for a look. Clones are the same.
#[derive(Clone, Default, Debug)]
pub struct Looks(Arc<Waiting>);

#[derive(Default, Debug)]
struct Waiting {
    asked: Notify,
    askers: Mutex<Vec<oneshot::Sender<Look>>>,
}

impl Looks {
    /// A look; none when the loop does not come round within that time.
    pub(super) async fn ask(&self, within: Duration) -> Option<Look> {
        let (asker, answer) = oneshot::channel();
        {
            let mut askers = self.askers();
            // Of a loop that hangs nobody waits any more.
            askers.retain(|asker| !asker.is_canceled());
            askers.push(asker);
        }
        self.0.asked.notify_one();
        tokio::time::timeout(within, answer).await.ok()?.ok()
    }

    /// For the driver: somebody asks.
    pub fn commands(self) -> impl Stream<Item = Command> + Send {
        stream::unfold(self, async |looks| {
            looks.0.asked.notified().await;
            Some((Command::Look, looks))
        })
    }

    /// Answers all who ask.
    pub fn answer(&self, seen: Seen) {
        self.answer_with(&Look::Running(Arc::new(seen)));
    }

    /// Answers all who ask before there is a driver; never ends.
    pub async fn wait(&self) {
        loop {
            self.0.asked.notified().await;
            self.answer_with(&Look::Waiting);
        }
    }

    fn answer_with(&self, look: &Look) {
        for asker in self.askers().drain(..) {
            // Who asked may have given up.
            let _ = asker.send(look.clone());
        }
    }

    fn askers(&self) -> std::sync::MutexGuard<'_, Vec<oneshot::Sender<Look>>> {
        self.0.askers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use futures::StreamExt;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    pub(crate) fn vip(name: &str, owner: Option<&str>, is_wanted: bool, is_held: bool) -> VipSeen {
        let owner = owner.map(|owner| owner.parse().unwrap());
        VipSeen { vip: name.parse().unwrap(), owner, is_held, is_wanted, is_blocked: false }
    }

    pub(crate) fn seen(vips: Vec<VipSeen>) -> Seen {
        let node = NodeStanding {
            has_session: true,
            left: Duration::from_millis(2_500),
            store_answers: true,
            by_consent: false,
            is_drained: false,
            is_ending: false,
            nodes: 3,
        };
        let datagrams = Some(Counts { sent: 7, forged: 2, ..Counts::default() });
        let checks = vec![CheckSeen {
            name: "api".parse().unwrap(),
            state: CheckState::Down,
            since_unix_ms: 1_764_200_000_500,
            is_held_down: true,
            attempts: (40, 2),
        }];
        Seen { node, vips, checks, datagrams, conflicts: 1, conflict_packets: 9, fence_repairs: 4 }
    }

    #[test]
    fn a_node_is_ready_when_it_holds_all_that_it_should_and_says_what_is_missing() {
        let ready =
            seen(vec![vip("a", Some("h1"), true, true), vip("b", Some("h2"), false, false)]);
        assert_eq!(ready.missing(), Vec::<String>::new());
        let blocked = VipSeen { is_blocked: true, ..vip("b", None, true, false) };
        let lacking = seen(vec![vip("a", Some("h1"), true, false), blocked]);
        assert_eq!(lacking.missing(), ["a is not held here", "b is not held here, and cannot be"]);
        let many = seen((0..9).map(|n| vip(&format!("v{n}"), None, true, false)).collect());
        assert_eq!(many.missing().len(), 6);
        assert_eq!(many.missing()[5], "and 4 more");
        let without = NodeStanding { has_session: false, ..ready.node };
        let without = Seen { node: without, ..ready.clone() };
        assert_eq!(without.missing(), ["no session in etcd"]);
        let ending = NodeStanding { is_ending: true, ..ready.node };
        assert_eq!(Seen { node: ending, ..ready }.missing(), ["the daemon is ending"]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn who_asks_is_answered_by_the_next_look_and_not_for_ever_by_none() {
        let looks = Looks::default();
        let mut commands = std::pin::pin!(looks.clone().commands());
        let answered = async {
            assert_eq!(commands.next().await, Some(Command::Look));
            looks.answer(seen(Vec::new()));
        };
        let (look, ()) = futures::join!(looks.ask(SECOND), answered);
        assert!(matches!(look, Some(Look::Running(_))));
        assert!(looks.ask(Duration::from_millis(10)).await.is_none());
        tokio::select! {
            look = looks.ask(SECOND) => assert!(matches!(look, Some(Look::Waiting))),
            () = looks.wait() => panic!("it ended"),
        }
    }
}
