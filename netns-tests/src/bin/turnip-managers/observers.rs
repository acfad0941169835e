//! What is seen of a host from outside of its container: its addresses, who answers, and from which
//! address it would speak.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use ipnet::IpNet;
use turnip_netns_tests::address_monitor::AddressMonitor;
use turnip_netns_tests::background::Background;
use turnip_netns_tests::lab::Lab;
use turnip_netns_tests::measure::{self, Span};
use turnip_netns_tests::namespace::Namespace;
use turnip_netns_tests::poll::Poll;
use turnip_netns_tests::priority::raise_priority;
use turnip_netns_tests::probe::{PERIOD, Prober, Target, Transport};
use turnip_netns_tests::responder::{PORT, Responder};

/// All is as it should be when it has been so for this long.
const SETTLED: Duration = Duration::from_millis(1_500);
const PATIENCE: Poll = Poll::every(Duration::from_millis(20)).within(Duration::from_secs(25));

/// The addresses of a host and of its client, of one family each.
#[derive(Clone, Copy, Debug)]
pub struct Pair {
    /// The host's own.
    pub own: IpNet,
    /// The client's.
    pub client: IpAddr,
}

/// A stretch of time in which something was done to a host.
#[derive(Clone, Copy, Debug)]
pub struct Period {
    /// When it began.
    pub begun: Instant,
    /// From when on nothing kept the host from answering.
    pub possible: Instant,
    /// When all was as it should be again, or had not become so.
    pub to: Instant,
}

/// What became of a VIP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct VipSeen {
    /// How often it went.
    pub removals: usize,
    /// How long it was away, at the longest.
    pub away: Duration,
    /// How long a client got no answer, at the longest.
    pub gap: Duration,
}

/// What became of an address of the host's own.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct OwnSeen {
    /// How long it was of no use to the host: away, or looked for elsewhere by the kernel (DAD).
    pub away: Duration,
    /// How long a VIP was the source meanwhile.
    pub vip_meanwhile: Duration,
    /// How long a VIP was the source though the host's own address could have been.
    pub vip_wrongly: Duration,
    /// How long a client of this address got no answer, at the longest.
    pub gap: Duration,
}

/// Which address a connection would come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Own,
    Other,
    None,
}

/// One look at the host.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    source: Source,
    is_own_usable: bool,
}

type Looks = Arc<Mutex<Vec<Look>>>;

/// Observes one host.
#[derive(Debug)]
pub struct Observers {
    monitor: AddressMonitor,
    prober: Prober,
    looks: Vec<(Pair, Looks)>,
    vips: Vec<IpNet>,
    _looker: Background,
    _responder: Responder,
}

