//! Being let in: TLS, mutual TLS, users, passwords, tokens.

mod support;

use std::pin::pin;
use std::time::Duration;

use etcd_client::{Client, Permission, PermissionType};
use support::certificates::Certificates;
use support::cluster::Cluster;
use support::{PATIENCE, events_up_to, next, put, run, snapshot};
use turnip::etcd::{Etcd, EtcdSettings, Secret};
use turnip::seams::Store;
use turnip_core::StoreError;

const KEY: &str = "/turnip/access/k";
const PREFIX: &str = "/turnip/access/";

/// Commits, follows and asks for the status.
async fn works(settings: &EtcdSettings) {
    let etcd = Etcd::new(settings).unwrap();
    let mut updates = pin!(etcd.follow(PREFIX.to_owned(), false));
    snapshot(&mut updates).await;
    let written = etcd.commit(put(KEY, ""), PATIENCE).await.unwrap();
    events_up_to(&mut updates, written.header.revision).await;
    etcd.member_status(PATIENCE).await.unwrap();
    assert_eq!(etcd.members(PATIENCE).await.unwrap().len(), settings.endpoints.len());
}

/// What a commit fails of.
async fn fails(settings: &EtcdSettings) -> StoreError {
    Etcd::new(settings).unwrap().commit(put(KEY, ""), PATIENCE).await.unwrap_err()
}

#[test]
fn https_works_with_the_right_authority_and_fails_with_its_cause_without() {
    run(async {
        let cluster = Cluster::start_with(1, Some(Certificates::of_server()), &[]).await;
        let settings = cluster.settings();
        works(&settings).await;

        let mut wrong = settings.clone();
        let other = Certificates::of_server();
        wrong.tls.ca_file = Some(other.file("ca.pem"));
        let error = fails(&wrong).await.to_string();
        assert!(error.contains("certificate") && error.contains(&cluster.url(0)), "{error}");

        let mut plain = settings;
        plain.endpoints[0] = plain.endpoints[0].replace("https", "http");
        let error = fails(&plain).await.to_string();
        assert!(error.contains("is it an https:// endpoint?"), "{error}");
    });
}

#[test]
fn the_systems_authorities_are_trusted_when_none_is_configured() {
    run(async {
        let cluster = Cluster::start_with(1, Some(Certificates::of_server()), &[]).await;
        let mut settings = cluster.settings();
        settings.tls.ca_file = None;
        let error = fails(&settings).await.to_string();
        assert!(error.contains("certificate"), "ours is none of them: {error}");
    });
}

#[test]
fn a_certificate_for_another_name_is_good_when_that_name_is_configured() {
    run(async {
        let certificates = Certificates::of_server_named("etcd.example");
        let cluster = Cluster::start_named(1, certificates, "etcd.example").await;
        let mut settings = cluster.settings();
        works(&settings).await;
        settings.tls.server_name = None;
        let error = fails(&settings).await.to_string();
        assert!(error.contains("not valid for name"), "{error}");
    });
}

#[test]
fn mutual_tls_lets_in_who_has_a_certificate_and_nobody_else() {
    run(async {
        let cluster = Cluster::start_with(1, Some(Certificates::mutual()), &[]).await;
        let mut settings = cluster.settings();
        works(&settings).await;
        settings.tls.client = None;
        let error = fails(&settings).await.to_string();
        assert!(error.contains("certificate"), "{error}");
    });
}

#[test]
fn unusable_certificates_are_named_before_anything_is_connected() {
    let certificates = Certificates::mutual();
    let settings = |change: &dyn Fn(&mut EtcdSettings)| {
        let mut settings = EtcdSettings {
            endpoints: vec!["https://127.0.0.1:1".to_owned()],
            local: None,
            tls: certificates.client_settings(),
            user: None,
        };
        change(&mut settings);
        Etcd::new(&settings).map(drop).unwrap_err().to_string()
    };
    let absent = certificates.file("absent.pem");
    let error = settings(&|settings| settings.tls.ca_file = Some(absent.clone()));
    assert!(error.contains("absent.pem"), "{error}");
    let no_pem = certificates.file("no.pem");
    std::fs::write(&no_pem, "not a certificate").unwrap();
    let error = settings(&|settings| settings.tls.ca_file = Some(no_pem.clone()));
    assert!(error.contains("no.pem"), "{error}");
    let error = settings(&|settings| settings.endpoints = vec!["https://u:secret@h:1".to_owned()]);
    assert!(!error.contains("secret"), "{error}");
    let error = settings(&|settings| settings.endpoints = vec!["127.0.0.1:2379".to_owned()]);
    assert!(error.contains("127.0.0.1:2379") && error.contains("http://host:port"), "{error}");
    let error = settings(&|settings| settings.endpoints.clear());
    assert!(error.contains("no etcd endpoint"), "{error}");
}

