//! The commands that run on hosts beside what becomes of VIPs, and what is written down of them.

use std::collections::BTreeMap;

use turnip_core::{Hook, HookEnd, HookId, HookRun, Owed, VipName};

use crate::plan::AddressId;
use crate::record::HookRan;
use crate::time::{MS, True};
use crate::world::env::Env;
use crate::world::event::{Event, HostEvent};
use crate::world::ids::HostId;
use crate::world::slots::{Reply, SlotId};

use super::Hosts;

/// The hooks of a host. A process of them outlives the daemon's, until the next one kills it.
#[derive(Default)]
pub struct HookProcesses {
    /// What the runtime directory says.
    owed: BTreeMap<VipName, Owed>,
    running: BTreeMap<(u32, HookId), Running>,
}

struct Running {
    hook: Hook,
    vip: VipName,
    addresses: Vec<AddressId>,
    since: True,
    slot: SlotId,
}

impl HookProcesses {
    /// The host is switched off.
    pub fn power_off(&mut self) {
        *self = HookProcesses::default();
    }
}

impl Hosts {
    /// A process of the daemon begins: it kills the hooks of earlier ones, and reads what is owed.
    pub fn take_over_hooks(&mut self, host: HostId, env: &mut Env) -> Vec<Owed> {
        for (_, running) in std::mem::take(&mut self.list[host].hooks.running) {
            self.hook_is_gone(host, &running, false, env);
            env.slots.release(running.slot);
        }
        env.record.hooks.restarted(host);
        self.list[host].hooks.owed.values().cloned().collect()
    }

    /// The daemon ends by itself, and what still runs of its hooks with it.
    pub fn cut_hooks_off(&mut self, host: HostId, env: &mut Env) {
        for (_, running) in std::mem::take(&mut self.list[host].hooks.running) {
            env.record.hooks.cut_off(host, &running.vip, running.hook);
            self.hook_is_gone(host, &running, false, env);
        }
    }

    /// The daemon writes down what is owed.
    pub fn owe(&mut self, host: HostId, owed: Owed) {
        self.list[host].hooks.owed.insert(owed.vip.clone(), owed);
    }

    /// The daemon strikes it out.
    pub fn paid(&mut self, host: HostId, vip: &VipName) {
        self.list[host].hooks.owed.remove(vip);
    }

    /// The daemon runs a hook.
    pub fn run_hook(&mut self, host: HostId, run: HookRun, env: &mut Env) -> SlotId {
        let slot = env.slots.open();
        let incarnation = self.list[host].process.incarnation;
        let ids =
            run.assignments.iter().filter_map(|one| env.layout.address_of(one.address.addr()));
        let addresses: Vec<AddressId> = ids.map(|(id, _)| *id).collect();
        let (hook, vip, since) = (run.hook, run.vip.clone(), env.now());
        let running = Running { hook, vip, addresses, since, slot };
        // Of a VIP that is not configured any more the address may be another's by now.
        let here = run.reason != "restart" && self.answers_one_of(host, &running, env);
        env.record.hooks.began(host, &run.vip, run.hook, here);
        env.count(|tally| &mut tally.hooks);
        env.trace(|params| {
            format!("{h} runs {} of {}: {}", run.hook, run.vip, run.reason, h = params.host(host))
        });
        let (ends_in, end) = fate(host, &run, env);
        self.list[host].hooks.running.insert((incarnation, run.id), running);
        let event = HostEvent::HookEnds { incarnation, id: run.id, end };
        match ends_in {
            Some(ends_in) => env.after(ends_in, Event::Host { host, event }),
            // By the host's clock.
            None => {
                if let Some(at) = self.list[host].clock.when(run.deadline) {
                    env.schedule(at, Event::Host { host, event });
                }
            }
        }
        slot
    }

    /// The daemon kills one.
    pub fn kill_hook(&mut self, host: HostId, id: HookId, env: &mut Env) {
        let incarnation = self.list[host].process.incarnation;
        let event = HostEvent::HookEnds { incarnation, id, end: HookEnd::Killed };
        env.after(MS / 10, Event::Host { host, event });
    }

    /// One has ended.
    pub(super) fn hook_ends(
        &mut self,
        host: HostId,
        (incarnation, id): (u32, HookId),
        end: HookEnd,
        env: &mut Env,
    ) {
        // A daemon that is gone kills nothing any more.
        if end == HookEnd::Killed && self.list[host].process.incarnation != incarnation {
            return;
        }
        let Some(running) = self.list[host].hooks.running.remove(&(incarnation, id)) else {
            return;
        };
        self.hook_is_gone(host, &running, end.is_success(), env);
        env.slots.complete(running.slot, Reply::Hook(end));
    }

    fn hook_is_gone(&self, host: HostId, running: &Running, well: bool, env: &mut Env) {
        let Running { addresses, hook, since, .. } = running;
        let (addresses, hook, from, to) = (addresses.clone(), *hook, *since, env.now());
        env.record.hooks_ran.push(HookRan { host, addresses, hook, from, to, well });
        let here = self.answers_one_of(host, running, env);
        env.record.hooks.ended(host, &running.vip, running.hook, here);
        env.trace(|params| {
            format!("{h}: {} of {} has ended", running.hook, running.vip, h = params.host(host))
        });
    }

    fn answers_one_of(&self, host: HostId, running: &Running, env: &Env) -> bool {
        running.addresses.iter().any(|id| env.checker.holders(*id) >> host & 1 == 1)
    }
}

/// After how long a hook ends, none when it hangs until it is killed; and how.
fn fate(host: HostId, run: &HookRun, env: &mut Env) -> (Option<u64>, HookEnd) {
    let now = env.now();
    let plan = std::rc::Rc::clone(&env.plan);
    let Some(params) = &plan.params.hooks else { return (Some(0), HookEnd::Succeeded) };
    let is_healed = now >= plan.heal_at;
    let is_broken = run.hook == Hook::BeforeAssume && params.broken_on == Some(host);
    if !is_healed && (is_broken || env.hook_rng.chance(params.hang_permille)) {
        return (None, HookEnd::Killed);
    }
    let takes = env.hook_rng.within(0..=params.takes_ms * MS);
    if takes > u64::try_from(run.timeout.as_nanos()).unwrap_or(u64::MAX) {
        return (None, HookEnd::Killed);
    }
    let fails = !is_healed && env.hook_rng.chance(params.fail_permille);
    let end = if fails { HookEnd::Failed("drawn".into()) } else { HookEnd::Succeeded };
    (Some(takes), end)
}
