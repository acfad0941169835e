//! The tables `[[vip]]`, and those within one.

use turnip_core::{Hook, lease};

use super::super::addresses::EACH_MAX;
use super::super::companions::{METRIC_DEFAULT, PRIORITY_MAX};
use super::super::follow::UNCHANGED_MIN;
use super::super::hooks::{TIMEOUT_DEFAULT, TIMEOUT_MAX, TIMEOUT_MIN};
use super::super::tables::MAIN;
use super::super::vips::PRIORITY_DEFAULT;
use super::{Setting, Table, forms, quoted, range, setting};

pub(super) fn tables() -> Vec<Table> {
    let settings = [addresses(), owner(), network(), hooks(), within()];
    let vip = Table {
        prefix: "vip.",
        title: "The tables `[[vip]]`",
        about: "A VIP: one or more addresses that move as one. Write a table for each, with the same \
                name, addresses, interfaces and policy on all hosts. Hosts that disagree about these do \
                not hand the VIP to each other.",
        settings: settings.into_iter().flatten().collect(),
    };
    vec![vip, of_addresses(), of_follow(), of_hooks(), of_route(), of_rule()]
}

fn addresses() -> Vec<Setting> {
    vec![
        setting("name", forms::NAME, "What the VIP is called in etcd, in commands, logs and metrics.")
            .needed()
            .example("\"api\""),
        setting(
            "address",
            "address with its prefix length",
            "The address. Write `/32`, or `/128` for IPv6, where the host has an address of its own in \
             that subnet.",
        )
        .default_words("none: either this or `addresses` has to be given")
        .example("\"10.0.0.51/32\""),
        setting(
            "addresses",
            "list of such addresses; each may name an interface of its own",
            "Several addresses. One that is not on `interface` is written `\"203.0.113.2/29 dev wan0\"`, \
             or as a table, see [below](#addresses-as-tables).",
        )
        .default_words("none: either this or `address` has to be given")
        .example("[\"10.0.0.50/32\", \"fd00::50/128\"]"),
        setting(
            "interface",
            forms::INTERFACE,
            "The interface that carries the addresses. It has to be given where one of the addresses \
             does not name its own, and has to be left out where all do.",
        )
        .default_words("none")
        .example("\"eth1\""),
        setting(
            "each",
            forms::FLAG,
            "Whether what stands in `address` or `addresses` are prefixes, and every address of them is \
             a VIP by itself, as `pool-10.1.0.7`.",
        )
        .default("false")
        .limits(format!("{EACH_MAX} VIPs a table at most; not with `virtual_mac`, routes or rules"))
        .example("true"),
    ]
}

fn owner() -> Vec<Setting> {
    vec![
        setting(
            "policy",
            "one of \"spread\", \"leader\", \"priority\", \"follow\"",
            "Which host should have the VIP. See [policies](policies.md).",
        )
        .default("\"spread\"")
        .example("\"leader\""),
        setting(
            "priority",
            forms::NUMBER,
            "With `policy = \"priority\"`: this host's. The host with the highest one has the VIP.",
        )
        .default(PRIORITY_DEFAULT.to_string())
        .example("150"),
        setting(
            "preempt",
            forms::FLAG,
            "With `policy = \"priority\"`: whether a host with a higher priority takes the VIP from one \
             that has it.",
        )
        .default("true")
        .example("false"),
        setting(
            "checks",
            "list of names",
            "The [checks](#the-tables-check) on which this VIP depends, beside those of the whole host.",
        )
        .default("[]")
        .example("[\"port\"]"),
        setting(
            "last_resort",
            "one of \"keep\", \"release\"",
            "What becomes of the VIP where its checks fail on every host: it stays where it is, or \
             nobody has it.",
        )
        .default("\"keep\"")
        .example("\"release\""),
    ]
}

