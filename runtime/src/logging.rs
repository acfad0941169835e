//! Log lines: text for people, JSON for programs, and the journal's own form under systemd.

mod lines;
mod summary;

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;
use std::time::Instant;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use turnip::config::{LogFormat, LogSettings};
use turnip_core::{CheckState, Level as ReportLevel, Report, text};

use lines::{Flush, Lines};
use summary::{Line as Summed, Summary};

/// Sends log lines to standard error from here on, and the last ones when what it answers with is
/// dropped. To be called once.
///
/// # Errors
/// When there is no thread to be had.
pub fn start(settings: LogSettings) -> io::Result<Flush> {
    let (writer, flush) = Lines::to(io::stderr())?;
    // Of the libraries only what an operator should see.
    let filter =
        Targets::new().with_default(LevelFilter::WARN).with_target("turnip", settings.level);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let registry = tracing_subscriber::registry().with(filter);
    match settings.format {
        LogFormat::Json => {
            let json =
                lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
            registry.with(json).init();
        }
        LogFormat::Text | LogFormat::Auto => {
            let journal = is_journal();
            let colour = !journal && io::stderr().is_terminal();
            registry.with(lines.with_ansi(colour).event_format(Text { journal })).init();
        }
    }
    Ok(flush)
}

/// Whether standard error goes to systemd's journal, which puts the time before each line itself.
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let stderr = io::stderr().as_fd().try_clone_to_owned().map(File::from);
    let metadata = stderr.and_then(|file| file.metadata());
    metadata.is_ok_and(|stat| stream == format!("{}:{}", stat.dev(), stat.ino()))
}

/// Logs reports, and sums up those that are many.
#[derive(Clone, Default)]
pub struct Reports(Rc<Waiting>);

#[derive(Default)]
struct Waiting {
    summary: RefCell<Summary>,
    changed: tokio::sync::Notify,
}

impl Reports {
    /// Logs a report, or counts it.
    pub fn report(&self, report: &Report) {
        let about = About::of(report);
        let is_alone = self.0.summary.borrow_mut().is_alone(about.event, report, Instant::now());
        log(&about, report, !is_alone);
        if !is_alone {
            self.0.changed.notify_one();
        }
    }

    /// Logs what was counted, when its time is over; never ends.
    pub async fn serve(&self) {
        loop {
            let next_due = self.0.summary.borrow().next_due();
            match next_due {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => self.0.changed.notified().await,
            }
            let due = self.0.summary.borrow_mut().due(Instant::now());
            due.iter().for_each(log_summed);
        }
    }
}

/// Nothing is left untold.
impl Drop for Waiting {
    fn drop(&mut self) {
        self.summary.borrow_mut().rest().iter().for_each(log_summed);
    }
}

fn log_summed(line: &Summed) {
    macro_rules! log {
        ($level:ident) => {
            tracing::$level!(
                target: "turnip",
                event = line.event,
                vip = line.vips,
                count = line.count,
                "{}",
                line.text
            )
        };
    }
    match line.level {
        ReportLevel::Info => log!(info),
        ReportLevel::Warn => log!(warn),
        ReportLevel::Error => log!(error),
    }
}

/// Logs a report: its words as the message, what it is about as fields. What is summed up is shown one by
/// one to whoever wants to see everything.
fn log(about: &About, report: &Report, is_summed_up: bool) {
    macro_rules! log {
        ($level:ident) => {
            tracing::$level!(
                target: "turnip",
                event = about.event,
                vip = about.vip,
                node = about.node,
                address = about.address,
                interface = about.interface,
                session = about.session,
                token = about.token,
                mac = about.mac,
                "{report}"
            )
        };
    }
    match report.level() {
        _ if is_summed_up => log!(debug),
        ReportLevel::Info => log!(info),
        ReportLevel::Warn => log!(warn),
        ReportLevel::Error => log!(error),
    }
}

/// What a report is about, for programs that read logs. The names are kept from version to
/// version, also where the words for people have become better.
#[derive(Default)]
struct About {
    event: &'static str,
    vip: Option<String>,
    node: Option<String>,
    address: Option<String>,
    interface: Option<String>,
    session: Option<i64>,
    token: Option<i64>,
    mac: Option<String>,
}

