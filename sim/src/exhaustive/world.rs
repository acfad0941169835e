//! What comes of the things that happen in the small world.

use ipnet::IpNet;
use turnip_core::records::{DrainRecord, PinRecord, encode};
use turnip_core::{Keys, Lease, NodeName, Op, SessionId, Txn, VipConfig};

use super::Options;
use super::adapters::{Adapters, KernelInput};
use super::daemon::{Daemons, Input, cluster, host_name};
use super::moves::{Fate, Move};
use super::state::{Answer, Host, LOST, Life, Request, State, Trouble, Used};
use super::store::Stores;

/// What must never be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Violation {
    /// Two hosts answer for the same address at the same instant.
    Overlap(&'static str, &'static str),
    /// A host's session is gone, and its deadline is ahead.
    Deleted(&'static str),
    /// A daemon takes another of its own processes for a stranger and ends.
    Refusal(&'static str),
    /// All is well, and has been for a long time, and still nobody holds this address.
    Nobody(IpNet),
    /// Nobody has held an address for so many ticks, though somebody could have.
    Gap(u8),
}

/// The rules by which one state leads to the next, and all that is remembered of them.
pub(super) struct World {
    pub(super) options: Options,
    pub(super) stores: Stores,
    pub(super) daemons: Daemons,
    pub(super) adapters: Adapters,
    /// How many configuration files there are, and the addresses in each.
    pub(super) files: u8,
    pub(super) addresses: Vec<Vec<IpNet>>,
    /// Transactions of the operator's, for each host: pin v to it, undrain it, drain it.
    pins: Vec<u32>,
    drains: Vec<[u32; 2]>,
    /// The session of each host when all begins.
    first_sessions: Vec<Option<SessionId>>,
}

impl World {
    pub(super) fn new(options: Options, lease: Lease) -> Self {
        let keys = Keys::new(&cluster());
        let mut stores = Stores::new(keys.clone());
        let files = options.files.list();
        let mut write =
            |op| stores.messages.txns.intern(Txn { success: vec![op], ..Txn::default() });
        let mut pins = Vec::new();
        let mut drains = Vec::new();
        for name in (0..options.nodes).map(host_name) {
            let node: NodeName = name.parse().expect("a name");
            let (key, value) = (keys.drain(&node), encode(&DrainRecord {}));
            if let Some(vip) = files[0].first() {
                let (key, value) = (keys.pin(&vip.name), encode(&PinRecord { node }));
                pins.push(write(Op::Put { key, value }));
            }
            drains.push([write(Op::Delete { key: key.clone() }), write(Op::Put { key, value })]);
        }
        let of_vip = |vip: &VipConfig| vip.addresses.iter().map(|one| one.net).collect::<Vec<_>>();
        let of_file = |vips: &Vec<VipConfig>| vips.iter().flat_map(of_vip).collect();
        World {
            options,
            stores,
            daemons: Daemons::new(lease, &options),
            adapters: Adapters::new(&options),
            files: u8::try_from(files.len()).expect("few"),
            addresses: files.iter().map(of_file).collect(),
            pins,
            drains,
            first_sessions: Vec::new(),
        }
    }

    /// Every host has joined (or only the first, where it is to be alone), the first one holds all
    /// VIPs, and nothing is on its way.
    pub(super) fn initial(&mut self) -> State {
        let mut state = State {
            tick: 0,
            store: self.stores.empty(),
            pinned: 0,
            drained: 0,
            used: Used::default(),
            gap: 0,
            late: Vec::new(),
            flying: Vec::new(),
            hosts: Vec::new(),
        };
        let all = self.options.nodes;
        let hearing = self.options.hearing;
        let later = self.options.absent + usize::from(hearing.is_some_and(|it| it.newcomer));
        state.hosts.resize(all, Host::off());
        for host in 0..all - later {
            self.join(&mut state, host);
        }
        for _ in 0..hearing.map_or(0, |hearing| hearing.warm_up) {
            self.apply_one(&mut state, Move::Tick { fates: [Fate::Prompt; 3] });
            self.calm(&mut state, |_| {});
        }
        for host in all - later..all - self.options.absent {
            self.join(&mut state, host);
        }
        state.used = Used::default();
        let hosts = 0..self.options.nodes;
        self.first_sessions = hosts.map(|host| self.stores.session(state.store, host)).collect();
        state
    }

    fn join(&mut self, state: &mut State, host: usize) {
        self.start(state, host, 0);
        self.calm(state, |_| {});
    }

    /// Lets everything that is on its way arrive; `each` is told what does.
    pub(super) fn calm(&mut self, state: &mut State, mut each: impl FnMut(Move)) {
        while let Some(next) = self.arrival(state, true) {
            each(next);
            self.apply(state, next);
        }
    }

    /// Something that is on its way and arrives next when all goes well; `all`: also what goes to
    /// the store or comes from it late.
    fn arrival(&self, state: &State, all: bool) -> Option<Move> {
        (0..state.hosts.len())
            .find_map(|index| {
                let host = u8::try_from(index).expect("few");
                let at = &state.hosts[index];
                if self.adapters.call(at.kernel).is_some() && (all || !self.options.slow_kernel) {
                    return Some(Move::Perform { host });
                }
                if at.life != Life::Running {
                    return None;
                }
                if all && at.watch_stalled {
                    return Some(Move::StallWatch { host, on: false });
                }
                if !at.watch_stalled && !at.watch.is_empty() {
                    return Some(Move::Watch { host });
                }
                if all && !at.answers.is_empty() {
                    return Some(Move::Answer { host, nth: 0 });
                }
                let nth = at.requests.iter().position(|request| request.txn != LOST)?;
                all.then(|| Move::Commit { host, nth: u8::try_from(nth).expect("few") })
            })
            .or_else(|| all.then(|| self.hearing(state))?)
    }

    /// The next heartbeat arrives; one that reaches nobody is forgotten in time.
    fn hearing(&self, state: &State) -> Option<Move> {
        state.flying.iter().enumerate().find_map(|(nth, flying)| {
            let host = self.reached_by(state, flying.to).last()?;
            Some(Move::Hear { host, nth: u8::try_from(nth).expect("few"), again: false })
        })
    }

    /// What is wrong with a state, if anything is.
    pub(super) fn violation(&self, state: &State) -> Option<Violation> {
        if self.options.hearing.is_some()
            && let Some(host) = (0..state.hosts.len()).find(|&host| self.is_deleted(state, host))
        {
            return Some(Violation::Deleted(host_name(host)));
        }
        let mut answering = self.answering(state);
        while let Some((one, address)) = answering.next() {
            if let Some((other, _)) = answering.clone().find(|(_, other)| *other == address) {
                return Some(Violation::Overlap(host_name(one), host_name(other)));
            }
        }
        if state.gap > self.options.gap_max {
            return Some(Violation::Gap(state.gap));
        }
        // Of two machines with one name, one refuses to run.
        if self.options.hearing.is_some_and(|hearing| hearing.twin_of.is_some()) {
            return None;
        }
        let refused = state.hosts.iter().position(|host| host.life == Life::Refused)?;
        Some(Violation::Refusal(host_name(refused)))
    }

    /// Whether a host's session is gone although its deadline is ahead: whoever deleted it did not wait
    /// for as long as the host may hold.
    fn is_deleted(&self, state: &State, host: usize) -> bool {
        let at = &state.hosts[host];
        at.is_running()
            && self.daemons.standing(at.node).is_some_and(|(session, deadline)| {
                self.daemons.clocks.at(host, state.tick) < deadline
                    && self.stores.session(state.store, self.options.name_of(host)) != Some(session)
            })
    }

    /// The hosts that answer at this instant, and for which address. Without a fence nothing but
    /// the daemon silences an address.
    pub(super) fn answering<'a>(
        &'a self,
        state: &'a State,
    ) -> impl Iterator<Item = (usize, IpNet)> + Clone + 'a {
        state.hosts.iter().enumerate().flat_map(move |(index, host)| {
            let now = self.options.fence.then(|| self.daemons.clocks.at(index, state.tick));
            self.adapters.answering(host.kernel, now).map(move |address| (index, address))
        })
    }

    /// An address that nobody answers for, although a host that may hold it is there.
    pub(super) fn missing(&self, state: &State) -> Option<IpNet> {
        let able = |index: usize, host: &Host| {
            let ends = host.life == Life::Killed && self.options.stay_down;
            let alive = matches!(host.life, Life::Running | Life::Killed) && !ends;
            alive && host.incarnation > 0 && state.drained & (1 << index) == 0
        };
        let able = state.hosts.iter().enumerate().filter(|(index, host)| able(*index, host));
        let mut wanted = able.flat_map(|(_, host)| &self.addresses[usize::from(host.file)]);
        let answered = |address: &IpNet| self.answering(state).any(|(_, other)| other == *address);
        wanted.find(|address| !answered(address)).copied()
    }

    /// How many hosts have no session any more, or another one than when all began.
    pub(super) fn expired(&self, state: &State) -> usize {
        let first = &self.first_sessions;
        (0..first.len())
            .filter(|&host| self.stores.session(state.store, host) != first[host])
            .count()
    }

    /// Makes `state` what it is after `next`.
    pub(super) fn apply(&mut self, state: &mut State, next: Move) {
        self.apply_one(state, next);
        if self.options.prompt {
            while self.violation(state).is_none()
                && let Some(next) = self.arrival(state, false)
            {
                self.apply_one(state, next);
            }
        }
    }

    fn apply_one(&mut self, state: &mut State, next: Move) {
        match next {
            Move::Tick { fates } => self.tick(state, fates),
            Move::Commit { host, nth } => {
                let host = usize::from(host);
                let request = state.hosts[host].requests.remove(nth.into());
                let response = self.land(state, request.txn);
                let input = Input::Committed { id: request.id, response: Some(response) };
                self.feed(state, host, input);
                self.echo(state, host);
            }
            Move::Land { host, nth } => {
                state.used.count(Trouble::Slow);
                let host = usize::from(host);
                let request = state.hosts[host].requests.remove(nth.into());
                let response = self.land(state, request.txn);
                let answer = Answer { id: request.id, response, old: false };
                state.hosts[host].answers.push(answer);
            }
            Move::Answer { host, nth } => {
                let host = usize::from(host);
                let answer = state.hosts[host].answers.remove(nth.into());
                let input = Input::Committed { id: answer.id, response: Some(answer.response) };
                self.feed(state, host, input);
            }
            Move::Delay { host, nth } => {
                state.used.count(Trouble::Late);
                let host = usize::from(host);
                let request = state.hosts[host].requests.remove(nth.into());
                self.leave_late(state, request.txn);
                let input = Input::Committed { id: request.id, response: None };
                self.feed(state, host, input);
            }
            Move::LandLate { nth } => {
                let txn = state.late.remove(nth.into());
                self.land(state, txn);
            }
            Move::Watch { host } => self.hear(state, host.into()),
            Move::StallWatch { host, on } => {
                if on {
                    state.used.count(Trouble::StalledWatch);
                }
                state.hosts[usize::from(host)].watch_stalled = on;
            }
            Move::Perform { host } => self.kernel(state, host.into(), KernelInput::Perform),
            Move::Kill { host } => {
                state.used.count(Trouble::Crash);
                self.kill(state, host.into());
            }
            Move::Reboot { host } => {
                state.used.count(Trouble::Reboot);
                self.kill(state, host.into());
                self.kernel(state, host.into(), KernelInput::Reboot);
                state.hosts[usize::from(host)].boots += 1;
            }
            Move::Start { host, file } => {
                let host = usize::from(host);
                if state.hosts[host].file != file {
                    state.used.count(Trouble::Change);
                }
                self.start(state, host, file);
            }
            Move::Pin { host } => {
                state.used.count(Trouble::Move);
                state.pinned = host + 1;
                self.land(state, self.pins[usize::from(host)]);
            }
            Move::Drain { host, on } => {
                state.used.count(Trouble::Drain);
                state.drained ^= 1 << host;
                self.land(state, self.drains[usize::from(host)][usize::from(on)]);
            }
            Move::Hear { host, nth, again } => {
                let datagram = state.flying[usize::from(nth)].datagram;
                if again {
                    state.used.count(Trouble::Double);
                } else {
                    state.flying.remove(nth.into());
                }
                self.feed(state, host.into(), Input::Datagram { datagram });
            }
            Move::Stop { host } => {
                state.used.count(Trouble::Stop);
                self.feed(state, host.into(), Input::Stop);
            }
        }
    }

    fn tick(&mut self, state: &mut State, fates: [Fate; 3]) {
        state.tick += 1;
        self.lose_old_datagrams(state);
        for (index, fate) in fates.into_iter().enumerate().take(state.hosts.len()) {
            if state.hosts[index].life != Life::Running {
                continue;
            }
            if fate == Fate::Stalled {
                state.used.count(Trouble::Stall);
                continue;
            }
            // A request that has not landed within a renew interval is given up, and an answer
            // that has waited in the process for a whole tick comes too late.
            let lost = std::mem::take(&mut state.hosts[index].requests);
            let (old, young): (Vec<Answer>, Vec<Answer>) =
                std::mem::take(&mut state.hosts[index].answers).into_iter().partition(|a| a.old);
            state.hosts[index].answers = young;
            state.hosts[index].answers.iter_mut().for_each(|answer| answer.old = true);
            for id in lost.iter().map(|r| r.id).chain(old.iter().map(|a| a.id)) {
                self.feed(state, index, Input::Committed { id, response: None });
            }
            self.wake(state, index);
        }
        for (index, fate) in fates.into_iter().enumerate().take(state.hosts.len()) {
            if fate != Fate::Stalled {
                self.renew(state, index, fate);
            }
        }
        if self.options.gap_max < u8::MAX {
            // Only ticks at which somebody could do something about it.
            let renews =
                |(host, fate): (&Host, Fate)| host.life == Life::Running && fate == Fate::Prompt;
            state.gap = match self.missing(state) {
                None => 0,
                Some(_) => state.gap + u8::from(state.hosts.iter().zip(fates).any(renews)),
            };
        }
    }

    /// The renewals that host `index` has just sent meet their fate.
    fn renew(&mut self, state: &mut State, index: usize, fate: Fate) {
        let host = u8::try_from(index).expect("few");
        let renewal = |world: &World, request: &Request| {
            request.txn != LOST && world.stores.is_renewal(request.txn)
        };
        if self.options.max(Trouble::Loss) < u8::MAX {
            let losing = fate == Fate::Lost && state.hosts[index].life == Life::Running;
            if losing && !state.hosts[index].losing {
                state.used.count(Trouble::Loss);
            }
            state.hosts[index].losing = losing;
        }
        while let Some(nth) = state.hosts[index].requests.iter().position(|r| renewal(self, r)) {
            match fate {
                Fate::Prompt | Fate::Slow => {
                    let nth = u8::try_from(nth).expect("few");
                    let slow = fate == Fate::Slow;
                    let next =
                        if slow { Move::Land { host, nth } } else { Move::Commit { host, nth } };
                    self.apply_one(state, next);
                }
                Fate::Late => {
                    state.used.count(Trouble::Late);
                    let txn = state.hosts[index].requests[nth].txn;
                    state.hosts[index].requests[nth].txn = LOST;
                    self.leave_late(state, txn);
                }
                Fate::Lost | Fate::Stalled => state.hosts[index].requests[nth].txn = LOST,
            }
        }
    }
}
