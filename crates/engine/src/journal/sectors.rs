//! Reading from disks that do not give all they have.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

/// What is read at a time where something cannot be read.
const BLOCK: u64 = 4_096;
/// How often one read tries again what the disk does not give, all in all: a path
/// to it may be down for a moment.
const TRIES: u32 = 10;
/// Pause before that.
const PAUSE: Duration = Duration::from_millis(100);

/// As many bytes as there are. Blocks that the disk does not give, also not after
/// a while, are read as zeros: what was in them is damaged like any other.
pub(super) fn read_up_to(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let read = |bytes: &mut [u8], at| file.read_at(bytes, at);
    read_over(read, || Ok(file.metadata()?.len()), bytes, offset, PAUSE)
}

fn read_over(
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
    length: impl Fn() -> io::Result<u64>,
    bytes: &mut [u8],
    offset: u64,
    pause: Duration,
) -> io::Result<usize> {
    let (mut done, mut tries, mut lost) = (0, 0, 0);
    let mut goes_by_blocks = false;
    while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let at = offset + done as u64;
        let to_block_end = usize::try_from(BLOCK - at % BLOCK).unwrap_or(rest.len());
        let count = if goes_by_blocks {
            to_block_end.min(rest.len())
        } else {
            rest.len()
        };
        let part = rest.get_mut(..count).unwrap_or_default();
        match read(part, at) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() != Some(libc::EIO) => return Err(error),
            Err(_) if !goes_by_blocks => goes_by_blocks = true,
            Err(_) if tries < TRIES => {
                tries += 1;
                std::thread::sleep(pause);
            }
            Err(_) => {
                let there = usize::try_from(length()?.saturating_sub(at)).unwrap_or(count);
                let there = there.min(count);
                if there == 0 {
                    break;
                }
                part.get_mut(..there).unwrap_or_default().fill(0);
                done += there;
                lost += there;
            }
        }
    }
    if lost > 0 {
        tracing::error!(
            component = "journal",
            "the disk does not give {lost} bytes between {offset} and {}",
            offset + done as u64
        );
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of which some blocks cannot be read, for so many attempts.
    fn read(bad: &[u64], mut failures: u32, length: usize, offset: u64) -> Vec<u8> {
        let file: Vec<u8> = (0..20_000_usize).map(|at| (at % 250) as u8 + 1).collect();
        let mut bytes = vec![0xff; length];
        let read = |bytes: &mut [u8], at: u64| {
            let end = at + bytes.len() as u64;
            let hit = bad
                .iter()
                .any(|block| at < (block + 1) * BLOCK && block * BLOCK < end);
            if hit && failures > 0 {
                failures -= 1;
                return Err(io::Error::from_raw_os_error(libc::EIO));
            }
            let from = file.get(at as usize..).unwrap_or_default();
            let count = from.len().min(bytes.len());
            bytes[..count].copy_from_slice(&from[..count]);
            Ok(count)
        };
        let there = || Ok(file.len() as u64);
        let count = read_over(read, there, &mut bytes, offset, Duration::ZERO).unwrap();
        bytes.truncate(count);
        bytes
    }

    #[test]
    fn blocks_that_cannot_be_read_are_zeros_and_the_others_are_there() {
        for (offset, length) in [(0, 20_000), (100, 9_000), (4_096, 40_000), (8_191, 2)] {
            let whole = read(&[], 0, length, offset);
            assert_eq!(whole.len(), length.min(20_000 - offset as usize));
            let found = read(&[1, 4], u32::MAX, length, offset);
            assert_eq!(found.len(), whole.len(), "{offset}");
            for (at, (found, whole)) in (offset..).zip(found.iter().zip(&whole)) {
                let is_bad = [1, 4].contains(&(at / BLOCK));
                assert_eq!(*found, if is_bad { 0 } else { *whole }, "{at}");
            }
        }
    }

    #[test]
    fn what_can_be_read_after_a_while_is_no_damage() {
        let whole = read(&[], 0, 20_000, 0);
        assert_eq!(read(&[1, 4], TRIES, 20_000, 0), whole);
    }

    #[test]
    fn other_errors_are_errors() {
        let read = |_: &mut [u8], _| Err(io::ErrorKind::PermissionDenied.into());
        let failed = read_over(read, || Ok(10), &mut [0; 10], 0, Duration::ZERO);
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
