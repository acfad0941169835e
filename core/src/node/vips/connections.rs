//! When connections through a VIP's addresses end (rule 7.10).
//!
//! A socket whose address has left stays as it is: its process waits for a peer that talks to another
//! host by now, and when the VIP comes back it goes on, with what both ends may have given up long ago.

use super::{Context, Vips};
use crate::action::Action;
use crate::node::outbox::Outbox;
use crate::node::own::{Own, VipIndex};

impl Vips {
    /// Whether connections through the VIP, of which nothing is here, are to be ended: it has left, and
    /// is not merely about to be put back as it was.
    pub(super) fn ends_connections(&self, context: &Context<'_>, index: VipIndex) -> bool {
        let vip = &self.vips[index];
        let comes_back = vip.needs_reinstall() && context.situation.owned(index).is_some();
        vip.may_have_connections && !comes_back
    }

    /// Has connections through `vips` ended, but for those that are to be kept.
    pub(super) fn end_connections(&mut self, own: &Own, vips: &[VipIndex], out: &mut Outbox) {
        for &index in vips {
            self.vips[index].may_have_connections = false;
        }
        let ended = vips.iter().map(|&index| own.vip(index)).filter(|vip| !vip.keep_connections);
        let addresses: Vec<_> = ended.flat_map(|vip| vip.ips()).collect();
        if !addresses.is_empty() {
            out.push(Action::EndConnections { addresses });
        }
    }
}
