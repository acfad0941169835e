//! Logins: dear, shared, and renewed before they end; passwords and certificates that change.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use etcd_client::{Client, Permission, PermissionType};
use futures::future::join_all;
use support::certificates::Certificates;
use support::cluster::Cluster;
use support::{PATIENCE, eventually, put, run};
use tokio::time::{Instant, sleep};
use turnip::etcd::certificates::Whose;
use turnip::etcd::{Etcd, EtcdSettings, Secret};
use turnip::seams::Store;
use turnip_core::StoreError;

const KEY: &str = "/turnip/logins/k";
const PREFIX: &str = "/turnip/logins/";
/// A login at this price takes longer than what requests have here.
const DEAR: [&str; 2] = ["--bcrypt-cost", "12"];
const SHORT: Duration = Duration::from_millis(60);

/// Makes the users `root` and `turnip`, and lets in only these.
async fn enable_users(cluster: &Cluster) -> Client {
    let mut client = Client::connect([cluster.url(0)], None).await.unwrap();
    client.user_add("root", "root's password", None).await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.user_add("turnip", "the first", None).await.unwrap();
    client.role_add("turnip").await.unwrap();
    let permission = Permission::new(PermissionType::Readwrite, PREFIX).with_prefix();
    client.role_grant_permission("turnip", permission).await.unwrap();
    client.user_grant_role("turnip", "turnip").await.unwrap();
    client.auth_enable().await.unwrap();
    let root = ("root".to_owned(), "root's password".to_owned());
    client.update_user(Some(root)).await.unwrap();
    client
}

fn with_password(cluster: &Cluster, password: Secret) -> EtcdSettings {
    EtcdSettings { user: Some(("turnip".to_owned(), password)), ..cluster.settings() }
}

/// How often a member has answered a method, and with what code.
fn answered(cluster: &Cluster, member: usize, method: &str, code: &str) -> u64 {
    let mut stream = TcpStream::connect(("127.0.0.1", cluster.client_port(member))).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (code, method) = (format!("grpc_code=\"{code}\""), format!("grpc_method=\"{method}\""));
    let lines = text.lines().filter(|line| line.starts_with("grpc_server_handled_total"));
    let counts = lines
        .filter(|line| line.contains(&code) && line.contains(&method))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    counts.map(|count| count as u64).sum()
}

fn logins(cluster: &Cluster) -> u64 {
    logins_at(cluster, 0)
}

fn logins_at(cluster: &Cluster, member: usize) -> u64 {
    answered(cluster, member, "Authenticate", "OK")
}

/// Runs beside the test what a daemon runs beside its driver.
async fn with_upkeep<T>(etcd: &Etcd, test: impl Future<Output = T>) -> T {
    tokio::select! {
        never = etcd.upkeep(PREFIX) => match never {},
        outcome = test => outcome,
    }
}

#[test]
fn requests_that_end_before_the_login_share_one_that_outlives_them() {
    run(async {
        let cluster = Cluster::start_with(1, None, &DEAR).await;
        enable_users(&cluster).await;
        let etcd = Etcd::new(&with_password(&cluster, Secret::new("the first".into()))).unwrap();
        let before = logins(&cluster);
        let began = Instant::now();
        let mut ended = 0;
        loop {
            let all = join_all((0..8).map(|_| etcd.commit(put(KEY, ""), SHORT))).await;
            if all.iter().any(Result::is_ok) {
                break;
            }
            let text = all[0].as_ref().unwrap_err().to_string();
            ended += usize::from(text.contains("the login was not answered"));
            assert!(began.elapsed() < PATIENCE, "{text}");
        }
        assert!(ended > 0, "the login was to take longer than a request");
        assert_eq!(logins(&cluster) - before, 1);
    });
}

#[test]
fn a_token_of_a_second_lasts_for_as_long_as_it_is_looked_after() {
    run(async {
        let arguments = [DEAR[0], DEAR[1], "--auth-token-ttl", "1"];
        let cluster = Cluster::start_with(1, None, &arguments).await;
        enable_users(&cluster).await;
        let etcd = Etcd::new(&with_password(&cluster, Secret::new("the first".into()))).unwrap();
        etcd.commit(put(KEY, "1"), PATIENCE).await.unwrap();
        let before = logins(&cluster);
        with_upkeep(&etcd, async {
            for _ in 0..3 {
                // Longer than etcd keeps a token that is not used.
                sleep(Duration::from_millis(2_500)).await;
                etcd.commit(put(KEY, "2"), PATIENCE).await.unwrap();
            }
        })
        .await;
        assert_eq!(logins(&cluster), before, "no request had to wait for a login");
    });
}

#[test]
fn a_token_outlives_the_connection_that_it_came_by() {
    run(async {
        let cluster = Cluster::start(1).await;
        enable_users(&cluster).await;
        let proxy = support::proxy::Proxy::to(cluster.client_port(0)).await;
        let settings = with_password(&cluster, Secret::new("the first".into()));
        let settings = EtcdSettings { endpoints: vec![proxy.url()], local: None, ..settings };
        let etcd = Etcd::new(&settings).unwrap();
        etcd.commit(put(KEY, "1"), PATIENCE).await.unwrap();
        let before = logins(&cluster);
        proxy.swallow();
        for _ in 0..4 {
            etcd.commit(put(KEY, "swallowed"), Duration::from_millis(500)).await.unwrap_err();
        }
        proxy.heal();
        eventually("a commit", async || {
            etcd.commit(put(KEY, "2"), Duration::from_millis(500)).await
        })
        .await;
        assert!(proxy.accepted() > 1, "by another connection");
        assert_eq!(logins(&cluster), before);
    });
}

