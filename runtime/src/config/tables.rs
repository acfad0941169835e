//! Routing tables by name, as iproute2 knows them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The table in which the kernel looks first after the host's own addresses.
pub(super) const MAIN: u32 = 254;
/// Those that the kernel has itself.
const KERNELS: [(&str, u32); 3] = [("local", 255), ("main", MAIN), ("default", 253)];
/// Where the names are; what comes later has precedence.
const DIRECTORIES: [&str; 3] = ["/usr/share/iproute2", "/usr/lib/iproute2", "/etc/iproute2"];

/// The table of that name, or number.
///
/// # Errors
/// When nobody has given one the name.
pub(super) fn number(name: &str) -> Result<u32, String> {
    if let Ok(number) = name.parse::<u32>() {
        return if number > 0 { Ok(number) } else { Err("no table; write one from 1 on".into()) };
    }
    let known = known();
    known.get(name).copied().ok_or_else(|| {
        let names: Vec<&str> = known.keys().map(String::as_str).collect();
        format!(
            "no table of that name is in /etc/iproute2/rt_tables or rt_tables.d; there are {}. Write its number, or give it the name there on all hosts",
            names.join(", ")
        )
    })
}

fn known() -> BTreeMap<String, u32> {
    let mut known: BTreeMap<String, u32> =
        KERNELS.iter().map(|(name, number)| ((*name).to_owned(), *number)).collect();
    for directory in DIRECTORIES.map(Path::new) {
        let mut files = vec![directory.join("rt_tables")];
        if let Ok(more) = fs::read_dir(directory.join("rt_tables.d")) {
            let mut more: Vec<PathBuf> = more.flatten().map(|entry| entry.path()).collect();
            more.sort();
            files.extend(
                more.into_iter().filter(|path| path.extension().is_some_and(|e| e == "conf")),
            );
        }
        for text in files.iter().filter_map(|file| fs::read_to_string(file).ok()) {
            known.extend(parse(&text));
        }
    }
    known
}

/// A number and a name a line.
fn parse(text: &str) -> Vec<(String, u32)> {
    let line = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let number = words.next()?;
        let number = match number.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok()?,
            None => number.parse().ok()?,
        };
        (number > 0).then_some((words.next()?.to_owned(), number))
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_iproute2_writes_them() {
        let text = "#\n255\tlocal\n0\tunspec\n 100 uplink-a # the first\n0x65 uplink-b\nodd line\n";
        let named = |name: &str, number| (name.to_owned(), number);
        let expected = [named("local", 255), named("uplink-a", 100), named("uplink-b", 101)];
        assert_eq!(parse(text), expected);
    }

    #[test]
    fn a_name_that_nobody_gave_is_refused_with_those_that_there_are() {
        assert_eq!(number("main"), Ok(254));
        assert_eq!(number("100"), Ok(100));
        let error = number("no-such-table").unwrap_err();
        assert!(error.contains("main") && error.contains("rt_tables"), "{error}");
    }
}
