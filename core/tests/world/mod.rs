//! A small world for tests of the rules: a store that is linearizable, hosts whose kernels obey,
//! and a network in which a test decides what arrives when.
//!
//! By default everything is answered at once. A test holds back what it wants to delay.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use turnip_core::*;

pub const MS: Duration = Duration::from_millis(1);

/// The store: keys, revisions, history.
#[derive(Default)]
pub struct Etcd {
    pub revision: i64,
    pub kvs: BTreeMap<String, KeyValue>,
    pub history: Vec<(i64, Event)>,
    pub cluster_id: u64,
    pub raft_term: u64,
}

impl Etcd {
    pub fn header(&self) -> Header {
        Header {
            cluster_id: self.cluster_id,
            member_id: 1,
            raft_term: self.raft_term,
            revision: Revision(self.revision),
        }
    }

    pub fn apply(&mut self, txn: &Txn) -> TxnResponse {
        for ops in [txn.compares.len(), txn.success.len(), txn.failure.len()] {
            assert!(ops <= OPS_PER_TXN_MAX, "etcd refuses {ops} operations");
        }
        let (now, next) = (self.header(), Revision(self.revision + 1));
        let (response, events) = model::apply(&mut self.kvs, txn, now, next);
        self.revision = response.header.revision.0;
        self.history.extend(events.into_iter().map(|event| (next.0, event)));
        response
    }

    pub fn put(&mut self, key: &str, value: &str) {
        let (key, value) = (key.to_owned(), value.as_bytes().to_vec());
        self.apply(&Txn { success: vec![Op::Put { key, value }], ..Txn::default() });
    }

    pub fn delete(&mut self, key: &str) {
        self.apply(&Txn { success: vec![Op::Delete { key: key.to_owned() }], ..Txn::default() });
    }

    pub fn json(&self, key: &str) -> Option<serde_json::Value> {
        self.kvs.get(key).map(|kv| serde_json::from_slice(&kv.value).unwrap())
    }
}

/// One host: a node, its kernel, and what is on its way.
pub struct Host {
    pub node: Node,
    pub config: NodeConfig,
    pub addresses: BTreeSet<PresentAddress>,
    pub links: BTreeMap<String, bool>,
    pub commits: VecDeque<(TxnId, Txn)>,
    pub ops: VecDeque<(OpId, KernelOp)>,
    pub reports: Vec<Report>,
    pub announced: Vec<(Instant, String)>,
    /// Through which addresses connections were to end, and when.
    pub connections_ended: Vec<(Instant, String)>,
    /// What hooks were run, and when each ended, in the order in which that happened.
    pub hooks: Vec<HookTold>,
    /// What runs now.
    pub hooks_running: Vec<HookRun>,
    /// How long each hook takes and how it ends; at once and well where nothing is said.
    pub hook_takes: BTreeMap<Hook, (Duration, HookEnd)>,
    /// What the runtime directory says is owed.
    pub owed: BTreeMap<VipName, Owed>,
    pub fence_removed: bool,
    /// What the fence silences unless it is held.
    pub fenced: BTreeSet<ipnet::IpNet>,
    pub exit: Option<Exit>,
    pub follows: u32,
    /// The history up to here has been told; none when the stream has not begun.
    pub told: Option<usize>,
    /// Keys of other programs that it follows.
    pub followed: BTreeSet<String>,
    /// These are not told.
    pub keys_cut: bool,
    /// What the local etcd member says.
    pub leads_term: Option<u64>,
    /// No commit reaches the store, no answer comes back.
    pub cut: bool,
    /// The watch tells nothing.
    pub watch_cut: bool,
    /// Commits wait for [`World::deliver`].
    pub hold_commits: bool,
    /// Kernel operations wait for [`World::perform`].
    pub hold_ops: bool,
    /// The process does nothing.
    pub frozen: bool,
    /// Its actions may wait: then whoever announces looks at the deadline.
    pub sluggish: bool,
    /// No heartbeat leaves this host.
    pub mute: bool,
    /// Heartbeats to this host wait for [`World::hear`].
    pub hold_beats: bool,
    /// Heartbeats on their way to it, with their senders' names.
    pub beats: VecDeque<(NodeName, Datagram)>,
    pub keys: Option<HeartbeatKeys>,
    /// What the kernel answers to an assumption.
    pub refuse_assume: Option<KernelError>,
    pub refuse_withdraw: Option<KernelError>,
}

