//! `notify` and `notify_…` as hooks.

use super::lexer;
use super::tree::Statement;
use crate::import::document::{Table, Value};
use crate::import::note::Notes;
use crate::import::origin::Origin;

/// Puts the hooks of an instance or a group into its VIP.
pub(super) fn put(
    kind: &str,
    title: &str,
    priority: i64,
    notify: &[&Statement],
    table: &mut Table,
    notes: &mut Notes,
) {
    let states = ["MASTER", "BACKUP", "FAULT", "STOP"];
    let commands = |state: &str| -> Vec<Vec<String>> {
        // keepalived runs `notify` after the others.
        let special =
            notify.iter().filter(|one| one.keyword() == format!("notify_{}", state.to_lowercase()));
        let general = notify.iter().filter(|one| one.keyword() == "notify");
        let special = special.map(|one| lexer::arguments(one.word(1)));
        let general = general.map(|one| {
            let mut argv = lexer::arguments(one.word(1));
            argv.extend([
                kind.to_owned(),
                title.to_owned(),
                state.to_owned(),
                priority.to_string(),
            ]);
            argv
        });
        special
            .chain(general)
            .filter(|argv| argv.first().is_some_and(|first| !first.is_empty()))
            .collect()
    };
    let of = |keywords: &[&str]| -> Vec<Origin> {
        let all = notify.iter().filter(|one| keywords.contains(&one.keyword()));
        all.map(|one| one.origin.clone()).collect()
    };
    let [master, backup, fault, stop] = states.map(commands);
    if let Some(argv) = whole(&master) {
        table.put("after_assume", Value::Words(argv), &of(&["notify_master", "notify"]));
    }
    let from = of(&["notify_backup", "notify_fault", "notify_stop", "notify"]);
    let given: Vec<_> =
        [&backup, &fault, &stop].into_iter().filter(|all| !all.is_empty()).collect();
    let is_one = given.len() == 1 || given.windows(2).all(|pair| pair[0] == pair[1]);
    if let (Some(first), true) = (given.first(), is_one) {
        if let Some(argv) = whole(first) {
            table.put("after_release", Value::Words(argv), &from);
        }
    } else if !given.is_empty() {
        let [stop, fault, backup] = [&stop, &fault, &backup]
            .map(|all| if all.is_empty() { ":".to_owned() } else { in_shell(all) });
        let script = format!(
            "case \"$TURNIP_HOOK_REASON\" in ending) {stop} ;; check-failed|blocked|not-renewed|no-session) {fault} ;; *) {backup} ;; esac"
        );
        let argv = vec!["/bin/sh".into(), "-c".into(), script];
        table.put("after_release", Value::Words(argv), &from);
    }
    for one in notify {
        if one.keyword() == "notify_master_rx_lower_pri" {
            let argv = whole(&[lexer::arguments(one.word(1))]);
            if let Some(argv) = argv {
                table.put("on_conflict", Value::Words(argv), std::slice::from_ref(&one.origin));
            }
        }
        if one.words.len() > 2 {
            notes.lost(&one.origin, one.text(), "hooks run as the daemon's user, in its sandbox; what takes another user goes through `turnip hook`: see docs/src/hooks.md");
        }
    }
}

/// One command as it is, several by a shell.
fn whole(all: &[Vec<String>]) -> Option<Vec<String>> {
    match all {
        [] => None,
        [one] if one.first().is_some_and(|first| first.starts_with('/')) => Some(one.clone()),
        [one] if one.first().is_none_or(String::is_empty) => None,
        [one] => {
            Some(std::iter::once("/usr/bin/env".to_owned()).chain(one.iter().cloned()).collect())
        }
        several => Some(vec!["/bin/sh".into(), "-c".into(), in_shell(several)]),
    }
}

fn in_shell(all: &[Vec<String>]) -> String {
    let quoted = |word: &String| {
        let plain = !word.is_empty()
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-:=@%+,".contains(c));
        if plain { word.clone() } else { format!("'{}'", word.replace('\'', "'\\''")) }
    };
    let one = |argv: &Vec<String>| argv.iter().map(quoted).collect::<Vec<_>>().join(" ");
    all.iter().map(one).collect::<Vec<_>>().join("; ")
}
