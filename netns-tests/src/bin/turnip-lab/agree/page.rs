//! The table of the documentation, and a line of it on the terminal.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use turnip_netns_tests::timeline::ms;

use super::compare::{Beside, Compared, Verdict, VipAgreement};

/// Between these lines of the page the table is.
const BEGIN: &str = "<!-- begin: written by ci/agree -->";
const END: &str = "<!-- end -->";

/// A scenario in a line.
pub fn line(compared: &Compared) -> String {
    let Compared { scenario, verdict, .. } = compared;
    match verdict {
        Verdict::NotPlayed(why) => format!("{scenario:32} not played: {why}"),
        Verdict::Played(tries) => {
            let counted = compared.counted().expect("it was played");
            let how = match (counted.outside(), tries.len()) {
                (outside, 1) if outside.is_empty() => "agrees".into(),
                (outside, tries) if outside.is_empty() => format!("agrees, of {tries} times"),
                (outside, tries) => format!("OUTSIDE, {tries} times: {}", outside.join("; ")),
            };
            let gaps = counted.vips.iter().map(|vip| {
                format!("{} {} in {}", vip.vip, ms(vip.gap.measured), range(vip.gap, ms))
            });
            format!("{scenario:32} {how} (longest gap of {})", gaps.collect::<Vec<_>>().join(", "))
        }
    }
}

/// Puts the table into the page.
///
/// # Errors
/// When it cannot be read or written, or has no place for it.
pub fn write(path: &Path, all: &[Compared]) -> Result<()> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let no_place =
        || format!("{}: no place for the table between {BEGIN} and {END}", path.display());
    let (before, rest) = text.split_once(BEGIN).with_context(no_place)?;
    let (_, after) = rest.split_once(END).with_context(no_place)?;
    let text = format!("{before}{BEGIN}\n{}{END}{after}", table(all));
    fs::write(path, text).with_context(|| path.display().to_string())
}

fn table(all: &[Compared]) -> String {
    let mut text = String::from(
        "| scenario | VIP | longest gap: simulated | measured | moves | overlap | at the end on | |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for compared in all {
        let name = &compared.scenario;
        match &compared.verdict {
            Verdict::NotPlayed(why) => {
                let _ = writeln!(text, "| {name} | | | | | | | not played for real: {why} |");
            }
            Verdict::Played(tries) => {
                let counted = compared.counted().expect("it was played");
                for (number, vip) in counted.vips.iter().enumerate() {
                    let verdict = match (number, counted.agrees(), tries.len()) {
                        (1.., ..) => String::new(),
                        (_, true, 1) => "agrees".into(),
                        (_, true, tries) => format!("agrees, of {tries} times"),
                        (_, false, tries) => format!("**outside**, {tries} times"),
                    };
                    let name = if number == 0 { name.as_str() } else { "" };
                    let _ = writeln!(text, "| {name} | {} | {verdict} |", row(vip));
                }
            }
        }
    }
    text
}

fn row(vip: &VipAgreement) -> String {
    let owners: Vec<&str> = vip.owners.iter().map(String::as_str).collect();
    let owner = match vip.owners.len() {
        1 => vip.owner.clone(),
        _ => format!("{} of {}", vip.owner, owners.join(", ")),
    };
    format!(
        "{} | {} | {} | {} in {} | {} in {} | {owner}",
        vip.vip,
        range(vip.gap, ms),
        ms(vip.gap.measured),
        vip.moves.measured,
        range(vip.moves, |moves| moves.to_string()),
        ms(vip.overlap.measured),
        range::<Duration>(vip.overlap, ms),
    )
}

fn range<T: PartialEq + Copy>(beside: Beside<T>, tell: impl Fn(T) -> String) -> String {
    match beside.least == beside.most {
        true => tell(beside.least),
        false => format!("{} to {}", tell(beside.least), tell(beside.most)),
    }
}
