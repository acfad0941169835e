//! `turnip manifest`: what Kubernetes runs turnip by, for the address of its own API server.
//!
//! The configuration is in the manifest. A static Pod can refer to nothing in the cluster, which may not be there yet:
//! its configuration is an annotation of it, which the kubelet shows to the container as a file.

use std::net::IpAddr;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use ipnet::IpNet;
use turnip::config::{interface_name, is_loopback, usable_address};

use super::{OK, print};

/// What its help ends with.
pub const AFTER_HELP: &str = "\
A static Pod goes to /etc/kubernetes/manifests (k3s: /var/lib/rancher/k3s/agent/pod-manifests) of every control plane \
node, before `kubeadm init` and `kubeadm join`. A DaemonSet is for a cluster that is there: `kubectl apply -f -`. \
Each setting has a comment; what they do not say is to be changed in what is printed.

  turnip manifest static-pod --address 10.0.0.50/24 --interface eth0";

/// The Pod's specification, with what differs between `@`.
const POD_SPEC: &str = include_str!("manifest/pod-spec.yaml");

/// What is wanted of the manifest.
#[derive(Args)]
pub struct ManifestArgs {
    /// What is printed
    #[arg(value_enum)]
    kind: Kind,
    /// The API server's address, with the length of its subnet's prefix [default length: 32, or 128]
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    address: IpNet,
    /// The interface that it is put on, of the same name on all nodes; `lo` where a routing protocol carries it
    #[arg(long, value_name = "NAME", value_parser = interface_name)]
    interface: String,
    /// The image, as the nodes' container runtime knows it
    #[arg(long, value_name = "IMAGE", default_value = concat!("docker.io/library/turnip:", env!("CARGO_PKG_VERSION")))]
    image: String,
    /// etcd's members, separated by commas: this node's own first, the others after it
    #[arg(
        long,
        value_name = "URLS",
        value_delimiter = ',',
        default_value = "https://127.0.0.1:2379",
        value_parser = endpoint
    )]
    etcd_endpoints: Vec<String>,
    /// Whose control plane it is, and so where etcd's certificates are
    #[arg(long, value_enum, default_value_t = Distribution::Kubeadm)]
    distribution: Distribution,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// For the kubelet of each control plane node, before there is a cluster
    StaticPod,
    /// With a ConfigMap, for a cluster that is there
    Daemonset,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Distribution {
    /// etcd's certificates are in /etc/kubernetes/pki/etcd
    Kubeadm,
    /// They are in /var/lib/rancher/k3s/server/tls/etcd, for k3s with embedded etcd
    K3s,
}

impl Distribution {
    fn etcd_directory(self) -> &'static str {
        match self {
            Distribution::Kubeadm => "/etc/kubernetes/pki/etcd",
            Distribution::K3s => "/var/lib/rancher/k3s/server/tls/etcd",
        }
    }

    /// Authority, certificate and key, in that directory.
    fn etcd_files(self) -> [&'static str; 3] {
        match self {
            Distribution::Kubeadm => ["ca.crt", "healthcheck-client.crt", "healthcheck-client.key"],
            Distribution::K3s => ["server-ca.crt", "client.crt", "client.key"],
        }
    }

    /// The authority of the API server's certificate, where its answer can be asked for.
    fn api_ca(self) -> Option<&'static str> {
        match self {
            Distribution::Kubeadm => Some("/etc/kubernetes/pki/ca.crt"),
            // It answers nobody who does not log in.
            Distribution::K3s => None,
        }
    }
}

/// Prints the manifest.
pub fn manifest(args: &ManifestArgs) -> ExitCode {
    print(&match args.kind {
        Kind::StaticPod => static_pod(args),
        Kind::Daemonset => daemonset(args),
    });
    ExitCode::from(OK)
}

fn static_pod(args: &ManifestArgs) -> String {
    let as_a_file = "\
    # The annotation above, as a file.
    downwardAPI:
      items:
        - path: turnip.toml
          fieldRef:
            fieldPath: metadata.annotations['turnip.toml']
";
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: turnip\n  namespace: kube-system\n  labels:\n    \
         app.kubernetes.io/name: turnip\n  annotations:\n    # The configuration, see turnip.toml(5).\n    \
         turnip.toml: |\n{}spec:\n{}",
        indented(6, &configuration(args)),
        indented(2, &pod_spec(args, as_a_file)),
    )
}

fn daemonset(args: &ManifestArgs) -> String {
    let as_a_file = "    configMap:\n      name: turnip\n";
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: turnip\n  namespace: kube-system\ndata:\n  \
         # The configuration, see turnip.toml(5). After a change: kubectl -n kube-system rollout restart daemonset/turnip\n  \
         turnip.toml: |\n{}---\n{DAEMONSET}{}",
        indented(4, &configuration(args)),
        indented(6, &pod_spec(args, as_a_file)),
    )
}

