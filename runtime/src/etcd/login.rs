//! Logging in: one login at a time, shared by all requests, outliving each of them.
//!
//! A login is dear: etcd computes for a quarter of a second and more, as `--bcrypt-cost` says, which is more
//! than a renewal may take. So whoever needs one waits as long as he can for that which is under way, and who
//! comes later finds what came of it. Every member knows the tokens that one of them has given: so an endpoint
//! without one begins with another's, and logs in for itself when that is refused, or does not come. A token
//! outlives its connection; see `token.rs` for how it is kept alive.
//!
//! The password is read again for each login. Nobody changes it in etcd and in a file at one instant: where etcd
//! refuses what the file holds, the password that was good before is tried too.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use etcd_client::{Client, Error};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use http::HeaderValue;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tonic::Status;

use super::failure;
use super::settings::Secret;
use super::token::{Token, Wants};

/// The method that gives a token, and wants none.
const AUTHENTICATE: &str = "/etcdserverpb.Auth/Authenticate";
/// After etcd has refused a password it is not asked with the same one again before this.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);
/// So long an endpoint waits for another one's login before it begins its own: that member may be dead.
const OTHERS_LOGIN: Duration = Duration::from_secs(1);
/// After so long it is looked whether there is a token, whatever was heard.
const NEWS_WITHIN: Duration = Duration::from_secs(5);
/// While a login is under way the member is asked so often whether it is still there.
const ALIVE_EVERY: Duration = Duration::from_millis(500);
/// How long it may take to say so, while it computes.
const ALIVE_WITHIN: Duration = Duration::from_secs(2);

/// What comes of the login that is under way.
pub(super) type Arriving = Shared<BoxFuture<'static, Result<(), Status>>>;

/// The user, and what lets him in at one endpoint. Clones share it.
#[derive(Clone)]
pub(super) struct Login {
    url: Arc<str>,
    desk: Arc<Desk>,
}

/// The same for all endpoints.
struct Desk {
    user: String,
    state: Mutex<State>,
    /// Another token is there.
    news: Notify,
}

struct State {
    /// What the file held last, or what was configured.
    current: Secret,
    /// What etcd accepted last.
    good: Option<Secret>,
    /// Of each endpoint.
    tokens: BTreeMap<Arc<str>, Token>,
    /// The last one that was given, by whichever endpoint.
    newest: Option<Token>,
    count: u64,
    /// How long signed tokens live at most, as a refusal has shown.
    life_max: Option<Duration>,
    /// By endpoint, and since when.
    under_way: BTreeMap<Arc<str>, (Instant, Arriving)>,
    refused: Option<Refused>,
    /// Why the file cannot be read, as it was said last.
    unreadable: Option<String>,
    /// The password in the file of which it was said that etcd refuses it.
    told: Option<Secret>,
}

struct Refused {
    at: Instant,
    passwords: Vec<Secret>,
    status: Status,
}

impl Login {
    /// Of this user at the endpoint `url`.
    pub(super) fn new(url: &str, user: &str, password: &Secret) -> Self {
        let state = State {
            current: password.clone(),
            good: None,
            tokens: BTreeMap::new(),
            newest: None,
            count: 0,
            life_max: None,
            under_way: BTreeMap::new(),
            refused: None,
            unreadable: None,
            told: None,
        };
        let desk = Desk { user: user.to_owned(), state: Mutex::new(state), news: Notify::new() };
        Login { url: url.into(), desk: Arc::new(desk) }
    }

    /// Of the same user at another endpoint.
    pub(super) fn at(&self, url: &str) -> Self {
        Login { url: url.into(), desk: Arc::clone(&self.desk) }
    }

    /// The number of the token that requests are sent with; absent when a login is needed first.
    pub(super) fn token(&self) -> Option<u64> {
        let mut state = self.state();
        if !state.tokens.contains_key(&self.url) {
            let mut borrowed = state.newest.clone()?;
            borrowed.note_used(Instant::now());
            state.tokens.insert(Arc::clone(&self.url), borrowed);
            self.desk.news.notify_waiters();
        }
        state.tokens.get(&self.url).map(|token| token.number)
    }

