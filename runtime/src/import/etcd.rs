//! How etcd is reached, as both kube-vip and vip-manager say it.

use super::document::{Table, Value};
use super::note::Notes;
use super::origin::Origin;

/// Puts the endpoints of comma-separated lists into `[etcd]`; of `http://` beside `https://` only the latter.
pub(super) fn endpoints(lists: &[(&str, &Origin)], table: &mut Table, notes: &mut Notes) {
    let mut items: Vec<(String, Vec<Origin>)> = Vec::new();
    for (list, origin) in lists {
        for url in list.split(',').map(str::trim).filter(|url| !url.is_empty()) {
            let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
            if url.contains('@') {
                let what = "a user in the URL; write user and password_file under [etcd]";
                notes.lost(origin, "an endpoint of etcd (hidden)", what);
                continue;
            }
            match items.iter_mut().find(|(other, _)| *other == url) {
                Some((_, from)) => from.push((*origin).clone()),
                None => items.push((url, vec![(*origin).clone()])),
            }
        }
    }
    let secure = items.iter().filter(|(url, _)| url.starts_with("https://")).count();
    if secure != 0 && secure != items.len() {
        for (url, from) in items.iter().filter(|(url, _)| !url.starts_with("https://")) {
            from.iter().for_each(|origin| notes.lost(origin, url, "http:// beside https://, which turnip refuses: the endpoints with TLS are in the output; have this one speak TLS too, or leave it out"));
        }
        items.retain(|(url, _)| url.starts_with("https://"));
    }
    if !items.is_empty() {
        table.put("endpoints", Value::List(items), &[]);
    }
}

/// Leaves out of `[etcd]` what turnip refuses: files for TLS where there is none, a certificate without its key.
pub(super) fn settle_tls(table: &mut Table, notes: &mut Notes) {
    let is_https = table
        .entry("endpoints")
        .is_some_and(|entry| matches!(&entry.value, Value::List(all) if all.iter().all(|(url, _)| url.starts_with("https://"))));
    let is_pair = table.entry("cert").is_some() && table.entry("key").is_some();
    table.entries.retain(|entry| {
        let what = match entry.key.as_str() {
            "ca" | "cert" | "key" if !is_https => {
                "of no use without TLS; write the endpoints as https://"
            }
            "cert" | "key" if !is_pair => {
                "a certificate and its key go together; write cert and key under [etcd]"
            }
            _ => return true,
        };
        let statement = format!("{} = {}", entry.key, entry.value.to_toml());
        entry.origins.iter().for_each(|origin| notes.lost(origin, statement.clone(), what));
        false
    });
}
