//! What is asked of the daemon while it runs: signals, and what comes over its socket.

use std::cell::Cell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use futures::{Stream, StreamExt, stream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use turnip::config::Config;
use turnip::seams::Command;

use super::control::Control;
use super::manager::Manager;
use super::reload::Waiting;
use super::run::runtime_directory;

/// All of it.
pub struct Asked {
    /// What the node is to do.
    pub commands: Pin<Box<dyn Stream<Item = Command>>>,
    /// Whoever has something for the node to do, sends it here.
    pub to_node: mpsc::UnboundedSender<Command>,
    /// Each asks for a reload.
    pub hangup: Signal,
    /// `turnip reload` and `turnip stop`.
    pub control: Control,
}

impl Asked {
    /// From now on.
    ///
    /// # Errors
    /// When there are no signals to be had.
    pub fn new(config: &Config, manager: &Manager, again: &Rc<Cell<bool>>) -> Result<Self, String> {
        let (to_node, sent) = mpsc::unbounded_channel();
        let sent = stream::unfold(sent, async |mut sent: mpsc::UnboundedReceiver<Command>| {
            Some((sent.recv().await?, sent))
        });
        let by_signals = commands(manager.clone(), Rc::clone(again))?;
        Ok(Asked {
            commands: Box::pin(stream::select(Box::pin(by_signals), Box::pin(sent))),
            to_node,
            hangup: listen(SignalKind::hangup())?,
            control: Control::new(&runtime_directory(), &config.node),
        })
    }

    /// Waits for what is to come before the daemon does anything; false when it is asked to end before.
    ///
    /// # Errors
    /// When that fails.
    pub async fn wait(
        &mut self,
        waits: impl Future<Output = Result<(), String>>,
        waiting: &Waiting<'_>,
    ) -> Result<bool, String> {
        let reload = async || {
            let _ = waiting.reload(false);
        };
        tokio::select! {
            waited = waits => waited.map(|()| true),
            _ = self.commands.next() => Ok(false),
            () = self.control.serve(async |request| waiting.act(request).await) => Ok(false),
            () = on_each(&mut self.hangup, reload) => Ok(false),
            () = waiting.ends.notified() => Ok(false),
        }
    }
}

fn listen(kind: SignalKind) -> Result<Signal, String> {
    signal(kind).map_err(|error| format!("cannot wait for signals: {error}"))
}

/// Does it each time that the signal comes; never ends.
pub async fn on_each(signal: &mut Signal, act: impl AsyncFn()) {
    while signal.recv().await.is_some() {
        act().await;
    }
    std::future::pending().await
}

/// The first signal asks for an orderly stop, or to leave all to the next start; the second one does not
/// wait.
fn commands(
    manager: Manager,
    again: Rc<Cell<bool>>,
) -> Result<impl Stream<Item = Command>, String> {
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    // The unit has the service manager send it for a restart.
    let mut leave = listen(SignalKind::user_defined2())?;
    let next = async move |first: bool| {
        let leaves = tokio::select! {
            _ = terminate.recv() => false,
            _ = interrupt.recv() => false,
            _ = leave.recv() => true,
        };
        // Nor is anything begun anew.
        again.set(false);
        if !first {
            tracing::warn!("stopping at once");
            return Command::StopNow;
        }
        manager.stopping();
        if leaves {
            tracing::info!("stopping: leaving all to the next start, within the lease");
            Command::Leave
        } else {
            tracing::info!("stopping: handing over what is held");
            Command::Stop
        }
    };
    Ok(stream::unfold((next, true), async |(mut next, first)| {
        let command = next(first).await;
        Some((command, (next, false)))
    }))
}
