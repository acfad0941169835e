//! Gaps and moves: each has a fault that explains it, or should not be.
//!
//! The time in which a fault may keep things out of order is its window. Windows that touch are one
//! episode. In an episode of a single fault a gap is no longer, and moves are no more, than the table
//! of [allowances](super::allowance) says. Outside all episodes nothing moves, and no address is
//! unanswered that some host could have.

use std::collections::{BTreeMap, BTreeSet};

use crate::check::{Move, Span};
use crate::plan::config::{Change, VipSection};
use crate::plan::words;
use crate::plan::{AddressId, Fault, NameId, Plan, PolicyParams, Step};
use crate::record::{Mark, Misplaced};
use crate::time::{MS, True};
use crate::world::Inner;

use super::Failure;
use super::allowance::{self, Allowance, Durations};
use super::hooks;

/// For so long an address may stand before the host's own: a listing that was under way then says
/// nothing of it, and another one is made after 100 ms.
const MISPLACED_MAX: u64 = 250 * MS;

/// Several faults whose windows touch.
#[derive(Clone, Debug)]
struct Episode {
    from: True,
    to: True,
    /// The faults; none for the start and for healing.
    steps: Vec<usize>,
    /// It is more than its faults: the start, or healing.
    special: bool,
}

struct Gaps<'a> {
    inner: &'a Inner,
    plan: &'a Plan,
    durations: Durations,
    episodes: Vec<Episode>,
}

/// What is wrong with a run's gaps and moves.
///
/// Not judged are networks on which a message may be late by a third of a lease, now and then and
/// for no reason; and clusters of one host.
pub fn judge(inner: &Inner) -> Vec<Failure> {
    let plan = &*inner.env.plan;
    if plan.params.weather.tail_permille > 0 || plan.params.hosts < 2 {
        return Vec::new();
    }
    let durations = Durations::of(plan);
    let episodes = episodes(plan, &durations);
    let gaps = Gaps { inner, plan, durations, episodes };
    let mut failures = Vec::new();
    for gap in &inner.env.checker.gaps {
        if !may_follow(plan, gap.address)
            && inner.env.layout.addresses.iter().any(|(address, _)| *address == gap.address)
        {
            failures.extend(gaps.judge_gap(gap));
        }
    }
    failures.extend(gaps.judge_moves(&inner.env.checker.moves));
    let misplaced = inner.env.record.misplaced.iter();
    failures.extend(misplaced.filter_map(|one| gaps.judge_misplaced(one)));
    failures
}

/// Whether an address is of a VIP that follows another program's key (rule 13), or may become one's by another
/// file: where it is then is that program's doing.
fn may_follow(plan: &Plan, address: AddressId) -> bool {
    let (vip, params) = (address / 2, &plan.params);
    let goes_there = |step: &Step| match &step.fault {
        Fault::Reconfigure { change, .. } => match *change {
            Change::MoveAddress { from, to } => from == vip && params.follows(to),
            Change::Swap { one, other } => {
                (one == vip && params.follows(other)) || (other == vip && params.follows(one))
            }
            _ => false,
        },
        _ => false,
    };
    params.follows(vip) || plan.steps.iter().any(goes_there)
}

fn episodes(plan: &Plan, durations: &Durations) -> Vec<Episode> {
    let special = |from, to| Episode { from, to, steps: Vec::new(), special: true };
    let mut all = vec![
        special(0, durations.start(plan)),
        special(plan.heal_at, plan.heal_at + plan.convergence()),
    ];
    for (index, step) in plan.steps.iter().enumerate() {
        let windows = durations.allowance(plan, step).windows(plan, step);
        let episode = |(from, to)| Episode { from, to, steps: vec![index], special: false };
        all.extend(windows.into_iter().filter(|(from, to)| from < to).map(episode));
    }
    all.sort_by_key(|episode| episode.from);
    let mut merged: Vec<Episode> = Vec::new();
    for episode in all {
        match merged.last_mut() {
            Some(last) if episode.from <= last.to => {
                last.to = last.to.max(episode.to);
                last.special |= episode.special;
                last.steps.extend(episode.steps);
                last.steps.sort_unstable();
                last.steps.dedup();
            }
            _ => merged.push(episode),
        }
    }
    merged
}

