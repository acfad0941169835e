//! How the parts are wired: what one says, others are told. About addresses nothing is decided here.

use super::cluster::{Cluster, News};
use super::host::HostNews;
use super::outbox::{PendingOp, PendingTxn, Purpose};
use super::own::VipIndex;
use super::shutdown::{NextStep, Progress, Shutdown};
use super::situation::{context, situation};
use super::vips::Vips;
use super::{Node, StoreError, TxnResponse};
use crate::action::{Action, Exit, TxnId};
use crate::kernel::KernelOp;
use crate::lease::Backstop;
use crate::mutant::Mutant;
use crate::report::Report;
use crate::time::Instant;
use crate::timer::Timer;

impl Node {
    // ---- the steps of `settle`

    pub(super) fn fire_timers(&mut self, now: Instant) {
        for timer in Timer::ALL {
            if !self.out.timers.take_due(timer, now) {
                continue;
            }
            match timer {
                Timer::Renew => self.renew(now),
                Timer::Guard | Timer::KeptUntil => self.host.vips.mark_there_dirty(),
                Timer::Expire => self.expire_silent(now),
                Timer::Member => self.cluster.ask_member(&self.own, &mut self.out, now),
                // `publish` looks at it by itself.
                Timer::Publish => {}
                // So does `advance_leaving`.
                Timer::Leave => {}
                // So does `heed_followed`.
                Timer::Followed => {}
                Timer::StopLimit => {
                    if self.shutdown.limit_reached() {
                        self.cluster.close(&mut self.out);
                        self.host.vips.mark_all_dirty();
                    }
                }
                Timer::List => self.host.interfaces.list(&mut self.out),
                Timer::Close => self.shutdown.closing_ended(),
                Timer::Free => self.freeing.mark_stale(),
                Timer::Beat => {
                    let unheld = self.host.vips.named_and_not_there(&self.own, &self.cluster);
                    let news = self.cluster.beat_due(&self.own, unheld, &mut self.out, now);
                    self.pass_on(news, now);
                }
                timer => {
                    self.cluster.fire(timer, &self.own, &mut self.out, now);
                    if timer == Timer::Quiet {
                        self.host.vips.mark_all_dirty();
                    }
                }
            }
        }
        let news = self.host.wake_due(&self.own, &mut self.out, now);
        self.pass_on_from_host(news);
    }

    fn renew(&mut self, now: Instant) {
        let offer = match self.cluster.session.is_opening() {
            true => {
                let situation = situation!(self, now);
                self.publication.first(&situation, &self.host.vips, &self.candidates)
            }
            false => Vec::new(),
        };
        self.cluster.renew(&self.own, offer, &mut self.out, now);
    }

    fn expire_silent(&mut self, now: Instant) {
        if self.shutdown.has_begun() || !self.cluster.may_expire(&self.own, now) {
            return;
        }
        for silent in self.cluster.silent(&self.own, now) {
            let context = context!(self, now);
            let retry_at = context.situation.retry_at();
            if self.host.vips.expire(&context, &silent, &mut self.out) {
                self.cluster.peers.expiring(&silent.node, retry_at);
            }
        }
        self.cluster.schedule_expiry(&self.own, &mut self.out);
    }

    pub(super) fn join(&mut self, now: Instant) {
        if !self.cluster.may_join() || self.shutdown.has_begun() || !self.host.interfaces.is_ready()
        {
            return;
        }
        let nothing_is_there = self.host.vips.nothing_is_there();
        let news = self.cluster.join(&self.own, nothing_is_there, &mut self.out, now);
        self.pass_on(news, now);
        if self.out.timers.take_due(Timer::Renew, now) {
            self.renew(now);
        }
    }

    /// Brings up to date who may take what.
    pub(super) fn review(&mut self, now: Instant) {
        let (activated, renewed) = self.publication.view_complete_to(&situation!(self, now));
        if activated {
            self.own_standing_changed();
        }
        self.host.vips.mark_dirty(renewed.iter().copied());
        self.candidates.mark_unsure(renewed);
        let (situation, out) = (situation!(self, now), &mut self.out);
        let updated = self.candidates.update(&situation, &self.publication, &self.host.vips, out);
        if updated.conflicts_changed {
            self.publication.mark_stale();
        }
        self.host.vips.mark_dirty(updated.ranked);
    }

    /// Has what the keys say that VIPs follow decide from now on.
    pub(super) fn heed_followed(&mut self, now: Instant) {
        let (session, peers) = (&self.cluster.session, &self.cluster.peers);
        let heard = (session.committed(), peers.news_heard_at());
        let lease = self.cluster.lease();
        let (changed, next) = self.following.review(&self.own, heard, lease, now);
        match next {
            Some(at) => self.out.timers.set(Timer::Followed, at),
            None => self.out.timers.stop(Timer::Followed),
        }
        if !changed.is_empty() {
            self.host.vips.mark_dirty(changed.iter().copied());
            self.look_for_yielding(&changed);
            self.pass_on_from_host(HostNews::from(changed));
        }
    }

