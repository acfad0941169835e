//! `turnip import`: another program's configuration as one of turnip's.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use turnip::import::{self, Failure, Imported};
use turnip::redact;

use super::{FAILED, OK, USAGE, fail};

/// What its help ends with.
pub const AFTER_HELP: &str = "\
The configuration goes to standard output, each line with where it comes from; what was not translated goes to \
standard error, by file and line, with what to do. Several files are several hosts', and become one definition of \
their VIPs: what differs from host to host stands beneath the first host's as a comment.

Exit status: 0 all is translated, or not needed; 1 something could not be translated, and is to be looked at; \
2 a file cannot be read, or is not in its form: nothing was translated.";

/// What is translated.
#[derive(Args)]
pub struct ImportArgs {
    /// Whose configuration it is
    peer: Peer,
    /// Its files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Peer {
    /// keepalived.conf, with what it includes
    Keepalived,
    /// vip-manager's YAML, or its VIP_… variables, one a line
    VipManager,
    /// A manifest of kube-vip: static pod, DaemonSet, or a list of such
    KubeVip,
}

/// Translates.
pub fn import(args: &ImportArgs) -> ExitCode {
    let translated: Result<Imported, Failure> = match args.peer {
        Peer::Keepalived => import::keepalived::import(&args.files),
        Peer::VipManager => import::vip_manager::import(&args.files),
        Peer::KubeVip => import::kube_vip::import(&args.files),
    };
    let imported = match translated {
        Ok(imported) => imported,
        Err(failure) => return fail(USAGE, failure),
    };
    // Whole, for it is to be used: a script's own URL is as secret there as it was before.
    let mut out = io::stdout().lock();
    let _ = out.write_all(imported.toml.as_bytes()).and_then(|()| out.flush());
    for note in &imported.notes {
        eprintln!("{}", redact::urls(&note.to_string()));
    }
    ExitCode::from(if imported.is_whole() { OK } else { FAILED })
}
