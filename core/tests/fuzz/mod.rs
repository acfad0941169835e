//! One node, driven by a random sequence of inputs, with a store and a kernel that answer in any
//! order, late, wrongly or never; and what must hold of the node's actions whatever comes.

mod checks;
mod step;
mod writes;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use turnip_core::*;

use crate::world::{Etcd, MS};

pub use step::{Kerneling, Step, Whom, Write, steps};

/// The last thing that the node asked of the kernel about a VIP.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Asked {
    Assume,
    Withdraw,
}

/// The node and all around it.
pub struct Fuzz {
    pub node: Node,
    pub now: Instant,
    pub etcd: Etcd,
    config: NodeConfig,
    other_offer: Vec<u8>,
    writes: u64,
    told: Option<usize>,
    commits: Vec<(TxnId, Txn)>,
    answers: Vec<(TxnId, TxnResponse)>,
    late: Vec<Txn>,
    ops: VecDeque<(OpId, KernelOp)>,
    /// What the kernel has, and whether the node put it there.
    addresses: BTreeMap<PresentAddress, bool>,
    link: Option<bool>,
    asked: BTreeMap<VipName, Asked>,
    /// The hooks that run.
    hooks: Vec<HookRun>,
    stopped_at_once: bool,
    pub exit: Option<Exit>,
    pub story: Vec<String>,
}

impl Fuzz {
    pub fn new(config: NodeConfig) -> Self {
        let now = Instant::from_nanos(5_000_000_000);
        let mut fuzz = Fuzz {
            node: Node::new(config.clone(), now),
            now,
            etcd: Etcd { revision: 1, cluster_id: 7, ..Etcd::default() },
            other_offer: offer_of(&config),
            config,
            writes: 0,
            told: None,
            commits: Vec::new(),
            answers: Vec::new(),
            late: Vec::new(),
            ops: VecDeque::new(),
            addresses: BTreeMap::new(),
            link: Some(true),
            asked: BTreeMap::new(),
            hooks: Vec::new(),
            stopped_at_once: false,
            exit: None,
            story: Vec::new(),
        };
        fuzz.drain_actions();
        fuzz
    }

    /// Plays a step and checks all that must hold.
    pub fn play(&mut self, step: &Step) {
        if self.exit.is_some() {
            return;
        }
        self.story.push(format!("{:?} {step:?}", self.now));
        self.input(step);
        self.drain_actions();
        self.check_silence();
    }

    fn input(&mut self, step: &Step) {
        let now = self.now;
        match step {
            Step::Apply(which) => {
                if let Some((id, txn)) = take(&mut self.commits, *which) {
                    self.answers.push((id, self.etcd.apply(&txn)));
                }
            }
            Step::Commit(which) => {
                if let Some((id, txn)) = take(&mut self.commits, *which) {
                    let response = self.etcd.apply(&txn);
                    self.node.handle_committed(id, Ok(response), now);
                }
            }
            Step::Answer(which) => {
                if let Some((id, response)) = take(&mut self.answers, *which) {
                    self.node.handle_committed(id, Ok(response), now);
                }
            }
            Step::Fail(which) => {
                if let Some((id, txn)) = take(&mut self.commits, *which) {
                    self.late.push(txn);
                    self.fail(id);
                } else if let Some((id, _)) = take(&mut self.answers, *which) {
                    self.fail(id);
                }
            }
            Step::Land(which) => {
                if let Some(txn) = take(&mut self.late, *which) {
                    self.etcd.apply(&txn);
                }
            }
            Step::Nonsense { which, succeeded, revision, gets } => {
                if let Some((id, _)) = take(&mut self.commits, *which) {
                    let header = Header {
                        cluster_id: 7,
                        member_id: 1,
                        raft_term: 2,
                        revision: Revision(*revision),
                    };
                    let kvs = self.etcd.kvs.values().cloned().map(Some);
                    let gets = kvs.chain([None]).take(*gets).collect();
                    let answer = TxnResponse { header, succeeded: *succeeded, gets };
                    self.node.handle_committed(id, Ok(answer), now);
                }
            }
            Step::Unasked => {
                let response = self.etcd.apply(&Txn::default());
                self.node.handle_committed(TxnId(u64::MAX), Ok(response), now);
                let outcome = KernelOutcome::Done { failed: Vec::new(), until: None };
                self.node.handle_kernel_outcome(OpId(u64::MAX), outcome, now);
            }
            Step::Write(write) => self.write(write),
            Step::Tell(revisions) => (0..*revisions).for_each(|_| {
                self.deliver_events();
                self.drain_actions();
            }),
            Step::Snapshot { fresh } => self.snapshot(*fresh),
            Step::WatchBreaks => {
                self.told = None;
                let error = StoreError::Unavailable("broken".into());
                self.node.handle_follow_failed(&error, now);
            }
            Step::Perform(how) => self.perform(*how),
            Step::Tells(event) => self.kernel_event(event),
            Step::Meddle { vip, add } => self.meddle(*vip, *add),
            Step::Wake => {
                self.now = self.node.poll_timeout().map_or(now, |at| at.max(now));
                self.wake();
            }
            Step::Pass(millis) => {
                self.now += Duration::from_millis(*millis);
                self.wake();
            }
            Step::Member(term) => {
                let is_leader = term.is_some();
                let term = term.unwrap_or_default();
                self.node.handle_member(Ok(MemberStatus { member_id: 9, is_leader, term }), now);
            }
            Step::Attempt(passes) => {
                let result = if *passes { Ok(()) } else { Err("refused".to_owned()) };
                let attempt = Attempt { check: "api".parse().unwrap(), result };
                self.node.handle_attempt(&attempt, now);
            }
            Step::HookEnds { which, well } => self.hook_ends(*which, *well),
            Step::Stop { at_once: false } => self.node.handle_stop(now),
            Step::Stop { at_once: true } => {
                self.stopped_at_once = true;
                self.node.handle_stop_now(now);
            }
        }
    }

