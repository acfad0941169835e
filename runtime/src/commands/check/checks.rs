//! Each check of what stands behind the VIPs, tried once.

use std::time::Instant;

use futures::future::join_all;
use turnip::checks::{self, Check};
use turnip::config::Config;
use turnip_core::text::shown;

use super::Findings;

/// Tries all of them, side by side.
pub async fn check(config: &Config, findings: &mut Findings) {
    let try_one = async |check: &Check| {
        let begun = Instant::now();
        let result = checks::try_once(check).await;
        (check.clone(), result, begun.elapsed())
    };
    for (check, result, took) in join_all(config.checks.iter().map(try_one)).await {
        let subject = format!("check {}", check.config.name);
        let kind = check.kind.as_str();
        match (result, check.config.weight) {
            (Ok(()), _) => findings.ok(subject, format!("{kind} passes, in {took:.1?}")),
            (Err(why), None) => {
                let what = format!(
                    "{kind} fails: {}; {} is not held here where another host can have it",
                    shown(&why),
                    vips(config, &check),
                );
                findings.error(subject, what);
            }
            (Err(why), Some(weight)) => {
                let what = format!("{kind} fails: {}; its weight is {weight}", shown(&why));
                findings.warning(subject, what);
            }
        }
    }
}

/// What depends on a check.
fn vips(config: &Config, check: &Check) -> String {
    if check.config.whole_node {
        return "everything".into();
    }
    let depends = config.vips.iter().filter(|vip| vip.config.checks.contains(&check.config.name));
    let names: Vec<&str> = depends.map(|vip| vip.config.name.as_str()).collect();
    names.join(", ")
}