impl Gaps<'_> {
    fn judge_gap(&self, gap: &Span) -> Option<Failure> {
        for piece in self.outside(gap) {
            if let Some(host) = self.able(&piece, piece.from, &[]) {
                let why = format!("{h} could have had it", h = words::host(host));
                return Some(Failure::Gap { span: piece, limit: 0, why });
            }
        }
        let (steps, allowance) = self.explained(gap.from, gap.address)?;
        let at = steps.iter().map(|step| step.at).min()?;
        let planned = steps.iter().map(|step| self.follows_leader(gap.address, step)).max()?;
        let planned = planned.min(1) * self.durations.hand_over;
        let limit = allowance.gap.saturating_add(self.refusals(&steps)).max(planned);
        let limit = limit.saturating_add(self.hooks(gap) + self.election(gap, &steps));
        if gap.length() <= limit {
            return None;
        }
        // While a file is rolled out, hosts differ, and the address has two names.
        let is_judged = match steps.iter().all(|step| is_reload(step)) {
            true => self.is_rolled_out(gap),
            false => self.has_one_name(gap.address, at) && self.able(gap, at, &steps).is_some(),
        };
        if is_judged {
            return Some(Failure::Gap { span: *gap, limit, why: after(self.plan, &steps) });
        }
        None
    }

    /// Whether all hosts have the address all the while, as an old file or a new one says, and nothing else is
    /// amiss with any of them.
    fn is_rolled_out(&self, gap: &Span) -> bool {
        let is_harmless =
            |step: &Step| is_reload(step) || matches!(step.fault, Fault::Reconfigure { .. });
        if ![gap.from, gap.to].iter().all(|at| self.active(*at).all(is_harmless)) {
            return false;
        }
        let mut files = BTreeSet::new();
        for host in 0..self.plan.params.hosts {
            let all = || self.inner.env.record.configs.iter().filter(|one| one.host == host);
            let first = all().rfind(|one| one.at <= gap.from);
            let later = all().filter(|one| gap.from < one.at && one.at <= gap.to);
            for one in first.into_iter().chain(later) {
                let vips = one.config.vips.iter();
                let file: Vec<_> = vips.map(|(name, vip)| (*name, &vip.addresses)).collect();
                if one.config.cluster != 0
                    || !file.iter().any(|(_, addresses)| addresses.contains_key(&gap.address))
                {
                    return false;
                }
                files.insert(file);
            }
        }
        files.len() <= 2
    }

    /// What of a gap is outside all episodes.
    fn outside(&self, gap: &Span) -> Vec<Span> {
        let mut pieces = Vec::new();
        let mut from = gap.from;
        for episode in &self.episodes {
            if episode.from > from && from < gap.to {
                pieces.push(Span { from, to: gap.to.min(episode.from), ..*gap });
            }
            from = from.max(episode.to);
        }
        if from < gap.to {
            pieces.push(Span { from, ..*gap });
        }
        pieces
    }

    /// The faults that explain what happens to an address at a time, and what they do: one fault, or
    /// several of which something can be said.
    fn explained(&self, at: True, address: AddressId) -> Option<(Vec<&Step>, Allowance)> {
        let episode = self.episode(at).filter(|episode| !episode.special)?;
        let steps: Vec<&Step> = episode.steps.iter().map(|&step| &self.plan.steps[step]).collect();
        let allowance = match steps[..] {
            [step] => self.durations.allowance(self.plan, step),
            _ => {
                // VIPs that follow etcd's leader move with it, and to a host that does not hear of it. Who does
                // not hear of a key that a VIP follows takes that away, and loses all (rule 13.6).
                let follows =
                    |vip: usize| self.plan.params.vips[vip].policy == PolicyParams::Leader;
                let deafens = steps.iter().any(|step| allowance::deafens(&step.fault));
                let any_follows =
                    (0..self.plan.params.vips.len()).any(follows) || self.plan.params.any_follows();
                if follows(address / 2) || (deafens && any_follows) {
                    return None;
                }
                match steps[..] {
                    [first, ..] if steps.iter().all(|step| is_reload(step)) => {
                        self.durations.allowance(self.plan, first)
                    }
                    _ => self.durations.of_several(self.plan, &steps)?,
                }
            }
        };
        Some((steps, allowance))
    }

    fn episode(&self, at: True) -> Option<&Episode> {
        self.episodes.iter().find(|episode| episode.from <= at && at <= episode.to)
    }

    /// Who is claimed by a host whose kernel refuses it is passed on again.
    fn refusals(&self, steps: &[&Step]) -> u64 {
        let others = self.active(steps[0].at).filter(|active| !steps.contains(active));
        let refuses = others.filter(|step| matches!(step.fault, Fault::RefuseAddress { .. }));
        refuses.count() as u64 * self.passed_on()
    }

    /// From who cannot have it to the next one.
    fn passed_on(&self) -> u64 {
        3 * self.durations.commit + self.durations.hand_over + self.durations.renew
    }

    /// Hooks that are waited for, and hosts on which one failed.
    fn hooks(&self, gap: &Span) -> u64 {
        let waits = hooks::waits(&self.inner.env.record.hooks_ran, gap);
        waits.time + waits.failed * self.passed_on()
    }

    /// How much longer etcd elects a leader after these faults, in a gap, than an election with one split takes: who
    /// lacks the newest entries cannot win, but without a pre-vote keeps the others from asking for votes.
    fn election(&self, gap: &Span, steps: &[&Step]) -> u64 {
        let ends = |step: &&Step| step.ends(self.plan.heal_at).min(gap.to);
        let over = steps.iter().map(ends).max().unwrap_or_default().max(gap.from);
        let (mut leader, mut since, mut longest) = (None, None, 0);
        for &(at, ref mark) in self.inner.env.record.marks.iter().filter(|(at, _)| *at <= gap.to) {
            match *mark {
                Mark::Leads { member, .. } => {
                    let without =
                        since.take().map(|since: True| at.saturating_sub(since.max(over)));
                    longest = longest.max(without.unwrap_or_default());
                    leader = Some(member);
                }
                Mark::Deposed { member } if leader == Some(member) => {
                    (leader, since) = (None, Some(at));
                }
                Mark::Deposed { .. } => {}
            }
        }
        longest.saturating_sub(self.durations.outage)
    }

    fn judge_moves(&self, moves: &[Move]) -> Vec<Failure> {
        let mut by_episode: BTreeMap<(Option<usize>, AddressId), Vec<&Move>> = BTreeMap::new();
        for one in moves.iter().filter(|one| one.at < self.plan.stop_at) {
            if may_follow(self.plan, one.address) {
                continue;
            }
            let at = one.at;
            let episode = self.episodes.iter().position(|e| e.from <= at && at <= e.to);
            by_episode.entry((episode, one.address)).or_default().push(one);
        }
        let too_many = by_episode.into_iter().filter_map(|((episode, address), moves)| {
            let at = moves[0].at;
            let (limit, why) = match episode {
                None => (0, "nothing had happened".to_owned()),
                Some(_) => {
                    let (steps, allowance) = self.explained(at, address)?;
                    let more =
                        |step| self.follows_leader(address, step) + self.detours(address, step);
                    let more: u64 = steps.iter().copied().map(more).sum();
                    (allowance.moves.saturating_add(more), after(self.plan, &steps))
                }
            };
            let count = moves.len() as u64;
            (count > limit).then_some(Failure::Moved { address, at, count, limit, why })
        });
        too_many.collect()
    }

    /// What stands before a host's own address is behind it at once, when nothing else happens.
    fn judge_misplaced(&self, one: &Misplaced) -> Option<Failure> {
        let episode = self.episode(one.from).filter(|episode| !episode.special)?;
        let is_all =
            |step: &usize| matches!(self.plan.steps[*step].fault, Fault::OwnAddressReturns { .. });
        let late = one.to - one.from > MISPLACED_MAX && episode.steps.iter().all(is_all);
        late.then(|| Failure::MisplacedForLong { one: one.clone(), limit: MISPLACED_MAX })
    }

    /// How often an address may come to a host on its way that does not keep it: with a new session a
    /// host no longer knows that its kernel refuses a VIP, or one of its addresses, and may be handed it
    /// once (rule 7.7).
    fn detours(&self, address: AddressId, step: &Step) -> u64 {
        let refuses = |step: &&Step| match step.fault {
            Fault::RefuseAddress { vip, .. } => vip == address / 2,
            _ => false,
        };
        self.active(step.at).filter(|active| *active != step).filter(refuses).count() as u64
    }

    /// How often an address may move because leadership of etcd does, to and fro.
    fn follows_leader(&self, address: AddressId, step: &Step) -> u64 {
        let follows = self.plan.params.vips[address / 2].policy == PolicyParams::Leader;
        let moves_leadership = !matches!(
            step.fault,
            Fault::StealAddress { .. }
                | Fault::OwnAddressReturns { .. }
                | Fault::Kill { .. }
                | Fault::Leave { .. }
                | Fault::Reload { .. }
        );
        if follows && moves_leadership { 4 } else { 0 }
    }

    fn active(&self, at: True) -> impl Iterator<Item = &Step> {
        let heal_at = self.plan.heal_at;
        self.plan.steps.iter().filter(move |step| step.at <= at && at < step.ends(heal_at))
    }

    /// A host that could have a gap's address at a time at which nothing changes; but for those that `except`
    /// befalls, and on which a hook of it failed.
    ///
    /// None where hosts that run disagree about what belongs together: then a VIP that is held may
    /// lack the address rightly.
    fn able(&self, gap: &Span, at: True, except: &[&Step]) -> Option<usize> {
        let address = gap.address;
        let active: Vec<&Step> = self.active(at).filter(|step| !except.contains(step)).collect();
        if !self.has_quorum(&active) {
            return None;
        }
        (0..self.plan.params.hosts).find(|&host| {
            let Some((name, section)) = self.section(host, address, at) else { return false };
            let hit = |step: &&Step| is_hit(&step.fault, host, address, section);
            !active.iter().any(hit)
                && !except.iter().any(hit)
                && self.all_agree(name, section, at)
                && !hooks::failed_lately(&self.inner.env.record.hooks_ran, host, gap)
        })
    }

    fn has_quorum(&self, active: &[&Step]) -> bool {
        let params = &self.plan.params;
        let mut down = vec![false; params.members()];
        let mut unknown = 0;
        for step in active {
            match step.fault {
                Fault::CrashMember { member } | Fault::PauseMember { member } => {
                    down[member] = true
                }
                Fault::PowerOff { host: site }
                | Fault::PauseHost { host: site }
                | Fault::Isolate { site } => {
                    for (member, down) in down.iter_mut().enumerate() {
                        *down |= params.site_of(member) == site;
                    }
                }
                Fault::CrashLeader => unknown += 1,
                Fault::LoseQuorum | Fault::RefuseWrites => return false,
                _ => {}
            }
        }
        let down = down.iter().filter(|down| **down).count() + unknown;
        2 * (params.members().saturating_sub(down)) > params.members()
    }

    /// The VIP to which an address belongs in the configuration that a host's daemon was started with.
    fn section(&self, host: usize, address: AddressId, at: True) -> Option<(NameId, &VipSection)> {
        let start =
            self.inner.env.record.configs.iter().rfind(|one| one.host == host && one.at <= at)?;
        let sections = start.config.vips.iter();
        sections
            .map(|(name, section)| (*name, section))
            .find(|(_, s)| s.addresses.contains_key(&address))
    }

    /// Whether all hosts call the address's VIP by the same name: where not, nobody can be handed it, and
    /// others have to learn first that they may have it.
    fn has_one_name(&self, address: AddressId, at: True) -> bool {
        let hosts = 0..self.plan.params.hosts;
        hosts
            .filter_map(|host| self.section(host, address, at))
            .all(|(name, _)| name == address / 2)
    }

    /// Whether all hosts that know the name or one of the addresses mean the same addresses, by whichever name:
    /// where that name is another VIP's elsewhere, who has it cannot have these addresses.
    fn all_agree(&self, name: NameId, section: &VipSection, at: True) -> bool {
        let starts = || {
            (0..self.plan.params.hosts).filter_map(move |host| {
                let configs = &self.inner.env.record.configs;
                configs.iter().rfind(|one| one.host == host && one.at <= at)
            })
        };
        let sections = || starts().flat_map(|start| &start.config.vips);
        let mean_the_same =
            |theirs: &VipSection| theirs.addresses.keys().eq(section.addresses.keys());
        let touches = |theirs: &VipSection| {
            theirs.addresses.keys().any(|one| section.addresses.contains_key(one))
        };
        let names: BTreeSet<NameId> = sections()
            .filter_map(|(other, theirs)| touches(theirs).then_some(*other))
            .chain([name])
            .collect();
        starts().all(|start| start.config.cluster == 0)
            && sections()
                .filter(|(other, theirs)| names.contains(other) || touches(theirs))
                .all(|(_, theirs)| mean_the_same(theirs))
    }
}