    fn fail(&mut self, id: TxnId) {
        let error = StoreError::Unavailable("lost".into());
        self.node.handle_committed(id, Err(error), self.now);
    }

    fn hook_ends(&mut self, which: usize, well: bool) {
        let Some(run) = take(&mut self.hooks, which) else { return };
        let failed = || HookEnd::Failed("exit status 1".into());
        let end = if well { HookEnd::Succeeded } else { failed() };
        self.node.handle_hook_ended(run.id, &end, self.now);
    }

    /// Calls the node for its timers, and sees that it then waits for something to come.
    fn wake(&mut self) {
        while let Some(at) = self.hooks.iter().position(|run| run.deadline <= self.now) {
            let run = self.hooks.remove(at);
            self.node.handle_hook_ended(run.id, &HookEnd::Killed, self.now);
            self.drain_actions();
        }
        let mut calls = 0;
        loop {
            self.node.handle_timeout(self.now);
            self.drain_actions();
            calls += 1;
            match self.node.poll_timeout() {
                Some(at) if at <= self.now => {
                    assert!(calls < 4, "it wants to be called for ever:\n{}", self.transcript());
                }
                _ => return,
            }
        }
    }

    // ---- the kernel

    fn perform(&mut self, how: Kerneling) {
        let Some((id, op)) = self.ops.pop_front() else { return };
        let error = match how {
            Kerneling::Well => None,
            Kerneling::TooLate => Some(KernelError::TooLate),
            Kerneling::NoInterface if self.link.is_some() => None,
            Kerneling::NoInterface => Some(KernelError::NoInterface),
            Kerneling::Refuses => Some(KernelError::Refused("no".into())),
            Kerneling::Fails => {
                let outcome = KernelOutcome::Failed(KernelError::Refused("no answer".into()));
                return self.node.handle_kernel_outcome(id, outcome, self.now);
            }
        };
        let all = |addresses: &[Assignment]| -> Vec<(Assignment, KernelError)> {
            error.iter().flat_map(|e| addresses.iter().map(|a| (a.clone(), e.clone()))).collect()
        };
        let failed = match &op {
            KernelOp::List => {
                let link = |&up: &bool| Link { name: "eth0".into(), up, carrier: up };
                let links = self.link.iter().map(link).collect();
                let addresses = self.addresses.keys().cloned().collect();
                let outcome = KernelOutcome::Listed(Listing { addresses, links });
                return self.node.handle_kernel_outcome(id, outcome, self.now);
            }
            KernelOp::Assume { addresses, deadline } if self.now >= *deadline => {
                addresses.iter().map(|a| (a.clone(), KernelError::TooLate)).collect()
            }
            KernelOp::Assume { addresses, .. } => {
                if error.is_none() {
                    self.addresses.extend(addresses.iter().map(|a| (present(a), true)));
                }
                all(addresses)
            }
            KernelOp::Withdraw { addresses } => {
                if error.is_none() {
                    let gone: BTreeSet<_> = addresses.iter().map(|a| a.address).collect();
                    self.addresses.retain(|there, _| !gone.contains(&there.address));
                }
                all(addresses)
            }
            KernelOp::Refresh { .. } => all(&self.held()),
            KernelOp::Configure { .. } | KernelOp::RemoveFence => Vec::new(),
        };
        let outcome = KernelOutcome::Done { failed, until: None };
        self.node.handle_kernel_outcome(id, outcome, self.now);
    }

