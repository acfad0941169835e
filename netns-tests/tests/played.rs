//! The scenario files that are in folders, each played once on real etcd, kernel and network namespaces; a test a
//! file; but for those in `simulated/` and `rules/`. The simulator plays them too, with many seeds (`sim/tests/scenario_files.rs`).

use std::path::Path;

use anyhow::{Result, bail};
use turnip_netns_tests::player::{self, Played};
use turnip_sim::play::judge;
use turnip_sim::script::{Script, World};

/// Whose random choices are made.
const SEED: u64 = 1;

datatest_stable::harness! {
    { test = played, root = "../sim/scenarios", pattern = r"^(?!simulated/|rules/)[^/]+/[^/]+\.toml$" },
}

fn played(path: &Path) -> datatest_stable::Result<()> {
    Ok(play(path)?)
}

fn play(path: &Path) -> Result<()> {
    let script = Script::load(path).and_then(|script| {
        script.check_world(World::Lab)?;
        Ok(script)
    });
    let script = match script {
        Ok(script) => script,
        Err(problems) => bail!("{problems}"),
    };
    let Played { run, notes, logs, .. } = player::play(&script, path, SEED, &mut |_| {})?;
    let broken = judge(&script, &run);
    if !broken.is_empty() {
        let broken: Vec<String> = broken.iter().map(ToString::to_string).collect();
        bail!("{}\n{run:#?}\n{notes:#?}\n{logs}", broken.join("\n"));
    }
    Ok(())
}
