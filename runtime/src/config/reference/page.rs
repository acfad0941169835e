//! The descriptions as a page.

use std::fmt::Write;

use super::super::args::{flag_and_variable_of, variables_without_flags};
use super::{Change, Default, Setting, Table, tables};

const HEAD: &str = "\
# Settings

<!-- Written by `turnip generate`, out of the code. Do not edit: BLESS=1 cargo test --workspace --lib config::reference -->

The file is `/etc/turnip/turnip.toml`, or what `--config` or `TURNIP_CONFIG` names. It is
[TOML](https://toml.io). A flag beats its variable, and a variable beats the file. `turnip check` says
what is wrong with the file, by line and column, and what would be right. A key that turnip does not know
is an error.

A daemon that runs takes most changes by `turnip reload`. \"Takes a restart\" means `systemctl restart
turnip`, which moves nothing. \"Takes a new session\" means `turnip reload --new-session`, for which the
host's VIPs move away first.
";

const VARIABLES: &str = "
## Variables without a flag

| variable | |
|---|---|
";

/// The page `settings.md` of the documentation.
pub fn page() -> String {
    let mut page = HEAD.to_owned();
    tables().iter().for_each(|table| show_table(table, &mut page));
    page.push_str(VARIABLES);
    for (variable, about) in variables_without_flags() {
        line(&mut page, format_args!("| `{variable}` | {about} |"));
    }
    page
}

fn show_table(table: &Table, page: &mut String) {
    line(page, format_args!("\n## {}\n\n{}", table.title, table.about));
    table.settings.iter().for_each(|setting| show(table.prefix, setting, page));
}

fn show(prefix: &str, setting: &Setting, page: &mut String) {
    let Setting { key, form, about, default, limits, example, change } = setting;
    line(page, format_args!("\n### {prefix}{key}\n\n{about}\n"));
    line(page, format_args!("- Value: {form}{}", limited(limits)));
    match default {
        Default::Is(value) => line(page, format_args!("- Default: `{value}`")),
        Default::Follows(value, words) => {
            line(page, format_args!("- Default: {words}; so `{value}`, where nothing else is set"));
        }
        Default::Words(words) => line(page, format_args!("- Default: {words}")),
        Default::Needed => line(page, format_args!("- It has to be given")),
    }
    if let Some((flag, variable)) = flag_and_variable_of(prefix, key) {
        line(page, format_args!("- Also as: `--{flag}`, `{variable}`"));
    }
    match change {
        Change::Reload => {}
        Change::Restart => line(page, format_args!("- A change takes a restart")),
        Change::Session => line(page, format_args!("- A change takes a new session")),
    }
    if !example.is_empty() {
        line(page, format_args!("- Example: `{key} = {example}`"));
    }
}

fn limited(limits: &str) -> String {
    if limits.is_empty() { String::new() } else { format!("; {limits}") }
}

fn line(page: &mut String, words: std::fmt::Arguments<'_>) {
    writeln!(page, "{words}").expect("a text takes all that is written");
}
