//! What the documentation says of scenarios is so.

use std::path::{Path, PathBuf};

use turnip_sim::play::{self, Algorithm};
use turnip_sim::script::{self, Script};

const BEGIN: &str = "<!-- verbs: made by `turnip-sim verbs --format markdown` -->\n";
const END: &str = "<!-- end of verbs -->";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src")
}

fn page() -> String {
    std::fs::read_to_string(folder().join("scenarios.md")).expect("the page about scenarios")
}

#[test]
fn the_page_has_the_table_of_all_verbs() {
    let page = page();
    let (_, rest) = page.split_once(BEGIN).expect("where the table begins");
    let (table, _) = rest.split_once(END).expect("where it ends");
    assert_eq!(table.trim(), script::markdown().trim());
}

#[test]
fn the_first_file_that_it_shows_comes_out_as_it_expects() {
    let page = page();
    let (_, rest) = page.split_once("```toml\n# five-hosts.toml\n").expect("the first file");
    let (text, _) = rest.split_once("```").expect("its end");
    let script =
        Script::parse(Path::new("five-hosts.toml"), text).unwrap_or_else(|all| panic!("{all}"));
    assert_eq!((script.hosts.len(), script.sites.len(), script.etcd.members.len()), (5, 2, 3));
    for seed in 0..300 {
        let run = play::simulate(&script, seed, Algorithm::Turnip);
        assert_eq!(play::judge(&script, &run), []);
    }
}

#[test]
fn the_expectations_and_phrases_that_it_shows_are_understood() {
    let page = page();
    let (_, rest) = page.split_once("```toml\n[expect]\n").expect("the expectations");
    let (expect, _) = rest.split_once("```").expect("their end");
    let vips: String = ["v1", "v2"]
        .iter()
        .enumerate()
        .map(|(number, vip)| {
            format!("[[vip]]\nname = \"{vip}\"\naddress = \"10.0.0.{number}/32\"\ninterface = \"eth0\"\n")
        })
        .collect();
    Script::parse(Path::new("x.toml"), &format!("{vips}[expect]\n{expect}"))
        .unwrap_or_else(|all| panic!("{all}"));
    let phrases: Vec<&str> =
        page.split("--fault '").skip(1).filter_map(|it| it.split('\'').next()).collect();
    assert!(phrases.len() >= 3);
    for phrase in phrases {
        let extra = script::Extra { faults: vec![phrase.to_owned()], ..script::Extra::default() };
        Script::of_phrases(&extra).unwrap_or_else(|all| panic!("{all}"));
    }
}

#[test]
fn its_pictures_are_there_and_small() {
    let page = page();
    let pictures: Vec<&str> =
        page.split("](pictures/").skip(1).filter_map(|rest| rest.split(')').next()).collect();
    assert_eq!(pictures.len(), 3);
    for picture in pictures {
        let text = std::fs::read_to_string(folder().join("pictures").join(picture)).unwrap();
        assert!(text.starts_with("<svg") && text.len() < 60_000, "{picture}: {} bytes", text.len());
    }
}
