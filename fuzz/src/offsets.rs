//! Offset files: this program and kafka-native write them, and people with
//! editors.
//!
//! - What is read is absent or an offset that is not negative.
//! - Written by this program and read again it is the same.
//! - A reader looks at a bounded part of a file.

use crate::scratch;
use barnabas_engine::{OffsetDirectory, OffsetError};

/// The input is the file.
pub(crate) fn run(bytes: &[u8]) {
    let folder = scratch::folder();
    let path = folder.join("topic-0.offset");
    std::fs::write(&path, bytes).expect("a scratch file");
    match OffsetDirectory::read_file(&path) {
        Ok(offset) => {
            assert!(offset.is_none_or(|offset| offset >= 0), "{offset:?}");
            let text = std::str::from_utf8(bytes).expect("offsets are text").trim();
            // Leading zeros make it longer than the number.
            assert_eq!(text.parse::<i64>().ok(), Some(offset.unwrap_or(-1)));
            let stored = offset.unwrap_or(0);
            OffsetDirectory::write_file(&path, stored).expect("a scratch file");
            let again = OffsetDirectory::read_file(&path).expect("what was written");
            assert_eq!(again, Some(stored));
        }
        Err(OffsetError::BadFormat { path: named }) => assert_eq!(named, path),
        Err(other) => panic!("{other}"),
    }
}

/// What both programs write.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    [
        "-1\n",
        "0\n",
        "42",
        "9223372036854775807\n",
        "9223372036854775808",
        " 7 \n",
        "",
        "+7",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}
