//! The table `[etcd]`.

use std::fs::File;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::args::Variables;
use super::problem::{Collector, Place, Problem};
use super::section::{Given, Section};
use crate::etcd::{EtcdSettings, Secret, TlsSettings};

/// Where etcd is when nobody says.
pub const ENDPOINT_DEFAULT: &str = "http://127.0.0.1:2379";

/// Reads the table; absent only when something is wrong.
pub(super) fn read(
    mut section: Section,
    variables: &Variables,
    problems: &mut Collector,
) -> Option<EtcdSettings> {
    let endpoints = endpoints(&mut section, problems);
    let local = local(&mut section, endpoints.as_deref(), problems);
    let secure = endpoints.iter().flatten().any(|endpoint| endpoint.starts_with("https:"));
    let tls = tls(&mut section, secure, problems);
    let user = user(&mut section, variables, problems);
    section.finish(problems);
    Some(EtcdSettings { endpoints: endpoints?, local, tls, user })
}

fn endpoints(section: &mut Section, problems: &mut Collector) -> Option<Vec<String>> {
    let Some(given) = section.take("endpoints") else {
        return Some(vec![ENDPOINT_DEFAULT.into()]);
    };
    let items = match given.as_list() {
        Ok(items) => items,
        Err(what) => {
            section.refuse("endpoints", &given, what, problems);
            return None;
        }
    };
    if items.is_empty() {
        let what = format!("empty; write at least one, as in [{ENDPOINT_DEFAULT:?}]");
        section.refuse("endpoints", &given, what, problems);
        return None;
    }
    let mut endpoints: Vec<String> = Vec::new();
    let mut sound = true;
    for item in &items {
        match endpoint(item) {
            Ok(endpoint) if endpoints.contains(&endpoint) => {
                sound = false;
                section.refuse("endpoints", item, "given twice", problems);
            }
            Ok(endpoint) => endpoints.push(endpoint),
            Err(what) => {
                sound = false;
                refuse_endpoint("etcd.endpoints", item, what, problems);
            }
        }
    }
    let secure = endpoints.iter().filter(|endpoint| endpoint.starts_with("https:")).count();
    if secure != 0 && secure != endpoints.len() {
        sound = false;
        let what = "some with and some without TLS; write all as https:// or all as http://";
        section.refuse("endpoints", &given, what, problems);
    }
    sound.then_some(endpoints)
}

fn local(
    section: &mut Section,
    endpoints: Option<&[String]>,
    problems: &mut Collector,
) -> Option<String> {
    let Some(given) = section.take("local") else {
        return endpoints?.iter().find(|endpoint| is_loopback(endpoint)).cloned();
    };
    match endpoint(&given) {
        Ok(local) => {
            let scheme = |url: &str| url.split("://").next().map(str::to_owned);
            if endpoints.is_some_and(|all| all.iter().any(|other| scheme(other) != scheme(&local)))
            {
                let what = "with TLS where the endpoints have none, or the other way round";
                section.refuse("local", &given, what, problems);
            }
            Some(local)
        }
        Err(what) => {
            refuse_endpoint("etcd.local", &given, what, problems);
            None
        }
    }
}

fn refuse_endpoint(key: &str, given: &Given, what: String, problems: &mut Collector) {
    problems.add(Problem::new(given.place.clone(), key, Some(given.shown()), what));
}

fn endpoint(given: &Given) -> Result<String, String> {
    let text = given.as_text()?.trim();
    let example = |host: &str| format!("write it as in \"http://{host}:2379\"");
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(match without_brackets(text) {
            Some(meant) => format!("not a URL; write it as in \"http://{meant}\""),
            None => format!("not a URL; {}", example(host_of(text).unwrap_or("127.0.0.1"))),
        });
    };
    if scheme != "http" && scheme != "https" {
        return Err(format!("a URL of another kind; {} or https://", example("127.0.0.1")));
    }
    if rest.contains('@') {
        return Err("a user in the URL; give `user` and `password_file` instead".into());
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        return Err(format!("a URL with a path; {}", example("127.0.0.1")));
    }
    if let Some(meant) = without_brackets(authority) {
        return Err(format!("an IPv6 address without brackets; write \"{scheme}://{meant}\""));
    }
    let host = host_of(authority)
        .ok_or_else(|| format!("a URL without a host; {}", example("127.0.0.1")))?;
    let port = authority.strip_prefix(host).and_then(|port| port.strip_prefix(':'));
    let right = format!("write \"{scheme}://{host}:2379\"");
    match port.map(|port| (port, port.parse::<u16>())) {
        Some((_, Ok(1..))) => Ok(format!("{scheme}://{authority}")),
        None | Some(("", _)) => Err(format!("a URL without a port; {right}")),
        Some((port, _)) if port.chars().all(|c| c.is_ascii_digit()) => {
            Err(format!("there is no port {port}, but 1 to 65535; {right}"))
        }
        Some((port, _)) => {
            Err(format!("{port:?} is no port, a number from 1 to 65535 is; {right}"))
        }
    }
}

