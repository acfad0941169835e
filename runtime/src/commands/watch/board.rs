//! What the screen shows: two tables, their order, and what has changed lately. No terminal here.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{KeyCode, KeyModifiers};

use turnip_core::Revision;

use crate::commands::overview::Overview;
use crate::commands::status;
use crate::commands::table::{Table, how_long};

/// For so long a change is marked.
const MARKED_FOR: Duration = Duration::from_secs(10);
/// Cells that change by themselves.
const AGES: [&str; 2] = ["SINCE", "RENEWED"];

/// What the operator did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    /// A key was pressed, with these.
    Pressed(KeyCode, KeyModifiers),
    /// The terminal has another size.
    Resized,
}

/// What comes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// It goes on.
    Stay,
    /// The operator has seen enough.
    Quit,
}

/// Everything on the screen.
pub struct Board {
    /// VIPs, and nodes.
    pub panes: [Pane; 2],
    /// Which of them has the keys.
    pub focus: usize,
    cluster: String,
    /// As of which revision, how many VIPs there were, and how many without owner.
    counted: Option<(Revision, usize, usize)>,
    endpoints: String,
    lease: Duration,
    answered_at: Option<Instant>,
    trouble: Option<String>,
}

/// One table.
pub struct Pane {
    /// Its headings.
    pub headings: Vec<String>,
    /// By which of them it is sorted.
    pub sorted_by: usize,
    /// Whether the largest comes first.
    pub is_reversed: bool,
    /// The first row that is shown.
    pub top: usize,
    rows: Vec<Vec<String>>,
    changed: BTreeMap<String, Instant>,
}

impl Board {
    /// An empty board.
    pub fn new(cluster: &str, endpoints: &[String]) -> Self {
        Board {
            panes: [Pane::new(), Pane::new()],
            focus: 0,
            cluster: cluster.to_owned(),
            counted: None,
            endpoints: endpoints.join(", "),
            lease: Duration::ZERO,
            answered_at: None,
            trouble: None,
        }
    }

    /// Shows this from now on; `lease` is the longest that a node declares.
    pub fn show(&mut self, overview: &Overview, lease: Duration, now: Instant) {
        self.lease = lease;
        let free = overview.vips.values().filter(|vip| vip.owner.is_none()).count();
        self.counted = Some((overview.revision, overview.vips.len(), free));
        self.panes[0].show(&status::vips(overview), now);
        self.panes[1].show(&status::nodes(overview), now);
    }

    /// The cluster, at which revision, and whether its VIPs have owners; or had, when that was known last.
    pub fn heading(&self, now: Instant) -> String {
        let cluster = &self.cluster;
        let Some((revision, all, free)) = self.counted else { return format!("cluster {cluster}") };
        let is_known = self.trouble(now).is_none();
        let held = match (all, free, is_known) {
            (0, ..) => "no VIP".to_owned(),
            (_, 0, true) => "every VIP has an owner".to_owned(),
            (_, 0, false) => "every VIP had an owner".to_owned(),
            (_, _, true) => format!("{free} of {all} VIPs WITHOUT OWNER"),
            (_, _, false) => format!("{free} of {all} VIPs were without owner"),
        };
        let silence = self.answered_at.map(|at| now.saturating_duration_since(at));
        let as_of = silence.filter(|_| !is_known).map(|silence| format!(", {} ago", ago(silence)));
        format!("cluster {cluster} at revision {revision}{}: {held}", as_of.unwrap_or_default())
    }

    /// etcd has answered.
    pub fn is_answered(&mut self, now: Instant) {
        self.answered_at = Some(now);
        self.trouble = None;
    }

    /// It does not, for this reason.
    pub fn is_not_answered(&mut self, why: String) {
        self.trouble = Some(why);
    }

