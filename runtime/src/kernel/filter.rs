//! What the kernel passes on of what listening sockets receive: a classic BPF program for each. Everything
//! else, on a network of thousands of machines most of it, wakes nobody.

use std::net::IpAddr;

use nix::libc;
use socket2::SockFilter;

use super::packets::{ADVERTISEMENT, HOP_LIMIT};

/// A program has at most 4,096 instructions, two for each address; and an address more is a comparison more
/// for each packet. Of a host with more addresses all packets of the kind are looked at.
const ADDRESSES_MAX: usize = 1_000;
/// So many bytes of a packet are passed on: more than there are of use.
const LENGTH: u32 = 256;
const DROP: u32 = 0;

const LOAD_WORD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const LOAD_BYTE: u16 = (libc::BPF_LD | libc::BPF_B | libc::BPF_ABS) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// The hop limit, from before what the socket gets.
const OF_HOP_LIMIT: u32 = (libc::SKF_NET_OFF + 7) as u32;
/// Where an ARP packet has the sender's address, and an advertisement the last part of its target.
const ARP_SENDER: u32 = 14;
const TARGET_END: u32 = 20;

/// An instruction: code, how many to skip if true and if false, operand.
type Instruction = (u16, u8, u8, u32);

/// ARP packets from one of the addresses.
pub(super) fn arp(addresses: &[IpAddr]) -> Vec<SockFilter> {
    let keys = keys(addresses, |address| match address {
        IpAddr::V4(address) => Some(u32::from(address)),
        IpAddr::V6(_) => None,
    });
    assembled(among(ARP_SENDER, &keys))
}

/// Neighbour advertisements, ICMPv6 messages that come from the link, for one of the addresses, as far as
/// its last four bytes tell.
pub(super) fn advertisements(addresses: &[IpAddr]) -> Vec<SockFilter> {
    let keys = keys(addresses, |address| match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(address.to_bits() as u32),
    });
    let mut program = only(0, ADVERTISEMENT);
    program.extend(only(OF_HOP_LIMIT, HOP_LIMIT));
    program.extend(among(TARGET_END, &keys));
    assembled(program)
}

/// What of each address is compared, once each.
fn keys(addresses: &[IpAddr], key: impl Fn(IpAddr) -> Option<u32>) -> Vec<u32> {
    let mut keys: Vec<u32> = addresses.iter().filter_map(|address| key(*address)).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Goes on where the byte there is this one.
fn only(offset: u32, byte: u8) -> Vec<Instruction> {
    vec![(LOAD_BYTE, 0, 0, offset), (IF_EQUAL, 1, 0, byte.into()), (RETURN, 0, 0, DROP)]
}

/// Passes on where the word there is one of these.
fn among(offset: u32, keys: &[u32]) -> Vec<Instruction> {
    if keys.len() > ADDRESSES_MAX {
        return vec![(RETURN, 0, 0, LENGTH)];
    }
    let mut program = vec![(LOAD_WORD, 0, 0, offset)];
    for key in keys {
        program.extend([(IF_EQUAL, 0, 1, *key), (RETURN, 0, 0, LENGTH)]);
    }
    program.push((RETURN, 0, 0, DROP));
    program
}

fn assembled(program: Vec<Instruction>) -> Vec<SockFilter> {
    program.into_iter().map(|(code, yes, no, k)| SockFilter::new(code, yes, no, k)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the kernel would make of it: how much of the packet is passed on.
    fn run(program: &[Instruction], load: impl Fn(u32) -> u32) -> u32 {
        let (mut at, mut register) = (0, 0);
        loop {
            let (code, yes, no, k) = program[at];
            at += 1;
            match code {
                LOAD_WORD | LOAD_BYTE => register = load(k),
                IF_EQUAL => at += usize::from(if register == k { yes } else { no }),
                _ => return k,
            }
        }
    }

    #[test]
    fn only_what_is_among_the_addresses_is_passed_on() {
        let keys = [3, 5, 8];
        let program = among(ARP_SENDER, &keys);
        for key in 0..10 {
            let passed = run(&program, |_| key) == LENGTH;
            assert_eq!(passed, keys.contains(&key), "{key}");
        }
        assert_eq!(run(&among(ARP_SENDER, &[]), |_| 0), DROP);
    }

    #[test]
    fn of_too_many_addresses_everything_is_passed_on_and_a_program_is_never_too_long() {
        let keys: Vec<u32> = (0..=ADDRESSES_MAX as u32).collect();
        assert_eq!(run(&among(ARP_SENDER, &keys), |_| 7_000_000), LENGTH);
        let longest = among(ARP_SENDER, &keys[1..]);
        assert_eq!(run(&longest, |_| 7_000_000), DROP);
        assert!(longest.len() + 6 <= 4096);
    }

    #[test]
    fn an_advertisement_has_its_type_and_comes_from_the_link() {
        let program: Vec<_> =
            [only(0, ADVERTISEMENT), only(OF_HOP_LIMIT, HOP_LIMIT), among(20, &[9])].concat();
        let passed = |kind: u8, hops: u8, target: u32| {
            let load = |offset| match offset {
                0 => kind.into(),
                OF_HOP_LIMIT => hops.into(),
                _ => target,
            };
            run(&program, load) == LENGTH
        };
        assert!(passed(136, 255, 9));
        assert!(!passed(135, 255, 9) && !passed(136, 64, 9) && !passed(136, 255, 8));
    }

    #[test]
    fn addresses_of_the_other_family_are_left_out() {
        let addresses = ["10.0.0.50".parse().unwrap(), "fd00::1:2345".parse().unwrap()];
        let of_v6 = |address| match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => Some(address.to_bits() as u32),
        };
        assert_eq!(keys(&addresses, of_v6), [0x1_2345]);
    }
}
