//! Draws a run: a lane for every host, who answered for which VIP when, what went wrong, who led
//! etcd.

use std::fmt::Write as _;

use crate::drawing::{COLOURS, escape};
use crate::plan::{Fault, Plan, Step, config, words};
use crate::record::Mark;
use crate::run::Outcome;
use crate::time::{S, True};

const LEFT: f64 = 150.0;
const WIDTH: f64 = 1200.0;
const TOP: f64 = 96.0;
const BAR: f64 = 14.0;

struct Drawing<'a> {
    plan: &'a Plan,
    outcome: &'a Outcome,
    svg: String,
    lane: f64,
}

/// How many rows of bars a host has; with more VIPs than that, several share one.
fn rows(plan: &Plan) -> usize {
    plan.params.vips.len().clamp(1, 40)
}

/// The run as an SVG picture.
pub fn svg(plan: &Plan, outcome: &Outcome, title: &str) -> String {
    let lane = 34.0 + BAR * rows(plan) as f64;
    let mut drawing = Drawing { plan, outcome, svg: String::new(), lane };
    drawing.draw(title);
    drawing.svg
}

/// The run as a page for a browser: the picture, what happened, what was wrong.
pub fn html(plan: &Plan, outcome: &Outcome, title: &str) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{0}</title>\n\
         <style>body{{font:15px/1.45 system-ui,sans-serif;margin:2em}}li{{font-family:monospace}}</style>\
         </head><body>\n{1}\n<h2>What went wrong</h2>\n<ul>\n",
        escape(title),
        svg(plan, outcome, title),
    );
    let mut steps = plan.steps.clone();
    steps.sort_by_key(|step| step.at);
    for step in &steps {
        let _ = writeln!(page, "<li>{}</li>", escape(&plan.params.tell_step(step)));
    }
    let verdict = match outcome.failures.as_slice() {
        [] => "Nothing was wrong with the run: no two hosts ever answered at once.".to_owned(),
        failures => failures.iter().map(|f| format!("<p>{}</p>", escape(&f.to_string()))).collect(),
    };
    let _ = write!(page, "</ul>\n<h2>Verdict</h2>\n{verdict}\n</body></html>\n");
    page
}

