//! Watches the hooks: one at a time for a VIP on a host, in their order, none beside an address that is not to
//! be here yet or any more, and none lost (rule 12).

use std::collections::BTreeMap;

use turnip_core::Hook::{self, AfterAssume, AfterRelease, BeforeAssume, BeforeRelease};
use turnip_core::VipName;

use crate::plan::words;

/// What hooks of one VIP on one host have come to.
#[derive(Default, Debug)]
struct Line {
    running: Option<Hook>,
    /// The last that began, in this boot, but for those about conflicts.
    last: Option<Hook>,
    /// Another process of the daemon has been started since that.
    restarted: bool,
}

/// Watches them.
#[derive(Default, Debug)]
pub struct HookWatch {
    lines: BTreeMap<(usize, VipName), Line>,
    /// What must not be, and was.
    pub wrong: Vec<String>,
}

impl HookWatch {
    /// A hook begins; `here` is whether an address of the VIP answers on that host.
    pub fn began(&mut self, host: usize, vip: &VipName, hook: Hook, here: bool) {
        let line = self.lines.entry((host, vip.clone())).or_default();
        let mut wrong = |what: String| {
            self.wrong.push(format!("{hook} of {vip} on {h} began {what}", h = words::host(host)));
        };
        if let Some(running) = line.running.replace(hook) {
            wrong(format!("while {running} ran"));
        }
        if here && matches!(hook, BeforeAssume | AfterRelease) {
            wrong("while an address of it answered there".into());
        }
        // That one stands beside the tenure, and begins and ends none of it.
        if hook == Hook::OnConflict {
            return;
        }
        let (last, restarted) = (line.last, std::mem::take(&mut line.restarted));
        let follows = match (last, hook) {
            // What an earlier process had begun is ended first.
            (last, BeforeAssume) => !restarted || matches!(last, None | Some(AfterRelease)),
            (Some(BeforeAssume), _) => true,
            (Some(AfterAssume), BeforeRelease | AfterRelease) => true,
            (Some(BeforeRelease), AfterRelease) => true,
            // It was there under another name.
            (Some(AfterRelease), AfterAssume) => restarted,
            // What was killed with its daemon is run again.
            (Some(AfterAssume), AfterAssume) | (Some(AfterRelease), AfterRelease) => restarted,
            _ => false,
        };
        if !follows {
            wrong(format!("after {last:?}, restarted: {restarted}"));
        }
        line.last = Some(hook);
    }

    /// A hook has ended; `here` is whether an address of the VIP answers on that host.
    pub fn ended(&mut self, host: usize, vip: &VipName, hook: Hook, here: bool) {
        if let Some(line) = self.lines.get_mut(&(host, vip.clone())) {
            line.running = None;
        }
        if here && hook == BeforeAssume {
            let what = "had not ended when an address of it answered there";
            self.wrong.push(format!("{hook} of {vip} on {h} {what}", h = words::host(host)));
        }
    }

    /// The daemon has ended in an orderly way before a hook had.
    pub fn cut_off(&mut self, host: usize, vip: &VipName, hook: Hook) {
        self.wrong.push(format!(
            "{hook} of {vip} on {h} was cut off by the end of the daemon",
            h = words::host(host)
        ));
    }

    /// A process of a host's daemon begins.
    pub fn restarted(&mut self, host: usize) {
        let lines = self.lines.iter_mut().filter(|((on, _), _)| *on == host);
        lines.for_each(|(_, line)| line.restarted = true);
    }

    /// A host is switched off.
    pub fn rebooted(&mut self, host: usize) {
        self.lines.retain(|(on, _), _| *on != host);
    }

    /// All daemons have ended: what is lost.
    pub fn finish(&mut self) {
        for ((host, vip), line) in &self.lines {
            if let Some(running) = line.running {
                self.wrong.push(format!(
                    "{running} of {vip} on {h} still ran at the end",
                    h = words::host(*host)
                ));
            }
            if let Some(last) = line.last
                && last != AfterRelease
            {
                self.wrong.push(format!(
                    "{last} of {vip} on {h} was the last, and no after_release",
                    h = words::host(*host)
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(happens: impl FnOnce(&mut HookWatch, &VipName)) -> Vec<String> {
        let mut watch = HookWatch::default();
        happens(&mut watch, &"v".parse().unwrap());
        watch.finish();
        watch.wrong
    }

    fn run(watch: &mut HookWatch, vip: &VipName, hook: Hook) {
        watch.began(0, vip, hook, false);
        watch.ended(0, vip, hook, false);
    }

    #[test]
    fn a_whole_tenure_is_fine_and_a_part_of_one_is_not() {
        let whole = [BeforeAssume, AfterAssume, BeforeRelease, AfterRelease];
        let of = |hooks: &[Hook]| {
            wrong(|watch, vip| hooks.iter().for_each(|hook| run(watch, vip, *hook)))
        };
        assert_eq!(of(&whole), Vec::<String>::new());
        assert_eq!(of(&whole[..2]).len(), 1, "no after_release");
        assert_eq!(of(&whole[1..]).len(), 1, "no before_assume");
    }

    #[test]
    fn two_at_once_and_one_beside_the_address_are_wrong() {
        let beside = wrong(|watch, vip| {
            watch.began(0, vip, BeforeAssume, false);
            watch.began(0, vip, AfterRelease, true);
            watch.ended(0, vip, AfterRelease, false);
        });
        assert_eq!(beside.len(), 2, "{beside:?}");
    }

    #[test]
    fn what_a_killed_daemon_owed_is_run_before_anything_new_begins() {
        let lost = wrong(|watch, vip| {
            run(watch, vip, BeforeAssume);
            watch.restarted(0);
            run(watch, vip, BeforeAssume);
            run(watch, vip, AfterRelease);
        });
        assert_eq!(lost.len(), 1, "{lost:?}");
    }

    #[test]
    fn a_hook_about_a_conflict_is_none_of_what_is_owed() {
        let owed = wrong(|watch, vip| {
            [BeforeAssume, AfterAssume, AfterRelease]
                .iter()
                .for_each(|hook| run(watch, vip, *hook));
            watch.restarted(0);
            run(watch, vip, Hook::OnConflict);
            // It was killed with its daemon.
            run(watch, vip, AfterRelease);
        });
        assert_eq!(owed, Vec::<String>::new());
    }
}
