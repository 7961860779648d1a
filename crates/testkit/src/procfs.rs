//! What `/proc` says about a process.

use std::fs;
use std::io;
use std::time::Duration;

use crate::error::{Context, Result};

pub(crate) fn threads(pid: u32) -> Result<Vec<String>> {
    let folder = format!("/proc/{pid}/task");
    let mut ids: Vec<u32> = fs::read_dir(&folder)
        .context(|| format!("read {folder}"))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    ids.sort_unstable();
    Ok(ids
        .iter()
        // A thread may end between the listing and here.
        .filter_map(|id| fs::read_to_string(format!("{folder}/{id}/comm")).ok())
        .map(|name| name.trim_end().to_owned())
        .collect())
}

/// Whether every thread is stopped by a signal.
pub(crate) fn stands_still(pid: u32) -> Result<bool> {
    let folder = format!("/proc/{pid}/task");
    Ok(fs::read_dir(&folder)
        .context(|| format!("read {folder}"))?
        .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok())
        .all(|stat| stat_state(&stat) == Some('T')))
}

fn stat_state(stat: &str) -> Option<char> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.trim_start().chars().next()
}

/// A line of `/proc/<pid>/status` that is an amount of memory.
pub(crate) fn status_bytes(pid: u32, key: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).context(|| format!("read {path}"))?;
    status_kibibytes(&status, key)
        .map(|kibibytes| kibibytes * 1024)
        // The kernel leaves the memory lines out for a process that has ended and waits to be reaped.
        .ok_or_else(|| io::Error::other(format!("no {key} in it")))
        .context(|| format!("read {path}"))
}

fn status_kibibytes(status: &str, key: &str) -> Option<u64> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
        .and_then(|value| value.trim().strip_suffix("kB")?.trim().parse().ok())
}

pub(crate) fn cpu_time(pid: u32) -> Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).context(|| format!("read {path}"))?;
    let ticks = stat_cpu_ticks(&stat)
        .ok_or_else(|| io::Error::other("not the fields expected"))
        .context(|| format!("read {path}"))?;
    // USER_HZ is 100 on every architecture that Linux supports for servers; the value is part of
    // the kernel's interface to user space.
    Ok(Duration::from_millis(ticks * 10))
}

fn stat_cpu_ticks(stat: &str) -> Option<u64> {
    // The second field is the program's name in brackets and may itself have blanks and brackets.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

pub(crate) fn descriptors(pid: u32) -> Result<usize> {
    let folder = format!("/proc/{pid}/fd");
    Ok(fs::read_dir(&folder)
        .context(|| format!("read {folder}"))?
        .count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_a_name_with_brackets() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 12 30 0 0 20 0 1 0 5 0 0";
        assert_eq!(stat_cpu_ticks(stat), Some(42));
        assert_eq!(stat_state(stat), Some('S'));
    }

    #[test]
    fn memory_is_read_by_its_whole_key() {
        let status = "VmRSSx:\t 1 kB\nVmRSS:\t  2048 kB\n";
        assert_eq!(status_kibibytes(status, "VmRSS"), Some(2048));
        assert_eq!(status_kibibytes(status, "VmHWM"), None);
    }

    #[test]
    fn this_process_can_be_measured() {
        let pid = std::process::id();
        assert!(!threads(pid).unwrap().is_empty());
        assert!(status_bytes(pid, "VmRSS").unwrap() > 100_000);
        assert!(descriptors(pid).unwrap() >= 3);
        cpu_time(pid).unwrap();
    }
}
