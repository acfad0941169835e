//! Checks over https, of a real server that wants a certificate: etcd.

mod support;

use std::sync::Arc;
use std::time::Duration;

use support::certificates::Certificates;
use support::cluster::Cluster;
use support::run;
use turnip::checks::{Check, Http, Kind, TlsFiles, try_once};
use turnip_core::{CheckConfig, Initial};

async fn tried(http: Http) -> Result<(), String> {
    let config = CheckConfig {
        name: "etcd".parse().unwrap(),
        rise: 1,
        fall: 1,
        initial: Initial::Wait,
        weight: None,
        whole_node: false,
    };
    let (interval, timeout) = (Duration::from_secs(1), Duration::from_secs(10));
    try_once(&Check { config, kind: Kind::Http(Arc::new(http)), interval, timeout }).await
}

#[test]
fn https_is_asked_with_the_own_authority_and_certificate_and_fails_with_its_cause_without() {
    run(async {
        let cluster = Cluster::start_with(1, Some(Certificates::mutual()), &[]).await;
        let tls = cluster.settings().tls;
        let url = format!("{}/health", cluster.url(0));
        let files = TlsFiles { ca: tls.ca_file.clone(), client: tls.client.clone() };
        let http = |files: TlsFiles| Http::new(&url, files).unwrap();
        let healthy =
            http(files.clone()).answered_by(Some(200), Some("\"health\":\"true\"".into()));
        assert_eq!(tried(healthy).await, Ok(()));

        let stranger = TlsFiles { client: None, ..files.clone() };
        let why = tried(http(stranger)).await.unwrap_err();
        assert!(why.contains("certificate") || why.contains("Certificate"), "{why}");

        let other = Certificates::of_server();
        let wrong = TlsFiles { ca: Some(other.file("ca.pem")), ..files.clone() };
        let why = tried(http(wrong)).await.unwrap_err();
        assert!(why.contains("invalid peer certificate"), "{why}");

        let elsewhere = http(files.clone()).called(Some("another.example".into()));
        let why = tried(elsewhere).await.unwrap_err();
        assert!(why.contains("invalid peer certificate"), "{why}");

        let missing = TlsFiles { ca: Some("/nowhere/ca.pem".into()), ..files };
        let why = tried(http(missing)).await.unwrap_err();
        assert!(why.starts_with("cannot read /nowhere/ca.pem"), "{why}");
    });
}
