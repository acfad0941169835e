//! When the hooks of VIPs are run, in what order, and what waits for them (rule 12).
//!
//! A *tenure* begins when this host begins to take a VIP and ends when it has gone from here. Its hooks are
//! `before_assume`, `after_assume`, `before_release`, `after_release`, in this order. Only the two `before_`
//! hooks are waited for, and only by what may wait: the taking of a VIP, and a planned move.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::tenure::{CONFLICT, RESTART, Running, Stage, Tenure, Waiting, concern_tenure};
use super::vip::{Ineligible, MustGo};
use super::{AbilityChanged, Context, State, Vips};
use crate::action::Action;
use crate::hook::{Hook, HookAction, HookEnd, HookId, HookRun, Owed, OwedStage};
use crate::kernel::Conflict;
use crate::mutant::Mutant;
use crate::name::{Revision, VipName};
use crate::node::outbox::Outbox;
use crate::node::own::{Own, VipIndex};
use crate::node::reload::Step;
use crate::node::situation::Situation;
use crate::report::Report;
use crate::time::Instant;
use crate::transition::{Arrival, Departure};

/// So many hooks that something waits for run at once on a host. Beyond that they would only slow each other
/// down.
const AWAITED_AT_ONCE: usize = 256;
/// The same of all others, so that they never stand in front of those.
const OTHERS_AT_ONCE: usize = 64;
/// So many of those that wait for others' hooks are looked at when one of these ends.
const LOOKED_AT_ONCE: usize = 4;

/// The hooks of all VIPs.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct HookDesk {
    /// What runs, and of which VIP; none of one that is not configured any more.
    running: BTreeMap<HookId, (Hook, Option<VipIndex>)>,
    /// Those whose next hook waits until another one ends.
    crowded_out: BTreeSet<VipIndex>,
    /// What an earlier process owed for VIPs that are not configured any more.
    left: Vec<Owed>,
    /// The names of those of which it runs.
    left_running: BTreeMap<HookId, VipName>,
    /// One has ended since the last look at those that wait for others.
    has_room_again: bool,
}

impl HookDesk {
    fn has_room_for(&self, hook: Hook) -> bool {
        let alike = self.running.values().filter(|(one, _)| one.is_awaited() == hook.is_awaited());
        let at_once = if hook.is_awaited() { AWAITED_AT_ONCE } else { OTHERS_AT_ONCE };
        alike.count() < at_once
    }
}

impl Vips {
    // ---- what was before

    /// What an earlier process on this host began and did not end.
    pub(in crate::node) fn inherit(&mut self, own: &Own, owed: Vec<Owed>) {
        if own.mutated(Mutant::OwedForgotten) {
            return;
        }
        for one in owed {
            let Some(index) = own.index_of(&one.vip) else {
                self.desk.left.push(one);
                continue;
            };
            let stage = match one.stage {
                OwedStage::Taking => Stage::Prepared,
                OwedStage::Held => Stage::Here,
                OwedStage::Releasing => Stage::Released,
            };
            let configured = own.vip(index).hooks.get(&Hook::AfterRelease);
            let hooks = &mut self.vips[index].hooks;
            hooks.is_owed = true;
            hooks.tenure = Some(Tenure {
                token: one.token,
                stage,
                is_inherited: true,
                has_come: stage != Stage::Prepared,
                after_release: configured.map(|config| config.timeout).or(one.after_release),
                leaves: None,
            });
        }
    }

    /// Runs what an earlier process owed for VIPs that are not configured any more: nothing of them is here,
    /// as the kernel has acknowledged.
    pub(in crate::node) fn run_what_is_left(&mut self, out: &mut Outbox, now: Instant) {
        for owed in std::mem::take(&mut self.desk.left) {
            let Some(timeout) = owed.after_release else {
                out.push(Action::Hook(HookAction::Paid(owed.vip)));
                continue;
            };
            // If the VIP is configured again in the next process, it has been released by then (rule 12.9).
            let releasing = Owed { stage: OwedStage::Releasing, ..owed.clone() };
            out.push(Action::Hook(HookAction::Owe(releasing)));
            let Owed { vip, token, assignments, .. } = owed;
            let id = out.fresh_hook();
            let run = HookRun {
                id,
                hook: Hook::AfterRelease,
                vip: vip.clone(),
                assignments,
                reason: RESTART,
                peer: None,
                token,
                timeout,
                deadline: now + timeout,
            };
            self.desk.running.insert(id, (Hook::AfterRelease, None));
            self.desk.left_running.insert(id, vip);
            start(run, out);
        }
    }

