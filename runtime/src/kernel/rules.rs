//! The rules of the fence: what is dropped, and nothing else.

use super::nft::{self, Direction, Family, Field, Message, Step};

const IPV4: [u8; 1] = [2];
const IPV6: [u8; 1] = [10];
const ICMPV6: [u8; 1] = [58];
const SOLICITATION: [u8; 1] = [135];
const ADVERTISEMENT: [u8; 1] = [136];
const ARP_REQUEST: [u8; 2] = [0, 1];
const ARP_HARDWARE_LENGTH: Field = Field::Network(4, 1);
const ARP_OPERATION: Field = Field::Network(6, 2);
const ARP_SENDER: Field = Field::Network(14, 4);
const ARP_TARGET: Field = Field::Network(24, 4);

/// The chains of the table with their rules, in place of those that are there.
pub(super) fn chains(family: Family, table: &str) -> Vec<Message> {
    let mut messages = Vec::new();
    for direction in Direction::BOTH {
        messages.push(nft::add_chain(family, table, direction));
        messages.push(nft::flush_chain(family, table, direction));
        for fenced in fenced(family, direction) {
            for steps in fenced.unless_it_may_pass() {
                messages.push(nft::drop_rule(family, table, direction, &steps));
            }
        }
    }
    messages
}

/// Packets that name a VIP in a field.
struct Fenced {
    which: Vec<Step>,
    field: Field,
    vips: &'static str,
    held: &'static str,
}

impl Fenced {
    /// Dropped when the gate is closed, and when the VIP is not held.
    fn unless_it_may_pass(&self) -> [Vec<Step>; 2] {
        let and = |step| {
            let mut steps = self.which.clone();
            steps.push(Step::In(self.field, self.vips));
            steps.push(step);
            steps
        };
        [and(Step::NotIn(Field::Family, "alive")), and(Step::NotIn(self.field, self.held))]
    }
}

fn fenced(family: Family, direction: Direction) -> Vec<Fenced> {
    let v4 = |which, field| Fenced { which, field, vips: "vips4", held: "held4" };
    let v6 = |which, field| Fenced { which, field, vips: "vips6", held: "held6" };
    let discovery = |kind: [u8; 1]| {
        let which = vec![
            Step::Is(Field::Family, IPV6.into()),
            Step::Is(Field::Protocol, ICMPV6.into()),
            Step::Is(Field::Transport(0, 1), kind.into()),
        ];
        v6(which, Field::Transport(8, 16))
    };
    let ipv4 = vec![Step::Is(Field::Family, IPV4.into())];
    let ipv6 = vec![Step::Is(Field::Family, IPV6.into())];
    match (family, direction) {
        // Destination, or the target of a solicitation.
        (Family::Inet, Direction::Input) => vec![
            v4(ipv4, Field::Network(16, 4)),
            v6(ipv6, Field::Network(24, 16)),
            discovery(SOLICITATION),
        ],
        // Source, or the target of an advertisement.
        (Family::Inet, Direction::Output) => vec![
            v4(ipv4, Field::Network(12, 4)),
            v6(ipv6, Field::Network(8, 16)),
            discovery(ADVERTISEMENT),
        ],
        // Requests for a VIP, but not its new holder's announcement, which is a request from the
        // VIP for itself: this host should learn of it as any other.
        (Family::Arp, Direction::Input) => vec![v4(
            vec![
                Step::Is(ARP_HARDWARE_LENGTH, vec![6]),
                Step::Is(ARP_OPERATION, ARP_REQUEST.into()),
                Step::NotIn(ARP_SENDER, "vips4"),
            ],
            ARP_TARGET,
        )],
        (Family::Arp, Direction::Output) => {
            vec![v4(vec![Step::Is(ARP_HARDWARE_LENGTH, vec![6])], ARP_SENDER)]
        }
    }
}
