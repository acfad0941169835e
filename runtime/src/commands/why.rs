//! `turnip why`: who would take a VIP in which order, and why the others would not. By the function by
//! which the daemons decide, told what they have published.

use std::process::ExitCode;

use clap::Args;
use turnip::config::{Reach, Sources};
use turnip_core::placement::{Candidate, Unfit};
use turnip_core::records::SharedPolicy;
use turnip_core::{NodeName, VipName};

use super::intents::{finish, known, overview};
use super::overview::{Overview, Vip, WhatIf};
use super::status::{checks_down, policy, shown, since};
use super::table::how_long;

/// What its help ends with.
pub const AFTER_HELP: &str = "\
It writes nothing. With --if-... it says what would happen: all of what is named together.";

/// Which VIP, and what if.
#[derive(Args)]
pub struct WhyArgs {
    /// The VIP
    #[arg(value_name = "VIP")]
    vip: VipName,
    /// As if an operator drained this node; may be given several times
    #[arg(long, value_name = "NODE")]
    if_drained: Vec<NodeName>,
    /// As if this node's host were dead; may be given several times
    #[arg(long, value_name = "NODE")]
    if_down: Vec<NodeName>,
    /// As if an operator pinned the VIP to this node
    #[arg(long, value_name = "NODE")]
    if_pinned: Option<NodeName>,
}

/// Says who would take a VIP.
pub fn why(sources: &Sources, args: &WhyArgs) -> ExitCode {
    let reach = match Reach::load(sources) {
        Ok(reach) => reach,
        Err(problems) => return super::refuse(&problems),
    };
    let vip = &args.vip;
    finish(&reach, async |cluster, state| {
        let now = overview(cluster, state);
        known("VIP", vip.as_str(), now.vips.keys().map(VipName::as_str))?;
        let named = args.if_drained.iter().chain(&args.if_down).chain(&args.if_pinned);
        for node in named {
            known("node", node.as_str(), now.nodes.keys().map(NodeName::as_str))?;
        }
        let what_if = WhatIf {
            silent: std::collections::BTreeSet::new(),
            drained: args.if_drained.iter().cloned().collect(),
            down: args.if_down.iter().cloned().collect(),
            pinned: args.if_pinned.iter().map(|node| (vip.clone(), node.clone())).collect(),
        };
        let then = state.overview(&cluster.keys, &what_if);
        Ok(text(vip, &now, &then, &what_if))
    })
}

fn text(name: &VipName, now: &Overview, then: &Overview, what_if: &WhatIf) -> String {
    let vip = &now.vips[name];
    let mut text = heading(name, vip);
    let conditions = conditions(what_if);
    // A VIP that only a node has which is down is nobody's then.
    let nobodys = Vip::default();
    let vip_then = then.vips.get(name).unwrap_or(&nobodys);
    let indent = match conditions.is_empty() {
        true => "",
        false => {
            text += &format!("if {}:\n", conditions.join(" and "));
            "  "
        }
    };
    for (place, candidate) in vip_then.order.iter().enumerate() {
        let merits = merits(vip_then, candidate).join(", ");
        text += &format!("{indent}{}. {}: {merits}\n", place + 1, candidate.name);
    }
    for (node, unfit) in &vip_then.unfit {
        text += &format!("{indent}not {node}: {unfit}\n");
    }
    text += &format!("{indent}{}\n", verdict(now, vip, vip_then, what_if));
    for note in &vip_then.notes {
        text += &format!("{indent}{note}\n");
    }
    text + &checks_down(now)
}

fn heading(name: &VipName, vip: &Vip) -> String {
    let addresses: Vec<String> = vip.addresses.iter().map(ToString::to_string).collect();
    let mut text = match vip.policy {
        None => format!("{name}: no live node is configured with it\n"),
        Some(SharedPolicy::Spread) => format!(
            "{name}: {}, policy spread: an order of its own for each VIP, by hashing, in proportion to the weights\n",
            addresses.join(" ")
        ),
        Some(_) => format!("{name}: {}, policy {}\n", addresses.join(" "), policy(vip)),
    };
    text += &match &vip.owner {
        Some(owner) => match since(vip) {
            Some(since) => format!("{owner} owns it, since {since}\n"),
            None => format!("{owner} owns it\n"),
        },
        None => "nobody owns it\n".to_owned(),
    };
    text
}