const DAEMONSET: &str = "\
apiVersion: apps/v1
kind: DaemonSet
metadata:
  name: turnip
  namespace: kube-system
spec:
  selector:
    matchLabels:
      app.kubernetes.io/name: turnip
  # One node after the other, and the next when the one before is ready: the address moves by orderly hand-overs.
  updateStrategy:
    type: RollingUpdate
    rollingUpdate:
      maxUnavailable: 1
  minReadySeconds: 5
  template:
    metadata:
      labels:
        app.kubernetes.io/name: turnip
    spec:
      # Where the API server and etcd are.
      affinity:
        nodeAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
            nodeSelectorTerms:
              - matchExpressions:
                  - key: node-role.kubernetes.io/control-plane
                    operator: Exists
      # A node with a taint holds the address all the same, and is to let go of it in an orderly way.
      tolerations:
        - operator: Exists
";

/// turnip.toml for the API server's address.
fn configuration(args: &ManifestArgs) -> String {
    let quoted = |text: &str| toml::Value::from(text).to_string();
    let endpoints: Vec<_> = args.etcd_endpoints.iter().map(|one| quoted(one)).collect();
    let directory = args.distribution.etcd_directory();
    let [ca, cert, key] =
        args.distribution.etcd_files().map(|name| quoted(&format!("{directory}/{name}")));
    // Only the member on the host can be asked whether it is the leader.
    let (policy, why) = match args.etcd_endpoints.iter().any(|one| is_loopback(one)) {
        true => ("leader", "Beside etcd's leader: what the API server writes goes there anyway."),
        false => ("spread", "On one of the hosts, which stays the same while that is well."),
    };
    let check = match args.distribution.api_ca() {
        Some(ca) => format!(
            "http = \"https://127.0.0.1:6443/livez\"\nca = {}\n# A name that its certificate has.\nhost = \"kubernetes\"\n",
            quoted(ca)
        ),
        None => "tcp = \"127.0.0.1:6443\"\n".to_owned(),
    };
    format!(
        "\
# For the probes, on the host's own loopback.
metrics = \"127.0.0.1:9464\"
[etcd]
# The member on this node, then the others: they are asked when it does not answer.
endpoints = [{}]
ca = {ca}
cert = {cert}
key = {key}
# A node whose API server does not answer does not get the address; where none answers it stays where it is.
[[check]]
name = \"api-server\"
{check}[[vip]]
name = \"kube-api\"
address = \"{}\"
interface = {}
# {why}
policy = \"{policy}\"
checks = [\"api-server\"]
",
        endpoints.join(", "),
        args.address,
        quoted(&args.interface),
    )
}

/// The Pod, whose configuration is a volume like this.
fn pod_spec(args: &ManifestArgs, configuration: &str) -> String {
    let (mount, volume) = match args.distribution.api_ca() {
        Some(ca) => (
            format!(
                "      # The authority of the API server, for the check.\n      - name: api-authority\n        \
                 mountPath: {ca}\n        readOnly: true\n"
            ),
            format!("  - name: api-authority\n    hostPath:\n      path: {ca}\n      type: File\n"),
        ),
        None => Default::default(),
    };
    POD_SPEC
        // A JSON string is one in YAML.
        .replace("@IMAGE@", &serde_json::Value::from(args.image.as_str()).to_string())
        .replace("@ETCD_DIRECTORY@", args.distribution.etcd_directory())
        .replace("@CONFIGURATION@\n", configuration)
        .replace("@API_CA_MOUNT@\n", &mount)
        .replace("@API_CA_VOLUME@\n", &volume)
}

fn indented(by: usize, lines: &str) -> String {
    lines.lines().map(|line| format!("{:by$}{line}\n", "")).collect()
}

fn address(text: &str) -> Result<IpNet, String> {
    let whole = || text.parse::<IpAddr>().ok().map(IpNet::from);
    let Some(address) = text.parse::<IpNet>().ok().or_else(whole) else {
        return Err("an address is wanted, as in 10.0.0.50 or 10.0.0.50/24".to_owned());
    };
    usable_address(address.addr(), address.prefix_len())
}

fn endpoint(text: &str) -> Result<String, String> {
    let uri = text.parse::<http::Uri>().ok();
    let uri = uri.filter(|uri| uri.scheme_str() == Some("https") && uri.port().is_some());
    match uri {
        Some(_) => Ok(text.to_owned()),
        None => Err("a control plane's etcd is reached as in https://10.0.0.1:2379".to_owned()),
    }
}
