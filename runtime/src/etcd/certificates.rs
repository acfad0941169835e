//! When certificates end: this client's, the servers', and those of the authorities that signed them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use turnip_core::text::shown;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// A certificate, as far as its end goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Certificate {
    subject: String,
    /// Names as they are compared: byte by byte.
    subject_der: Vec<u8>,
    issuer_der: Vec<u8>,
    ends_unix: i64,
}

impl Certificate {
    /// Reads one; absent when it is none.
    pub(super) fn parse(der: &[u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        Some(Certificate {
            subject: parsed.subject().to_string(),
            subject_der: parsed.subject().as_raw().to_vec(),
            issuer_der: parsed.issuer().as_raw().to_vec(),
            ends_unix: parsed.validity().not_after.timestamp(),
        })
    }

    pub(super) fn ends_unix(&self) -> i64 {
        self.ends_unix
    }
}

/// Whose certificate it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whose {
    /// This client's, in this file.
    Client(PathBuf),
    /// That which etcd showed at this endpoint.
    Server(String),
    /// That of an authority, in this file, which signed one of the others.
    Authority(PathBuf),
}

/// A certificate and when it ends.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct CertificateEnd {
    /// Whose it is.
    pub whose: Whose,
    /// The name in it.
    pub subject: String,
    /// Until when it is valid, in seconds since 1970.
    pub ends_unix: i64,
}

/// How near the end of a certificate is; the nearest last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Near {
    /// 30 days or less.
    Month,
    /// 7 days or less.
    Week,
    /// A day or less.
    Day,
    /// It is over.
    Over,
}

impl CertificateEnd {
    /// How near its end is, when it is near.
    pub fn near(&self, now_unix: i64) -> Option<Near> {
        match self.ends_unix.saturating_sub(now_unix) {
            ..=0 => Some(Near::Over),
            left if left <= DAY => Some(Near::Day),
            left if left <= 7 * DAY => Some(Near::Week),
            left if left <= 30 * DAY => Some(Near::Month),
            _ => None,
        }
    }

    /// Whose it is, and when it ends.
    pub fn in_words(&self, now_unix: i64) -> String {
        // A server may write into its certificate what it likes.
        let subject = shown(&self.subject);
        let whose = match &self.whose {
            Whose::Client(file) => {
                format!("this client's certificate {} ({subject})", file.display())
            }
            Whose::Server(url) => format!("the certificate of etcd at {url} ({subject})"),
            Whose::Authority(file) => {
                format!("the certificate of the authority {subject} in {}", file.display())
            }
        };
        let left = self.ends_unix.saturating_sub(now_unix);
        let on = ASN1Time::from_timestamp(self.ends_unix).map(|time| time.to_string());
        let on = on.unwrap_or_else(|_| format!("{} s after 1970", self.ends_unix));
        match left {
            ..=0 => format!("{whose} ended {} ago, on {on}", span(-left)),
            _ => format!("{whose} ends in {}, on {on}", span(left)),
        }
    }

    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self.whose {
            Whose::Client(_) => "renew it in its place: turnip reads the file again by itself",
            Whose::Server(_) => {
                "renew it on that member: etcd shows a renewed one without a restart"
            }
            Whose::Authority(_) => {
                "write its successor into the same file, beside it, before certificates are signed by that: turnip reads the file again by itself"
            }
        }
    }
}

/// The ends of all certificates that are in use: those of `client`, of `servers` by their endpoints, and of
/// those of `authorities` that signed one of these. Of a chain it is the one that ends first.
pub(super) fn ends(
    client: Option<(&Path, &[Certificate])>,
    authorities: Option<(&Path, &[Certificate])>,
    servers: &[(String, Vec<Certificate>)],
) -> Vec<CertificateEnd> {
    let of_chain = |whose: Whose, chain: &[Certificate]| {
        let first = chain.iter().min_by_key(|certificate| certificate.ends_unix)?;
        Some(end(whose, first))
    };
    let mut all: Vec<CertificateEnd> = client
        .and_then(|(file, chain)| of_chain(Whose::Client(file.to_owned()), chain))
        .into_iter()
        .collect();
    let of_servers = servers.iter();
    all.extend(of_servers.filter_map(|(url, chain)| of_chain(Whose::Server(url.clone()), chain)));
    let chains = servers.iter().flat_map(|(_, chain)| chain);
    let issuers: Vec<&[u8]> = chains
        .chain(client.iter().flat_map(|(_, chain)| *chain))
        .map(|certificate| certificate.issuer_der.as_slice())
        .collect();
    // While an authority is renewed both of its certificates are in the file, and either will do.
    let mut latest: BTreeMap<&[u8], CertificateEnd> = BTreeMap::new();
    for (file, authority) in
        authorities.iter().flat_map(|(file, all)| all.iter().map(|one| (*file, one)))
    {
        if issuers.contains(&authority.subject_der.as_slice()) {
            let end = end(Whose::Authority(file.to_owned()), authority);
            let known = latest.entry(&authority.subject_der).or_insert_with(|| end.clone());
            if known.ends_unix < end.ends_unix {
                *known = end;
            }
        }
    }
    all.extend(latest.into_values());
    all
}

