//! `turnip hook`: has somebody behind a unix socket run a hook, who may do more than the daemon may.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{FAILED, OK, fail, print};

/// What its help ends with.
pub const AFTER_HELP: &str = "\
It is for hooks, which are told by variables what they are about: `before_assume = \
[\"/usr/local/bin/turnip\", \"hook\", \"/run/turnip-hooks.sock\"]`. It sends the variables whose names begin \
with TURNIP_HOOK, one a line, and an empty line. What comes back is printed, up to a last line `exit STATUS`, \
which says how it ends itself. Without such a line it fails.";

/// All variables of a hook begin so.
const VARIABLES: &str = "TURNIP_HOOK";
/// More than that is not printed.
const ANSWER_MAX: u64 = 64 << 10;

/// Whom to ask.
#[derive(Args)]
pub struct HookArgs {
    /// The unix socket
    socket: PathBuf,
}

/// Asks, and ends as the answer says.
pub fn hook(args: &HookArgs) -> ExitCode {
    let all = std::env::vars_os();
    let texts =
        all.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let told: Vec<(String, String)> =
        texts.filter(|(name, _)| name.starts_with(VARIABLES)).collect();
    let asked = UnixStream::connect(&args.socket)
        .and_then(|stream| ask(stream, &told))
        .map_err(|error| format!("{}: {error}", args.socket.display()));
    match asked {
        Ok((said, Some(0))) => {
            print(&said);
            ExitCode::from(OK)
        }
        Ok((said, Some(status))) => {
            print(&said);
            ExitCode::from(status)
        }
        Ok((said, None)) => {
            print(&said);
            fail(FAILED, format!("{} did not say how it ended", args.socket.display()))
        }
        Err(why) => fail(FAILED, why),
    }
}

/// Sends the variables; what is said, and the status that ends it.
fn ask(mut stream: UnixStream, told: &[(String, String)]) -> std::io::Result<(String, Option<u8>)> {
    // A value of several lines would look like several variables.
    let lines = told.iter().map(|(name, value)| format!("{name}={}\n", value.replace('\n', " ")));
    let question: String = lines.chain(["\n".to_owned()]).collect();
    stream.write_all(question.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let (mut said, mut status) = (String::new(), None);
    for line in BufReader::new(stream.take(ANSWER_MAX)).lines() {
        let line = line?;
        if let Some(last) = status_of(&line) {
            status = Some(last);
            break;
        }
        said += &line;
        said.push('\n');
    }
    Ok((said, status))
}

fn status_of(line: &str) -> Option<u8> {
    line.strip_prefix("exit ")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// What is heard on the other side, and what comes of its answer.
    fn answered(answer: &'static str) -> (String, (String, Option<u8>)) {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let other = thread::spawn(move || {
            let mut heard = String::new();
            theirs.read_to_string(&mut heard).unwrap();
            theirs.write_all(answer.as_bytes()).unwrap();
            heard
        });
        let told = [("TURNIP_HOOK", "before_assume"), ("TURNIP_HOOK_VIP", "api\nx")];
        let told = told.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let said = ask(ours, &told).unwrap();
        (other.join().unwrap(), said)
    }

    #[test]
    fn the_variables_are_sent_and_the_last_line_is_the_status() {
        let (heard, said) = answered("promoting\nexit 3\n");
        assert_eq!(heard, "TURNIP_HOOK=before_assume\nTURNIP_HOOK_VIP=api x\n\n");
        assert_eq!(said, ("promoting\n".to_owned(), Some(3)));
    }

    #[test]
    fn an_answer_without_a_status_has_none() {
        assert_eq!(answered("killed\n").1, ("killed\n".to_owned(), None));
        assert_eq!(answered("exit well\n").1.1, None);
    }
}
