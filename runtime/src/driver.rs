//! The one loop that connects a [`Node`] to the world.
//!
//! It is generic over the seams and knows no executor: the daemon runs it under tokio, the
//! simulator under madsim, the same code.

use std::pin::pin;

use futures::future::{Either, LocalBoxFuture};
use futures::stream::{FuturesUnordered, LocalBoxStream};
use futures::{FutureExt, Stream, StreamExt, select_biased};
use turnip_core::{
    Action, Datagram, Exit, ForeignKey, HookAction, HookEnd, HookId, Instant, KernelEvent,
    KernelOutcome, MemberStatus, Node, NodeName, OpId, Report, StoreError, TxnId, TxnResponse,
    Update,
};

use crate::seams::{Clock, Command, Hooks, Kernel, Peers, Store};

/// What somebody who watches the driver is shown.
#[derive(Debug)]
pub enum Observation<'a> {
    /// A transition, in words.
    Report(&'a Report),
    /// The node, between two inputs, because somebody asked ([`Command::Look`]).
    Look(&'a Node, Instant),
    /// The loop has gone round once: it is alive.
    Turn,
}

/// An answer from outside.
enum Answer {
    Committed(TxnId, Result<TxnResponse, StoreError>),
    Member(Result<MemberStatus, StoreError>),
    Kernel(OpId, KernelOutcome),
    Announced,
    HookEnded(HookId, HookEnd),
}

/// Something for the node.
enum Input {
    Answer(Answer),
    Update(Option<Result<Update, StoreError>>),
    Key(Option<ForeignKey>),
    Event(KernelEvent),
    Datagram(NodeName, Datagram),
    Command(Command),
    Timeout,
}

/// Drives `node` until it exits, and says how.
///
/// `observe` sees every report and every turn of the loop. Input is taken in a fixed order of
/// preference and one piece at a time, with the clock read after it is in hand.
#[expect(clippy::too_many_arguments, reason = "one for each seam")]
pub async fn run(
    mut node: Node,
    store: &impl Store,
    kernel: &impl Kernel,
    hooks: &impl Hooks,
    peers: &impl Peers,
    clock: &impl Clock,
    commands: impl Stream<Item = Command>,
    mut observe: impl FnMut(Observation<'_>),
) -> Exit {
    let mut answers: FuturesUnordered<LocalBoxFuture<'_, Answer>> = FuturesUnordered::new();
    let mut updates: LocalBoxStream<'_, _> = futures::stream::pending().boxed_local();
    let mut followed: LocalBoxStream<'_, _> = futures::stream::pending().boxed_local();
    let mut events = pin!(kernel.events().fuse());
    let mut datagrams = pin!(peers.datagrams().fuse());
    let mut commands = pin!(commands.fuse());

    loop {
        node.handle_wall_clock(clock.unix_ms());
        while let Some(action) = node.poll_action() {
            match action {
                Action::Follow { prefix, keys, elsewhere } => {
                    updates = store.follow(prefix, elsewhere).boxed_local();
                    followed = store.follow_keys(keys).boxed_local();
                }
                Action::Commit { id, txn, timeout } => answers.push(
                    store.commit(txn, timeout).map(move |a| Answer::Committed(id, a)).boxed_local(),
                ),
                Action::AskMember { timeout } => {
                    answers.push(store.member_status(timeout).map(Answer::Member).boxed_local());
                }
                Action::Kernel { id, op } => answers
                    .push(kernel.perform(op).map(move |o| Answer::Kernel(id, o)).boxed_local()),
                Action::Announce { addresses, deadline } => answers.push(
                    kernel.announce(addresses, deadline).map(|()| Answer::Announced).boxed_local(),
                ),
                Action::EndConnections { addresses } => kernel.end_connections(addresses),
                Action::Hook(HookAction::Owe(owed)) => hooks.owe(owed),
                Action::Hook(HookAction::Paid(vip)) => hooks.paid(&vip),
                Action::Hook(HookAction::Kill(id)) => hooks.kill(id),
                Action::Hook(HookAction::Run(run)) => {
                    let id = run.id;
                    answers
                        .push(hooks.run(run).map(move |e| Answer::HookEnded(id, e)).boxed_local());
                }
                Action::Beat(to) => peers.send(to),
                Action::UseKeys(keys) => peers.use_keys(keys),
                Action::Report(report) => observe(Observation::Report(&report)),
                Action::Exit(exit) => return exit,
            }
        }

        let timeout = match node.poll_timeout() {
            Some(at) => Either::Left(clock.sleep_until(at)),
            None => Either::Right(std::future::pending()),
        };
        let mut timeout = pin!(timeout.fuse());
        let mut next_update = pin!(updates.next().fuse());
        let mut next_key = pin!(followed.next().fuse());
        let input = select_biased! {
            command = commands.select_next_some() => Input::Command(command),
            () = timeout => Input::Timeout,
            answer = answers.select_next_some() => Input::Answer(answer),
            event = events.select_next_some() => Input::Event(event),
            (from, datagram) = datagrams.select_next_some() => Input::Datagram(from, datagram),
            update = next_update => Input::Update(update),
            key = next_key => Input::Key(key),
        };
        let now = clock.now();
        match input {
            Input::Timeout => node.handle_timeout(now),
            Input::Answer(Answer::Committed(id, answer)) => node.handle_committed(id, answer, now),
            Input::Answer(Answer::Member(answer)) => node.handle_member(answer, now),
            Input::Answer(Answer::Kernel(id, outcome)) => {
                node.handle_kernel_outcome(id, outcome, now);
            }
            Input::Answer(Answer::Announced) => {}
            Input::Answer(Answer::HookEnded(id, end)) => node.handle_hook_ended(id, &end, now),
            Input::Datagram(from, datagram) => node.handle_datagram(&from, &datagram, now),
            Input::Event(event) => node.handle_kernel_event(event, now),
            Input::Command(Command::Configure(config)) => node.handle_configured(*config, now),
            Input::Command(Command::Leave) => node.handle_leave(now),
            Input::Command(Command::Stop) => node.handle_stop(now),
            Input::Command(Command::StopNow) => node.handle_stop_now(now),
            Input::Command(Command::Attempt(attempt)) => node.handle_attempt(&attempt, now),
            Input::Command(Command::Look) => observe(Observation::Look(&node, now)),
            Input::Update(Some(Ok(update))) => node.handle_update(update, now),
            Input::Key(Some(key)) => node.handle_key(key, now),
            Input::Key(None) => followed = futures::stream::pending().boxed_local(),
            Input::Update(ended) => {
                let error = match ended {
                    Some(Err(error)) => error,
                    _ => StoreError::Unavailable("the watch ended".to_owned()),
                };
                updates = futures::stream::pending().boxed_local();
                node.handle_follow_failed(&error, now);
            }
        }
        observe(Observation::Turn);
    }
}
