//! Draws a run: a lane for the client and for each machine, who answered when, what happened.

use std::fmt::Write as _;
use std::time::Duration;

use crate::drawing::{COLOURS, escape};
use crate::script::{Script, human};

use super::judge::judge;
use super::measure::Interval;
use super::{Happened, Run};

const LEFT: f64 = 110.0;
const WIDTH: f64 = 1040.0;
const TOP: f64 = 92.0;
/// The height of a bar, and of a line of text over the bars.
const BAR: f64 = 13.0;
const TEXT: f64 = 12.0;
/// How wide a letter of the small font is, about.
const LETTER: f64 = 5.3;

/// A lane of the picture.
struct Lane {
    name: String,
    top: f64,
    height: f64,
    /// Where its bars begin, below the words.
    bars: f64,
}

/// Words on a lane, and in which of its lines.
struct Words {
    line: usize,
    text: String,
}

struct Drawing<'a> {
    script: &'a Script,
    run: &'a Run,
    svg: String,
    lanes: Vec<Lane>,
}

/// The run as an SVG picture.
pub fn svg(script: &Script, run: &Run) -> String {
    let mut drawing = Drawing { script, run, svg: String::new(), lanes: Vec::new() };
    drawing.draw();
    drawing.svg
}

/// Runs as a page for a browser, each with its heading: the picture, what happened, what was not as expected.
pub fn html(script: &Script, runs: &[(String, &Run)]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title>\n\
         <style>body{{font:15px/1.45 system-ui,sans-serif;margin:2em}}</style>\
         </head><body>\n<h1>{0}</h1>\n",
        escape(&script.name),
    );
    if let Some(about) = &script.about {
        let _ = writeln!(page, "<p>{}</p>", escape(about));
    }
    for (heading, run) in runs {
        let _ = writeln!(page, "<h2>{}</h2>\n{}\n<ul>", escape(heading), svg(script, run));
        for one in &run.happened {
            let _ = writeln!(page, "<li>{}</li>", escape(&one.said()));
        }
        page.push_str("</ul>\n");
        match judge(script, run).as_slice() {
            [] => page.push_str("<p>All is as expected.</p>\n"),
            all => {
                for one in all {
                    let _ = writeln!(
                        page,
                        "<p><b>Not as expected:</b> {}</p>",
                        escape(&one.to_string())
                    );
                }
            }
        }
    }
    page.push_str("</body></html>\n");
    page
}

