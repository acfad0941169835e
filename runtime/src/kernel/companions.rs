//! The routes and rules of the VIPs that are here: made after their addresses, and taken away before
//! these.
//!
//! Two threads do so. The one that puts addresses there makes them at once, so that they are there when
//! the VIP is announced, and takes them away before the kernel acknowledges that the VIP is gone. The
//! other one ([`super::companions_watch`]) puts back what somebody took away, and finds what a turnip
//! that was killed has left.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use rtnetlink::packet_route::AddressFamily;
use turnip_core::{Assignment, VipName};

use super::companion::{Companion, FoundRoute, VipRule};
use super::companions_watch;
use super::record::Entry;
use super::refusal::Refusal;
use super::route::Route;

/// The routes and rules of each VIP that has some.
pub type CompanionsOf = BTreeMap<VipName, Vec<Companion>>;

/// All of them. The thread that puts them back ends when it is dropped.
pub(super) struct Companions {
    state: Arc<Mutex<State>>,
    /// A byte has the thread look.
    nudge: UnixStream,
}

/// What is wanted, and how far that is.
#[derive(Default)]
pub(super) struct State {
    vips: BTreeMap<VipName, Vec<Member>>,
    /// Whose each address is.
    of_entries: BTreeMap<Entry, VipName>,
    /// What is wanted of another configuration.
    wanted: Option<(CompanionsOf, BTreeMap<VipName, BTreeSet<Entry>>)>,
    /// What no VIP has any more, and is there still.
    leaving: Vec<Companion>,
    /// The VIPs that are here.
    here: BTreeSet<VipName>,
    /// The host's addresses have been looked at.
    listed: bool,
    /// A route could not be made because there is one: whose that is is not known.
    doubtful: bool,
}

struct Member {
    what: Companion,
    /// The kernel has it, by turnip's doing as far as is known.
    is_there: bool,
    /// What was said of it last.
    complaint: Option<String>,
}

