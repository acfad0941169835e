//! One etcd member, and the connection to it.

mod let_in;

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Channel, Client, ConnectOptions, Error};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use http::Uri;
use tokio::time::{Instant, timeout, timeout_at};
use tower::util::BoxCloneSyncService;
use turnip_core::StoreError;

use super::certificates::Certificate;
use super::dial::{Dial, Way};
use super::failure::{self, Failure};
use super::login::{Login, WithToken};
use super::names::Names;
use super::settings::{EtcdSettings, SettingsError, TlsSettings};
use super::trust::Trust;

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
    dial: Dial,
    /// Of the user that is configured.
    login: Option<Login>,
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
    /// Checks the settings, but connects to nothing.
    pub(super) fn new(
        url: &str,
        settings: &EtcdSettings,
        names: &Names,
        trust: Option<&Arc<Trust>>,
        login: Option<&Login>,
    ) -> Result<Self, SettingsError> {
        let wrong = |why: &str| {
            // Without the URL: there may be a password in it.
            Err(SettingsError(why.to_owned()))
        };
        if url.contains('@') {
            return wrong("an etcd endpoint with a user in it: say user and password on their own");
        }
        let secure = match url.split_once("://") {
            Some(("http", _)) => false,
            Some(("https", _)) => true,
            _ => return wrong(&format!("{url:?} is no etcd endpoint: http://host:port is")),
        };
        let unusable = |why: String| SettingsError(format!("etcd endpoint {url}: {why}"));
        let uri: Uri = url.parse().map_err(|error| unusable(format!("{error}")))?;
        let host = uri.host().ok_or_else(|| unusable("no host is in it".into()))?;
        let trust = trust.filter(|_| secure).cloned();
        let dial = Dial::new(names.clone(), host, trust, CONNECT_TIMEOUT).map_err(unusable)?;
        let endpoint = Endpoint {
            url: url.to_owned(),
            tls: secure.then(|| settings.tls.clone()),
            dial,
            login: login.map(|login| login.at(url)),
            connection: RefCell::default(),
            connecting: RefCell::default(),
            unreachable: Cell::default(),
            failed: Cell::default(),
        };
        endpoint.transport()?;
        Ok(endpoint)
    }

    /// A connection of its own to where the member is, over the same kept names.
    pub(super) async fn dial(&self) -> Result<Box<dyn Way>, tower::BoxError> {
        self.dial.clone().connect(self.url.parse()?).await
    }

    /// Where the member is.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Asks the member, and waits until `deadline` at the latest, connecting and logging in included.
    pub(super) async fn ask<T>(
        &self,
        answers: Answers,
        deadline: Instant,
        request: impl AsyncFn(&Client) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let connection = self.connect(deadline).await?;
        let answer = self.ask_over(&connection, answers, deadline, request).await;
        self.failed.set(answer.is_err().then(Instant::now));
        answer
    }

    /// Waits until there is a connection, until `by` at the latest, and until it is let in, until
    /// `let_in_by`. Both go on when they take longer.
    pub(super) async fn ready(&self, by: Instant, let_in_by: Instant) -> Result<(), Failure> {
        let connection = self.connect(by).await?;
        self.let_in(&connection, let_in_by).await.map(drop)
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
        deadline: Instant,
        request: impl AsyncFn(&Client) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let mut refused_before = false;
        loop {
            // A login takes a quorum, so a member that is asked for itself is asked without.
            let (client, token) = match answers {
                Answers::WithLeader => {
                    (&connection.with_leader, self.let_in(connection, deadline).await?)
                }
                Answers::Alone => (&connection.alone, None),
            };
            let sent = Instant::now();
            let Ok(answer) = timeout_at(deadline, request(client)).await else {
                let waited = sent.elapsed();
                if connection.last_answer_at.get().elapsed() >= waited.max(SILENCE_MIN) * 2 {
                    self.give_up(connection);
                }
                return Err(Failure::Unknown(format!(
                    "{} did not answer within {waited:.1?}",
                    self.url
                )));
            };
            match (answer, token, &self.login) {
                (Ok(answer), token, login) => {
                    connection.note_answer();
                    if let (Some(token), Some(login)) = (token, login) {
                        login.note_used(token);
                    }
                    return Ok(answer);
                }
                // etcd refused it before doing anything, so it can safely be sent again.
                (Err(error), Some(token), Some(login))
                    if !refused_before && failure::wants_login(&error) =>
                {
                    connection.note_answer();
                    login.refused(token, failure::is_token_unknown(&error));
                    refused_before = true;
                }
                (Err(error), ..) => return Err(self.failure(connection, &error)),
            }
        }
    }

    /// The certificates that the member showed last, the first its own.
    pub(super) fn shown(&self) -> Vec<Certificate> {
        self.dial.shown()
    }

    /// Looks anew which certificate the member shows. What a connection of last month has seen may have
    /// been renewed.
    pub(super) async fn look_at_certificate(&self) {
        if self.tls.is_some()
            && let Ok(uri) = self.url.parse::<Uri>()
        {
            let _ = timeout(CONNECT_TIMEOUT, self.dial.clone().connect(uri)).await;
        }
    }

    /// The addresses that it has, as far as they are known.
    pub(super) fn known_addresses(&self) -> Vec<IpAddr> {
        self.dial.known_addresses()
    }

    /// The addresses that it has now.
    pub(super) async fn addresses(&self) -> Result<Vec<IpAddr>, String> {
        self.dial.addresses().await
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
            Err(_) => Err(format!("{} within {:.1?}", self.dial.waits_for(), began.elapsed())),
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
        let dial = self.dial.clone();
        let task = tokio::spawn(timeout(CONNECT_TIMEOUT, {
            let dial = dial.clone();
            async move { transport.connect_with_connector(dial).await }
        }));
        let connecting = async move {
            match task.await {
                Ok(Ok(Ok(channel))) => Ok(channel),
                Ok(Ok(Err(error))) => Err(failure::of_connecting(&error)),
                Ok(Err(_)) => Err(format!("{} within {CONNECT_TIMEOUT:?}", dial.waits_for())),
                Err(error) => Err(error.to_string()),
            }
        };
        let connecting = connecting.boxed().shared();
        *current = Some(connecting.clone());
        Ok(connecting)
    }

    fn over(&self, channel: tonic::transport::Channel) -> Result<Connection, Failure> {
        let with_login = match &self.login {
            None => Channel::Tonic(channel.clone()),
            Some(login) => {
                let with_token = WithToken { channel: channel.clone(), login: login.clone() };
                Channel::Custom(BoxCloneSyncService::new(with_token))
            }
        };
        let client = |require_leader| {
            let options = ConnectOptions::new().with_require_leader(require_leader);
            let made = Client::from_channel(with_login.clone(), Some(options));
            // Without a user in the options nothing is awaited: logging in is `Login`'s.
            made.now_or_never()
                .unwrap_or_else(|| Err(Error::Internal("a client that waits".to_owned())))
                .map_err(|error| Failure::of(&self.url, &error))
        };
        Ok(Connection {
            with_leader: client(true)?,
            alone: client(false)?,
            channel,
            last_answer_at: Cell::new(Instant::now()),
            answered: Cell::new(false),
        })
    }

    /// TLS is the connector's, so tonic is to know nothing of it, but for the URL that requests bear.
    fn transport(&self) -> Result<tonic::transport::Endpoint, SettingsError> {
        let wrong = |why: String| SettingsError(format!("etcd endpoint {}: {why}", self.url));
        let (_, authority) = self.url.split_once("://").unwrap_or(("", &self.url));
        let origin: Uri = self.url.parse().map_err(|error| wrong(format!("{error}")))?;
        let transport = tonic::transport::Endpoint::from_shared(format!("http://{authority}"))
            .map_err(|error| wrong(failure::chain(&error)))?;
        Ok(transport
            .origin(origin)
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(false))
    }

    fn give_up(&self, connection: &Rc<Connection>) {
        let mut current = self.connection.borrow_mut();
        if current.as_ref().is_some_and(|current| Rc::ptr_eq(current, connection)) {
            *current = None;
        }
    }
}
