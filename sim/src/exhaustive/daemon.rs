//! The real core, remembered: the same node given the same input does the same again, so each
//! such step is computed once.

use std::rc::Rc;
use std::time::Duration;

use turnip_core::{
    Action, Addressee, Backstop, ClusterName, Datagram, Exit, HostId, Instant, KeyKind, Keys,
    Lease, Node, NodeConfig, NodeName, Op, OpId, SessionId, StoreError, TxnId, VipConfig,
};

use super::Options;
use super::arena::{Identity, NumberMap};
use super::hearing::Hearing;
use super::messages::Messages;

/// True time goes by in steps of this.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// More than are ever started on one host.
const PROCESSES: u64 = 0x100;

/// More than a node ever asks for in one.
const IDS_PER_TICK: u64 = 64;

/// What a node is told.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Input {
    Wake,
    Stop,
    /// The answer to a transaction; none: an error.
    Committed {
        id: u32,
        response: Option<u32>,
    },
    Watch {
        update: u32,
    },
    Kernel {
        id: u32,
        outcome: u32,
    },
    Datagram {
        datagram: u32,
    },
}

/// What a node asks for, as far as it matters to the world.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Effect {
    Follow,
    Commit {
        id: u32,
        txn: u32,
    },
    Kernel {
        id: u32,
        op: u32,
    },
    /// A datagram goes to the name of that number.
    Send {
        to: u8,
        datagram: u32,
    },
    Exit {
        refused: bool,
    },
}

/// A node, and what it asked for on the way there.
#[derive(Clone)]
pub(super) struct Step {
    pub(super) node: u32,
    pub(super) effects: Rc<[Effect]>,
}

/// Every node state that was ever reached, by number.
///
/// A node takes some 10 KiB, so only those that were used lately are kept; any other is made again
/// in the way in which it first came to be.
pub(super) struct Daemons {
    options: Options,
    lease: Lease,
    pub(super) clocks: Clocks,
    files: Vec<Vec<VipConfig>>,
    slots: Vec<Slot>,
    ids: NumberMap<u128, u32>,
    identity: Identity,
    kept: usize,
    epoch: u32,
    steps: NumberMap<(u32, u8, Input), Step>,
    starts: NumberMap<(Start, u8), Step>,
    /// What nodes said in words, while somebody wants to hear it.
    pub(super) said: Option<Vec<String>>,
}

/// How many nodes are kept, roughly.
const KEPT_MAX: usize = 60_000;

/// One node state.
struct Slot {
    origin: Origin,
    timeout: u32,
    standing: Option<(SessionId, Instant)>,
    kept: Option<Box<Node>>,
    /// When it was last used.
    epoch: u32,
}

/// A daemon that starts.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Start {
    pub(super) host: usize,
    /// How often one has started there.
    pub(super) incarnation: u8,
    /// How often the host has been booted again.
    pub(super) boots: u8,
    /// Which configuration file it reads.
    pub(super) file: u8,
}

/// How a node state first came to be.
#[derive(Clone, Copy)]
enum Origin {
    Start { start: Start, tick: u8 },
    Step { node: u32, host: usize, tick: u8, input: Input },
}

impl Daemons {
    pub(super) fn new(lease: Lease, options: &Options) -> Self {
        Daemons {
            options: *options,
            lease,
            clocks: Clocks(options.rates_percent),
            files: options.files.list(),
            slots: Vec::new(),
            ids: NumberMap::default(),
            identity: Identity::default(),
            kept: 0,
            epoch: 0,
            steps: NumberMap::default(),
            starts: NumberMap::default(),
            said: None,
        }
    }

    /// A daemon that starts.
    pub(super) fn start(&mut self, messages: &mut Messages, start: Start, tick: u8) -> Step {
        if let Some(step) = self.starts.get(&(start, tick))
            && self.said.is_none()
        {
            return step.clone();
        }
        let node = self.started(start, tick);
        let step = self.settle(messages, node, Origin::Start { start, tick });
        self.starts.insert((start, tick), step.clone());
        step
    }

    fn started(&self, start: Start, tick: u8) -> Node {
        let mut node = Node::new(self.config(start), self.clocks.at(start.host, tick));
        if let Some(mutant) = self.options.mutant {
            node.set_mutant(mutant);
        }
        node
    }

