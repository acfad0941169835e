//! turnip on a terminal, as an operator sits at it. `script` gives it a pseudo terminal.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};

use super::Cluster;

/// Wide enough for the tables of three hosts.
const SIZE: &str = "stty rows 30 cols 160";

/// A command of turnip's on a terminal.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    keys: ChildStdin,
    /// Everything that was written to it, with what moves the cursor and sets colours.
    written: Arc<Mutex<Vec<u8>>>,
}

impl Cluster {
    /// Runs turnip on a terminal, as an operator does, with the cluster's endpoints.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn turnip_on_a_terminal(&self, arguments: &[&str]) -> Result<Terminal> {
        let command = self.command(arguments)?;
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let quoted = words.map(|word| format!("'{}'", word.to_string_lossy()));
        let line = format!("{SIZE}; exec {}", quoted.collect::<Vec<_>>().join(" "));
        let mut script = self.network.operator().command("script");
        script.args(["--quiet", "--return", "--flush", "--command", &line, "/dev/null"]);
        script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = script.spawn().context("script cannot be run")?;
        let keys = child.stdin.take().context("its keyboard")?;
        let mut screen = child.stdout.take().context("its screen")?;
        let written = Arc::new(Mutex::new(Vec::new()));
        let writes = Arc::clone(&written);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = screen.read(&mut buffer) {
                let mut written = writes.lock().unwrap_or_else(PoisonError::into_inner);
                written.extend(&buffer[..length]);
            }
        });
        Ok(Terminal { child, keys, written })
    }
}

impl Terminal {
    /// How much was written to it so far, in bytes.
    pub fn mark(&self) -> usize {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Everything that was written to it since that [mark](Self::mark).
    pub fn written_since(&self, mark: usize) -> String {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&written[mark..]).into_owned()
    }

    /// Presses these keys.
    ///
    /// # Errors
    /// When nobody is there to read them.
    pub fn press(&mut self, keys: &str) -> Result<()> {
        self.keys.write_all(keys.as_bytes()).and_then(|()| self.keys.flush()).context("its keys")
    }

    /// Whether it has ended, and with which exit status.
    ///
    /// # Errors
    /// When that cannot be known.
    pub fn has_ended(&mut self) -> Result<Option<Option<i32>>> {
        Ok(self.child.try_wait()?.map(|status| status.code()))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The terminal goes with it, and what runs there is hung up.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
