//! What the host itself tells: interfaces, files, processes.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use crate::kernel::check;

/// Whether all interfaces are there, up, and have a carrier.
pub(super) fn interfaces(names: &[Arc<str>]) -> Result<(), String> {
    let links =
        check::links().map_err(|error| format!("the interfaces are not listed: {error}"))?;
    for name in names {
        match links.iter().find(|link| link.name == *name) {
            None => return Err(format!("interface {name} does not exist")),
            Some(link) if !link.up => return Err(format!("interface {name} is down")),
            Some(link) if !link.carrier => {
                return Err(format!("interface {name} has no carrier"));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Whether there is no such file: who puts it there takes the host out of service.
pub(super) fn no_file(path: &Path) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(format!("nobody can tell whether {} is there: {error}", path.display())),
        Ok(_) => Err(format!("{} is there", path.display())),
    }
}

/// Whether a process of that name runs, as `ps -o comm` shows it or as it was called.
pub(super) fn process(name: &str) -> Result<(), String> {
    let listed = fs::read_dir("/proc").map_err(|error| format!("/proc: {error}"))?;
    let is_process = |entry: &fs::DirEntry| {
        entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit)
    };
    let has_name = |entry: fs::DirEntry| is_called(&entry.path(), name);
    if listed.flatten().filter(is_process).any(has_name) {
        return Ok(());
    }
    match Path::new("/proc/1").exists() {
        true => Err(format!("no process {name} runs")),
        false => Err(format!(
            "no process {name} is seen: those of other users are hidden from turnip; put ProtectProc=default into a drop-in of its unit"
        )),
    }
}

/// A name of more than 15 bytes is cut short where the kernel keeps it.
fn is_called(process: &Path, name: &str) -> bool {
    const COMM_MAX: usize = 15;
    let comm = fs::read(process.join("comm")).unwrap_or_default();
    let comm = comm.strip_suffix(b"\n").unwrap_or(&comm);
    if comm == name.as_bytes() {
        return true;
    }
    if name.len() <= COMM_MAX || comm != &name.as_bytes()[..COMM_MAX] {
        return false;
    }
    let line = fs::read(process.join("cmdline")).unwrap_or_default();
    let called = line.split(|byte| *byte == 0).next().unwrap_or_default();
    called.rsplit(|byte| *byte == b'/').next() == Some(name.as_bytes())
}
