//! What the commands for operators ask of etcd.

mod support;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use etcd_client::Client;
use support::cluster::{Cluster, free_ports};
use support::{PATIENCE, eventually, run, snapshot};
use turnip::etcd::{Etcd, EtcdSettings, TlsSettings};
use turnip::seams::Store;
use turnip_core::Revision;

const PREFIX: &str = "/turnip/main/";

#[test]
fn members_and_their_status_are_told() {
    run(async {
        let cluster = Cluster::start(3).await;
        let etcd = cluster.handle(0);
        // The member that is asked knows the others' URLs when they have published them.
        let members = eventually("all members with their URLs", async || {
            let members = etcd.members(PATIENCE).await.map_err(|error| error.to_string())?;
            let known = members.iter().all(|member| member.client_urls.len() == 1);
            if known { Ok(members) } else { Err(format!("{members:?}")) }
        })
        .await;
        assert_eq!(members.len(), 3);
        for index in 0..3 {
            let url = cluster.url(index);
            let status = etcd.endpoint_status(&url, PATIENCE).await.unwrap();
            let member = members.iter().find(|member| member.id == status.member_id).unwrap();
            assert_eq!(member.name, format!("m{index}"));
            assert_eq!(member.client_urls, [url]);
            assert_eq!(member.peer_urls.len(), 1);
            assert!(!member.is_learner);
            assert!(status.version.starts_with("3."), "{status:?}");
            assert!(status.db_bytes > 0 && status.term > 0 && status.cluster_id != 0);
        }
        eventually("one leader", async || {
            let mut leaders = 0;
            for index in 0..3 {
                let status = etcd.endpoint_status(&cluster.url(index), PATIENCE).await;
                leaders += usize::from(status.is_ok_and(|status| status.is_leader()));
            }
            if leaders == 1 { Ok(()) } else { Err(leaders) }
        })
        .await;
        let error = etcd.endpoint_status("http://elsewhere:2379", PATIENCE).await.unwrap_err();
        assert!(error.to_string().contains("elsewhere"), "{error}");
    });
}

#[test]
fn keys_are_put_read_and_deleted() {
    run(async {
        let cluster = Cluster::start(1).await;
        let etcd = cluster.handle(0);
        let key = format!("{PREFIX}intents/drain/a");
        let revision = etcd.put(&key, b"value", PATIENCE).await.unwrap();
        let snapshot = etcd.snapshot(PREFIX).await.unwrap();
        assert_eq!(snapshot.header.revision, revision);
        assert_eq!((&snapshot.kvs[0].key, &snapshot.kvs[0].value[..]), (&key, &b"value"[..]));
        assert!(etcd.delete(&key, PATIENCE).await.unwrap());
        assert!(!etcd.delete(&key, PATIENCE).await.unwrap());
        assert!(etcd.snapshot(PREFIX).await.unwrap().kvs.is_empty());
    });
}

#[test]
fn endpoints_that_say_nothing_keep_nobody_from_the_one_that_answers() {
    run(async {
        let cluster = Cluster::start(1).await;
        // They take connections, and never speak.
        let silent: Vec<_> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let mut settings = cluster.settings();
        settings.endpoints = silent
            .iter()
            .map(|listener| format!("http://{}", listener.local_addr().unwrap()))
            .chain([cluster.url(0)])
            .collect();
        let etcd = Etcd::new(&settings).unwrap();
        let asked = Instant::now();
        etcd.snapshot(PREFIX).await.unwrap();
        // What follows begins at the one that answered.
        etcd.put(&format!("{PREFIX}k"), b"", Duration::from_secs(1)).await.unwrap();
        let mut updates = Box::pin(etcd.follow(PREFIX.to_owned(), false));
        assert_eq!(snapshot(&mut updates).await.kvs.len(), 1);
        assert!(asked.elapsed() < Duration::from_millis(2_500), "{:?}", asked.elapsed());
    });
}

#[test]
fn when_no_endpoint_answers_each_says_why() {
    run(async {
        let endpoints = free_ports(2).into_iter().map(|port| format!("http://127.0.0.1:{port}"));
        let endpoints: Vec<_> = endpoints.collect();
        let settings = EtcdSettings {
            local: None,
            endpoints: endpoints.clone(),
            tls: TlsSettings::default(),
            user: None,
        };
        let error = Etcd::new(&settings).unwrap().snapshot(PREFIX).await.unwrap_err().to_string();
        assert!(endpoints.iter().all(|url| error.contains(url)), "{error}");
    });
}

#[test]
fn commit_latencies_are_measured_beside_the_clusters_keys_and_leave_nothing_behind() {
    run(async {
        let cluster = Cluster::start(1).await;
        let etcd = cluster.handle(0);
        let name = "main".parse().unwrap();
        let latencies = etcd.commit_latencies(&name, 20, PATIENCE).await.unwrap();
        assert_eq!(latencies.len(), 20);
        assert!(latencies.iter().all(|latency| *latency > Duration::ZERO));
        assert!(etcd.snapshot("/").await.unwrap().kvs.is_empty());
    });
}

#[test]
fn history_tells_whether_anybody_compacts() {
    run(async {
        let cluster = Cluster::start(1).await;
        let etcd = cluster.handle(0);
        let mut last = Revision(0);
        for _ in 0..20 {
            last = etcd.put(&format!("{PREFIX}k"), b"", PATIENCE).await.unwrap();
        }
        let history = etcd.history(PREFIX, PATIENCE).await.unwrap();
        assert_eq!((history.current, history.oldest), (last, Revision(1)), "nobody does");

        let mut client = Client::connect([cluster.url(0)], None).await.unwrap();
        client.compact(last.0 - 5, None).await.unwrap();
        let history = etcd.history(PREFIX, PATIENCE).await.unwrap();
        assert_eq!((history.current, history.oldest), (last, Revision(last.0 - 5)));
    });
}
