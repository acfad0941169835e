//! How many words a setting has: where the next one begins in a block on one line, and which are too many.

use super::tree::Statement;
use crate::import::note::Notes;

/// Keywords, with how many words may follow each.
type Settings = &'static [(&'static str, usize)];

/// The settings of the blocks that are translated.
const SETTINGS: &[(&[&str], Settings)] = &[
    (
        &["vrrp_script"],
        &[
            ("script", usize::MAX),
            ("interval", 1),
            ("timeout", 1),
            ("weight", 2),
            ("rise", 1),
            ("fall", 1),
            ("user", 2),
            ("init_fail", 0),
        ],
    ),
    (&["track_file", "vrrp_track_file"], &[("file", 1), ("weight", 2), ("init_file", 2)]),
    (
        &["track_process", "vrrp_track_process"],
        &[
            ("process", usize::MAX),
            ("weight", 2),
            ("quorum", 1),
            ("quorum_max", 1),
            ("delay", 1),
            ("fork_delay", 1),
            ("terminate_delay", 1),
            ("param_match", 1),
            ("full_command", 0),
        ],
    ),
    (
        &["vrrp_instance", "vrrp_sync_group"],
        &[
            ("state", 1),
            ("interface", 1),
            ("virtual_router_id", 1),
            ("priority", 1),
            ("advert_int", 1),
            ("nopreempt", 0),
            ("preempt", 0),
            ("preempt_delay", 1),
            ("dont_track_primary", 0),
            ("unicast_src_ip", 1),
            ("mcast_src_ip", 1),
            ("garp_master_refresh", 1),
            ("garp_master_delay", 1),
            ("use_vmac", 3),
            ("version", 1),
            ("accept", 0),
            ("no_accept", 0),
            ("sync_group_tracking_weight", 0),
            ("global_tracking", 0),
            ("notify", usize::MAX),
            ("notify_master", usize::MAX),
            ("notify_backup", usize::MAX),
            ("notify_fault", usize::MAX),
            ("notify_stop", usize::MAX),
            ("notify_master_rx_lower_pri", usize::MAX),
            ("smtp_alert", 1),
            ("group", 0),
            ("authentication", 0),
            ("unicast_peer", 0),
            ("virtual_ipaddress", 0),
            ("virtual_ipaddress_excluded", 0),
            ("virtual_routes", 0),
            ("virtual_rules", 0),
            ("track_script", 0),
            ("track_interface", 0),
            ("track_file", 0),
            ("track_process", 0),
        ],
    ),
    (&["authentication"], &[("auth_type", 1), ("auth_pass", 1)]),
];

fn settings(block: &str) -> Settings {
    SETTINGS.iter().find(|(blocks, _)| blocks.contains(&block)).map_or(&[], |(_, all)| all)
}

/// Whether a word begins the next statement although the line goes on: `vrrp_script x { script "y" interval 2 }`.
pub(super) fn begins(parent: Option<&Statement>, so_far: &[Statement], word: &str) -> bool {
    let (Some(parent), Some(last)) = (parent, so_far.last()) else { return false };
    if parent.origin.place.line != last.origin.place.line {
        return false;
    }
    let behind = last.words.len() - 1;
    if ["track_script", "track_interface", "track_file", "track_process"]
        .contains(&parent.keyword())
        && !settings(parent.keyword()).iter().any(|(keyword, _)| *keyword == last.keyword())
    {
        // Names, each with its weight.
        let is_weight = last.words.last().is_some_and(|last| last == "weight");
        return !is_weight && !["weight", "reverse", "noreverse"].contains(&word);
    }
    let all = settings(parent.keyword());
    let most = all.iter().find(|(keyword, _)| *keyword == last.keyword()).map(|(_, most)| *most);
    let is_setting = all.iter().any(|(keyword, _)| *keyword == word);
    is_setting && (behind > 0 || most == Some(0))
}

/// Says which words of a translated setting are too many, and so had no effect.
pub(super) fn superfluous(definition: &Statement, notes: &mut Notes) {
    let all = settings(definition.keyword());
    if all.is_empty() {
        return;
    }
    let mut tell = |one: &Statement, most: usize| {
        let more = one.words.iter().skip(1).skip(most).cloned().collect::<Vec<_>>().join(" ");
        if !more.is_empty() {
            let what = format!(
                "{more:?} behind it goes nowhere; write it on a line of its own, or leave it out"
            );
            notes.lost(&one.origin, one.text(), what);
        }
    };
    tell(definition, 1);
    for one in definition.inner() {
        if let Some((_, most)) = all.iter().find(|(keyword, _)| *keyword == one.keyword()) {
            tell(one, *most);
        }
    }
}
