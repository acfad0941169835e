//! Processes that a run of a hook has left: known by a variable that they have inherited.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::invocation::MARKER;

/// For so long they are looked for, until none is left.
const WITHIN: Duration = Duration::from_secs(1);

/// Kills every process that has one of these markers; how many these were.
pub(super) fn kill_marked(markers: &[String]) -> usize {
    let marked: Vec<String> = markers.iter().map(|marker| format!("{MARKER}={marker}")).collect();
    let (began, mut killed) = (Instant::now(), 0);
    loop {
        let found = find(&marked);
        killed = killed.max(found.len());
        if found.is_empty() || began.elapsed() > WITHIN {
            return killed;
        }
        for process in found {
            // It may have ended meanwhile.
            let _ = kill(process, Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn find(marked: &[String]) -> Vec<Pid> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    numbers.filter(|number| has_one(*number, marked)).map(Pid::from_raw).collect()
}

fn has_one(number: i32, marked: &[String]) -> bool {
    let path = Path::new("/proc").join(number.to_string()).join("environ");
    // One that has ended, and is not waited for yet, has none.
    let environment = std::fs::read(path).unwrap_or_default();
    let mut variables = environment.split(|byte| *byte == 0);
    variables.any(|variable| marked.iter().any(|one| one.as_bytes() == variable))
}
