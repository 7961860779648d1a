//! The journal on disk, without Kafka: what is on disk after which end, how
//! it is limited, and what damage costs.

use barnabas_engine::{
    Journal, JournalError, JournalOptions, JournalRecord, OnFull, Record, SyncMode, inspect,
};
use proptest::prelude::*;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

fn options(directory: &Path) -> JournalOptions {
    JournalOptions {
        sync: SyncMode::Os,
        ..JournalOptions::new(directory)
    }
}

fn record(value: &[u8]) -> JournalRecord<'_> {
    JournalRecord {
        topic: "t",
        record: Record {
            key: Some(b"k"),
            value: Some(value),
        },
        headers: &[],
        timestamp: 1,
        partition: None,
        lane: None,
    }
}

/// Writes each value by itself, and waits for it.
async fn write<'a>(
    journal: &Journal,
    values: impl IntoIterator<Item = &'a [u8]>,
) -> Result<(), JournalError> {
    for value in values {
        let appended = journal.append(std::iter::once(record(value))).await?;
        appended.synced().await?;
    }
    Ok(())
}

/// Sequences and values as a look from outside finds them.
fn read(directory: &Path) -> Vec<(u64, Vec<u8>)> {
    let mut found = Vec::new();
    inspect(directory, |sequence, record, _| {
        found.push((sequence, record.record.value.unwrap().to_vec()));
    })
    .unwrap();
    found
}

fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|own| own == extension))
        .collect();
    found.sort();
    found
}

fn values(count: u8) -> Vec<Vec<u8>> {
    (0..count)
        .map(|number| vec![number; usize::from(number) + 1])
        .collect()
}

fn slices(values: &[Vec<u8>]) -> impl Iterator<Item = &[u8]> {
    values.iter().map(Vec::as_slice)
}

/// A journal in `directory` with these values in one segment.
async fn filled(directory: &Path, values: &[Vec<u8>]) {
    let journal = Journal::open(options(directory)).unwrap();
    write(&journal, slices(values)).await.unwrap();
    journal.close();
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..3 {
        let journal = Journal::open(JournalOptions::new(folder.path())).unwrap();
        assert_eq!(journal.undelivered(), round * 10);
        write(&journal, slices(&values(10))).await.unwrap();
        assert_eq!(journal.statistics().written, 10);
        assert!(journal.statistics().syncs > 0);
        drop(journal);
    }
    let found = read(folder.path());
    let all: Vec<Vec<u8>> = (0..3).flat_map(|_| values(10)).collect();
    assert_eq!(found, (0..).zip(all).collect::<Vec<_>>());
    let report = inspect(folder.path(), |_, _, _| {}).unwrap();
    assert!(report.is_sound());
    assert_eq!(report.topics["t"].undelivered, 30);
}