fn network() -> Vec<Setting> {
    vec![
        setting(
            "announce_on",
            "list of interfaces",
            "On which interfaces the addresses are announced to neighbours. Not with `virtual_mac`.",
        )
        .default_words(
            "the VIP's own interface; where nobody resolves addresses on that, as on `lo`, all in whose \
             subnet the address lies",
        )
        .example("[\"eth0\"]"),
        setting(
            "wait_for_interface",
            forms::FLAG,
            "Whether an interface that does not exist yet is waited for. Else it is an error.",
        )
        .default("false")
        .example("true"),
        setting(
            "require_carrier",
            forms::FLAG,
            "Whether the VIP is passed on when its interface has no carrier. Write `false` for an \
             interface that never has one, as a bridge without ports.",
        )
        .default("true")
        .example("false"),
        setting(
            "defend",
            forms::FLAG,
            format!(
                "Whether the address is announced against a machine that is none of turnip's and says \
                 that it has it, every {:?} at most. Such a machine is reported in any case.",
                lease::DEFEND_AGAIN_AFTER
            ),
        )
        .default("false")
        .example("true"),
        setting(
            "keep_connections",
            forms::FLAG,
            "Whether connections through the VIP's addresses are left alone when it has left this host. \
             Else they end, with ECONNABORTED. Listening sockets stay in any case.",
        )
        .default("false")
        .example("true"),
        setting(
            "virtual_mac",
            forms::FLAG,
            "Whether the VIP has a hardware address of its own, the same on all hosts, on an interface \
             of turnip's own (macvlan). See [a virtual hardware address](virtual-mac.md).",
        )
        .default("false")
        .example("true"),
    ]
}

fn hooks() -> Vec<Setting> {
    let about = |hook| match hook {
        Hook::BeforeAssume => {
            "Run when this host has become the owner, before the address answers here, which waits for it."
        }
        Hook::AfterAssume => "Run when the address answers here.",
        Hook::BeforeRelease => {
            "Run when the VIP is about to leave by a planned move, which waits for it."
        }
        Hook::AfterRelease => "Run when the address is gone from here, for whatever reason.",
        Hook::OnConflict => "Run when another machine claims the address.",
    };
    let example = "[\"/usr/local/bin/notify\", \"{vip}\"]";
    let hook = |hook: Hook| {
        let form = "program and its arguments, or a [table](#hooks-as-tables)";
        setting(hook.as_str(), form, format!("{} See [hooks](hooks.md).", about(hook)))
            .example(example)
    };
    Hook::ALL.into_iter().map(hook).collect()
}

fn within() -> Vec<Setting> {
    vec![
        setting(
            "follow",
            "table",
            "With `policy = \"follow\"`: see [below](#the-table-vipfollow).",
        )
        .default_words("none; it has to be given with that policy")
        .example("{ key = \"/service/batman/leader\", value = \"pg1\" }"),
        setting(
            "route",
            "tables",
            "Routes that come and go with the VIP: see [below](#the-tables-viproute).",
        ),
        setting(
            "rule",
            "tables",
            "Rules that come and go with the VIP: see [below](#the-tables-viprule).",
        ),
    ]
}

fn of_addresses() -> Table {
    let settings = vec![
        setting("address", "address with its prefix length", "The address.")
            .needed()
            .example("\"10.0.0.51/24\""),
        setting("interface", forms::INTERFACE, "The interface that carries it.")
            .default_words("the VIP's `interface`")
            .example("\"eth1\""),
    ];
    Table {
        prefix: "vip.addresses.",
        title: "Addresses as tables",
        about: "An address of a VIP with an interface of its own, as in \
                `addresses = [{ address = \"10.0.101.1/24\", interface = \"br101\" }]`.",
        settings,
    }
}

