//! Hooks as processes of the host (rule 12 of the protocol). When which is to run is the core's to say.
//!
//! ```text
//! driver -- owe, paid --> Record (files in the runtime directory)
//!        -- run, kill --> Process: a group of its own, a time limit, what it says in the log
//! ```

mod invocation;
mod process;
mod record;
mod said;
mod stray;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;

use tokio::sync::oneshot;
use turnip_core::{Hook, HookEnd, HookId, HookRun, NodeName, Owed, VipName};

use crate::host;
use crate::seams::Hooks;

use invocation::Invocation;
use record::Record;

/// The program and the arguments of each VIP's hooks.
pub type Commands = BTreeMap<(VipName, Hook), Vec<String>>;

/// The hooks of this host.
pub struct HostHooks {
    node: NodeName,
    /// No other process has it.
    process: u64,
    commands: RefCell<Commands>,
    /// The programs of what an earlier process owed, for hooks that are not configured any more.
    recorded: BTreeMap<VipName, Vec<String>>,
    record: Record,
    running: RefCell<BTreeMap<HookId, oneshot::Sender<()>>>,
}

impl HostHooks {
    /// Reads what an earlier process owed, and kills what still runs of its hooks.
    ///
    /// # Errors
    /// When the network namespace is not known.
    pub async fn open(
        runtime_directory: &Path,
        node: NodeName,
        process: u64,
        commands: Commands,
    ) -> Result<(Self, Vec<Owed>), String> {
        let namespace = host::network_namespace()
            .map_err(|error| format!("cannot identify the network namespace: {error}"))?;
        let record = Record::open(runtime_directory, namespace);
        let markers = record.running();
        if !markers.is_empty() {
            let strays = tokio::task::spawn_blocking(move || stray::kill_marked(&markers)).await;
            let count = strays.unwrap_or_default();
            if count > 0 {
                tracing::warn!("killed {count} processes of hooks that an earlier turnip ran");
            }
            record.none_runs();
        }
        let (owed, recorded) = record.owed();
        let (commands, running) = (RefCell::new(commands), RefCell::default());
        Ok((HostHooks { node, process, commands, recorded, record, running }, owed))
    }

    /// These are configured from now on. What a VIP that leaves was to run is still known.
    pub fn reconfigure(&self, commands: Commands) {
        self.commands.borrow_mut().extend(commands);
    }

    fn command(&self, run: &HookRun) -> Option<Vec<String>> {
        let commands = self.commands.borrow();
        let configured = commands.get(&(run.vip.clone(), run.hook));
        let recorded = || self.recorded.get(&run.vip).filter(|_| run.hook == Hook::AfterRelease);
        configured.or_else(recorded).cloned()
    }
}

impl Hooks for HostHooks {
    fn owe(&self, owed: Owed) {
        let commands = self.commands.borrow();
        let configured = commands.get(&(owed.vip.clone(), Hook::AfterRelease));
        let command = configured.or_else(|| self.recorded.get(&owed.vip));
        self.record.owe(&owed, command.map(Vec::as_slice).unwrap_or_default());
    }

    fn paid(&self, vip: &VipName) {
        self.record.paid(vip);
    }

    fn run(&self, run: HookRun) -> impl Future<Output = HookEnd> {
        let (id, vip) = (run.id, run.vip.clone());
        let (kill, killed) = oneshot::channel();
        let begun = self.command(&run).map(|command| {
            let marker = format!("{:016x}-{}", self.process, id.0);
            let write_down = self.record.runs(&vip, marker.clone());
            self.running.borrow_mut().insert(id, kill);
            process::start(Invocation::new(&command, &run, &self.node, marker), write_down, killed)
        });
        async move {
            let Some(begun) = begun else {
                return HookEnd::Failed("no command is known for it".into());
            };
            let end = begun.await;
            self.running.borrow_mut().remove(&id);
            self.record.ended(&vip);
            end
        }
    }

    fn kill(&self, id: HookId) {
        if let Some(kill) = self.running.borrow_mut().remove(&id) {
            // It may have ended meanwhile.
            let _ = kill.send(());
        }
    }
}
