//! One etcd member, and the connection to it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use etcd_client::{Channel, Client, ConnectOptions, Error};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use tokio::time::{Instant, timeout, timeout_at};
use turnip_core::StoreError;

use super::failure::{self, Failure};
use super::settings::{EtcdSettings, Secret, SettingsError, TlsSettings};

/// When nothing has come over a connection for this long while a request waits, a keepalive ping is
/// sent. etcd closes connections that ping more often than every 5 s.
const PING_INTERVAL: Duration = Duration::from_secs(7);
/// How long the answer to a ping may take.
const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// How long connecting may take, TLS included. A request that waits for it gives up sooner.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A connection that is younger than this is not given up for its silence.
const SILENCE_MIN: Duration = Duration::from_millis(200);

/// How much the member must know of its cluster to answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answers {
    /// It has a raft leader; else it says so at once, instead of waiting for one.
    WithLeader,
    /// Whatever it knows of itself.
    Alone,
}

/// One member: where it is, how to log in, and the connection when there is one.
///
/// A connection is made when the first request wants it, and given up when it breaks or falls
/// silent, so that the next request makes a new one: a connection on which packets were lost for
/// a while sends again only after ever longer pauses. Requests and watches that are under way on
/// the old one end there by themselves.
pub(super) struct Endpoint {
    url: String,
    tls: Option<TlsSettings>,
    user: Option<(String, Secret)>,
    connection: RefCell<Option<Rc<Connection>>>,
    /// A connection that is being made. It goes on when a request stops waiting for it.
    connecting: RefCell<Option<Connecting>>,
    /// The last connection that was tried for did not come about.
    unreachable: Cell<bool>,
    /// When it last failed, unless it has answered since.
    failed: Cell<Option<Instant>>,
}

/// Brings the connection, or why there is none.
type Connecting = Shared<BoxFuture<'static, Result<tonic::transport::Channel, String>>>;

struct Connection {
    channel: tonic::transport::Channel,
    with_leader: Client,
    alone: Client,
    /// Whether the first of these has a token, or needs none.
    authenticated: Cell<bool>,
    /// When it was made, or when etcd last answered over it.
    last_answer_at: Cell<Instant>,
    /// Whether etcd ever answered over it.
    answered: Cell<bool>,
}

impl Connection {
    fn note_answer(&self) {
        self.last_answer_at.set(Instant::now());
        self.answered.set(true);
    }
}

impl Endpoint {
    /// Checks the settings, certificates included, but connects to nothing.
    pub(super) fn new(url: &str, settings: &EtcdSettings) -> Result<Self, SettingsError> {
        let wrong = |why: &str| {
            // Without the URL: there may be a password in it.
            Err(SettingsError(why.to_owned()))
        };
        if url.contains('@') {
            return wrong("an etcd endpoint with a user in it: say user and password on their own");
        }
        let tls = match url.split_once("://") {
            Some(("http", _)) => None,
            Some(("https", _)) => Some(settings.tls.clone()),
            _ => return wrong(&format!("{url:?} is no etcd endpoint: http://host:port is")),
        };
        let user = settings.user.clone();
        let endpoint = Endpoint {
            url: url.to_owned(),
            tls,
            user,
            connection: RefCell::default(),
            connecting: RefCell::default(),
            unreachable: Cell::default(),
            failed: Cell::default(),
        };
        endpoint.transport()?;
        Ok(endpoint)
    }

    /// Where the member is.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Asks the member, and waits until `deadline` at the latest, connecting included.
    pub(super) async fn ask<T>(
        &self,
        answers: Answers,
        deadline: Instant,
        request: impl AsyncFn(&Client) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let began = Instant::now();
        let connection = self.connect(deadline).await?;
        let answer = match timeout_at(deadline, self.ask_over(&connection, answers, request)).await
        {
            Ok(answer) => answer,
            Err(_) => {
                let waited = began.elapsed();
                if connection.last_answer_at.get().elapsed() >= waited.max(SILENCE_MIN) * 2 {
                    self.give_up(&connection);
                }
                Err(Failure::Unknown(format!("{} did not answer within {waited:?}", self.url)))
            }
        };
        self.failed.set(answer.is_err().then(Instant::now));
        answer
    }

    /// Waits until there is a connection, until `by` at the latest.
    pub(super) async fn ready(&self, by: Instant) -> Result<(), Failure> {
        self.connect(by).await.map(drop)
    }

    /// The connection itself, for what is no request of etcd's.
    pub(super) async fn channel(
        &self,
        by: Instant,
    ) -> Result<tonic::transport::Channel, StoreError> {
        Ok(self.connect(by).await?.channel.clone())
    }

    /// Whether a connection is wanted, and there is none.
    pub(super) fn is_unreachable(&self) -> bool {
        self.connection.borrow().is_none()
            && (self.unreachable.get() || self.connecting.borrow().is_some())
    }

    /// When it last failed, unless it has answered since.
    pub(super) fn failed(&self) -> Option<Instant> {
        self.failed.get()
    }

    /// Makes the next request use a new connection.
    pub(super) fn discard_connection(&self) {
        *self.connection.borrow_mut() = None;
        *self.connecting.borrow_mut() = None;
    }

    async fn ask_over<T>(
        &self,
        connection: &Rc<Connection>,
        answers: Answers,
        request: impl AsyncFn(&Client) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let client = match answers {
            Answers::WithLeader => &connection.with_leader,
            Answers::Alone => &connection.alone,
        };
        // A login takes a quorum, so a member that is asked for itself is asked without.
        if answers == Answers::WithLeader && !connection.authenticated.get() {
            self.log_in(client).await.map_err(|error| self.login_failure(connection, &error))?;
            connection.authenticated.set(true);
        }
        let mut answer = request(client).await;
        if let Err(error) = &answer
            && self.user.is_some()
            && failure::wants_login(error)
        {
            // etcd refused it before doing anything, so it can safely be sent again.
            self.log_in(client).await.map_err(|error| self.login_failure(connection, &error))?;
            answer = request(client).await;
        }
        match answer {
            Ok(answer) => {
                connection.note_answer();
                Ok(answer)
            }
            Err(error) => Err(self.failure(connection, &error)),
        }
    }

