//! A scenario from a file: it begins when all VIPs are held, and what it says happens to whom that befalls
//! at that time.

use crate::plan::{self, Deeds};
use crate::time::{MS, S};

use super::Inner;
use super::event::{Event, RunEvent};

/// How often it is looked whether all VIPs are held.
const LOOKS: u64 = 20 * MS;

/// If they are not by then, it begins all the same.
const WARM_UP_MAX: u64 = 120 * S;

impl Inner {
    /// A scenario begins once each address is on one host and has stayed there for long enough.
    pub(super) fn look_whether_held(&mut self) {
        let (now, plan) = (self.env.now(), std::rc::Rc::clone(&self.env.plan));
        let Some(played) = &plan.params.played else { return };
        let checker = &self.env.checker;
        let mut addresses = plan.params.addresses();
        let is_held = addresses.all(|address| {
            checker.holders(address).count_ones() == 1
                && checker.last_change(address) + played.settles <= now
        });
        if !is_held && now < WARM_UP_MAX {
            return self.env.after(LOOKS, Event::Run(RunEvent::Begins));
        }
        self.env.record.began = Some((now, is_held));
        self.env.trace(|_| "the scenario begins".to_owned());
        for (index, happening) in played.happens.iter().enumerate() {
            let at = happening.at.as_nanos() as u64;
            self.env.after(at, Event::Run(RunEvent::Happens { index }));
        }
        self.env.after(played.lasts, Event::Run(RunEvent::End));
    }

    /// What a scenario says happens now.
    pub(super) fn happens(&mut self, index: usize) {
        let (now, plan) = (self.env.now(), std::rc::Rc::clone(&self.env.plan));
        let Some(played) = &plan.params.played else { return };
        let leader = self.etcd.leader().map(|member| self.etcd.site(member));
        let checker = &self.env.checker;
        let holders = |vip: usize| checker.holders(2 * vip);
        let holder = |vip| match holders(vip) {
            0 => None,
            hosts => Some(hosts.trailing_zeros() as usize),
        };
        // Who is nobody is befallen by nothing.
        let Some(happening) = played.happens[index].resolved(leader, holder) else { return };
        let deeds = Deeds { params: &plan.params, now, holders: &holders, lasts: played.lasts };
        let steps = plan::steps(&deeds, &happening);
        self.env.record.happened.push(happening);
        for step in steps {
            let at = step.at;
            let index = self.faults.add(step);
            self.env.schedule(at, Event::Run(RunEvent::Step { index }));
        }
    }
}