    /// A VIP is here, and it is known that it may be: what an earlier process began goes on; and one that was
    /// here without hooks, or under another name, has them from now on.
    pub(super) fn adopt(&mut self, context: &Context<'_>, index: VipIndex, out: &mut Outbox) {
        let (situation, own) = (&context.situation, context.situation.own);
        // As a rule there are none, and there may be many VIPs.
        let concerned = match &self.vips[index].hooks.tenure {
            None => concern_tenure(&own.vip(index).hooks),
            Some(tenure) => tenure.is_inherited,
        };
        if !concerned {
            return;
        }
        let Some(token) = situation.owned(index).filter(|_| situation.session.id().is_some())
        else {
            return;
        };
        let is_here = self.vips[index].state == State::Held;
        match &mut self.vips[index].hooks.tenure {
            None if is_here => {
                self.begin(own, index, token, Stage::Prepared, out);
                self.has_come(own, index, RESTART, out);
            }
            Some(tenure) if is_here => {
                (tenure.is_inherited, tenure.token) = (false, token);
                if tenure.stage == Stage::Prepared {
                    self.has_come(own, index, RESTART, out);
                }
            }
            _ => {}
        }
    }

    /// Another configuration is today's. What runs of a VIP that is not in it is an earlier affair, and its end
    /// is told all the same.
    pub(super) fn hooks_moved(&mut self, step: &Step) {
        let goes_on = |index: VipIndex| step.after.index_of(&step.before.vip(index).name);
        for (id, (_, index)) in &mut self.desk.running {
            let Some(before) = *index else { continue };
            *index = goes_on(before);
            if index.is_none() {
                self.desk.left_running.insert(*id, step.before.vip(before).name.clone());
            }
        }
        // What is configured again waits for what still runs of it (rule 12.1).
        let returns = |_: &HookId, vip: &mut VipName| step.after.index_of(vip).is_some();
        let returning: Vec<_> = self.desk.left_running.extract_if(.., returns).collect();
        for (id, vip) in returning {
            let index = step.after.index_of(&vip);
            if let (Some((hook, of)), Some(index)) = (self.desk.running.get_mut(&id), index) {
                *of = Some(index);
                let hooks = &mut self.vips[index].hooks;
                hooks.running = Some(Running { id, hook: *hook, is_killed: false });
                hooks.is_owed = true;
            }
        }
        let crowded_out = std::mem::take(&mut self.desk.crowded_out);
        self.desk.crowded_out = crowded_out.into_iter().filter_map(goes_on).collect();
    }

    // ---- taking

    /// Whether the kernel may be asked to put a VIP here that is this node's as of `token`. If its
    /// `before_assume` is to be run first, that begins, and this is asked again when it has ended.
    pub(super) fn is_prepared(
        &mut self,
        context: &Context<'_>,
        index: VipIndex,
        token: Revision,
        out: &mut Outbox,
    ) -> bool {
        let own = context.situation.own;
        match self.vips[index].hooks.stage() {
            Some(Stage::Prepared) => return true,
            Some(_) => return own.mutated(Mutant::AssumeBesideHook),
            None => {}
        }
        let hooks = &own.vip(index).hooks;
        if !concern_tenure(hooks) {
            return true;
        }
        let Some(config) = hooks.get(&Hook::BeforeAssume) else {
            self.vips[index].hooks.supersede();
            self.begin(own, index, token, Stage::Prepared, out);
            return true;
        };
        if self.may_start(own, index, Hook::BeforeAssume) {
            if !own.mutated(Mutant::SupersededRuns) {
                self.vips[index].hooks.supersede();
            }
            self.begin(own, index, token, Stage::Preparing, out);
            let reason = self.vips[index].vacancy.arrival().as_str();
            let peer = self.vips[index].hooks.other_owner.as_ref().map(ToString::to_string);
            let (hook, timeout) = (Hook::BeforeAssume, config.timeout);
            let what = Waiting { hook, reason, peer, token, timeout };
            self.run(own, index, what, out, context.situation.now);
        }
        false
    }

