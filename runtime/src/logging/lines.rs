//! Log lines go out by a thread of their own: a journal that is stuck, or a terminal that is
//! stopped, must not keep the daemon from renewing its session.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;
use turnip::redact;

/// So many lines wait at most; what comes on top is lost, and counted. A burst of 10,000 VIPs fits.
const WAITING_MAX: usize = 32_768;
/// How long the end waits for the last lines.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

enum Message {
    Line(Vec<u8>),
    Flush(Sender<()>),
}

#[derive(Default)]
struct Counts {
    waiting: AtomicUsize,
    lost: AtomicUsize,
}

/// Where log lines are written to.
#[derive(Clone)]
pub struct Lines {
    sender: Sender<Message>,
    counts: Arc<Counts>,
}

/// Writes the last lines, if they can be written, when dropped.
#[must_use]
pub struct Flush(Lines);

impl Lines {
    /// Lines that a thread writes to `out`.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn to(out: impl Write + Send + 'static) -> io::Result<(Self, Flush)> {
        let (sender, receiver) = channel();
        let lines = Lines { sender, counts: Arc::default() };
        let counts = Arc::clone(&lines.counts);
        std::thread::Builder::new()
            .name("log".into())
            .spawn(move || write(&receiver, &counts, out))?;
        Ok((lines.clone(), Flush(lines)))
    }
}

fn write(receiver: &Receiver<Message>, counts: &Counts, mut out: impl Write) {
    while let Ok(message) = receiver.recv() {
        match message {
            Message::Line(line) => {
                // There is nowhere to report that the log cannot be written.
                let _ = out.write_all(&line);
                counts.waiting.fetch_sub(1, Ordering::Relaxed);
                let lost = counts.lost.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    let _ = writeln!(
                        out,
                        "{lost} lines of the log are lost: they could not be written fast enough"
                    );
                }
            }
            Message::Flush(done) => {
                let _ = out.flush();
                let _ = done.send(());
            }
        }
    }
}

/// The line without secrets.
fn redacted(line: &[u8]) -> Vec<u8> {
    match line.contains(&b'@') {
        true => redact::urls(&String::from_utf8_lossy(line)).into_owned().into_bytes(),
        false => line.to_vec(),
    }
}

impl Write for Lines {
    /// Takes a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.counts.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            self.counts.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        } else {
            let _ = self.sender.send(Message::Line(redacted(line)));
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Lines;

    fn make_writer(&'a self) -> Lines {
        self.clone()
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        let (done, flushed) = channel();
        if self.0.sender.send(Message::Flush(done)).is_ok() {
            let _ = flushed.recv_timeout(FLUSH_WITHIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Takes nothing until it is let go.
    #[derive(Clone, Default)]
    struct Stuck {
        gate: Arc<Mutex<()>>,
        taken: Arc<Mutex<Vec<u8>>>,
    }

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _open = self.gate.lock().unwrap();
            self.taken.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_is_stuck_delays_nobody_and_says_later_what_it_lost() {
        let stuck = Stuck::default();
        let closed = stuck.gate.lock().unwrap();
        let (mut lines, flush) = Lines::to(stuck.clone()).unwrap();
        for _ in 0..WAITING_MAX + 7 {
            lines.write_all(b"line\n").unwrap();
        }
        drop(closed);
        drop(flush);
        let taken = String::from_utf8(stuck.taken.lock().unwrap().clone()).unwrap();
        assert!(taken.contains("7 lines of the log are lost"), "{}", taken.len());
    }

    #[test]
    fn no_password_of_a_url_gets_out() {
        let out = Stuck::default();
        let (mut lines, flush) = Lines::to(out.clone()).unwrap();
        lines.write_all(b"cannot reach http://root:hunter2@etcd:2379\n").unwrap();
        drop(flush);
        let taken = out.taken.lock().unwrap();
        assert_eq!(*taken, b"cannot reach http://(hidden)@etcd:2379\n");
    }

    #[test]
    fn the_last_lines_get_out_before_the_end() {
        let out = Stuck::default();
        let (mut lines, flush) = Lines::to(out.clone()).unwrap();
        lines.write_all(b"stopped\n").unwrap();
        drop(flush);
        assert_eq!(*out.taken.lock().unwrap(), b"stopped\n");
    }
}