impl Observers {
    /// Starts to observe.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn start(
        lab: &Lab,
        host: &Arc<Namespace>,
        client: &Arc<Namespace>,
        pairs: &[Pair],
        vips: &[IpNet],
    ) -> Result<Self> {
        let monitor = AddressMonitor::new(lab)?;
        monitor.watch(host, "host")?;
        let responder = Responder::start(host, "host")?;
        let addresses = vips.iter().chain(pairs.iter().map(|pair| &pair.own));
        let prober = Prober::start(client, addresses.map(target).collect())?;
        let looks: Vec<_> = pairs.iter().map(|pair| (*pair, Looks::default())).collect();
        let looker = look_all_the_time(host, &looks)?;
        Ok(Observers {
            monitor,
            prober,
            looks,
            vips: vips.to_vec(),
            _looker: looker,
            _responder: responder,
        })
    }

    /// Waits until every VIP is there, every address answers and the host's own are the sources, and
    /// have been for some time; says whether it came to that.
    ///
    /// # Errors
    /// When events were lost.
    pub fn wait_until_settled(&self) -> Result<bool> {
        let mut since = None;
        PATIENCE.is_so(|| {
            if !self.is_right()? {
                since = None;
                return Ok(false);
            }
            Ok(since.get_or_insert_with(Instant::now).elapsed() >= SETTLED)
        })
    }

    /// What is not as it should be now.
    ///
    /// # Errors
    /// When events were lost.
    pub fn is_right(&self) -> Result<bool> {
        let now = Instant::now();
        for vip in &self.vips {
            if self.monitor.holders(vip.addr(), now)?.is_empty() {
                return Ok(false);
            }
        }
        let is_fresh = |at: Instant| now.saturating_duration_since(at) < PERIOD * 20;
        let answers = |target| self.prober.last_answer(target).is_some_and(|(at, _)| is_fresh(at));
        let is_own = |looks: &Looks| {
            let looks = looks.lock().unwrap_or_else(PoisonError::into_inner);
            looks.last().is_some_and(|look| look.source == Source::Own && is_fresh(look.at))
        };
        Ok(self.prober.targets().all(answers) && self.looks.iter().all(|(_, looks)| is_own(looks)))
    }

    /// What became of a VIP.
    ///
    /// # Errors
    /// When events were lost.
    pub fn vip(&self, vip: &IpNet, period: Period) -> Result<VipSeen> {
        let events = self.monitor.events(vip.addr())?;
        let went = |at: Instant, present: bool| !present && period.begun <= at && at <= period.to;
        let removals = events.iter().filter(|event| went(event.at, event.present)).count();
        let away = measure::longest_absence(&events, period.span());
        Ok(VipSeen { removals, away, gap: self.gap(vip, period)? })
    }

    /// What became of the host's own address of a family.
    ///
    /// # Errors
    /// When nobody asked it.
    pub fn own(&self, index: usize, period: Period) -> Result<OwnSeen> {
        let (pair, looks) = &self.looks[index];
        let looks = looks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut seen = OwnSeen { gap: self.gap(&pair.own, period)?, ..OwnSeen::default() };
        let span = period.span();
        for two in looks.windows(2) {
            let (from, to) = (two[0].at.max(span.from), two[1].at.min(span.to));
            let lasted = to.saturating_duration_since(from);
            match two[0] {
                Look { is_own_usable: false, source, .. } => {
                    seen.away += lasted;
                    if source == Source::Other {
                        seen.vip_meanwhile += lasted;
                    }
                }
                Look { source: Source::Other, .. } => seen.vip_wrongly += lasted,
                _ => {}
            }
        }
        Ok(seen)
    }

    fn gap(&self, address: &IpNet, period: Period) -> Result<Duration> {
        let asked = self.prober.records().into_iter().find(|(asked, _)| *asked == target(address));
        let (_, probes) = asked.with_context(|| format!("nobody asks {address}"))?;
        Ok(measure::gap(&probes, period.span()).length())
    }
}

impl Period {
    fn span(self) -> Span {
        Span { from: self.possible, to: self.to }
    }
}

fn target(address: &IpNet) -> Target {
    Target { address: address.addr(), transport: Transport::Udp }
}

/// Looks as often as the client asks.
fn look_all_the_time(host: &Arc<Namespace>, looks: &[(Pair, Looks)]) -> Result<Background> {
    let (ready, is_ready) = mpsc::channel();
    let (host, looks) = (Arc::clone(host), looks.to_vec());
    let looker = Background::start(move |stop: &AtomicBool| {
        raise_priority();
        let entered = host.enter();
        let is_inside = entered.is_ok();
        let _ = ready.send(entered);
        while is_inside && !stop.load(Ordering::Relaxed) {
            for (pair, looks) in &looks {
                looks.lock().unwrap_or_else(PoisonError::into_inner).push(look(*pair));
            }
            sleep(PERIOD);
        }
    });
    is_ready.recv().context("the thread that looks for sources has died")??;
    Ok(looker)
}

fn look(pair: Pair) -> Look {
    let at = Instant::now();
    let own = pair.own.addr();
    let any: IpAddr =
        if own.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let connected = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((pair.client, PORT))?;
        socket.local_addr()
    });
    let source = match connected {
        Ok(source) if source.ip() == own => Source::Own,
        Ok(_) => Source::Other,
        Err(_) => Source::None,
    };
    Look { at, source, is_own_usable: UdpSocket::bind((own, 0)).is_ok() }
}