    /// What is wrong with what is shown.
    pub fn trouble(&self, now: Instant) -> Option<String> {
        let silence = self.answered_at.map(|at| now.saturating_duration_since(at));
        let as_of = silence.map(|silence| {
            format!("; this is of {} ago, and what is now is not known", ago(silence))
        });
        let as_of = as_of.unwrap_or_default();
        if let Some(why) = &self.trouble {
            return Some(format!("{why} ({}){as_of}", self.endpoints));
        }
        match silence {
            None => Some(format!("waiting for etcd ({})", self.endpoints)),
            // Somebody renews once in a lease, however calm it is.
            Some(silence) if silence > 2 * self.lease + Duration::from_secs(1) => {
                Some(format!("nothing was heard of etcd{as_of}"))
            }
            Some(_) => None,
        }
    }

    /// The operator did something.
    pub fn press(&mut self, key: Key) -> Flow {
        let Key::Pressed(code, modifiers) = key else { return Flow::Stay };
        let pane = &mut self.panes[self.focus];
        match code {
            KeyCode::Char('q') | KeyCode::Esc => return Flow::Quit,
            KeyCode::Char('c') if modifiers.contains(KeyModifiers::CONTROL) => return Flow::Quit,
            KeyCode::Tab => self.focus = 1 - self.focus,
            KeyCode::Char('s') => {
                pane.sorted_by = (pane.sorted_by + 1) % pane.headings.len().max(1)
            }
            KeyCode::Char('r') => pane.is_reversed = !pane.is_reversed,
            KeyCode::Down | KeyCode::Char('j') => pane.top += 1,
            KeyCode::Up | KeyCode::Char('k') => pane.top = pane.top.saturating_sub(1),
            KeyCode::PageDown => pane.top += 10,
            KeyCode::PageUp => pane.top = pane.top.saturating_sub(10),
            KeyCode::Home => pane.top = 0,
            _ => {}
        }
        Flow::Stay
    }
}

impl Pane {
    fn new() -> Self {
        Pane {
            headings: Vec::new(),
            sorted_by: 0,
            is_reversed: false,
            top: 0,
            rows: Vec::new(),
            changed: BTreeMap::new(),
        }
    }

    fn show(&mut self, table: &Table, now: Instant) {
        let [headings, rows @ ..] = table.rows() else { return };
        let is_first = self.headings.is_empty();
        self.headings.clone_from(headings);
        let before: BTreeMap<&String, &Vec<String>> =
            self.rows.iter().map(|row| (&row[0], row)).collect();
        let differs = |row: &&Vec<String>| match before.get(&row[0]) {
            Some(before) => {
                let cells = headings.iter().zip(before.iter().zip(row.iter()));
                cells
                    .into_iter()
                    .any(|(heading, (was, is))| was != is && !AGES.contains(&heading.as_str()))
            }
            None => !is_first,
        };
        let changed: Vec<String> = rows.iter().filter(differs).map(|row| row[0].clone()).collect();
        self.changed.retain(|_, at| now.saturating_duration_since(*at) < MARKED_FOR);
        self.changed.extend(changed.into_iter().map(|name| (name, now)));
        self.rows = rows.to_vec();
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The rows in their order, and whether each has changed lately.
    pub fn rows(&self, now: Instant) -> Vec<(&[String], bool)> {
        let mut rows: Vec<&Vec<String>> = self.rows.iter().collect();
        let by = self.sorted_by;
        // How long ago something began cannot be told from its words; the token grows with it.
        let by = match self.headings.get(by).map(String::as_str) {
            Some("SINCE") => self.headings.iter().position(|h| h == "TOKEN").unwrap_or(by),
            _ => by,
        };
        rows.sort_by(|a, b| compare(&a[by], &b[by]).then_with(|| a[0].cmp(&b[0])));
        if self.is_reversed {
            rows.reverse();
        }
        let is_marked = |row: &Vec<String>| {
            let at = self.changed.get(&row[0]);
            at.is_some_and(|at| now.saturating_duration_since(*at) < MARKED_FOR)
        };
        rows.into_iter().map(|row| (row.as_slice(), is_marked(row))).collect()
    }
}

/// Numbers by their size, everything else by its letters.
fn compare(a: &str, b: &str) -> Ordering {
    match (a.parse::<u64>(), b.parse::<u64>()) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        _ => a.cmp(b),
    }
}

fn ago(duration: Duration) -> String {
    how_long(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
