//! A path through the world, in words.

use turnip_core::adapter::Call;
use turnip_core::records::{VipRecord, decode};
use turnip_core::{Assignment, Heartbeat, KeyKind, Op};

use super::daemon::host_name;
use super::moves::{Fate, Move};
use super::state::{Flying, Life, State};
use super::world::World;

/// One line for each move: when, what, what the nodes said to it, and who answers then.
pub(super) fn explain(world: &mut World, path: &[Move]) -> Vec<String> {
    let mut state = world.initial();
    path.iter().map(|&next| explain_one(world, &mut state, next)).collect()
}

fn explain_one(world: &mut World, state: &mut State, next: Move) -> String {
    let what = describe(world, state, next);
    world.daemons.said = Some(Vec::new());
    world.apply(state, next);
    let said = world.daemons.said.take().unwrap_or_default();
    let answering = answering(world, state);
    let said = if said.is_empty() { String::new() } else { format!("; says: {}", said.join("; ")) };
    format!("tick {}: {what} [{answering}]{said}", state.tick)
}

/// Who answers; where there are several addresses, for which.
fn answering(world: &World, state: &State) -> String {
    let several = world.addresses.iter().any(|file| file.len() > 1);
    let who = world.answering(state).map(|(host, address)| match several {
        true => format!("{} for {}", host_name(host), address.addr()),
        false => host_name(host).to_owned(),
    });
    match who.collect::<Vec<_>>().as_slice() {
        [] => "nobody answers".to_owned(),
        [name] if !several => format!("{name} answers"),
        names => format!("{} answer", names.join(" and ")),
    }
}

fn describe(world: &World, state: &State, next: Move) -> String {
    let name = |host: u8| host_name(host.into());
    let request = |host: u8, nth: u8| {
        let request = state.hosts[usize::from(host)].requests[usize::from(nth)];
        format!("{}'s {}", name(host), purpose(world, request.txn))
    };
    match next {
        Move::Tick { fates } => {
            let fates = fates.iter().zip(&state.hosts).enumerate();
            let fates = fates.filter(|(_, (_, host))| host.life == Life::Running);
            let fates: Vec<String> =
                fates.map(|(index, (fate, _))| explain_fate(host_name(index), *fate)).collect();
            format!("time goes on; {}", fates.join(", "))
        }
        Move::Commit { host, nth } => format!("{} is committed and answered", request(host, nth)),
        Move::Land { host, nth } => {
            format!("{} is committed, the answer is slow", request(host, nth))
        }
        Move::Answer { host, .. } => format!("a slow answer reaches {}", name(host)),
        Move::Delay { host, nth } => {
            format!("{} is not answered in time and is still on its way", request(host, nth))
        }
        Move::LandLate { nth } => {
            let txn = state.late[usize::from(nth)];
            format!("late, the {} is committed", purpose(world, txn))
        }
        Move::Watch { host } => format!("{} hears the next event", name(host)),
        Move::StallWatch { host, on: true } => format!("the watch of {} stands still", name(host)),
        Move::StallWatch { host, on: false } => format!("the watch of {} goes on", name(host)),
        Move::Perform { host } => {
            let kernel = state.hosts[usize::from(host)].kernel;
            let call = world.adapters.call(kernel).map(explain_call).unwrap_or_default();
            format!("the kernel of {} performs: {call}", name(host))
        }
        Move::Kill { host } => format!("the daemon of {} is killed", name(host)),
        Move::Reboot { host } => format!("the host {} is booted again", name(host)),
        Move::Start { host, file } => {
            let starts = format!("the daemon of {} starts again", name(host));
            if world.files == 1 { starts } else { format!("{starts}, with file {file}") }
        }
        Move::Pin { host } => format!("the operator wants v on {}", name(host)),
        Move::Drain { host, on: true } => format!("the operator drains {}", name(host)),
        Move::Drain { host, on: false } => {
            format!("the operator no longer drains {}", name(host))
        }
        Move::Stop { host } => format!("the operator stops {}", name(host)),
        Move::Hear { host, nth, again } => {
            let flying = state.flying[usize::from(nth)];
            let again = if again { ", which may arrive again" } else { "" };
            format!("{} hears {}{again}", name(host), explain_datagram(world, flying))
        }
    }
}

fn explain_fate(name: &str, fate: Fate) -> String {
    match fate {
        Fate::Prompt => format!("{name} can renew"),
        Fate::Lost => format!("{name} cannot renew"),
        Fate::Slow => format!("{name} can renew but the answer is slow"),
        Fate::Late => format!("{name}'s renewal is late"),
        Fate::Stalled => format!("the daemon of {name} stands still"),
    }
}

fn explain_datagram(world: &World, flying: Flying) -> String {
    let (from, datagram) = world.stores.messages.datagrams.get(flying.datagram);
    let acknowledges = match datagram.acknowledges {
        Some(one) => {
            format!(", which acknowledges heartbeat {} of process {:x}", one.number, one.process)
        }
        None => String::new(),
    };
    let Heartbeat { number, process, .. } = datagram.heartbeat;
    format!(
        "heartbeat {number} of {from}, process {process:x}, sent at tick {}{acknowledges}",
        flying.sent
    )
}

fn explain_call(call: &Call) -> String {
    match call {
        Call::Put { addresses, .. } => format!("put {}", explain_addresses(addresses)),
        Call::Delete { addresses } => format!("delete {}", explain_addresses(addresses)),
        Call::Change(transaction) => format!("change the fence: {:?}", transaction.changes),
        Call::List | Call::ReadFence | Call::RemoveFence => format!("{call:?}"),
    }
}

fn explain_addresses(addresses: &[Assignment]) -> String {
    let one = |a: &Assignment| format!("{} of {}", a.address.addr(), a.vip);
    addresses.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What a transaction is for, by the keys that it writes.
pub(super) fn purpose(world: &World, txn: u32) -> String {
    let keys = &world.stores.keys;
    let short = |key: &str| key.trim_start_matches(keys.prefix()).to_owned();
    let ops = world.stores.messages.txns.get(txn).success.iter().filter_map(|op| match op {
        Op::Put { key, value } => Some(match (keys.kind(key), decode::<VipRecord>(value)) {
            (KeyKind::Vip(_), Ok(record)) => format!("{} = {}", short(key), record.node),
            _ => format!("put {}", short(key)),
        }),
        Op::Delete { key } => Some(format!("delete {}", short(key))),
        Op::Get { .. } => None,
    });
    format!("({})", ops.collect::<Vec<_>>().join(", "))
}
