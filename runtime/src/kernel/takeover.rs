//! Taking over the fence of a turnip whose gate in the table of ARP was another set.
//!
//! That gate cannot be moved, and where it is open the new one must be open as well, or the VIPs fall
//! silent because turnip was upgraded. So the new one is opened for the time that the kernel says
//! is left. It says so a while before it reads what is then sent, and a process may stall between
//! the two. So a ticket (rule 8.17) is added first, and the kernel tells what is left of that, too:
//! the transaction that opens the new gate deletes the ticket, and fails when its time is over. So
//! it is read while something of the ticket is left, and the gate is opened for so much less.

use std::io;
use std::time::Duration;

use turnip_core::adapter::{FenceContents, Fenced};

use super::channel::Channel;
use super::fence::TABLE;
use super::nft::{self, Family, Message, transaction};
use super::rules::GATE;
use super::sets::{
    delete_ticket, elements, gate_opened, generation, held_of_arp, layout, read, ticket_element,
    times_left,
};

/// Longer than it takes to read the sets of a host with thousands of addresses.
const TICKET: Duration = Duration::from_millis(100);
/// The kernel's ticks are up to 10 ms long.
const TICKS: Duration = Duration::from_millis(20);

/// A fence of that kind.
pub(super) struct Earlier {
    /// The generation of the host's rules in which it was read.
    pub(super) generation: u32,
    held: Vec<Fenced>,
    /// For how long the gate is to be open from when the kernel reads it.
    gate: Option<Duration>,
}

/// Whether the fence that is there is of that kind.
pub(super) fn is_earlier(channel: &mut Channel) -> io::Result<bool> {
    // The set is not among those that are made today.
    Ok(elements(channel, Family::Arp, GATE)?.is_some())
}

/// Reads such a fence, of which `known` was read before.
///
/// # Errors
/// When the socket fails, or the kernel refuses, or it is another one by now.
pub(super) fn look(channel: &mut Channel, known: &FenceContents) -> io::Result<Earlier> {
    if let Some((_, refusal)) =
        channel.transact(transaction(ticket_element(TICKET), None))?.into_iter().next()
    {
        return Err(refusal.into());
    }
    let generation = generation(channel)?;
    let (found, _) = read(channel, false)?;
    if (&found.vips, &found.held) != (&known.vips, &known.held) {
        return Err(io::Error::other("somebody changes the fence"));
    }
    let (gate, ticket) = times_left(channel)?;
    let held = found.held.into_iter().collect();
    Ok(Earlier { generation, held, gate: open_for(gate, ticket) })
}

/// For how long the new gate is to be open, where so much is left of the old one and of the ticket.
fn open_for(gate: Option<Duration>, ticket: Option<Duration>) -> Option<Duration> {
    gate?.checked_sub(ticket?)?.checked_sub(TICKS).filter(|left| *left > TICKS)
}

/// The messages that lay out the fence of today in its place: what is held, and the gate, stay.
pub(super) fn layout_over(earlier: &Earlier, vips: &[Fenced]) -> Vec<Message> {
    let mut messages = delete_ticket();
    messages.push(nft::delete_table(Family::Arp, TABLE));
    messages.extend(layout(vips));
    messages.extend(held_of_arp(&earlier.held));
    messages
        .extend(earlier.gate.into_iter().flat_map(|left| gate_opened(Family::Arp, TABLE, left)));
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_gate_is_open_for_less_than_is_left_by_what_is_left_of_the_ticket() {
        let ms = Duration::from_millis;
        assert_eq!(open_for(Some(ms(2_000)), Some(ms(90))), Some(ms(1_890)));
        assert_eq!(open_for(Some(ms(120)), Some(ms(90))), None, "it is as good as over");
        assert_eq!(open_for(Some(ms(50)), Some(ms(90))), None);
        assert_eq!(open_for(None, Some(ms(90))), None);
        assert_eq!(open_for(Some(ms(2_000)), None), None, "the ticket's time is over");
    }
}