impl Drawing<'_> {
    fn x(&self, at: Duration) -> f64 {
        LEFT + WIDTH * at.min(self.run.lasts).as_secs_f64() / self.run.lasts.as_secs_f64().max(1e-9)
    }

    fn rows(&self) -> usize {
        // More than that nobody tells apart: several share a row.
        self.run.vips.len().clamp(1, 12)
    }

    fn draw(&mut self) {
        let words = self.place_words();
        let mut top = TOP;
        let bars = BAR * self.rows() as f64;
        let mut lane = |name: String, lines: usize| {
            let height = TEXT * lines as f64 + bars + 6.0;
            let lane = Lane { name, top, height, bars: top + TEXT * lines as f64 + 3.0 };
            top += height + 7.0;
            lane
        };
        let client = lane("client".into(), 0);
        let machines = (0..self.script.machines()).map(|machine| {
            let lines = words[machine].iter().map(|(_, words)| words.line + 1).max();
            lane(self.script.machine(machine).to_owned(), lines.unwrap_or(1))
        });
        self.lanes = std::iter::once(client).chain(machines.collect::<Vec<_>>()).collect();
        let height = top + 22.0;
        let _ = writeln!(
            self.svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0} {height:.0}\" \
             font-family=\"system-ui,sans-serif\" font-size=\"11\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>",
            LEFT + WIDTH + 20.0,
        );
        self.heading();
        self.axis(top);
        for lane in &self.lanes {
            let _ = writeln!(
                self.svg,
                "<rect x=\"{LEFT}\" y=\"{:.0}\" width=\"{WIDTH}\" height=\"{:.0}\" fill=\"#f3f4f7\"/>\
                 <text x=\"10\" y=\"{:.0}\" font-size=\"13\">{}</text>",
                lane.top,
                lane.height,
                lane.top + lane.height / 2.0 + 4.0,
                escape(&lane.name)
            );
        }
        // Words last: what is drawn later covers what is below.
        for is_of_words in [false, true] {
            for (machine, all) in words.iter().enumerate() {
                for (happened, words) in all {
                    let happened = &self.run.happened[*happened];
                    let drawn = match is_of_words {
                        false => self.fault(machine, happened),
                        true => self.words(machine, happened, words),
                    };
                    self.svg.push_str(&drawn);
                }
            }
        }
        self.bars();
        self.gaps();
        self.overlaps();
        self.svg.push_str("</svg>\n");
    }

    /// Of each machine what befalls it, by number, with words that do not cover each other.
    fn place_words(&self) -> Vec<Vec<(usize, Words)>> {
        let mut all: Vec<Vec<(usize, Words)>> =
            (0..self.script.machines()).map(|_| Vec::new()).collect();
        let mut ends: Vec<Vec<f64>> = vec![Vec::new(); all.len()];
        for (number, happened) in self.run.happened.iter().enumerate() {
            let x = self.x(happened.at);
            for name in &happened.machines {
                let machine =
                    (0..self.script.machines()).find(|&one| self.script.machine(one) == name);
                let Some(machine) = machine else { continue };
                let length = LETTER * happened.text.chars().count() as f64 + 8.0;
                // Near the end the words stand before, not behind.
                let x = x.min(LEFT + WIDTH - length);
                let ends = &mut ends[machine];
                let free = ends.iter().position(|end| *end <= x);
                // Where three lines are full, the tip has to do.
                let (line, text) = match free {
                    Some(line) => (line, happened.text.clone()),
                    None if ends.len() < 3 => {
                        ends.push(0.0);
                        (ends.len() - 1, happened.text.clone())
                    }
                    None => (2, String::new()),
                };
                if !text.is_empty() {
                    ends[line] = x + length;
                }
                all[machine].push((number, Words { line, text }));
            }
        }
        all
    }

    fn heading(&mut self) {
        let title = match &self.script.about {
            Some(about) => format!("{}: {about}", self.script.name),
            None => self.script.name.clone(),
        };
        let _ = writeln!(
            self.svg,
            "<text x=\"10\" y=\"22\" font-size=\"15\" font-weight=\"bold\">{}</text>\n\
             <text x=\"10\" y=\"40\" fill=\"#555555\">seed {}; times count from when every VIP was held</text>",
            escape(&title),
            self.run.seed
        );
        let mut x = 10.0;
        let vips = self.run.vips.iter().take(12).enumerate();
        let mut entries: Vec<(String, String)> = vips
            .map(|(number, vip)| {
                (COLOURS[number % COLOURS.len()].to_owned(), format!("{} answers", vip.vip))
            })
            .collect();
        for (colour, text) in [
            ("#f2d7a8", "something is wrong"),
            ("#33343a", "the client gets no answer"),
            ("#d60000", "two hosts answer"),
        ] {
            entries.push((colour.into(), text.into()));
        }
        for (colour, text) in entries {
            let _ = writeln!(
                self.svg,
                "<rect x=\"{x:.0}\" y=\"52\" width=\"11\" height=\"11\" fill=\"{colour}\"/>\
                 <text x=\"{:.0}\" y=\"62\">{}</text>",
                x + 15.0,
                escape(&text)
            );
            x += 32.0 + 5.8 * text.chars().count() as f64;
        }
    }

    fn axis(&mut self, bottom: f64) {
        let secs = self.run.lasts.as_secs_f64();
        let steps = [0.01, 0.1, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 300.0, 1_200.0, 3_600.0];
        let step = steps.into_iter().find(|step| secs / step <= 15.0).unwrap_or(36_000.0);
        for number in 0..=(secs / step) as u32 {
            let at = Duration::from_secs_f64(step * f64::from(number));
            let x = self.x(at);
            let _ = writeln!(
                self.svg,
                "<path d=\"M{x:.1} {:.0}V{bottom:.0}\" stroke=\"#dddddd\"/>\
                 <text x=\"{x:.1}\" y=\"{:.0}\" text-anchor=\"middle\" fill=\"#666666\">{}</text>",
                TOP - 4.0,
                bottom + 10.0,
                human(at)
            );
        }
    }

    fn fault(&self, machine: usize, happened: &Happened) -> String {
        let lane = &self.lanes[machine + 1];
        let ends = happened.lasts.map_or(self.run.lasts, |lasts| happened.at + lasts);
        let (from, to) = (self.x(happened.at), self.x(ends));
        format!(
            "<rect x=\"{from:.1}\" y=\"{:.0}\" width=\"{:.1}\" height=\"{:.0}\" fill=\"#f2b84b\" \
             fill-opacity=\"0.38\"><title>{}</title></rect>\n",
            lane.top,
            (to - from).max(2.0),
            lane.height,
            escape(&happened.said())
        )
    }

    fn words(&self, machine: usize, happened: &Happened, words: &Words) -> String {
        if words.text.is_empty() {
            return String::new();
        }
        let length = LETTER * words.text.chars().count() as f64 + 8.0;
        format!(
            "<text x=\"{:.1}\" y=\"{:.0}\" font-size=\"10\" fill=\"#6b4700\">{}</text>\n",
            self.x(happened.at).min(LEFT + WIDTH - length) + 3.0,
            self.lanes[machine + 1].top + TEXT * words.line as f64 + 10.0,
            escape(&words.text)
        )
    }

    fn bars(&mut self) {
        for (number, vip) in self.run.vips.iter().enumerate() {
            let row = (number % self.rows()) as f64;
            for span in &vip.spans {
                let machine = self.script.hosts.iter().position(|host| host.name == span.host);
                let Some(lane) = machine.map(|machine| &self.lanes[machine + 1]) else { continue };
                let (from, to) = (self.x(span.from), self.x(span.to));
                let _ = writeln!(
                    self.svg,
                    "<rect x=\"{from:.1}\" y=\"{:.0}\" width=\"{:.1}\" height=\"{:.0}\" rx=\"2\" fill=\"{}\">\
                     <title>{} on {} from {} to {}</title></rect>",
                    lane.bars + BAR * row,
                    (to - from).max(0.8),
                    BAR - 2.0,
                    COLOURS[number % COLOURS.len()],
                    escape(&vip.vip),
                    escape(&span.host),
                    millis(span.from),
                    millis(span.to),
                );
            }
        }
    }

    fn gaps(&mut self) {
        let lane = &self.lanes[0];
        for (number, vip) in self.run.vips.iter().enumerate() {
            let y = lane.bars + BAR * (number % self.rows()) as f64;
            for gap in &vip.gaps {
                let (from, to) = (self.x(gap.from), self.x(gap.to));
                let text = millis(gap.length());
                let _ = writeln!(
                    self.svg,
                    "<rect x=\"{from:.1}\" y=\"{y:.0}\" width=\"{:.1}\" height=\"{:.0}\" fill=\"#33343a\">\
                     <title>{}: no answer for {text} from {}</title></rect>",
                    (to - from).max(1.0),
                    BAR - 2.0,
                    escape(&vip.vip),
                    millis(gap.from),
                );
                if gap.length() > self.run.lasts / 200 {
                    let _ = writeln!(
                        self.svg,
                        "<text x=\"{:.1}\" y=\"{:.0}\" font-size=\"10\">{text}</text>",
                        to + 3.0,
                        y + 9.0
                    );
                }
            }
        }
    }

    fn overlaps(&mut self) {
        let (Some(first), Some(last)) = (self.lanes.first(), self.lanes.last()) else { return };
        let (top, bottom) = (first.top, last.top + last.height);
        for vip in &self.run.vips {
            for overlap in &vip.overlaps {
                let Interval { from, to } = *overlap;
                let (left, right) = (self.x(from), self.x(to));
                let text = millis(overlap.length());
                let _ = writeln!(
                    self.svg,
                    "<rect x=\"{left:.1}\" y=\"{top:.0}\" width=\"{:.1}\" height=\"{:.0}\" fill=\"#d60000\" \
                     fill-opacity=\"0.3\"><title>{} on two hosts for {text}</title></rect>\
                     <text x=\"{left:.1}\" y=\"{:.0}\" font-size=\"10\" fill=\"#d60000\">{text}</text>",
                    (right - left).max(2.0),
                    bottom - top,
                    escape(&vip.vip),
                    top - 3.0,
                );
            }
        }
    }
}

/// A time to the ms, and finer below one.
fn millis(time: Duration) -> String {
    match time.as_millis() {
        0 => human(time),
        millis => human(Duration::from_millis(millis as u64)),
    }
}