fn is_reload(step: &Step) -> bool {
    matches!(step.fault, Fault::Reload { .. })
}

fn after(plan: &Plan, steps: &[&Step]) -> String {
    let each: Vec<String> = steps.iter().map(|step| plan.params.tell_step(step)).collect();
    format!("after {}", each.join(" and "))
}

/// Whether a fault keeps a host from having an address, with the rest of
/// the VIP that this is of there. One on several interfaces needs them all.
fn is_hit(fault: &Fault, hit: usize, address: AddressId, section: &VipSection) -> bool {
    match *fault {
        Fault::Kill { host }
        | Fault::Restart { host }
        | Fault::Leave { host }
        | Fault::Freeze { host }
        | Fault::PowerOff { host }
        | Fault::PauseHost { host }
        | Fault::Isolate { site: host }
        | Fault::CutStore { host }
        | Fault::Drain { host } => host == hit,
        Fault::LinkDown { host, interface } | Fault::LinkGone { host, interface } => {
            host == hit && section.addresses.values().any(|on| *on == interface)
        }
        Fault::FailCheck { ref hosts, vip, .. } => hosts.contains(&hit) && vip == address / 2,
        Fault::RefuseAddress { host, vip } | Fault::Double { host, vip } => {
            host == hit && vip == address / 2
        }
        _ => false,
    }
}