/// What was meant by an IPv6 address without brackets: its last group may be a port.
fn without_brackets(authority: &str) -> Option<String> {
    let is_ip = |text: &str| text.parse::<std::net::Ipv6Addr>().is_ok();
    let (head, last) = authority.rsplit_once(':')?;
    // Four digits, and one more: such ports are there, and such groups seldom.
    let is_port = last.len() >= 4 && last.parse::<u16>().is_ok();
    match (is_ip(head) && is_port, is_ip(authority)) {
        (true, _) => Some(format!("[{head}]:{last}")),
        (false, true) => Some(format!("[{authority}]:2379")),
        (false, false) => None,
    }
}

/// The host of `host:port`, with the brackets of an IPv6 address.
fn host_of(authority: &str) -> Option<&str> {
    let end = match authority.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']')?;
            rest[..end].parse::<std::net::Ipv6Addr>().ok()?;
            end + 2
        }
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let host = &authority[..end];
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    (!host.is_empty() && (host.starts_with('[') || host.chars().all(plain))).then_some(host)
}

/// The address in an endpoint; none when there is a name in it.
pub(super) fn address_of(endpoint: &str) -> Option<IpAddr> {
    let (_, authority) = endpoint.split_once("://")?;
    host_of(authority)?.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Whether an endpoint is on this host for certain.
pub fn is_loopback(endpoint: &str) -> bool {
    let authority = endpoint.split_once("://").map_or(endpoint, |(_, authority)| authority);
    let Some(host) = host_of(authority) else { return false };
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

fn tls(section: &mut Section, secure: bool, problems: &mut Collector) -> TlsSettings {
    let mut used = Vec::new();
    let mut file = |key: &'static str, begins: &str| {
        let given = section.take(key)?;
        let read =
            given.as_text().map(PathBuf::from).and_then(|path| pem(&path, begins).map(|()| path));
        if let Err(what) = &read {
            section.refuse(key, &given, what, problems);
        }
        used.push((key, given));
        read.ok()
    };
    let ca_file = file("ca", "CERTIFICATE");
    let cert = file("cert", "CERTIFICATE");
    let key = file("key", "PRIVATE KEY");
    let server_name = section.take("server_name");
    used.extend(server_name.clone().map(|given| ("server_name", given)));
    let given = |key: &str| used.iter().find(|(name, _)| *name == key).map(|(_, given)| given);
    for (one, other) in [("cert", "key"), ("key", "cert")] {
        if let (Some(one_given), None) = (given(one), given(other)) {
            let what = format!("alone; mutual TLS needs `{other}` as well");
            section.refuse(one, one_given, what, problems);
        }
    }
    if !secure {
        for (key, given) in &used {
            let what = "of no use without TLS; write the endpoints as https://";
            section.refuse(key, given, what, problems);
        }
    }
    let server_name = server_name.and_then(|given| match given.as_text() {
        Ok(name) if host_of(name) == Some(name) => Some(name.to_owned()),
        _ => {
            let what = "not a host's name; write the one in etcd's certificate";
            section.refuse("server_name", &given, what, problems);
            None
        }
    });
    TlsSettings { ca_file, client: cert.zip(key), server_name }
}

/// Whether the file can be read and is PEM of the right kind.
fn pem(path: &Path, kind: &str) -> Result<(), String> {
    let text = read_file(path)?;
    if text.contains("-----BEGIN ") && text.contains(&format!("{kind}-----")) {
        Ok(())
    } else {
        Err(format!("a file without a {} in PEM form", kind.to_lowercase()))
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    // Bounded, so that a wrong path to something endless is an error too.
    File::open(path)
        .and_then(|file| file.take(1 << 20).read_to_end(&mut bytes))
        .map_err(|error| format!("a file that cannot be read: {error}"))?;
    String::from_utf8(bytes).map_err(|_| "a file that is not text".into())
}

fn user(
    section: &mut Section,
    variables: &Variables,
    problems: &mut Collector,
) -> Option<(String, Secret)> {
    if let Some(given) = section.take("password") {
        let what = "a password does not belong in this file, which others read and copy; write it to a file of its own and name that as `password_file`, or give it as TURNIP_ETCD_PASSWORD";
        problems.add(Problem::new(given.place, "etcd.password", None, what));
    }
    let user_given = section.take("user");
    let user = user_given.as_ref().and_then(|given| match given.as_text() {
        Ok(user) if !user.is_empty() && !user.contains(':') => Some(user.to_owned()),
        Ok(_) => {
            let what = "not a user; write the name alone, and the password as `password_file`";
            // What follows a colon may be a password.
            problems.add(Problem::new(given.place.clone(), "etcd.user", None, what));
            None
        }
        Err(what) => {
            section.refuse("user", given, what, problems);
            None
        }
    });
    let file_given = section.take("password_file");
    let from_file = file_given.as_ref().and_then(|given| {
        let read = given.as_text().and_then(|path| Secret::read(Path::new(path)));
        match read {
            Ok(secret) => Some(secret),
            Err(what) => {
                section.refuse("password_file", given, what, problems);
                None
            }
        }
    });
    // A flag beats the variable, the variable beats the file's key.
    let by_flag = matches!(file_given.as_ref().map(|given| &given.place), Some(Place::Flag(_)));
    let password = match (variables.password.clone(), from_file) {
        (Some(variable), Some(file)) => Some(if by_flag { file } else { variable }),
        (variable, file) => variable.or(file),
    };
    if let (Some(given), None, None) = (&user_given, &password, &file_given) {
        let what = "a user without a password; give `password_file` or TURNIP_ETCD_PASSWORD";
        section.refuse("user", given, what, problems);
    }
    if user_given.is_none() && password.is_some() {
        let place = match file_given {
            Some(given) => given.place,
            None => Place::Variable("TURNIP_ETCD_PASSWORD".into()),
        };
        let what = "a password without a user; give `user` or TURNIP_ETCD_USER as well";
        problems.add(Problem::new(place, "etcd.user", None, what));
    }
    user.zip(password)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String, String> {
        endpoint(&Given::text(Place::Default, text.into()))
    }

    #[test]
    fn an_endpoint_is_a_url_with_host_and_port() {
        for text in
            ["http://127.0.0.1:2379", "https://etcd-1.example:2379", "http://[fd00::1]:2379"]
        {
            assert_eq!(parsed(text).as_deref(), Ok(text));
        }
        assert_eq!(parsed("http://a:1/").as_deref(), Ok("http://a:1"));
    }

    #[test]
    fn a_bad_endpoint_is_told_what_would_be_right() {
        for (text, right) in [
            ("10.0.0.1:2379", "http://10.0.0.1:2379"),
            ("10.0.0.1", "http://10.0.0.1:2379"),
            ("http://10.0.0.1", "http://10.0.0.1:2379"),
            ("https://etcd", "https://etcd:2379"),
            ("http://etcd:0", "http://etcd:2379"),
            ("http://etcd:70000", "http://etcd:2379"),
            ("ftp://etcd:2379", "http://"),
            ("http://etcd:2379/v3", "a path"),
            ("http://:2379", "without a host"),
            ("http://root:pw@etcd:2379", "password_file"),
            ("http://[fd00::1:2379", "without a host"),
            ("http://fd99::1:2379", "without brackets; write \"http://[fd99::1]:2379\""),
            ("fd99::1", "not a URL; write it as in \"http://[fd99::1]:2379\""),
            ("https://fd99::1", "write \"https://[fd99::1]:2379\""),
            ("http://fd99:0:0:0:0:0:0:1:12379", "write \"http://[fd99:0:0:0:0:0:0:1]:12379\""),
            ("http://[fd00::1]", "without a port; write \"http://[fd00::1]:2379\""),
            ("http://etcd:0", "there is no port 0, but 1 to 65535"),
            ("http://etcd:99999", "there is no port 99999, but 1 to 65535"),
            ("http://etcd:port", "\"port\" is no port"),
            ("http://etcd:", "without a port"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(right), "{text}: {error}");
        }
    }

    #[test]
    fn loopback_has_several_spellings() {
        for text in ["http://127.0.0.1:2379", "http://localhost:2379", "https://[::1]:2379"] {
            assert!(is_loopback(text), "{text}");
        }
        assert!(!is_loopback("http://10.0.0.1:2379"));
    }
}
