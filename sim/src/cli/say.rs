//! What is printed.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};

/// Prints a line, as `println!` does; where nobody reads any more, as after `| head`, nothing.
macro_rules! say {
    () => { $crate::cli::say::line(format_args!("")) };
    ($($what:tt)+) => { $crate::cli::say::line(format_args!($($what)+)) };
}
pub(super) use say;

/// Prints a line.
pub(super) fn line(what: Arguments<'_>) {
    unless_unread(writeln!(io::stdout(), "{what}"));
}

/// Prints a text that has its ends of lines.
pub(super) fn text(what: &str) {
    unless_unread(io::stdout().write_all(what.as_bytes()));
}

/// What is still to be done, and the exit status, are not up to who reads.
fn unless_unread(result: io::Result<()>) {
    if let Err(error) = result
        && error.kind() != ErrorKind::BrokenPipe
    {
        eprintln!("cannot print: {error}");
        std::process::exit(1);
    }
}
