//! Which hosts the client does not reach when, of what happens to the network between.

use std::time::Duration;

use crate::script::{Client, Deed, Happening, Script, Target, Verb};

use super::Held;
use super::measure::Interval;

/// Of each host, when the client does not reach it although it may answer.
pub fn unreached(script: &Script, happened: &[Happening]) -> Vec<Vec<Interval>> {
    let hosts = 0..script.hosts.len();
    let of_host = |host: usize| {
        let all = happened.iter().filter(|one| keeps_away(script.client, host, &one.deed));
        let mut all: Vec<Interval> = all.flat_map(|one| intervals(script, one)).collect();
        all.sort();
        all
    };
    hosts.map(of_host).collect()
}

/// When it does what it does.
fn intervals(script: &Script, one: &Happening) -> Vec<Interval> {
    let end = one.lasts.map_or(script.lasts, |lasts| (one.at + lasts).min(script.lasts));
    let (down, up) = one.deed.details.down_up;
    if one.deed.verb != Verb::Flap || (down + up).is_zero() {
        return vec![Interval { from: one.at, to: end }];
    }
    let mut all = Vec::new();
    let mut from = one.at;
    while from < end {
        all.push(Interval { from, to: (from + down).min(end) });
        from += down + up;
    }
    all
}

fn keeps_away(client: Client, host: usize, deed: &Deed) -> bool {
    let names = |target: &Target, machine: usize| matches!(target, Target::These(all) if all.contains(&machine));
    let whom = |machine| names(&deed.whom, machine);
    match (deed.verb, client) {
        (Verb::Isolate | Verb::Flap | Verb::LinkDown, _) => whom(host),
        // What nobody is sent the client is not sent either.
        (Verb::CutOneWay, _) if deed.other.is_none() => whom(host),
        (Verb::Cut | Verb::CutOneWay, Client::Beside(machine)) => {
            let other = |one| deed.other.as_ref().is_some_and(|other| names(other, one));
            (whom(host) && other(machine)) || (other(host) && whom(machine))
        }
        _ => false,
    }
}

/// What is left of a time in which a host answers, for who does not reach it then.
pub fn without(held: &Held, unreached: &[Interval]) -> Vec<Held> {
    let mut all = Vec::new();
    let mut from = held.from;
    let mut add = |from: Duration, to: Duration| {
        if from < to {
            all.push(Held { from, to, host: held.host.clone() });
        }
    };
    for Interval { from: begins, to: ends } in unreached {
        add(from, held.to.min(*begins));
        from = from.max(*ends);
    }
    add(from, held.to);
    all
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn unreached_in(fault: &str, client: &str) -> Vec<Vec<(u64, u64)>> {
        let text = format!(
            "lasts = \"30s\"\n{client}\n[[site]]\nname = \"a\"\nhosts = [\"h1\", \"h2\"]\n\
             [[site]]\nname = \"b\"\nhosts = [\"h3\"]\n[[fault]]\nat = \"5s\"\nfor = \"10s\"\n{fault}\n"
        );
        let script = Script::parse(Path::new("x.toml"), &text).unwrap();
        let all = unreached(&script, &script.draw(1));
        let secs = |one: &Interval| (one.from.as_secs(), one.to.as_secs());
        all.iter().map(|of| of.iter().map(secs).collect()).collect()
    }

    #[test]
    fn a_client_between_the_sites_reaches_both_sides_of_a_cut_and_one_beside_a_host_only_its_own() {
        let cut = "cut = \"a\"\nfrom = \"b\"";
        assert_eq!(unreached_in(cut, ""), [vec![], vec![], vec![]]);
        assert_eq!(unreached_in(cut, "client = \"h3\""), [vec![(5, 15)], vec![(5, 15)], vec![]]);
        assert_eq!(unreached_in(cut, "client = \"a\""), [vec![], vec![], vec![(5, 15)]]);
    }

    #[test]
    fn nobody_reaches_a_host_that_is_isolated_or_sends_to_nobody() {
        assert_eq!(unreached_in("isolate = \"h2\"", ""), [vec![], vec![(5, 15)], vec![]]);
        assert_eq!(unreached_in("cut_one_way = \"h1\"", ""), [vec![(5, 15)], vec![], vec![]]);
        let flap = "flap = \"h1\"\ndown = \"1s\"\nup = \"4s\"";
        assert_eq!(unreached_in(flap, ""), [vec![(5, 6), (10, 11)], vec![], vec![]]);
    }

    #[test]
    fn a_host_that_is_not_reached_for_a_while_is_seen_in_two_parts() {
        let secs = Duration::from_secs;
        let held = Held { host: "h1".into(), from: secs(0), to: secs(30) };
        let parts = without(&held, &[Interval { from: secs(5), to: secs(15) }]);
        let parts: Vec<_> =
            parts.iter().map(|one| (one.from.as_secs(), one.to.as_secs())).collect();
        assert_eq!(parts, [(0, 5), (15, 30)]);
    }
}