impl Drawing<'_> {
    fn x(&self, at: True) -> f64 {
        LEFT + WIDTH * at as f64 / self.plan.end_at as f64
    }

    fn y(&self, host: usize) -> f64 {
        TOP + self.lane * host as f64
    }

    fn draw(&mut self, title: &str) {
        let hosts = self.plan.params.hosts;
        let apart = self.plan.params.sites() > hosts;
        let lanes = hosts + usize::from(apart);
        let height = TOP + self.lane * lanes as f64 + 40.0;
        let _ = write!(
            self.svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0} {height:.0}\" \
             font-family=\"system-ui,sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
             <text x=\"10\" y=\"22\" font-size=\"16\" font-weight=\"bold\">{}</text>\n",
            LEFT + WIDTH + 20.0,
            escape(title)
        );
        self.legend();
        for host in 0..hosts {
            self.lane(host, &words::host(host));
        }
        if apart {
            self.lane(hosts, "etcd elsewhere");
        }
        for step in &self.plan.steps {
            self.fault(step);
        }
        self.leaders();
        self.bars();
        self.overlaps();
        self.phases(height);
        self.svg.push_str("</svg>\n");
    }

    fn legend(&mut self) {
        let mut x = 10.0;
        for vip in 0..self.plan.params.vips.len().min(12) {
            let colour = COLOURS[vip % COLOURS.len()];
            let _ = writeln!(
                self.svg,
                "<rect x=\"{x}\" y=\"34\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
                 <text x=\"{}\" y=\"44\">{}</text>",
                x + 16.0,
                words::vip(vip),
            );
            x += 48.0;
        }
        let marks = [
            ("#f2d7a8", "something is wrong there"),
            ("#444444", "its etcd member leads"),
            ("#d60000", "two hosts answer at once"),
        ];
        for (colour, text) in marks {
            let _ = writeln!(
                self.svg,
                "<rect x=\"{x}\" y=\"34\" width=\"12\" height=\"12\" fill=\"{colour}\"/>\
                 <text x=\"{}\" y=\"44\">{text}</text>",
                x + 16.0
            );
            x += 36.0 + 7.0 * text.len() as f64;
        }
    }

    fn lane(&mut self, number: usize, name: &str) {
        let y = self.y(number);
        let _ = writeln!(
            self.svg,
            "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{:.0}\" fill=\"#f5f6f8\"/>\
             <text x=\"10\" y=\"{:.0}\" font-size=\"14\">{name}</text>",
            self.lane - 8.0,
            y + self.lane / 2.0
        );
    }

    fn fault(&mut self, step: &Step) {
        let end = step.ends(self.plan.heal_at.max(step.at)).min(self.plan.end_at);
        let (x, width) = (self.x(step.at), (self.x(end) - self.x(step.at)).max(1.5));
        let text = escape(&self.plan.params.tell_step(step));
        for host in self.hosts_of(&step.fault) {
            let y = self.y(host);
            let _ = writeln!(
                self.svg,
                "<rect x=\"{x:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{:.0}\" \
                 fill=\"#f2b84b\" fill-opacity=\"0.35\"><title>{text}</title></rect>\
                 <text x=\"{:.1}\" y=\"{:.0}\" font-size=\"9\" fill=\"#7a5200\">{}</text>",
                self.lane - 8.0,
                x + 2.0,
                y + 10.0,
                if width > 40.0 {
                    escape(&self.plan.params.tell(&step.fault))
                } else {
                    String::new()
                }
            );
        }
    }

    fn hosts_of(&self, fault: &Fault) -> Vec<usize> {
        let params = &self.plan.params;
        let lane = |site: usize| if site < params.hosts { site } else { params.hosts };
        match fault {
            Fault::Cut { from, to }
            | Fault::Slow { from, to, .. }
            | Fault::CutPeers { from, to }
            | Fault::LossyPeers { from, to, .. }
            | Fault::Lossy { from, to, .. } => {
                vec![lane(*from), lane(*to)]
            }
            Fault::Isolate { site } => vec![lane(*site)],
            Fault::FailCheck { hosts, .. } => hosts.clone(),
            Fault::SplitMembers { side } | Fault::Split { side } => {
                let mut lanes: Vec<usize> = side.iter().map(|&site| lane(site)).collect();
                lanes.dedup();
                lanes
            }
            Fault::CrashMember { member }
            | Fault::PauseMember { member }
            | Fault::SlowDisk { member, .. }
            | Fault::SlowAnswers { member, .. } => vec![lane(params.site_of(*member))],
            Fault::MoveLeader
            | Fault::CrashLeader
            | Fault::FlapLeader { .. }
            | Fault::LoseQuorum
            | Fault::RefuseWrites
            | Fault::BackUpStore
            | Fault::RestoreStore { .. }
            | Fault::Compact => (0..params.hosts).collect(),
            Fault::CutStore { host }
            | Fault::CutEndpoint { host, .. }
            | Fault::CutAnswers { host }
            | Fault::ForgeAcknowledgements { host }
            | Fault::Kill { host }
            | Fault::Freeze { host }
            | Fault::Restart { host }
            | Fault::PowerOff { host }
            | Fault::PauseHost { host }
            | Fault::Drift { host, .. }
            | Fault::WatchLag { host, .. }
            | Fault::SlowNetlink { host, .. }
            | Fault::StuckNetlink { host, .. }
            | Fault::FailingNetlink { host, .. }
            | Fault::StallAdapter { host, .. }
            | Fault::StallAnnouncer { host, .. }
            | Fault::LoseAnnouncements { host, .. }
            | Fault::ClaimAddress { host, .. }
            | Fault::ChangeHardware { host, .. }
            | Fault::Slew { host, .. }
            | Fault::Suspend { host }
            | Fault::ChangeRules { host }
            | Fault::FlushRules { host }
            | Fault::StealAddress { host, .. }
            | Fault::PlantAddress { host, .. }
            | Fault::OwnAddressReturns { host, .. }
            | Fault::Double { host, .. }
            | Fault::RefuseAddress { host, .. }
            | Fault::LinkDown { host, .. }
            | Fault::LinkGone { host, .. }
            | Fault::Reconfigure { host, .. }
            | Fault::Reload { host }
            | Fault::Leave { host }
            | Fault::Drain { host }
            | Fault::Pin { host, .. }
            | Fault::Meddle { host, .. } => vec![*host],
            Fault::Name { host, .. } => host.iter().copied().collect(),
        }
    }

    fn leaders(&mut self) {
        let members = self.plan.params.members();
        let mut since: Vec<Option<True>> = vec![None; members];
        let mut spans = Vec::new();
        for (at, mark) in &self.outcome.marks {
            match *mark {
                Mark::Leads { member, .. } => since[member] = Some(*at),
                Mark::Deposed { member } => {
                    spans.extend(since[member].take().map(|from| (member, from, *at)));
                }
            }
        }
        for (member, since) in since.iter().enumerate() {
            spans.extend(since.map(|from| (member, from, self.plan.end_at)));
        }
        for (member, from, to) in spans {
            let site = self.plan.params.site_of(member);
            let lane = site.min(self.plan.params.hosts);
            let _ = writeln!(
                self.svg,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"4\" fill=\"#444444\">\
                 <title>the member on {} leads</title></rect>",
                self.x(from),
                self.y(lane) + 14.0,
                (self.x(to) - self.x(from)).max(1.0),
                self.plan.params.machine(site),
            );
        }
    }

    fn bars(&mut self) {
        for held in &self.outcome.held {
            let vip = held.address / 2;
            let row = (vip % rows(self.plan)) as f64;
            let _ = writeln!(
                self.svg,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{}\" rx=\"2\" fill=\"{}\">\
                 <title>{} on {} from {:.3} s to {:.3} s</title></rect>",
                self.x(held.from),
                self.y(held.host) + 21.0 + BAR * row,
                (self.x(held.to) - self.x(held.from)).max(0.8),
                BAR - 3.0,
                COLOURS[vip % COLOURS.len()],
                config::net(held.address),
                words::host(held.host),
                held.from as f64 / S as f64,
                held.to as f64 / S as f64,
            );
        }
    }

    fn overlaps(&mut self) {
        for span in &self.outcome.overlaps {
            let _ = writeln!(
                self.svg,
                "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"#d60000\" \
                 fill-opacity=\"0.6\"><title>{} on two hosts for {}</title></rect>",
                self.x(span.from),
                TOP - 12.0,
                (self.x(span.to) - self.x(span.from)).max(2.0),
                self.lane * self.plan.params.hosts as f64 + 8.0,
                config::net(span.address),
                words::time(span.length())
            );
        }
    }

    fn phases(&mut self, height: f64) {
        let phases =
            [(0, "things go wrong"), (self.plan.heal_at, "all heals"), (self.plan.stop_at, "stop")];
        for (at, text) in phases {
            let x = self.x(at);
            let _ = writeln!(
                self.svg,
                "<line x1=\"{x:.1}\" y1=\"{:.0}\" x2=\"{x:.1}\" y2=\"{:.0}\" stroke=\"#888888\" \
                 stroke-dasharray=\"4 3\"/><text x=\"{:.1}\" y=\"{:.0}\">{text}</text>",
                TOP - 24.0,
                height - 28.0,
                x + 3.0,
                TOP - 16.0
            );
        }
        let step = [1, 2, 5, 10, 20, 60, 300, 1200]
            .into_iter()
            .find(|step| self.plan.end_at / S / step <= 20)
            .unwrap_or(3600);
        for second in (0..=self.plan.end_at / S).step_by(step as usize) {
            let _ = writeln!(
                self.svg,
                "<text x=\"{:.1}\" y=\"{:.0}\" fill=\"#666666\">{second} s</text>",
                self.x(second * S),
                height - 12.0
            );
        }
    }
}
