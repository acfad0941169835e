//! `turnip generate DIRECTORY`: the pages of the manual and the completions that a package ships, made of the
//! definition of the command line and of the commented configuration.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::{FAILED, OK, fail};

/// What its help ends with.
pub const AFTER_HELP: &str = "\
It writes man/turnip.1, a page for each command beside it, man/turnip.toml.5, and completions/turnip.bash, \
completions/_turnip (zsh) and completions/turnip.fish.";

/// What stands at the foot of every page.
const SOURCE: &str = concat!("turnip ", env!("CARGO_PKG_VERSION"));
const CONFIGURATION: &str = include_str!("../../dist/turnip.toml");

/// Where to.
#[derive(Args)]
pub struct GenerateArgs {
    /// The directory to write to; it is made if it is not there
    directory: PathBuf,
}

/// Writes everything that is made of `command`.
pub fn generate(command: Command, args: &GenerateArgs) -> ExitCode {
    match write(command, &args.directory) {
        Ok(()) => ExitCode::from(OK),
        Err(error) => {
            fail(FAILED, format!("cannot write to {}: {error}", args.directory.display()))
        }
    }
}

fn write(command: Command, directory: &Path) -> io::Result<()> {
    let manual = directory.join("man");
    let completions = directory.join("completions");
    fs::create_dir_all(&manual)?;
    fs::create_dir_all(&completions)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut command.clone(), "turnip", &completions)?;
    }
    let mut command = command.disable_help_subcommand(true);
    command.build();
    for command in command.get_subcommands().chain([&command]) {
        Man::new(command.clone()).source(SOURCE).generate_to(&manual)?;
    }
    fs::write(manual.join("turnip.toml.5"), configuration_page(CONFIGURATION))
}

/// The commented configuration as a page: comments are its text, settings are shown as they are written.
fn configuration_page(commented: &str) -> String {
    let mut page = Roff::new();
    page.control("TH", ["turnip.toml", "5", "", SOURCE]);
    page.control("SH", ["NAME"]);
    page.text([roman("turnip.toml - the configuration of turnip(1)")]);
    page.control("SH", ["DESCRIPTION"]);
    let mut sentences = Vec::new();
    let mut settings = Vec::new();
    for line in commented.lines() {
        let sentence = line.strip_prefix("# ");
        if sentence.is_some() || line.is_empty() {
            show(&mut page, &mut settings);
        }
        if sentence.is_none() {
            tell(&mut page, &mut sentences);
        }
        match sentence {
            Some(sentence) => sentences.push(sentence),
            None if line.is_empty() => drop(page.control("PP", [])),
            None => settings.push(line.strip_prefix('#').unwrap_or(line)),
        }
    }
    tell(&mut page, &mut sentences);
    show(&mut page, &mut settings);
    page.control("SH", ["FILES"]);
    page.text([roman("/etc/turnip/turnip.toml, or the file that --config or TURNIP_CONFIG names")]);
    page.control("SH", ["SEE ALSO"]);
    page.text([roman("turnip(1), turnip-check(1), turnip-reload(1)")]);
    page.render()
}

/// A paragraph of text.
fn tell(page: &mut Roff, sentences: &mut Vec<&str>) {
    if !sentences.is_empty() {
        page.control("PP", []);
        page.text([roman(sentences.join("\n"))]);
        sentences.clear();
    }
}

/// Lines of the file, as they are.
fn show(page: &mut Roff, settings: &mut Vec<&str>) {
    if settings.is_empty() {
        return;
    }
    page.control("RS", ["4"]);
    page.control("nf", []);
    for setting in settings.drain(..) {
        page.text([bold(setting)]);
    }
    page.control("fi", []);
    page.control("RE", []);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_become_paragraphs_and_settings_stay_as_they_are() {
        let page = configuration_page(
            "# How long,\n# at most.\n#lease = \"3s\"\n\n[etcd]\n# Example:\n#a = 1\n#b = 2\n",
        );
        let body = page.split("DESCRIPTION\n").nth(1).unwrap().split(".SH").next().unwrap();
        let shown = |setting: &str| format!(".RS 4\n.nf\n{setting}.fi\n.RE\n");
        let expected = [
            ".PP\nHow long,\nat most.\n".to_owned(),
            shown("\\fBlease = \"3s\"\\fR\n"),
            ".PP\n".to_owned(),
            shown("\\fB[etcd]\\fR\n"),
            ".PP\nExample:\n".to_owned(),
            shown("\\fBa = 1\\fR\n\\fBb = 2\\fR\n"),
        ];
        assert_eq!(body, expected.concat());
    }

    #[test]
    fn every_line_of_the_commented_configuration_is_in_its_page() {
        let page = configuration_page(CONFIGURATION).replace("\\-", "-").replace("\\*(Aq", "'");
        for line in CONFIGURATION.lines().filter(|line| !line.is_empty()) {
            let told = line.strip_prefix("# ").or_else(|| line.strip_prefix('#')).unwrap_or(line);
            assert!(page.contains(told), "{told:?} is missing");
        }
    }
}
