//! Plays a scenario file, which the simulator plays as well, on real etcd, kernel and network namespaces: `world`
//! builds its cluster, `deeds` does what its verbs say, `seen` makes a run of what the observers saw, `ending` looks at
//! what is left. Gaps, overlaps and what is expected of them are judged where the simulator's are, in
//! [`turnip_sim::play`].

mod deeds;
mod ending;
mod file;
mod network;
mod seen;
mod under_way;
mod world;

use std::collections::BTreeMap;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use turnip_sim::play::{Happened, Run};
use turnip_sim::script::{Deed, Happening, Script, Verb, human};

use under_way::UnderWay;
use world::World;

/// Observers go on for so long after the end, so that what is on its way then arrives.
const AFTERWARDS: Duration = Duration::from_millis(200);

/// A deed that is done later than this is told.
const LATE: Duration = Duration::from_millis(200);

/// Observers that did not ask for longer than this may have missed something.
const BLIND_TOLD: Duration = Duration::from_millis(50);

/// From a host's orderly stop of turnip, as part of its reboot, to the end of its power.
const SHUTDOWN: Duration = Duration::from_secs(1);

/// What came of a scenario.
#[derive(Clone, Debug)]
pub struct Played {
    /// The run.
    pub run: Run,
    /// What whoever reads it should know: what the lab leaves out, what came late.
    pub notes: Vec<String>,
    /// The longest time for which the machine kept its observers from asking.
    pub blind: Duration,
    /// What happened when, and what all daemons said.
    pub logs: String,
}

/// Plays the file at `path`, which is `script`, with the choices of a seed. `say` is told what happens when it does.
///
/// # Errors
/// Without root, when something cannot be built or done, or when the observers could not see.
pub fn play(script: &Script, path: &Path, seed: u64, say: &mut dyn FnMut(&str)) -> Result<Played> {
    let file = world::file(path, script)?;
    let mut notes: Vec<String> =
        file.left_out().iter().map(|what| format!("the lab leaves out {what}")).collect();
    let world = World::build(script, file)?;
    let agenda = Agenda::new(script.draw(seed));
    let zero = world.cluster.note("all VIPs are held");
    say("all VIPs are held");
    let mut player = Player {
        world,
        agenda,
        zero,
        under_way: UnderWay::default(),
        begun: Vec::new(),
        happened: Vec::new(),
        notes: Vec::new(),
    };
    player.play(say)?;
    sleep((zero + script.lasts + AFTERWARDS).saturating_duration_since(Instant::now()));
    let vips = seen::vips(script, &player.world.cluster, zero)?;
    let blind = seen::blindness(script, &player.world.cluster, zero)?;
    let mut wrong: Vec<String> = Vec::new();
    let unwell = player.world.cluster.assert_daemons_are_well().err();
    wrong.extend(unwell.map(|error| ending::first_line(&error)));
    wrong.extend(player.end(&vips)?);
    let logs = player.world.cluster.logs();
    let Player { happened, notes: late, .. } = player;
    notes.extend(late);
    if blind > BLIND_TOLD {
        let told = human(rounded(blind));
        notes.push(format!(
            "the observers were kept from asking for {told}: what was briefer may be missing"
        ));
    }
    let run = Run { seed, lasts: script.lasts, vips, happened, wrong };
    Ok(Played { run, notes, blind, logs })
}

/// What is to be done when; all times from the moment at which all VIPs are held.
struct Agenda {
    steps: BTreeMap<(Duration, usize), Step>,
    count: usize,
}

/// Something to be done. Whom it befalls is known, but at its beginning.
enum Step {
    /// Something begins that is not part of anything.
    Begin(Happening),
    /// So does a part of something that has begun.
    Part(Deed),
    /// It ends.
    End(Deed),
}

impl Agenda {
    fn new(happenings: Vec<Happening>) -> Self {
        let mut agenda = Agenda { steps: BTreeMap::new(), count: 0 };
        for one in happenings {
            agenda.add(one.at, Step::Begin(one));
        }
        agenda
    }

