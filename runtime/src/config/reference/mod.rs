//! Every setting of the file, described once: for the page of the documentation, which
//! `turnip generate` writes. Defaults and limits are the parser's own constants; tests hold the
//! descriptions against what the parser asks for, takes and makes of it.

mod check;
mod etcd;
mod node;
mod page;
mod vip;

pub use page::page;

use std::time::Duration;

/// A table of the file.
pub(super) struct Table {
    /// What its keys are called in errors: `etcd.` or nothing.
    prefix: &'static str,
    /// As a title.
    title: &'static str,
    /// What it is for.
    about: &'static str,
    settings: Vec<Setting>,
}

/// A key of a table.
pub(super) struct Setting {
    key: &'static str,
    /// What is written behind the equals sign, in words.
    form: &'static str,
    about: String,
    default: Default,
    /// What is refused beyond, in words; empty where the form says all.
    limits: String,
    /// A value other than the default, as it is written in the file.
    example: &'static str,
    change: Change,
}

/// What holds where nobody gives the key.
enum Default {
    /// This, as it is written in the file.
    Is(String),
    /// This, as it is written in the file, which follows from something else.
    Follows(String, &'static str),
    /// What the words say.
    Words(&'static str),
    /// It has to be given.
    Needed,
}

/// What it takes that a running daemon goes by another value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Change {
    /// A reload.
    Reload,
    /// A new process, which moves nothing.
    Restart,
    /// A new session, for which the host's VIPs move away.
    Session,
}

/// All tables, in the order of the page.
pub(super) fn tables() -> Vec<Table> {
    let mut all = vec![node::table(), etcd::etcd(), etcd::peers()];
    all.extend(vip::tables());
    all.push(check::table());
    all
}

/// A key that may be left out, and that a reload takes.
fn setting(key: &'static str, form: &'static str, about: impl Into<String>) -> Setting {
    Setting {
        key,
        form,
        about: about.into(),
        default: Default::Words("not set"),
        limits: String::new(),
        example: "",
        change: Change::Reload,
    }
}

impl Setting {
    fn default(mut self, value: impl Into<String>) -> Self {
        self.default = Default::Is(value.into());
        self
    }

    fn default_follows(mut self, value: impl Into<String>, words: &'static str) -> Self {
        self.default = Default::Follows(value.into(), words);
        self
    }

    fn default_words(mut self, words: &'static str) -> Self {
        self.default = Default::Words(words);
        self
    }

    fn needed(mut self) -> Self {
        self.default = Default::Needed;
        self
    }

    fn limits(mut self, limits: impl Into<String>) -> Self {
        self.limits = limits.into();
        self
    }

    fn example(mut self, value: &'static str) -> Self {
        self.example = value;
        self
    }

    fn restart(mut self) -> Self {
        self.change = Change::Restart;
        self
    }

    fn session(mut self) -> Self {
        self.change = Change::Session;
        self
    }
}

/// As a value of the file.
fn quoted(duration: Duration) -> String {
    format!("\"{duration:?}\"")
}

/// Limits of a duration.
fn range(least: Duration, most: Duration) -> String {
    format!("from {least:?} to {most:?}")
}

/// The forms of values that several keys have.
mod forms {
    pub const TEXT: &str = "text";
    pub const FLAG: &str = "true or false";
    pub const NUMBER: &str = "whole number";
    pub const DURATION: &str = "duration: a number with ms, s, m or h";
    pub const FILE: &str = "path of a file";
    pub const NAME: &str = "name";
    pub const INTERFACE: &str = "name of an interface; its `altname` too";
    pub const PROGRAM: &str = "list: a program and its arguments; no shell reads them";
}

#[cfg(test)]
mod tests;
