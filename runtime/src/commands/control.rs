//! Asking the daemon on this host to do something: `turnip reload` and `turnip stop`.
//!
//! One line of JSON each way, on a unix socket in the runtime directory, beside that of the status. Who may
//! write to it is who may stop the daemon: root, and the user that it runs as.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use turnip_core::NodeName;

const SUFFIX: &str = "control";
/// How long who asks may take to say what.
const ASKED_WITHIN: Duration = Duration::from_secs(1);
/// A request is shorter.
const REQUEST_BYTES_MAX: u64 = 4096;

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Debug)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Request {
    /// Go by what the configuration file says now.
    Reload {
        /// Only say what would change.
        dry_run: bool,
        /// With a new session, if it takes one.
        new_session: bool,
    },
    /// End in an orderly way; or `leave` all to the next start.
    Stop {
        /// Hand nothing over.
        leave: bool,
    },
    /// Say which session the daemon has.
    Session,
}

/// What the daemon says.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Debug)]
pub struct Answer {
    /// Whether it did it, or does it.
    pub done: bool,
    /// What it did, or why not.
    pub said: String,
}

impl Answer {
    /// Of what has been tried.
    pub fn of(outcome: Result<String, String>) -> Self {
        let done = outcome.is_ok();
        Answer { done, said: outcome.unwrap_or_else(|why| why) }
    }
}

/// The daemon's side.
pub struct Control {
    socket: PathBuf,
    listener: Option<UnixListener>,
    /// Those who wait until this process has ended.
    waiting: RefCell<Vec<tokio::net::UnixStream>>,
}

impl Control {
    /// Listens in this directory. A host without the directory is not served, which the log says.
    pub fn new(directory: &Path, node: &NodeName) -> Self {
        let socket = directory.join(node.as_str()).with_added_extension(SUFFIX);
        // Left by one that was killed; this process holds the lock of the host.
        let _ = std::fs::remove_file(&socket);
        let listener =
            std::fs::create_dir_all(directory).and_then(|()| UnixListener::bind(&socket));
        if let Err(error) = &listener {
            let at = socket.display();
            tracing::warn!(
                "`turnip reload` and `turnip stop` do not reach this daemon: {at}: {error}"
            );
        }
        Control { socket, listener: listener.ok(), waiting: RefCell::default() }
    }

    /// Serves whoever asks, one after the other; never ends.
    pub async fn serve(&self, act: impl AsyncFn(Request) -> Answer) {
        let Some(listener) = &self.listener else { return std::future::pending().await };
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                // Too many open files: not at once again.
                tokio::time::sleep(ASKED_WITHIN).await;
                continue;
            };
            let Ok(Some((request, mut stream))) =
                tokio::time::timeout(ASKED_WITHIN, read(stream)).await
            else {
                continue;
            };
            let answer = act(request).await;
            let mut json = serde_json::to_vec(&answer).unwrap_or_default();
            json.push(b'\n');
            // Whoever does not read is not waited for.
            let _ = tokio::time::timeout(ASKED_WITHIN, stream.write_all(&json)).await;
            if matches!(request, Request::Stop { .. }) && answer.done {
                self.waiting.borrow_mut().push(stream);
            }
        }
    }
}

async fn read(stream: tokio::net::UnixStream) -> Option<(Request, tokio::net::UnixStream)> {
    let mut line = String::new();
    let mut reader = tokio::io::BufReader::new(stream).take(REQUEST_BYTES_MAX);
    reader.read_line(&mut line).await.ok()?;
    let request = serde_json::from_str(&line).ok()?;
    Some((request, reader.into_inner().into_inner()))
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// Asks the daemon on this host. For a stop it returns when that daemon has ended.
///
/// # Errors
/// When none runs, or more than one that could be meant, or when it goes away without an answer.
pub fn ask(directory: &Path, request: Request) -> Result<Answer, String> {
    let mut stream = connect(directory)?;
    let mut json = serde_json::to_vec(&request).map_err(|error| error.to_string())?;
    json.push(b'\n');
    stream.write_all(&json).map_err(|error| format!("the daemon does not listen: {error}"))?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    let read = reader.read_line(&mut line);
    let answer = read.ok().and_then(|_| serde_json::from_str::<Answer>(&line).ok());
    let answer = answer.ok_or("the daemon ended, or is another version: it gave no answer")?;
    if answer.done && matches!(request, Request::Stop { .. }) {
        let _ = reader.read_to_end(&mut Vec::new());
    }
    Ok(answer)
}

fn connect(directory: &Path) -> Result<UnixStream, String> {
    let at = directory.display();
    let entries = std::fs::read_dir(directory)
        .map_err(|error| format!("no daemon runs here that could be asked: {at}: {error}"))?;
    let sockets = entries.flatten().map(|entry| entry.path());
    let sockets = sockets.filter(|path| path.extension().is_some_and(|ending| ending == SUFFIX));
    let (mut live, mut why) = (Vec::new(), String::new());
    for socket in sockets {
        match UnixStream::connect(&socket) {
            Ok(stream) => live.push((socket, stream)),
            Err(error) => why = format!(": {}: {error}", socket.display()),
        }
    }
    let mut live = live.into_iter();
    match (live.next(), live.next()) {
        (Some((_, stream)), None) => Ok(stream),
        (None, _) => {
            Err(format!("no daemon runs here that could be asked, by what is in {at}{why}"))
        }
        (Some((one, _)), Some((other, _))) => Err(format!(
            "more than one daemon runs here, {} and {}: say which by RUNTIME_DIRECTORY",
            one.display(),
            other.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_asked_and_answers_and_one_that_is_stopped_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        assert!(ask(&path, Request::Session).unwrap_err().contains("no daemon runs here"));
        let (begun, is_up) = std::sync::mpsc::channel();
        let daemon = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let control = Control::new(&path, &"a".parse().unwrap());
                begun.send(()).unwrap();
                let stopped = std::cell::Cell::new(false);
                let act = async |request: Request| {
                    stopped.set(matches!(request, Request::Stop { .. }));
                    Answer { done: stopped.get(), said: format!("{request:?}") }
                };
                tokio::select! {
                    () = control.serve(act) => {}
                    () = async {
                        while !stopped.get() {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    } => {}
                }
            });
        });
        is_up.recv().unwrap();
        let refused = ask(directory.path(), Request::Session).unwrap();
        assert_eq!(refused, Answer { done: false, said: "Session".into() });
        let stopped = ask(directory.path(), Request::Stop { leave: true }).unwrap();
        assert_eq!(stopped.said, "Stop { leave: true }");
        daemon.join().unwrap();
        assert!(ask(directory.path(), Request::Session).is_err(), "its socket is gone");
    }
}
