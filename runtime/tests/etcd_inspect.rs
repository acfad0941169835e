//! What the commands for operators ask of etcd.

mod support;

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use etcd_client::{Client, MemberAddOptions};
use support::certificates::Certificates;
use support::cluster::{Cluster, free_ports};
use support::{PATIENCE, eventually, run, snapshot};
use turnip::config::Compact;
use turnip::etcd::growth::Source;
use turnip::etcd::{Etcd, EtcdSettings, TlsSettings};
use turnip::seams::Store;
use turnip_core::{Revision, StoreError};
use turnip_netns_tests::process::Process;

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

#[test]
fn a_member_tells_to_which_size_it_may_grow_with_tls_and_without() {
    run(async {
        for tls in [None, Some(Certificates::mutual())] {
            let cluster = Cluster::start_with(1, tls, &["--quota-backend-bytes=67108864"]).await;
            let databases = cluster.handle(0).databases(Some(1), PATIENCE).await;
            let [database] = &databases[..] else { panic!("{databases:?}") };
            assert_eq!(database.quota, Some((64 << 20, Source::Member)), "{database:?}");
            assert!(database.bytes > 0 && database.concerns().is_empty());
        }
    });
}

#[test]
fn an_etcd_that_is_full_is_told_of_and_can_be_compacted() {
    run(async {
        let cluster = Cluster::start_with(1, None, &["--quota-backend-bytes=2097152"]).await;
        let etcd = cluster.handle(0);
        let value = vec![b'x'; 200_000];
        let mut last = Revision(0);
        let refused = async {
            loop {
                match etcd.put(&format!("{PREFIX}k"), &value, PATIENCE).await {
                    Ok(revision) => last = revision,
                    Err(error) => return error.to_string(),
                }
            }
        };
        let why = tokio::time::timeout(PATIENCE, refused).await.expect("etcd fills up");
        assert!(why.contains("full"), "{why}");
        let databases = etcd.databases(None, PATIENCE).await;
        let concerns: Vec<_> = databases.iter().flat_map(|database| database.concerns()).collect();
        assert!(concerns.iter().any(|concern| concern.what.contains("NOSPACE")), "{concerns:?}");
        // Said once: the alarm speaks of the size too, which is known all the same.
        assert_eq!(concerns.len(), 1, "{concerns:?}");
        let quotas: Vec<_> =
            databases.iter().map(|one| one.quota.map(|(bytes, _)| bytes)).collect();
        assert_eq!(quotas, [Some(2 << 20)]);

        etcd.compact(last, PATIENCE).await.unwrap();
        assert_eq!(etcd.history(PREFIX, PATIENCE).await.unwrap().oldest, last);
    });
}

#[test]
fn keys_that_are_none_of_turnips_are_counted() {
    run(async {
        let cluster = Cluster::start(1).await;
        let etcd = cluster.handle(0);
        etcd.put(&format!("{PREFIX}k"), b"", PATIENCE).await.unwrap();
        etcd.put("/turnip/another/k", b"", PATIENCE).await.unwrap();
        assert_eq!(etcd.foreign_keys(PATIENCE).await, Ok(0));
        assert_eq!(etcd.may_compact(Compact::Auto, PATIENCE).await, Ok(Ok(())));
        etcd.put("/registry/pods/p", b"", PATIENCE).await.unwrap();
        assert_eq!(etcd.foreign_keys(PATIENCE).await, Ok(1));
        // Only who was told to compacts what others may need.
        let why = etcd.may_compact(Compact::Auto, PATIENCE).await.unwrap().unwrap_err();
        assert!(why.contains("others have keys"), "{why}");
        let kept = Compact::Keep(Duration::from_secs(3600));
        assert_eq!(etcd.may_compact(kept, PATIENCE).await, Ok(Ok(())));
        assert!(etcd.may_compact(Compact::Never, PATIENCE).await.unwrap().is_err());
    });
}

/// etcd's own proxy before all members.
fn grpc_proxy(cluster: &Cluster, members: usize, directory: &Path) -> (Process, String) {
    let [port] = free_ports(1)[..] else { panic!() };
    let endpoints: Vec<String> =
        (0..members).map(|i| format!("127.0.0.1:{}", cluster.client_port(i))).collect();
    let mut command = Command::new(turnip_netns_tests::etcd::binary());
    command.args(["grpc-proxy", "start", "--listen-addr", &format!("127.0.0.1:{port}")]);
    command.args(["--endpoints", &endpoints.join(",")]);
    command.args(["--advertise-client-url", &format!("127.0.0.1:{port}")]);
    let process = Process::start(command, "grpc-proxy", directory.join("proxy.log")).unwrap();
    (process, format!("http://127.0.0.1:{port}"))
}

