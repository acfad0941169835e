//! Whether the kernel's thread gets on.
//!
//! What cannot take addresses away, or put them there, must not go on owning them: the session
//! would be renewed, and the VIP dark for ever with healthy hosts beside it. It is rule 8.14,
//! as for who cannot hear (rule 9.3). A process that ends for it is as good as one that
//! was killed: gate and lifetimes run out, its session expires, others take over.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often one looks within the time that silence may last.
const LOOKS: u32 = 4;
/// Silence may last so long at least, however short the lease: whoever removes hundreds of
/// interfaces keeps everybody else waiting.
const SILENCE_MIN: Duration = Duration::from_secs(1);

/// Shared by those who work and the one who looks. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Liveness(Arc<State>);

#[derive(Debug, Default)]
struct State {
    steps: AtomicU64,
    busy: AtomicBool,
    over: Mutex<Option<String>>,
}

/// Says so when what holds it is dropped, by a panic as well.
pub(super) struct EndsWith(Liveness, &'static str);

impl Drop for EndsWith {
    fn drop(&mut self) {
        self.0.end(self.1);
    }
}

impl Liveness {
    /// There is something to do: said by whoever asks, before asking, and by whoever does it.
    pub fn begin(&self) {
        self.0.busy.store(true, Ordering::Relaxed);
    }

    /// A part of it is done.
    pub fn step(&self) {
        self.0.steps.fetch_add(1, Ordering::Relaxed);
    }

    /// There is nothing to do.
    pub fn rest(&self) {
        self.0.busy.store(false, Ordering::Relaxed);
    }

    /// It will not go on, and this is why.
    pub fn end(&self, why: &str) {
        let mut over = self.0.over.lock().unwrap_or_else(PoisonError::into_inner);
        over.get_or_insert_with(|| why.to_owned());
    }

    /// Makes it end for this reason when what is returned is dropped.
    pub fn ends_with(&self, why: &'static str) -> EndsWith {
        EndsWith(self.clone(), why)
    }

    /// Waits until it does not go on: it has ended, or nothing came of what is to be done for as
    /// long as a lease. Says why.
    pub async fn failure(&self, lease: Duration) -> String {
        self.failure_within(lease.max(SILENCE_MIN)).await
    }

    /// Looks are counted, not time: a host that was suspended, or a process that was stopped,
    /// has not been idle.
    async fn failure_within(&self, patience: Duration) -> String {
        let (mut seen, mut looks) = (0, 0);
        loop {
            if let Some(why) = &*self.0.over.lock().unwrap_or_else(PoisonError::into_inner) {
                return why.clone();
            }
            let steps = self.0.steps.load(Ordering::Relaxed);
            if steps != seen || !self.0.busy.load(Ordering::Relaxed) {
                (seen, looks) = (steps, 0);
            } else if looks == LOOKS {
                return format!(
                    "the kernel has not answered for {patience:?}: something keeps rtnetlink or nftables locked, see the kernel's log"
                );
            }
            looks += 1;
            tokio::time::sleep(patience / LOOKS).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(200);

    /// What is found out about the work within four times the patience.
    fn found_out(liveness: &Liveness) -> Option<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let failure = async {
            tokio::time::timeout(PATIENCE * 4, liveness.failure_within(PATIENCE)).await.ok()
        };
        runtime.block_on(failure)
    }

    #[test]
    fn work_that_gets_stuck_is_found_out_after_its_time_and_not_before() {
        let liveness = Liveness::default();
        liveness.begin();
        let began = std::time::Instant::now();
        assert!(found_out(&liveness).is_some_and(|why| why.contains("200ms")));
        assert!(began.elapsed() >= PATIENCE);
    }

    #[test]
    fn long_work_that_gets_on_is_no_failure_and_neither_is_rest() {
        let liveness = Liveness::default();
        liveness.begin();
        let stepping = liveness.clone();
        let work = std::thread::spawn(move || {
            for _ in 0..40 {
                std::thread::sleep(PATIENCE / 8);
                stepping.step();
            }
        });
        assert_eq!(found_out(&liveness), None);
        work.join().unwrap();
        liveness.rest();
        assert_eq!(found_out(&liveness), None);
    }

    #[test]
    fn a_thread_that_panics_is_found_out_at_once() {
        let liveness = Liveness::default();
        let working = liveness.clone();
        let thread = std::thread::spawn(move || {
            let _at_the_end = working.ends_with("it is over");
            working.begin();
            panic!("as this test wants it");
        });
        assert!(thread.join().is_err());
        assert_eq!(found_out(&liveness).as_deref(), Some("it is over"));
    }
}