    fn add(&mut self, at: Duration, step: Step) {
        self.count += 1;
        self.steps.insert((at, self.count), step);
    }
}

struct Player<'a> {
    world: World<'a>,
    agenda: Agenda,
    zero: Instant,
    under_way: UnderWay,
    /// What has begun.
    begun: Vec<Deed>,
    happened: Vec<Happened>,
    notes: Vec<String>,
}

impl Player<'_> {
    fn play(&mut self, say: &mut dyn FnMut(&str)) -> Result<()> {
        while let Some(((at, _), step)) = self.agenda.steps.pop_first() {
            if at >= self.world.script.lasts {
                return Ok(());
            }
            sleep((self.zero + at).saturating_duration_since(Instant::now()));
            let late = self.zero.elapsed().saturating_sub(at);
            let (Step::Part(deed) | Step::End(deed) | Step::Begin(Happening { deed, .. })) = &step;
            let told = self.world.script.tell_deed(deed);
            if late > LATE {
                self.notes.push(format!("{} late at {}: {told}", human(rounded(late)), human(at)));
            }
            let done = match step {
                Step::Begin(happening) => self.begin(happening, say),
                Step::Part(deed) => self.begin_deed(&deed, true),
                Step::End(deed) => {
                    say(&format!("{:9.3} s  ends: {told}", at.as_secs_f64()));
                    self.world.cluster.note(format!("ends: {told}"));
                    self.end_deed(&deed)
                }
            };
            done.with_context(|| {
                format!("at {}: {told}\n{}", human(at), self.world.cluster.logs())
            })?;
        }
        Ok(())
    }

    /// Finds out whom it befalls now, and begins it.
    fn begin(&mut self, happening: Happening, say: &mut dyn FnMut(&str)) -> Result<()> {
        let script = self.world.script;
        // Members that are frozen are long in answering: nobody else waits for them.
        let leader = if happening.names_leader() { self.world.leader() } else { None };
        let world = &self.world;
        let Some(known) = happening.resolved(leader, |vip| world.holder(vip)) else {
            let told = script.tell_deed(&happening.deed);
            self.notes.push(format!(
                "at {}: {told}: there is none, so nothing happens",
                human(happening.at)
            ));
            return Ok(());
        };
        let Happening { at, lasts, deed } = &known;
        say(&format!("{:9.3} s  {}", at.as_secs_f64(), script.tell(&known)));
        self.world.cluster.note(script.tell(&known));
        self.happened.push(Happened::new(script, &known));
        self.begun.push(deed.clone());
        let ends = lasts.filter(|lasts| !lasts.is_zero()).map(|lasts| *at + lasts);
        match deed.verb {
            // It is down and up in turns, and up at the end.
            Verb::Flap => {
                let (down, up) = deed.details.down_up;
                let down_deed = Deed { verb: Verb::Isolate, ..deed.clone() };
                let (mut begins, all_ends) = (*at, ends.unwrap_or(script.lasts));
                while begins < all_ends {
                    self.agenda.add(begins, Step::Part(down_deed.clone()));
                    self.agenda.add((begins + down).min(all_ends), Step::End(down_deed.clone()));
                    begins += down + up;
                }
                return Ok(());
            }
            Verb::Reboot => {
                let off = Deed { verb: Verb::PowerOff, ..deed.clone() };
                self.agenda.add(*at + SHUTDOWN, Step::Part(off.clone()));
                if let Some(on) = ends.map(|ends| ends.max(*at + SHUTDOWN)) {
                    self.agenda.add(on, Step::End(off));
                    self.agenda.add(on, Step::End(deed.clone()));
                }
            }
            _ => ends.into_iter().for_each(|ends| self.agenda.add(ends, Step::End(deed.clone()))),
        }
        self.begin_deed(deed, *lasts != Some(Duration::ZERO))
    }
}

/// In whole ms.
fn rounded(time: Duration) -> Duration {
    Duration::from_millis(time.as_millis() as u64)
}
