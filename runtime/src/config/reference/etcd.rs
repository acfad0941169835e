//! The tables `[etcd]` and `[peers]`.

use super::super::ENDPOINT_DEFAULT;
use super::super::growth::KEEP_MIN;
use super::{Table, forms, setting};
use crate::peers::PORT_DEFAULT;
use turnip_core::compaction::KEEP;

pub(super) fn etcd() -> Table {
    let settings = vec![
        setting(
            "endpoints",
            "list of URLs",
            "etcd's client URLs, this host's own member first: the others are asked when it does not \
             answer. Names are allowed. None may be one of the VIPs, nor be reached by way of one. \
             All with `http://`, or all with `https://`.",
        )
        .default(format!("[{ENDPOINT_DEFAULT:?}]"))
        .example("[\"http://127.0.0.1:2379\", \"http://10.1.0.12:2379\"]")
        .session(),
        setting(
            "local",
            "URL",
            "The client URL of the etcd member on this host, which the policy `leader` asks. Not a \
             load balancer or etcd's grpc-proxy, behind which the host never counts as the leader's.",
        )
        .default_follows(format!("{ENDPOINT_DEFAULT:?}"), "the first endpoint on loopback")
        .example("\"http://10.1.0.11:2379\"")
        .restart(),
        setting(
            "ca",
            forms::FILE,
            "The certificate authorities to trust, PEM, where the endpoints are `https://`. This file \
             and the other files named here are read again when they change.",
        )
        .default_words("the system's authorities")
        .example("\"/etc/turnip/ca.pem\"")
        .restart(),
        setting("cert", forms::FILE, "This client's certificate, PEM. It goes with `key`.")
            .example("\"/etc/turnip/client.pem\"")
            .restart(),
        setting("key", forms::FILE, "This client's private key, PEM. It goes with `cert`.")
            .example("\"/etc/turnip/client-key.pem\"")
            .restart(),
        setting(
            "server_name",
            "name of a host",
            "The name in etcd's certificate, where that is not the URL's host.",
        )
        .default_words("the URL's host")
        .example("\"etcd.example.org\"")
        .restart(),
        setting("user", forms::TEXT, "The user of etcd, where etcd has roles.")
            .example("\"turnip\"")
            .restart(),
        setting(
            "password_file",
            forms::FILE,
            "The file with that user's password and nothing else; it is read again for each login. \
             The password may be in the variable `TURNIP_ETCD_PASSWORD` instead.",
        )
        .example("\"/etc/turnip/etcd-password\"")
        .restart(),
        setting(
            "compact",
            "\"auto\", \"never\", or how much history is kept: a number with h, m, s or ms",
            format!(
                "Every renewal is a revision that etcd keeps until somebody compacts it. `auto`: turnip \
                 does where etcd holds nothing but turnip's keys and nobody else does, and keeps {} \
                 minutes. `never`: it does not. A duration: it does, whatever else etcd holds, and keeps \
                 so much.",
                KEEP.as_secs() / 60
            ),
        )
        .default("\"auto\"")
        .limits(format!("at least {KEEP_MIN:?}"))
        .example("\"1h\"")
        .restart(),
        setting(
            "quota",
            "a number of bytes, or with MiB or GiB",
            "To which size etcd's database may grow (`--quota-backend-bytes`), where etcd does not say \
             so itself in its metrics.",
        )
        .default_words("what etcd's metrics say")
        .example("\"8GiB\"")
        .restart(),
    ];
    Table {
        prefix: "etcd.",
        title: "The table `[etcd]`",
        about: "How etcd is reached, and what turnip does about its growth.",
        settings,
    }
}

pub(super) fn peers() -> Table {
    let settings = vec![
        setting(
            "listen",
            "address with a port, or \"off\"",
            "Where heartbeats of the other hosts are received, by UDP. The port has to be open between \
             the hosts. Where an address is given turnip does not run without it; by default it runs \
             without, and says so, when another program has the port. `off`: addresses do not outlive \
             etcd.",
        )
        .default_follows(format!("\"[::]:{PORT_DEFAULT}\""), "all addresses of the host")
        .example("\"off\"")
        .restart(),
        setting(
            "address",
            "address, perhaps with a port",
            "Where the others send them: an address of this host, with a port where another one leads \
             here.",
        )
        .default_words(
            "the address by which the peers of this host's etcd member reach it; else that from which \
             this host reaches etcd",
        )
        .example("\"10.1.0.11\"")
        .restart(),
    ];
    Table {
        prefix: "peers.",
        title: "The table `[peers]`",
        about: "How the hosts hear each other past etcd. While all of them do, addresses outlive an \
                etcd that does not answer.",
        settings,
    }
}
