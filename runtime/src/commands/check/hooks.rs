//! Whether the programs of hooks are there.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use turnip::config::Config;

use super::Findings;

/// Looks for the program of each hook.
pub fn check(config: &Config, findings: &mut Findings) {
    let mut programs: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for ((vip, hook), command) in config.hook_commands() {
        let program = command.into_iter().next().unwrap_or_default();
        programs.entry(program).or_default().push(format!("{hook} of {vip}"));
    }
    for (program, hooks) in programs {
        let more = hooks.len() - 1;
        let others = if more > 0 { format!(" and {more} more") } else { String::new() };
        let hooks = format!("{}{others}", hooks.first().map_or("", String::as_str));
        match wrong_with(Path::new(&program)) {
            None => findings.ok("hooks", format!("{program}, for {hooks}, can be run")),
            Some(why) => findings.error(
                "hooks",
                format!("{program}, for {hooks}, {why}: each run of it fails, and where before_assume fails this host does not take the VIP"),
            ),
        }
    }
}

fn wrong_with(program: &Path) -> Option<String> {
    match fs::metadata(program) {
        Err(error) => Some(format!("cannot be found: {error}")),
        Ok(found) if !found.is_file() => Some("is no file".into()),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => {
            Some(format!("may not be run (`chmod 755 {}`)", program.display()))
        }
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_or_may_not_be_run_is_named() {
        assert_eq!(wrong_with(Path::new("/bin/sh")), None);
        assert!(wrong_with(Path::new("/nowhere/x")).unwrap().contains("cannot be found"));
        assert_eq!(wrong_with(Path::new("/tmp")).as_deref(), Some("is no file"));
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(wrong_with(file.path()).unwrap().contains("may not be run"));
    }
}