fn end(whose: Whose, of: &Certificate) -> CertificateEnd {
    CertificateEnd { whose, subject: of.subject.clone(), ends_unix: of.ends_unix }
}

/// Which ends have been warned of. Each is, 30 days before, 7, a day, and when it is over.
#[derive(Default)]
pub struct Warnings(BTreeMap<CertificateEnd, Near>);

impl Warnings {
    /// The ends to be warned of now.
    pub fn due(&mut self, ends: &[CertificateEnd], now_unix: i64) -> Vec<(Near, CertificateEnd)> {
        self.0.retain(|known, _| ends.contains(known));
        let mut due = Vec::new();
        for end in ends {
            let Some(near) = end.near(now_unix) else { continue };
            if self.0.get(end).is_none_or(|told| *told < near) {
                self.0.insert(end.clone(), near);
                due.push((near, end.clone()));
            }
        }
        due
    }
}

fn span(seconds: i64) -> String {
    let (count, unit) = match seconds {
        ..=7_199 => (seconds / 60, "min"),
        7_200..=172_799 => (seconds / HOUR, "h"),
        _ => (seconds / DAY, "days"),
    };
    format!("{count} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(subject: &str, issuer: &str, ends_unix: i64) -> Certificate {
        Certificate {
            subject: format!("CN={subject}"),
            subject_der: subject.into(),
            issuer_der: issuer.into(),
            ends_unix,
        }
    }

    fn server(ends_unix: i64) -> CertificateEnd {
        CertificateEnd {
            whose: Whose::Server("https://e:2379".into()),
            subject: "CN=e".into(),
            ends_unix,
        }
    }

    #[test]
    fn an_end_is_warned_of_once_30_days_7_days_and_a_day_before_and_when_it_is_over() {
        let mut warnings = Warnings::default();
        let end = [server(100 * DAY)];
        let mut told = Vec::new();
        for hour in 0..=101 * 24 {
            told.extend(warnings.due(&end, hour * HOUR).into_iter().map(|(near, _)| (hour, near)));
        }
        let wanted = [(70, Near::Month), (93, Near::Week), (99, Near::Day), (100, Near::Over)];
        assert_eq!(told, wanted.map(|(day, near)| (day * 24, near)));
    }

    #[test]
    fn who_starts_late_is_told_of_the_nearest_only_and_a_renewed_certificate_is_another() {
        let mut warnings = Warnings::default();
        assert_eq!(warnings.due(&[server(3 * DAY)], 0), [(Near::Week, server(3 * DAY))]);
        assert!(warnings.due(&[server(200 * DAY)], 0).is_empty());
        assert_eq!(warnings.due(&[server(2 * DAY)], 0).len(), 1);
    }

    #[test]
    fn of_authorities_those_count_that_signed_something_and_of_one_name_the_last() {
        let ca = |name: &str, ends| certificate(name, name, ends);
        let authorities = [ca("old", 5), ca("old", 50), ca("unused", 1)];
        let client = [certificate("client", "old", 20)];
        let servers = [(
            "https://e:2379".to_owned(),
            vec![certificate("s", "mid", 30), certificate("mid", "root", 9)],
        )];
        let found = ends(
            Some((Path::new("c.pem"), &client)),
            Some((Path::new("ca.pem"), &authorities)),
            &servers,
        );
        let shown: Vec<_> = found.iter().map(|end| (&*end.subject, end.ends_unix)).collect();
        assert_eq!(shown, [("CN=client", 20), ("CN=mid", 9), ("CN=old", 50)]);
    }

    #[test]
    fn an_end_is_said_with_whose_when_and_what_to_do() {
        let text = server(6 * DAY).in_words(HOUR);
        assert!(text.contains("https://e:2379 (CN=e) ends in 5 days, on "), "{text}");
        let text = server(HOUR).in_words(4 * HOUR);
        assert!(text.contains("ended 3 h ago"), "{text}");
        let mut client = server(90);
        client.whose = Whose::Client("c.pem".into());
        client.subject = "CN=a's\u{1b}[2J\nb".into();
        let text = client.in_words(0);
        assert!(text.contains("c.pem (CN=a's") && text.contains("in 1 min"), "{text}");
        assert!(!text.contains(['\u{1b}', '\n']), "{text:?}");
    }
}