/// What `turnip check` says of these endpoints.
fn checked(endpoints: &str, directory: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_turnip"))
        .args(["check", "--endpoints", endpoints])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("RUNTIME_DIRECTORY", directory)
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_proxy_is_recognised_and_nobody_follows_its_leader() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let cluster = Cluster::start(3).await;
        let (_proxy, url) = grpc_proxy(&cluster, 3, directory.path());
        let settings = EtcdSettings { local: Some(url.clone()), ..cluster.settings() };
        let etcd = Etcd::new(&settings).unwrap();
        eventually("the proxy answers", async || etcd.endpoint_status(&url, PATIENCE).await).await;
        for _ in 0..6 {
            let answer = etcd.member_status(PATIENCE).await;
            let Err(StoreError::Refused(why)) = &answer else { panic!("{answer:?}") };
            assert!(why.contains("grpc-proxy") && why.contains(&url), "{why}");
        }
        cluster.handle(0).member_status(PATIENCE).await.expect("a member is one");

        let said = checked(&format!("{url},{}", cluster.url(0)), directory.path());
        assert!(said.contains("etcd's grpc-proxy, and no member"), "{said}");
        let of_proxy = said.lines().filter(|line| line.contains(&url));
        assert!(of_proxy.clone().all(|line| !line.contains("a follower")), "{said}");
    });
}

#[test]
fn a_load_balancer_and_a_learner_are_recognised() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let cluster = Cluster::start(3).await;
        let balancer = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", balancer.local_addr().unwrap());
        let ports: Vec<u16> = (0..3).map(|index| cluster.client_port(index)).collect();
        std::thread::spawn(move || balance(&balancer, &ports));
        let learner = add_learner(&cluster, directory.path()).await;

        let endpoints = format!("{url},{},{}", learner.1, cluster.url(0));
        let said = eventually("the learner is one", async || {
            let said = checked(&endpoints, directory.path());
            if said.contains("a learner: it does not vote yet") { Ok(said) } else { Err(said) }
        })
        .await;
        assert!(said.contains("one member after the other"), "{said}");
        // Requests that a learner does not take go to the next endpoint.
        let settings = EtcdSettings {
            endpoints: vec![learner.1.clone(), cluster.url(0)],
            local: None,
            tls: TlsSettings::default(),
            user: None,
        };
        let etcd = Etcd::new(&settings).unwrap();
        etcd.put(&format!("{PREFIX}k"), b"", PATIENCE).await.unwrap();
    });
}

/// Leads each connection to the next of these ports.
fn balance(listener: &TcpListener, ports: &[u16]) {
    for (near, port) in listener.incoming().zip(ports.iter().cycle()) {
        let (Ok(near), Ok(far)) = (near, TcpStream::connect(("127.0.0.1", *port))) else { return };
        for (mut from, mut to) in
            [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)]
        {
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        }
    }
}

async fn add_learner(cluster: &Cluster, directory: &Path) -> (Process, String) {
    let [clients, peers] = free_ports(2)[..] else { panic!() };
    let [clients, peers] = [clients, peers].map(|port| format!("http://127.0.0.1:{port}"));
    let client = Client::connect([cluster.url(0)], None).await.unwrap();
    let added = MemberAddOptions::new().with_is_learner();
    // Members that have just found each other take no other yet.
    let added = eventually("a learner is added", async || {
        client.clone().member_add([peers.clone()], Some(added.clone())).await
    })
    .await;
    let of = |member: &etcd_client::Member| match member.name() {
        "" => format!("learner={}", member.peer_urls()[0]),
        name => format!("{name}={}", member.peer_urls()[0]),
    };
    let all: Vec<String> = added.member_list().iter().map(of).collect();
    let mut command = Command::new(turnip_netns_tests::etcd::binary());
    command.args(["--name=learner", "--initial-cluster-state=existing", "--logger=zap"]);
    for (flag, value) in [
        ("data-dir", directory.join("learner").display().to_string()),
        ("initial-cluster", all.join(",")),
        ("listen-client-urls", clients.clone()),
        ("advertise-client-urls", clients.clone()),
        ("listen-peer-urls", peers.clone()),
        ("initial-advertise-peer-urls", peers.clone()),
    ] {
        command.arg(format!("--{flag}={value}"));
    }
    let process = Process::start(command, "a learner", directory.join("learner.log")).unwrap();
    (process, clients)
}
