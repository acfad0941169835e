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
        let (stdout, _, status) = imported(&peer, &case, &files);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("turnip.toml");
        fs::write(&path, &stdout).unwrap();
        // The parser alone: `turnip check` would look at the host as well.
        let path = path.to_str().unwrap().to_owned();
        let variables = [("TURNIP_CONFIG".to_owned(), path)].into();
        let sources = turnip::config::Sources::given(&[], &variables).unwrap();
        let loaded = turnip::config::Config::load(&sources);
        if !stdout.contains("[[vip]]") {
            // Without an address that turnip could hold there is nothing to take, and it says so.
            let error = loaded.err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains("vip: none") && status == Some(1), "{name}: {error}");
            continue;
        }
        assert!(loaded.is_ok(), "{name}: {}\n{stdout}", loaded.err().unwrap());
    }
}

#[test]
fn the_files_for_etcds_tls_are_named_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    turnip_netns_tests::certificates::Certificates::create(at, vec!["localhost".into()]).unwrap();
    let file = |name: &str| at.join(name).to_str().unwrap().to_owned();
    let (ca, cert, key) = (file("ca.pem"), file("client.pem"), file("client.key"));
    let vip_manager = format!(
        "ip: 10.6.0.5\nnetmask: 24\ninterface: eth0\ntrigger-key: /service/tls/leader\ntrigger-value: n1\n\
         dcs-endpoints: https://10.6.0.2:2379\netcd-ca-file: {ca}\netcd-cert-file: {cert}\netcd-key-file: {key}\n"
    );
    let of = |name: &str, value: &str| format!("  - {{name: {name}, value: \"{value}\"}}\n");
    let kube_vip = String::from("image: kube-vip\nenv:\n")
        + &of("address", "10.6.0.5")
        + &of("vip_interface", "eth0")
        + &of("etcd_endpoints", "https://10.6.0.2:2379")
        + &of("etcd_ca", &ca)
        + &of("etcd_cert", &cert)
        + &of("etcd_key", &key);
    for (peer, text) in [("vip-manager", vip_manager), ("kube-vip", kube_vip)] {
        fs::write(at.join("input.yml"), text).unwrap();
        let (stdout, stderr, status) = imported(peer, at, &["input.yml".into()]);
        assert_eq!(status, Some(0), "{peer}: {stderr}");
        for (setting, path) in [("ca", &ca), ("cert", &cert), ("key", &key)] {
            assert!(stdout.contains(&format!("{setting} = \"{path}\"")), "{peer}: {stdout}");
        }
        let path = at.join("turnip.toml");
        fs::write(&path, &stdout).unwrap();
        let variables = [("TURNIP_CONFIG".to_owned(), path.to_str().unwrap().to_owned())].into();
        let sources = turnip::config::Sources::given(&[], &variables).unwrap();
        let loaded = turnip::config::Config::load(&sources);
        assert!(loaded.is_ok(), "{peer}: {}", loaded.err().unwrap());
    }
}

/// Whether a line says something that is to be told of; quotes, conditions and definitions may hide that it does not.
fn is_plain_statement(line: &str) -> bool {
    let code = line.split(['#', '!']).next().unwrap_or_default();
    !line.contains(['"', '\'', '\\', '$', '@', '~']) && code.chars().any(char::is_alphanumeric)
}

/// All that is said of one file of keepalived's, or why it says nothing.
fn said_of(text: &str) -> Result<String, turnip::import::Failure> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("k.conf");
    fs::write(&path, text).unwrap();
    turnip::import::keepalived::import(&[path]).map(|imported| {
        let notes: Vec<String> = imported.notes.iter().map(ToString::to_string).collect();
        imported.toml + &notes.join("\n")
    })
}