    /// What the node's own doing has put there.
    fn held(&self) -> Vec<Assignment> {
        let all = self.config.vips.iter().flat_map(VipConfig::assignments);
        all.filter(|one| self.addresses.get(&present(one)) == Some(&true)).collect()
    }

    fn kernel_event(&mut self, event: &KernelEvent) {
        match event {
            KernelEvent::LinkChanged(link) => self.link = Some(link.up && link.carrier),
            KernelEvent::LinkGone(_) => {
                self.link = None;
                self.addresses.clear();
            }
            _ => {}
        }
        self.node.handle_kernel_event(event.clone(), self.now);
    }

    fn meddle(&mut self, vip: usize, add: bool) {
        let vip = &self.config.vips[vip % self.config.vips.len()];
        let Some(first) = vip.assignments().next() else { return };
        match add {
            true => {
                self.addresses.entry(present(&first)).or_insert(false);
            }
            false => {
                self.addresses.remove(&present(&first));
            }
        }
        self.node.handle_kernel_event(KernelEvent::AddressChanged, self.now);
    }

    /// The end of what happened, for people.
    pub fn transcript(&self) -> String {
        let from = self.story.len().saturating_sub(150);
        self.story[from..].join("\n")
    }

    // ---- healing

    /// From here on everything works and nobody else takes part.
    pub fn heal(&mut self) {
        self.story.push("healed".into());
        self.late.clear();
        for key in ["intents/drain/a", "intents/pin/v0", "intents/pin/v1", "intents/pin/v2"] {
            self.delete(key);
        }
        if self.link != Some(true) {
            let link = Link { name: "eth0".into(), up: true, carrier: true };
            self.kernel_event(&KernelEvent::LinkChanged(link));
        }
        for (id, _) in std::mem::take(&mut self.answers) {
            self.fail(id);
        }
    }

    /// Lets `duration` pass in which everything is answered at once.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end && self.exit.is_none() {
            self.drain_actions();
            let busy = !self.commits.is_empty() || !self.ops.is_empty() || !self.hooks.is_empty();
            let news = self.told.is_some_and(|told| told < self.etcd.history.len());
            if busy || news || self.told.is_none() {
                if self.told.is_none() {
                    self.play(&Step::Snapshot { fresh: true });
                }
                self.play(&Step::Commit(0));
                self.play(&Step::Perform(Kerneling::Well));
                self.play(&Step::HookEnds { which: 0, well: true });
                self.play(&Step::Tell(1));
                self.now += Duration::from_micros(10);
            } else {
                self.play(&Step::Wake);
                self.now += MS;
            }
        }
    }

    /// The VIPs of which an address is missing.
    pub fn missing(&self) -> Vec<VipName> {
        let vips = self.config.vips.iter();
        vips.filter(|vip| !vip.assignments().all(|a| self.addresses.contains_key(&present(&a))))
            .map(|vip| vip.name.clone())
            .collect()
    }
}

fn present(assignment: &Assignment) -> PresentAddress {
    let interface = assignment.interface.clone();
    PresentAddress { interface, address: assignment.address, marked: true, misplaced: false }
}

fn take<T>(items: &mut Vec<T>, which: usize) -> Option<T> {
    (!items.is_empty()).then(|| items.remove(which % items.len()))
}

/// What another node with the same VIPs publishes.
fn offer_of(config: &NodeConfig) -> Vec<u8> {
    let offers = config.vips.iter().map(|vip| {
        let addresses: Vec<String> =
            vip.addresses.iter().map(|a| format!("\"{}\"", a.net)).collect();
        format!(
            r#""{}":{{"digest":"{}","addresses":[{}],"policy":"priority"}}"#,
            vip.name,
            vip.digest(),
            addresses.join(",")
        )
    });
    let offers: Vec<String> = offers.collect();
    format!(
        r#"{{"v":1,"vips":{{{}}},"weight":100,"drained":false,"version":"t"}}"#,
        offers.join(",")
    )
    .into_bytes()
}
