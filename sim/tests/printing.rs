//! What the program prints is perhaps not read to the end.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Plays a scenario, and nobody reads what is printed of it.
fn unread(more: &[&str]) -> Output {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/isolate-holder.toml");
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnip-sim"));
    command.arg("play").arg(file).args(["--seeds", "3"]).args(more);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program beside the test");
    drop(child.stdout.take());
    child.wait_with_output().expect("its end")
}

#[test]
fn who_stops_reading_gets_the_picture_and_the_status_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join("run.svg");
    let output = unread(&["--trace", "--timeline", picture.to_str().unwrap()]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
    assert!(std::fs::read_to_string(&picture).unwrap().starts_with("<svg"));
}
