//! Being let in by a member: waiting for the login, and keeping it good.

use std::rc::Rc;
use std::time::Duration;

use etcd_client::{Error, GetOptions};
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};

use super::super::failure::{self, Failure};
use super::super::login::Login;
use super::super::token::{UNUSED_MAX, Wants};
use super::{Connection, Endpoint};

/// How long until a login that failed, and that nobody waits for, is tried again.
const LOGIN_PAUSE: Duration = Duration::from_secs(1);

impl Endpoint {
    /// Waits for the login, until `by` at the latest; it goes on when it takes longer. Brings the number
    /// of the token; none where nobody is configured who could log in.
    pub(super) async fn let_in(
        &self,
        connection: &Rc<Connection>,
        by: Instant,
    ) -> Result<Option<u64>, Failure> {
        let Some(login) = &self.login else { return Ok(None) };
        if let Some(token) = login.token() {
            return Ok(Some(token));
        }
        let began = Instant::now();
        // A login takes longer than answers do, so the connection is not given up for its silence meanwhile:
        // the login itself looks whether the member is there.
        let (arriving, own) = login.begin(&connection.with_leader, &connection.alone);
        match timeout_at(by, arriving).await {
            Ok(Ok(())) => {
                if own {
                    connection.note_answer();
                }
                Ok(login.token())
            }
            Ok(Err(status)) if !own && !failure::is_from_etcd(&status) => {
                Err(Failure::NotSent(format!(
                    "{}: the login at another endpoint has failed: {}",
                    self.url,
                    status.message()
                )))
            }
            Ok(Err(status)) => {
                let error = Error::GRpcStatus(status);
                let failure = self.login_failure(connection, &error);
                self.failed.set(Some(Instant::now()));
                Err(failure)
            }
            Err(_) => Err(Failure::NotSent(format!(
                "{}: the login was not answered within {:.1?}, and goes on",
                self.url,
                began.elapsed()
            ))),
        }
    }

    /// Keeps the login good for as long as it is polled, so that no request has to wait for one. `prefix`
    /// is one that the user may read.
    pub(in super::super) async fn keep_let_in(&self, prefix: &str) {
        let Some(login) = &self.login else { return };
        loop {
            let Some((at, wants)) = login.wants() else {
                login.another_token().await;
                continue;
            };
            if at > Instant::now() {
                sleep_until(at).await;
                continue;
            }
            let connection = self.connection.borrow().clone();
            let (Some(connection), Some(token)) = (connection, login.token()) else {
                sleep(UNUSED_MAX).await;
                continue;
            };
            match wants {
                Wants::Use => self.use_token(&connection, login, token, prefix).await,
                Wants::Successor if login.take_newest() => {}
                Wants::Successor => {
                    let (successor, _) = login.begin(&connection.with_leader, &connection.alone);
                    if let Err(status) = successor.await {
                        let error = Error::GRpcStatus(status);
                        let why = Failure::of(&self.url, &error);
                        tracing::debug!("the login is not renewed yet: {why:?}");
                        sleep(LOGIN_PAUSE).await;
                    }
                }
            }
        }
    }

    /// Asks for next to nothing, by which the token counts as used.
    async fn use_token(
        &self,
        connection: &Rc<Connection>,
        login: &Login,
        token: u64,
        prefix: &str,
    ) {
        // Also when nothing comes of it: then it is tried again as late as if it had.
        login.note_used(token);
        let least = GetOptions::new().with_serializable().with_keys_only().with_limit(1);
        let mut kv = connection.alone.kv_client();
        let Ok(answer) = timeout(UNUSED_MAX, kv.get(prefix, Some(least))).await else { return };
        match answer {
            Err(error) if failure::wants_login(&error) => {
                login.refused(token, failure::is_token_unknown(&error));
                drop(login.begin(&connection.with_leader, &connection.alone));
            }
            Err(error) if !failure::came_from_etcd(&error) => {}
            _ => connection.note_answer(),
        }
    }

    /// Logs in with the password that is in the file now, if it is another one. Requests go on with the
    /// token that is there until this one is.
    pub(in super::super) fn read_password_again(&self) {
        let connection = self.connection.borrow().clone();
        if let (Some(login), Some(connection)) = (&self.login, connection)
            && login.has_another_password()
        {
            drop(login.begin(&connection.with_leader, &connection.alone));
        }
    }

    /// A request that waited for the login has not been sent.
    fn login_failure(&self, connection: &Rc<Connection>, error: &Error) -> Failure {
        match self.failure(connection, error) {
            Failure::Unknown(why) => Failure::NotSent(why),
            other => other,
        }
    }
}