    /// What node number `node` of host `host` makes of `input`.
    pub(super) fn step(
        &mut self,
        messages: &mut Messages,
        (host, node): (usize, u32),
        tick: u8,
        input: Input,
    ) -> Step {
        let key = (node, tick, input);
        if self.said.is_none()
            && let Some(step) = self.steps.get(&key)
        {
            return step.clone();
        }
        let mut next = self.node(messages, node);
        self.feed(&mut next, messages, (host, tick), input);
        let step = self.settle(messages, next, Origin::Step { node, host, tick, input });
        self.steps.insert(key, step.clone());
        step
    }

    /// The node of that number, made again where it was forgotten.
    fn node(&mut self, messages: &Messages, node: u32) -> Node {
        let mut steps = Vec::new();
        let mut at = node as usize;
        let mut made = loop {
            let slot = &mut self.slots[at];
            slot.epoch = self.epoch;
            if let Some(kept) = &slot.kept {
                break Node::clone(kept);
            }
            match slot.origin {
                Origin::Start { start, tick } => {
                    let mut made = self.started(start, tick);
                    while made.poll_action().is_some() {}
                    break made;
                }
                Origin::Step { node, host, tick, input } => {
                    steps.push(((host, tick), input));
                    at = node as usize;
                }
            }
        };
        for (when, input) in steps.into_iter().rev() {
            self.feed(&mut made, messages, when, input);
            while made.poll_action().is_some() {}
        }
        if self.slots[node as usize].kept.is_none() {
            self.keep(node, made.clone());
        }
        made
    }

    fn keep(&mut self, node: u32, made: Node) {
        let slot = &mut self.slots[node as usize];
        slot.kept = Some(Box::new(made));
        slot.epoch = self.epoch;
        self.kept += 1;
        if self.kept > KEPT_MAX {
            for slot in self.slots.iter_mut().filter(|slot| slot.epoch < self.epoch) {
                self.kept -= usize::from(slot.kept.take().is_some());
            }
            self.epoch += 1;
        }
    }

    fn settle(&mut self, messages: &mut Messages, mut node: Node, origin: Origin) -> Step {
        let mut effects = Vec::new();
        while let Some(action) = node.poll_action() {
            self.effect(messages, action, &mut effects);
        }
        let next = u32::try_from(self.slots.len()).expect("fewer than 2^32 nodes");
        let number = *self.ids.entry(self.identity.of(&node)).or_insert(next);
        if number == next {
            let timeout = node.poll_timeout().map_or(u32::MAX, micros);
            let standing = node.session().zip(node.deadline());
            self.slots.push(Slot { origin, timeout, standing, kept: None, epoch: self.epoch });
            self.keep(number, node);
        }
        Step { node: number, effects: effects.into() }
    }

    fn effect(&mut self, messages: &mut Messages, action: Action, effects: &mut Vec<Effect>) {
        effects.push(match action {
            Action::Follow { .. } => Effect::Follow,
            Action::Commit { id, mut txn, .. } => {
                // No node reads it, and pasts that differ only in what is told are equal.
                txn.success.retain(|op| !is_history(op));
                Effect::Commit { id: small(id.0), txn: messages.txns.intern(txn) }
            }
            Action::Kernel { id, op } => {
                Effect::Kernel { id: small(id.0), op: messages.ops.intern(op) }
            }
            Action::Exit(exit) => Effect::Exit { refused: matches!(exit, Exit::Refused(_)) },
            Action::Report(report) => {
                if let Some(said) = &mut self.said {
                    said.push(report.to_string());
                }
                return;
            }
            // The member is on no host of this world, nobody learns from announcements, and nobody has
            // connections or hooks.
            Action::AskMember { .. }
            | Action::Hook(_)
            | Action::Announce { .. }
            | Action::EndConnections { .. }
            | Action::UseKeys(_) => return,
            Action::Beat(to) => return self.beat(messages, to, effects),
        });
    }

    /// One datagram to each, from the node that is being settled.
    fn beat(&self, messages: &mut Messages, to: Vec<Addressee>, effects: &mut Vec<Effect>) {
        for Addressee { node, datagram, .. } in to {
            // A process has the number of its host.
            let host = usize::try_from(datagram.heartbeat.process / PROCESSES).expect("few");
            let from: NodeName = self.name(host).parse().expect("a name");
            // Who hears nothing is acknowledged here all the same: rule 10.4 only takes away from what may
            // happen by that, and heartbeats are rarer here than it expects.
            let datagram = (from, Datagram { hears_addressee: true, ..datagram });
            effects.push(Effect::Send {
                to: number_of(&node),
                datagram: messages.datagrams.intern(datagram),
            });
        }
    }

