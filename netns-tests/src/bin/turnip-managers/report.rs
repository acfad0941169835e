//! The matrix, as Markdown.

use std::time::Duration;

use turnip_netns_tests::measure::QUIET_MAX;
use turnip_netns_tests::timeline::ms;

use crate::observers::{OwnSeen, VipSeen};
use crate::trial::{Outcome, Said, VIPS};

/// A VIP is to be back within this time, and the host's own address to be its source again within this
/// time of its return.
const LATE: Duration = Duration::from_secs(1);

/// The columns.
pub fn header() -> String {
    let names = VIPS.map(|vip| format!(" VIP /{} |", vip.rsplit('/').next().unwrap_or_default()));
    let names = names.concat();
    format!("| | own IPv4 address | own IPv6 address |{names}\n|---|---|---|---|---|---|---|")
}

/// The row of one act; of all runs the worst.
pub fn row(name: &str, outcomes: &[Outcome]) -> String {
    let own = (0..2).map(|index| {
        own_cell(&outcomes.iter().map(|outcome| outcome.own[index]).collect::<Vec<_>>())
    });
    let vips = (0..VIPS.len()).map(|index| {
        vip_cell(&outcomes.iter().map(|outcome| outcome.vips[index]).collect::<Vec<_>>())
    });
    let refusal = outcomes.iter().find_map(|outcome| outcome.refusal.as_deref());
    let name = refusal.map_or(name.to_owned(), |said| format!("{name}, which failed: {said}"));
    let cells: Vec<String> = [name].into_iter().chain(own).chain(vips).collect();
    format!("| {} |", cells.join(" | "))
}

/// What should not be, of one act.
pub fn defects(outcome: &Outcome) -> Vec<String> {
    let mut defects = Vec::new();
    if !outcome.is_right {
        defects.push("not all was as it should be within half a minute".to_owned());
    }
    for (vip, (seen, _)) in VIPS.iter().zip(&outcome.vips) {
        if seen.away > LATE {
            defects.push(format!("{vip} was away for {}", ms(seen.away)));
        }
        let own = if vip.contains(':') { outcome.own[1] } else { outcome.own[0] };
        if seen.gap > seen.away.max(own.gap) + Duration::from_millis(100) {
            defects.push(format!(
                "{vip} was away for {}, and the gap was {}",
                ms(seen.away),
                ms(seen.gap)
            ));
        }
    }
    for (family, own) in ["IPv4", "IPv6"].iter().zip(&outcome.own) {
        if own.vip_wrongly > LATE {
            defects.push(format!(
                "a VIP was the source of {family} for {} too long",
                ms(own.vip_wrongly)
            ));
        }
    }
    defects
}

fn own_cell(all: &[OwnSeen]) -> String {
    let worst = |of: fn(&OwnSeen) -> Duration| all.iter().map(of).max().unwrap_or_default();
    let (away, vip) = (worst(|own| own.away), worst(|own| own.vip_meanwhile));
    let wrongly = worst(|own| own.vip_wrongly);
    let mut cell = match away.is_zero() {
        true => "stays".to_owned(),
        false => format!("unusable for {}", whole_ms(away)),
    };
    match vip.is_zero() {
        true => cell += "; never a VIP the source",
        false => cell += &format!("; a VIP the source for {}", whole_ms(vip)),
    }
    if !wrongly.is_zero() {
        cell += &format!(", and for {} more", whole_ms(wrongly));
    }
    cell + &format!("; gap {}", gap(worst(|own| own.gap)))
}

fn vip_cell(all: &[(VipSeen, Said)]) -> String {
    let worst = |of: fn(&VipSeen) -> Duration| {
        all.iter().map(|(seen, _)| of(seen)).max().unwrap_or_default()
    };
    let said = |of: fn(&Said) -> bool| all.iter().any(|(_, said)| of(said));
    let mut what = Vec::new();
    if said(|said| said.taken) {
        what.push("**removed**");
    }
    if said(|said| said.given_up) {
        what.push("given up");
    }
    if said(|said| said.put_behind) {
        what.push("put behind the own");
    }
    let removals = all.iter().map(|(seen, _)| seen.removals).max().unwrap_or_default();
    match (removals, what.is_empty()) {
        (0, _) => what = vec!["stays"],
        (_, true) => what.push("went"),
        _ => {}
    }
    let mut cell = what.join(", ");
    if removals > 0 {
        cell += &format!("; back after {}", whole_ms(worst(|seen| seen.away)));
    }
    cell + &format!("; gap {}", gap(worst(|seen| seen.gap)))
}

/// What a client would not notice is none.
fn gap(gap: Duration) -> String {
    if gap <= QUIET_MAX { "0".to_owned() } else { whole_ms(gap) }
}

fn whole_ms(duration: Duration) -> String {
    format!("{} ms", duration.as_millis().max(1))
}