impl About {
    fn of(report: &Report) -> Self {
        let event = |event| About { event, ..About::default() };
        let session = |name, session: &turnip_core::SessionId| About {
            session: Some(session.0.0),
            ..event(name)
        };
        let vip =
            |name, vip: &turnip_core::VipName| About { vip: Some(vip.to_string()), ..event(name) };
        let about_nodes = |name, nodes: &[turnip_core::NodeName]| {
            let names: Vec<&str> = nodes.iter().map(turnip_core::NodeName::as_str).collect();
            About { node: Some(names.join(",")), ..event(name) }
        };
        let address = |name, assignment: &turnip_core::Assignment| About {
            vip: Some(assignment.vip.to_string()),
            address: Some(assignment.address.to_string()),
            interface: Some(assignment.interface.to_string()),
            ..event(name)
        };
        match report {
            Report::SessionOpened { session: id } => session("session-opened", id),
            Report::SessionResumed { session: id } => session("session-resumed", id),
            Report::SessionLost { session: id, .. } => session("session-lost", id),
            Report::RenewalsFail { .. } | Report::RenewingStopped { .. } => event("renewals-fail"),
            Report::RenewingGoesOn => event("renewing-goes-on"),
            Report::RenewalAnswered => event("renewal-answered"),
            Report::RenewalsSucceed => event("renewals-succeed"),
            Report::HeldByConsent => event("held-by-consent"),
            Report::ConsentMissing { .. } => event("consent-missing"),
            Report::PathsLost { nodes } => about_nodes("path-lost", nodes),
            Report::PathsFound { nodes } => about_nodes("path-found", nodes),
            // Programs know these two by the names that they were given first.
            Report::WatchStale { .. } => event("deaf"),
            Report::WatchRestored => event("hearing"),
            Report::Expired { node, vips, .. } => {
                let names: Vec<&str> = vips.iter().map(turnip_core::VipName::as_str).collect();
                let vip = (!names.is_empty()).then(|| names.join(","));
                About { node: Some(node.to_string()), vip, ..event("expired") }
            }
            Report::SessionEnded { node, .. } => {
                About { node: Some(node.to_string()), ..event("session-ended") }
            }
            Report::Assuming { assignment, token, .. } => {
                About { token: Some(token.0), ..address("assuming", assignment) }
            }
            Report::Assumed { assignment, .. } => address("assumed", assignment),
            Report::Kept { assignment, .. } => address("kept", assignment),
            Report::Forfeiting { assignment, .. } => address("forfeiting", assignment),
            Report::Forfeited { assignment, .. } => address("forfeited", assignment),
            Report::HandedOver { vip: name, to } => {
                About { node: to.as_ref().map(ToString::to_string), ..vip("handed-over", name) }
            }
            Report::Repairing { vip: name, .. } => vip("repairing", name),
            Report::Misplaced { vip: name, .. } => vip("misplaced", name),
            Report::KernelFails { vip: name, .. } => vip("kernel-fails", name),
            Report::Blocked { vip: name, .. } => vip("blocked", name),
            Report::Unblocked { vip: name } => vip("unblocked", name),
            Report::Checked { state: CheckState::Down, .. } => event("check-fails"),
            Report::Checked { .. } => event("check-passes"),
            Report::Unsteady { vip: name, .. } => vip("unsteady", name),
            Report::HookStarted { vip: name, .. } => vip("hook-started", name),
            Report::HookEnded { vip: name, end, .. } => {
                vip(if end.is_success() { "hook-ended" } else { "hook-failed" }, name)
            }
            Report::Conflict { assignment, mac, .. } => {
                About { mac: Some(mac.to_string()), ..address("conflict", assignment) }
            }
            Report::Double { vip: name, .. } => vip("double", name),
            Report::DoubleGone { vip: name } => vip("double-gone", name),
            Report::FenceStays { .. } => event("fence-stays"),
            Report::Stray { assignment } => address("stray", assignment),
            Report::Unreadable { .. } | Report::UnreadableKeys { .. } => event("unreadable"),
            Report::PinIgnored { vip: name, node, .. } => {
                About { node: Some(node.to_string()), ..vip("pin-ignored", name) }
            }
            Report::Drained(true) => event("drained"),
            Report::Drained(false) => event("undrained"),
            Report::RaftLeader(true) => event("raft-leader"),
            Report::RaftLeader(false) => event("no-raft-leader"),
            Report::NoOwnMember { .. } => event("no-own-member"),
            Report::OwnMemberAnswers => event("own-member-answers"),
            Report::StoreChanged { .. } => event("store-changed"),
            Report::Reconfigured { .. } => event("reconfigured"),
            Report::SessionReplaced { .. } => event("session-replaced"),
            Report::NameContested { .. } => event("name-contested"),
        }
    }
}

/// A line for people.
struct Text {
    /// Without the time, and with the priority as the journal understands it.
    journal: bool,
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        if self.journal {
            let priority = match level {
                Level::ERROR => 3,
                Level::WARN => 4,
                Level::INFO => 6,
                _ => 7,
            };
            write!(writer, "<{priority}>")?;
        } else {
            SystemTime.format_time(&mut writer)?;
            let colour = match level {
                Level::ERROR => "31",
                Level::WARN => "33",
                Level::INFO => "32",
                _ => "2",
            };
            match writer.has_ansi_escapes() {
                true => write!(writer, " \x1b[{colour}m{level:>5}\x1b[0m ")?,
                false => write!(writer, " {level:>5} ")?,
            }
        }
        let mut line = Line::default();
        event.record(&mut line);
        // Whatever others wrote, one event is one line.
        writer.write_str(&text::escaped(&line.message))?;
        // A report's words say what its fields say.
        if !line.is_report {
            writer.write_str(&text::escaped(&line.fields))?;
        }
        writeln!(writer)
    }
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
    is_report: bool,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            "event" => self.is_report = true,
            name => self.fields += &format!(" {name}={value:?}"),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "event" => self.is_report = true,
            name => self.fields += &format!(" {name}={value}"),
        }
    }
}
