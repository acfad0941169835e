//! `turnip import` on files as they are found: what it prints is kept beside them. `BLESS=1` writes that anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import")
}

/// All cases: the peer, the folder, its files.
fn cases() -> Vec<(String, PathBuf, Vec<String>)> {
    let mut all = Vec::new();
    for peer in ["keepalived", "kube-vip", "vip-manager"] {
        for case in fs::read_dir(folder().join(peer)).unwrap() {
            let case = case.unwrap().path();
            let files = fs::read_dir(&case).unwrap().map(|file| file.unwrap().path());
            let files = files.filter(|file| file.is_file());
            let name = |file: PathBuf| file.file_name().unwrap().to_str().unwrap().to_owned();
            let mut files: Vec<String> =
                files.map(name).filter(|file| !file.starts_with("expected")).collect();
            files.sort();
            all.push((peer.to_owned(), case, files));
        }
    }
    assert!(all.len() >= 6, "where are the cases?");
    all
}

fn imported(peer: &str, folder: &Path, files: &[String]) -> (String, String, Option<i32>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnip"));
    let output = command.current_dir(folder).args(["import", peer]).args(files).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code())
}

#[test]
fn what_is_printed_is_what_is_kept() {
    for (peer, case, files) in cases() {
        let (stdout, stderr, _) = imported(&peer, &case, &files);
        for (name, is) in [("expected.toml", stdout), ("expected.stderr", stderr)] {
            let path = case.join(name);
            if std::env::var_os("BLESS").is_some() {
                fs::write(&path, &is).unwrap();
            }
            let kept = fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(is, kept, "{}: BLESS=1 writes it anew", path.display());
        }
    }
}

#[test]
fn every_line_of_the_input_is_told_of_by_its_number() {
    for (peer, case, files) in cases() {
        let (stdout, stderr, status) = imported(&peer, &case, &files);
        let said = stdout + &stderr;
        let places: BTreeSet<&str> = said
            .split(|c: char| c.is_whitespace() || "(),".contains(c))
            .map(|word| word.trim_end_matches(':'))
            .collect();
        assert!(!said.contains("nothing in the output goes by it"), "{}: {said}", case.display());
        assert!(matches!(status, Some(0 | 1)), "{said}");
        for file in files {
            let text = fs::read_to_string(case.join(&file)).unwrap();
            for (at, line) in text.lines().enumerate() {
                let code = line.split(['#', '!']).next().unwrap().trim();
                let is_statement = match peer.as_str() {
                    "keepalived" => code.chars().any(|c| c.is_alphanumeric()),
                    // A key alone only leads to what is below it.
                    _ => code.chars().any(|c| c.is_alphanumeric()) && !code.ends_with(':'),
                };
                let place = format!("{file}:{}", at + 1);
                let is_named = peer == "kube-vip" && code.starts_with("- name:");
                assert!(
                    !is_statement || is_named || places.contains(place.as_str()),
                    "{}: {place} is lost: {line}",
                    case.display()
                );
            }
        }
    }
}

#[test]
fn turnip_takes_what_is_printed() {
    for (peer, case, files) in cases() {
        let name = format!("{peer}/{}", case.file_name().unwrap().to_str().unwrap());
        let (stdout, ..) = imported(&peer, &case, &files);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("turnip.toml");
        fs::write(&path, &stdout).unwrap();
        // The parser alone: `turnip check` would look at the host as well.
        let path = path.to_str().unwrap().to_owned();
        let variables = [("TURNIP_CONFIG".to_owned(), path)].into();
        let sources = turnip::config::Sources::given(&[], &variables).unwrap();
        let loaded = turnip::config::Config::load(&sources);
        assert!(loaded.is_ok(), "{name}: {}\n{stdout}", loaded.err().unwrap());
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn no_soup_of_words_makes_it_panic_or_lose_a_line(words in proptest::collection::vec(proptest::sample::select(vec![
        "vrrp_instance", "vrrp_script", "vrrp_sync_group", "A", "B", "{", "}", "{", "}", "\n", "\n", "\n", "interface", "eth0",
        "virtual_ipaddress", "10.0.0.1/24", "fd00::1", "priority", "100", "track_script", "weight", "-5", "\"", "'", "\\",
        "$A=1", "${A}", "$A", "@h", "@^h", "~SEQ(A,1,3)", "#", "!", "virtual_routes", "default", "via", "notify", "group", "script",
    ]), 0..60)) {
        let text = words.join(" ");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("k.conf");
        fs::write(&path, &text).unwrap();
        match turnip::import::keepalived::import(&[path]) {
            Ok(imported) => {
                let said: Vec<String> = imported.notes.iter().map(ToString::to_string).collect();
                let said = imported.toml + &said.join("\n");
                for (at, line) in text.lines().enumerate() {
                    let code = line.split(['#', '!']).next().unwrap_or_default();
                    // Quotes, conditions and definitions may hide that there is nothing to say.
                    let is_plain = !line.contains(['"', '\'', '\\', '$', '@', '~']);
                    if is_plain && code.chars().any(char::is_alphanumeric) {
                        proptest::prop_assert!(said.contains(&format!("k.conf:{}", at + 1)), "line {} of\n{}\nis lost:\n{}", at + 1, text, said);
                    }
                }
            }
            Err(failure) => proptest::prop_assert!(failure.at.is_some(), "{failure}"),
        }
    }
}
