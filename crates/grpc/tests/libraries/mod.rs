//! gRPC of other languages, unchanged, with code of their own generators. One file per language;
//! what they say is in the folders beside.

mod go;
mod python;

use barnabas_testkit::{Process, tools};
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// More than an installation takes on a busy machine.
pub(crate) const INSTALLING: Duration = Duration::from_secs(300);

/// What a command prints.
pub(crate) fn output(command: Command, limit: Duration) -> String {
    String::from_utf8_lossy(&output_of(command, b"", limit)).into_owned()
}

/// What a command prints that reads `input`.
fn output_of(mut command: Command, input: &[u8], limit: Duration) -> Vec<u8> {
    let shown = format!("{command:?}");
    // Files, because nobody reads or writes pipes while this thread waits.
    let mut stdin = tempfile::tempfile().unwrap();
    stdin.write_all(input).unwrap();
    stdin.rewind().unwrap();
    let mut streams = [(); 2].map(|()| tempfile::tempfile().unwrap());
    command
        .stdin(stdin)
        .stdout(streams[0].try_clone().unwrap())
        .stderr(streams[1].try_clone().unwrap());
    let ended = Process::spawn(command).unwrap().wait(limit);
    let [stdout, stderr] = streams.each_mut().map(|stream| {
        let mut text = Vec::new();
        stream.rewind().unwrap();
        stream.read_to_end(&mut text).unwrap();
        text
    });
    let has_succeeded = ended.as_ref().is_ok_and(ExitStatus::success);
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        has_succeeded,
        "{shown}: {ended:?}\n{}\n{}",
        text(&stdout),
        text(&stderr)
    );
    stdout
}

/// A program that the machine must have.
pub(crate) fn program(name: &str, package: &str) -> Command {
    Command::new(tools::ensure_program(name, package).unwrap())
}

/// Copies a folder of `libraries` into the target folder and lets `install` do there what its
/// manifest says, unless that has been done for the same files, and proto files, before.
pub(crate) fn install(name: &str, install: impl FnOnce(&Path)) -> PathBuf {
    let own = sources().join("tests/libraries").join(name);
    let proto = sources().join("proto");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("grpc-clients")
        .join(name);
    fs::create_dir_all(&folder).unwrap();
    // Another test process may be at it, too. A failure leaves no stamp.
    let installing = File::create(folder.join("lock")).unwrap();
    installing.lock().unwrap();
    let mut files: Vec<_> = fs::read_dir(&own)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let protos = ["kafkapixy.proto", "barnabas/v1/gateway.proto"].map(|file| proto.join(file));
    let wanted: String = files
        .iter()
        .chain(&protos)
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let (stamp, installed) = (folder.join("stamp"), folder.join("installed"));
    if fs::read_to_string(&stamp).is_ok_and(|done| done == wanted) {
        return installed;
    }
    let _ = fs::remove_dir_all(&installed);
    fs::create_dir(&installed).unwrap();
    for file in &files {
        fs::copy(file, installed.join(file.file_name().unwrap())).unwrap();
    }
    install(&installed);
    fs::write(stamp, wanted).unwrap();
    installed
}

fn sources() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
