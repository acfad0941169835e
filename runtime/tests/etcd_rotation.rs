//! Authority, certificates and key that become others while an `Etcd` is there, each way in which people put
//! files in the place of others.

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use support::certificates::Certificates;
use support::cluster::Cluster;
use support::{PATIENCE, eventually, put, run};
use turnip::etcd::{Etcd, EtcdSettings, TlsSettings};
use turnip::seams::Store;

const KEY: &str = "/turnip/rotation/k";
const CLIENTS: [&str; 3] = ["ca.pem", "client.pem", "client.key"];
const ALL: [&str; 5] = ["ca.pem", "client.pem", "client.key", "server.pem", "server.key"];

/// What etcd has is from now on that of `from`, and so is what it accepts.
fn change(cluster: &mut Cluster, from: &dyn Fn(&str) -> Vec<u8>) {
    let directory: PathBuf = cluster.settings().tls.ca_file.unwrap().parent().unwrap().into();
    cluster.kill(0);
    for name in ALL {
        fs::write(directory.join(name), from(name)).unwrap();
    }
    cluster.restart(0);
}

async fn works(etcd: &Etcd) {
    eventually("a commit", async || etcd.commit(put(KEY, "2"), Duration::from_secs(1)).await).await;
}

fn in_directory(directory: &Path, endpoints: &EtcdSettings) -> EtcdSettings {
    let tls = TlsSettings {
        ca_file: Some(directory.join("ca.pem")),
        client: Some((directory.join("client.pem"), directory.join("client.key"))),
        server_name: None,
    };
    EtcdSettings { tls, ..endpoints.clone() }
}

#[test]
fn files_that_are_renamed_into_place_and_links_that_are_moved_are_used_by_the_next_connection() {
    run(async {
        let first = Certificates::mutual();
        let kept: Vec<Vec<u8>> = ALL.map(|name| fs::read(first.file(name)).unwrap()).into();
        let of_first = move |name: &str| kept[ALL.iter().position(|n| *n == name).unwrap()].clone();
        let second = Certificates::mutual();
        let of_second = |name: &str| fs::read(second.file(name)).unwrap();
        let mut cluster = Cluster::start_with(1, Some(first), &[]).await;

        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for version in ["one", "two"] {
            fs::create_dir(at(version)).unwrap();
            CLIENTS
                .iter()
                .for_each(|name| fs::write(at(version).join(name), of_first(name)).unwrap());
        }
        symlink("one", at("current")).unwrap();
        let settings = in_directory(&at("current"), &cluster.settings());
        let etcd = Etcd::new(&settings).unwrap();
        etcd.commit(put(KEY, "1"), PATIENCE).await.unwrap();

        for name in CLIENTS {
            let beside = at("one").join(format!("{name}.new"));
            fs::write(&beside, of_second(name)).unwrap();
            fs::rename(beside, at("one").join(name)).unwrap();
        }
        change(&mut cluster, &of_second);
        works(&etcd).await;

        symlink("two", at("next")).unwrap();
        fs::rename(at("next"), at("current")).unwrap();
        change(&mut cluster, &of_first);
        works(&etcd).await;
        // What was there before would not do.
        let old = Etcd::new(&in_directory(&at("one"), &settings)).unwrap();
        old.commit(put(KEY, "3"), PATIENCE).await.unwrap_err();
    });
}
