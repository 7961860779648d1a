//! Missing programs are installed or named: a script plays `apt-get`. Those that run are heard.

use std::env;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use barnabas_testkit::Error;
use barnabas_testkit::tools::{ensure_program, output};

const FOLDER: &str = "BARNABAS_TESTKIT_TOOLS_FOLDER";

/// Plays the package manager: the package has the program if it is called `good-package`.
const APT_GET: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$*" >> "$here/calls"
case "$*" in *good-package*)
    printf '#!/bin/sh\n' > "$here/wanted-program"
    chmod +x "$here/wanted-program"
esac
"#;

#[test]
fn a_missing_program_is_installed_by_root_and_named_to_others() {
    let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
    if let Some(folder) = env::var_os(FOLDER) {
        let folder = Path::new(&folder);
        match ensure_program("other-program", "bad-package") {
            Err(error @ Error::ProgramMissing { .. }) => {
                assert!(error.to_string().contains("apt-get install bad-package"));
            }
            other => panic!("{other:?}"),
        }
        let wanted = ensure_program("wanted-program", "good-package");
        assert_eq!(wanted.is_ok(), is_root, "{wanted:?}");
        if is_root {
            assert_eq!(wanted.unwrap(), folder.join("wanted-program"));
            let calls = fs::read_to_string(folder.join("calls")).unwrap();
            assert_eq!(calls.lines().count(), 4, "{calls}");
            ensure_program("wanted-program", "good-package").unwrap();
            assert_eq!(fs::read_to_string(folder.join("calls")).unwrap(), calls);
        }
        return;
    }

    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tools");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let apt_get = folder.join("apt-get");
    fs::write(&apt_get, APT_GET).unwrap();
    fs::set_permissions(&apt_get, fs::Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "tools::a_missing_program_is_installed_by_root_and_named_to_others",
        ])
        .env(FOLDER, &folder)
        .env("PATH", format!("{}:/usr/bin:/bin", folder.display()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_program_is_heard_whether_it_succeeds_fails_or_hangs() {
    let shell = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    };
    let patience = Duration::from_secs(20);
    let said = output(shell("tr a-z A-Z"), "heard\n", patience).unwrap();
    assert_eq!(said, "HEARD\n");

    let failed = output(shell("echo out; echo err >&2; exit 3"), "", patience).unwrap_err();
    match &failed {
        Error::CommandFailed { status, output, .. } => {
            assert_eq!((status.code(), output.as_str()), (Some(3), "out\nerr\n"));
        }
        _ => panic!("{failed}"),
    }

    let hung = output(
        shell("echo before; exec sleep 60"),
        "",
        Duration::from_secs(2),
    );
    match hung.unwrap_err() {
        Error::Timeout { what, .. } => assert!(what.contains("before"), "{what}"),
        error => panic!("{error}"),
    }
}