    fn failure(&self, connection: &Rc<Connection>, error: &Error) -> Failure {
        let failure = Failure::of(&self.url, error);
        if failure::came_from_etcd(error) {
            connection.note_answer();
            return failure;
        }
        self.give_up(connection);
        match failure {
            Failure::Unknown(why) if !connection.answered.get() => {
                Failure::Unknown(format!("{why} ({})", self.likely_misunderstanding()))
            }
            other => other,
        }
    }

    /// What to look at when a connection was made, and ended without an answer from etcd: the two
    /// ends may not mean the same by it, and then nothing in the error says so.
    fn likely_misunderstanding(&self) -> &'static str {
        match &self.tls {
            None => "is it an https:// endpoint?",
            Some(TlsSettings { client: None, .. }) => {
                "does the member want a client certificate? None is configured"
            }
            Some(_) => "does the member accept this client's certificate?",
        }
    }

    /// A request that waited for the login has not been sent.
    fn login_failure(&self, connection: &Rc<Connection>, error: &Error) -> Failure {
        match self.failure(connection, error) {
            Failure::Unknown(why) => Failure::NotSent(why),
            other => other,
        }
    }

    async fn log_in(&self, client: &Client) -> Result<(), Error> {
        let Some((name, password)) = &self.user else { return Ok(()) };
        let user = (name.clone(), password.reveal().to_owned());
        match client.clone().update_user(Some(user)).await {
            Err(error) if failure::needs_no_login(&error) => Ok(()),
            outcome => outcome,
        }
    }

    async fn connect(&self, by: Instant) -> Result<Rc<Connection>, Failure> {
        if let Some(connection) = &*self.connection.borrow() {
            return Ok(connection.clone());
        }
        let began = Instant::now();
        let connecting = self.connecting()?;
        let channel = match timeout_at(by, connecting.clone()).await {
            Ok(made) => {
                let mut current = self.connecting.borrow_mut();
                if current.as_ref().is_some_and(|current| current.ptr_eq(&connecting)) {
                    *current = None;
                }
                made
            }
            Err(_) => Err(format!("no connection within {:?}", began.elapsed())),
        };
        self.unreachable.set(channel.is_err());
        let channel = channel.map_err(|why| {
            self.failed.set(Some(Instant::now()));
            Failure::NotSent(format!("cannot connect to {}: {why}", self.url))
        })?;
        // Another request that waited for it may have stored it already.
        if let Some(connection) = &*self.connection.borrow() {
            return Ok(connection.clone());
        }
        let connection = Rc::new(self.over(channel)?);
        *self.connection.borrow_mut() = Some(connection.clone());
        Ok(connection)
    }

    /// The connection that is being made. One that failed while nobody waited is made again.
    fn connecting(&self) -> Result<Connecting, Failure> {
        let mut current = self.connecting.borrow_mut();
        if let Some(connecting) = &*current
            && connecting.peek().is_none_or(Result::is_ok)
        {
            return Ok(connecting.clone());
        }
        let transport = self.transport().map_err(|error| Failure::NotSent(error.to_string()))?;
        let task = tokio::spawn(timeout(CONNECT_TIMEOUT, async move { transport.connect().await }));
        let connecting = async move {
            match task.await {
                Ok(Ok(Ok(channel))) => Ok(channel),
                Ok(Ok(Err(error))) => Err(failure::of_connecting(&error)),
                Ok(Err(_)) => Err(format!("no connection within {CONNECT_TIMEOUT:?}")),
                Err(error) => Err(error.to_string()),
            }
        };
        let connecting = connecting.boxed().shared();
        *current = Some(connecting.clone());
        Ok(connecting)
    }

    fn over(&self, channel: tonic::transport::Channel) -> Result<Connection, Failure> {
        let client = |require_leader| {
            let options = ConnectOptions::new().with_require_leader(require_leader);
            let channel = Channel::Tonic(channel.clone());
            let made = Client::from_channel(channel, Some(options));
            // Without a user in the options nothing is awaited: the user logs in later.
            made.now_or_never()
                .unwrap_or_else(|| Err(Error::Internal("a client that waits".to_owned())))
                .map_err(|error| Failure::of(&self.url, &error))
        };
        Ok(Connection {
            with_leader: client(true)?,
            alone: client(false)?,
            channel,
            authenticated: Cell::new(self.user.is_none()),
            last_answer_at: Cell::new(Instant::now()),
            answered: Cell::new(false),
        })
    }

    /// Reads the certificates again each time, so that renewed ones are used without a restart.
    fn transport(&self) -> Result<tonic::transport::Endpoint, SettingsError> {
        let wrong = |error: tonic::transport::Error| {
            SettingsError(format!("etcd endpoint {}: {}", self.url, failure::chain(&error)))
        };
        let mut transport = tonic::transport::Endpoint::from_shared(self.url.clone())
            .map_err(wrong)?
            .tcp_nodelay(true)
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(false);
        if let Some(tls) = &self.tls {
            transport = transport.tls_config(tls.load()?).map_err(wrong)?;
        }
        Ok(transport)
    }

    fn give_up(&self, connection: &Rc<Connection>) {
        let mut current = self.connection.borrow_mut();
        if current.as_ref().is_some_and(|current| Rc::ptr_eq(current, connection)) {
            *current = None;
        }
    }
}
