//! A hook as a process: in a group of its own, for a limited time, with what it says in the log.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use turnip_core::HookEnd;

use super::invocation::Invocation;
use super::said::{Lines, Said};
use super::stray;

/// How long what a hook said before it ended is read, where something that it started goes on and might still
/// say something.
const LAST_WORDS: Duration = Duration::from_millis(20);
/// How long a process is waited for that was killed: one that waits for a disk does not end before that.
const REAPED_WITHIN: Duration = Duration::from_secs(1);
/// How long the output of one that says too much is left in its pipe.
const BREATH: Duration = Duration::from_millis(50);

/// A process and what it started. Who drops it kills them, unless they have ended.
struct Group {
    child: Child,
    /// None when the first process has been waited for: its number may be another's then.
    id: Option<Pid>,
}

impl Group {
    fn new(child: Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Group { child, id }
    }

    async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.id = None;
        status
    }

    fn kill(&self) {
        if let Some(id) = self.id {
            // It may have ended meanwhile.
            let _ = killpg(id, Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Starts it at once; the future ends when it has ended, or was killed: after its time, or when `killed` says
/// so. Another thread starts it, when it has done what is to be done `before` that: a program may be on a disk that
/// does not answer.
pub(super) fn start(
    invocation: Invocation,
    before: impl FnOnce() + Send + 'static,
    killed: oneshot::Receiver<()>,
) -> impl Future<Output = HookEnd> {
    let Invocation { argv, environment, timeout: limit, name, marker } = invocation;
    let limit = sleep(limit);
    let (program, arguments) =
        (argv.first().cloned().unwrap_or_default(), argv.into_iter().skip(1));
    let mut command = Command::new(&program);
    command
        .args(arguments)
        .env_clear()
        .envs(environment)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    let started = tokio::task::spawn_blocking(move || {
        before();
        command.spawn().map(Group::new)
    });
    async move {
        let (mut limit, mut killed) = (std::pin::pin!(limit), killed);
        let started = tokio::select! {
            started = started => started,
            () = &mut limit => return HookEnd::Killed,
            Ok(()) = &mut killed => return HookEnd::Killed,
        };
        let mut group = match started.map_err(io::Error::other).and_then(|started| started) {
            Ok(group) => group,
            Err(error) => return HookEnd::Failed(format!("{program} cannot be started: {error}")),
        };
        let said = RefCell::new(Said::default());
        let (out, err) = (group.child.stdout.take(), group.child.stderr.take());
        let status = {
            let mut listening = std::pin::pin!(async {
                tokio::join!(listen(out, &name, &said), listen(err, &name, &said))
            });
            let mut has_said_all = false;
            let status = loop {
                tokio::select! {
                    status = group.wait() => break Some(status),
                    _ = &mut listening, if !has_said_all => has_said_all = true,
                    () = &mut limit => break None,
                    Ok(()) = &mut killed => break None,
                }
            };
            if !has_said_all && status.is_some() {
                // What was said is in the pipes already.
                let _ = timeout(LAST_WORDS, &mut listening).await;
            }
            status
        };
        match status {
            Some(status) => ended(status, &said.borrow().last()),
            None => {
                end(group, marker).await;
                HookEnd::Killed
            }
        }
    }
}

/// Kills a group, and what has left it.
async fn end(mut group: Group, marker: String) {
    group.kill();
    let reaped = timeout(REAPED_WITHIN, group.wait()).await;
    let _ = tokio::task::spawn_blocking(move || stray::kill_marked(&[marker])).await;
    if reaped.is_err() {
        tracing::error!(
            "a hook that was killed has not ended; it waits for something of the kernel"
        );
    }
}

fn ended(status: io::Result<ExitStatus>, last: &str) -> HookEnd {
    let how = match status {
        Ok(status) if status.success() => return HookEnd::Succeeded,
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("it was ended by signal {signal}"),
            (None, None) => status.to_string(),
        },
        Err(error) => format!("its end is not known: {error}"),
    };
    HookEnd::Failed(if last.is_empty() { how } else { format!("{how}: {last}") })
}

/// Logs what a hook says, until it says no more.
async fn listen(from: Option<impl AsyncRead + Unpin>, name: &str, said: &RefCell<Said>) {
    let Some(mut from) = from else { return };
    let (mut lines, mut buffer) = (Lines::default(), [0; 4096]);
    let log = |line: String| {
        if let Some(line) = said.borrow_mut().line(line) {
            tracing::info!(event = "hook-says", "{name}: {line}");
        }
    };
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => lines.push(&buffer[..count]).into_iter().for_each(&log),
        }
        let is_too_much = said.borrow().is_too_much();
        if is_too_much {
            sleep(BREATH).await;
        }
    }
    lines.rest().into_iter().for_each(&log);
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn shell(script: &str, timeout: Duration) -> Invocation {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned).into();
        let marker = format!("test-{}-{:p}", std::process::id(), script);
        let environment = vec![
            ("PATH", "/usr/bin:/bin".to_owned()),
            (super::super::invocation::MARKER, marker.clone()),
        ];
        Invocation { argv, environment, timeout, name: "before_assume of v".into(), marker }
    }

    fn run(invocation: Invocation) -> HookEnd {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (_kill, killed) = oneshot::channel();
        runtime.block_on(async { start(invocation, || (), killed).await })
    }

    /// How many processes there are with that in their command lines.
    fn processes(word: &str) -> usize {
        let commands = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path().join("cmdline")).ok());
        commands.filter(|command| command.contains(word)).count()
    }

    #[test]
    fn a_hook_ends_well_or_with_its_status_and_last_line_as_the_reason() {
        assert_eq!(run(shell("exit 0", LONG)), HookEnd::Succeeded);
        let failed = run(shell("echo out; echo why >&2; exit 3", LONG));
        let HookEnd::Failed(why) = failed else { panic!("{failed:?}") };
        assert!(why.starts_with("exit status 3: "), "{why}");
        let ended = HookEnd::Failed("it was ended by signal 9".into());
        assert_eq!(run(shell("kill -9 $$", LONG)), ended);
        let missing = Invocation { argv: vec!["/nowhere/x".into()], ..shell("", LONG) };
        let HookEnd::Failed(why) = run(missing) else { panic!("it is not there") };
        assert!(why.starts_with("/nowhere/x cannot be started: No such file"), "{why}");
    }

    #[test]
    fn what_hangs_is_killed_in_time_with_all_that_it_started_and_what_left_its_group() {
        let began = Instant::now();
        let script = "sleep 98765 & setsid sleep 98765 & wait";
        assert_eq!(run(shell(script, Duration::from_millis(300))), HookEnd::Killed);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        assert_eq!(processes("98765"), 0);
    }

    #[test]
    fn what_is_killed_from_outside_ends_before_its_time() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (kill, killed) = oneshot::channel();
        let end = runtime.block_on(async {
            let running = start(shell("sleep 87654", LONG), || (), killed);
            let kill = async {
                sleep(Duration::from_millis(100)).await;
                kill.send(()).unwrap();
            };
            tokio::join!(running, kill).0
        });
        assert_eq!((end, processes("87654")), (HookEnd::Killed, 0));
    }

    #[test]
    fn a_flood_ends_with_the_hook_and_fills_nothing() {
        let flood = shell("yes flood & yes flood; true", Duration::from_millis(500));
        assert_eq!(run(flood), HookEnd::Killed);
    }

    #[test]
    fn what_a_hook_leaves_running_is_not_waited_for() {
        let began = Instant::now();
        assert_eq!(run(shell("sleep 5 & exit 0", LONG)), HookEnd::Succeeded);
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    }
}