fn told_or_refused(text: &str) -> Result<(), proptest::test_runner::TestCaseError> {
    match said_of(text) {
        Ok(said) => {
            let lines: Vec<&str> = text.lines().collect();
            // What goes on over the end of a line is told of where it begins.
            let goes_on = |at: usize| {
                let before = at.checked_sub(1).and_then(|at| lines.get(at));
                let code =
                    |line: &str| line.split(['#', '!']).next().unwrap_or_default().to_owned();
                before.is_some_and(|line| {
                    [(*line).to_owned(), code(line)]
                        .iter()
                        .any(|line| line.trim_end().ends_with('\\'))
                })
            };
            let plain = lines.iter().enumerate().filter(|(_, line)| is_plain_statement(line));
            for (at, line) in plain.filter(|(at, _)| !goes_on(*at)) {
                let place = format!("k.conf:{}", at + 1);
                let is_told = said
                    .split(|c: char| c.is_whitespace() || "(),".contains(c))
                    .any(|word| word.trim_end_matches(':').ends_with(&place));
                proptest::prop_assert!(
                    is_told,
                    "{line:?}, line {} of\n{text}\nis lost:\n{said}",
                    at + 1
                );
            }
        }
        Err(failure) => proptest::prop_assert!(failure.at.is_some(), "{failure}"),
    }
    Ok(())
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
        told_or_refused(&text)?;
    }
    #[test]
    fn no_change_to_a_kept_input_makes_it_panic_or_lose_a_statement(
        case in proptest::prelude::any::<proptest::sample::Index>(),
        changes in proptest::collection::vec(
            (0..6_u8, proptest::prelude::any::<proptest::sample::Index>(), proptest::prelude::any::<proptest::sample::Index>()), 1..6),
    ) {
        let cases = cases();
        let (peer, folder, files) = case.get(&cases);
        let text = fs::read_to_string(folder.join(&files[0])).unwrap();
        let text = changed(&text, &changes);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("k.conf");
        fs::write(&path, &text).unwrap();
        let imported = match peer.as_str() {
            "keepalived" => turnip::import::keepalived::import(&[path]),
            "kube-vip" => turnip::import::kube_vip::import(&[path]),
            _ => turnip::import::vip_manager::import(&[path]),
        };
        match imported {
            Ok(imported) => {
                let notes: Vec<String> = imported.notes.iter().map(ToString::to_string).collect();
                let said = imported.toml + &notes.join("\n");
                // In YAML a key alone only leads to what is below it, and text may go on over lines.
                let is_pair = |line: &str| {
                    let pair = line.trim().trim_start_matches("- ").split_once(": ");
                    peer != "keepalived" && pair.is_some_and(|(key, value)| {
                        key.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) && value.chars().all(|c| c.is_ascii_alphanumeric())
                    })
                };
                for (at, line) in text.lines().enumerate().filter(|(_, line)| is_pair(line)) {
                    let place = format!("k.conf:{}", at + 1);
                    let is_told = said.split(|c: char| c.is_whitespace() || "(),".contains(c)).any(|word| word.trim_end_matches(':').ends_with(&place));
                    proptest::prop_assert!(is_told, "{line:?}, line {} of\n{text}\nis lost:\n{said}", at + 1);
                }
            }
            Err(failure) => proptest::prop_assert!(failure.at.is_some(), "{failure}"),
        }
        // Includes are not here, and conditions and definitions make a line disappear by right.
        if peer == "keepalived" && !text.contains(['$', '@', '~', '\\']) {
            told_or_refused(&text)?;
        }
    }
}

/// The text with lines, or words of a line, left out, doubled or exchanged.
fn changed(
    text: &str,
    changes: &[(u8, proptest::sample::Index, proptest::sample::Index)],
) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for (kind, one, two) in changes {
        if lines.is_empty() {
            break;
        }
        let (at, to) = (one.index(lines.len()), two.index(lines.len()));
        let indent: String = lines[at].chars().take_while(|c| c.is_whitespace()).collect();
        let mut words: Vec<&str> = lines[at].split_whitespace().collect();
        let word = two.index(words.len().max(1));
        match kind {
            0 => drop(lines.remove(at)),
            1 => lines.insert(to, lines[at].clone()),
            2 => lines.swap(at, to),
            _ if words.is_empty() => {}
            3 => {
                words.remove(word);
                lines[at] = indent + &words.join(" ");
            }
            4 => {
                words.insert(word, words[word]);
                lines[at] = indent + &words.join(" ");
            }
            _ => {
                words.swap(0, word);
                lines[at] = indent + &words.join(" ");
            }
        }
    }
    lines.join("\n") + "\n"
}