    /// The kernel has put it here, and how it came.
    pub(super) fn came(&mut self, own: &Own, index: VipIndex, arrival: Arrival, out: &mut Outbox) {
        let hooks = &mut self.vips[index].hooks;
        match &mut hooks.tenure {
            // It was taken away to be put back: that is told to nobody.
            Some(tenure) if tenure.stage == Stage::Prepared && tenure.has_come => {
                tenure.stage = Stage::Here;
                // By a reload it may have other addresses.
                self.owe(own, index, OwedStage::Held, out);
            }
            Some(tenure) if tenure.stage == Stage::Prepared => {
                self.has_come(own, index, arrival.as_str(), out);
            }
            // What is put there once more has been here all the time.
            _ => {}
        }
    }

    fn has_come(&mut self, own: &Own, index: VipIndex, reason: &'static str, out: &mut Outbox) {
        let hooks = &mut self.vips[index].hooks;
        let Some(tenure) = &mut hooks.tenure else { return };
        (tenure.stage, tenure.has_come) = (Stage::Here, true);
        let token = tenure.token;
        match own.vip(index).hooks.get(&Hook::AfterAssume) {
            Some(config) => {
                let peer = hooks.other_owner.as_ref().map(ToString::to_string);
                let (hook, timeout) = (Hook::AfterAssume, config.timeout);
                hooks.enqueue(Waiting { hook, reason, peer, token, timeout });
                self.agenda.mark_dirty([index]);
            }
            None => self.owe(own, index, OwedStage::Held, out),
        }
    }

    /// Another machine says that it has an address of the VIP, which is here.
    pub(super) fn run_on_conflict(&mut self, own: &Own, index: VipIndex, conflict: &Conflict) {
        let Some(config) = own.vip(index).hooks.get(&Hook::OnConflict) else { return };
        let hooks = &mut self.vips[index].hooks;
        let token = hooks.tenure.as_ref().map(|tenure| tenure.token).unwrap_or_default();
        let (hook, timeout) = (Hook::OnConflict, config.timeout);
        let peer = Some(conflict.mac.to_string());
        hooks.enqueue(Waiting { hook, reason: CONFLICT, peer, token, timeout });
        self.agenda.mark_dirty([index]);
    }

    // ---- releasing

    /// Whether a VIP may leave for a reason that can wait: its `before_release` has ended. If it is to be run
    /// first, that begins, and this is asked again when it has ended.
    pub(super) fn is_released(
        &mut self,
        context: &Context<'_>,
        index: VipIndex,
        departure: Departure,
        out: &mut Outbox,
    ) -> bool {
        let own = context.situation.own;
        let Some(tenure) = &self.vips[index].hooks.tenure else { return true };
        let (stage, token) = (tenure.stage, tenure.token);
        let Some(config) = own.vip(index).hooks.get(&Hook::BeforeRelease) else {
            // What began is waited for, where somebody else would begin the same.
            return stage != Stage::Preparing;
        };
        match stage {
            Stage::Released => return true,
            Stage::Preparing | Stage::Releasing => return own.mutated(Mutant::MoveBesideHook),
            Stage::Prepared | Stage::Here => {}
        }
        if self.may_start(own, index, Hook::BeforeRelease) {
            let peer = self.leaves_for(context, index, departure);
            let hooks = &mut self.vips[index].hooks;
            hooks.supersede();
            hooks.set_stage(Stage::Releasing);
            self.owe(own, index, OwedStage::Releasing, out);
            let (hook, reason, timeout) = (Hook::BeforeRelease, departure.as_str(), config.timeout);
            let what = Waiting { hook, reason, peer, token, timeout };
            self.run(own, index, what, out, context.situation.now);
        }
        own.mutated(Mutant::MoveBesideHook)
    }

