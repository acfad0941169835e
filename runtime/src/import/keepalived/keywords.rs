//! keepalived's keywords that have no counterpart: why, and what to do.

use super::tree::Statement;
use crate::import::note::Grade::{Lost, Needless};
use crate::import::note::{Grade, Notes};

/// What is to be said of a keyword within an instance, a group or `global_defs`.
const KNOWN: &[(&[&str], Grade, &str)] = &[
    (&["state"], Needless, "the host with the highest priority has the VIP, whoever was first"),
    (
        &["virtual_router_id"],
        Needless,
        "a VIP is known by its name and its cluster's, and there are no VRRP packets",
    ),
    (
        &["authentication", "auth_type", "auth_pass"],
        Needless,
        "hosts are known by etcd, whose users and certificates stand under [etcd]",
    ),
    (
        &["unicast_peer"],
        Needless,
        "the hosts find each other through etcd; their heartbeats need UDP port 7746 open between them",
    ),
    (
        &[
            "mcast_src_ip",
            "vrrp_mcast_group4",
            "vrrp_mcast_group6",
            "unicast_ttl",
            "mcast_dst_ip",
            "vrrp_check_unicast_src",
            "check_unicast_src",
            "vrrp_skip_check_adv_addr",
            "skip_check_adv_addr",
            "version",
            "vrrp_version",
            "native_ipv6",
            "vrrp_strict",
            "strict_mode",
            "vmac_xmit_base",
            "old_unicast_checksum",
            "lower_prio_no_advert",
            "higher_prio_send_advert",
            "vrrp_lower_prio_no_advert",
            "vrrp_higher_prio_send_advert",
            "down_timer_adverts",
            "vrrp_down_timer_adverts",
            "v3_checksum_as_v2",
            "auth_hmac",
            "active_key",
            "anti_replay",
            "time_window",
            "unicast_fault_no_peer",
            "log_unknown_vrids",
            "timer_expired_backup",
            "fast_recovery",
            "vrrp_rx_bufs_policy",
            "vrrp_rx_bufs_multiplier",
            "no_virtual_ipaddress",
        ],
        Needless,
        "it is about VRRP's packets, and turnip sends none",
    ),
    (&["accept"], Needless, "a VIP is accepted by whoever has it"),
    (&["debug"], Needless, "see log_level"),
    (
        &[
            "garp_master_delay",
            "garp_master_repeat",
            "vrrp_garp_master_delay",
            "vrrp_garp_master_repeat",
            "vrrp_min_garp",
            "garp_master_refresh_repeat",
            "vrrp_garp_master_refresh_repeat",
            "garp_lower_prio_delay",
            "garp_lower_prio_repeat",
            "vrrp_garp_lower_prio_delay",
            "vrrp_garp_lower_prio_repeat",
            "garp_lower_priority_delay",
            "garp_lower_priority_repeat",
        ],
        Needless,
        "a VIP is announced when it comes, 1 s and 3 s later, and then every announce_every",
    ),
    (
        &[
            "garp_interval",
            "gna_interval",
            "vrrp_garp_interval",
            "vrrp_gna_interval",
            "garp_group",
            "vrrp_garp_extra_if",
            "garp_extra_if",
        ],
        Lost,
        "turnip has no pause between announcements; look whether the switch that needed it still does",
    ),
    (
        &["router_id", "lvs_id"],
        Needless,
        "a host is called by its hostname; write node = \"…\" where it is to have another name",
    ),
    (
        &["script_user", "user"],
        Lost,
        "programs run as the daemon does, without its capabilities; have the program work for that user, or use `turnip hook` for hooks",
    ),
    (&["enable_script_security"], Needless, "programs do not run as root"),
    (
        &["no_accept"],
        Lost,
        "a VIP is accepted by whoever has it; have a firewall drop what is not to be",
    ),
    (
        &["preempt_delay"],
        Lost,
        "a better host waits for a lease, and for its checks to pass `rise` times, before it takes the VIP; raise these, or write preempt = false",
    ),
    (
        &["track_bfd", "bfd_instance"],
        Lost,
        "turnip has no BFD; have your routing daemon do it, and ask that by a [[check]] with exec",
    ),
    (
        &["linkbeat_use_polling", "linkbeat_interfaces"],
        Needless,
        "carriers are told by the kernel; an interface whose driver does not tell takes a [[check]] with exec",
    ),
    (
        &[
            "smtp_alert",
            "smtp_alert_vrrp",
            "smtp_alert_checker",
            "smtp_server",
            "smtp_helo_name",
            "smtp_connect_timeout",
            "notification_email",
            "notification_email_from",
            "no_email_faults",
        ],
        Lost,
        "turnip sends no mail; have a hook send it, or alert on the metrics",
    ),
    (
        &[
            "notify_fifo",
            "vrrp_notify_fifo",
            "lvs_notify_fifo",
            "notify_fifo_script",
            "vrrp_notify_fifo_script",
            "lvs_notify_fifo_script",
            "notify_deleted",
            "notify_priority_changes",
            "vrrp_notify_priority_changes",
            "fifo_write_vrrp_states_on_reload",
        ],
        Lost,
        "turnip writes to no FIFO; write hooks, as after_assume and after_release",
    ),
    (
        &[
            "lvs_sync_daemon",
            "lvs_sync_daemon_interface",
            "lvs_sync_daemon_inteface",
            "lvs_flush",
            "lvs_flush_on_stop",
            "lvs_timeouts",
            "lvs_netlink_cmd_rcv_bufs",
            "lvs_netlink_cmd_rcv_bufs_force",
            "lvs_netlink_monitor_rcv_bufs",
            "lvs_netlink_monitor_rcv_bufs_force",
            "nftables_ipvs",
            "nftables_ipvs_priority",
            "nftables_ipvs_start_fwmark",
            "ha_suspend",
        ],
        Lost,
        "load balancing by LVS is not turnip's; leave it to keepalived without vrrp_instance, or to ipvsadm",
    ),
    (
        &["static_ipaddress", "static_routes", "static_rules", "track_group", "default_interface"],
        Lost,
        "what stays on a host is not turnip's; write it where the host's network is configured, as for systemd-networkd",
    ),
    (
        &["net_namespace", "net_namespace_ipvs"],
        Lost,
        "turnip runs in the namespace in which it is started; write NetworkNamespacePath= in its unit",
    ),
    (
        &[
            "enable_snmp_keepalived",
            "enable_snmp_vrrp",
            "enable_snmp_checker",
            "enable_snmp_rfc",
            "enable_snmp_rfcv2",
            "enable_snmp_rfcv3",
            "enable_traps",
            "snmp_socket",
            "enable_dbus",
            "dbus_service_name",
            "dbus_no_interface_name",
            "snmp_name",
            "snmp_rs_stats_update_interval",
            "snmp_vs_stats_update_interval",
        ],
        Lost,
        "turnip has neither SNMP nor D-Bus; see metrics and `turnip status --json`",
    ),
    (
        &["startup_script", "shutdown_script", "startup_script_timeout", "shutdown_script_timeout"],
        Lost,
        "write ExecStartPre= or ExecStopPost= in turnip's unit",
    ),
    (&["promote_secondaries"], Needless, "turnip's addresses do not depend on one another"),
    (
        &["track_src_ip", "vrf", "use_ipvlan", "use_vmac_addr", "kernel_rx_buf_size"],
        Lost,
        "turnip has no such thing: see docs/src/import.md",
    ),
    (
        &["vrrp_startup_delay", "vrrp_delay_after_boot"],
        Lost,
        "a host takes a VIP once it has a session in etcd and its checks pass: have a [[check]] with initial = \"down\" fail until the host is to have it",
    ),
    (
        &["vmac_prefix", "vmac_addr_prefix"],
        Needless,
        "with virtual_mac = true turnip chooses the interface's name and its hardware address",
    ),
    (
        &["dynamic_interfaces"],
        Lost,
        "write wait_for_interface = true in the [[vip]] whose interface comes later",
    ),
    (
        &[
            "vrrp_iptables",
            "vrrp_ipsets",
            "nftables",
            "vrrp_nftables",
            "nftables_priority",
            "nftables_counters",
            "nftables_ifindex",
            "disable_local_igmp",
        ],
        Needless,
        "turnip has a table of its own in nftables",
    ),
    (
        &[
            "instance",
            "use_pid_dir",
            "child_wait_time",
            "process_names",
            "process_name",
            "vrrp_process_name",
            "checker_process_name",
            "bfd_process_name",
            "use_symlink_paths",
            "set_supplementary_groups",
            "namespace_with_ipsets",
            "tmp_config_directory",
            "config_save_dir",
            "max_auto_priority",
            "min_auto_priority_delay",
            "vrrp_priority",
            "checker_priority",
            "bfd_priority",
            "vrrp_no_swap",
            "checker_no_swap",
            "bfd_no_swap",
            "vrrp_rt_priority",
            "checker_rt_priority",
            "bfd_rt_priority",
            "vrrp_rlimit_rttime",
            "vrrp_rlimit_rtime",
            "checker_rlimit_rttime",
            "bfd_rlimit_rttime",
            "vrrp_cpu_affinity",
            "checker_cpu_affinity",
            "bfd_cpu_affinity",
            "umask",
            "include_check",
            "reload_repeat",
            "reload_time_file",
            "reload_file",
            "global_tracking",
            "sync_group_tracking_weight",
            "random_seed",
            "data_use_instance",
            "iproute_usr_dir",
            "iproute_etc_dir",
            "json_version",
            "json_file_location",
            "state_file_location",
            "stats_file_location",
            "reload_check_config",
            "rs_init_notifies",
            "no_checker_emails",
            "checker_log_all_failures",
            "log_all_failures",
            "vrrp_netlink_cmd_rcv_bufs",
            "vrrp_netlink_cmd_rcv_bufs_force",
            "vrrp_netlink_monitor_rcv_bufs",
            "vrrp_netlink_monitor_rcv_bufs_force",
            "process_monitor_rcv_bufs",
            "process_monitor_rcv_bufs_force",
        ],
        Needless,
        "it is about keepalived's own processes",
    ),
];

