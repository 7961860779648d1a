//! Bytes, names and failures of the offset files.

use super::*;
use std::os::unix::fs::PermissionsExt;

struct Fixture {
    folder: tempfile::TempDir,
    offsets: OffsetDirectory,
}

fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let offsets = OffsetDirectory::new(folder.path().join("a/b"), "orders");
    Fixture { folder, offsets }
}

impl Fixture {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("a/b").join(name)
    }

    fn put(&self, name: &str, content: &[u8]) {
        fs::create_dir_all(self.folder.path().join("a/b")).unwrap();
        fs::write(self.path(name), content).unwrap();
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path().join("a/b")).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn an_offset_is_decimal_digits_and_a_line_feed() {
    let fixture = fixture();
    fixture.offsets.write(&[(3, 1234)]).unwrap();
    let file = fixture.path("orders-3.offset");
    assert_eq!(fs::read(&file).unwrap(), [0x31, 0x32, 0x33, 0x34, 0x0a]);
    assert_eq!(fixture.offsets.path(3), file);
    // 0666 less umask: whatever that is, nobody may execute it, and a file
    // made in the usual way is no different.
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    fixture.put("other", b"");
    assert_eq!(mode(&file), mode(&fixture.path("other")));
    assert_eq!(fixture.offsets.read(&[3]).unwrap(), [Some(1234)]);
}

#[test]
fn nothing_is_created_by_reading() {
    let fixture = fixture();
    assert_eq!(fixture.offsets.read(&[0, 1]).unwrap(), [None, None]);
    fixture.offsets.write(&[]).unwrap();
    assert!(!fixture.folder.path().join("a").exists());
}

#[test]
fn partitions_and_topics_share_a_directory() {
    let fixture = fixture();
    let other = OffsetDirectory::new(fixture.folder.path().join("a/b"), "bills");
    let many: Vec<(i32, i64)> = (0..50).map(|id| (id, i64::from(id) * 7)).collect();
    fixture.offsets.write(&many).unwrap();
    other.write(&[(0, 5)]).unwrap();
    fixture.offsets.write(&[(9, 1)]).unwrap();
    assert_eq!(fixture.names().len(), 51, "{:?}", fixture.names());
    let read = fixture.offsets.read(&[49, 9, 50, 0]).unwrap();
    assert_eq!(read, [Some(343), Some(1), None, Some(0)]);
    assert_eq!(other.read(&[0]).unwrap(), [Some(5)]);
}

#[test]
fn what_may_stand_in_a_file() {
    let fixture = fixture();
    let reads = |content: &[u8]| {
        fixture.put("orders-0.offset", content);
        fixture.offsets.read(&[0]).map(|read| read[0])
    };
    for (content, offset) in [
        (&b"1234\n"[..], Some(1234)),
        (b"0", Some(0)),
        (b" \t12\r\n\n", Some(12)),
        (b"-1\n", None),
        (b"007", Some(7)),
        (b"9223372036854775807", Some(i64::MAX)),
    ] {
        assert_eq!(reads(content).unwrap(), offset, "{content:?}");
    }
    let long = vec![b'1'; 5_000];
    for content in [
        &b""[..],
        b"\n",
        b"abc",
        b"12 13",
        b"12\n13",
        b"0x10",
        b"1e3",
        b"1.5",
        b"1.0",
        b"+5",
        b"-2",
        b"-0",
        b"--1",
        b"Infinity",
        b"NaN",
        b"1_000",
        b"9223372036854775808",
        b"\xff\xfe",
        "\u{0661}".as_bytes(),
        b"12\0",
        &long,
    ] {
        let error = reads(content).unwrap_err();
        assert_eq!(error.to_string(), "bad file format", "{content:?}");
        let OffsetError::BadFormat { path } = error else {
            panic!("{error:?}")
        };
        assert_eq!(path, fixture.path("orders-0.offset"));
    }
}

#[test]
fn other_errors_stay_what_they_are() {
    let fixture = fixture();
    fs::create_dir_all(fixture.path("orders-0.offset")).unwrap();
    let error = fixture.offsets.read(&[0]).unwrap_err();
    let OffsetError::Io { step, path, source } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(source.raw_os_error(), Some(libc::EISDIR));
    assert_eq!(
        (*step, path),
        ("read", &fixture.path("orders-0.offset")),
        "{error}"
    );
}