#[tokio::test]
async fn only_one_process_may_have_it() {
    let folder = tempfile::tempdir().unwrap();
    let first = Journal::open(options(folder.path())).unwrap();
    let error = Journal::open(options(folder.path())).err().unwrap();
    assert!(matches!(error, JournalError::InUse(_)), "{error}");
    first.close();
    Journal::open(options(folder.path())).unwrap();
    let closed = write(&first, [&b"x"[..]]).await.unwrap_err();
    assert!(matches!(closed, JournalError::Closed), "{closed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_callers_share_a_sync() {
    let folder = tempfile::tempdir().unwrap();
    let journal = Journal::open(JournalOptions::new(folder.path())).unwrap();
    let callers: Vec<_> = (0_u8..50)
        .map(|caller| {
            let journal = journal.clone();
            tokio::spawn(async move {
                for number in 0_u8..20 {
                    write(&journal, [&[caller, number][..]]).await.unwrap();
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let statistics = journal.statistics();
    assert_eq!(statistics.written, 1_000);
    println!("1000 records of 50 callers in {} syncs", statistics.syncs);
    assert!(statistics.syncs < 900, "{statistics:?}");
    journal.close();
    // Each caller's records in its order.
    let mut next = [0_u8; 50];
    for (_, value) in read(folder.path()) {
        assert_eq!(value[1], next[usize::from(value[0])]);
        next[usize::from(value[0])] += 1;
    }
    assert_eq!(next, [20; 50]);
}

#[tokio::test]
async fn a_batch_is_taken_whole_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let limited = JournalOptions {
        max_bytes: 4_096,
        ..options(folder.path())
    };
    let journal = Journal::open(limited.clone()).unwrap();
    let value = vec![7; 1_000];
    let batch = |count: usize| (0..count).map(|_| record(&value));
    let appended = journal.append(batch(2)).await.unwrap();
    assert_eq!(appended.synced().await.unwrap(), 0..2);
    let too_large = journal.append(batch(4)).await.err().unwrap();
    assert!(matches!(too_large, JournalError::TooLarge), "{too_large}");
    let refused = journal.append(batch(2)).await.err().unwrap();
    assert!(matches!(refused, JournalError::Full { .. }), "{refused}");
    assert!((1..=30).contains(&refused.retry_after().as_secs()));
    assert_eq!(journal.statistics().undelivered, 2);
    assert_eq!(journal.statistics().refused_full, 1);
    journal
        .append(batch(0))
        .await
        .unwrap()
        .synced()
        .await
        .unwrap();
    journal.close();
    let waits = JournalOptions {
        on_full: OnFull::Wait,
        ..limited
    };
    let journal = Journal::open(waits).unwrap();
    let waiting = journal.append(batch(2));
    let waited = tokio::time::timeout(Duration::from_millis(300), waiting).await;
    assert!(waited.is_err(), "nothing is delivered: there is no room");
}

#[tokio::test]
async fn segments_follow_each_other_and_are_read_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let small = JournalOptions {
        segment_bytes: 200,
        ..options(folder.path())
    };
    let journal = Journal::open(small).unwrap();
    write(&journal, slices(&values(40))).await.unwrap();
    journal.close();
    assert!(files(folder.path(), "segment").len() > 5);
    let found = read(folder.path());
    assert_eq!(found, (0..).zip(values(40)).collect::<Vec<_>>());
}

/// A crash may leave any part of the last write.
#[tokio::test]
async fn cut_at_every_place_everything_before_is_there_and_writing_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let values = values(8);
    filled(folder.path(), &values).await;
    let segment = files(folder.path(), "segment").remove(0);
    let whole = fs::read(&segment).unwrap();
    let mut frames = vec![64];
    for value in &values {
        let frame = 20 + 2 + 1 + 8 + 2 + 4 + 1 + value.len();
        frames.push(frames.last().unwrap() + frame);
    }
    assert_eq!(*frames.last().unwrap(), whole.len());
    for length in 0..=whole.len() {
        let folder = tempfile::tempdir().unwrap();
        let cut = folder.path().join(segment.file_name().unwrap());
        fs::write(&cut, &whole[..length]).unwrap();
        let complete = frames[1..].iter().filter(|end| **end <= length).count();
        let journal = Journal::open(options(folder.path())).unwrap();
        assert_eq!(journal.undelivered(), complete as u64, "cut at {length}");
        write(&journal, [&b"new"[..]]).await.unwrap();
        journal.close();
        let mut expected = values[..complete].to_vec();
        expected.push(b"new".to_vec());
        let expected: Vec<_> = (0..).zip(expected).collect();
        assert_eq!(read(folder.path()), expected, "cut at {length}");
        assert!(inspect(folder.path(), |_, _, _| {}).unwrap().is_sound());
    }
}

#[tokio::test]
async fn damage_between_records_is_found_by_looking_and_kept_when_cut() {
    let folder = tempfile::tempdir().unwrap();
    let values = values(10);
    filled(folder.path(), &values).await;
    let segment = files(folder.path(), "segment").remove(0);
    let bytes = fs::read(&segment).unwrap();
    let file = OpenOptions::new().write(true).open(&segment).unwrap();
    file.write_all_at(&[!bytes[150]], 150).unwrap();
    let report = inspect(folder.path(), |_, _, _| {}).unwrap();
    assert!(!report.is_sound());
    assert_eq!((report.missing, report.segments[0].records), (1, 9));
    assert_eq!(report.segments[0].damaged.len(), 1);
    // The last record's sum: it can be told from a torn write.
    let last = bytes.len() as u64 - 1;
    file.write_all_at(&[!bytes[bytes.len() - 1]], last).unwrap();
    let journal = Journal::open(options(folder.path())).unwrap();
    journal.close();
    assert_eq!(files(folder.path(), "damaged").len(), 1);
    assert_eq!(read(folder.path()).len(), 8);
}

#[tokio::test]
async fn a_lost_header_costs_what_is_beside_it_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), &values(5)).await;
    let segment = files(folder.path(), "segment").remove(0);
    let file = OpenOptions::new().write(true).open(&segment).unwrap();
    // With the first record's marker.
    file.write_all_at(&[0; 68], 0).unwrap();
    let journal = Journal::open(options(folder.path())).unwrap();
    write(&journal, [&b"new"[..]]).await.unwrap();
    journal.close();
    let found: Vec<u64> = read(folder.path()).iter().map(|one| one.0).collect();
    assert_eq!(found, [1, 2, 3, 4, 5]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Any damage to any file: opening it never fails or panics, nothing is
    /// read that was not written, and every record outside the damage is.
    #[test]
    fn damage_anywhere_costs_only_what_it_hits(
        hits in proptest::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1_usize..60, any::<u8>()),
            1..5,
        ),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let values = values(60);
        runtime.block_on(async {
            let small = JournalOptions { segment_bytes: 600, ..options(folder.path()) };
            let journal = Journal::open(small).unwrap();
            write(&journal, slices(&values)).await.unwrap();
            journal.close();
        });
        let segments = files(folder.path(), "segment");
        let before: Vec<Vec<u8>> = segments.iter().map(|path| fs::read(path).unwrap()).collect();
        for (which, at, length, with) in hits {
            let path = &segments[which.index(segments.len())];
            let mut bytes = fs::read(path).unwrap();
            let at = at.index(bytes.len());
            let end = (at + length).min(bytes.len());
            bytes[at..end].fill(with);
            fs::write(path, bytes).unwrap();
        }
        // Which records have the bytes that were written.
        let mut expected = Vec::new();
        let mut sequence = 0;
        for (path, before) in segments.iter().zip(&before) {
            let after = fs::read(path).unwrap();
            let mut at = 64;
            while at < before.len() {
                let length = 20 + u32::from_le_bytes(before[at + 4..at + 8].try_into().unwrap());
                let end = at + length as usize;
                if before[at..end] == after[at..end] {
                    expected.push((sequence as u64, values[sequence].clone()));
                }
                sequence += 1;
                at = end;
            }
        }
        prop_assert_eq!(sequence, 60);
        prop_assert_eq!(&read(folder.path()), &expected);
        runtime.block_on(async {
            let journal = Journal::open(options(folder.path())).unwrap();
            write(&journal, [&b"new"[..]]).await.unwrap();
            journal.close();
        });
        let found = read(folder.path());
        prop_assert_eq!(&found[..found.len() - 1], &expected[..]);
        prop_assert_eq!(&found[found.len() - 1].1, b"new");
    }
}