fn of_follow() -> Table {
    let settings = vec![
        setting("key", "key of etcd", "The whole key of the other program. Not one of turnip's own.")
            .needed()
            .example("\"/service/batman/leader2\""),
        setting("value", forms::TEXT, "What the key says when it names this host.")
            .default_words("the host's `node`")
            .example("\"pg2\""),
        setting(
            "pointer",
            "JSON pointer (RFC 6901)",
            "Where in a value that is JSON the name stands.",
        )
        .default_words("the whole value is the name")
        .example("\"/leader/name\""),
        setting(
            "absent",
            "one of \"nobody\", \"last\"",
            "Who has the VIP while the key is gone, is unreadable or names nobody, and, from two leases \
             on, while etcd is away: nobody, or the one who had it.",
        )
        .default("\"nobody\"")
        .example("\"last\""),
        setting("unchanged", forms::DURATION, "A key that is not written for so long names nobody.")
            .default_words("never")
            .limits(format!("at least {UNCHANGED_MIN:?}"))
            .example("\"30s\""),
    ];
    Table {
        prefix: "vip.follow.",
        title: "The table `[vip.follow]`",
        about: "The key of another program that says where the VIP is. See [follow](follow.md).",
        settings,
    }
}

fn of_hooks() -> Table {
    let settings = vec![
        setting("run", forms::PROGRAM, "The program by its whole path. Arguments may have `{vip}` and so on.")
            .needed()
            .example("[\"/usr/local/bin/promote\", \"{vip}\"]"),
        setting("timeout", forms::DURATION, "For how long it may run. Then it is killed.")
            .default(quoted(TIMEOUT_DEFAULT))
            .limits(range(TIMEOUT_MIN, TIMEOUT_MAX))
            .example("\"30s\""),
        setting(
            "on_failure",
            "one of \"refuse\", \"ignore\"",
            "Of `before_assume` alone: whether the host leaves the VIP to another one when the hook \
             fails, or takes it all the same.",
        )
        .default("\"refuse\"")
        .example("\"ignore\""),
    ];
    Table {
        prefix: "vip.before_assume.",
        title: "Hooks as tables",
        about: "A hook with more to say than its program; so too `[vip.after_assume]`, \
                `[vip.before_release]`, `[vip.after_release]` and `[vip.on_conflict]`.",
        settings,
    }
}

fn of_route() -> Table {
    let settings = vec![
        setting("to", "prefix, or \"default\"", "Where the route leads.")
            .needed()
            .example("\"10.9.0.0/16\""),
        setting("via", "address", "The gateway.").example("\"10.0.0.2\""),
        setting("dev", forms::INTERFACE, "The interface.").example("\"eth1\""),
        setting("src", "address of the VIP", "The source of what this host itself sends by the route.")
            .example("\"10.0.0.50\""),
        setting(
            "table",
            "number, or a name from `/etc/iproute2/rt_tables`",
            "The routing table.",
        )
        .default_follows(MAIN.to_string(), "the table `main`")
        .example("100"),
        setting("metric", forms::NUMBER, "The route's metric. 257 is turnip's own for IPv6.")
            .default(METRIC_DEFAULT.to_string())
            .example("50"),
        setting(
            "blackhole",
            forms::FLAG,
            "Whether what goes there is dropped. Then there is no `via`, `dev` or `src`; else at least \
             one of `via` and `dev` is needed.",
        )
        .default("false")
        .example("true"),
    ];
    Table {
        prefix: "vip.route.",
        title: "The tables `[[vip.route]]`",
        about: "A route that is there while the VIP is.",
        settings,
    }
}

fn of_rule() -> Table {
    let settings = vec![
        setting("from", "prefix", "Packets from there.").example("\"10.0.101.0/24\""),
        setting("to", "prefix", "Packets to there.").example("\"10.0.102.0/24\""),
        setting(
            "fwmark",
            "number, or text as \"0x7\" or \"0x7/0xff\"",
            "Packets with that mark. One of `from`, `to` and `fwmark` is needed.",
        )
        .example("\"0x7/0xff\""),
        setting(
            "table",
            "number, or a name from `/etc/iproute2/rt_tables`",
            "The table in which these packets' routes are.",
        )
        .needed()
        .example("101"),
        setting("priority", forms::NUMBER, "Rules are looked at in the order of their priorities.")
            .needed()
            .limits(format!("from 1 to {PRIORITY_MAX}"))
            .example("1001"),
    ];
    Table {
        prefix: "vip.rule.",
        title: "The tables `[[vip.rule]]`",
        about: "A rule that is there while the VIP is: which packets are routed by which table.",
        settings,
    }
}
