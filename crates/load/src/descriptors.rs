//! File descriptors: how many the process has open, and may have. Elsewhere than on Linux nothing is known.

use std::fs;

/// How many are open.
pub fn used() -> Option<u64> {
    // Since Linux 6.2 the folder's size; before that somebody has to count.
    let size = fs::metadata("/proc/self/fd").ok()?.len();
    if size > 0 { Some(size) } else { Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64) }
}

/// How many there may be, as long as the process raises that no further.
pub fn limit() -> Option<u64> {
    soft(&fs::read_to_string("/proc/self/limits").ok()?)
}

fn soft(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_has_some_open_and_may_have_more() {
        let (used, limit) = (used().unwrap(), limit().unwrap());
        assert!(used >= 3 && used < limit, "{used} of {limit}");
    }

    #[test]
    fn the_soft_limit_is_the_one_that_holds() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \nMax open files            1024                 524288               files     \n";
        assert_eq!(soft(limits), Some(1024));
        assert_eq!(soft("Max open files            unlimited            unlimited            files"), None);
    }
}