fn conditions(what_if: &WhatIf) -> Vec<String> {
    let drained = what_if.drained.iter().map(|node| format!("{node} is drained"));
    let down = what_if.down.iter().map(|node| format!("{node} is down"));
    let pinned = what_if.pinned.values().map(|node| format!("it is pinned to {node}"));
    drained.chain(down).chain(pinned).collect()
}

/// What a candidate has its place by.
fn merits(vip: &Vip, candidate: &Candidate) -> Vec<String> {
    let mut merits = vec![match (vip.policy, candidate.leads_term) {
        _ if vip.follows.is_some() => "the key names it".to_owned(),
        (Some(SharedPolicy::Leader), Some(term)) => {
            format!("its etcd member is the leader, in term {term}")
        }
        (Some(SharedPolicy::Leader), None) => "its etcd member is not the leader".to_owned(),
        (Some(SharedPolicy::Priority | SharedPolicy::PriorityNoPreempt), _) => {
            format!("priority {}", candidate.priority)
        }
        _ => {
            let weight = candidate.weight;
            format!("weight {}", weight.of_vip.unwrap_or(weight.of_node))
        }
    }];
    if vip.pinned.as_ref() == Some(&candidate.name) {
        merits.push("pinned to it".to_owned());
    }
    if vip.owner.as_ref() == Some(&candidate.name) {
        merits.push("the owner".to_owned());
    }
    match candidate.behind(vip.pin.as_ref()) {
        Some(Unfit::LastResort(why)) => {
            merits.push(format!("only where nobody is better, for {why}"));
        }
        Some(behind) => merits.push(format!("after all that can, for {behind}")),
        None => {}
    }
    merits
}

/// What happens next.
fn verdict(now: &Overview, before: &Vip, vip: &Vip, what_if: &WhatIf) -> String {
    let lease = |node: &NodeName| {
        let lease_ms = now.nodes.get(node).and_then(|node| node.lease_ms);
        shown(lease_ms.map(|lease_ms| format!(" ({})", how_long(lease_ms))))
    };
    let first = vip.order.first().map(|first| &first.name);
    match (&vip.owner, first) {
        (None, None) => "nobody can take it".to_owned(),
        (None, Some(first)) => match &before.owner {
            Some(dead) if what_if.down.contains(dead) => {
                format!("{first} takes it when {dead} has been silent for its lease{}", lease(dead))
            }
            _ => format!("{first} takes it at once"),
        },
        (Some(owner), None) => format!("{owner} lets go of it, and nobody can take it"),
        (Some(owner), Some(first)) if owner == first => format!("{owner} keeps it"),
        (Some(owner), Some(first)) if vip.unfit.contains_key(owner) => {
            format!("{owner} lets go of it, and {first} takes it at once")
        }
        (Some(owner), Some(first)) if is_left(vip, owner) => {
            format!("{owner} lets go of it, and {first} takes it at once")
        }
        (Some(_), Some(first)) if vip.pinned.as_ref() == Some(first) => {
            format!("it moves to {first} at once, as an operator wants it")
        }
        (Some(owner), Some(first)) => {
            format!(
                "it moves to {first} when that has been preferred for a lease of {owner}{}",
                lease(owner)
            )
        }
    }
}

/// Whether its owner holds it for want of anybody better, and there is somebody by now.
fn is_left(vip: &Vip, owner: &NodeName) -> bool {
    let is_owner = |candidate: &&Candidate| candidate.name == *owner;
    let owners = vip.order.iter().find(is_owner);
    owners.is_some_and(|candidate| candidate.unwell.is_some())
        && vip.order.first().is_some_and(|first| first.is_well(vip.pin.as_ref()))
}

#[cfg(test)]
mod tests {
    use turnip_core::Revision;

    use super::*;
    use crate::commands::overview::Node;

    fn candidate(name: &str, priority: u32) -> Candidate {
        let name = name.parse().unwrap();
        Candidate {
            name,
            weight: 100.into(),
            priority,
            unwell: None,
            leads_term: None,
            failed_at: None,
        }
    }

