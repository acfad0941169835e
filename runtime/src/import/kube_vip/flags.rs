//! kube-vip's flags, which say what its variables say.

use super::Variable;
use crate::import::origin::Origin;
use crate::import::yaml::Node;

/// kube-vip's flags, with the variable that says the same.
const FLAGS: [(&str, &str); 52] = [
    ("address", "address"),
    ("vip", "vip_address"),
    ("interface", "vip_interface"),
    ("cidr", "vip_cidr"),
    ("vipSubnet", "vip_subnet"),
    ("port", "port"),
    ("arp", "vip_arp"),
    ("bgp", "bgp_enable"),
    ("localAS", "bgp_as"),
    ("bgpRouterID", "bgp_routerid"),
    ("sourceIF", "bgp_sourceif"),
    ("sourceIP", "bgp_sourceip"),
    ("peerAS", "bgp_peeras"),
    ("peerAddress", "bgp_peeraddress"),
    ("peerPass", "bgp_peerpass"),
    ("bgppeers", "bgp_peers"),
    ("multihop", "bgp_multihop"),
    ("table", "vip_routingtable"),
    ("tableID", "vip_routingtableid"),
    ("tableType", "vip_routingtabletype"),
    ("controlplane", "cp_enable"),
    ("services", "svc_enable"),
    ("servicesElection", "svc_election"),
    ("serviceInterface", "vip_servicesinterface"),
    ("servicesLeaseName", "svc_leasename"),
    ("namespace", "cp_namespace"),
    ("leaderElection", "vip_leaderelection"),
    ("leaderElectionType", "leaderElectionType"),
    ("leaseName", "vip_leasename"),
    ("leaseDuration", "vip_leaseduration"),
    ("leaseRenewDuration", "vip_renewdeadline"),
    ("leaseRetry", "vip_retryperiod"),
    ("nodeName", "vip_nodename"),
    ("log", "vip_loglevel"),
    ("ddns", "vip_ddns"),
    ("dnsMode", "dns_mode"),
    ("enableLoadBalancer", "lb_enable"),
    ("lbForwardingMethod", "lb_fwdmethod"),
    ("lbPort", "lb_port"),
    ("prometheusHTTPServer", "prometheus_server"),
    ("healthCheckPort", "health_check_port"),
    ("controlPlaneHealthCheckAddress", "control_plane_health_check_address"),
    ("controlPlaneHealthCheckCAPath", "control_plane_health_check_ca_path"),
    ("controlPlaneHealthCheckPeriodSeconds", "control_plane_health_check_period_seconds"),
    ("controlPlaneHealthCheckTimeoutSeconds", "control_plane_health_check_timeout_seconds"),
    ("controlPlaneHealthCheckFailureThreshold", "control_plane_health_check_failure_threshold"),
    ("preserveVipOnLeadershipLoss", "vip_preserve_on_leadership_loss"),
    ("k8sConfigPath", "k8s_config_file"),
    ("etcdEndpoints", "etcd_endpoints"),
    ("etcdCACert", "etcd_ca"),
    ("etcdCert", "etcd_cert"),
    ("etcdKey", "etcd_key"),
];

/// The flags in a container's command, as the variables that they stand for.
pub(super) fn flags(container: &Node) -> Vec<Variable> {
    let words: Vec<&Node> = ["command", "args"]
        .iter()
        .filter_map(|key| container.get(key))
        .flat_map(|all| all.items())
        .collect();
    let mut all = Vec::new();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        at += 1;
        let Some(flag) = word.text().filter(|text| text.starts_with('-')) else { continue };
        let mut origin = word.origin.clone();
        let next = words.get(at).filter(|next| {
            next.text().is_some_and(|text| !text.starts_with('-') && !text.is_empty())
        });
        let (name, value) = match (flag.split_once('='), next) {
            (Some((name, value)), _) => (name, value.to_owned()),
            (None, Some(next)) => {
                at += 1;
                origin.with.push(word.origin.place.clone());
                origin = Origin { with: origin.with, ..next.origin.clone() };
                (flag, next.text().unwrap_or_default().to_owned())
            }
            (None, None) => (flag, "true".to_owned()),
        };
        let name = name.trim_start_matches('-');
        let known = FLAGS.iter().find(|(flag, _)| *flag == name);
        all.push(Variable {
            name_id: word.origin.id,
            name: known.map_or(name, |(_, variable)| variable).to_owned(),
            value,
            is_elsewhere: false,
            origin,
        });
    }
    all
}