    /// When the node wants to be called, on its own clock.
    pub(super) fn timeout(&self, node: u32) -> u32 {
        self.slots[node as usize].timeout
    }

    /// The session that the node has, and its deadline on its own clock.
    pub(super) fn standing(&self, node: u32) -> Option<(SessionId, Instant)> {
        self.slots[node as usize].standing
    }

    /// How many different nodes, and different steps of them, were met.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.slots.len(), self.steps.len())
    }

    fn config(&self, Start { host, incarnation, boots, file }: Start) -> NodeConfig {
        NodeConfig {
            cluster: cluster(),
            name: self.name(host).parse().expect("a name"),
            host: HostId(format!("{}/{boots}/netns", host_name(host)).into()),
            process: host as u64 * PROCESSES + u64::from(incarnation),
            lease: self.lease,
            backstop: Backstop::Fence,
            weight: 100,
            vips: self.files[usize::from(file)].clone(),
            checks: Vec::new(),
            // Nobody learns from announcements here, and their times would set states apart.
            announce_every: None,
            heartbeats: self.hearing_of(host).map(|hearing| hearing.config(host)),
            version: String::new(),
        }
    }

    /// How a host hears the others, if it does.
    fn hearing_of(&self, host: usize) -> Option<Hearing> {
        let is_old = |hearing: &Hearing| hearing.old_daemon && host + 1 == self.options.nodes;
        self.options.hearing.filter(|hearing| !is_old(hearing))
    }

    fn name(&self, host: usize) -> &'static str {
        host_name(self.options.name_of(host))
    }

    /// Gives `node` an input.
    fn feed(&self, node: &mut Node, messages: &Messages, (host, tick): (usize, u8), input: Input) {
        let now = self.clocks.at(host, tick);
        node.skip_ids_to(IDS_PER_TICK * u64::from(tick));
        match input {
            Input::Wake => node.handle_timeout(now),
            Input::Stop => node.handle_stop(now),
            Input::Committed { id, response } => {
                let answer = match response {
                    Some(response) => Ok(messages.responses.get(response).clone()),
                    None => Err(StoreError::Unavailable("no answer".to_owned())),
                };
                node.handle_committed(TxnId(id.into()), answer, now);
            }
            Input::Watch { update } => {
                node.handle_update(messages.updates.get(update).clone(), now)
            }
            Input::Kernel { id, outcome } => {
                let outcome = messages.outcomes.get(outcome).clone();
                node.handle_kernel_outcome(OpId(id.into()), outcome, now);
            }
            Input::Datagram { datagram } => {
                let (from, datagram) = messages.datagrams.get(datagram);
                node.handle_datagram(from, datagram, now);
            }
        }
    }
}

fn is_history(op: &Op) -> bool {
    let Op::Put { key, .. } = op else { return false };
    matches!(Keys::new(&cluster()).kind(key), KeyKind::History(..))
}

/// The name of the cluster.
pub(super) fn cluster() -> ClusterName {
    "c".parse().expect("a name")
}

/// The names of the hosts.
pub(super) fn host_name(host: usize) -> &'static str {
    ["a", "b", "c"][host]
}

/// The number of a node's name.
fn number_of(name: &NodeName) -> u8 {
    let is = |number: &u8| host_name(usize::from(*number)) == name.as_str();
    (0..3).find(is).expect("a host's name")
}

/// How fast the hosts' clocks go, in percent of true time.
#[derive(Clone, Copy)]
pub(super) struct Clocks(pub(super) [u32; 3]);

impl Clocks {
    /// What the clock of a host reads. Each has an epoch of its own.
    pub(super) fn at(self, host: usize, tick: u8) -> Instant {
        let epoch = Instant::from_nanos((host as u64 + 1) * 1_000_000_000);
        epoch + TICK * u32::from(tick) * self.0[host] / 100
    }

    /// The same in µs.
    pub(super) fn micros(self, host: usize, tick: u8) -> u32 {
        micros(self.at(host, tick))
    }
}

fn micros(at: Instant) -> u32 {
    u32::try_from(at.as_nanos() / 1000).expect("the world is young")
}

pub(super) fn small(id: u64) -> u32 {
    u32::try_from(id).expect("the world is young")
}
