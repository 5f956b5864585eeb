//! What the kernel says: the process's memory, and how much its control group may have (version 2 or 1). Elsewhere than on
//! Linux it says nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

/// Version 1 says "no limit" by a number no machine has.
const NONE: u64 = 1 << 60;

/// Bytes that the process has in memory (its resident set).
pub fn used() -> Option<u64> {
    resident(&fs::read_to_string("/proc/self/status").ok()?)
}

/// The smallest limit of the process's control group and those around it. Found once: it may change, the group may not.
pub fn limit() -> Option<u64> {
    static FILES: LazyLock<Vec<PathBuf>> = LazyLock::new(|| {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        files(&groups, Path::new("/sys/fs/cgroup"))
    });
    smallest(&FILES)
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The files that may hold a limit: of the group and of each around it.
fn files(groups: &str, root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        // `0::/a/b`, or `5:memory:/a/b`.
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let (base, name) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            other if other.split(',').any(|controller| controller == "memory") => {
                (root.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = Path::new(group.trim_start_matches('/'));
        files.extend(group.ancestors().map(|group| base.join(group).join(name)));
        // In a container the group's own name may lead nowhere: what is mounted is the group.
        files.push(base.join(name));
    }
    files.sort();
    files.dedup();
    files.retain(|file| file.exists());
    files
}

fn smallest(files: &[PathBuf]) -> Option<u64> {
    let read = |file: &PathBuf| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    files.iter().filter_map(read).filter(|limit| *limit < NONE).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_some_memory() {
        assert!(used().is_some_and(|used| used > 1 << 20));
        assert_eq!(resident("Name:\tx\nVmRSS:\t    2048 kB\nThreads: 1\n"), Some(2 << 20));
        assert_eq!(resident("Name:\tx\n"), None);
    }

    #[test]
    fn the_smallest_limit_of_the_groups_around_holds() {
        let root = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let file = root.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        let limit = |groups: &str| smallest(&files(groups, root.path()));
        assert_eq!(limit("0::/a/b\n"), None);
        put("a/b/memory.max", "max\n");
        assert_eq!(limit("0::/a/b\n"), None);
        put("a/memory.max", "2000\n");
        put("memory.max", "3000\n");
        assert_eq!(limit("0::/a/b\n"), Some(2000));
        assert_eq!(limit("0::/\n"), Some(3000));
        assert_eq!(limit("0::/gone\n"), Some(3000));
        put("memory/x/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(limit("5:cpu,cpuacct:/x\n7:memory:/x\n"), None);
        put("memory/x/memory.limit_in_bytes", "700\n");
        assert_eq!(limit("7:memory:/x\n"), Some(700));
    }
}