/// What became of a hook.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HookTold {
    Began(Hook, &'static str),
    Ended(Hook),
    Killed(Hook),
}

pub struct World {
    pub now: Instant,
    pub etcd: Etcd,
    pub hosts: Vec<Host>,
}

pub fn vip(name: &str, address: &str, policy: Policy) -> VipConfig {
    VipConfig {
        name: name.parse().unwrap(),
        addresses: VipAddress::all_on("eth0", address.split(' ').map(|a| a.parse().unwrap())),
        policy,
        defend: false,
        require_carrier: true,
        keep_connections: false,
        checks: BTreeSet::new(),
        last_resort: LastResort::Keep,
        hooks: Hooks::new(),
    }
}

pub fn link(name: &str, up: bool, carrier: bool) -> Link {
    Link { name: name.into(), up, carrier }
}

pub fn config(name: &str, vips: Vec<VipConfig>) -> NodeConfig {
    NodeConfig {
        cluster: "main".parse().unwrap(),
        name: name.parse().unwrap(),
        host: HostId(format!("host-{name}").into()),
        process: name.bytes().next().unwrap().into(),
        lease: Lease::new(3000 * MS).unwrap(),
        backstop: Backstop::Fence,
        weight: 100,
        vips,
        checks: Vec::new(),
        announce_every: None,
        heartbeats: None,
        version: "test".into(),
    }
}

/// The same, and it hears the others (rule 10).
pub fn hearing(name: &str) -> NodeConfig {
    NodeConfig {
        host: HostId(format!("host-{name}/boot-1/netns").into()),
        heartbeats: Some(HeartbeatConfig {
            address: "10.9.9.9:7".parse().unwrap(),
            fresh_key: format!("key of {name}"),
            without_store: lease::WITHOUT_STORE,
        }),
        ..config(name, one_vip())
    }
}

/// What the examples of the rules have: one VIP that stays where it is.
pub fn one_vip() -> Vec<VipConfig> {
    vec![vip("v", "10.0.0.50/32", Policy::Priority { priority: 0, preempt: false })]
}

/// What the fence of a process with that configuration silences.
fn fenced(config: &NodeConfig) -> BTreeSet<ipnet::IpNet> {
    config.vips.iter().flat_map(|vip| vip.addresses.iter().map(|one| one.net)).collect()
}

impl World {
    pub fn new(configs: Vec<NodeConfig>) -> Self {
        let mut world = World {
            now: Instant::from_nanos(1_000_000_000),
            etcd: Etcd { revision: 1, cluster_id: 7, raft_term: 2, ..Etcd::default() },
            hosts: Vec::new(),
        };
        for config in configs {
            world.start(config);
        }
        world
    }

    /// Nodes named a, b, c with one VIP each; the first to start has it.
    pub fn of(names: &[&str]) -> Self {
        let mut world = World::new(Vec::new());
        for name in names {
            world.start(config(name, one_vip()));
            world.run(100 * MS);
        }
        world
    }

    /// The same; they hear each other, and have listed each other.
    pub fn hearing(names: &[&str]) -> Self {
        let mut world = World::new(Vec::new());
        for name in names {
            world.start(hearing(name));
            world.run(100 * MS);
        }
        world.run(2000 * MS);
        world
    }

    /// No transaction of anybody reaches the store, and no watch tells anything.
    pub fn stop_store(&mut self) {
        self.hosts.iter_mut().for_each(|host| (host.cut, host.watch_cut) = (true, true));
    }