/// A file system of its own, so small that it fills up.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(kilobytes: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={kilobytes}k"), "tmpfs"])
            .arg(folder.path())
            .output()
            .unwrap();
        assert!(
            mounted.status.success(),
            "this test mounts a small file system, for which it has to be root (CAP_SYS_ADMIN): {}",
            String::from_utf8_lossy(&mounted.stderr)
        );
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_and_loses_nothing_that_was_answered() {
    let disk = SmallDisk::mount(256);
    let journal = Journal::open(JournalOptions::new(disk.path().join("journal"))).unwrap();
    let mut acknowledged = Vec::new();
    let mut refused = 0;
    let value = |number: u32| [&number.to_le_bytes()[..], &[1; 1_000]].concat();
    for number in 0..400 {
        match write(&journal, [&value(number)[..]]).await {
            Ok(()) => acknowledged.push(value(number)),
            Err(error) => {
                assert!(matches!(error, JournalError::Write(_)), "{error}");
                refused += 1;
            }
        }
    }
    assert!(
        acknowledged.len() > 100 && refused > 100,
        "{refused} refused"
    );
    assert_eq!(journal.undelivered(), acknowledged.len() as u64);
    // Somebody makes room; no restart is needed.
    let remounted = Command::new("mount")
        .args(["-o", "remount,size=1m"])
        .arg(disk.path())
        .status()
        .unwrap();
    assert!(remounted.success());
    write(&journal, [&value(1_000)[..]]).await.unwrap();
    acknowledged.push(value(1_000));
    let directory = journal.directory().to_owned();
    journal.close();
    let expected: Vec<_> = (0..).zip(acknowledged).collect();
    assert_eq!(read(&directory), expected);
    let again = Journal::open(JournalOptions::new(&directory)).unwrap();
    assert_eq!(again.undelivered(), expected.len() as u64);
    again.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_waits_with_a_failed_write_is_refused_with_it() {
    let disk = SmallDisk::mount(96);
    let journal = Journal::open(JournalOptions::new(disk.path().join("journal"))).unwrap();
    let large = Arc::new(vec![1; 20_000]);
    write(&journal, [&large[..]]).await.unwrap();
    let callers: Vec<_> = (0..20)
        .map(|_| {
            let (journal, large) = (journal.clone(), Arc::clone(&large));
            tokio::spawn(async move { write(&journal, [&large[..]]).await.is_ok() })
        })
        .collect();
    let mut taken = 0;
    for caller in callers {
        taken += u64::from(caller.await.unwrap());
    }
    // There is room for three of them, if they do not come with others.
    assert!(taken <= 3, "{taken}");
    assert!(journal.statistics().failed_writes > 0);
    write(&journal, [&b"small"[..]]).await.unwrap();
    let taken = taken + 2;
    assert_eq!(journal.statistics().written, taken);
    let directory = journal.directory().to_owned();
    journal.close();
    assert_eq!(read(&directory).len() as u64, taken);
}
