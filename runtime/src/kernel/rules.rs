//! The rules of the fence: what is dropped, and nothing else.
//!
//! # Packets that are rewritten
//!
//! A host may rewrite a packet (NAT) after it has arrived and before it leaves. A VIP that is not
//! held must not answer by way of that: neither may what arrives for it be rewritten to somewhere
//! else, nor may anything be rewritten to come from it. But what this host merely forwards, to or
//! from a VIP that another host holds, goes on.
//!
//! After NAT nothing in the packet tells the two apart. Connection tracking knows, but to ask it
//! turns it on for the whole host, and many routers do without. To have such packets untracked
//! would keep them from NAT, but from the host's own firewall as well. So a chain before NAT takes
//! note of the packet and one after it looks whether it was changed, and takes the note away:
//!
//! - *On the way in* the note is that the frame was for another host. Such frames do not get as far
//!   as here, so nothing else looks like it; and no rule of anybody's would look for it.
//! - *On the way out* the kernel does not let that be changed. The note is a bit of the packet's
//!   priority, between the last that may sort packets and NAT's hook, on which nothing else is. A
//!   mark would be as good, but rules of NAT go by marks.
//!
//! # What `nft` lists, `nft` must load
//!
//! Else a host that restores its saved rules has none. So there is nothing here that `nft` lists in
//! words which it does not read: it knows no protocol family in a table of ARP, and has no words for
//! the target of a neighbour solicitation before version 1.0.8. That needs no rule: the kernel
//! answers from the target's address, which is the VIP's.

use netlink_packet_netfilter::nftables::MetaKey;

use super::nft::{self, Chain, Family, Hook, Message};
use super::rule::{Field, Step, add_rule};

pub(super) const GATE: &str = "alive";
pub(super) const GATE_OF_ARP: &str = "alive4";
/// The sets of VIPs, and of those that are held: of IPv4, of IPv6, and of IPv6 by interface.
pub(super) const VIPS: [&str; 3] = ["vips4", "vips6", "vips6_link"];
pub(super) const HELD: [&str; 3] = ["held4", "held6", "held6_link"];

/// Before connection tracking, so that what is dropped leaves no trace there.
const RAW: i32 = -300;
/// After NAT's and all else that may rewrite a packet that has arrived, and before filters.
const AFTER_DNAT: i32 = -50;
/// NAT of the source is at 100.
const BEFORE_SNAT: i32 = 99;
const AFTER_SNAT: i32 = 101;

const INPUT: Chain = Chain { name: "input", hook: Hook::Input, priority: RAW };
const OUTPUT: Chain = Chain { name: "output", hook: Hook::Output, priority: RAW };

const IPV4: [u8; 1] = [2];
const IPV6: [u8; 1] = [10];
const FRAME_FOR_THIS_HOST: [u8; 1] = [0];
const FRAME_FOR_ANOTHER: [u8; 1] = [3];
/// Class ids of queueing disciplines from `4000:` on have it, which nobody gives.
const WAS_FROM_A_VIP: u32 = 1 << 30;

/// An end of the packet's way: the address in the fields, with the interface, and without.
struct End {
    v4: &'static [Field],
    v6: &'static [Field],
    v6_on_interface: &'static [Field],
}

const DESTINATION: End = End {
    v4: &[Field::Network(16, 4)],
    v6: &[Field::Network(24, 16)],
    v6_on_interface: &[Field::Meta(MetaKey::Iifname), Field::Network(24, 16)],
};
const SOURCE: End = End {
    v4: &[Field::Network(12, 4)],
    v6: &[Field::Network(8, 16)],
    v6_on_interface: &[Field::Meta(MetaKey::Oifname), Field::Network(8, 16)],
};

const FAMILY: Field = Field::Meta(MetaKey::Nfproto);
const PACKET_TYPE: Field = Field::Meta(MetaKey::PacketType);

const ARP_PROTOCOL: &[Field] = &[Field::Network(2, 2)];
const ARP_HARDWARE_LENGTH: Field = Field::Network(4, 1);
const ARP_OPERATION: Field = Field::Network(6, 2);
const ARP_SENDER: &[Field] = &[Field::Network(14, 4)];
const ARP_TARGET: &[Field] = &[Field::Network(24, 4)];
const ARP_REQUEST: [u8; 2] = [0, 1];

type Rule = Vec<Step>;

/// The chains of the table with their rules, in place of those that are there.
pub(super) fn chains(family: Family, table: &str) -> Vec<Message> {
    let all = match family {
        Family::Inet => inet(),
        Family::Arp => arp(),
    };
    let mut messages = Vec::new();
    for (chain, rules) in all {
        messages.push(nft::add_chain(family, table, chain));
        messages.push(nft::flush_chain(family, table, chain));
        messages.extend(rules.iter().map(|steps| add_rule(family, table, chain, steps)));
    }
    messages
}

