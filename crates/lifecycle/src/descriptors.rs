use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Raises the process' limit of open files to the most it may have. Systems start processes with 1,024, for the sake of
/// programs that use `select`; ten thousand connections need more. Returns the limit that holds now.
///
/// # Errors
/// If the system does not say or allow it.
pub fn raise_open_files() -> std::io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_is_taken() {
        let most = raise_open_files().unwrap();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (most, most));
    }
}
