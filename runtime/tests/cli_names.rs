//! What `check` says of the names of etcd's endpoints and members, on a host whose hosts file and resolver are
//! those that are told. Needs root, iproute2, util-linux and etcd, and fails without.

mod support;

use support::host::{Host, text};

/// What `turnip check` says where etcd is at these endpoints.
fn check(host: &Host, endpoints: &str, hosts: &str, resolver: &str) -> (Option<i32>, String) {
    let configuration = format!(
        "node = \"a\"\n[etcd]\nendpoints = [{endpoints}]\n[[vip]]\nname = \"api\"\naddress = \"10.0.0.50/32\"\ninterface = \"lo\"\n"
    );
    let path = host.directory.join("turnip.toml");
    std::fs::write(&path, &configuration).unwrap();
    check_with(host, (hosts, resolver), &["--config", path.to_str().unwrap()], &[])
}

/// What it says with these arguments and variables.
fn check_with(
    host: &Host,
    (hosts, resolver): (&str, &str),
    arguments: &[&str],
    variables: &[(&str, &str)],
) -> (Option<i32>, String) {
    let write = |name: &str, text: &str| {
        let path = host.directory.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let script = r#"set -e
        mount --bind "$1" /etc/hosts
        mount --bind "$2" /etc/resolv.conf
        [ ! -d /run/systemd/resolve ] || mount -t tmpfs none /run/systemd/resolve
        shift 2
        exec "$@""#;
    let mut command = host.command("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]);
    command.args([write("hosts", hosts), write("resolv.conf", resolver)]);
    command.args([env!("CARGO_BIN_EXE_turnip"), "check"]).args(arguments);
    let output = command.envs(variables.iter().copied()).output().unwrap();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[track_caller]
fn line(said: &str, begin: &str, words: &[&str]) {
    let is_it =
        |line: &&str| line.starts_with(begin) && words.iter().all(|word| line.contains(word));
    assert!(said.lines().any(|line| is_it(&line)), "no line with {begin} and {words:?} in {said}");
}

#[test]
fn an_endpoint_whose_name_leads_to_a_vip_is_an_error_unless_another_leads_elsewhere() {
    let host = Host::bare();
    let hosts = "10.0.0.50 etcd.vip\n127.0.0.1 etcd.own\n";
    let (code, said) = check(&host, "\"http://etcd.vip:2379\"", hosts, "");
    line(&said, "error", &["http://etcd.vip:2379 is at 10.0.0.50, the VIP api", "power failure"]);
    assert_eq!(code, Some(1), "{said}");
    let both = "\"http://etcd.vip:2379\", \"http://etcd.own:2379\"";
    let (_, said) = check(&host, both, hosts, "");
    line(&said, "warning", &["http://etcd.vip:2379 is at 10.0.0.50, the VIP api"]);
}

#[test]
fn a_resolver_that_is_a_vip_is_warned_of_where_a_name_needs_it() {
    let host = Host::bare();
    let resolver = "options timeout:1 attempts:1\nnameserver 10.0.0.50\n";
    let (_, said) = check(&host, "\"http://etcd.lab:2379\"", "", resolver);
    line(&said, "warning", &["etcd.lab", "known to the resolver alone, which is at 10.0.0.50"]);
    let (_, said) = check(&host, "\"http://etcd.lab:2379\"", "127.0.0.1 etcd.lab\n", resolver);
    assert!(!said.contains("known to the resolver alone"), "{said}");
}

#[test]
fn a_resolver_that_does_not_answer_is_called_the_cause_and_not_etcd() {
    let host = Host::bare();
    let resolver = "options timeout:1 attempts:1\nnameserver 127.0.0.1\n";
    let (code, said) = check(&host, "\"http://etcd.lab:2379\"", "", resolver);
    line(&said, "error", &["etcd.lab", "look at /etc/resolv.conf"]);
    assert_eq!(code, Some(1), "{said}");
}

#[test]
fn a_member_whose_peers_reach_it_by_a_name_is_not_taken_for_another_by_a_dead_resolver() {
    let host = Host::with_etcd();
    let listed = text(&host.etcdctl(&["member", "list"]).stdout);
    let id = listed.split(',').next().unwrap();
    let updated = host.etcdctl(&["member", "update", id, "--peer-urls=http://etcd.peer:2380"]);
    assert!(updated.status.success(), "{}", text(&updated.stderr));
    let variables = [
        ("TURNIP_IP", "10.0.0.50"),
        ("TURNIP_NETMASK", "32"),
        ("TURNIP_DEV", "lo"),
        ("TURNIP_ID", "127.0.0.1"),
    ];
    let resolver = "options timeout:1 attempts:1\nnameserver 127.0.0.1\n";
    let (_, said) = check_with(&host, ("", resolver), &[], &variables);
    line(&said, "error", &["TURNIP_ID", "gives no address for etcd.peer"]);
    assert!(!said.contains("belongs to no member"), "{said}");
    let (_, said) = check_with(&host, ("127.0.0.1 etcd.peer\n", resolver), &[], &variables);
    line(&said, "ok", &["TURNIP_ID", "127.0.0.1 is the member"]);
}
