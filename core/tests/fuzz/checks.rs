//! What must hold of a node's actions, whatever came in.

use std::collections::BTreeSet;

use turnip_core::*;

use super::{Asked, Fuzz, present};

impl Fuzz {
    pub(super) fn drain_actions(&mut self) {
        let mut actions = 0;
        while let Some(action) = self.node.poll_action() {
            actions += 1;
            let most = 300 + 10 * self.config.vips.len();
            assert!(actions < most, "it does not come to rest:\n{}", self.transcript());
            assert!(self.exit.is_none(), "{action:?} after the end:\n{}", self.transcript());
            self.story.push(match &action {
                Action::Report(report) => format!("    {report}"),
                Action::Commit { id, txn, .. } => format!("    {id:?} {:?}", written(txn)),
                action => format!("    {action:?}"),
            });
            self.act(action);
        }
    }

    pub(super) fn act(&mut self, action: Action) {
        let now = self.now;
        match action {
            Action::Commit { id, txn, .. } => {
                self.check_txn(&txn);
                self.commits.push((id, txn));
            }
            Action::Kernel { id, op } => self.queue(id, op),
            Action::Announce { deadline, .. } => {
                assert!(
                    now < deadline,
                    "an announcement after the deadline:\n{}",
                    self.transcript()
                );
            }
            Action::Exit(exit) => {
                for (vip, asked) in &self.asked {
                    assert_ne!(
                        *asked,
                        Asked::Assume,
                        "{vip} is left behind:\n{}",
                        self.transcript()
                    );
                }
                self.exit = Some(exit);
            }
            Action::Follow { .. } => self.told = None,
            Action::EndConnections { addresses } => self.check_left(&addresses),
            Action::Hook(HookAction::Run(run)) => self.check_hook(run),
            Action::Hook(HookAction::Kill(id)) => {
                self.hooks.retain(|run| run.id != id);
                self.node.handle_hook_ended(id, &HookEnd::Killed, now);
            }
            Action::Hook(HookAction::Owe(_) | HookAction::Paid(_)) => {}
            Action::AskMember { .. } | Action::Beat(_) | Action::UseKeys(_) | Action::Report(_) => {
            }
        }
    }

    /// A VIP's hooks run one at a time, and what something waits for while it can wait (rule 12).
    fn check_hook(&mut self, run: HookRun) {
        let beside = self.hooks.iter().find(|one| one.vip == run.vip);
        assert!(beside.is_none(), "{run:?} beside {beside:?}:\n{}", self.transcript());
        let is_asked_for = self.asked.get(&run.vip) == Some(&Asked::Assume);
        let fits = match run.hook {
            Hook::BeforeAssume | Hook::AfterRelease => !is_asked_for,
            Hook::BeforeRelease | Hook::AfterAssume | Hook::OnConflict => true,
        };
        assert!(fits, "{run:?} while it is here:\n{}", self.transcript());
        self.hooks.push(run);
    }

    /// Connections end only through what the kernel has taken away (rule 7.10).
    pub(super) fn check_left(&self, addresses: &[std::net::IpAddr]) {
        for (there, ours) in &self.addresses {
            let left = !*ours || !addresses.contains(&there.address.addr());
            assert!(left, "connections end while {there:?} is there:\n{}", self.transcript());
        }
    }

    pub(super) fn queue(&mut self, id: OpId, op: KernelOp) {
        let now = self.now;
        match &op {
            KernelOp::Assume { deadline, .. } | KernelOp::Refresh { deadline } => {
                assert!(now < *deadline, "{op:?} after its deadline:\n{}", self.transcript());
                assert!(!self.stopped_at_once, "{op:?} after the stop:\n{}", self.transcript());
                assert_eq!(Some(*deadline), self.node.deadline(), "{}", self.transcript());
                if let KernelOp::Assume { addresses, .. } = &op {
                    for run in self.hooks.iter().filter(|run| run.hook == Hook::BeforeAssume) {
                        let waits = !addresses.iter().any(|one| one.vip == run.vip);
                        assert!(waits, "{op:?} beside {run:?}:\n{}", self.transcript());
                    }
                    self.ask(addresses, Asked::Assume);
                }
            }
            KernelOp::Withdraw { addresses } => {
                self.ask(addresses, Asked::Withdraw);
                let gone: BTreeSet<_> = addresses.iter().map(|a| a.address).collect();
                self.supersede(&gone);
            }
            KernelOp::RemoveFence => {
                let ours = self.addresses.values().any(|ours| *ours);
                assert!(!ours, "the fence goes before an address:\n{}", self.transcript());
            }
            KernelOp::List | KernelOp::Configure { .. } => {}
        }
        self.ops.push_back((id, op));
    }

