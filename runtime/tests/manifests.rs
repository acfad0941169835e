//! What `turnip manifest` prints: held against Kubernetes' published schema, and its configuration against turnip.

use std::path::Path;
use std::process::{Command, Output};

use clap::Args;
use k8s_openapi::Metadata;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, PodSpec};
use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use turnip::config::{Config, NodeArgs, ReachArgs, Sources};
use turnip_core::Policy;

fn turnip(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_turnip")).arg("manifest").args(arguments).output().unwrap()
}

/// The documents that are printed.
fn printed(kind: &str, more: &[&str]) -> Vec<Value> {
    let usual = [kind, "--address", "10.0.0.50/24", "--interface", "eth0"];
    let output = turnip(&[&usual, more].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Yaml::load_from_str(&text).unwrap().iter().map(plain).collect()
}

fn plain(yaml: &Yaml) -> Value {
    match yaml {
        Yaml::Sequence(items) => items.iter().map(plain).collect(),
        Yaml::Mapping(entries) => {
            let name = |key: &Yaml| key.as_str().expect("a key is a string").to_owned();
            Value::Object(
                entries.iter().map(|(key, value)| (name(key), plain(value))).collect::<Map<_, _>>(),
            )
        }
        Yaml::Value(Scalar::String(text)) => Value::from(text.as_ref()),
        Yaml::Value(Scalar::Integer(number)) => Value::from(*number),
        Yaml::Value(Scalar::Boolean(is)) => Value::from(*is),
        other => panic!("a manifest has no {other:?}"),
    }
}

/// As what it says to be, where each of its words is one of the schema's.
fn as_published<T: DeserializeOwned + Serialize>(document: &Value) -> T {
    let typed: T = serde_json::from_value(document.clone()).unwrap();
    assert_eq!(&serde_json::to_value(&typed).unwrap(), document, "something is not in the schema");
    typed
}

/// What turnip makes of the configuration, with the files that it names in a place of the test's.
fn understood(configuration: &str) -> Config {
    let directory = tempfile::tempdir().unwrap();
    let mut text = configuration.to_owned();
    for (name, kind) in
        [("ca.crt", "CERTIFICATE"), ("client.crt", "CERTIFICATE"), ("client.key", "EC PRIVATE KEY")]
    {
        let pem = format!("-----BEGIN {kind}-----\nAA==\n-----END {kind}-----\n");
        std::fs::write(directory.path().join(name), pem).unwrap();
    }
    for place in [
        "/etc/kubernetes/pki/etcd/healthcheck-",
        "/etc/kubernetes/pki/etcd/",
        "/etc/kubernetes/pki/",
        "/var/lib/rancher/k3s/server/tls/etcd/server-",
        "/var/lib/rancher/k3s/server/tls/etcd/",
    ] {
        text = text.replace(place, &format!("{}/", directory.path().display()));
    }
    let file = directory.path().join("turnip.toml");
    std::fs::write(&file, &text).unwrap();
    let command = NodeArgs::augment_args(ReachArgs::augment_args(clap::Command::new("turnip")));
    let matches = command.get_matches_from([Path::new("turnip"), Path::new("--config"), &file]);
    Config::load(&Sources::new(&matches, |_| None))
        .unwrap_or_else(|problems| panic!("{problems}\n{text}"))
}

fn static_pod(more: &[&str]) -> (PodSpec, Config) {
    let documents = printed("static-pod", more);
    assert_eq!(documents.len(), 1);
    let pod: Pod = as_published(&documents[0]);
    let annotations = pod.metadata().annotations.clone().unwrap();
    (pod.spec.unwrap(), understood(&annotations["turnip.toml"]))
}

fn daemonset(more: &[&str]) -> (ConfigMap, DaemonSet) {
    let documents = printed("daemonset", more);
    assert_eq!(documents.len(), 2);
    (as_published(&documents[0]), as_published(&documents[1]))
}

/// The paths of the host that the container sees, and where, each read-only or not.
fn mounts(pod: &PodSpec) -> Vec<(String, String, bool)> {
    let volumes = pod.volumes.as_ref().unwrap();
    let mounts = pod.containers[0].volume_mounts.as_ref().unwrap();
    let from = |name: &str| {
        let volume =
            volumes.iter().find(|volume| volume.name == name).expect("a mount has its volume");
        volume.host_path.as_ref().map_or("the configuration".to_owned(), |host| host.path.clone())
    };
    let all: Vec<_> = mounts
        .iter()
        .map(|mount| (from(&mount.name), mount.mount_path.clone(), mount.read_only == Some(true)))
        .collect();
    assert_eq!(all.len(), volumes.len(), "every volume is mounted");
    all
}

fn mount(of: &str, is_read_only: bool) -> (String, String, bool) {
    (of.to_owned(), of.to_owned(), is_read_only)
}

#[test]
fn a_static_pod_refers_to_nothing_in_the_cluster() {
    let (pod, _) = static_pod(&[]);
    assert_eq!(pod.automount_service_account_token, Some(false));
    for volume in pod.volumes.iter().flatten() {
        assert!(volume.host_path.is_some() != volume.downward_api.is_some(), "{volume:?}");
    }
    let file = pod.volumes.iter().flatten().find_map(|volume| volume.downward_api.clone()).unwrap();
    let item = file.items.unwrap().remove(0);
    assert_eq!(item.path, "turnip.toml");
    assert_eq!(item.field_ref.unwrap().field_path, "metadata.annotations['turnip.toml']");
}

#[test]
fn the_pod_has_the_hosts_network_and_two_capabilities_and_nothing_to_write_to_but_its_own() {
    let (pod, _) = static_pod(&["--image", "registry.example/turnip: \"odd\""]);
    assert_eq!(pod.host_network, Some(true));
    assert_eq!(pod.priority_class_name.as_deref(), Some("system-node-critical"));
    let container = &pod.containers[0];
    assert_eq!(container.image.as_deref(), Some("registry.example/turnip: \"odd\""));
    let security = container.security_context.as_ref().unwrap();
    assert_eq!(security.read_only_root_filesystem, Some(true));
    assert_eq!(security.allow_privilege_escalation, Some(false));
    let capabilities = security.capabilities.as_ref().unwrap();
    assert_eq!(capabilities.drop, Some(vec!["ALL".to_owned()]));
    assert_eq!(capabilities.add, Some(vec!["NET_ADMIN".to_owned(), "NET_RAW".to_owned()]));
    let expected = [
        ("the configuration".to_owned(), "/etc/turnip".to_owned(), true),
        mount("/etc/kubernetes/pki/etcd", true),
        mount("/etc/kubernetes/pki/ca.crt", true),
        mount("/etc/machine-id", true),
        mount("/run/turnip", false),
        mount("/var/lib/turnip", false),
    ];
    assert_eq!(mounts(&pod), expected);
}

#[test]
fn probes_ask_where_the_configuration_has_the_metrics() {
    let (pod, config) = static_pod(&[]);
    let container = &pod.containers[0];
    for (probe, path) in
        [(&container.liveness_probe, "/healthz"), (&container.readiness_probe, "/readyz")]
    {
        let get = probe.as_ref().unwrap().http_get.clone().unwrap();
        assert_eq!(get.path.as_deref(), Some(path));
        let k8s_openapi::apimachinery::pkg::util::intstr::IntOrString::Int(port) = get.port else {
            panic!("{:?}", get.port)
        };
        assert_eq!(config.metrics, Some(format!("{}:{port}", get.host.unwrap()).parse().unwrap()));
    }
}

#[test]
fn kubeadms_address_goes_where_etcds_leader_and_an_api_server_that_answers_are() {
    let (_, config) =
        static_pod(&["--etcd-endpoints", "https://127.0.0.1:2379,https://10.0.0.2:2379"]);
    assert_eq!(config.reach.etcd.endpoints, ["https://127.0.0.1:2379", "https://10.0.0.2:2379"]);
    let vip = &config.vips[0].config;
    assert_eq!(vip.policy, Policy::Leader);
    assert_eq!(vip.addresses.first().unwrap().net.to_string(), "10.0.0.50/24");
    assert_eq!(vip.checks.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["api-server"]);
    assert_eq!(config.checks.len(), 1);
}

#[test]
fn without_a_member_on_the_host_no_leader_is_followed() {
    let (_, config) = static_pod(&["--etcd-endpoints", "https://10.0.0.2:2379"]);
    assert_eq!(config.vips[0].config.policy, Policy::Spread);
}

#[test]
fn k3s_has_its_certificates_elsewhere() {
    let (pod, config) = static_pod(&["--distribution", "k3s"]);
    let directory = "/var/lib/rancher/k3s/server/tls/etcd";
    assert!(mounts(&pod).contains(&mount(directory, true)));
    assert!(!mounts(&pod).iter().any(|(from, ..)| from.starts_with("/etc/kubernetes")));
    assert_eq!(config.checks.len(), 1);
}

#[test]
fn a_daemonset_runs_the_same_pod_on_every_control_plane_node() {
    let (configuration, daemonset) = daemonset(&[]);
    let (pod, _) = static_pod(&[]);
    understood(&configuration.data.unwrap()["turnip.toml"]);
    let template = daemonset.spec.unwrap().template;
    let spec = template.spec.unwrap();
    let terms = spec.affinity.clone().unwrap().node_affinity.unwrap();
    let terms =
        terms.required_during_scheduling_ignored_during_execution.unwrap().node_selector_terms;
    assert_eq!(
        terms[0].match_expressions.as_ref().unwrap()[0].key,
        "node-role.kubernetes.io/control-plane"
    );
    let volume =
        spec.volumes.iter().flatten().find_map(|volume| volume.config_map.clone()).unwrap();
    assert_eq!(Some(volume.name), configuration.metadata.name);
    assert_eq!(spec.containers, pod.containers);
}

#[test]
fn what_cannot_be_is_refused_with_what_would_be_right() {
    let cases = [
        (["--address", "10.0.0.256", "--interface", "eth0"], "10.0.0.50/24"),
        (["--address", "10.0.0.0/24", "--interface", "eth0"], "the network's own address"),
        (["--address", "10.0.0.50", "--interface", "eth/0"], "eth0"),
    ];
    for (arguments, words) in cases {
        let output = turnip(&[&["static-pod"], &arguments[..]].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(words), "{said}");
    }
    let plain = [
        "daemonset",
        "--address",
        "10.0.0.50",
        "--interface",
        "lo",
        "--etcd-endpoints",
        "10.0.0.1:2379",
    ];
    let said = String::from_utf8(turnip(&plain).stderr).unwrap();
    assert!(said.contains("https://10.0.0.1:2379"), "{said}");
}

#[test]
fn the_page_of_the_documentation_shows_the_configuration_that_its_command_prints() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/src/use-cases/kubernetes.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let block = |kind: &str| {
        let (_, rest) = page.split_once(&format!("```{kind}\n")).expect("a block");
        rest.split_once("```\n").expect("its end").0
    };
    // The first `turnip manifest` of the page, up to where its output goes.
    let command = block("sh").replace("\\\n", " ");
    let (_, command) = command.split_once("turnip manifest ").expect("a command");
    let arguments: Vec<&str> =
        command.split_whitespace().take_while(|w| !w.starts_with('>')).collect();
    let output = turnip(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(
        printed.starts_with(block("yaml")),
        "another configuration than the page's:\n{printed}"
    );
}