    /// Goes on with a later token than its own, if another endpoint has been given one.
    pub(super) fn take_newest(&self) -> bool {
        let mut state = self.state();
        let own = state.tokens.get(&self.url).map(|token| token.number);
        match state.newest.clone() {
            Some(newest) if own < Some(newest.number) => {
                state.tokens.insert(Arc::clone(&self.url), newest);
                true
            }
            _ => false,
        }
    }

    /// A login: that which is under way, here or at another endpoint, or another one. It goes on when
    /// nobody waits for it. And whether it is this endpoint's own.
    pub(super) fn begin(&self, client: &Client, alone: &Client) -> (Arriving, bool) {
        let mut state = self.state();
        state.under_way.retain(|_, (_, login)| login.peek().is_none());
        if let Some((_, own)) = state.under_way.get(&self.url) {
            return (own.clone(), true);
        }
        let mut others = state.under_way.values();
        if let Some((_, young)) = others.find(|(since, _)| since.elapsed() < OTHERS_LOGIN) {
            return (young.clone(), false);
        }
        state.read_again();
        let mut passwords = vec![state.current.clone()];
        passwords.extend(state.good.clone().filter(|good| *good != state.current));
        if let Some(refused) = &state.refused
            && refused.passwords == passwords
            && refused.at.elapsed() < REFUSED_PAUSE
        {
            let refused = futures::future::ready(Err(refused.status.clone())).boxed().shared();
            return (refused, true);
        }
        let login = self.clone();
        let (client, alone) = (client.clone(), alone.clone());
        // The lock is held: it does not end before it is noted as under way.
        let task = tokio::spawn(async move {
            let outcome = tokio::select! {
                outcome = login.desk.ask(&client, &passwords) => outcome,
                gone = silent(&alone) => Err(gone),
            };
            login.arrived(passwords, outcome)
        });
        let arriving = task.map(|ended| match ended {
            Ok(outcome) => outcome,
            Err(error) => Err(Status::internal(error.to_string())),
        });
        let arriving = arriving.boxed().shared();
        state.under_way.insert(Arc::clone(&self.url), (Instant::now(), arriving.clone()));
        (arriving, true)
    }

    /// etcd has refused this token, because it has `ended` or for another reason.
    pub(super) fn refused(&self, number: u64, ended: bool) {
        let mut state = self.state();
        // What one member does not know is not offered to another.
        state.newest.take_if(|token| token.number == number);
        if state.tokens.get(&self.url).is_none_or(|token| token.number != number) {
            return;
        }
        let Some(token) = state.tokens.remove(&self.url) else { return };
        if ended && let Some(longest) = token.ended(Instant::now()) {
            state.life_max = Some(state.life_max.map_or(longest, |known| known.min(longest)));
        }
    }

    /// etcd has accepted this token, or is being asked to.
    pub(super) fn note_used(&self, number: u64) {
        let mut state = self.state();
        let token = state.tokens.get_mut(&self.url);
        if let Some(token) = token.filter(|token| token.number == number) {
            token.note_used(Instant::now());
        }
    }

    /// What the token wants next, and when.
    pub(super) fn wants(&self) -> Option<(Instant, Wants)> {
        self.state().tokens.get(&self.url)?.wants()
    }

    /// Waits for another token, and not for ever.
    pub(super) async fn another_token(&self) {
        let _ = timeout(NEWS_WITHIN, self.desk.news.notified()).await;
    }

    /// Whether the password in the file is another than etcd was last asked with.
    pub(super) fn has_another_password(&self) -> bool {
        let mut state = self.state();
        let before = state.current.clone();
        state.read_again();
        state.current != before
    }