#[test]
fn renewed_certificates_are_used_without_a_restart() {
    run(async {
        let mut cluster = Cluster::start_with(1, Some(Certificates::mutual()), &[]).await;
        let settings = cluster.settings();
        let etcd = Etcd::new(&settings).unwrap();
        etcd.commit(put(KEY, ""), PATIENCE).await.unwrap();
        let fresh = Certificates::mutual();
        for file in ["ca.pem", "server.pem", "server.key", "client.pem", "client.key"] {
            let old = settings.tls.ca_file.as_ref().unwrap().with_file_name(file);
            std::fs::copy(fresh.file(file), old).unwrap();
        }
        cluster.kill(0);
        cluster.restart(0);
        support::eventually("a commit", async || {
            etcd.commit(put(KEY, ""), Duration::from_secs(1)).await
        })
        .await;
    });
}

/// Makes the users `root` and `turnip`, who may use turnip's prefix, and lets in only these.
async fn enable_users(cluster: &Cluster) {
    let mut client = Client::connect([cluster.url(0)], None).await.unwrap();
    client.user_add("root", "root's password", None).await.unwrap();
    client.role_add("root").await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.user_add("turnip", "turnip's password", None).await.unwrap();
    client.role_add("turnip").await.unwrap();
    let permission = Permission::new(PermissionType::Readwrite, PREFIX).with_prefix();
    client.role_grant_permission("turnip", permission).await.unwrap();
    client.user_grant_role("turnip", "turnip").await.unwrap();
    client.auth_enable().await.unwrap();
}

fn with_user(cluster: &Cluster, name: &str, password: &str) -> EtcdSettings {
    let user = Some((name.to_owned(), Secret::new(password.to_owned())));
    EtcdSettings { user, ..cluster.settings() }
}

#[test]
fn a_user_is_let_in_by_the_right_password_only() {
    run(async {
        let cluster = Cluster::start(1).await;
        works(&with_user(&cluster, "turnip", "though nobody asks for a password")).await;
        enable_users(&cluster).await;
        works(&with_user(&cluster, "turnip", "turnip's password")).await;

        let wrong = with_user(&cluster, "turnip", "no password of anybody");
        let error = fails(&wrong).await;
        assert!(matches!(error, StoreError::Refused(_)), "{error}");
        let text = error.to_string();
        assert!(text.contains("password is wrong") && text.contains(&cluster.url(0)), "{text}");
        assert!(!text.contains("no password of anybody"), "{text}");
        assert!(!format!("{wrong:?}").contains("no password of anybody"));

        let error = fails(&cluster.settings()).await;
        assert!(matches!(error, StoreError::Refused(_)), "{error}");
        assert!(error.to_string().contains("none is configured"), "{error}");
    });
}

#[test]
fn what_a_users_roles_do_not_allow_is_refused() {
    run(async {
        let cluster = Cluster::start(1).await;
        enable_users(&cluster).await;
        let settings = with_user(&cluster, "turnip", "turnip's password");
        let etcd = Etcd::new(&settings).unwrap();
        let error = etcd.commit(put("/other/k", ""), PATIENCE).await.unwrap_err();
        assert!(matches!(&error, StoreError::Refused(why) if why.contains("roles")), "{error}");
        let mut updates = pin!(etcd.follow("/other/".to_owned(), false));
        let error = next(&mut updates).await.unwrap_err();
        assert!(matches!(&error, StoreError::Refused(why) if why.contains("roles")), "{error}");
        etcd.commit(put(KEY, ""), PATIENCE).await.unwrap();
    });
}

#[test]
fn a_token_that_has_expired_is_renewed() {
    run(async {
        let cluster = Cluster::start_with(1, None, &["--auth-token-ttl", "1"]).await;
        enable_users(&cluster).await;
        let settings = with_user(&cluster, "turnip", "turnip's password");
        let etcd = Etcd::new(&settings).unwrap();
        let mut updates = pin!(etcd.follow(PREFIX.to_owned(), false));
        snapshot(&mut updates).await;
        etcd.commit(put(KEY, "1"), PATIENCE).await.unwrap();
        tokio::time::sleep(Duration::from_secs(4)).await;
        let written = etcd.commit(put(KEY, "2"), PATIENCE).await.unwrap();
        events_up_to(&mut updates, written.header.revision).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        snapshot(&mut pin!(etcd.follow(PREFIX.to_owned(), false))).await;
    });
}

#[test]
fn a_member_that_forgot_its_tokens_gives_new_ones() {
    run(async {
        let mut cluster = Cluster::start(1).await;
        enable_users(&cluster).await;
        let etcd = Etcd::new(&with_user(&cluster, "turnip", "turnip's password")).unwrap();
        etcd.commit(put(KEY, "1"), PATIENCE).await.unwrap();
        cluster.kill(0);
        cluster.restart(0);
        support::eventually("a commit", async || {
            etcd.commit(put(KEY, "2"), Duration::from_secs(1)).await
        })
        .await;
    });
}

#[test]
fn users_that_come_to_be_required_are_let_in_without_a_restart() {
    run(async {
        let cluster = Cluster::start(1).await;
        let etcd = Etcd::new(&with_user(&cluster, "turnip", "turnip's password")).unwrap();
        etcd.commit(put(KEY, "1"), PATIENCE).await.unwrap();
        enable_users(&cluster).await;
        etcd.commit(put(KEY, "2"), PATIENCE).await.unwrap();
    });
}
