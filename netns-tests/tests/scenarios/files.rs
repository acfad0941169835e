//! Scenario files, which the simulator plays as well.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use turnip_netns_tests::player::{self, Played};
use turnip_sim::play::judge;
use turnip_sim::script::Script;

/// A scenario file with a name of its own, until it is dropped.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("{name}-{}.toml", std::process::id()));
        std::fs::write(&path, text)?;
        Ok(File(path))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Two sites with a member of etcd beside them, names of their own, two VIPs, and one verb of each kind: of the switch,
/// of its relays, of a daemon, of etcd, of an operator, of a check, of a file.
const SITES: &str = r#"
lasts = "22s"
lease = "2s"

[[site]]
name = "left"
hosts = ["ada", "bob"]

[[site]]
name = "right"
hosts = ["cleo"]

[[link]]
between = ["left", "right"]
rtt = "10ms"

[etcd]
on = ["ada", "cleo"]
beside = ["witness"]

[[check]]
name = "api"
tcp = "127.0.0.1:6443"
interval = "200ms"
rise = 2
fall = 2

[[vip]]
name = "web"
address = "10.77.0.100/32"
interface = "bond0"
policy = "priority"
preempt = true
checks = ["api"]

[[vip]]
name = "db"
address = "10.0.7.9/32"
interface = "bond0"
policy = "priority"
preempt = true

[[host]]
name = "ada"
priority = 200

[[host]]
name = "cleo"
priority = 150

[[fault]]
at = "2s"
fail_check = "api"
on = "ada"

[[fault]]
at = "4s"
slow = "bob"
by = "5ms"
for = "3s"

[[fault]]
at = "5s"
reload = "cleo"
priority = 50

[[fault]]
at = "8s"
drain = "ada"

[[fault]]
at = "11s"
stop_etcd = "witness"
for = "2s"

[[fault]]
at = "14s"
isolate = "holder of db"

[expect]
overlap = "0"
[expect.web]
gap = ">= 1s"
moves = ">= 2"
owner = ["ada", "bob", "cleo"]
[expect.db]
gap = "1s..10s"
moves = "2..3"
owner = ["ada", "cleo"]
"#;

#[test]
fn a_file_is_played_and_its_table_holds() -> Result<()> {
    let file = File::new("two-sites", SITES)?;
    let script = Script::load(&file.0).ok().context("it is a scenario")?;
    let mut said = Vec::new();
    let Played { run, .. } =
        player::play(&script, &file.0, 1, &mut |what| said.push(what.to_owned()))?;
    let broken = judge(&script, &run);
    ensure!(broken.is_empty(), "{broken:?}\n{run:?}\n{said:?}");
    ensure!(run.happened.len() == 6, "{:?}", run.happened);
    let web = run.vip("web").context("a VIP")?;
    let first = web.spans.first().context("somebody had it")?;
    ensure!(first.host == "ada", "the one with the highest priority: {web:?}");
    // A check that fails hands over, and needs two attempts for that.
    let left = first.to;
    ensure!(left > Duration::from_secs(2) && left < Duration::from_secs(4), "{web:?}");
    Ok(())
}

fn lab(arguments: &[&str]) -> Result<Output> {
    let program = Path::new(env!("CARGO_BIN_EXE_turnip-lab"));
    Command::new(program).args(arguments).output().context("turnip-lab")
}

#[test]
fn a_verb_that_only_the_simulator_has_is_refused_by_its_name() -> Result<()> {
    let file = File::new("paused", "[[fault]]\nat = \"1s\"\npause = \"h1\"\nfor = \"5s\"\n")?;
    let path = file.0.display().to_string();
    let output = lab(&["play", &path])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(2), "{output:?}");
    let expected = ":3:9: fault.pause: only the simulator can do this; here it is the lab";
    ensure!(said.contains(&format!("{path}{expected}")), "{said}");
    Ok(())
}

#[test]
fn a_scenario_that_is_not_as_expected_says_so_by_its_exit_status() -> Result<()> {
    let text = "lasts = \"3s\"\n[expect]\nmoves = 1\n";
    let file = File::new("nothing-moves", text)?;
    let picture = file.0.with_extension("svg");
    let shown = picture.display().to_string();
    let output = lab(&["play", &file.0.display().to_string(), "--json", "--timeline", &shown])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(1), "{output:?}");
    ensure!(said.contains("moves = 1"), "{said}");
    let table: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(table["vips"]["v1"]["measured"]["moves"]["most"] == 0, "{table}");
    let drawn = std::fs::read_to_string(&picture)?;
    std::fs::remove_file(&picture)?;
    ensure!(drawn.starts_with("<svg") && drawn.contains("h1"), "{drawn}");
    Ok(())
}

#[test]
fn an_address_of_the_labs_own_is_refused() -> Result<()> {
    let vip = "[[vip]]\nname = \"web\"\naddress = \"10.77.0.11/24\"\ninterface = \"eth0\"\n";
    let file = File::new("taken", &format!("lasts = \"3s\"\n{vip}"))?;
    let output = lab(&["play", &file.0.display().to_string()])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.code() == Some(2), "{output:?}");
    ensure!(said.contains("10.77.0.11/24 of vip \"web\": 10.77.0.0/27 is the lab's own"), "{said}");
    Ok(())
}