    /// Whether what makes a VIP leave is a planned move, which may wait for a hook (rule 12.5).
    pub(super) fn is_planned(
        &self,
        situation: &Situation<'_>,
        index: VipIndex,
        must_go: &MustGo,
    ) -> bool {
        if situation.own.mutated(Mutant::ForcedWaitsForHook) {
            return true;
        }
        match must_go.departure {
            Departure::Drained | Departure::Preferred | Departure::Unwell | Departure::NotNamed => {
                true
            }
            Departure::Ending => situation.shutdown.waits_for_store(),
            // What is put here anew has not left.
            Departure::Reconfigured => !self.is_put_anew(situation.own, index),
            // That is why it goes: nothing is sent yet.
            Departure::HandingOver => self.vips[index].hooks.is_leaving(),
            _ => false,
        }
    }

    /// The kernel is asked to take the VIP away.
    pub(super) fn leaves(
        &mut self,
        context: &Context<'_>,
        index: VipIndex,
        departure: Departure,
        out: &mut Outbox,
    ) {
        let own = context.situation.own;
        let Some(stage) = self.vips[index].hooks.stage() else { return };
        let comes_back = departure == Departure::Reinstall || self.is_put_anew(own, index);
        if comes_back && matches!(stage, Stage::Prepared | Stage::Here) {
            // It comes back as it was: nothing of that is told.
            let is_known = self.vips[index].hooks.tenure.as_ref().is_some_and(|t| !t.is_inherited);
            if is_known {
                self.vips[index].hooks.set_stage(Stage::Prepared);
            }
            return;
        }
        self.kill_release(own, index, out);
        let peer = self.leaves_for(context, index, departure);
        let hooks = &mut self.vips[index].hooks;
        if let Some(tenure) = &mut hooks.tenure {
            tenure.stage = Stage::Released;
            tenure.leaves.get_or_insert((departure.as_str(), peer));
            hooks.supersede();
        }
    }

    /// Nothing of the VIP is here, and it may be handed over: this host is through with it.
    pub(super) fn give_away(
        &mut self,
        context: &Context<'_>,
        index: VipIndex,
        departure: Departure,
        out: &mut Outbox,
    ) {
        self.leaves(context, index, departure, out);
        self.end_tenure(context, index, out);
    }

    /// Nothing of the VIP is here: its tenure ends, and `after_release` is due; unless the VIP comes back, is
    /// about to come, or waits for a hook before it is handed over.
    pub(super) fn end_tenure(&mut self, context: &Context<'_>, index: VipIndex, out: &mut Outbox) {
        if !self.is_over(context, index) {
            return;
        }
        let own = context.situation.own;
        self.kill_release(own, index, out);
        let must_go = self.may_hold(context, index).err();
        let departure = must_go.map_or(Departure::NotOwned, |must_go| must_go.departure);
        let peer = self.leaves_for(context, index, departure);
        let hooks = &mut self.vips[index].hooks;
        let Some(tenure) = hooks.tenure.take() else { return };
        hooks.supersede();
        let (reason, peer) = match tenure.leaves {
            _ if tenure.is_inherited => (RESTART, None),
            Some(leaves) => leaves,
            None => (departure.as_str(), peer),
        };
        let (hook, token) = (Hook::AfterRelease, tenure.token);
        match tenure.after_release {
            Some(timeout) => hooks.enqueue(Waiting { hook, reason, peer, token, timeout }),
            None => self.paid(own, index, out),
        }
        // Before anything else is decided about the VIP: only what waits for another hook is superseded.
        self.run_next(own, index, out, context.situation.now);
    }

    fn is_over(&self, context: &Context<'_>, index: VipIndex) -> bool {
        let situation = &context.situation;
        let Some(tenure) = &self.vips[index].hooks.tenure else { return false };
        let is_owned = situation.session.id().is_some()
            && situation.owned(index) == Some(tenure.token)
            && situation.in_time();
        if tenure.is_inherited || !is_owned {
            return true;
        }
        match tenure.stage {
            Stage::Here | Stage::Released => true,
            Stage::Preparing | Stage::Prepared | Stage::Releasing => {
                match self.ineligible(situation, context.candidates, index) {
                    None
                    | Some(Ineligible::Drained | Ineligible::Unwell(_) | Ineligible::NotNamed(_)) => {
                        false
                    }
                    Some(Ineligible::Ending(_)) => !situation.shutdown.waits_for_store(),
                    Some(_) => true,
                }
            }
        }
    }

