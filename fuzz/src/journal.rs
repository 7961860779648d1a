//! The journal's files, after whatever may befall a disk.
//!
//! A journal with known records is damaged as the input says: bytes changed,
//! cut, put in and copied, files gone, renamed and made up, also with right
//! checksums.
//!
//! - Reading never fails for damage. What is read was written, at its place. Where
//!   bytes were only changed or cut, every record is read that was not hit.
//! - Opening loses nothing that could be read and is not delivered.
//! - The journal then takes records, and has them when it is read again.

use crate::input::Input;
use crate::scratch;
use barnabas_engine::{
    Journal, JournalOptions, JournalRecord, Journaled, Record, SyncMode, inspect,
};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

/// What all frames carry; random elsewhere, so that no client can make one.
const MARKER: u32 = 0x6a6e_7262;
/// Steps of an input that count.
const MOST_STEPS: usize = 12;
/// Sequences that could be counted in a lifetime.
const MOST_SEQUENCE: u64 = 1 << 62;

type Files = BTreeMap<String, Vec<u8>>;

/// A record without its lifetime.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owned(String);

impl Owned {
    fn of(record: &Journaled<'_>) -> Self {
        Self(format!("{record:?}"))
    }
}

/// The undamaged journal.
struct Base {
    files: Files,
    records: BTreeMap<u64, Owned>,
}

fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        let folder = scratch::empty("base");
        std::fs::write(folder.join("lock"), header(0)).expect("a scratch file");
        let headers: [(&str, Option<&[u8]>); 2] = [("name", Some(b"value")), ("", None)];
        let value = [7_u8; 50];
        let records = (0..24_u8).map(|number| JournalRecord {
            topic: ["t", "another.topic"][usize::from(number % 2)],
            record: Record {
                key: (number % 3 == 0).then_some(&b"key"[..]),
                value: (number % 5 != 0).then_some(&value[..usize::from(number)]),
            },
            headers: &headers[..usize::from(number % 3).min(2)],
            timestamp: i64::from(number) - 3,
            partition: (number % 4 == 0).then_some(i32::from(number)),
            lane: (number % 8 == 0).then_some(u32::from(number)),
        });
        let journal = open(&folder);
        for record in records {
            append(&journal, record);
        }
        journal.close();
        let mut files = read_files(&folder);
        files.insert("checkpoint".to_owned(), checkpoint(2, &[(4, 6), (9, 10)]));
        let mut found = BTreeMap::new();
        inspect(&folder, |sequence, record, _| {
            found.insert(sequence, Owned::of(record));
        })
        .expect("a sound journal");
        assert_eq!(found.len(), 24);
        assert!(files.len() > 5, "several segments");
        Base {
            files,
            records: found,
        }
    })
}

fn open(folder: &Path) -> Journal {
    let options = JournalOptions {
        sync: SyncMode::Os,
        segment_bytes: 400,
        ..JournalOptions::new(folder)
    };
    Journal::open(options).expect("damage is no reason not to open")
}

fn append(journal: &Journal, record: JournalRecord<'_>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let written = async {
        let appended = journal.append(std::iter::once(record)).await?;
        appended.synced().await
    };
    let written = runtime.expect("a runtime").block_on(written);
    written.expect("a journal that is open takes records");
}

fn read_files(folder: &Path) -> Files {
    let entries = std::fs::read_dir(folder).expect("a scratch folder");
    let read = |entry: std::fs::DirEntry| {
        let name = entry.file_name().into_string().expect("names are text");
        (name, std::fs::read(entry.path()).expect("a scratch file"))
    };
    entries
        .map(|entry| read(entry.expect("an entry")))
        .collect()
}

