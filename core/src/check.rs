//! Checks of what stands behind an address: what the results of single attempts make of them (rule 11).
//!
//! A pure count: whoever carries an attempt out says that it passed, or failed and why, and what
//! follows is decided here. Nothing waits and nothing fires: a check changes only by an attempt.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::lease::{FALL_FORGOTTEN_AFTER, REASON_AGAIN_AFTER, hold_down};
use crate::name::CheckName;
use crate::text;
use crate::time::Instant;

/// A check as a node is configured with it. How it is carried out is no concern of the protocol.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CheckConfig {
    /// Its name.
    pub name: CheckName,
    /// So many attempts in a row must pass until it is up; at least 1.
    pub rise: u32,
    /// So many in a row must fail until it is down; at least 1.
    pub fall: u32,
    /// What it is before its first attempt.
    pub initial: Initial,
    /// What it adds to the node's priority, or share, for its VIPs: one below 0 while it is down, one
    /// above 0 while it is up. Without, a VIP is not held where it is down.
    pub weight: Option<i32>,
    /// Whether it is about the whole node, and so about all its VIPs.
    pub whole_node: bool,
}

/// What a check is before its first attempt.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Initial {
    /// As if it had passed.
    Up,
    /// As if it had failed.
    Down,
    /// Nobody knows: the first attempt says what it is, and until then nothing is taken for it.
    #[default]
    Wait,
}

/// What becomes of a VIP whose checks fail wherever it could be.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum LastResort {
    /// It stays where it is.
    #[default]
    Keep,
    /// Nobody has it.
    Release,
}

impl LastResort {
    /// Its word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            LastResort::Keep => "keep",
            LastResort::Release => "release",
        }
    }
}

/// One attempt is over.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Attempt {
    /// Of which check.
    pub check: CheckName,
    /// It passed; or why it failed, in somebody else's words.
    pub result: Result<(), String>,
}

/// How a check stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckState {
    /// It has not been tried yet.
    Waiting,
    /// What it checks works.
    Up,
    /// It does not, or did not lately.
    Down,
}

impl CheckState {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            CheckState::Waiting => "waiting",
            CheckState::Up => "up",
            CheckState::Down => "down",
        }
    }
}

/// How often something fell lately, and so for how long it must be well until that is believed
/// (rules 7.7 and 11.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Damping {
    falls: u32,
    /// Since when it has been well again; none when it never fell.
    risen_at: Option<Instant>,
}

impl Damping {
    /// It is not well any more.
    pub(crate) fn fell(&mut self, now: Instant) {
        let well_for = self.risen_at.take().map_or(Duration::ZERO, |at| now.since(at));
        let forgotten = well_for.as_secs() / FALL_FORGOTTEN_AFTER.as_secs();
        let forgotten = u32::try_from(forgotten).unwrap_or(u32::MAX);
        self.falls = self.falls.saturating_sub(forgotten).saturating_add(1);
    }

    /// It is well again.
    pub(crate) fn rose(&mut self, now: Instant) {
        if self.falls > 0 {
            self.risen_at = Some(now);
        }
    }

    /// For how long it must be well until that is believed.
    pub(crate) fn hold_down(&self) -> Duration {
        hold_down(self.falls)
    }
}

/// A check, by the attempts that there have been.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Check {
    state: CheckState,
    /// Attempts in a row that speak against that state.
    against: u32,
    /// Since when all attempts have passed; none after one that failed.
    passing_since: Option<Instant>,
    damping: Damping,
    /// Since when the state is what it is, by the wall clock, in ms since 1970.
    since_unix_ms: u64,
    /// How many attempts passed, and how many failed.
    attempts: (u64, u64),
    /// Why the newest attempt that failed did, as it may be shown.
    last_reason: String,
    /// The same as it is told the others, and since when.
    told: (String, Option<Instant>),
}

impl Check {
    pub(crate) fn new(config: &CheckConfig) -> Self {
        let state = match config.initial {
            Initial::Up => CheckState::Up,
            Initial::Down => CheckState::Down,
            Initial::Wait => CheckState::Waiting,
        };
        let why = match state {
            CheckState::Down => "it has not passed yet",
            _ => "",
        };
        Check {
            state,
            against: 0,
            passing_since: None,
            damping: Damping::default(),
            since_unix_ms: 0,
            attempts: (0, 0),
            last_reason: why.to_owned(),
            told: (why.to_owned(), None),
        }
    }

    pub(crate) fn state(&self) -> CheckState {
        self.state
    }