    /// Who is to have it, as far as that is known.
    fn leaves_for(
        &self,
        context: &Context<'_>,
        index: VipIndex,
        departure: Departure,
    ) -> Option<String> {
        let situation = &context.situation;
        let to = match departure {
            Departure::Ending
            | Departure::Drained
            | Departure::Preferred
            | Departure::Unwell
            | Departure::NotNamed => self.successor(context, index),
            _ => situation.owner(index).filter(|owner| *owner != situation.own.name()).cloned(),
        };
        to.map(|to| to.to_string())
    }

    /// Who releases by force does not wait for `before_release`: it is ended (rule 12.6).
    fn kill_release(&mut self, own: &Own, index: VipIndex, out: &mut Outbox) {
        if own.mutated(Mutant::HookOutlivesRelease) {
            return;
        }
        if let Some(running) = &mut self.vips[index].hooks.running
            && running.hook == Hook::BeforeRelease
            && !std::mem::replace(&mut running.is_killed, true)
        {
            out.push(Action::Hook(HookAction::Kill(running.id)));
        }
    }

    // ---- running

    fn may_start(&mut self, own: &Own, index: VipIndex, hook: Hook) -> bool {
        if self.vips[index].hooks.running.is_some() && !own.mutated(Mutant::HooksInParallel) {
            // Its end is looked at.
            return false;
        }
        let has_room = self.desk.has_room_for(hook);
        if !has_room {
            self.desk.crowded_out.insert(index);
        }
        has_room
    }

    /// Starts the VIP's next hook that nothing waits for, if nothing runs.
    pub(super) fn run_next(&mut self, own: &Own, index: VipIndex, out: &mut Outbox, now: Instant) {
        let Some(hook) = self.vips[index].hooks.next().map(|waiting| waiting.hook) else { return };
        if self.may_start(own, index, hook)
            && let Some(what) = self.vips[index].hooks.take_next()
        {
            self.run(own, index, what, out, now);
        }
    }

    /// Those that waited for others' hooks are looked at again, as many as there is room for.
    pub(super) fn look_at_crowded_out_hooks(&mut self, now: Instant) {
        let has_room_again = std::mem::take(&mut self.desk.has_room_again);
        if has_room_again || self.desk.running.is_empty() {
            // Some may have nothing to run any more, and take no room.
            for index in (0..LOOKED_AT_ONCE).map_while(|_| self.desk.crowded_out.pop_first()) {
                self.agenda.wake(index, now);
            }
        }
    }

    fn run(&mut self, own: &Own, index: VipIndex, what: Waiting, out: &mut Outbox, now: Instant) {
        let Waiting { hook, reason, peer, token, timeout } = what;
        let id = out.fresh_hook();
        let vip = own.vip(index);
        let run = HookRun {
            id,
            hook,
            vip: vip.name.clone(),
            assignments: vip.assignments().collect(),
            reason,
            peer,
            token,
            timeout,
            deadline: now + timeout,
        };
        self.vips[index].hooks.running = Some(Running { id, hook, is_killed: false });
        self.desk.running.insert(id, (hook, Some(index)));
        start(run, out);
    }

    /// A hook has ended: says of which VIP the kernel, or a hook, can do more or less than was known.
    pub(in crate::node) fn hook_ended(
        &mut self,
        context: &Context<'_>,
        id: HookId,
        end: &HookEnd,
        out: &mut Outbox,
    ) -> AbilityChanged {
        let own = context.situation.own;
        let Some((hook, index)) = self.desk.running.remove(&id) else { return Vec::new() };
        self.desk.has_room_again = true;
        let Some(index) = index else {
            if let Some(vip) = self.desk.left_running.remove(&id) {
                out.report(Report::HookEnded { vip: vip.clone(), hook, end: end.clone() });
                out.push(Action::Hook(HookAction::Paid(vip)));
            }
            return Vec::new();
        };
        let name = own.vip(index).name.clone();
        out.report(Report::HookEnded { vip: name, hook, end: end.clone() });
        self.agenda.mark_dirty([index]);
        let hooks = &mut self.vips[index].hooks;
        if hooks.running.as_ref().is_some_and(|running| running.id == id) {
            hooks.running = None;
        }
        match (hook, hooks.stage()) {
            (Hook::BeforeAssume, Some(Stage::Preparing)) => {
                return self.has_prepared(context, index, end, out);
            }
            (Hook::AfterAssume, Some(Stage::Here)) => self.owe(own, index, OwedStage::Held, out),
            (Hook::BeforeRelease, Some(Stage::Releasing)) => hooks.set_stage(Stage::Released),
            // It was the last of a tenure, and no other has begun.
            (Hook::AfterRelease, None) if !hooks.is_busy() => self.paid(own, index, out),
            _ => {}
        }
        Vec::new()
    }

