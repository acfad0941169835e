//! The tables `[[check]]`.

use super::super::checks::{
    COUNT_MAX, FALL_DEFAULT, INTERVAL_DEFAULT, INTERVAL_MIN, RISE_DEFAULT, TIMEOUT_DEFAULT_MAX,
    TIMEOUT_MAX, TIMEOUT_MIN, WEIGHT_MAX,
};
use super::{Setting, Table, forms, quoted, setting};

pub(super) fn table() -> Table {
    Table {
        prefix: "check.",
        title: "The tables `[[check]]`",
        about: "A check of what stands behind VIPs. Where it fails, the VIPs that name it go to another \
                host. Exactly one of `exec`, `http`, `tcp`, `interface`, `file` and `process` says what is \
                tried. See [checks](checks.md).",
        settings: [kinds(), of_http(), when()].into_iter().flatten().collect(),
    }
}

fn kinds() -> Vec<Setting> {
    vec![
        setting("name", forms::NAME, "What VIPs, commands, logs and metrics call it.")
            .needed()
            .example("\"port\""),
        setting(
            "exec",
            forms::PROGRAM,
            "A program. It passes when it ends with 0; the last line that it writes says why not.",
        )
        .example("[\"/usr/local/bin/check-api\", \"-q\"]"),
        setting(
            "http",
            "URL",
            "A request by HTTP or HTTPS. It passes when the answer's status is right.",
        )
        .example("\"http://127.0.0.1:8008/primary\""),
        setting("tcp", "host with a port", "A connection by TCP. It passes when it comes about.")
            .example("\"127.0.0.1:5433\""),
        setting(
            "interface",
            "name of an interface, or a list of them",
            "Interfaces other than the VIP's own. It passes while all are up and have a carrier.",
        )
        .example("[\"eth1\", \"eth2\"]"),
        setting("file", forms::FILE, "It fails while the file is there.")
            .example("\"/etc/turnip/maintenance\""),
        setting(
            "process",
            "name, as `ps -o comm` shows it",
            "It passes while a process of that name runs.",
        )
        .example("\"haproxy\""),
    ]
}

fn of_http() -> Vec<Setting> {
    vec![
        setting("status", forms::NUMBER, "With `http`: which status is right.")
            .default_words("every one from 200 to 299")
            .limits("from 100 to 599")
            .example("204"),
        setting("body", forms::TEXT, "With `http`: what the answer has to contain.")
            .example("\"ok\""),
        setting(
            "host",
            forms::TEXT,
            "With `http`: what the server is called in the request and in its certificate.",
        )
        .default_words("the URL's host")
        .example("\"kubernetes\""),
        setting("unix", forms::FILE, "With `http`: the socket by which the server is reached.")
            .default_words("the URL's host and port")
            .example("\"/run/api.sock\""),
        setting("ca", forms::FILE, "With `http`: the certificate authorities to trust, PEM.")
            .default_words("the system's authorities")
            .example("\"/etc/kubernetes/pki/ca.crt\""),
        setting(
            "cert",
            forms::FILE,
            "With `http`: this client's certificate, PEM. It goes with `key`.",
        )
        .example("\"/etc/turnip/client.pem\""),
        setting(
            "key",
            forms::FILE,
            "With `http`: this client's private key, PEM. It goes with `cert`.",
        )
        .example("\"/etc/turnip/client-key.pem\""),
    ]
}

fn when() -> Vec<Setting> {
    vec![
        setting("interval", forms::DURATION, "How often it is tried.")
            .default(quoted(INTERVAL_DEFAULT))
            .limits(format!("at least {INTERVAL_MIN:?}"))
            .example("\"5s\""),
        setting(
            "timeout",
            forms::DURATION,
            format!("How long an attempt may take. What is longer than {TIMEOUT_MAX:?} counts as that."),
        )
        .default_follows(quoted(INTERVAL_DEFAULT.min(TIMEOUT_DEFAULT_MAX)), "the interval")
        .limits(format!("at least {TIMEOUT_MIN:?}; the default is never longer than {TIMEOUT_DEFAULT_MAX:?}"))
        .example("\"500ms\""),
        setting("rise", forms::NUMBER, "So many attempts in a row that pass make it up.")
            .default(RISE_DEFAULT.to_string())
            .limits(format!("from 1 to {COUNT_MAX}"))
            .example("1"),
        setting("fall", forms::NUMBER, "So many attempts in a row that fail make it down.")
            .default(FALL_DEFAULT.to_string())
            .limits(format!("from 1 to {COUNT_MAX}"))
            .example("2"),
        setting(
            "initial",
            "one of \"up\", \"down\", \"wait\"",
            "What it is before its first attempt. `wait`: the first attempt says so; until then nothing \
             is taken, and what a restarted daemon has stays.",
        )
        .default("\"wait\"")
        .example("\"down\""),
        setting(
            "weight",
            forms::NUMBER,
            "What it weighs instead of passing VIPs on. Below 0: it is taken from this host's priority, or \
             share, while the check is down. Above 0: it is added while the check is up.",
        )
        .default_words("none: a VIP is not held where the check fails")
        .limits(format!("from -{WEIGHT_MAX} to {WEIGHT_MAX}, not 0"))
        .example("-20"),
        setting("node", forms::FLAG, "Whether it is about the whole host, and so about all its VIPs.")
            .default("false")
            .example("true"),
    ]
}