fn of(keyword: &str) -> Option<(Grade, &'static str)> {
    let found = KNOWN.iter().find(|(keywords, ..)| keywords.contains(&keyword));
    found.map(|(_, grade, what)| (*grade, *what))
}

/// Says of a statement without a counterpart, and of all in it, what is to be said.
pub(super) fn tell(statement: &Statement, notes: &mut Notes) {
    let known = of(statement.keyword());
    let (grade, what) = known.unwrap_or((Lost, "nothing of turnip's is known for it; see keepalived.conf(5) for what it does, and whether you need it"));
    tell_all(statement, grade, what, notes);
}

/// Says the same of a statement and all in it.
pub(super) fn tell_all(statement: &Statement, grade: Grade, what: &str, notes: &mut Notes) {
    let line = statement.origin.place.line;
    let secret = ["auth_pass", "password", "key"];
    let is_secret = |one: &Statement| one.words.iter().any(|word| secret.contains(&word.as_str()));
    let mut is_first = true;
    statement.each(&mut |one| {
        let text = match is_secret(one) {
            true => format!("{} (hidden)", one.keyword()),
            false => one.text(),
        };
        let what = match is_first {
            true => what.to_owned(),
            false => format!("of {} in line {line}, see there", statement.text()),
        };
        is_first = false;
        notes.add(&one.origin, text, what, grade);
    });
}