    fn has_prepared(
        &mut self,
        context: &Context<'_>,
        index: VipIndex,
        end: &HookEnd,
        out: &mut Outbox,
    ) -> AbilityChanged {
        let own = context.situation.own;
        self.vips[index].hooks.set_stage(Stage::Prepared);
        if own.mutated(Mutant::AssumeWithoutLook) {
            self.assume(context, &[index], out);
        }
        let ignored = own.vip(index).hooks.get(&Hook::BeforeAssume);
        let ignored = ignored.is_none_or(|config| config.ignores_failure);
        if end.is_success() || ignored || own.mutated(Mutant::HookFailureIgnored) {
            return Vec::new();
        }
        let why = format!("its before_assume failed: {end}");
        self.refused_because(&context.situation, index, why, out);
        vec![index]
    }

    // ---- what is owed

    fn begin(
        &mut self,
        own: &Own,
        index: VipIndex,
        token: Revision,
        stage: Stage,
        out: &mut Outbox,
    ) {
        let after_release = own.vip(index).hooks.get(&Hook::AfterRelease);
        self.vips[index].hooks.tenure = Some(Tenure {
            token,
            stage,
            is_inherited: false,
            has_come: false,
            after_release: after_release.map(|config| config.timeout),
            leaves: None,
        });
        self.owe(own, index, OwedStage::Taking, out);
    }

    fn owe(&mut self, own: &Own, index: VipIndex, stage: OwedStage, out: &mut Outbox) {
        let vip = own.vip(index);
        let hooks = &mut self.vips[index].hooks;
        let Some(tenure) = &hooks.tenure else { return };
        let owed = Owed {
            vip: vip.name.clone(),
            stage,
            token: tenure.token,
            assignments: vip.assignments().collect(),
            after_release: tenure.after_release,
        };
        hooks.is_owed = true;
        if !own.mutated(Mutant::NothingOwed) {
            out.push(Action::Hook(HookAction::Owe(owed)));
        }
    }

    fn paid(&mut self, own: &Own, index: VipIndex, out: &mut Outbox) {
        if std::mem::take(&mut self.vips[index].hooks.is_owed) {
            out.push(Action::Hook(HookAction::Paid(own.vip(index).name.clone())));
        }
    }

    // ---- looking

    /// Whether a hook runs, or is to.
    pub(in crate::node) fn has_hooks_to_end(&self) -> bool {
        !self.desk.running.is_empty()
            || !self.desk.left.is_empty()
            || self.vips.iter().any(|vip| vip.hooks.is_busy())
    }

    /// How long the hooks of an orderly stop may take that something waits for.
    pub(in crate::node) fn time_for_hooks(&self, own: &Own) -> Duration {
        let timeout = |index: VipIndex, hook| {
            own.vip(index).hooks.get(&hook).map(|config| config.timeout).unwrap_or_default()
        };
        let time = |(index, vip): (VipIndex, &super::Vip)| {
            let begun = vip.hooks.tenure.is_some() || vip.state.may_be_there();
            let running = vip.hooks.running.as_ref().map(|running| timeout(index, running.hook));
            let release = if begun { timeout(index, Hook::BeforeRelease) } else { Duration::ZERO };
            running.unwrap_or_default() + release
        };
        self.vips.iter().enumerate().map(time).max().unwrap_or_default()
    }
}

/// What nothing waits for goes out after transactions and the kernel's operations.
fn start(run: HookRun, out: &mut Outbox) {
    let HookRun { vip, hook, reason, .. } = &run;
    let report = Report::HookStarted { vip: vip.clone(), hook: *hook, reason };
    let is_awaited = hook.is_awaited();
    for action in [Action::Report(report), Action::Hook(HookAction::Run(run))] {
        match is_awaited {
            true => out.push(action),
            false => out.push_last(action),
        }
    }
}
