//! kube-vip's variables that have no counterpart: why, and what to do.

use super::Variable;
use crate::import::note::Grade::{Lost, Needless};
use crate::import::note::{Grade, Notes};

const SESSIONS: &str = "the hosts agree through etcd, by sessions that turnip renews itself";
const DECIDES: &str = "turnip decides that itself: a host that may not have the VIP any more, or whose interface is down, lets go of it";
const BGP: &str = "BGP is your routing daemon's: have bird or FRR announce the VIP, on lo as a /32: see docs/src/network.md";
const SERVICES: &str = "addresses of Services of the type LoadBalancer are not turnip's; leave them to kube-vip with cp_enable=false, or to MetalLB";
const KUBERNETES: &str = "Kubernetes' Services, nodes and outgoing traffic are not turnip's; leave them to kube-vip with cp_enable=false";

/// What is to be said of variables by their whole names, whatever they say.
const KNOWN: &[(&[&str], Grade, &str)] = &[
    (&["vip_nodename"], Needless, "a host is called by its hostname; see node"),
    (
        &[
            "vip_renewdeadline",
            "vip_retryperiod",
            "vip_leasename",
            "vip_leaderelection",
            "cp_namespace",
            "svc_namespace",
            "vip_leaseannotations",
            "svc_leasename",
            "k8s_config_file",
            "vip_startleader",
            "kubernetes_addr",
            "inCluster",
        ],
        Needless,
        SESSIONS,
    ),
    (
        &[
            "vip_singlenode",
            "vip_skipdad",
            "vip_cleanroutingtable",
            "vip_preserve_on_leadership_loss",
            "vip_loseleadership",
            "vip_loseleadership_timeout_seconds",
            "vip_allow_interface_not_up",
            "vip_interfaceloglobal",
            "debounce_time",
            "instance_name",
        ],
        Needless,
        DECIDES,
    ),
    (&["cp_enable", "cp_detect"], Needless, "the [[vip]] is the control plane's address"),
    (&["vip_loglevel"], Needless, "see log_level"),
];

/// What is to be said of variables that are not off, by how their names begin.
const BEGINNINGS: &[(&[&str], &str)] = &[
    (&["vip_interface", "port"], "there is no VIP to go with it, see address"),
    (&["svc_", "vip_servicesinterface"], SERVICES),
    (
        &["lb_", "backend_health_check_interval"],
        "load balancing is not turnip's: the host that has the address answers by itself",
    ),
    (&["vip_ddns", "dns_mode"], "turnip asks no DNS for a VIP; write its address"),
    (
        &["dhcp_"],
        "a VIP has an address of its own; write it, and leave it out of what the DHCP server gives away",
    ),
    (
        &["vip_routing"],
        "a route of the VIP stands under [[vip.route]]; to have a routing daemon carry the address write interface = \"lo\" and a /32",
    ),
    (
        &["vip_wireguard"],
        "make the tunnel where the host's network is configured, and name its interface in the [[vip]]",
    ),
    (
        &["health_check_port"],
        "write metrics = \"127.0.0.1:9464\": /healthz and /readyz are there as well",
    ),
    (
        &["config_file", "vip_configmap"],
        "turnip does not read it; write in turnip.toml what it says",
    ),
    (
        &["control_plane_health_check_"],
        "there is no control_plane_health_check_address to go with it; write a [[check]] with http, and name it in the checks of the [[vip]]",
    ),
    (
        &[
            "egress_",
            "EGRESS_",
            "enable_",
            "iptables_backend",
            "annotation",
            "mirror_dest_interface",
            "disable_service_updates",
            "per_service_election_on_demand",
        ],
        KUBERNETES,
    ),
];

/// Says of a variable without a counterpart what is to be said.
pub(super) fn tell(one: &Variable, notes: &mut Notes) {
    let (name, value) = (one.name.as_str(), one.value.as_str());
    let said = match name.contains("pass") || name == "bgp_peers" {
        true => format!("{name} (hidden)"),
        false => format!("{name} = {value}"),
    };
    let is_of = |all: &[&str]| all.iter().any(|begin| name.starts_with(begin));
    let (grade, what) = if let Some((_, grade, what)) =
        KNOWN.iter().find(|(names, ..)| names.contains(&name))
    {
        (*grade, *what)
    } else if name == "leaderElectionType" && value == "etcd" {
        (Needless, "the hosts agree through etcd")
    } else if name == "vip_arp" && value == "true" {
        (Needless, "a VIP is announced by ARP wherever its interface has neighbours")
    } else if value == "false" || value.is_empty() {
        (Needless, "it is off")
    } else if is_of(&["bgp_", "mpbgp_", "zebra_"]) {
        (Lost, BGP)
    } else if let Some((_, what)) = BEGINNINGS.iter().find(|(all, _)| is_of(all)) {
        (Lost, *what)
    } else {
        (
            Lost,
            "turnip has no such thing; see the documentation of kube-vip for what it does, and whether you need it",
        )
    };
    notes.add(&one.origin, said, what.to_owned(), grade);
}
