//! The name of this process among the members of its groups, unless one is
//! configured (contract, `consume-and-ack.md`, section 12, `client_id`).

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

/// How many digits of a container's id go into the name.
const ID_DIGITS: usize = 12;

/// By Nomad's allocation, else by host and container, else by host and
/// process, else by chance.
pub(super) fn generated() -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    if let Some(allocation) = variable("NOMAD_ALLOC_ID") {
        let block = allocation.split('-').next().unwrap_or_default().to_owned();
        return match variable("NOMAD_ALLOC_INDEX") {
            Some(index) => format!("kp_nomad_{block}_{index}"),
            None => format!("kp_nomad_{block}"),
        };
    }
    let host = read("/proc/sys/kernel/hostname");
    if host.trim().is_empty() {
        let chance = RandomState::new().hash_one(std::process::id());
        return format!("kp_{:08x}", chance & 0xffff_ffff);
    }
    match container_id(&read("/proc/self/cgroup")) {
        Some(id) => format!("kp_{}_{id}", host.trim()),
        None => format!("kp_{}_{}", host.trim(), std::process::id()),
    }
}

/// The beginning of Docker's id, from the lines of `/proc/self/cgroup`.
fn container_id(cgroups: &str) -> Option<String> {
    cgroups.lines().find_map(|line| {
        let (_, behind) = line.split_once("docker")?;
        let id = behind.trim_start_matches(['/', '-']);
        let id = id.strip_suffix(".scope").unwrap_or(id);
        let is_id = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_id.then(|| id.chars().take(ID_DIGITS).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_recognised() {
        let id = "0123456789abcdef".repeat(4);
        for line in [
            format!("12:cpu:/docker/{id}"),
            format!("x\n0::/system.slice/docker-{id}.scope\n"),
        ] {
            assert_eq!(container_id(&line).as_deref(), Some("0123456789ab"));
        }
        for line in ["0::/", "", "1:cpu:/docker/abc", "0::/user.slice"] {
            assert_eq!(container_id(line), None, "{line}");
        }
    }
}