#[test]
fn left_over_working_files_are_ignored_and_truncated() {
    let fixture = fixture();
    fixture.put(".working-orders-0.offset", b"99999999");
    fixture.put(".working-orders-1.offset", b"5\n");
    assert_eq!(fixture.offsets.read(&[0, 1]).unwrap(), [None, None]);
    fixture.offsets.write(&[(0, 12)]).unwrap();
    let content = fs::read(fixture.path("orders-0.offset")).unwrap();
    assert_eq!(content, b"12\n");
    assert_eq!(
        fixture.names(),
        [".working-orders-1.offset", "orders-0.offset"]
    );
}

#[test]
fn a_failed_step_leaves_the_old_file_and_the_others_are_written() {
    let fixture = fixture();
    fixture.offsets.write(&[(0, 1), (1, 1), (2, 1)]).unwrap();
    // A directory in the place of the working file cannot be opened.
    fs::create_dir(fixture.path(".working-orders-1.offset")).unwrap();
    let error = fixture.offsets.write(&[(0, 2), (1, 2), (2, 2)]);
    let OffsetError::Io { step, source, .. } = error.unwrap_err() else {
        panic!("an I/O error");
    };
    assert_eq!((step, source.raw_os_error()), ("open", Some(libc::EISDIR)));
    let read = fixture.offsets.read(&[0, 1, 2]).unwrap();
    assert_eq!(read, [Some(2), Some(1), Some(2)]);
}

#[test]
fn one_file_is_written_in_the_same_way() {
    let fixture = fixture();
    let path = fixture.path("mine");
    assert_eq!(OffsetDirectory::read_file(&path).unwrap(), None);
    OffsetDirectory::write_file(&path, 7).unwrap();
    assert_eq!(OffsetDirectory::read_file(&path).unwrap(), Some(7));
    fs::create_dir(fixture.path(".working-mine")).unwrap();
    OffsetDirectory::write_file(&path, 8).unwrap_err();
    assert_eq!(OffsetDirectory::read_file(&path).unwrap(), Some(7));
    assert_eq!(fixture.names(), [".working-mine", "mine"]);
}

#[test]
fn a_partition_has_one_owner() {
    let fixture = fixture();
    let locks = fixture.offsets.lock(&[0, 2]).unwrap();
    assert_eq!(fixture.names(), [".lock-orders-0", ".lock-orders-2"]);
    // Another topic, and another slot.
    let _others = fixture.offsets.lock(&[1, 3]).unwrap();
    let error = fixture.offsets.lock(&[4, 2]).unwrap_err();
    let pid = std::process::id();
    assert_eq!(
        error.to_string(),
        format!("partition 2 of topic orders is in use by pid {pid}")
    );
    // Partition 4 was not kept.
    drop(fixture.offsets.lock(&[4]).unwrap());
    drop(locks);
    drop(fixture.offsets.lock(&[0, 2]).unwrap());
}

#[test]
fn a_lock_dies_with_its_process() {
    let fixture = fixture();
    fixture.put(".lock-orders-0", b"");
    let path = fixture.path(".lock-orders-0");
    let mut child = std::process::Command::new("flock")
        .arg(&path)
        .args(["sh", "-c", "echo $$ > \"$0\"; echo locked; exec sleep 600"])
        .arg(&path)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0; 7];
    let mut output = child.stdout.take().unwrap();
    output.read_exact(&mut line).unwrap();
    let error = fixture.offsets.lock(&[0]).unwrap_err();
    let owner: u32 = fs::read_to_string(&path).unwrap().trim().parse().unwrap();
    assert_eq!(
        error.to_string(),
        format!("partition 0 of topic orders is in use by pid {owner}")
    );
    // Both `flock` and the shell that became `sleep` hold it open.
    let killed = std::process::Command::new("kill")
        .args(["-9", &owner.to_string()])
        .status();
    assert!(killed.unwrap().success());
    child.kill().unwrap();
    child.wait().unwrap();
    // The output is closed once both are gone, and with them the lock.
    let mut rest = Vec::new();
    output.read_to_end(&mut rest).unwrap();
    drop(fixture.offsets.lock(&[0]).unwrap());
}
