//! Whatever is asked, in whatever order, with whatever goes wrong: nothing answers that must not.

use std::collections::BTreeMap;

use super::super::TimerRate;
use super::kernel::*;
use crate::Instant;
use crate::action::OpId;
use crate::kernel::{Assignment, KernelError, KernelOp, KernelOutcome};
use crate::lease::Backstop::{self, Fence, Lifetime};

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A node as far as the adapter is concerned: it withdraws what failed before it comes back.
struct Story {
    world: World,
    dice: Dice,
    backstop: Backstop,
    /// The greatest deadline that each address was given since it was last withdrawn.
    until: BTreeMap<u32, Instant>,
    asked: BTreeMap<OpId, KernelOp>,
    session: Instant,
}

const COUNT: u32 = 70;

impl Story {
    fn some(&mut self) -> Vec<u32> {
        let first = 1 + u32::try_from(self.dice.below(COUNT.into())).unwrap();
        let many = if self.dice.one_in(3) { COUNT } else { 3 };
        (first..(first + many).min(COUNT + 1)).collect()
    }

    fn ask(&mut self, op: KernelOp) {
        let id = self.world.ask(op.clone());
        self.asked.insert(id, op);
    }

    fn turn(&mut self) {
        match self.dice.below(12) {
            0..3 => {
                let hosts = self.some();
                let hosts: Vec<_> =
                    hosts.into_iter().filter(|host| !self.until.contains_key(host)).collect();
                self.until.extend(hosts.iter().map(|host| (*host, self.session)));
                self.ask(KernelOp::Assume { addresses: addresses(hosts), deadline: self.session });
            }
            3..6 => {
                self.session = self.session.max(self.world.now + ms(2_900 + self.dice.below(200)));
                // What comes too late to be let in anew ends at the deadline of then.
                self.until.values_mut().for_each(|until| *until = self.session);
                self.ask(KernelOp::Refresh { deadline: self.session });
            }
            6..8 => {
                let hosts = self.some();
                self.ask(KernelOp::Withdraw { addresses: addresses(hosts.clone()) });
            }
            8 => self.ask(KernelOp::List),
            9 if self.backstop == Fence => match self.dice.below(3) {
                // Not what lets pass what turnip silences: until that is noticed, it passes.
                0 => self.damage(|tables| tables.held.clear()),
                1 => self.damage(|tables| tables.gate = None),
                _ => self.world.kernel.changed = true,
            },
            10 => {
                let long = if self.dice.one_in(6) { 4_000 } else { 400 };
                self.world.now += ms(self.dice.below(long));
            }
            _ => {
                let refused = addresses(self.some());
                let places = refused.into_iter().map(|one| (one.interface, one.address));
                let refuses = self.dice.one_in(3);
                self.world.kernel.refuses = places.filter(|_| refuses).collect();
            }
        }
    }

    fn damage(&mut self, how: impl FnOnce(&mut Tables)) {
        if let Some(tables) = &mut self.world.kernel.tables {
            how(tables);
            self.world.kernel.changed = true;
        }
    }

    /// Some calls, with stalls; between them it is looked at who answers.
    fn go_on(&mut self, calls: u64) {
        for _ in 0..calls {
            let mut stall = || match self.dice.below(30) {
                0 => self.dice.below(3_000),
                1..4 => self.dice.below(60),
                _ => 0,
            };
            let (before, after) = (ms(stall()), ms(stall()));
            // Against a stall before the kernel reads a lifetime there is no ticket: it is set
            // right by the next call.
            let before = if self.backstop == Fence { before } else { ms(0) };
            let stalls = (before, after);
            self.world.stalls = vec![stalls];
            let went = self.world.step();
            self.world.stalls.clear();
            self.learn();
            self.check();
            if !went {
                return;
            }
        }
    }

    fn learn(&mut self) {
        let answered: Vec<_> = self.asked.keys().copied().collect();
        for id in answered {
            let Some(outcome) = self.world.outcome(id) else { continue };
            let Some(op) = self.asked.remove(&id) else { continue };
            let failed: Vec<(Assignment, KernelError)> = match (&op, outcome) {
                (_, KernelOutcome::Done { failed, .. }) => failed,
                _ => Vec::new(),
            };
            if let KernelOp::Withdraw { addresses } = op {
                for one in addresses {
                    if !failed.iter().any(|(other, _)| *other == one) {
                        let host = number(&one);
                        let again = self.asked.values().any(|op| {
                            matches!(op, KernelOp::Assume { addresses, .. } if addresses.contains(&one))
                        });
                        if !again {
                            assert!(!self.world.answers(host), "{host} was withdrawn");
                            self.until.remove(&host);
                        }
                    }
                }
            }
        }
    }

    fn check(&self) {
        for host in 1..=COUNT {
            if self.world.answers(host) {
                let until = self.until.get(&host);
                let until = until.unwrap_or_else(|| panic!("{host} was never assumed"));
                assert!(self.world.now < *until, "{host} answers after {until:?}");
                self.check_backstop(host, *until);
            }
        }
    }

    /// It will be silent in time if nobody does anything from now on.
    fn check_backstop(&self, host: u32, until: Instant) {
        match self.backstop {
            Fence => {
                let gate = self.world.gate();
                assert!(gate.is_none_or(|gate| gate <= until), "{host}: {gate:?} {until:?}");
            }
            Lifetime => {
                let address = address(host);
                let place = (address.interface, address.address);
                let (_, ends) = self.world.kernel.present[&place];
                if self.world.kernel.refuses.contains(&place) {
                    return;
                }
                let ends = ends.unwrap_or(Instant::from_nanos(u64::MAX)) + ms(1_000);
                assert!(ends <= until, "{host}: {ends:?} {until:?}");
            }
        }
    }
}

fn number(one: &Assignment) -> u32 {
    match one.address.addr() {
        std::net::IpAddr::V4(ip) => u32::from(ip) - u32::from(std::net::Ipv4Addr::new(10, 0, 0, 0)),
        std::net::IpAddr::V6(_) => 0,
    }
}

fn tell(backstop: Backstop, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        println!("{backstop:?} seed {seed}");
        let world = World::new(backstop, COUNT, None);
        let session = world.now + ms(2_970);
        let (until, asked) = (BTreeMap::new(), BTreeMap::new());
        let dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (seed + 1).wrapping_mul(0xbf58_476d_1ce4_e5b9));
        let mut story = Story { world, dice, backstop, until, asked, session };
        for _ in 0..150 {
            story.turn();
            let calls = story.dice.below(8);
            story.go_on(calls);
        }
        // In the end all is answered, what is withdrawn is gone, and what is assumed is there.
        story.world.kernel.refuses.clear();
        story.ask(KernelOp::Withdraw { addresses: addresses(1..=COUNT) });
        story.world.stalls.clear();
        story.world.run();
        story.learn();
        assert!(story.asked.is_empty() && story.world.adapter.is_idle());
        assert!((1..=COUNT).all(|host| !story.world.is_present(host)));
        story.world.rate = TimerRate::TRUE;
        let deadline = story.world.now + ms(9_000);
        assert!(matches!(story.world.assume(1..=COUNT, deadline),
            KernelOutcome::Done { failed, .. } if failed.is_empty()));
        assert!((1..=COUNT).all(|host| story.world.answers(host)));
    }
}

#[test]
fn whatever_happens_nothing_answers_that_was_not_assumed_or_after_its_deadline() {
    tell(Fence, 0..40);
}

#[test]
fn by_lifetimes_the_same() {
    tell(Lifetime, 0..40);
}
