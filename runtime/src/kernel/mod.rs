//! The kernel: netlink, nftables, ARP and neighbour discovery.
