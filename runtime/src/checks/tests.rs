use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::time::Instant;

use futures::StreamExt as _;
use turnip_core::Initial;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn check(kind: Kind, timeout: Duration) -> Check {
    let config = CheckConfig {
        name: "api".parse().unwrap(),
        rise: 1,
        fall: 1,
        initial: Initial::Wait,
        weight: None,
        whole_node: false,
    };
    Check { config, kind, interval: SECOND / 10, timeout }
}

fn shell(script: &str) -> Kind {
    Kind::Exec(["/bin/sh", "-c", script].map(str::to_owned).into())
}

async fn tried(kind: Kind) -> Result<(), String> {
    try_once(&check(kind, 10 * SECOND)).await
}

/// Waits until it is so.
fn becomes(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + 10 * SECOND;
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_there(pid: &str) -> bool {
    std::path::Path::new("/proc").join(pid).exists()
}

#[tokio::test(flavor = "current_thread")]
async fn a_program_says_by_its_exit_status_whether_it_passes_and_by_its_last_line_why_not() {
    assert_eq!(tried(shell("echo all is well; exit 0")).await, Ok(()));
    let failed = tried(shell("echo one; echo two; echo; exit 3")).await;
    assert_eq!(failed, Err("two (exit status 3)".to_owned()));
    let failed = tried(shell("echo to standard error >&2; exit 1")).await;
    assert_eq!(failed, Err("to standard error (exit status 1)".to_owned()));
    assert_eq!(tried(shell("exit 1")).await, Err("exit status 1".to_owned()));
    assert_eq!(tried(shell("kill -9 $$")).await, Err("ended by signal 9".to_owned()));
    let missing = tried(Kind::Exec(vec!["/nowhere/at-all".to_owned()])).await.unwrap_err();
    assert!(missing.starts_with("cannot start /nowhere/at-all: "), "{missing}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_program_that_hangs_is_killed_with_all_that_it_started_and_is_no_zombie() {
    let hangs = shell("sleep 1000 & echo $$ $!; sleep 1000");
    let begun = Instant::now();
    let failed = try_once(&check(hangs, SECOND / 2)).await.unwrap_err();
    assert!(begun.elapsed() < 5 * SECOND);
    assert!(failed.ends_with("(killed, for it did not end within 500ms)"), "{failed}");
    let pids: Vec<&str> = failed.split(' ').take(2).collect();
    becomes("both are gone", || pids.iter().all(|pid| !is_there(pid)));
}

#[tokio::test(flavor = "current_thread")]
async fn what_a_program_leaves_behind_goes_with_it() {
    let failed = tried(shell("sleep 1000 & echo $!; exit 1")).await.unwrap_err();
    let pid = failed.split(' ').next().unwrap().to_owned();
    becomes("it is gone", || !is_there(&pid));
}

#[tokio::test(flavor = "current_thread")]
async fn a_flood_is_read_up_to_a_bound_and_its_end_is_the_reason() {
    let begun = Instant::now();
    let failed = try_once(&check(shell("yes flood"), SECOND)).await.unwrap_err();
    assert!(failed.starts_with("f"), "{failed}");
    assert!(failed.len() < 8 << 10 && begun.elapsed() < 5 * SECOND);
    let long = shell("head -c 300000 /dev/zero | tr '\\0' x; echo; echo the end; exit 1");
    assert_eq!(tried(long).await, Err("the end (exit status 1)".to_owned()));
}

#[tokio::test(flavor = "current_thread")]
async fn a_program_inherits_no_variable_and_is_the_first_to_go_when_memory_runs_out() {
    let failed = tried(shell("env | cut -d= -f1 | sort | tr '\\n' ' '; exit 1")).await;
    let failed = failed.unwrap_err();
    for secret in ["CARGO", "HOME", "USER"] {
        assert!(!failed.contains(secret), "{failed}");
    }
    assert!(failed.contains("PATH") && failed.contains("TURNIP_CHECK"), "{failed}");
    // It is told so just after it was started.
    let script = "for i in 1 2 3 4 5 6 7 8 9; do a=$(cat /proc/$$/oom_score_adj); [ $a = 1000 ] && exit 0; sleep 0.1; done; echo $a; exit 1";
    assert_eq!(tried(shell(script)).await, Ok(()));
}

/// A server that answers one request after the other so; what it was asked.
fn serve(
    mut accept: impl FnMut() -> Box<dyn ReadWrite> + Send + 'static,
    answer: &'static str,
) -> std::sync::mpsc::Receiver<String> {
    let (asked, requests) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        loop {
            let mut stream = accept();
            let mut request = [0; 4096];
            let count = stream.read(&mut request).unwrap_or_default();
            let _ = asked.send(String::from_utf8_lossy(&request[..count]).into_owned());
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    requests
}

trait ReadWrite: io::Read + io::Write {}
impl<T: io::Read + io::Write> ReadWrite for T {}

fn over_tcp(answer: &'static str) -> (u16, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (port, serve(move || Box::new(listener.accept().unwrap().0), answer))
}

fn http(url: &str) -> Http {
    Http::new(url, TlsFiles::default()).unwrap()
}

fn kind(http: Http) -> Kind {
    Kind::Http(Arc::new(http))
}

#[tokio::test(flavor = "current_thread")]
async fn a_request_is_answered_by_the_status_and_the_text_that_are_expected() {
    let well = "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n{\"state\":\"up\"}\n";
    let (port, requests) = over_tcp(well);
    let url = format!("http://127.0.0.1:{port}/health?deep=1");
    assert_eq!(tried(kind(http(&url))).await, Ok(()));
    let request = requests.recv().unwrap();
    assert!(request.starts_with("GET /health?deep=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("host: 127.0.0.1:{port}\r\n")), "{request}");
    let right = http(&url).answered_by(Some(200), Some("\"state\":\"up\"".into()));
    assert_eq!(tried(kind(right)).await, Ok(()));
    let wrong = http(&url).answered_by(None, Some("primary".into()));
    let failed = tried(kind(wrong)).await.unwrap_err();
    assert_eq!(failed, "the first 15 bytes of the answer do not contain \"primary\"");
    let wrong = http(&url).answered_by(Some(204), None);
    assert_eq!(tried(kind(wrong)).await, Err("/health answers 200 OK".to_owned()));
    let (port, requests) = over_tcp("HTTP/1.1 503 Service Unavailable\r\n\r\n");
    let called = http(&format!("http://127.0.0.1:{port}")).called(Some("api.example".into()));
    let failed = tried(kind(called)).await;
    assert_eq!(failed, Err("/ answers 503 Service Unavailable".to_owned()));
    assert!(requests.recv().unwrap().contains("host: api.example\r\n"));
}

#[tokio::test(flavor = "current_thread")]
async fn a_request_goes_by_a_unix_socket_and_ends_in_time_where_nobody_answers() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let answer = "HTTP/1.1 204 No Content\r\n\r\n";
    let _requests = serve(move || Box::new(listener.accept().unwrap().0), answer);
    let by_socket = http("http://localhost/v1/health").by_socket(Some(path));
    assert_eq!(tried(kind(by_socket)).await, Ok(()));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let failed = try_once(&check(kind(http(&url)), SECOND / 5)).await;
    assert_eq!(failed, Err("no answer within 200ms".to_owned()));
    let garbage = over_tcp("hello\n").0;
    assert!(tried(kind(http(&format!("http://127.0.0.1:{garbage}")))).await.is_err());
}

#[test]
fn what_is_no_url_of_a_server_is_refused() {
    for wrong in ["", "/health", "ftp://a/b", "http://", "127.0.0.1:80", "https//x"] {
        assert!(Http::new(wrong, TlsFiles::default()).is_err(), "{wrong}");
    }
    let files = TlsFiles { ca: Some("/ca.pem".into()), client: None };
    assert!(Http::new("http://a", files).unwrap_err().contains("https://"));
}

#[tokio::test(flavor = "current_thread")]
async fn ports_files_processes_and_interfaces_are_looked_at() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(tried(Kind::Tcp("127.0.0.1".into(), port)).await, Ok(()));
    drop(listener);
    let refused = tried(Kind::Tcp("127.0.0.1".into(), port)).await.unwrap_err();
    assert!(refused.contains("onnection refused"), "{refused}");

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("maintenance");
    assert_eq!(tried(Kind::File(path.clone())).await, Ok(()));
    std::fs::write(&path, "").unwrap();
    assert_eq!(tried(Kind::File(path.clone())).await, Err(format!("{} is there", path.display())));

    let mut sleeper = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    assert_eq!(tried(Kind::Process("sleep".into())).await, Ok(()));
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    let none = tried(Kind::Process("nobody-is-called-so".into())).await;
    assert_eq!(none, Err("no process nobody-is-called-so runs".to_owned()));

    let none = tried(Kind::Interface(vec!["nosuch0".into()])).await;
    assert_eq!(none, Err("interface nosuch0 does not exist".to_owned()));
}

/// What cannot be given up is not begun a second time.
#[tokio::test(flavor = "current_thread")]
async fn of_one_check_there_is_one_attempt_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let (count, stop) = (directory.path().join("count"), directory.path().join("stop"));
    // Only ever one is there: else the second one finds the directory of the first.
    let script = format!(
        "mkdir {0} || {{ touch {1}; exit 1; }}; sleep 0.25; rmdir {0}",
        count.display(),
        stop.display()
    );
    let (running, mut results) = Checks::start(vec![check(shell(&script), 10 * SECOND)]).unwrap();
    for _ in 0..4 {
        let attempt = results.next().await.unwrap();
        assert_eq!((attempt.check.as_str(), attempt.result), ("api", Ok(())));
    }
    assert!(!stop.exists());
    drop(running);
}

#[test]
fn what_checks_have_begun_ends_with_them() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pid");
    let script = format!("echo $$ > {}.new; mv {0}.new {0}; sleep 1000", file.display());
    let (running, _results) = Checks::start(vec![check(shell(&script), 100 * SECOND)]).unwrap();
    becomes("it runs", || file.exists());
    let pid = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    drop(running);
    // Its parent reaps nothing any more, and is this very process.
    let is_dead = || {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        state.is_empty() || state.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z"))
    };
    becomes("it is gone", is_dead);
}
