//! The root secret, in a file.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::Context as _;
use principal::RootSecret;

/// Reads the root secret, or makes one that only the owner can read. Several processes may do so at once: one makes it.
///
/// # Errors
/// If the file holds something else, or can't be read or written.
pub fn read_or_make(path: &Path) -> anyhow::Result<RootSecret> {
    match read(path) {
        Err(error) if error.downcast_ref().is_some_and(is_missing) => {}
        read => return read,
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    let root = RootSecret::generate();
    // Written aside and linked into place: whoever comes at the same time sees all of it, or nothing.
    let aside = path.with_extension(format!("{}.new", std::process::id()));
    let failed = || format!("the root secret can't be written to {}", path.display());
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside).with_context(failed)?;
    let linked = writeln!(file, "{}", root.encode()).and_then(|()| fs::hard_link(&aside, path));
    let _ = fs::remove_file(&aside);
    match linked {
        Ok(()) => Ok(root),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => read(path),
        Err(error) => Err(error).with_context(failed),
    }
}

fn read(path: &Path) -> anyhow::Result<RootSecret> {
    let place = || format!("the root secret in {}", path.display());
    let text = fs::read_to_string(path).with_context(place)?;
    RootSecret::decode(text.trim()).with_context(place)
}

fn is_missing(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_that_start_together_agree_on_one_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/root.secret");
        let made = read_or_make(&path).unwrap();
        assert_eq!(made.encode(), read_or_make(&path).unwrap().encode());
        let files: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(files.len(), 1, "{files:?}");
    }

    #[test]
    fn a_file_that_holds_something_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.secret");
        fs::write(&path, "no secret").unwrap();
        assert!(read_or_make(&path).is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "no secret");
    }
}