fn inet() -> Vec<(Chain, Vec<Rule>)> {
    let prerouting = |name, priority| Chain { name, hook: Hook::Prerouting, priority };
    let postrouting = |name, priority| Chain { name, hook: Hook::Postrouting, priority };
    let dropped_unless_it_may_pass = |end: &End| {
        let mut rules = passing_if_of_no_vip(end);
        rules.extend(unless_it_may_pass(end, &[Step::Drop]));
        rules
    };
    vec![
        (INPUT, dropped_unless_it_may_pass(&DESTINATION)),
        (OUTPUT, dropped_unless_it_may_pass(&SOURCE)),
        (prerouting("before_dnat", RAW), before_dnat()),
        (prerouting("after_dnat", AFTER_DNAT), after_dnat()),
        (postrouting("before_snat", BEFORE_SNAT), before_snat()),
        (postrouting("after_snat", AFTER_SNAT), {
            let noted = vec![
                Step::Has(MetaKey::Priority, WAS_FROM_A_VIP),
                Step::Remove(MetaKey::Priority, WAS_FROM_A_VIP),
                Step::Accept,
            ];
            [vec![noted], dropped_unless_it_may_pass(&SOURCE)].concat()
        }),
    ]
}

/// Most packets: they cost one look into a set, or two of IPv6.
fn passing_if_of_no_vip(end: &End) -> Vec<Rule> {
    vec![
        vec![is(IPV4), Step::NotIn(end.v4, VIPS[0]), Step::Accept],
        vec![
            is(IPV6),
            Step::NotIn(end.v6, VIPS[1]),
            Step::NotIn(end.v6_on_interface, VIPS[2]),
            Step::Accept,
        ],
    ]
}

/// Of packets to or from a VIP: `what` is done when the gate is closed, or the VIP is not held.
fn unless_it_may_pass(end: &End, what: &[Step]) -> [Rule; 3] {
    let gate = vec![Step::NotIn(&[FAMILY], GATE)];
    let v4 = vec![is(IPV4), Step::NotIn(end.v4, HELD[0])];
    let v6 =
        vec![is(IPV6), Step::NotIn(end.v6, HELD[1]), Step::NotIn(end.v6_on_interface, HELD[2])];
    [gate, v4, v6].map(|steps| [&steps[..], what].concat())
}

/// Takes note of what arrives for a VIP that is not held. Frames for all or many are not forwarded:
/// what they carry is left to the input hook.
fn before_dnat() -> Vec<Rule> {
    let note = [
        Step::Is(PACKET_TYPE, FRAME_FOR_THIS_HOST.into()),
        Step::Set(MetaKey::PacketType, FRAME_FOR_ANOTHER.into()),
    ];
    let mut rules = passing_if_of_no_vip(&DESTINATION);
    rules.extend(unless_it_may_pass(&DESTINATION, &note));
    rules
}

/// Drops what was noted and is for something else now: for no VIP, or for one that is held.
fn after_dnat() -> Vec<Rule> {
    let to = &DESTINATION;
    let forget = Step::Set(MetaKey::PacketType, FRAME_FOR_THIS_HOST.into());
    vec![
        vec![Step::IsNot(PACKET_TYPE, FRAME_FOR_ANOTHER.into()), Step::Accept],
        vec![is(IPV4), Step::NotIn(to.v4, VIPS[0]), Step::Drop],
        vec![
            is(IPV6),
            Step::NotIn(to.v6, VIPS[1]),
            Step::NotIn(to.v6_on_interface, VIPS[2]),
            Step::Drop,
        ],
        vec![Step::NotIn(&[FAMILY], GATE), forget.clone(), Step::Accept],
        vec![is(IPV4), Step::In(to.v4, HELD[0]), Step::Drop],
        vec![is(IPV6), Step::In(to.v6, HELD[1]), Step::Drop],
        vec![is(IPV6), Step::In(to.v6_on_interface, HELD[2]), Step::Drop],
        vec![forget],
    ]
}

/// Takes note of what comes from a VIP before it is rewritten: it is this host's, and was let
/// through by the output hook, or another host's.
fn before_snat() -> Vec<Rule> {
    let mut rules = passing_if_of_no_vip(&SOURCE);
    rules.push(vec![Step::Add(MetaKey::Priority, WAS_FROM_A_VIP)]);
    rules
}

fn is(family: [u8; 1]) -> Step {
    Step::Is(FAMILY, family.into())
}

fn arp() -> Vec<(Chain, Vec<Rule>)> {
    let other_hardware = || vec![Step::IsNot(ARP_HARDWARE_LENGTH, vec![6]), Step::Accept];
    let closed = || vec![Step::NotIn(ARP_PROTOCOL, GATE_OF_ARP), Step::Drop];
    // Requests for a VIP, but not its new holder's announcement, which is a request from the VIP
    // for itself: this host should learn of it as any other.
    let input = vec![
        other_hardware(),
        vec![Step::IsNot(ARP_OPERATION, ARP_REQUEST.into()), Step::Accept],
        vec![Step::In(ARP_SENDER, VIPS[0]), Step::Accept],
        vec![Step::NotIn(ARP_TARGET, VIPS[0]), Step::Accept],
        closed(),
        vec![Step::NotIn(ARP_TARGET, HELD[0]), Step::Drop],
    ];
    let output = vec![
        other_hardware(),
        vec![Step::NotIn(ARP_SENDER, VIPS[0]), Step::Accept],
        closed(),
        vec![Step::NotIn(ARP_SENDER, HELD[0]), Step::Drop],
    ];
    vec![(INPUT, input), (OUTPUT, output)]
}
