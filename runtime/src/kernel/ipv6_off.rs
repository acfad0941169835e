//! IPv6 that is off on an interface for a moment.
//!
//! A network manager may switch it off and on again within some milliseconds, which takes all IPv6
//! addresses away: NetworkManager does when it sets an interface up. A VIP that is repaired in between
//! is refused. To pass it on for that, and to leave it alone for a second, would be a gap for nothing.

use std::thread::sleep;
use std::time::Duration;

use nix::errno::Errno;

use super::address::Put;
use super::refusal::Refusal;
use super::route::{Answers, Route};

/// How often, and how long after the last time, an address is tried again. In all that is shorter than
/// the time by which withdrawals precede the deadline, with leases of 750 ms and more.
const ATTEMPTS: usize = 10;
const EVERY: Duration = Duration::from_millis(5);

/// Puts the addresses there, and again those that are refused because IPv6 is off.
pub(super) fn put(route: &mut Route, all: &[Put], lifetime_secs: u32) -> Answers {
    let mut answers = route.put(all.iter().copied(), lifetime_secs)?;
    for _ in 0..ATTEMPTS {
        let refused: Vec<usize> =
            (0..all.len()).filter(|&index| is_off(&all[index], &answers[index])).collect();
        if refused.is_empty() {
            break;
        }
        sleep(EVERY);
        let again = route.put(refused.iter().map(|&index| all[index]), lifetime_secs)?;
        for (index, answer) in refused.into_iter().zip(again) {
            answers[index] = answer;
        }
    }
    Ok(answers)
}

/// What the kernel says where `disable_ipv6` is 1.
fn is_off(put: &Put, answer: &Result<(), Refusal>) -> bool {
    let is_denied = |refusal: &Refusal| Errno::from_raw(refusal.errno) == Errno::EACCES;
    put.slot.address.addr().is_ipv6() && answer.as_ref().is_err_and(is_denied)
}