#[test]
fn all_endpoints_go_by_one_login() {
    run(async {
        let cluster = Cluster::start(3).await;
        enable_users(&cluster).await;
        let etcd = Etcd::new(&with_password(&cluster, Secret::new("the first".into()))).unwrap();
        etcd.commit(put(KEY, "1"), PATIENCE).await.unwrap();
        let before = logins(&cluster);
        cluster.freeze(0);
        eventually("a commit", async || {
            etcd.commit(put(KEY, "2"), Duration::from_millis(500)).await
        })
        .await;
        cluster.thaw(0);
        let elsewhere = (1..3).map(|member| logins_at(&cluster, member)).sum::<u64>();
        assert_eq!((logins(&cluster), elsewhere), (before, 0));
    });
}

#[test]
fn a_signed_token_is_replaced_before_it_ends() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key");
        std::fs::write(&key, "a key that the members share").unwrap();
        let token = format!("jwt,priv-key={},sign-method=HS256,ttl=3s", key.display());
        // Cheap logins: a busy machine takes its time for each, and a token that ends meanwhile is none of ours.
        let arguments = ["--auth-token", &token, "--bcrypt-cost", "4"];
        let cluster = Cluster::start_with(1, None, &arguments).await;
        enable_users(&cluster).await;
        let etcd = Etcd::new(&with_password(&cluster, Secret::new("the first".into()))).unwrap();
        etcd.commit(put(KEY, "1"), PATIENCE).await.unwrap();
        let before = logins(&cluster);
        with_upkeep(&etcd, async {
            for _ in 0..20 {
                sleep(Duration::from_millis(400)).await;
                etcd.commit(put(KEY, "2"), PATIENCE).await.unwrap();
            }
        })
        .await;
        assert!(logins(&cluster) >= before + 3, "of 8 s each token had 3");
        assert_eq!(answered(&cluster, 0, "Txn", "Unauthenticated"), 0, "none was refused");
    });
}

fn write(file: &Path, text: &str) {
    std::fs::write(file, text).unwrap();
}

#[test]
fn a_password_may_change_in_etcd_and_in_the_file_in_either_order() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("password");
        write(&file, "the first\n");
        let cluster = Cluster::start(1).await;
        let mut root = enable_users(&cluster).await;
        let password = Secret::read(&file).unwrap();
        let etcd = Etcd::new(&with_password(&cluster, password)).unwrap();
        etcd.commit(put(KEY, "1"), PATIENCE).await.unwrap();

        root.user_change_password("turnip", "the second").await.unwrap();
        let error = etcd.commit(put(KEY, "2"), PATIENCE).await.unwrap_err();
        assert!(
            matches!(&error, StoreError::Refused(why) if why.contains("password is wrong")),
            "{error}"
        );
        write(&file, "the second\n");
        etcd.commit(put(KEY, "3"), PATIENCE).await.unwrap();

        write(&file, "the third\n");
        etcd.read_again();
        // The member forgets its tokens when any password changes, so all have to log in anew.
        root.user_change_password("turnip", "the second").await.unwrap();
        etcd.commit(put(KEY, "4"), PATIENCE).await.unwrap();
        root.user_change_password("turnip", "the third").await.unwrap();
        etcd.commit(put(KEY, "5"), PATIENCE).await.unwrap();

        std::fs::remove_file(&file).unwrap();
        root.user_change_password("turnip", "the third").await.unwrap();
        etcd.commit(put(KEY, "6"), PATIENCE).await.unwrap();
    });
}

#[test]
fn certificates_that_are_of_no_use_leave_those_that_were_read_before() {
    run(async {
        let certificates = Certificates::mutual();
        let mut cluster = Cluster::start_with(1, Some(certificates), &[]).await;
        let settings = cluster.settings();
        let etcd = Etcd::new(&settings).unwrap();
        etcd.commit(put(KEY, "1"), PATIENCE).await.unwrap();
        let (_, key) = settings.tls.client.clone().unwrap();
        let good = std::fs::read(&key).unwrap();
        for bad in [
            &b"-----BEGIN half a key"[..],
            &std::fs::read(Certificates::mutual().file("client.key")).unwrap(),
        ] {
            std::fs::write(&key, bad).unwrap();
            cluster.kill(0);
            cluster.restart(0);
            eventually("a commit", async || {
                etcd.commit(put(KEY, "2"), Duration::from_secs(1)).await
            })
            .await;
        }
        std::fs::write(&key, good).unwrap();
    });
}

#[test]
fn the_ends_of_all_certificates_in_use_are_known() {
    run(async {
        let cluster = Cluster::start_with(1, Some(Certificates::mutual()), &[]).await;
        let settings = cluster.settings();
        let etcd = Etcd::new(&settings).unwrap();
        etcd.commit(put(KEY, "1"), PATIENCE).await.unwrap();
        let ends = etcd.certificate_ends();
        let whose: Vec<&Whose> = ends.iter().map(|end| &end.whose).collect();
        let (client, _) = settings.tls.client.clone().unwrap();
        let ca = settings.tls.ca_file.clone().unwrap();
        assert_eq!(
            whose,
            [&Whose::Client(client), &Whose::Server(cluster.url(0)), &Whose::Authority(ca)]
        );
        assert!(
            ends[1].subject.contains("a server") && ends[2].subject.contains("test authority"),
            "{ends:?}"
        );
        assert!(
            Etcd::new(&Cluster::start(1).await.settings()).unwrap().certificate_ends().is_empty()
        );
    });
}
