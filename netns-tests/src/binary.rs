//! Which turnip runs in the lab. Cargo does not build another package's binary for a test, so that
//! one could go on testing the turnip of before the last edit: such a one is refused.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow, bail, ensure};

/// The variable that names the turnip to run, when it is not the one built beside the lab. What
/// it names is not held against the sources.
pub const VARIABLE: &str = "TURNIP_LAB_TURNIP";

/// The variable that names the turnip that was released before hosts heard each other.
pub const RELEASED_VARIABLE: &str = "TURNIP_LAB_RELEASED";

/// What turnip is made of, beside this package.
const SOURCES: [&str; 2] = ["../core/src", "../runtime/src"];

/// The turnip to run: that of [`VARIABLE`], else the one beside the running program.
///
/// # Errors
/// When it is not there, or older than its sources; says how to build it.
pub fn turnip() -> Result<PathBuf> {
    // Once: what was right when the first test began is what all of them run.
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOUND
        .get_or_init(|| find().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(|e| anyhow!(e))
}

/// The turnip that was released before hosts heard each other.
///
/// # Errors
/// When nobody has said where.
pub fn released() -> Result<PathBuf> {
    let wanted = format!(
        "{RELEASED_VARIABLE} names no turnip of before: {RELEASED_VARIABLE}=$(ci/turnip-released)"
    );
    std::env::var_os(RELEASED_VARIABLE).map(PathBuf::from).context(wanted)
}

/// Copies a program, by a process of its own: what other threads start meanwhile would inherit the
/// file open for writing, and as long as they have it the copy cannot be executed.
///
/// # Errors
/// When it cannot be read or written.
pub fn copy(program: &Path, to: &Path) -> Result<()> {
    let status = Command::new("cp").arg(program).arg(to).status().context("cp")?;
    ensure!(status.success(), "copying {} to {}: {status}", program.display(), to.display());
    Ok(())
}

fn find() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os(VARIABLE) {
        return Ok(path.into());
    }
    let program = std::env::current_exe().context("where this program is")?;
    // Tests are in `deps`, one further down.
    let found = program.ancestors().skip(1).take(2).map(|directory| directory.join("turnip"));
    let Some(binary) = found.into_iter().find(|path| path.is_file()) else {
        bail!("there is no turnip beside {}: {}", program.display(), build(&program));
    };
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    refuse_stale(&binary, &SOURCES.map(|sources| package.join(sources)))?;
    Ok(binary)
}

/// Fails when one of the Rust files below `sources` was changed after `binary` was built. Where there
/// are no sources, because the lab runs on another machine than it was built on, anything goes.
fn refuse_stale(binary: &Path, sources: &[PathBuf]) -> Result<()> {
    let built = modified(binary)?;
    let newest = sources.iter().filter_map(|directory| newest(directory)).max();
    match newest {
        Some((changed, file)) if changed > built => bail!(
            "{} is older than {}, and would test what no longer is there: {}; or name another in {VARIABLE}",
            binary.display(),
            fs::canonicalize(&file).unwrap_or(file).display(),
            build(binary),
        ),
        _ => Ok(()),
    }
}

/// What to run, given where the binary is or should be.
fn build(near: &Path) -> &'static str {
    if near.components().any(|component| component.as_os_str() == "release") {
        "cargo build --release -p turnip"
    } else {
        "cargo build -p turnip"
    }
}

fn modified(file: &Path) -> Result<SystemTime> {
    let modified = fs::metadata(file).and_then(|meta| meta.modified());
    modified.with_context(|| file.display().to_string())
}

/// The Rust file below a directory that was changed last.
fn newest(directory: &Path) -> Option<(SystemTime, PathBuf)> {
    let entries = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
    let found = entries.filter_map(|path| {
        if path.is_dir() {
            return newest(&path);
        }
        let is_source = path.extension().is_some_and(|extension| extension == "rs");
        if is_source { Some((modified(&path).ok()?, path)) } else { None }
    });
    found.max()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A binary, and sources in two directories that were changed so many seconds after it.
    fn judge(name: &str, seconds_later: i64) -> Result<()> {
        let place =
            std::env::temp_dir().join(format!("turnip-binary-{}-{name}", std::process::id()));
        let deep = place.join("runtime").join("etcd");
        let (binary, other) = (place.join("turnip"), place.join("core"));
        fs::create_dir_all(&deep)?;
        fs::create_dir_all(&other)?;
        let built = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs((1_000 + seconds_later) as u64);
        for (file, time) in [
            (binary.clone(), built),
            (other.join("lib.rs"), built - Duration::from_secs(500)),
            (deep.join("mod.rs"), changed),
            (deep.join("notes.md"), built + Duration::from_secs(500)),
        ] {
            fs::File::create(file)?.set_modified(time)?;
        }
        let judged = refuse_stale(&binary, &[other, place.join("runtime"), place.join("none")]);
        fs::remove_dir_all(&place)?;
        judged
    }

    #[test]
    fn a_binary_older_than_a_source_file_is_refused_with_what_to_run() {
        let said = judge("older", 1).expect_err("it is stale").to_string();
        assert!(said.contains("mod.rs"), "{said}");
        assert!(said.contains("cargo build -p turnip"), "{said}");
    }

    #[test]
    fn a_binary_newer_than_all_sources_is_taken() -> Result<()> {
        judge("newer", -1)
    }
}
