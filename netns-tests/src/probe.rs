//! Clients that ask addresses who they are, again and again, and note who answered and when.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::namespace::Namespace;
use crate::priority::raise_priority;
use crate::responder::service;

/// The time between two probes of a target.
pub const PERIOD: Duration = Duration::from_millis(5);

/// An answer that takes longer counts as none.
pub const PATIENCE: Duration = Duration::from_millis(100);

/// How a target is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transport {
    /// A datagram and its answer.
    Udp,
    /// A connection.
    Tcp,
}

/// Which address to ask, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// The address.
    pub address: IpAddr,
    /// Its transport.
    pub transport: Transport,
}

/// One probe.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Its number among those of its prober, from 0: between the probes of two probers, those of
    /// two boots of a host, nobody was to ask.
    pub number: usize,
    /// When it was sent.
    pub sent: Instant,
    /// When the answer came, and the name of the host that sent it.
    pub answer: Option<(Instant, Arc<str>)>,
}

impl Probe {
    /// Whether the answer came in time.
    pub fn answered(&self) -> bool {
        self.answer.as_ref().is_some_and(|(at, _)| at.duration_since(self.sent) <= PATIENCE)
    }
}

type Probes = Arc<Mutex<Vec<Probe>>>;

/// Asks some targets, all at the same moments, until it is dropped.
#[derive(Debug)]
pub struct Prober {
    targets: Vec<(Target, Probes)>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Prober {
    /// Starts to ask from `namespace`.
    ///
    /// # Errors
    /// When sockets cannot be made.
    pub fn start(namespace: &Arc<Namespace>, targets: Vec<Target>) -> Result<Self> {
        let targets: Vec<_> =
            targets.into_iter().map(|target| (target, Probes::default())).collect();
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = thread::spawn({
            let (namespace, targets) = (Arc::clone(namespace), targets.clone());
            move || {
                raise_priority();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let entered = namespace.enter().and_then(|()| Ok(runtime?));
                drop(namespace);
                let run = |runtime: tokio::runtime::Runtime| {
                    runtime.block_on(async {
                        let askers = targets.iter().map(|(t, probes)| Asker::new(t, probes));
                        let askers = askers.collect::<Result<Vec<_>>>()?;
                        let _ = ready.send(Ok(()));
                        tokio::select! {
                            () = ask_all(&askers) => {}
                            _ = stopped => {}
                        }
                        Ok(())
                    })
                };
                if let Err(error) = entered.and_then(run) {
                    let _ = ready.send(Err(error));
                }
            }
        });
        is_ready.recv().context("the prober died")??;
        Ok(Prober { targets, stop: Some(stop), thread: Some(thread) })
    }

    /// What became of the probes of each target so far, in the order of the targets.
    ///
    /// # Panics
    /// When nobody asks any more: an observer that is gone must not look like silence.
    pub fn records(&self) -> Vec<(Target, Vec<Probe>)> {
        self.assert_asks();
        let copy = |(target, probes): &(Target, Probes)| {
            (*target, probes.lock().unwrap_or_else(PoisonError::into_inner).clone())
        };
        self.targets.iter().map(copy).collect()
    }

    /// When a target last answered in time, and who that was; none before it has.
    ///
    /// # Panics
    /// When nobody asks any more.
    pub fn last_answer(&self, target: Target) -> Option<(Instant, Arc<str>)> {
        self.assert_asks();
        let (_, probes) = self.targets.iter().find(|(asked, _)| *asked == target)?;
        let probes = probes.lock().unwrap_or_else(PoisonError::into_inner);
        probes.iter().rev().find(|probe| probe.answered())?.answer.clone()
    }

    /// What it asks.
    pub fn targets(&self) -> impl Iterator<Item = Target> {
        self.targets.iter().map(|(target, _)| *target)
    }

    fn assert_asks(&self) {
        let asks = self.thread.as_ref().is_some_and(|thread| !thread.is_finished());
        let asked: Vec<Target> = self.targets().collect();
        assert!(asks, "the prober has ended: nothing can be said about {asked:?}");
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

enum Asker {
    Udp { socket: Arc<UdpSocket>, to: SocketAddr, probes: Probes },
    Tcp { to: SocketAddr, probes: Probes },
}

impl Asker {
    fn new(target: &Target, probes: &Probes) -> Result<Self> {
        let (to, probes) = (service(target.address), Arc::clone(probes));
        if target.transport == Transport::Tcp {
            return Ok(Asker::Tcp { to, probes });
        }
        let any: IpAddr = match target.address {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = std::net::UdpSocket::bind((any, 0))?;
        socket.set_nonblocking(true)?;
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        tokio::spawn(receive(Arc::clone(&socket), Arc::clone(&probes)));
        Ok(Asker::Udp { socket, to, probes })
    }

    fn ask(&self) {
        let sent = Instant::now();
        let push = |probes: &Probes| {
            let mut probes = probes.lock().unwrap_or_else(PoisonError::into_inner);
            let number = probes.len();
            probes.push(Probe { number, sent, answer: None });
            number
        };
        match self {
            Asker::Udp { socket, to, probes } => {
                let number = push(probes) as u64;
                // What cannot be sent is not answered.
                let _ = socket.try_send_to(&number.to_be_bytes(), *to);
            }
            Asker::Tcp { to, probes } => {
                let number = push(probes);
                let (to, probes) = (*to, Arc::clone(probes));
                tokio::spawn(async move {
                    if let Ok(Ok(name)) = timeout(PATIENCE, connect(to)).await {
                        note(&probes, number, &name);
                    }
                });
            }
        }
    }
}

async fn ask_all(askers: &[Asker]) {
    if askers.is_empty() {
        return std::future::pending().await;
    }
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        askers.iter().for_each(Asker::ask);
    }
}

async fn receive(socket: Arc<UdpSocket>, probes: Probes) {
    let mut buffer = [0_u8; 128];
    loop {
        // Errors come by ICMP, and are about single probes.
        let Ok((length, _)) = socket.recv_from(&mut buffer).await else { continue };
        if let Some((number, name)) = buffer[..length].split_first_chunk::<8>()
            && let Ok(name) = std::str::from_utf8(name)
            && let Ok(number) = usize::try_from(u64::from_be_bytes(*number))
        {
            note(&probes, number, name);
        }
    }
}

async fn connect(to: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(to).await?;
    // Reset rather than linger: 200 connections a second would use up the ports.
    set_linger_zero(&stream)?;
    let mut name = String::new();
    stream.read_to_string(&mut name).await?;
    Ok(name)
}

fn set_linger_zero(stream: &TcpStream) -> Result<()> {
    let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    Ok(setsockopt(&stream.as_fd(), sockopt::Linger, &linger)?)
}

fn note(probes: &Probes, number: usize, name: &str) {
    let at = Instant::now();
    let mut probes = probes.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(probe) = probes.get_mut(number)
        && probe.answer.is_none()
    {
        probe.answer = Some((at, name.into()));
    }
}
