//! The documentation's links lead somewhere: from page to page, to a heading, and to files of the repository.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};
use turnip::config::{Config, Sources};

/// Where pages are, from the repository's root.
const PLACES: [&str; 5] = ["", "core", "docs", "netns-tests", "runtime"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// A page: its headings as links name them, where its links lead, and the configurations that it shows.
#[derive(Default)]
struct Page {
    headings: BTreeSet<String>,
    links: Vec<String>,
    configurations: Vec<String>,
}

impl Page {
    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let mut page = Page::default();
        let mut heading: Option<String> = None;
        let mut language = String::new();
        for event in Parser::new_ext(&text, Options::ENABLE_TABLES) {
            match event {
                Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(kind))) => {
                    language = kind.into_string()
                }
                Event::End(TagEnd::CodeBlock) => language.clear(),
                Event::Text(words) if language == "toml" => {
                    page.configurations.push(words.into_string())
                }
                Event::Text(words) if language == "sh" => {
                    let within = words.split("<<'TOML'\n").skip(1);
                    page.configurations.extend(
                        within.map(|rest| rest.split("\nTOML\n").next().unwrap().to_owned()),
                    );
                }
                Event::Text(words) | Event::Code(words) => {
                    heading.iter_mut().for_each(|so_far| so_far.push_str(&words));
                }
                Event::End(TagEnd::Heading(_)) => page.add_heading(&heading.take().unwrap()),
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    page.links.push(dest_url.into_string());
                }
                _ => {}
            }
        }
        page
    }

    /// As mdBook and GitHub name it: a second one of the same words has a number.
    fn add_heading(&mut self, words: &str) {
        let named = words.trim().to_lowercase();
        let kept = named.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        let name: String = kept.map(|c| if c == ' ' { '-' } else { c }).collect();
        let numbered = (1..).map(|number| format!("{name}-{number}"));
        let free = [name.clone()].into_iter().chain(numbered);
        let free = free.into_iter().find(|name| !self.headings.contains(name));
        self.headings.extend(free);
    }
}

/// All pages by their paths from the root.
fn pages() -> BTreeMap<PathBuf, Page> {
    let mut paths = Vec::new();
    for place in PLACES {
        collect(&root().join(place), !place.is_empty(), &mut paths);
    }
    let below = |path: PathBuf| path.strip_prefix(root()).unwrap().to_owned();
    let pages: BTreeMap<PathBuf, Page> =
        paths.into_iter().map(|path| (below(path.clone()), Page::read(&path))).collect();
    assert!(pages.len() > 20, "only {} pages", pages.len());
    pages
}

fn collect(folder: &Path, whole: bool, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let is_page = path.extension().is_some_and(|extension| extension == "md");
        if path.is_dir() && whole && !path.ends_with("target") && !path.ends_with("import") {
            collect(&path, whole, paths);
        } else if path.is_file()
            && is_page
            && !path.ends_with("src/bin/turnip-patroni/introduction.md")
        {
            paths.push(path);
        }
    }
}

/// The path without `..`, as far as there is something to leave.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                assert!(normal.pop(), "{} leaves the repository", path.display())
            }
            part => normal.push(part),
        }
    }
    normal
}

/// The pages of the book.
fn chapters(pages: &BTreeMap<PathBuf, Page>) -> BTreeSet<PathBuf> {
    let summary = &pages[Path::new("docs/src/SUMMARY.md")];
    summary.links.iter().map(|link| normal(&Path::new("docs/src").join(link))).collect()
}