    pub(super) fn advance_shutdown(&mut self, now: Instant) {
        if !self.shutdown.has_begun() {
            return;
        }
        if self.shutdown.is_awaiting_hooks() {
            self.exit_when_hooks_have_ended(true);
            // Whoever watches the node sees that it is alive.
            return self.out.timers.set(Timer::StopLimit, now + self.cluster.lease().renew());
        }
        let (context, vips) = (context!(self, now), &self.host.vips);
        let session = &self.cluster.session;
        let progress = Progress {
            nothing_there: self.host.is_clear(),
            session_established: session.id().is_some(),
            session_pending: session.is_coming() && self.out.is_renewing(),
            owns_something: vips.owns_something(&context, &self.freeing, &self.out),
        };
        // Nobody takes anything sooner for what the store would still be told (rule 5.5).
        if self.shutdown.waits_for_store()
            && progress.nothing_there
            && (!progress.owns_something || self.cluster.is_store_away(now))
        {
            let limit = now + self.cluster.lease().renew();
            self.out.timers.set_earlier(Timer::StopLimit, limit);
        }
        match self.shutdown.next_step(progress) {
            NextStep::Wait => {}
            NextStep::DeleteSession => {
                if self.cluster.delete_session(&self.own, &mut self.out) {
                    self.shutdown.closing();
                }
            }
            NextStep::RemoveFence => {
                self.cluster.close(&mut self.out);
                self.shutdown.removing_fence();
                let keeps_fence = self.own.config.backstop == Backstop::Fence
                    && !self.own.mutated(Mutant::FenceRemovedBesideDouble);
                match vips.any_double().filter(|_| keeps_fence) {
                    None => {
                        self.out.kernel(PendingOp::RemoveFence, KernelOp::RemoveFence);
                    }
                    Some(double) => {
                        self.out.report(Report::FenceStays { why: double.to_owned() });
                        self.exit();
                    }
                }
            }
        }
    }

    // ---- what follows from what the parts say

    /// A transaction was answered, if only by an error.
    pub(super) fn committed(
        &mut self,
        id: TxnId,
        pending: PendingTxn,
        answer: Result<TxnResponse, StoreError>,
        now: Instant,
    ) {
        let out = &mut self.out;
        if let Ok(response) = &answer {
            let news = self.cluster.answer_told(&self.own, &pending, response, out, now);
            let is_void = news.contains(&News::StoreChanged);
            self.pass_on(news, now);
            if is_void {
                return;
            }
        }
        let succeeded = answer.as_ref().is_ok_and(|response| response.succeeded);
        let unknown = answer.is_err();
        let situation = situation!(self, now);
        let (retry_at, concerned) = (situation.retry_at(), pending.purpose.vips());
        let is_about_vips = pending.purpose.is_about_vips();
        if is_about_vips {
            concerned.iter().for_each(|&index| self.host.vips.named(&situation, index));
            self.host.vips.answered(&situation, id, &concerned, unknown);
        }
        let (own, out) = (&self.own, &mut self.out);
        match pending.purpose {
            Purpose::Renew { sent, .. } => {
                let news = self.cluster.renewal_answered(own, sent, &answer, out, now);
                self.pass_on(news, now);
            }
            Purpose::Expire { node, silence, vips } => {
                let vips = vips.iter().map(|index| own.vip(*index).name.clone()).collect();
                let expired = (&node, silence, vips);
                self.cluster.expiry_answered(own, expired, (succeeded, unknown), out, now);
            }
            Purpose::HandOver { vips } if succeeded => Vips::report_handed_over(own, vips, out),
            Purpose::Claim { .. } | Purpose::HandOver { .. } => {}
            Purpose::Free { vips } => self.freeing.answered(&situation, &vips, unknown, out),
            Purpose::MakeKeys => {}
            Purpose::Publish => self.publication.answered(unknown, &situation, out),
            // Tried again after the usual delay, until the limit.
            Purpose::Close if unknown => out.timers.set(Timer::Close, retry_at),
            Purpose::Close => {
                if !succeeded && self.shutdown.waits_for_store() {
                    // A renewal that was under way has landed before it: there is time to ask once more.
                    out.timers.set(Timer::StopLimit, now + self.cluster.lease().renew());
                }
                self.shutdown.closing_ended();
            }
        }
        if is_about_vips {
            // The news of it may have come before the answer, which leaves nothing under way.
            self.look_for_yielding(&concerned);
        }
    }

