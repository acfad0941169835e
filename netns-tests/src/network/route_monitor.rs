//! Monitors from which hosts a router has routes to an address: its bird is asked again and again.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::address_event::{self, AddressEvent};
use crate::background::Background;
use crate::lab::Lab;
use crate::measure::{self, QUIET_MAX, Span};
use crate::priority::raise_priority;
use crate::probe::PERIOD;

/// The longest time between two answers of bird's after which something can be said nonetheless.
const BLIND_MAX: Duration = Duration::from_secs(1);

/// Watches the router until it is dropped.
#[derive(Debug)]
pub struct RouteMonitor {
    seen: Arc<Mutex<Seen>>,
    _observer: Background,
}

#[derive(Debug)]
struct Seen {
    /// A route from a host, named after its session, came or went.
    events: Vec<AddressEvent>,
    last_asked: Instant,
    /// The times of more than [`QUIET_MAX`] between two answers.
    holes: Vec<Span>,
    failure: Option<String>,
}

impl RouteMonitor {
    /// Asks the router of `lab` for `address`, an IPv4 one, from now on.
    ///
    /// # Errors
    /// When its bird does not answer.
    pub fn watch(lab: &Lab, address: IpAddr) -> Result<Self> {
        let mut bird = Bird::connect(&lab.directory().join("router/bird.ctl"))?;
        let seen = Arc::new(Mutex::new(Seen {
            events: Vec::new(),
            last_asked: Instant::now(),
            holes: Vec::new(),
            failure: None,
        }));
        let now = bird.sessions_with_a_route_to(address)?;
        take(&mut seen.lock().unwrap_or_else(PoisonError::into_inner), address, &now);
        let observer = Background::start({
            let seen = Arc::clone(&seen);
            move |stop| {
                raise_priority();
                while !stop.load(Ordering::Relaxed) {
                    sleep(PERIOD);
                    let answer = bird.sessions_with_a_route_to(address);
                    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                    match answer {
                        Ok(now) => take(&mut seen, address, &now),
                        Err(error) => {
                            seen.failure = Some(format!("{error:#}"));
                            return;
                        }
                    }
                }
            }
        });
        Ok(RouteMonitor { seen, _observer: observer })
    }

    /// The hosts that the router had a route from when it was last asked, as `session0` and so on.
    ///
    /// # Errors
    /// When bird does not answer.
    pub fn now(&self) -> Result<Vec<String>> {
        self.read(|seen| {
            address_event::holders(&seen.events).into_iter().map(str::to_owned).collect()
        })
    }

    /// How long it had routes from two hosts or more at once, in `span`.
    ///
    /// # Errors
    /// When bird did not answer, or was not asked for more than a second of it.
    pub fn overlap(&self, span: Span) -> Result<Duration> {
        self.read(|seen| {
            let open = Span { from: seen.last_asked, to: Instant::now() };
            let in_span =
                |hole: &Span| Span { from: hole.from.max(span.from), to: hole.to.min(span.to) };
            let holes = seen.holes.iter().chain([&open]).map(in_span);
            let blind = holes.map(Span::length).max().unwrap_or_default();
            ensure!(blind <= BLIND_MAX, "the router was not asked for {blind:?}");
            Ok(measure::overlap(&seen.events, span))
        })?
    }

    fn read<T>(&self, f: impl FnOnce(&Seen) -> T) -> Result<T> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(failure) = &seen.failure {
            bail!("{failure}: nothing can be said about the router's routes");
        }
        Ok(f(&seen))
    }
}

fn take(seen: &mut Seen, address: IpAddr, now: &BTreeSet<String>) {
    let at = Instant::now();
    let hole = Span { from: seen.last_asked, to: at };
    seen.holes.extend((hole.length() > QUIET_MAX).then_some(hole));
    seen.last_asked = at;
    let before: BTreeSet<String> =
        address_event::holders(&seen.events).into_iter().map(str::to_owned).collect();
    let event =
        |host: &String, present| AddressEvent { at, host: (**host).into(), address, present };
    // What went first, so that a change between two answers is no overlap.
    seen.events.extend(before.difference(now).map(|host| event(host, false)));
    seen.events.extend(now.difference(&before).map(|host| event(host, true)));
}

/// A connection to a bird's control socket.
struct Bird(BufReader<UnixStream>);

impl Bird {
    fn connect(control: &Path) -> Result<Self> {
        let stream = UnixStream::connect(control).context("bird's control socket")?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut bird = Bird(BufReader::new(stream));
        bird.answer()?;
        Ok(bird)
    }

    fn sessions_with_a_route_to(&mut self, address: IpAddr) -> Result<BTreeSet<String>> {
        writeln!(self.0.get_mut(), "show route {address}/32")?;
        let answer = self.answer()?;
        // As in `unicast [session0 12:00:00.000] * (100)`.
        let names = answer.iter().filter_map(|line| line.split_once('[')?.1.split(' ').next());
        Ok(names.filter(|name| name.starts_with("session")).map(str::to_owned).collect())
    }

    /// The lines up to the one whose number is followed by a space.
    fn answer(&mut self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            ensure!(self.0.read_line(&mut line)? > 0, "bird has closed its control socket");
            let number = line.bytes().take_while(u8::is_ascii_digit).count();
            let is_last = number == 4 && line.as_bytes().get(4) == Some(&b' ');
            // Not found is an answer, other troubles are none.
            let is_trouble = matches!(line.as_bytes()[0], b'8' | b'9') && !line.starts_with("8001");
            ensure!(!is_trouble, "bird says {line}");
            lines.push(line);
            if is_last {
                return Ok(lines);
            }
        }
    }
}