    fn arrived(
        &self,
        passwords: Vec<Secret>,
        outcome: Result<(Secret, Option<String>), Status>,
    ) -> Result<(), Status> {
        let mut state = self.state();
        state.under_way.remove(&self.url);
        let now = Instant::now();
        let (password, token) = match outcome {
            Ok(accepted) => accepted,
            Err(status) => {
                let refusal = failure::is_wrong_password(&Error::GRpcStatus(status.clone()));
                state.refused =
                    refusal.then(|| Refused { at: now, passwords, status: status.clone() });
                return Err(status);
            }
        };
        state.count += 1;
        let number = state.count;
        let token = match token {
            None => Token::needless(number, now),
            Some(text) => {
                let unix = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
                let mut token = Token::given(number, &text, now, unix)
                    .ok_or_else(|| Status::internal("etcd's token cannot be sent"))?;
                if let Some(longest) = state.life_max {
                    token.limit(longest);
                }
                token
            }
        };
        if token.header.is_some() {
            self.tell(&mut state, &password);
            state.good = Some(password);
        }
        state.refused = None;
        state.newest = Some(token.clone());
        state.tokens.insert(Arc::clone(&self.url), token);
        self.desk.news.notify_waiters();
        Ok(())
    }

    /// Says once which password is the good one, where that is a question.
    fn tell(&self, state: &mut State, accepted: &Secret) {
        let (Some(good), Some(file)) = (&state.good, state.current.file()) else { return };
        let (url, file) = (&self.url, file.display());
        if *accepted == state.current {
            if accepted != good {
                tracing::info!("{url} accepts the new password in {file}");
            }
        } else if state.told.as_ref() != Some(&state.current) {
            tracing::warn!(
                "{url} refuses the password in {file}, and accepts the one before it: change that of the user {} in etcd as well",
                self.desk.user
            );
            state.told = Some(state.current.clone());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.desk.state()
    }
}

impl State {
    /// A file that cannot be read leaves what was read before.
    fn read_again(&mut self) {
        match self.current.read_again() {
            Ok(read) => {
                self.current = read;
                self.unreadable = None;
            }
            Err(why) if self.unreadable.as_ref() == Some(&why) => {}
            Err(why) => {
                tracing::warn!("{why}; going on with the password that was read before");
                self.unreadable = Some(why);
            }
        }
    }
}

impl Desk {
    /// Asks with the passwords in turn: the one that was good, and etcd's answer.
    async fn ask(
        &self,
        client: &Client,
        passwords: &[Secret],
    ) -> Result<(Secret, Option<String>), Status> {
        let mut last = Status::internal("no password");
        for password in passwords {
            let (user, text) = (self.user.clone(), password.reveal().to_owned());
            match client.auth_client().authenticate(user, text).await {
                Ok(answer) => return Ok((password.clone(), Some(answer.token().to_owned()))),
                Err(error) if failure::needs_no_login(&error) => {
                    return Ok((password.clone(), None));
                }
                Err(error) => {
                    let wrong = failure::is_wrong_password(&error);
                    last = status(error);
                    if !wrong {
                        break;
                    }
                }
            }
        }
        Err(last)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns when the member says nothing any more. A login alone says nothing for long.
async fn silent(client: &Client) -> Status {
    loop {
        sleep(ALIVE_EVERY).await;
        let mut maintenance = client.maintenance_client();
        match timeout(ALIVE_WITHIN, maintenance.status()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) if failure::came_from_etcd(&error) => {}
            Ok(Err(error)) => return status(error),
            Err(_) => return Status::unavailable("the member fell silent during a login"),
        }
    }
}

fn status(error: Error) -> Status {
    match error {
        Error::GRpcStatus(status) => status,
        other => Status::internal(other.to_string()),
    }
}

/// A channel whose requests bear the token that is good at the moment.
#[derive(Clone)]
pub(super) struct WithToken {
    pub channel: tonic::transport::Channel,
    pub login: Login,
}

impl WithToken {
    fn header(&self) -> Option<HeaderValue> {
        self.login.state().tokens.get(&self.login.url)?.header.clone()
    }
}

impl tower::Service<http::Request<tonic::body::Body>> for WithToken {
    type Response = http::Response<tonic::body::Body>;
    type Error = tower::BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, tower::BoxError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), tower::BoxError>> {
        tower::Service::poll_ready(&mut self.channel, cx).map_err(Into::into)
    }

    fn call(&mut self, mut request: http::Request<tonic::body::Body>) -> Self::Future {
        if request.uri().path() != AUTHENTICATE
            && let Some(token) = self.header()
        {
            request.headers_mut().insert("token", token);
        }
        let answer = tower::Service::call(&mut self.channel, request);
        async move { Ok(answer.await?) }.boxed()
    }
}