    /// The store is back; whose watch ended follows anew by itself.
    pub fn start_store(&mut self) {
        self.hosts.iter_mut().for_each(|host| (host.cut, host.watch_cut) = (false, false));
    }

    pub fn witnesses(&self, node: &str) -> Vec<String> {
        let record = self.etcd.json(&format!("/turnip/main/sessions/{node}")).unwrap();
        let names = record["witnesses"].as_array().cloned().unwrap_or_default();
        names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    }

    pub fn start(&mut self, config: NodeConfig) -> usize {
        self.hosts.push(Host {
            node: Node::new(config.clone(), self.now),
            config: config.clone(),
            addresses: BTreeSet::new(),
            links: BTreeMap::from([("eth0".to_owned(), true)]),
            commits: VecDeque::new(),
            ops: VecDeque::new(),
            reports: Vec::new(),
            announced: Vec::new(),
            connections_ended: Vec::new(),
            hooks: Vec::new(),
            hooks_running: Vec::new(),
            hook_takes: BTreeMap::new(),
            owed: BTreeMap::new(),
            fence_removed: false,
            fenced: fenced(&config),
            exit: None,
            follows: 0,
            told: None,
            followed: BTreeSet::new(),
            keys_cut: false,
            leads_term: None,
            cut: false,
            watch_cut: false,
            hold_commits: false,
            hold_ops: false,
            frozen: false,
            sluggish: false,
            mute: false,
            hold_beats: false,
            beats: VecDeque::new(),
            keys: None,
            refuse_assume: None,
            refuse_withdraw: None,
        });
        self.hosts.len() - 1
    }

    /// Kills the daemon of host `i` and starts it again; the kernel keeps what it has, and what
    /// was on its way to the store may still arrive.
    pub fn restart(&mut self, i: usize) -> VecDeque<(TxnId, Txn)> {
        let host = &mut self.hosts[i];
        let mut config = host.config.clone();
        config.process += 0x100;
        host.config = config.clone();
        host.fenced = fenced(&config);
        host.node = Node::new(config, self.now);
        host.node.handle_owed(host.owed.values().cloned().collect());
        host.hooks_running.clear();
        host.ops.clear();
        host.beats.clear();
        host.told = None;
        host.exit = None;
        host.frozen = false;
        std::mem::take(&mut host.commits)
    }

    /// Host `i` is told that its VIPs are these from now on.
    pub fn reload(&mut self, i: usize, vips: Vec<VipConfig>) {
        self.hosts[i].config.vips = vips;
        let config = self.hosts[i].config.clone();
        self.hosts[i].node.handle_configured(config, self.now);
    }

    // ---- time