    pub(super) fn pass_on(&mut self, news: impl IntoIterator<Item = News>, now: Instant) {
        for news in news {
            let (own, vips) = (&self.own, &mut self.host.vips);
            match news {
                News::OwnStanding => self.own_standing_changed(),
                News::Drained(drained) => {
                    if !drained {
                        vips.forget_failures();
                    }
                    self.own_standing_changed();
                }
                News::SessionOver { session, is_deleted, why } => {
                    // Its deletion at the end of an orderly stop is no loss.
                    if !(is_deleted && self.shutdown.is_closing()) {
                        self.out.report(Report::SessionLost { session, why: why.to_owned() });
                    }
                    self.session_over();
                }
                News::Resuming => {
                    self.publication.resumed(own, &self.cluster.view);
                    vips.resumed(own, &self.cluster.view, &self.publication);
                }
                News::KeepNothing => vips.mark_all_dirty(),
                // All goes at once: nothing is kept.
                News::Extended { .. }
                    if self.shutdown.has_begun() && !self.shutdown.waits_for_store() => {}
                News::Extended { deadline, was_late } => {
                    if was_late {
                        // What was taken away for want of time may come back.
                        vips.mark_all_dirty();
                    }
                    vips.refresh(deadline, &mut self.out);
                }
                News::RenewalAnswered { after_failing } => {
                    vips.renewal_answered();
                    if after_failing {
                        vips.announce_all(now);
                    }
                }
                News::RenewalFailed => vips.settle_anew(now),
                News::OwnRecord => self.own_record_changed(),
                News::Node(node) => self.candidates.node_changed(own, &self.cluster.view, &node),
                News::SessionGone(session, last_heard) => {
                    self.candidates.session_gone(own, &self.cluster.view, session);
                    vips.orphaned(own, &self.cluster.view, session, last_heard);
                }
                News::Vip(vip) => match own.index_of(&vip) {
                    Some(index) => {
                        vips.named(&situation!(self, now), index);
                        self.candidates.mark_stale(index);
                        self.look_for_yielding(&[index]);
                    }
                    None => self.freeing.mark_stale(),
                },
                News::StoreChanged => {
                    self.following.forget_all(own);
                    self.publication.forget_request();
                    self.candidates.forget_all(own);
                    self.freeing.forget_requests();
                    self.shutdown.closing_ended();
                    vips.store_changed();
                    self.own_record_changed();
                    self.session_over();
                }
                News::Refuse(why) => self.stop(Shutdown::AtOnce(Exit::Refused(why)), now),
            }
        }
    }

    pub(super) fn pass_on_from_host(&mut self, news: HostNews) {
        for (index, what) in news.repairs {
            self.publication.repaired(&self.own, index, what, &mut self.out);
        }
        self.look_for_yielding(&news.withdrawn);
        if !news.ability_changed.is_empty() {
            self.publication.mark_stale();
        }
        news.ability_changed.iter().for_each(|&index| self.candidates.mark_stale(index));
        if news.fence_removed {
            self.exit();
        }
    }

    /// Nothing is left to do but to end, when hooks have.
    fn exit(&mut self) {
        self.shutdown.fence_removed();
        self.exit_when_hooks_have_ended(!self.own.mutated(Mutant::ExitBesideHooks));
    }

    /// Ends, once all hooks have if they are waited for (rule 12.8).
    pub(super) fn exit_when_hooks_have_ended(&mut self, waits: bool) {
        if waits && self.host.vips.has_hooks_to_end() {
            return;
        }
        if let Some(exit) = self.shutdown.hooks_ended() {
            self.out.push(Action::Exit(exit));
        }
    }

    /// A VIP that cannot be held is yielded once it is gone and is another's (rule 4.10).
    fn look_for_yielding(&mut self, vips: &[VipIndex]) {
        let Cluster { view, session, .. } = &self.cluster;
        let is_drained = view.drained(self.own.name());
        let owns_something =
            session.id().is_none_or(|session| view.vips_of(session).next().is_some());
        let health = (&*self.own, &self.health, &self.following);
        if self.host.vips.may_yield(health, vips, is_drained && !owns_something) {
            self.publication.mark_stale();
        }
    }

    fn own_record_changed(&mut self) {
        let changed = self.publication.changed(&self.own, &self.cluster.view);
        self.host.vips.mark_dirty(changed.iter().copied());
        self.candidates.mark_unsure(changed);
    }

    /// The session, the drain or the end of this node itself: all its VIPs depend on it.
    pub(super) fn own_standing_changed(&mut self) {
        self.candidates.mark_all_stale(&self.own);
        self.publication.mark_stale();
        self.freeing.mark_stale();
        self.host.vips.mark_all_dirty();
    }

    fn session_over(&mut self) {
        self.cluster.session_over(&self.own, self.shutdown.has_begun(), &mut self.out);
        self.publication.session_lost(&self.own);
        self.host.vips.forget_failures();
        self.own_standing_changed();
    }

    /// Begins to end; everything is dropped at once where it must not go on.
    pub(super) fn stop(&mut self, how: Shutdown, now: Instant) {
        let is_orderly = how == Shutdown::Orderly;
        if !self.shutdown.begin(how) {
            return;
        }
        if is_orderly {
            // While it waits for a hook it does not wait for the store.
            let for_hooks = self.host.vips.time_for_hooks(&self.own);
            let limit = self.cluster.handing_over_until(now) + for_hooks;
            self.out.timers.set(Timer::StopLimit, limit);
        } else {
            self.cluster.close(&mut self.out);
        }
        self.own_standing_changed();
    }
}