    /// A VIP with priorities, owned by `owner`.
    fn vip(owner: Option<&str>, order: &[(&str, u32)], unfit: &[(&str, Unfit)]) -> Vip {
        let name = |name: &str| -> NodeName { name.parse().unwrap() };
        Vip {
            addresses: vec!["10.0.0.50/24".parse().unwrap()],
            policy: Some(SharedPolicy::Priority),
            owner: owner.map(name),
            preferred: order.first().map(|(first, _)| name(first)),
            order: order.iter().map(|(name, priority)| candidate(name, *priority)).collect(),
            unfit: unfit.iter().map(|(node, why)| (name(node), why.clone())).collect(),
            ..Vip::default()
        }
    }

    fn overview(vip: Vip) -> Overview {
        let node = || Node { lease_ms: Some(3_000), ..Node::default() };
        Overview {
            certificates: Vec::new(),
            revision: Revision(7),
            vips: [("v".parse().unwrap(), vip)].into(),
            nodes: ["a", "b", "c"].map(|name| (name.parse().unwrap(), node())).into(),
            unreadable: Default::default(),
        }
    }

    fn said(now: Vip, then: Option<Vip>, what_if: &WhatIf) -> String {
        let then = overview(then.unwrap_or_else(|| {
            vip(now.owner.as_ref().map(NodeName::as_str), &[("a", 200), ("b", 100)], &[])
        }));
        text(&"v".parse().unwrap(), &overview(now), &then, what_if)
    }

    #[test]
    fn it_says_the_order_with_the_reasons_and_that_nothing_moves() {
        let now = || vip(Some("a"), &[("a", 200), ("b", 100)], &[("c", Unfit::Drained)]);
        assert_eq!(
            said(now(), Some(now()), &WhatIf::default()),
            "\
v: 10.0.0.50/24, policy priority
a owns it
1. a: priority 200, the owner
2. b: priority 100
not c: it is drained
a keeps it
"
        );
    }

    #[test]
    fn it_says_what_a_drain_and_what_a_death_would_do() {
        let now = || vip(Some("a"), &[("a", 200), ("b", 100)], &[]);
        let drained = WhatIf { drained: ["a".parse().unwrap()].into(), ..WhatIf::default() };
        let then = vip(Some("a"), &[("b", 100)], &[("a", Unfit::Drained)]);
        let text = said(now(), Some(then), &drained);
        assert!(text.contains("if a is drained:\n  1. b: priority 100\n"), "{text}");
        assert!(text.ends_with("  a lets go of it, and b takes it at once\n"), "{text}");
        let down = WhatIf { down: ["a".parse().unwrap()].into(), ..WhatIf::default() };
        let then = || vip(None, &[("b", 100)], &[("a", Unfit::NotLive)]);
        let text = said(now(), Some(then()), &down);
        assert!(
            text.ends_with("b takes it when a has been silent for its lease (3.0 s)\n"),
            "{text}"
        );
        let nobody = Vip { order: Vec::new(), ..then() };
        assert!(said(now(), Some(nobody), &down).ends_with("nobody can take it\n"));
    }

    /// Rule 11.4.
    #[test]
    fn it_says_who_fails_its_checks_and_that_it_is_left_at_once() {
        let now = || {
            let mut now = vip(Some("a"), &[("b", 100), ("a", 200)], &[]);
            now.order[1].unwell = Some("check api fails: refused".to_owned());
            now
        };
        let text = said(now(), Some(now()), &WhatIf::default());
        let merits = "2. a: priority 200, the owner, only where nobody is better, for check api fails: refused\n";
        assert!(text.contains(merits), "{text}");
        assert!(text.ends_with("a lets go of it, and b takes it at once\n"), "{text}");
    }

    #[test]
    fn it_says_when_another_is_preferred_and_when_one_failed() {
        let now = || vip(Some("b"), &[("a", 200), ("b", 100)], &[]);
        let text = said(now(), None, &WhatIf::default());
        assert!(
            text.ends_with("it moves to a when that has been preferred for a lease of b (3.0 s)\n"),
            "{text}"
        );
        let mut pinned = now();
        pinned.pinned = Some("a".parse().unwrap());
        pinned.order[1].failed_at = Some(Revision(9));
        let text = said(now(), Some(pinned), &WhatIf::default());
        assert!(text.contains("1. a: priority 200, pinned to it\n"), "{text}");
        assert!(text.contains("2. b: priority 100, the owner, after all that can"), "{text}");
        assert!(text.ends_with("it moves to a at once, as an operator wants it\n"), "{text}");
    }
}