    /// Lets time pass in steps of a millisecond; everything that is not held back is answered.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.now += MS;
            self.step();
        }
    }

    /// Runs until `done`, at the most `limit`.
    pub fn run_until(&mut self, limit: Duration, done: impl Fn(&World) -> bool) {
        let end = self.now + limit;
        while !done(self) {
            assert!(self.now < end, "it did not come to be within {limit:?}:\n{}", self.story());
            self.run(MS);
        }
    }

    fn step(&mut self) {
        for i in 0..self.hosts.len() {
            if self.hosts[i].frozen {
                continue;
            }
            self.hosts[i].node.handle_timeout(self.now);
            // Answers bring new requests; a node that never comes to rest is a bug.
            for round in 0.. {
                assert!(round < 1000, "host {i} does not come to rest:\n{}", self.story());
                if !self.settle(i) {
                    break;
                }
            }
        }
    }

    /// Ends the hooks of host `i` that are due; whether there was one.
    fn end_hooks(&mut self, i: usize) -> bool {
        let (now, host) = (self.now, &self.hosts[i]);
        let end = |run: &HookRun| match host.hook_takes.get(&run.hook) {
            None => Some((run.id, HookEnd::Succeeded)),
            Some((takes, end)) => {
                let began = run.deadline - run.timeout;
                let killed = (run.deadline <= now).then_some((run.id, HookEnd::Killed));
                let ended = (began + *takes <= now).then(|| (run.id, end.clone()));
                ended.or(killed)
            }
        };
        let due: Vec<_> = host.hooks_running.iter().filter_map(end).collect();
        let busy = !due.is_empty();
        due.into_iter().for_each(|(id, end)| self.end_hook(i, id, end));
        busy
    }

    /// A hook of host `i` ends.
    pub fn end_hook(&mut self, i: usize, id: HookId, end: HookEnd) {
        let (now, host) = (self.now, &mut self.hosts[i]);
        let Some(at) = host.hooks_running.iter().position(|run| run.id == id) else { return };
        let run = host.hooks_running.remove(at);
        host.hooks.push(match end {
            HookEnd::Killed => HookTold::Killed(run.hook),
            _ => HookTold::Ended(run.hook),
        });
        host.node.handle_hook_ended(id, &end, now);
    }

    /// Performs what host `i` wants, tells it what is new; whether there was anything.
    fn settle(&mut self, i: usize) -> bool {
        let mut busy = false;
        while let Some(action) = self.hosts[i].node.poll_action() {
            busy = true;
            self.act(i, action);
        }
        if !self.hosts[i].hold_commits && !self.hosts[i].commits.is_empty() {
            busy = true;
            if self.hosts[i].cut {
                let (id, _) = self.hosts[i].commits.pop_front().unwrap();
                self.fail(i, id);
            } else {
                self.deliver(i);
            }
        }
        if !self.hosts[i].hold_ops && !self.hosts[i].ops.is_empty() {
            busy = true;
            self.perform(i);
        }
        while !self.hosts[i].hold_beats && !self.hosts[i].beats.is_empty() {
            busy = true;
            self.hear(i);
        }
        busy |= self.end_hooks(i);
        busy | self.deliver_events(i)
    }

    /// The next heartbeat that is on its way to host `i` arrives.
    pub fn hear(&mut self, i: usize) {
        let (from, datagram) = self.hosts[i].beats.pop_front().expect("a heartbeat is on its way");
        self.hosts[i].node.handle_datagram(&from, &datagram, self.now);
    }

    fn act(&mut self, i: usize, action: Action) {
        let now = self.now;
        let host = &mut self.hosts[i];
        match action {
            Action::Follow { prefix, keys, .. } => {
                host.follows += 1;
                host.told = None;
                host.followed = keys;
                if host.cut || host.watch_cut {
                    return;
                }
                host.told = Some(self.etcd.history.len());
                let kvs = self.etcd.kvs.values().filter(|kv| kv.key.starts_with(&prefix));
                let snapshot = Snapshot { header: self.etcd.header(), kvs: kvs.cloned().collect() };
                let as_of = snapshot.header.revision;
                host.node.handle_update(Update::Snapshot(snapshot), now);
                for key in host.followed.clone().into_iter().filter(|_| !host.keys_cut) {
                    let state = Ok((self.etcd.kvs.get(&key).cloned(), as_of));
                    host.node.handle_key(ForeignKey { key, state }, now);
                }
            }
            Action::Commit { id, txn, .. } => host.commits.push_back((id, txn)),
            Action::AskMember { .. } => {
                let answer = MemberStatus {
                    member_id: i as u64,
                    is_leader: host.leads_term.is_some(),
                    term: host.leads_term.unwrap_or_default(),
                };
                host.node.handle_member(Ok(answer), now);
            }
            Action::Kernel { id, op } => host.ops.push_back((id, op)),
            Action::Announce { addresses, deadline } => {
                assert!(now < deadline || host.sluggish);
                let told = addresses.iter().map(|a| (now, a.address.to_string()));
                host.announced.extend(told);
            }
            Action::Beat(_) if host.mute => {}
            Action::Beat(to) => {
                let from = host.config.name.clone();
                for Addressee { node, datagram, .. } in to {
                    let reached = self.hosts.iter_mut().filter(|host| host.config.name == node);
                    reached.for_each(|host| host.beats.push_back((from.clone(), datagram)));
                }
            }
            Action::EndConnections { addresses } => {
                let told = addresses.iter().map(|ip| (now, ip.to_string()));
                host.connections_ended.extend(told);
            }
            Action::Hook(HookAction::Owe(owed)) => {
                host.owed.insert(owed.vip.clone(), owed);
            }
            Action::Hook(HookAction::Paid(vip)) => {
                host.owed.remove(&vip);
            }
            Action::Hook(HookAction::Run(run)) => {
                host.hooks.push(HookTold::Began(run.hook, run.reason));
                host.hooks_running.push(run);
            }
            Action::Hook(HookAction::Kill(id)) => self.end_hook(i, id, HookEnd::Killed),
            Action::UseKeys(keys) => host.keys = Some(keys),
            Action::Report(report) => host.reports.push(report),
            Action::Exit(exit) => host.exit = Some(exit),
        }
    }

    /// The watch of host `i` tells the next revision; whether there was one.
    pub fn deliver_events(&mut self, i: usize) -> bool {
        let host = &mut self.hosts[i];
        let Some(told) = host.told else { return false };
        if host.watch_cut || host.cut || told == self.etcd.history.len() {
            return false;
        }
        // One revision at a time, as etcd does.
        let revision = self.etcd.history[told].0;
        let events: Vec<Event> = self.etcd.history[told..]
            .iter()
            .take_while(|(r, _)| *r == revision)
            .map(|(_, event)| event.clone())
            .collect();
        host.told = Some(told + events.len());
        let (foreign, events): (Vec<Event>, Vec<Event>) =
            events.into_iter().partition(|event| !event.key().starts_with("/turnip/"));
        let is_told = |event: &Event| !host.keys_cut && host.followed.contains(event.key());
        for event in foreign.into_iter().filter(is_told) {
            let key = event.key().to_owned();
            let state = Ok(match event {
                Event::Put(kv) => (Some(kv), Revision(revision)),
                Event::Delete { .. } => (None, Revision(revision)),
            });
            host.node.handle_key(ForeignKey { key, state }, self.now);
        }
        let header = Header { revision: Revision(revision), ..self.etcd.header() };
        host.node.handle_update(Update::Events(Events { header, events }), self.now);
        true
    }

    /// The watch of host `i` tells all that has happened.
    pub fn tell(&mut self, i: usize) {
        while self.deliver_events(i) {}
    }

    // ---- the store

    /// The next held commit reaches the store, and its answer the node.
    pub fn deliver(&mut self, i: usize) {
        let (id, txn) = self.hosts[i].commits.pop_front().expect("a commit is under way");
        let response = self.etcd.apply(&txn);
        self.hosts[i].node.handle_committed(id, Ok(response), self.now);
    }

    /// The next held commit reaches the store, and its answer is lost.
    pub fn deliver_without_answer(&mut self, i: usize) {
        let (id, txn) = self.hosts[i].commits.pop_front().expect("a commit is under way");
        self.etcd.apply(&txn);
        self.fail(i, id);
    }

    /// The next held commit is on its way for longer than the node waits for it.
    pub fn delay(&mut self, i: usize) -> Txn {
        let (id, txn) = self.hosts[i].commits.pop_front().expect("a commit is under way");
        self.fail(i, id);
        txn
    }

    pub fn fail(&mut self, i: usize, id: TxnId) {
        let error = StoreError::Unavailable("cut".into());
        self.hosts[i].node.handle_committed(id, Err(error), self.now);
    }

    // ---- the kernel

    /// The next held kernel operation is performed and acknowledged.
    pub fn perform(&mut self, i: usize) {
        let now = self.now;
        let host = &mut self.hosts[i];
        let (id, op) = host.ops.pop_front().expect("an operation is queued");
        let at = |a: &Assignment, there: &PresentAddress| {
            there.interface == a.interface && there.address == a.address
        };
        let mut failed = Vec::new();
        match op {
            KernelOp::List => {
                let links = host.links.iter();
                let listing = Listing {
                    addresses: host.addresses.iter().cloned().collect(),
                    links: links.map(|(name, up)| link(name, *up, true)).collect(),
                };
                let outcome = KernelOutcome::Listed(listing);
                return host.node.handle_kernel_outcome(id, outcome, now);
            }
            KernelOp::Assume { addresses, deadline } => {
                for assignment in addresses {
                    assert!(
                        host.fenced.contains(&assignment.address),
                        "{assignment} is not fenced"
                    );
                    if let Some(error) = host.refuse_assume.clone() {
                        failed.push((assignment, error));
                    } else if now >= deadline {
                        failed.push((assignment, KernelError::TooLate));
                    } else {
                        host.addresses.retain(|there| !at(&assignment, there));
                        host.addresses.insert(PresentAddress {
                            interface: assignment.interface,
                            address: assignment.address,
                            marked: true,
                            misplaced: false,
                        });
                    }
                }
            }
            KernelOp::Withdraw { addresses } => {
                for assignment in addresses {
                    if let Some(error) = host.refuse_withdraw.clone() {
                        failed.push((assignment, error));
                    } else {
                        host.addresses.retain(|there| !at(&assignment, there));
                    }
                }
            }
            KernelOp::Configure { addresses } => {
                host.fenced = addresses.into_iter().map(|one| one.address).collect();
            }
            KernelOp::RemoveFence => host.fence_removed = true,
            KernelOp::Refresh { .. } => {}
        }
        let outcome = KernelOutcome::Done { failed, until: None };
        host.node.handle_kernel_outcome(id, outcome, now);
    }

    pub fn event(&mut self, i: usize, event: KernelEvent) {
        self.hosts[i].node.handle_kernel_event(event, self.now);
    }

    pub fn remove_behind_the_back(&mut self, i: usize) {
        self.hosts[i].addresses.clear();
        self.event(i, KernelEvent::AddressChanged);
    }

    /// The host's own address goes and comes back: what is there by turnip stands before it.
    pub fn misplace(&mut self, i: usize) {
        let all = std::mem::take(&mut self.hosts[i].addresses).into_iter();
        let misplaced = all.map(|there| PresentAddress { misplaced: true, ..there });
        self.hosts[i].addresses = misplaced.collect();
        self.event(i, KernelEvent::AddressChanged);
    }

    // ---- looking

    /// The hosts that have any address.
    pub fn holders(&self) -> Vec<usize> {
        let holds = |host: &Host| !host.addresses.is_empty();
        (0..self.hosts.len()).filter(|&i| holds(&self.hosts[i])).collect()
    }

    pub fn holder_of(&self, address: &str) -> Vec<usize> {
        let address: ipnet::IpNet = address.parse().unwrap();
        let holds = |host: &Host| host.addresses.iter().any(|a| a.address == address);
        (0..self.hosts.len()).filter(|&i| holds(&self.hosts[i])).collect()
    }

    pub fn owner(&self, vip: &str) -> Option<String> {
        let record = self.etcd.json(&format!("/turnip/main/vips/{vip}"))?;
        Some(record["node"].as_str().unwrap().to_owned())
    }

    pub fn session(&self, node: &str) -> Option<&KeyValue> {
        self.etcd.kvs.get(&format!("/turnip/main/sessions/{node}"))
    }

    pub fn said(&self, i: usize, what: &str) -> bool {
        self.hosts[i].reports.iter().any(|report| report.to_string().contains(what))
    }

    pub fn story(&self) -> String {
        let tell = |(i, host): (usize, &Host)| {
            let lines: Vec<String> = host.reports.iter().map(|r| format!("  {r}")).collect();
            format!("host {i} at {:?}:\n{}\n", self.now, lines.join("\n"))
        };
        self.hosts.iter().enumerate().map(tell).collect()
    }
}
