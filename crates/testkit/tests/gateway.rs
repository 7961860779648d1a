//! A child process is followed and measured. The shell plays the gateway.

use std::path::Path;
use std::time::Duration;

use barnabas_testkit::{Error, Gateway, Result, Signal};

fn shell(script: &str) -> Result<Gateway> {
    Gateway::spawn(Path::new("/bin/sh"), &["-c", script])
}

#[test]
fn ports_are_read_from_stderr() {
    let gateway = Gateway::builder("/bin/sh")
        .args(["-c"])
        .arg(
            "echo on stdout; echo starting >&2;
             echo '[server] 2026/01/31 12:00:00 Listening on 127.0.0.1:40123' >&2;
             echo \"[$NAME] 2026/01/31 12:00:00 Listening on 127.0.0.1:40124\" >&2;
             sleep 600",
        )
        .env("NAME", "metrics")
        .listeners(2)
        .spawn()
        .unwrap();
    assert_eq!(gateway.port(), 40123);
    assert_eq!(gateway.address(), "127.0.0.1:40123");
    let second = &gateway.listening()[1];
    assert_eq!(
        (second.component.as_deref(), second.port),
        (Some("metrics"), 40124)
    );
    assert!(gateway.stderr().starts_with("starting\n"));
    gateway
        .wait_for_stderr("[metrics]", Duration::from_secs(5))
        .unwrap();
}

#[test]
fn a_gateway_that_ends_early_shows_its_stderr() {
    let error = shell("echo no such option >&2; exit 3").unwrap_err();
    match error {
        Error::GatewayEnded { status, stderr } => {
            assert_eq!(status.code(), Some(3));
            assert_eq!(stderr, "no such option\n");
        }
        _ => panic!("{error}"),
    }
}

#[test]
fn a_gateway_that_never_listens_is_given_up() {
    let error = Gateway::builder("/bin/sh")
        .args(["-c", "echo thinking >&2; sleep 600"])
        .start_timeout(Duration::from_millis(100))
        .spawn()
        .unwrap_err();
    assert!(
        matches!(error, Error::GatewayNotListening { .. }),
        "{error}"
    );
}

#[test]
fn its_end_is_timed_and_its_last_words_are_there() {
    let gateway = shell(
        "trap 'echo bye >&2; exit 7' TERM; trap 'echo reloading >&2' HUP;
         echo Listening on 127.0.0.1:1 >&2; while :; do sleep 0.01; done",
    )
    .unwrap();
    gateway.signal(Signal::Hangup).unwrap();
    gateway
        .wait_for_stderr("reloading", Duration::from_secs(10))
        .unwrap();
    let (status, took) = gateway.terminate().unwrap();
    assert_eq!(status.code(), Some(7));
    assert!(took < Duration::from_secs(10));
    assert!(gateway.stderr().ends_with("bye\n"));
    gateway.signal(Signal::Terminate).unwrap();
    assert!(gateway.resident_bytes().is_err());
}

#[test]
fn it_is_measured() {
    let gateway = shell(
        // One `exec` instead of a redirection per line, which would be one more descriptor at times.
        "exec >&2; echo Listening on 127.0.0.1:1;
         i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; echo done; sleep 600; :",
    )
    .unwrap();
    gateway
        .wait_for_stderr("done", Duration::from_secs(60))
        .unwrap();
    assert!(gateway.cpu_time().unwrap() >= Duration::from_millis(10));
    assert_eq!(gateway.threads().unwrap(), ["sh"]);
    assert!(gateway.resident_bytes().unwrap() > 100_000);
    assert!(gateway.process().peak_resident_bytes().unwrap() > 100_000);
    // Its standard streams, and none of this process.
    assert_eq!(gateway.descriptors().unwrap(), 3);
}