    pub(super) fn ask(&mut self, addresses: &[Assignment], asked: Asked) {
        for assignment in addresses {
            self.asked.insert(assignment.vip.clone(), asked);
        }
    }

    /// A removal takes the place of what is queued for its addresses.
    pub(super) fn supersede(&mut self, gone: &BTreeSet<ipnet::IpNet>) {
        for (_, op) in &mut self.ops {
            if let KernelOp::Assume { addresses, .. } = op {
                addresses.retain(|assignment| !gone.contains(&assignment.address));
            }
        }
    }

    /// Nothing is asked for, and nothing left where it is, that the lease does not cover (rule 2).
    pub(super) fn check_silence(&self) {
        if self.exit.is_some() {
            return;
        }
        let guard = self.config.lease.guard();
        if self.node.deadline().is_some_and(|deadline| self.now < deadline - guard) {
            return;
        }
        for (vip, asked) in &self.asked {
            assert_ne!(*asked, Asked::Assume, "{vip} is held too long:\n{}", self.transcript());
        }
    }

    pub(super) fn check_txn(&self, txn: &Txn) {
        for ops in [txn.compares.len(), txn.success.len(), txn.failure.len()] {
            assert!(ops <= OPS_PER_TXN_MAX, "{ops} operations in one transaction");
        }
        assert!(!txn.is_idle(), "{txn:?}");
        assert!(!self.stopped_at_once, "{txn:?} after the stop:\n{}", self.transcript());
        for op in &txn.success {
            let (Op::Put { key, .. } | Op::Delete { key }) = op else { continue };
            let keys = Keys::new(&self.config.cluster);
            match keys.kind(key) {
                KeyKind::Vip(vip) => {
                    self.check_compares_vip(txn, key);
                    if !names_own(op) {
                        self.check_removed(&vip, txn);
                    }
                }
                KeyKind::Session(node)
                    if node == self.config.name
                        && matches!(op, Op::Delete { .. })
                        && self.node.session().is_some() =>
                {
                    for vip in &self.config.vips {
                        self.check_removed(&vip.name, txn);
                    }
                }
                _ => {}
            }
        }
    }

    pub(super) fn check_compares_vip(&self, txn: &Txn, vip: &str) {
        let compared = txn.compares.iter().any(|compare| match compare {
            Compare::ModRevision { key, .. } => key == vip,
            _ => false,
        });
        assert!(compared, "{vip} is written without a compare:\n{}", self.transcript());
    }

    /// A VIP is given away only when the kernel has none of its addresses, and will get none.
    pub(super) fn check_removed(&self, vip: &VipName, txn: &Txn) {
        let Some(vip) = self.config.vips.iter().find(|v| v.name == *vip) else { return };
        for assignment in vip.assignments() {
            let there = self.addresses.get(&present(&assignment)) == Some(&true);
            assert!(!there, "{txn:?} while {assignment} is there:\n{}", self.transcript());
            let queued = self.ops.iter().any(|(_, op)| match op {
                KernelOp::Assume { addresses, .. } => addresses.contains(&assignment),
                _ => false,
            });
            assert!(!queued, "{txn:?} while {assignment} is being added:\n{}", self.transcript());
        }
    }
}

/// The keys that a transaction would write.
fn written(txn: &Txn) -> Vec<&str> {
    let key = |op| match op {
        &Op::Put { ref key, .. } | &Op::Delete { ref key } => Some(key.as_str()),
        Op::Get { .. } => None,
    };
    txn.success.iter().filter_map(key).collect()
}

fn names_own(op: &Op) -> bool {
    let Op::Put { value, .. } = op else { return false };
    String::from_utf8_lossy(value).contains("\"node\":\"a\"")
}
