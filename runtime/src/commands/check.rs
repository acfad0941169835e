//! `turnip check`: what works, what does not, and what to do about it.

mod addresses;
mod checks;
mod companions;
mod etcd;
mod followed;
mod hooks;
mod host;
mod hosts;
mod members;
mod neighbours;
mod peers;
mod rights;
mod unit;

use std::process::ExitCode;

use clap::Args;
use turnip::config::{Config, Reach, Sources};

use super::cluster::block_on;
use super::unit::{UNIT_DEFAULT, Unit};
use super::{FAILED, OK, USAGE, fail, print};

/// What its help ends with.
pub const AFTER_HELP: &str = "\
The daemon is given its variables, files and user by its unit. Where no flag and no variable of \
turnip's is given, and turnip.service is there, that is what is checked; else what is given, and \
what the unit gives otherwise is named. Run it as root: it looks at files as the daemon's user \
would.

Exit status: 0 nothing is an error; 1 something is; 2 the configuration is wrong.";

/// What is checked.
#[derive(Args)]
pub struct CheckArgs {
    /// Check what a unit of systemd gives the daemon, and name what differs here
    #[arg(
        long,
        value_name = "UNIT",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = UNIT_DEFAULT
    )]
    unit: Option<String>,
}

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
pub fn check(sources: &Sources, args: &CheckArgs) -> ExitCode {
    let (of_unit, unit) = match unit_to_check(sources, args) {
        Ok(found) => found,
        Err(why) => return fail(USAGE, why),
    };
    let mut findings = Findings::default();
    if let Some(unit) = &unit {
        unit::check(unit, of_unit.is_some(), &mut findings);
    }
    let sources = of_unit.as_ref().unwrap_or(sources);
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
    if let Some(reach) = &reach {
        unit::files(unit.as_ref(), reach, config.as_ref(), &mut findings);
    }
    let checks = async {
        host::check(config.as_ref(), &mut findings).await;
        config.iter().for_each(|config| hooks::check(config, &mut findings));
        if let Some(reach) = reach {
            etcd::check(&reach, config.as_ref(), &mut findings).await;
        }
        if let Some(config) = &config {
            hosts::check(config, &mut findings).await;
            addresses::check(config, &mut findings).await;
            checks::check(config, &mut findings).await;
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

/// The unit that runs the daemon, if there is one; and what it gives, where that is to be checked.
fn unit_to_check(
    sources: &Sources,
    args: &CheckArgs,
) -> Result<(Option<Sources>, Option<Unit>), String> {
    let wanted = args.unit.as_deref();
    let unit = match (wanted, Unit::find(wanted.unwrap_or(UNIT_DEFAULT))) {
        (_, Ok(Some(unit))) => unit,
        (Some(name), Ok(None)) => {
            return Err(format!(
                "there is no unit {name}: write --unit=NAME, or put {UNIT_DEFAULT} into /etc/systemd/system"
            ));
        }
        (Some(_), Err(why)) => return Err(why),
        // Nobody has asked for it.
        (None, _) => return Ok((None, None)),
    };
    let is_checked = wanted.is_some() || sources.is_bare();
    let given = is_checked.then(|| unit.sources()).transpose()?;
    Ok((given, Some(unit)))
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
    hosts::check_name(config, findings);
    for notice in &config.reach.notices {
        findings.warning("configuration", notice);
    }
}
