//! What the tests have in common.

use barnabas_testkit::{Gateway, tools};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take that has no bound of its own: a busy machine is slow.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A gRPC client for the command line, and where it comes from.
const GRPCURL: &str = "github.com/fullstorydev/grpcurl/cmd/grpcurl@v1.9.3";

/// The binary under test.
pub(crate) fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_barnabas"))
}

/// Runs the binary to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    Command::new(binary())
        .args(arguments)
        .env_remove("RUST_LOG")
        .output()
        .unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Writes a file into a folder of its own, which lives as long as the first
/// value.
pub(crate) fn file(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// `host:port` of a listener, by its place among the lines that tell of them.
pub(crate) fn address(gateway: &Gateway, index: usize) -> String {
    let listening = &gateway.listening()[index];
    format!("{}:{}", listening.host, listening.port)
}

/// The repository, where the lines of `dev` are to be typed.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What curl got: status and body.
pub(crate) fn curl(arguments: &[&str]) -> (u16, String) {
    finish_curl(start_curl(arguments))
}

/// A request that is under way.
pub(crate) fn start_curl(arguments: &[&str]) -> Child {
    let curl = tools::ensure_program("curl", "curl").unwrap();
    Command::new(curl)
        .args(["-sS", "--max-time", "60", "-w", "\n%{http_code}"])
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

pub(crate) fn finish_curl(child: Child) -> (u16, String) {
    let output = child.wait_with_output().unwrap();
    let shown = stdout(&output);
    let (body, status) = shown.rsplit_once('\n').unwrap();
    let status: u16 = status.parse().unwrap();
    assert!(status > 0, "{}", stderr(&output));
    (status, body.to_owned())
}

/// The folder that has grpcurl, installed unless it is there.
pub(crate) fn grpcurl_folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("grpcurl");
    fs::create_dir_all(&folder).unwrap();
    // Another test process may be at it, too.
    let installing = File::create(folder.join("lock")).unwrap();
    installing.lock().unwrap();
    if !folder.join("grpcurl").exists() {
        let go = tools::ensure_program("go", "golang-go").unwrap();
        let output = Command::new(go)
            .args(["install", GRPCURL])
            .env("GOBIN", &folder)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
    }
    folder
}

/// A method of `KafkaPixy` with a request in JSON, under way.
pub(crate) fn start_grpcurl(address: &str, method: &str, request: &str) -> Child {
    Command::new(grpcurl_folder().join("grpcurl"))
        .args(["-plaintext", "-max-time", "60", "-import-path"])
        .args(["crates/grpc/proto", "-proto", "kafkapixy.proto"])
        .args(["-d", request, address, &format!("KafkaPixy/{method}")])
        .current_dir(repository())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What came back, or the error.
pub(crate) fn grpcurl(address: &str, method: &str, request: &str) -> Result<String, String> {
    finish_grpcurl(start_grpcurl(address, method, request))
}

pub(crate) fn finish_grpcurl(child: Child) -> Result<String, String> {
    let output = child.wait_with_output().unwrap();
    match output.status.success() {
        true => Ok(stdout(&output)),
        false => Err(stderr(&output)),
    }
}

/// Waits until `holds`.
pub(crate) fn eventually<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = holds() {
            return value;
        }
        assert!(started.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
