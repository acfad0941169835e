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
    nudge: Mutex<UnixStream>,
}

/// What is wanted, and how far that is.
#[derive(Default)]
pub(super) struct State {
    vips: BTreeMap<VipName, Vec<Member>>,
    /// Whose each address is, of VIPs that have some.
    of_entries: BTreeMap<Entry, VipName>,
    /// The VIPs that are here.
    here: BTreeSet<VipName>,
    /// The host's addresses have been looked at.
    listed: bool,
    /// A route could not be made because there is one: whose that is is not known.
    doubtful: bool,
    /// There by turnip's doing, and not configured any more.
    unwanted: Vec<Companion>,
}

#[derive(Clone)]
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
        let state = Arc::new(Mutex::new(State::new(all, configured)));
        let nudge = Mutex::new(start(&state)?);
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
        if state.vips.is_empty() {
            return;
        }
        let vips: BTreeSet<&VipName> = vips.into_iter().collect();
        let mut all_is_well = true;
        for vip in vips.into_iter().filter(|vip| state.vips.contains_key(*vip)).collect::<Vec<_>>()
        {
            state.here.insert(vip.clone());
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
        if state.vips.is_empty() {
            return;
        }
        for vip in vips.into_iter().collect::<BTreeSet<_>>() {
            state.here.remove(vip);
            state.take_away(route, vip);
        }
    }

    /// These addresses with turnip's mark are on the host. A VIP that an earlier process left may go
    /// on; what belongs to one that is gone goes.
    pub fn found<'a>(&self, route: &mut Route, present: impl IntoIterator<Item = &'a Entry>) {
        let mut state = self.lock();
        if state.vips.is_empty() {
            return;
        }
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

    /// These are all from now on, of VIPs that have these addresses. Those of a VIP that is not among
    /// them stay until it leaves.
    ///
    /// # Errors
    /// When there is no thread to be had for the first of them.
    pub fn replace(&self, all: CompanionsOf, configured: &[Assignment]) -> io::Result<()> {
        let was_empty = {
            let mut state = self.lock();
            let was_empty = state.is_empty();
            state.replace(all, configured);
            was_empty && !state.is_empty()
        };
        if was_empty {
            // The one before has ended, or ends with its stream: it had nothing to look at.
            *lock(&self.nudge) = start(&self.state)?;
        }
        self.look();
        Ok(())
    }

    fn look(&self) {
        // Where it cannot take one it has one waiting.
        let _ = lock(&self.nudge).write(&[0]);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// Starts the thread that puts them back.
fn start(state: &Arc<Mutex<State>>) -> io::Result<UnixStream> {
    let (nudge, nudged) = UnixStream::pair()?;
    nudge.set_nonblocking(true)?;
    companions_watch::start(Arc::clone(state), nudged)?;
    Ok(nudge)
}

pub(super) fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn new(all: CompanionsOf, configured: &[Assignment]) -> Self {
        let of_entries = configured.iter().filter(|one| all.contains_key(&one.vip));
        let of_entries =
            of_entries.map(|one| ((Arc::clone(&one.interface), one.address), one.vip.clone()));
        let of_entries = of_entries.collect();
        let member = |what| Member { what, is_there: false, complaint: None };
        let members = |all: Vec<Companion>| all.into_iter().map(member).collect();
        let vips = all.into_iter().map(|(vip, all)| (vip, members(all))).collect();
        State { vips, of_entries, ..State::default() }
    }

    pub fn is_empty(&self) -> bool {
        self.vips.is_empty() && self.unwanted.is_empty()
    }

    /// What is the same stays as it is; what is no longer wanted is owed to be taken away.
    fn replace(&mut self, all: CompanionsOf, configured: &[Assignment]) {
        let State { vips, of_entries, .. } = State::new(all, configured);
        let names: BTreeSet<&VipName> = configured.iter().map(|one| &one.vip).collect();
        for name in names {
            let mut members = vips.get(name).map(Vec::as_slice).unwrap_or_default().to_vec();
            for before in self.vips.remove(name).unwrap_or_default() {
                match members.iter_mut().find(|member| member.what == before.what) {
                    Some(member) => *member = before,
                    None => self.unwanted.extend(before.is_there.then_some(before.what)),
                }
            }
            if !members.is_empty() {
                self.vips.insert(name.clone(), members);
            }
        }
        self.of_entries.extend(of_entries);
    }

    /// Takes away what is no longer configured.
    pub fn discard(&mut self, route: &mut Route) {
        let unwanted = std::mem::take(&mut self.unwanted);
        // The rules first, which lead to the routes.
        let requests = unwanted.iter().rev().map(|what| what.delete(index(what).ok().flatten()));
        match route.request(requests.collect()) {
            Ok(answers) => {
                for (what, answer) in unwanted.iter().rev().zip(answers) {
                    if let Err(refusal) = answer
                        && !is_gone(&refusal)
                    {
                        tracing::warn!(%refusal, "cannot take away {what}");
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "routes and rules that are not configured any more stay for now");
                self.unwanted = unwanted;
            }
        }
    }

    fn is_complete(&self, vip: &VipName) -> bool {
        self.vips.get(vip).into_iter().flatten().all(|member| member.is_there)
    }

    /// Whether something is missing of the VIPs that are here.
    pub fn is_incomplete(&self) -> bool {
        self.here.iter().any(|vip| !self.is_complete(vip))
    }

    /// Whether it is to be found out whose a route is; asked once.
    pub fn take_doubts(&mut self) -> bool {
        std::mem::take(&mut self.doubtful)
    }

    /// Makes what is missing of all VIPs that are here, and says what was and what cannot be.
    pub fn repair(&mut self, route: &mut Route) {
        for vip in self.here.clone() {
            self.make(route, &vip, true);
        }
    }

    /// Makes what is missing of a VIP; whether all of it is there then.
    fn make(&mut self, route: &mut Route, vip: &VipName, tells: bool) -> bool {
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

impl Member {
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
