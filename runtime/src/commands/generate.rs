//! `turnip generate DIRECTORY`: the pages of the manual and the completions that a package ships, and the
//! references of the documentation, made of the definition of the command line, of the settings' descriptions and
//! of the commented configuration.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use turnip::config::settings_page;

use super::{FAILED, OK, fail};

/// What its help ends with.
pub const AFTER_HELP: &str = "\
It writes man/turnip.1, a page for each command beside it, man/turnip.toml.5, completions/turnip.bash, \
completions/_turnip (zsh) and completions/turnip.fish, and reference/settings.md and reference/commands.md.";

/// What stands at the foot of every page.
const SOURCE: &str = concat!("turnip ", env!("CARGO_PKG_VERSION"));
const COMMANDS_HEAD: &str = "\
# Commands

<!-- Written by `turnip generate`, out of the code. Do not edit: BLESS=1 cargo test --workspace --bins generate -->

What `turnip COMMAND --help` prints. [Operate](operate.md) says what to use them for.
";
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
    let reference = directory.join("reference");
    fs::create_dir_all(&reference)?;
    fs::write(reference.join("settings.md"), settings_page())?;
    fs::write(reference.join("commands.md"), commands_page(command.clone()))?;
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

/// The help of every command, as a page of the documentation.
fn commands_page(command: Command) -> String {
    let plain = |command: Command| command.mut_args(|arg| arg.hide_env_values(true));
    let mut command = command.disable_help_subcommand(true).term_width(100).mut_subcommands(plain);
    command.build();
    let mut page = COMMANDS_HEAD.to_owned();
    let own = command.clone();
    for mut one in [own].into_iter().chain(command.get_subcommands().cloned()) {
        let title = one.get_bin_name().unwrap_or("turnip").to_owned();
        let help = one.render_long_help().to_string();
        let help: Vec<&str> = help.lines().map(str::trim_end).collect();
        page.push_str(&format!("\n## {title}\n\n```text\n{}\n```\n", help.join("\n").trim_end()));
    }
    page
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
    fn the_page_of_the_documentation_is_what_the_commands_say_of_themselves() {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/commands.md");
        let page = commands_page(<crate::Cli as clap::CommandFactory>::command());
        if std::env::var_os("BLESS").is_some() {
            fs::write(&kept, &page).unwrap();
        }
        let said = fs::read_to_string(&kept).unwrap_or_default();
        assert_eq!(page, said, "{}: BLESS=1 writes it anew", kept.display());
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
