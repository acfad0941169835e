//! Nothing secret is shown: whatever is printed or logged and comes from a configuration, a command line or
//! an environment goes through here. Who writes a password where none belongs is not to find it in a log.

use std::borrow::Cow;
use std::path::Path;

use crate::config;

/// What stands in its place.
pub const HIDDEN: &str = "(hidden)";

/// A text without the users and passwords in its URLs, and in what may be meant as one (`user:password@host`).
#[must_use]
pub fn urls(text: &str) -> Cow<'_, str> {
    if !text.contains('@') {
        return Cow::Borrowed(text);
    }
    let ends_word = |c: char| c.is_whitespace() || c == '"' || c == '\'';
    let words = text.split_inclusive(ends_word);
    Cow::Owned(words.map(in_word).collect())
}

/// A value that somebody gave, likewise; also where there are blanks in what may be a password.
#[must_use]
pub fn value(text: &str) -> String {
    in_word(text)
}

/// A path to a file of secrets. What is none may be the secret itself.
#[must_use]
pub fn secret_path(text: &str) -> String {
    match Path::new(text.trim_matches('"')).is_absolute() {
        true => text.to_owned(),
        false => HIDDEN.to_owned(),
    }
}

/// A user's name. What follows a colon may be a password.
#[must_use]
pub fn user(text: &str) -> String {
    match text.contains(':') {
        true => HIDDEN.to_owned(),
        false => text.to_owned(),
    }
}

/// The value of a variable, quoted, unless it may be a secret: of a variable that turnip does not know nobody
/// knows.
#[must_use]
pub fn variable(name: &str, text: &str) -> String {
    let quoted = format!("{text:?}");
    match name {
        "TURNIP_ETCD_PASSWORD" => HIDDEN.to_owned(),
        "TURNIP_ETCD_PASSWORD_FILE" | "TURNIP_ETCD_KEY" => secret_path(&quoted),
        "TURNIP_ETCD_USER" => user(&quoted),
        _ if config::is_variable(name) => value(&quoted),
        _ => HIDDEN.to_owned(),
    }
}

/// Arguments of `turnip run`: of a flag that is none of turnip's, and of what follows none, nobody knows what
/// it is.
#[must_use]
pub fn arguments(given: &[String]) -> Vec<String> {
    let shown = |variable_name: Option<&str>, text: &str| match variable_name {
        Some(name) => variable(name, text).trim_matches('"').to_owned(),
        None => HIDDEN.to_owned(),
    };
    let mut flag = None;
    let mut redacted = Vec::new();
    for word in given {
        let expects = std::mem::take(&mut flag);
        redacted.push(match (word.strip_prefix("--"), word.split_once('=')) {
            (Some(_), Some((name, text))) => {
                format!("{name}={}", shown(config::variable_of(&name[2..]), text))
            }
            (Some(name), None) => {
                flag = config::variable_of(name);
                word.clone()
            }
            (None, _) => shown(expects, word),
        });
    }
    redacted
}

/// A word, which may be a list of URLs.
fn in_word(word: &str) -> String {
    let begins = |scheme: &'static str| word.match_indices(scheme).map(|(at, _)| at + 1);
    let mut cuts: Vec<usize> = begins(",http://").chain(begins(",https://")).collect();
    cuts.extend([0, word.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|ends| in_url(&word[ends[0]..ends[1]])).collect()
}

/// Everything between the scheme and the last `@` may be a password, whatever is in it.
fn in_url(url: &str) -> Cow<'_, str> {
    let Some(end) = url.rfind('@') else { return Cow::Borrowed(url) };
    let begin = match (url[..end].find("://"), url[..end].contains(':')) {
        (Some(scheme), _) => scheme + "://".len(),
        (None, true) => 0,
        (None, false) => return Cow::Borrowed(url),
    };
    Cow::Owned(format!("{}{HIDDEN}{}", &url[..begin], &url[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_passwords_of_urls_are_hidden_whatever_is_in_them() {
        for (text, shown) in [
            ("http://root:hunter2@etcd:2379", "http://(hidden)@etcd:2379"),
            ("cannot reach http://hunter2@etcd:1: no", "cannot reach http://(hidden)@etcd:1: no"),
            ("root:hunter2@etcd:2379", "(hidden)@etcd:2379"),
            ("http://a:1,https://r:hunter2@b:1", "http://a:1,https://(hidden)@b:1"),
            ("http://r:hun@ter2,/?#@b:1,http://c:1", "http://(hidden)@b:1,http://c:1"),
            ("{\"why\":\"http://r:hunter2@b:1\"}", "{\"why\":\"http://(hidden)@b:1\"}"),
            ("http://[fd00::1]:2379", "http://[fd00::1]:2379"),
            ("eth0@if3, turnip@a.service: b", "eth0@if3, turnip@a.service: b"),
        ] {
            assert_eq!(urls(text), shown);
        }
        assert_eq!(value("[\"http://r:hun ter2@b:1\"]"), "[\"http://(hidden)@b:1\"]");
    }

    #[test]
    fn of_variables_only_what_turnip_knows_as_no_secret_is_shown() {
        for (name, text, shown) in [
            ("TURNIP_LEASE", "5s", "\"5s\""),
            ("TURNIP_ENDPOINTS", "http://r:hunter2@b:1", "\"http://(hidden)@b:1\""),
            ("TURNIP_ETCD_USER", "turnip", "\"turnip\""),
            ("TURNIP_ETCD_USER", "turnip:hunter2", "(hidden)"),
            ("TURNIP_ETCD_PASSWORD", "hunter2", "(hidden)"),
            ("TURNIP_ETCD_PASSWORD_FILE", "/etc/pw", "\"/etc/pw\""),
            ("TURNIP_ETCD_PASSWORD_FILE", "hunter2", "(hidden)"),
            ("TURNIP_ETCD_PASWORD", "hunter2", "(hidden)"),
            ("TURNIP_ETCD_PW", "hunter2", "(hidden)"),
        ] {
            assert_eq!(variable(name, text), shown, "{name}");
        }
    }

    #[test]
    fn of_arguments_only_the_values_of_turnips_flags_are_shown() {
        let given = "--config /etc/t.toml --lease=5s --endpoints http://r:hunter2@b:1 --user=u:hunter2 --etcd-password hunter2 --password=hunter2 hunter2";
        let given: Vec<String> = given.split(' ').map(str::to_owned).collect();
        let shown = "--config /etc/t.toml --lease=5s --endpoints http://(hidden)@b:1 --user=(hidden) --etcd-password (hidden) --password=(hidden) (hidden)";
        assert_eq!(arguments(&given).join(" "), shown);
    }
}
