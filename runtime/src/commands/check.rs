//! `turnip check`: what works, what does not, and what to do about it.

mod addresses;
mod etcd;
mod host;
mod neighbours;
mod peers;

use std::process::ExitCode;

use turnip::config::{Config, Reach, Sources};

use super::cluster::block_on;
use super::{FAILED, OK, USAGE, fail, print};

/// What was found out, line by line.
#[derive(Default)]
pub struct Findings {
    lines: Vec<(Grade, String, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Grade {
    Ok,
    Warning,
    Error,
}

impl Findings {
    fn add(&mut self, grade: Grade, subject: &str, what: String) {
        self.lines.push((grade, subject.to_owned(), what));
    }

    /// Something works.
    pub fn ok(&mut self, subject: impl Into<String>, what: impl Into<String>) {
        self.lines.push((Grade::Ok, subject.into(), what.into()));
    }

    /// Something will be a problem later. `what` says what to do.
    pub fn warning(&mut self, subject: impl Into<String>, what: impl Into<String>) {
        self.lines.push((Grade::Warning, subject.into(), what.into()));
    }

    /// Something does not work. `what` says what to do.
    pub fn error(&mut self, subject: impl Into<String>, what: impl Into<String>) {
        self.lines.push((Grade::Error, subject.into(), what.into()));
    }

    fn worst(&self) -> Grade {
        self.lines.iter().map(|(grade, ..)| *grade).max().unwrap_or(Grade::Ok)
    }

    fn render(&self) -> String {
        let width = self.lines.iter().map(|(_, subject, _)| subject.chars().count()).max();
        let width = width.unwrap_or(0);
        let mut text = String::new();
        for (grade, subject, what) in &self.lines {
            let grade = match grade {
                Grade::Ok => "ok",
                Grade::Warning => "warning",
                Grade::Error => "error",
            };
            text += &format!("{grade:7}  {subject:width$}  {what}\n");
        }
        text
    }
}

/// Checks configuration, host and etcd. A wrong configuration does not keep it from checking
/// etcd, as far as that part of the configuration is right.
pub fn check(sources: &Sources) -> ExitCode {
    let mut findings = Findings::default();
    let config = match Config::load(sources) {
        Ok(config) => {
            configuration(&config, &mut findings);
            Some(config)
        }
        Err(problems) => {
            for problem in problems.iter() {
                findings.error("configuration", problem.to_string());
            }
            None
        }
    };
    let reach = match &config {
        Some(config) => Some(config.reach.clone()),
        None => Reach::load(sources).ok(),
    };
    let checks = async {
        host::check(config.as_ref(), &mut findings).await;
        if let Some(reach) = reach {
            etcd::check(&reach, config.as_ref(), &mut findings).await;
        }
        if let Some(config) = &config {
            addresses::check(config, &mut findings).await;
            peers::check(config, &mut findings).await;
            neighbours::check(&host::with_own_names(config), &mut findings).await;
        }
    };
    if let Err(why) = block_on(checks) {
        return fail(FAILED, why);
    }
    print(&findings.render());
    ExitCode::from(match (findings.worst(), config) {
        (Grade::Error, None) => USAGE,
        (Grade::Error, Some(_)) => FAILED,
        _ => OK,
    })
}

fn configuration(config: &Config, findings: &mut Findings) {
    let from = match &config.reach.file {
        Some(file) => file.display().to_string(),
        None => "from the environment".into(),
    };
    let vips = match config.vips.len() {
        1 => "1 VIP".to_owned(),
        many => format!("{many} VIPs"),
    };
    let what = format!(
        "{from}: {vips}, this is the node {} of the cluster {}, lease {:?}",
        config.node,
        config.reach.cluster,
        config.lease.duration()
    );
    findings.ok("configuration", what);
    for notice in &config.reach.notices {
        findings.warning("configuration", notice);
    }
}