/// The input is a list of steps.
pub(crate) fn run(bytes: &[u8]) {
    let base = base();
    let mut files = base.files.clone();
    let (mut is_forged, mut is_in_place) = (false, true);
    let mut input = Input::new(bytes);
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        let done = step(&mut input, &mut files);
        is_forged |= done == Done::Forged;
        is_in_place &= done == Done::InPlace;
    }
    let folder = scratch::empty("journal");
    for (name, content) in &files {
        std::fs::write(folder.join(name), content).expect("a scratch file");
    }
    let (before, report) = look(&folder);
    if !is_forged {
        for (sequence, (record, _)) in &before {
            assert_eq!(base.records.get(sequence), Some(record), "{sequence}");
        }
    }
    // It says what frames look like, whatever else is damaged.
    if is_in_place && files.get("lock") == base.files.get("lock") {
        for (name, content) in &base.files {
            let now = files.get(name).map_or(&[][..], Vec::as_slice);
            for (sequence, place) in frames(name, content) {
                if now.get(place.clone()) == content.get(place) {
                    assert!(before.contains_key(&sequence), "{sequence} was not hit");
                }
            }
        }
    }
    let undelivered = before.values().filter(|(_, delivered)| !delivered).count() as u64;
    assert!(undelivered <= report.undelivered);

    let journal = open(&folder);
    let value = b"and one more";
    append(
        &journal,
        JournalRecord {
            topic: "t",
            record: Record {
                key: None,
                value: Some(value),
            },
            headers: &[],
            timestamp: 0,
            partition: None,
            lane: None,
        },
    );
    journal.close();
    let (after, report) = look(&folder);
    for (sequence, (record, delivered)) in &before {
        if !delivered {
            let kept = after.get(sequence).map(|(kept, _)| kept);
            assert_eq!(kept, Some(record), "{sequence} was there before");
        }
    }
    let (_, (last, is_delivered)) = after.last_key_value().expect("one at least");
    assert!(last.0.contains(&format!("{value:?}")), "{last:?}");
    assert!(!is_delivered);
    assert_eq!(report.checkpoint_problem, None, "it was replaced");
}

/// Everything that can be read, by sequence, and whether it is delivered.
fn look(folder: &Path) -> (BTreeMap<u64, (Owned, bool)>, barnabas_engine::JournalReport) {
    let mut found = BTreeMap::new();
    let mut records = 0;
    let report = inspect(folder, |sequence, record, is_delivered| {
        records += 1;
        found.insert(sequence, (Owned::of(record), is_delivered));
    })
    .expect("damage can be read over");
    assert_eq!(found.len(), records, "each is told of once");
    let counted: u64 = report.segments.iter().map(|one| one.records).sum();
    assert_eq!(counted, records as u64);
    (found, report)
}

/// The records of an undamaged segment, and where in it each is.
fn frames(name: &str, content: &[u8]) -> Vec<(u64, Range<usize>)> {
    let mut found = Vec::new();
    let mut at = header(0).len();
    while name.ends_with(".segment") && at < content.len() {
        let length = content[at + 4..at + 8].try_into().expect("four bytes");
        let sequence = content[at + 8..at + 16].try_into().expect("eight bytes");
        let end = at + frame(0, &[]).len() + u32::from_le_bytes(length) as usize;
        found.push((u64::from_le_bytes(sequence), at..end));
        at = end;
    }
    found
}

/// What a step has done to the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    /// Bytes are others, or cut off; what is left is where it was.
    InPlace,
    Moved,
    /// Something was made up that could have been written.
    Forged,
}