impl Companions {
    /// Starts the thread. All are made in the order in which they are given.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn watch(all: CompanionsOf, configured: &[Assignment]) -> io::Result<Self> {
        let (nudge, nudged) = UnixStream::pair()?;
        nudge.set_nonblocking(true)?;
        let state = Arc::new(Mutex::new(State::new(all, configured)));
        companions_watch::start(Arc::clone(&state), nudged)?;
        Ok(Companions { state, nudge })
    }

    /// Addresses were put there, or renewed; `is_new` says of which VIPs some were not there before.
    pub fn came<'a>(
        &self,
        route: &mut Route,
        vips: impl IntoIterator<Item = &'a VipName>,
        is_new: impl Fn(&VipName) -> bool,
    ) {
        let mut state = self.lock();
        let vips: BTreeSet<&VipName> = vips.into_iter().collect();
        let mut all_is_well = true;
        for vip in vips {
            if !state.here.contains(vip) {
                // With a reload it may get some.
                state.here.insert(vip.clone());
            }
            if is_new(vip) || !state.is_complete(vip) {
                all_is_well &= state.make(route, vip, false);
            }
        }
        if !all_is_well || state.doubtful {
            self.look();
        }
    }

    /// Addresses are about to be taken away.
    pub fn go<'a>(&self, route: &mut Route, vips: impl IntoIterator<Item = &'a VipName>) {
        let mut state = self.lock();
        for vip in vips.into_iter().collect::<BTreeSet<_>>() {
            state.here.remove(vip);
            state.take_away(route, vip);
        }
    }

    /// These addresses with turnip's mark are on the host. A VIP that an earlier process left may go
    /// on; what belongs to one that is gone goes.
    pub fn found<'a>(&self, route: &mut Route, present: impl IntoIterator<Item = &'a Entry>) {
        let mut state = self.lock();
        let present = present.into_iter();
        let present: BTreeSet<VipName> =
            present.filter_map(|entry| state.of_entries.get(entry).cloned()).collect();
        if !std::mem::replace(&mut state.listed, true) {
            state.here.extend(present);
            self.look();
            return;
        }
        let gone: Vec<VipName> = state.here.difference(&present).cloned().collect();
        for vip in &gone {
            state.here.remove(vip);
            state.take_away(route, vip);
        }
    }

    /// These are the routes and rules of VIPs that have these addresses (rule 14.3). A VIP whose addresses are
    /// the same has them at once; of it goes what is not wanted, and the rest is not touched.
    pub fn want(&self, all: CompanionsOf, addresses: &[Assignment]) {
        self.lock().want(all, addresses);
        self.look();
    }

    /// These are the addresses of today's VIPs.
    pub fn configure(&self, addresses: &[Assignment]) {
        self.lock().configure(addresses);
        self.look();
    }

    fn look(&self) {
        // Where it cannot take one it has one waiting.
        let _ = (&self.nudge).write(&[0]);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

pub(super) fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn new(all: CompanionsOf, configured: &[Assignment]) -> Self {
        let members = |all: Vec<Companion>| all.into_iter().map(Member::new).collect();
        let vips = all.into_iter().map(|(vip, all)| (vip, members(all))).collect();
        State { vips, of_entries: of_entries(configured).collect(), ..State::default() }
    }

    fn want(&mut self, all: CompanionsOf, addresses: &[Assignment]) {
        self.wanted = Some((all, entries_of(of_entries(addresses))));
        self.advance();
    }

    fn configure(&mut self, addresses: &[Assignment]) {
        self.of_entries = of_entries(addresses).collect();
        self.advance();
    }

    /// Each VIP that is where it is wanted has what is wanted of it.
    fn advance(&mut self) {
        let Some((wanted, entries)) = self.wanted.take() else { return };
        let today = entries_of(self.of_entries.clone());
        let names: BTreeSet<VipName> = self.vips.keys().chain(wanted.keys()).cloned().collect();
        for vip in names.into_iter().filter(|vip| today.get(vip) == entries.get(vip)) {
            let of_it = wanted.get(&vip).cloned().unwrap_or_default();
            self.replace(vip, of_it);
        }
        // What another VIP has got is not touched.
        let mut leaving = std::mem::take(&mut self.leaving);
        leaving.retain(|gone| !self.is_there(|what| what == gone));
        self.leaving = leaving;
        self.wanted = Some((wanted, entries));
    }

    fn replace(&mut self, vip: VipName, all: Vec<Companion>) {
        let mut before = self.vips.remove(&vip).unwrap_or_default();
        let stays = |what| match before.iter().position(|member| member.what == what) {
            Some(at) => before.remove(at),
            None => Member::new(what),
        };
        let members: Vec<Member> = all.into_iter().map(stays).collect();
        // The rules first, which lead to the routes.
        let gone = before.into_iter().rev().filter(|member| member.is_there);
        self.leaving.extend(gone.map(|member| member.what));
        if !members.is_empty() {
            self.vips.insert(vip, members);
        }
    }

    /// Takes away what no VIP has any more.
    pub fn let_leave(&mut self, route: &mut Route) {
        if self.leaving.is_empty() {
            return;
        }
        let leaving = std::mem::take(&mut self.leaving);
        let requests = leaving.iter().map(|what| what.delete(index(what).ok().flatten()));
        match route.request(requests.collect()) {
            Ok(answers) => {
                for (what, answer) in leaving.iter().zip(answers) {
                    match answer {
                        Err(refusal) if !is_gone(&refusal) => {
                            tracing::warn!(%refusal, "cannot take away {what}, which is configured no more");
                        }
                        _ => tracing::info!("took away {what}, which is configured no more"),
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "routes and rules that are configured no more stay for now");
                self.leaving = leaving;
            }
        }
    }

    pub fn is_empty(&self) -> bool {
        self.vips.is_empty()
    }

    fn is_complete(&self, vip: &VipName) -> bool {
        self.vips.get(vip).into_iter().flatten().all(|member| member.is_there)
    }

    /// Whether something is missing of the VIPs that are here.
    pub fn is_incomplete(&self) -> bool {
        !self.leaving.is_empty() || self.here.iter().any(|vip| !self.is_complete(vip))
    }

    /// Whether it is to be found out whose a route is; asked once.
    pub fn take_doubts(&mut self) -> bool {
        std::mem::take(&mut self.doubtful)
    }

    /// Makes what is missing of all VIPs that are here, and says what was and what cannot be.
    pub fn repair(&mut self, route: &mut Route) {
        self.let_leave(route);
        let with_some: Vec<VipName> =
            self.vips.keys().filter(|vip| self.here.contains(*vip)).cloned().collect();
        for vip in with_some {
            self.make(route, &vip, true);
        }
    }

    /// Makes what is missing of a VIP; whether all of it is there then.
    fn make(&mut self, route: &mut Route, vip: &VipName, tells: bool) -> bool {
        // It may stand where something is to be made.
        self.let_leave(route);
        let Some(members) = self.vips.get_mut(vip) else { return true };
        let found: Vec<_> = members.iter().map(|member| index(&member.what)).collect();
        let requests = members.iter().zip(&found);
        let requests =
            requests.filter_map(|(member, found)| Some(member.what.add(*found.as_ref().ok()?)));
        let mut answers = match route.request(requests.collect()) {
            Ok(answers) => answers.into_iter(),
            Err(error) => {
                tracing::debug!(%vip, %error, "routes and rules of a VIP are not made for now");
                return false;
            }
        };
        let mut rules = None;
        for (member, found) in members.iter_mut().zip(found) {
            let outcome = match found {
                Err(why) => Err(why),
                Ok(_) => match answers.next() {
                    Some(Ok(())) => {
                        member.made(vip, tells);
                        continue;
                    }
                    Some(Err(refusal)) if Errno::from_raw(refusal.errno) == Errno::EEXIST => {
                        self.doubtful |= !member.is_there && member.complaint.is_none();
                        member.exists(route, &mut rules)
                    }
                    Some(Err(refusal)) => Err(refusal.to_string()),
                    None => Err("the kernel did not answer".to_owned()),
                },
            };
            match outcome {
                Ok(()) => (member.is_there, member.complaint) = (true, None),
                Err(why) => member.fails(vip, why, tells),
            }
        }
        members.iter().all(|member| member.is_there)
    }

    /// Takes away what is there of a VIP: the rules first, which lead to the routes.
    fn take_away(&mut self, route: &mut Route, vip: &VipName) {
        let Some(members) = self.vips.get_mut(vip) else { return };
        let mut there: Vec<&mut Member> =
            members.iter_mut().rev().filter(|member| member.is_there).collect();
        // Without its interface a route is gone.
        let requests =
            there.iter().map(|member| member.what.delete(index(&member.what).ok().flatten()));
        match route.request(requests.collect()) {
            Ok(answers) => {
                for (member, answer) in there.iter_mut().zip(answers) {
                    match answer {
                        Err(refusal) if !is_gone(&refusal) => {
                            tracing::warn!(%vip, %refusal, "cannot take away {}", member.what);
                        }
                        _ => member.is_there = false,
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%vip, %error, "routes and rules of a VIP that leaves stay for now");
            }
        }
    }

    /// Takes note of what was found that carries turnip's number. Gives what no VIP has.
    pub fn adopt(&mut self, routes: Vec<FoundRoute>, rules: Vec<VipRule>) -> Vec<Found> {
        let mut strays = Vec::new();
        for found in routes {
            let is_it = |what: &Companion| match what {
                Companion::Route(route) => {
                    index(what).is_ok_and(|index| found.is(&route.on(index)))
                }
                Companion::Rule(_) => false,
            };
            if !self.is_there(is_it) {
                strays.push(Found::Route(found));
            }
        }
        for found in rules {
            let is_it = |what: &Companion| *what == Companion::Rule(found.clone());
            if !self.is_there(is_it) {
                strays.push(Found::Rule(found));
            }
        }
        strays
    }

    fn is_there(&mut self, is_it: impl Fn(&Companion) -> bool) -> bool {
        let mut members = self.vips.values_mut().flatten();
        let member = members.find(|member| is_it(&member.what));
        member.map(|member| member.is_there = true).is_some()
    }

    /// Takes away what is there of VIPs that are not here, once that is known.
    pub fn tidy(&mut self, route: &mut Route) {
        if !self.listed {
            return;
        }
        let is_left = |(vip, members): &(&VipName, &Vec<Member>)| {
            !self.here.contains(*vip) && members.iter().any(|member| member.is_there)
        };
        let left: Vec<VipName> =
            self.vips.iter().filter(is_left).map(|(vip, _)| vip.clone()).collect();
        for vip in left {
            tracing::info!(%vip, "taking away routes and rules that an earlier turnip left");
            self.take_away(route, &vip);
        }
    }
}

fn of_entries(addresses: &[Assignment]) -> impl Iterator<Item = (Entry, VipName)> + '_ {
    addresses.iter().map(|one| ((Arc::clone(&one.interface), one.address), one.vip.clone()))
}

fn entries_of(
    all: impl IntoIterator<Item = (Entry, VipName)>,
) -> BTreeMap<VipName, BTreeSet<Entry>> {
    let mut of = BTreeMap::<VipName, BTreeSet<Entry>>::new();
    for (entry, vip) in all {
        of.entry(vip).or_default().insert(entry);
    }
    of
}

impl Member {
    fn new(what: Companion) -> Self {
        Member { what, is_there: false, complaint: None }
    }

    fn made(&mut self, vip: &VipName, tells: bool) {
        if self.is_there {
            tracing::warn!(%vip, "putting back {}, which was missing although the VIP is here", self.what);
        } else if tells && self.complaint.is_some() {
            tracing::info!(%vip, "{} could be made after all", self.what);
        }
        (self.is_there, self.complaint) = (true, None);
    }

    /// Whether the one that there is already is turnip's own.
    fn exists(&self, route: &mut Route, rules: &mut Option<Vec<VipRule>>) -> Result<(), String> {
        match &self.what {
            // To take it away meets turnip's own alone. Whose it is, is seen when all are looked at.
            Companion::Route(_) if self.complaint.is_none() => Ok(()),
            Companion::Route(_) => Err(EXISTS_ROUTE.to_owned()),
            Companion::Rule(rule) => {
                let known = rules.get_or_insert_with(|| list_rules(route).unwrap_or_default());
                let is_ours = self.is_there || known.contains(rule);
                is_ours.then_some(()).ok_or_else(|| EXISTS_RULE.to_owned())
            }
        }
    }

    fn fails(&mut self, vip: &VipName, why: String, tells: bool) {
        self.is_there = false;
        if tells && self.complaint.as_ref() != Some(&why) {
            tracing::warn!(%vip, "cannot make {}: {why}", self.what);
            self.complaint = Some(why);
        }
    }
}

const EXISTS_ROUTE: &str = "somebody else's route has the same destination, table and metric; give this one another metric";
const EXISTS_RULE: &str = "somebody else has made the same rule; take that away";

/// What was found and belongs to no VIP.
pub(super) enum Found {
    Route(FoundRoute),
    Rule(VipRule),
}

/// The index of the interface that it names, if it does.
fn index(what: &Companion) -> Result<Option<u32>, String> {
    let Some(name) = what.dev() else { return Ok(None) };
    match if_nametoindex(&**name) {
        Ok(index) => Ok(Some(index)),
        Err(_) => Err(format!("there is no interface {name}")),
    }
}

/// Whether the kernel says that there is nothing to take away.
fn is_gone(refusal: &Refusal) -> bool {
    let errno = Errno::from_raw(refusal.errno);
    [Errno::ESRCH, Errno::ENOENT, Errno::ENODEV, Errno::EADDRNOTAVAIL].contains(&errno)
}

/// The host's rules that carry turnip's number.
///
/// # Errors
/// When the kernel does not list them.
pub(super) fn list_rules(route: &mut Route) -> io::Result<Vec<VipRule>> {
    let mut rules = route.rules(AddressFamily::Inet, VipRule::parse)?;
    // Without IPv6 there are none of it.
    rules.extend(route.rules(AddressFamily::Inet6, VipRule::parse).unwrap_or_default());
    Ok(rules)
}

/// The host's routes that carry turnip's number, but for those to the subnets of VIPs.
///
/// # Errors
/// When the kernel does not list them.
pub(super) fn list_routes(route: &mut Route) -> io::Result<Vec<FoundRoute>> {
    let mut routes = route.routes(AddressFamily::Inet, FoundRoute::parse)?;
    routes.extend(route.routes(AddressFamily::Inet6, FoundRoute::parse).unwrap_or_default());
    Ok(routes)
}

/// Takes away what no VIP has; says what.
pub(super) fn delete(route: &mut Route, strays: &[Found]) -> io::Result<Vec<String>> {
    let request = |stray: &Found| match stray {
        Found::Route(found) => (found.deletion(), 0),
        Found::Rule(rule) => Companion::Rule(rule.clone()).delete(None),
    };
    let answers = route.request(strays.iter().map(request).collect())?;
    let mut gone = Vec::new();
    for (stray, answer) in strays.iter().zip(answers) {
        let what = match stray {
            Found::Route(found) => format!("the route {found}"),
            Found::Rule(rule) => format!("the rule \"{rule}\""),
        };
        match answer {
            Ok(()) => gone.push(what),
            Err(refusal) if is_gone(&refusal) => {}
            Err(refusal) => {
                tracing::warn!(%refusal, "cannot take away {what}, which an earlier turnip left")
            }
        }
    }
    Ok(gone)
}

/// Takes away all that carries turnip's number; says what. For a host that is cleared by hand.
///
/// # Errors
/// When the kernel does not list them, or does not answer.
pub(super) fn release(route: &mut Route) -> io::Result<Vec<String>> {
    let rules = list_rules(route)?.into_iter().map(Found::Rule);
    let routes = list_routes(route)?.into_iter().map(Found::Route);
    let all: Vec<Found> = rules.chain(routes).collect();
    if all.is_empty() { Ok(Vec::new()) } else { delete(route, &all) }
}

impl State {
    /// What is there of VIPs as turnip's route and was not found: it is somebody else's.
    pub fn deny(&mut self, found: &[FoundRoute]) {
        for (vip, members) in &mut self.vips {
            if !self.here.contains(vip) {
                continue;
            }
            for member in members.iter_mut().filter(|member| member.is_there) {
                let Companion::Route(route) = &member.what else { continue };
                let wanted = index(&member.what).map(|index| route.on(index));
                let is_found = wanted.is_ok_and(|wanted| found.iter().any(|one| one.is(&wanted)));
                if !is_found {
                    member.fails(vip, EXISTS_ROUTE.to_owned(), true);
                }
            }
        }
    }
}