    /// Since when, by the wall clock; 0 for since the start.
    pub(crate) fn since_unix_ms(&self) -> u64 {
        self.since_unix_ms
    }

    /// Why it is down, as the others are told; empty when it is not.
    pub(crate) fn reason(&self) -> &str {
        match self.state {
            CheckState::Down => &self.told.0,
            _ => "",
        }
    }

    /// Why the newest attempt that failed did; empty where none has.
    pub(crate) fn last_reason(&self) -> &str {
        &self.last_reason
    }

    /// How many attempts passed, and how many failed.
    pub(crate) fn attempts(&self) -> (u64, u64) {
        self.attempts
    }

    /// For how long it is held down still although attempts pass; none where it is not.
    pub(crate) fn held_down_for(&self, now: Instant) -> Option<Duration> {
        let until = self.passing_since? + self.damping.hold_down();
        (self.state == CheckState::Down && until > now).then(|| until.since(now))
    }

    /// An attempt is over. Whether there is something new to tell.
    pub(crate) fn tried(
        &mut self,
        (rise, fall): (u32, u32),
        result: &Result<(), String>,
        (now, unix_ms): (Instant, u64),
        is_damped: bool,
    ) -> bool {
        let passed = result.is_ok();
        match result {
            Ok(()) => {
                self.attempts.0 += 1;
                self.passing_since.get_or_insert(now);
            }
            Err(why) => {
                self.attempts.1 += 1;
                self.passing_since = None;
                self.last_reason = text::shown(why);
            }
        }
        let speaks_against = match self.state {
            CheckState::Up => !passed,
            CheckState::Down => passed,
            CheckState::Waiting => true,
        };
        self.against = if speaks_against { self.against.saturating_add(1) } else { 0 };
        let hold_down = if is_damped { self.damping.hold_down() } else { Duration::ZERO };
        let has_held = self.passing_since.is_some_and(|since| since + hold_down <= now);
        let next = match self.state {
            CheckState::Waiting if passed => CheckState::Up,
            CheckState::Waiting => CheckState::Down,
            CheckState::Up if self.against >= fall => CheckState::Down,
            CheckState::Down if self.against >= rise && has_held => CheckState::Up,
            same => return self.is_to_be_told_again(same, now),
        };
        if self.state == CheckState::Up && next == CheckState::Down {
            self.damping.fell(now);
        }
        if next == CheckState::Up {
            self.damping.rose(now);
        }
        (self.state, self.against, self.since_unix_ms) = (next, 0, unix_ms);
        self.told = (self.last_reason.clone(), Some(now));
        true
    }

