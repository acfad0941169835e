//! The network managers, how they are set up, and what they are made to do.

use std::time::Duration;

/// Stands in a file for the host's own address with its prefix length.
pub const OWN_V4: &str = "10.77.0.11/24";
/// The same of IPv6.
pub const OWN_V6: &str = "fd77::11/64";

/// A network manager.
#[derive(Clone, Copy, Debug)]
pub struct Manager {
    /// Its name.
    pub name: &'static str,
    /// Prints its version.
    pub version: &'static str,
    /// As it comes, and with what docs/src/network.md recommends.
    pub setups: [Setup; 2],
    /// What it is made to do.
    pub acts: &'static [Act],
}

/// How a host is set up.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// In words.
    pub title: &'static str,
    /// Paths and contents.
    pub files: &'static [(&'static str, &'static str)],
    /// Starts the manager.
    pub start: &'static str,
    /// The interface of the VIPs without a subnet.
    pub interface_of_single: &'static str,
}

/// Something that is done to the host.
#[derive(Clone, Copy, Debug)]
pub struct Act {
    /// Its name.
    pub name: &'static str,
    /// How it is done.
    pub how: How,
}

/// How something is done.
#[derive(Clone, Copy, Debug)]
pub enum How {
    /// By a script inside.
    Script(&'static str),
    /// The cable is out for so long.
    Carrier(Duration),
}

const fn script(name: &'static str, script: &'static str) -> Act {
    Act { name, how: How::Script(script) }
}

const SHORT: Act =
    Act { name: "carrier lost for 200 ms", how: How::Carrier(Duration::from_millis(200)) };
const LONG: Act = Act { name: "carrier lost for 8 s", how: How::Carrier(Duration::from_secs(8)) };

/// All of them.
pub const MANAGERS: [Manager; 3] = [
    Manager {
        name: "systemd-networkd",
        version: "networkctl --version | head -1",
        setups: [
            Setup {
                title: "As it comes",
                files: &[(
                    "/etc/systemd/network/10-eth0.network",
                    "[Match]\nName=eth0\n\n[Network]\nAddress=10.77.0.11/24\nAddress=fd77::11/64\n\
                     IPv6AcceptRA=no\n",
                )],
                start: "systemctl start systemd-networkd",
                interface_of_single: "eth0",
            },
            Setup {
                title: "With `KeepConfiguration=dhcp` under `[Network]`, and `DuplicateAddressDetection=none` \
                        for the own IPv6 address",
                files: &[(
                    "/etc/systemd/network/10-eth0.network",
                    "[Match]\nName=eth0\n\n[Network]\nAddress=10.77.0.11/24\nIPv6AcceptRA=no\n\
                     KeepConfiguration=dhcp\n\n[Address]\nAddress=fd77::11/64\n\
                     DuplicateAddressDetection=none\n",
                )],
                start: "systemctl start systemd-networkd",
                interface_of_single: "eth0",
            },
        ],
        acts: &[
            script(
                "`networkctl reload` after an edit",
                "echo '# edited' >>/etc/systemd/network/10-eth0.network; networkctl reload",
            ),
            script("`networkctl reconfigure eth0`", "networkctl reconfigure eth0"),
            script("`systemctl restart systemd-networkd`", "systemctl restart systemd-networkd"),
            SHORT,
            LONG,
        ],
    },
    Manager {
        name: "NetworkManager",
        version: "echo NetworkManager $(NetworkManager --version)",
        setups: [
            Setup {
                title: "As it comes",
                files: &[(
                    "/etc/NetworkManager/system-connections/eth0.nmconnection",
                    NETWORK_MANAGER_PROFILE,
                )],
                start: "systemctl start NetworkManager",
                interface_of_single: "eth0",
            },
            Setup {
                title: "With the /32 and /128 on a macvlan of eth0 that is in `unmanaged-devices`, and \
                        `net.ipv6.conf.eth0.accept_dad=0`",
                files: &[
                    (
                        "/etc/NetworkManager/system-connections/eth0.nmconnection",
                        NETWORK_MANAGER_PROFILE,
                    ),
                    (
                        "/etc/NetworkManager/conf.d/vips.conf",
                        "[keyfile]\nunmanaged-devices=interface-name:vips\n",
                    ),
                ],
                start: "sysctl -q net.ipv6.conf.eth0.accept_dad=0\n\
                        ip link add vips link eth0 type macvlan mode bridge\n\
                        ip link set vips up\n\
                        systemctl start NetworkManager",
                interface_of_single: "vips",
            },
        ],
        acts: &[
            script("`nmcli connection up eth0`", "nmcli connection up eth0"),
            script("`nmcli device reapply eth0`", "nmcli device reapply eth0"),
            script("`systemctl restart NetworkManager`", "systemctl restart NetworkManager"),
            SHORT,
            LONG,
        ],
    },
    Manager {
        name: "ifupdown",
        version: "dpkg-query --show --showformat='ifupdown ${Version}' ifupdown",
        setups: [
            Setup {
                title: "As it comes",
                files: &[(
                    "/etc/network/interfaces",
                    "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet static\n    \
                     address 10.77.0.11/24\niface eth0 inet6 static\n    address fd77::11/64\n",
                )],
                start: "systemctl start networking",
                interface_of_single: "eth0",
            },
            Setup {
                title: "With `dad-attempts 0` for the own IPv6 address",
                files: &[(
                    "/etc/network/interfaces",
                    "auto lo\niface lo inet loopback\n\nauto eth0\niface eth0 inet static\n    \
                     address 10.77.0.11/24\niface eth0 inet6 static\n    address fd77::11/64\n    \
                     dad-attempts 0\n",
                )],
                start: "systemctl start networking",
                interface_of_single: "eth0",
            },
        ],
        acts: &[
            script("`ifdown eth0; ifup eth0`", "ifdown eth0; ifup eth0"),
            script("`ifup --force eth0`", "ifup --force eth0"),
            script("`systemctl restart networking`", "systemctl restart networking"),
            SHORT,
            LONG,
        ],
    },
];

const NETWORK_MANAGER_PROFILE: &str = "[connection]\nid=eth0\ntype=ethernet\ninterface-name=eth0\n\n\
    [ipv4]\nmethod=manual\naddress1=10.77.0.11/24\n\n[ipv6]\nmethod=manual\naddress1=fd77::11/64\n";