/// Does one thing to the files.
fn step(input: &mut Input<'_>, files: &mut Files) -> Done {
    let kind = input.byte();
    let which = usize::from(input.byte()) % files.len().max(1);
    let Some(name) = files.keys().nth(which).cloned() else {
        return Done::Moved;
    };
    let mut content = files.remove(&name).unwrap_or_default();
    let at = usize::from(input.short()) % (content.len() + 1);
    let mut done = Done::Moved;
    match kind % 9 {
        0 => {
            done = Done::InPlace;
            if let Some(byte) = content.get_mut(at) {
                *byte ^= input.byte();
            }
        }
        1 => {
            done = Done::InPlace;
            content.truncate(at);
        }
        2 => return Done::Moved,
        3 => {
            let count = usize::from(input.byte());
            let put: Vec<u8> = input.take(count).to_vec();
            content.splice(at..at, put);
        }
        4 => {
            let (from, count) = (usize::from(input.short()), usize::from(input.short()));
            let from = from % (content.len() + 1);
            let copied = content[from..]
                .iter()
                .take(count)
                .copied()
                .collect::<Vec<_>>();
            content.splice(at..at, copied);
        }
        5 => {
            let sequence = input.number() % MOST_SEQUENCE;
            let count = usize::from(input.byte());
            let frame = frame(sequence, input.take(count));
            content.splice(at..at, frame);
            done = Done::Forged;
        }
        6 => {
            let prefix = input.number() % MOST_SEQUENCE;
            let ranges: Vec<_> = (0..input.byte() % 4)
                .map(|_| (input.number(), input.number()))
                .collect();
            files.insert("checkpoint".to_owned(), checkpoint(prefix, &ranges));
        }
        7 => {
            let base = match input.byte() % 2 {
                0 => u64::from(input.byte()),
                _ => input.number() % MOST_SEQUENCE,
            };
            files.insert(format!("{base:020}.segment"), content);
            return Done::Moved;
        }
        _ => {
            let count = usize::from(input.short());
            content = input.take(count).to_vec();
        }
    }
    files.insert(name, content);
    done
}

fn header(base: u64) -> Vec<u8> {
    let mut copy = b"BNBSJRNL\x01\0\0\0".to_vec();
    copy.extend_from_slice(&MARKER.to_le_bytes());
    copy.extend_from_slice(&base.to_le_bytes());
    copy.extend_from_slice(&[0; 4]);
    let sum = crc32c::crc32c(&copy);
    copy.extend_from_slice(&sum.to_le_bytes());
    [&copy[..], &copy[..]].concat()
}

fn frame(sequence: u64, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("it is short");
    let mut frame = MARKER.to_le_bytes().to_vec();
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&sequence.to_le_bytes());
    let sum = crc32c::crc32c_append(crc32c::crc32c(&frame), payload);
    frame.extend_from_slice(&sum.to_le_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn checkpoint(prefix: u64, ranges: &[(u64, u64)]) -> Vec<u8> {
    let mut bytes = b"BNBSCKPT\x01\0\0\0".to_vec();
    bytes.extend_from_slice(&prefix.to_le_bytes());
    for (start, end) in ranges {
        bytes.extend_from_slice(&start.to_le_bytes());
        bytes.extend_from_slice(&end.to_le_bytes());
    }
    let sum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

/// A step of each kind.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let payload = b"\x02\x01t\0\0\0\0\0\0\0\0\0\0value";
    let mut forged = vec![5, 3, 64, 0];
    forged.extend_from_slice(&4_u64.to_le_bytes());
    forged.push(u8::try_from(payload.len()).unwrap_or(0));
    forged.extend_from_slice(payload);
    let mut noted = vec![6, 0, 0, 0];
    noted.extend_from_slice(&3_u64.to_le_bytes());
    noted.push(1);
    noted.extend_from_slice(&8_u64.to_le_bytes());
    noted.extend_from_slice(&12_u64.to_le_bytes());
    vec![
        Vec::new(),
        vec![0, 2, 100, 0, 0xff],
        vec![1, 255, 90, 0],
        vec![1, 2, 90, 0, 1, 3, 3, 0],
        vec![2, 2],
        vec![2, 0, 2, 0, 2, 0, 2, 0, 2, 0],
        vec![3, 2, 80, 0, 4, 1, 2, 3, 4],
        vec![4, 2, 64, 0, 64, 0, 200, 0],
        forged,
        noted,
        vec![7, 3, 0, 0, 0, 5],
        vec![8, 1, 0, 0, 4, 0, 1, 2, 3, 4],
    ]
}