    /// What fails may fail in another way by now: that is told, and not at every attempt.
    fn is_to_be_told_again(&mut self, state: CheckState, now: Instant) -> bool {
        let is_soon = self.told.1.is_some_and(|at| now.since(at) < REASON_AGAIN_AFTER);
        if state != CheckState::Down || self.told.0 == self.last_reason || is_soon {
            return false;
        }
        self.told = (self.last_reason.clone(), Some(now));
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn config(rise: u32, fall: u32, initial: Initial) -> CheckConfig {
        let name = "api".parse().unwrap();
        CheckConfig { name, rise, fall, initial, weight: None, whole_node: false }
    }

    /// A check, and attempts at it once a second.
    struct Tried {
        check: Check,
        counts: (u32, u32),
        now: Instant,
        falls: u32,
    }

    impl Tried {
        fn new(config: &CheckConfig) -> Self {
            let counts = (config.rise, config.fall);
            Tried { check: Check::new(config), counts, now: Instant::from_nanos(1), falls: 0 }
        }

        fn after(&mut self, wait: Duration, passes: bool) -> CheckState {
            self.now += wait;
            let before = self.check.state;
            let result = if passes { Ok(()) } else { Err("refused".to_owned()) };
            self.check.tried(self.counts, &result, (self.now, 7), true);
            self.falls +=
                u32::from(before == CheckState::Up && self.check.state == CheckState::Down);
            self.check.state
        }

        fn attempts(&mut self, results: &str) -> String {
            let word = |state| match state {
                CheckState::Waiting => '?',
                CheckState::Up => '+',
                CheckState::Down => '-',
            };
            results.chars().map(|c| word(self.after(SECOND, c == '+'))).collect()
        }
    }

    /// Rule 11.1.
    #[test]
    fn so_many_attempts_in_a_row_change_a_check_and_fewer_do_not() {
        let mut tried = Tried::new(&config(2, 3, Initial::Up));
        assert_eq!(tried.attempts("--+--+---"), "++++++++-");
        assert_eq!(tried.attempts("+-+-++"), "-----+");
    }

    /// Rule 11.2.
    #[test]
    fn the_first_attempt_says_what_a_check_is_that_waits() {
        for (result, is) in [("+", "+"), ("-", "-")] {
            assert_eq!(Tried::new(&config(3, 3, Initial::Wait)).attempts(result), is);
        }
        assert_eq!(Tried::new(&config(2, 2, Initial::Down)).attempts("++"), "-+");
        assert_eq!(Check::new(&config(2, 2, Initial::Wait)).state(), CheckState::Waiting);
    }

    /// Rule 11.3.
    #[test]
    fn a_check_that_toggles_every_second_falls_twice_and_stays_down() {
        let mut tried = Tried::new(&config(1, 1, Initial::Up));
        assert_eq!(tried.attempts("-+-+-+-+-+"), "-+--------", "the second fall is held down");
        tried.attempts(&"-+".repeat(1_800));
        assert_eq!(tried.falls, 2);
        let rises = tried.attempts("+++++++++++");
        assert_eq!(rises, "---------++", "10 s after the first attempt that passed");
    }

    /// Rule 11.3.
    #[test]
    fn each_further_fall_holds_a_check_down_for_twice_as_long_and_ten_minutes_up_forget_one() {
        let mut tried = Tried::new(&config(1, 1, Initial::Up));
        let mut held_down = Vec::new();
        for _ in 0..9 {
            tried.after(SECOND, false);
            let mut waited = 0;
            while tried.after(SECOND, true) != CheckState::Up {
                waited += 1;
            }
            held_down.push(waited);
        }
        assert_eq!(held_down, [0, 10, 20, 40, 80, 160, 320, 600, 600]);
        for _ in 0..7 * 600 {
            tried.after(SECOND, true);
        }
        tried.after(SECOND, false);
        tried.after(SECOND, true);
        assert_eq!(tried.check.held_down_for(tried.now), Some(20 * SECOND), "9 less 7, and one");
    }

    #[test]
    fn another_reason_is_told_a_minute_later_and_the_newest_one_is_known_at_once() {
        let mut check = Check::new(&config(1, 1, Initial::Wait));
        let mut fails = |why: &str, at| {
            let now = Instant::from_nanos(1) + at * SECOND;
            let told = check.tried((1, 1), &Err(why.to_owned()), (now, 7), true);
            (told, check.reason().to_owned(), check.last_reason().to_owned())
        };
        let (a, b) = ("refused".to_owned(), "timeout\\n".to_owned());
        assert_eq!(fails("refused", 0), (true, a.clone(), a.clone()));
        assert_eq!(fails("timeout\n", 1), (false, a, b.clone()));
        assert_eq!(fails("timeout\n", 61), (true, b.clone(), b.clone()));
        assert_eq!(fails("timeout\n", 122), (false, b.clone(), b));
    }

    proptest! {
        /// Rule 11.3: whatever the attempts say, and however often there is one.
        #[test]
        fn no_check_falls_more_than_thirteen_times_in_an_hour(
            runs in proptest::collection::vec((any::<bool>(), 1u64..900_000), 1..40)
        ) {
            let mut tried = Tried::new(&config(1, 1, Initial::Up));
            let mut falls: Vec<Instant> = Vec::new();
            for (passes, millis) in runs {
                let end = tried.now + Duration::from_millis(millis);
                while tried.now < end {
                    let before = tried.falls;
                    tried.after(Duration::from_millis(millis.min(1_000)), passes);
                    if tried.falls > before {
                        falls.push(tried.now);
                    }
                }
            }
            for from in &falls {
                let within = falls.iter().filter(|at| **at >= *from && at.since(*from) <= 3_600 * SECOND);
                prop_assert!(within.count() <= 13);
            }
        }

        /// The same for attempts that are made to make it fall as often as can be.
        #[test]
        fn nor_one_that_fails_whenever_it_is_up(up_for in proptest::collection::vec(0u64..1_300, 1..25)) {
            let mut tried = Tried::new(&config(1, 1, Initial::Up));
            let mut falls = Vec::new();
            for secs in up_for {
                for _ in 0..secs {
                    tried.after(SECOND, true);
                }
                let before = tried.falls;
                tried.after(SECOND, false);
                if tried.falls > before {
                    falls.push(tried.now);
                }
                while tried.after(SECOND, true) != CheckState::Up {}
            }
            for from in &falls {
                let within = falls.iter().filter(|at| **at >= *from && at.since(*from) <= 3_600 * SECOND);
                prop_assert!(within.count() <= 13);
            }
        }
    }
}
