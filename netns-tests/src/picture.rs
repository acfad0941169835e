//! What happened, as a picture: a panel for each step, with a lane for the client and one for each host.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cluster::Cluster;
use crate::measure::{self, Span};
use crate::probe::Transport;
use crate::timeline::ms;

/// A step, and what was seen of it.
#[derive(Clone, Debug)]
pub struct Panel {
    title: String,
    /// What was measured, in a line.
    figures: String,
    span: Span,
    /// What was done, and when.
    done: Vec<(Instant, String)>,
    /// Who answered the client, and from when to when.
    client: Vec<(String, Span)>,
    silences: Vec<Span>,
    hosts: Vec<Lane>,
    /// When two hosts had the address, whether they answered or not.
    shared: Vec<Span>,
}

/// What was seen of a host.
#[derive(Clone, Default, Debug)]
struct Lane {
    name: String,
    has: Vec<Span>,
    answers: Vec<Span>,
}

const LEFT: f64 = 70.0;
const WIDTH: f64 = 900.0;
const LANE: f64 = 22.0;
const BAR: f64 = 14.0;
/// Above the lanes of a panel: its title, and what was done.
const HEAD: f64 = 46.0;
/// Below them: the seconds.
const FOOT: f64 = 30.0;
const TOP: f64 = 66.0;
/// How wide a letter is, about.
const LETTER: f64 = 6.2;

/// One for each host, also for a daltonian.
const COLOURS: [&str; 4] = ["#0072b2", "#009e73", "#cc79a7", "#56b4e9"];
const SILENT: &str = "#d60000";
const SHARED: &str = "#f2b84b";

/// So much of what was before a step is in its panel.
const BEFORE: Duration = Duration::from_millis(500);

/// Shorter gaps than this are drawn, and not written: there would be no room.
const WRITTEN_MIN: Duration = Duration::from_millis(300);

impl Panel {
    /// What the observers saw from somewhat before a step began until now, and for how long two hosts
    /// answered at once.
    ///
    /// # Errors
    /// When events were lost.
    pub fn of(cluster: &Cluster, title: &str, began: Instant, both: Duration) -> Result<Self> {
        let span = Span { from: began - BEFORE, to: Instant::now() };
        let events = cluster.address_monitor().events(cluster.address())?;
        let probes = cluster.client_probes(Transport::Udp);
        let silences = measure::silences(&probes, span);
        let turns = measure::who_answered(&probes);
        let ends = turns.iter().skip(1).map(|(at, _)| *at).chain([span.to]);
        let client = turns.iter().zip(ends).filter_map(|((from, who), to)| {
            Some((who.to_string(), Span { from: *from, to }.within(span)?))
        });
        let cut = |spans: Vec<Span>| spans.into_iter().filter_map(|one| one.within(span)).collect();
        let held = measure::holding_times(&events, span.to);
        let hosts = (0..cluster.size()).map(|index| {
            let host = cluster.host(index);
            let has = held.iter().filter(|(name, _)| **name == *host.name).map(|(_, span)| *span);
            let answers = measure::answer_times(&host.answers(cluster.address()));
            Lane { name: host.name.clone(), has: cut(has.collect()), answers: cut(answers) }
        });
        let longest = silences.iter().map(|silence| silence.length()).max().unwrap_or_default();
        let mut done = cluster.lab().journal().entries();
        done.retain(|(at, _)| began <= *at && *at <= span.to);
        Ok(Panel {
            title: title.to_owned(),
            figures: format!("longest gap {}; two hosts answer: {}", ms(longest), ms(both)),
            span,
            done,
            client: client.collect(),
            silences,
            hosts: hosts.collect(),
            shared: measure::shared(&events, span),
        })
    }

    fn height(&self) -> f64 {
        HEAD + LANE * (self.hosts.len() + 1) as f64 + FOOT
    }