/// What is wrong with a link of this page.
fn wrong(
    from: &Path,
    link: &str,
    pages: &BTreeMap<PathBuf, Page>,
    chapters: &BTreeSet<PathBuf>,
) -> Option<&'static str> {
    if link.starts_with("https://") || link.starts_with("http://") {
        return None;
    }
    let (file, heading) = link.split_once('#').map_or((link, None), |(file, at)| (file, Some(at)));
    let to = match file {
        "" => from.to_owned(),
        file => normal(&from.parent().unwrap().join(file)),
    };
    if !root().join(&to).exists() {
        return Some("leads to a file that is not there");
    }
    let page = pages.get(&to);
    if chapters.contains(from) && page.is_some() && !chapters.contains(&to) {
        return Some("leads out of the book: its page is not in SUMMARY.md");
    }
    match (heading, page) {
        (Some(_), None) => Some("names a heading of what is no page"),
        (Some(heading), Some(page)) if !page.headings.contains(heading) => {
            Some("names a heading that is not there")
        }
        _ => None,
    }
}

#[test]
fn every_link_leads_to_a_file_and_a_heading_that_are_there() {
    let pages = pages();
    let chapters = chapters(&pages);
    let mut all_wrong = Vec::new();
    let mut links = 0;
    for (path, page) in &pages {
        for link in &page.links {
            links += 1;
            let what = wrong(path, link, &pages, &chapters);
            all_wrong.extend(what.map(|what| format!("{}: {link} {what}", path.display())));
        }
    }
    assert!(all_wrong.is_empty(), "{}", all_wrong.join("\n"));
    assert!(links > 100, "only {links} links");
}

#[test]
fn every_page_of_the_book_is_in_its_contents() {
    let pages = pages();
    let chapters = chapters(&pages);
    let of_book = pages.keys().filter(|path| path.starts_with("docs/src"));
    let missing: Vec<&PathBuf> =
        of_book.filter(|path| !path.ends_with("SUMMARY.md") && !chapters.contains(*path)).collect();
    assert!(missing.is_empty(), "not in SUMMARY.md: {missing:?}");
}

#[test]
fn the_readme_is_for_ten_minutes() {
    let lines = fs::read_to_string(root().join("README.md")).unwrap().lines().count();
    assert!(lines <= 200, "{lines} lines");
}

#[test]
fn every_alert_is_explained() {
    let alerts = fs::read_to_string(root().join("runtime/dist/turnip-alerts.yml")).unwrap();
    let page = fs::read_to_string(root().join("docs/src/monitoring.md")).unwrap();
    let names = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let missing: Vec<&str> =
        names.filter(|name| !page.contains(&format!("| `{name}` |"))).collect();
    assert!(missing.is_empty(), "monitoring.md does not explain {missing:?}");
}

/// The text with the files that it names here, where something is in them.
fn with_files(text: &str, folder: &Path) -> String {
    let pem = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n\
               -----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n";
    for name in ["ca.pem", "ca.crt", "client.pem", "client-key.pem", "etcd-password"] {
        fs::write(folder.join(name), pem).unwrap();
    }
    let here = format!("{}/", folder.display());
    let there = ["/etc/turnip/secrets/", "/etc/turnip/", "/etc/kubernetes/pki/"];
    there.iter().fold(text.to_owned(), |text, there| text.replace(there, &here))
}

#[test]
fn every_configuration_that_is_shown_is_one() {
    const VIP: &str = "[[vip]]\nname = \"a\"\naddress = \"192.0.2.1/32\"\ninterface = \"lo\"\n";
    let mut wrong = Vec::new();
    let mut shown = 0;
    // Files of scenarios are another thing: sim/tests/documentation.rs reads those.
    for (path, page) in pages().into_iter().filter(|(path, _)| !path.ends_with("scenarios.md")) {
        for text in &page.configurations {
            shown += 1;
            let folder = tempfile::tempdir().unwrap();
            let whole = with_files(text, folder.path());
            // Some show a part alone.
            let whole = if whole.contains("[[vip]]") { whole } else { format!("{whole}\n{VIP}") };
            let file = folder.path().join("turnip.toml");
            fs::write(&file, &whole).unwrap();
            if let Err(problems) = Config::load(&Sources::of_file(file)) {
                wrong.push(format!("{}: {problems}\n{whole}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(shown > 10, "only {shown}");
}
