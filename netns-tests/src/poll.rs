//! Waiting until something is so, by looking again and again: one way for all tests.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often to look, and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Poll {
    every: Duration,
    patience: Duration,
}

/// What tests wait for comes within this time, however busy the machine is. It is there so that a
/// test fails instead of hanging.
pub const PATIENCE: Duration = Duration::from_secs(30);

impl Poll {
    /// Looks at these intervals, for [`PATIENCE`].
    pub const fn every(every: Duration) -> Self {
        Poll { every, patience: PATIENCE }
    }

    /// As this, for so long.
    #[must_use]
    pub const fn within(self, patience: Duration) -> Self {
        Poll { every: self.every, patience }
    }

    /// For how long it looks.
    pub fn patience(self) -> Duration {
        self.patience
    }

    /// Looks until `look` finds something; none when it did not in time. It looks once at least.
    ///
    /// # Errors
    /// Those of `look`, at once.
    pub fn find<T, E>(
        self,
        mut look: impl FnMut() -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        let deadline = Instant::now() + self.patience;
        loop {
            let found = look()?;
            if found.is_some() || Instant::now() >= deadline {
                return Ok(found);
            }
            sleep(self.every);
        }
    }

    /// Waits until `condition` is true; says whether it was in time.
    ///
    /// # Errors
    /// Those of `condition`, at once.
    pub fn is_so<E>(self, mut condition: impl FnMut() -> Result<bool, E>) -> Result<bool, E> {
        Ok(self.find(|| Ok(condition()?.then_some(())))?.is_some())
    }

    /// Tries until `attempt` succeeds.
    ///
    /// # Errors
    /// The last one, when it did not in time.
    pub fn succeed<T, E>(self, mut attempt: impl FnMut() -> Result<T, E>) -> Result<T, E> {
        let deadline = Instant::now() + self.patience;
        loop {
            match attempt() {
                Err(_) if Instant::now() < deadline => sleep(self.every),
                outcome => return outcome,
            }
        }
    }

    /// The same in a tokio runtime, whose other tasks go on meanwhile.
    ///
    /// # Errors
    /// The last one, when it did not succeed in time.
    pub async fn succeed_async<T, E>(
        self,
        mut attempt: impl AsyncFnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        let deadline = Instant::now() + self.patience;
        loop {
            match attempt().await {
                Err(_) if Instant::now() < deadline => tokio::time::sleep(self.every).await,
                outcome => return outcome,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Poll = Poll::every(Duration::from_millis(1)).within(Duration::from_millis(20));

    #[test]
    fn what_is_never_found_ends_with_the_patience() {
        let mut looks = 0;
        let found = SHORT.find(|| -> Result<Option<()>, ()> {
            looks += 1;
            Ok(None)
        });
        assert_eq!(found, Ok(None));
        assert!(looks > 1, "it looked once only");
    }

    #[test]
    fn without_patience_it_looks_once() {
        let once = SHORT.within(Duration::ZERO);
        assert_eq!(once.find(|| Ok::<_, ()>(Some(7))), Ok(Some(7)));
        assert_eq!(once.is_so(|| Ok::<_, ()>(false)), Ok(false));
    }

    #[test]
    fn an_error_of_the_look_ends_it_and_an_attempt_is_repeated() {
        assert_eq!(SHORT.find(|| Err::<Option<()>, _>("no")), Err("no"));
        let mut left = 3;
        let attempt = || {
            left -= 1;
            if left == 0 { Ok(()) } else { Err(left) }
        };
        assert_eq!(SHORT.succeed(attempt), Ok(()));
    }
}
