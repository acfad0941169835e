//! This host: its interfaces and the VIPs on them, as the kernel tells (rules 6, 7 and 8).

use super::interfaces::Interfaces;
use super::outbox::{Outbox, PendingOp};
use super::own::{Own, VipIndex};
use super::reload::Step;
use super::vips::{Context, Vips};
use crate::action::OpId;
use crate::kernel::{KernelEvent, KernelOp, KernelOutcome, Listing};
use crate::name::Revision;
use crate::time::Instant;
use crate::view::View;

/// Interfaces and VIPs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Host {
    pub(super) interfaces: Interfaces,
    pub(super) vips: Vips,
}

/// What follows for the other parts.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct HostNews {
    /// The kernel can hold more, or less, of these VIPs than was known.
    pub(super) ability_changed: Vec<VipIndex>,
    /// Somebody else had changed these VIPs, and it is set right: what was wrong.
    pub(super) repairs: Vec<(VipIndex, &'static str)>,
    /// These VIPs are gone from their interfaces.
    pub(super) withdrawn: Vec<VipIndex>,
    /// The fence is gone.
    pub(super) fence_removed: bool,
}

impl From<Vec<VipIndex>> for HostNews {
    fn from(ability_changed: Vec<VipIndex>) -> Self {
        HostNews { ability_changed, ..HostNews::default() }
    }
}

impl Host {
    /// Nothing is known yet; the kernel is asked.
    pub(super) fn new(own: &Own, out: &mut Outbox) -> Self {
        let mut host = Host { interfaces: Interfaces::default(), vips: Vips::new(own) };
        host.interfaces.list(out);
        host
    }

    /// Whether the kernel was listed, and has acknowledged that nothing is on an interface.
    pub(super) fn is_clear(&self) -> bool {
        self.interfaces.is_ready() && self.vips.nothing_is_there()
    }

    /// Another configuration is today's: the kernel is told, and asked what is there of it.
    pub(super) fn reconfigured(
        &mut self,
        step: &Step,
        view: &View,
        out: &mut Outbox,
        now: Instant,
    ) {
        let own = &step.after;
        let configured = step.is_about_addresses().then(|| {
            let all: Vec<VipIndex> = (0..own.vip_count()).collect();
            let op = KernelOp::Configure { addresses: own.assignments(&all) };
            out.kernel(PendingOp::Configure, op)
        });
        self.vips.reconfigured(step, view, configured, out, now);
        self.interfaces.look_at_all_again();
        self.interfaces.list(out);
    }

    /// What was waited for comes due.
    pub(super) fn wake_due(&mut self, own: &Own, out: &mut Outbox, now: Instant) -> HostNews {
        self.vips.wake_due(now);
        let mut changed = self.vips.unblock_due(own, now, out);
        changed.extend(self.vips.steady_due(now));
        changed.into()
    }

    /// The answer to what was asked.
    pub(super) fn answered(
        &mut self,
        context: &Context<'_>,
        (id, pending): (OpId, PendingOp),
        outcome: KernelOutcome,
        out: &mut Outbox,
    ) -> HostNews {
        let situation = &context.situation;
        let (own, now) = (situation.own, situation.now);
        let (failed, until) = match outcome {
            KernelOutcome::Listed(listing) => return self.listed(context, id, &listing, out),
            KernelOutcome::Done { failed, until } => (failed, until),
            KernelOutcome::Failed(error) => {
                let addresses = match &pending {
                    PendingOp::Assume(vips) | PendingOp::Withdraw(vips) => own.assignments(vips),
                    PendingOp::WithdrawStrays(addresses) => addresses.clone(),
                    PendingOp::Refresh => {
                        return self.vips.refresh_failed(situation, id, &error, out).into();
                    }
                    PendingOp::List | PendingOp::Configure | PendingOp::RemoveFence => Vec::new(),
                };
                (addresses.into_iter().map(|one| (one, error.clone())).collect(), None)
            }
        };
        match pending {
            PendingOp::List => self.interfaces.list_failed(out, now),
            PendingOp::Assume(vips) => {
                return self.vips.assumed(situation, id, &vips, (&failed, until), out).into();
            }
            PendingOp::Refresh => {
                return self.vips.refreshed(situation, id, (&failed, until), out).into();
            }
            PendingOp::Withdraw(vips) => {
                self.vips.withdrawn(situation, id, &vips, &failed, out);
                let mut ability_changed = self.vips.hindered_now(own, &vips, out);
                ability_changed.extend(self.vips.unknown_now(situation, &vips));
                return HostNews { withdrawn: vips, ability_changed, ..HostNews::default() };
            }
            PendingOp::WithdrawStrays(_) => {
                let failed = failed.first().map(|(one, error)| (one, error.to_string()));
                self.interfaces.strays_withdrawn(failed, out, now);
            }
            // Where the kernel refused it, so it does each address until the fence is as it should be.
            PendingOp::Configure => {}
            PendingOp::RemoveFence => {
                return HostNews { fence_removed: true, ..HostNews::default() };
            }
        }
        HostNews::default()
    }

    fn listed(
        &mut self,
        context: &Context<'_>,
        id: OpId,
        listing: &Listing,
        out: &mut Outbox,
    ) -> HostNews {
        let (own, now) = (context.situation.own, context.situation.now);
        let at = (now, context.situation.view.newest);
        let mut news = HostNews::default();
        for name in self.interfaces.listed(own, listing, out) {
            news.ability_changed.extend(self.interface_changed(own, &name, at, out));
        }
        let compared = self.vips.compare_with(context, id, listing, out);
        if compared.is_outdated {
            self.interfaces.list_soon(out, now);
        }
        if !self.vips.is_before_configuration(id) {
            self.interfaces.withdraw_strays(&compared.strays, out);
        }
        news.repairs = compared.repairs;
        news.ability_changed.extend(compared.doubles);
        news
    }

    /// What the kernel told unasked.
    pub(super) fn told(
        &mut self,
        own: &Own,
        event: KernelEvent,
        (now, newest): (Instant, Revision),
        out: &mut Outbox,
    ) -> HostNews {
        let (name, is_gone) = match event {
            KernelEvent::AddressChanged | KernelEvent::Lost => {
                self.interfaces.list(out);
                return HostNews::default();
            }
            KernelEvent::AnnounceAnew(name) => {
                self.vips.announce_on(own, &name, now);
                return HostNews::default();
            }
            KernelEvent::Conflict(conflict) => {
                self.vips.claimed_by_another(own, &conflict, out, now);
                return HostNews::default();
            }
            KernelEvent::LinkChanged(link) if self.interfaces.link_changed(&link) => {
                (link.name, false)
            }
            KernelEvent::LinkGone(name) if self.interfaces.link_gone(&name) => (name, true),
            KernelEvent::LinkChanged(_) | KernelEvent::LinkGone(_) => return HostNews::default(),
        };
        let changed = self.interface_changed(own, &name, (now, newest), out);
        // Neighbours may have lost what they knew.
        self.vips.announce_on(own, &name, now);
        if is_gone {
            // Its addresses went with it.
            self.interfaces.list(out);
        }
        changed.into()
    }

    fn interface_changed(
        &mut self,
        own: &Own,
        name: &str,
        at: (Instant, Revision),
        out: &mut Outbox,
    ) -> Vec<VipIndex> {
        self.vips.interface_changed(own, &self.interfaces, (name, at), out)
    }
}