    fn x(&self, at: Instant) -> f64 {
        let part = at.saturating_duration_since(self.span.from).as_secs_f64();
        LEFT + (part / self.span.length().as_secs_f64().max(f64::MIN_POSITIVE)).min(1.0) * WIDTH
    }

    /// A bar for a time; the briefest is still seen.
    fn bar(&self, span: Span, y: f64, style: &str) -> String {
        let (from, to) = (self.x(span.from), self.x(span.to));
        let width = (to - from).max(1.0);
        format!("<rect x='{from:.1}' y='{y:.1}' width='{width:.1}' height='{BAR}' {style}/>\n")
    }

    fn colour(&self, host: &str) -> &'static str {
        let index = self.hosts.iter().position(|lane| lane.name == host).unwrap_or_default();
        COLOURS[index % COLOURS.len()]
    }

    fn draw(&self, top: f64) -> String {
        let mut drawn = format!(
            "<text x='10' y='{:.0}' class='t'>{}</text><text x='{:.0}' y='{:.0}' class='e'>{}</text>\n",
            top + 14.0,
            escaped(&self.title),
            LEFT + WIDTH,
            top + 14.0,
            escaped(&self.figures),
        );
        let lanes = top + HEAD;
        let bottom = lanes + LANE * (self.hosts.len() + 1) as f64;
        let first = lanes + (LANE - BAR) / 2.0;
        for shared in &self.shared {
            let (from, to) = (self.x(shared.from), self.x(shared.to));
            let _ = writeln!(
                drawn,
                "<rect x='{from:.1}' y='{:.1}' width='{:.1}' height='{:.1}' fill='{SHARED}' fill-opacity='0.4'/>",
                lanes + LANE,
                (to - from).max(1.0),
                bottom - lanes - LANE
            );
        }
        drawn += &self.seconds(lanes, bottom);
        let _ = writeln!(drawn, "<text x='10' y='{:.1}'>client</text>", first + 11.0);
        for (who, span) in &self.client {
            drawn += &self.bar(*span, first, &format!("fill='{}'", self.colour(who)));
        }
        for silence in &self.silences {
            drawn += &self.bar(*silence, first, &format!("fill='{SILENT}'"));
            if silence.length() >= WRITTEN_MIN {
                let _ = writeln!(
                    drawn,
                    "<text x='{:.1}' y='{:.1}' class='g'>{}</text>",
                    f64::midpoint(self.x(silence.from), self.x(silence.to)),
                    first + 11.0,
                    ms(silence.length())
                );
            }
        }
        for (number, lane) in self.hosts.iter().enumerate() {
            let y = first + LANE * (number + 1) as f64;
            let colour = self.colour(&lane.name);
            let _ = writeln!(drawn, "<text x='10' y='{:.1}'>{}</text>", y + 11.0, lane.name);
            for span in &lane.has {
                drawn += &self.bar(*span, y, &format!("fill='{colour}' fill-opacity='0.35'"));
            }
            for span in &lane.answers {
                drawn += &self.bar(*span, y, &format!("fill='{colour}'"));
            }
        }
        drawn + &self.notes(lanes, bottom)
    }

    /// What was done, above the lanes. Of what comes close after something else there is only the line.
    fn notes(&self, lanes: f64, bottom: f64) -> String {
        let mut drawn = String::new();
        let mut free_from = 0.0;
        for (at, what) in &self.done {
            let x = self.x(*at);
            let _ = writeln!(
                drawn,
                "<path d='M{x:.1} {:.1}V{bottom:.1}' stroke='#222' stroke-dasharray='3 2'/>",
                lanes - 6.0
            );
            let width = LETTER * what.chars().count() as f64;
            let x = x.min(LEFT + WIDTH - width);
            if x >= free_from {
                let y = lanes - 9.0;
                let what = escaped(what);
                let _ = writeln!(drawn, "<text x='{x:.1}' y='{y:.1}' class='d'>{what}</text>");
                free_from = x + width + 8.0;
            }
        }
        drawn
    }

    /// A line and a number for each second.
    fn seconds(&self, lanes: f64, bottom: f64) -> String {
        let mut drawn = String::new();
        for second in 0..=self.span.length().as_secs() {
            let x = self.x(self.span.from + Duration::from_secs(second));
            let _ = writeln!(
                drawn,
                "<path d='M{x:.1} {lanes:.1}V{bottom:.1}' stroke='#ddd'/>\
                 <text x='{x:.1}' y='{:.1}' class='a'>{second} s</text>",
                bottom + 12.0
            );
        }
        drawn
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// All panels, one below the other, under a title.
pub fn svg(title: &str, panels: &[Panel]) -> String {
    let mut drawn = String::new();
    let mut y = TOP;
    for panel in panels {
        drawn += &panel.draw(y);
        y += panel.height();
    }
    let mut legend = String::new();
    let mut x = 10.0;
    let own = COLOURS[0];
    for (style, text) in [
        (format!("fill='{own}'"), "answers (each host has a colour of its own)"),
        (format!("fill='{own}' fill-opacity='0.35'"), "has the address, and is silent"),
        (format!("fill='{SILENT}'"), "the client hears nobody"),
        (format!("fill='{SHARED}' fill-opacity='0.4'"), "two hosts have the address"),
    ] {
        let _ = writeln!(
            legend,
            "<rect x='{x:.0}' y='36' width='{BAR}' height='{BAR}' {style}/>\
             <text x='{:.0}' y='47'>{text}</text>",
            x + 19.0
        );
        x += 35.0 + LETTER * text.len() as f64;
    }
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {:.0} {y:.0}' font-family='system-ui,sans-serif' \
         font-size='12'>\n<style>.t{{font-size:14px;font-weight:bold}}.e{{text-anchor:end}}.a{{text-anchor:middle;\
         fill:#666;font-size:10px}}.g{{text-anchor:middle;fill:#fff}}.d{{fill:#222}}</style>\n\
         <rect width='100%' height='100%' fill='#fff'/>\n<text x='10' y='24' font-size='17'>{}</text>\n\
         {legend}{drawn}</svg>\n",
        LEFT + WIDTH + 20.0,
        escaped(title),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn panel() -> Panel {
        let start = Instant::now();
        let span = |from, to| Span {
            from: start + Duration::from_millis(from),
            to: start + Duration::from_millis(to),
        };
        let lane =
            |name: &str, times| Lane { name: name.into(), has: vec![times], answers: vec![] };
        Panel {
            title: "1. <cut>".into(),
            figures: "gap 1000 ms".into(),
            span: span(0, 4000),
            done: vec![(start, "h1 is cut off".into())],
            client: vec![("h1".into(), span(0, 1000)), ("h2".into(), span(2000, 4000))],
            silences: vec![span(1000, 2000)],
            hosts: vec![lane("h1", span(0, 2100)), lane("h2", span(2000, 4000))],
            shared: vec![span(2000, 2100)],
        }
    }

    #[test]
    fn a_gap_is_red_as_long_as_it_was_and_says_how_long_that_is() {
        let drawn = svg("a demonstration", &[panel()]);
        let red = format!("<rect x='295.0' y='116.0' width='225.0' height='14' fill='{SILENT}'/>");
        assert!(drawn.contains(&red), "{drawn}");
        assert!(drawn.contains(">1000 ms</text>"), "{drawn}");
    }

    #[test]
    fn the_time_in_which_two_hosts_have_the_address_is_marked_across_both() {
        let drawn = svg("a demonstration", &[panel()]);
        let marked = format!("x='520.0' y='134.0' width='22.5' height='44.0' fill='{SHARED}'");
        assert!(drawn.contains(&marked), "{drawn}");
    }

    #[test]
    fn what_people_wrote_is_text_and_no_markup() {
        let drawn = svg("a & b", &[panel()]);
        assert!(drawn.contains("1. &lt;cut&gt;") && drawn.contains("a &amp; b"), "{drawn}");
    }
}
