//! Ends of certificates, before they come: in the log, in `turnip status`, in `turnip check`.

use std::convert::Infallible;
use std::time::{Duration, SystemTime};

use turnip::etcd::Etcd;
use turnip::etcd::certificates::{CertificateEnd, Near, Warnings};
use turnip::metrics::Outside;

use super::check::Findings;
use super::local::Notes;

/// How often it is looked how near the ends are: as good as at once for whoever puts a file there.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(10);

/// Warns in the log of each end, 30, 7 and one day before and when it is over; never ends.
pub async fn warn(etcd: &Etcd, notes: &Notes, outside: &Outside) -> Infallible {
    let mut warnings = Warnings::default();
    loop {
        let ends = etcd.certificate_ends();
        let now = now_unix();
        for (near, end) in warnings.due(&ends, now) {
            let text = format!("{}; {}", end.in_words(now), end.remedy());
            match near {
                Near::Month | Near::Week => tracing::warn!("{text}"),
                Near::Day | Near::Over => tracing::error!("{text}"),
            }
        }
        outside.set_certificates(ends.clone());
        notes.certificates(ends);
        tokio::time::sleep(LOOKED_AT_EVERY).await;
    }
}

/// The ends that are near, one a line.
pub fn near<'a>(ends: impl IntoIterator<Item = &'a CertificateEnd>) -> String {
    let now = now_unix();
    let mut lines: Vec<String> = ends
        .into_iter()
        .filter(|end| end.near(now).is_some())
        .map(|end| format!("{}; {}\n", end.in_words(now), end.remedy()))
        .collect();
    lines.sort();
    lines.dedup();
    lines.concat()
}

/// All ends, for `turnip check`.
pub fn check(etcd: &Etcd, findings: &mut Findings) {
    let now = now_unix();
    for end in etcd.certificate_ends() {
        let text = end.in_words(now);
        let remedy = end.remedy();
        match end.near(now) {
            None => findings.ok("certificates", text),
            Some(Near::Month | Near::Week) => {
                findings.warning("certificates", format!("{text}; {remedy}"));
            }
            Some(Near::Day | Near::Over) => {
                findings.error("certificates", format!("{text}; {remedy}"));
            }
        }
    }
}

fn now_unix() -> i64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_secs().cast_signed())
}
