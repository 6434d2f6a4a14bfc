//! Where the sockets of watched processes lie: a folder of the user's, which nobody else can look into.

use std::{
    fs::{DirBuilder, Metadata},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

/// The end of a socket's name, behind the process's number.
const SUFFIX: &str = ".sock";
/// Others may neither look into the folder nor go through it.
const PRIVATE: u32 = 0o700;

/// Returns the folder of a user: in `runtime`, which is the user's own (`$XDG_RUNTIME_DIR`), or below `/tmp`.
pub fn of_user(runtime: Option<&Path>, uid: u32) -> PathBuf {
    match runtime {
        Some(runtime) if runtime.is_absolute() => runtime.join("unisono"),
        _ => PathBuf::from(format!("/tmp/unisono-{uid}")),
    }
}

/// Returns the socket of a process.
pub fn socket_of(folder: &Path, process: u32) -> PathBuf {
    folder.join(format!("{process}{SUFFIX}"))
}

/// The processes that have a socket in the folder, with its path.
pub fn processes(folder: &Path) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .filter_map(Result::ok)
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.strip_suffix(SUFFIX)?.parse().ok()?;
            Some((number, entry.path()))
        })
        .collect();
    found.sort();
    found
}

/// Makes the folder, or checks the one that is there.
///
/// # Errors
/// When it is another user's, a link or open to others, since whoever can write there could answer in our place.
pub fn prepare(folder: &Path, uid: u32) -> io::Result<()> {
    match DirBuilder::new().mode(PRIVATE).create(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => check(folder, uid),
    }
}

/// Whether a folder is a user's own, and private.
///
/// # Errors
/// When it is not there, or not so.
pub fn check(folder: &Path, uid: u32) -> io::Result<()> {
    let found: Metadata = std::fs::symlink_metadata(folder)?;
    if found.is_dir() && found.uid() == uid && found.mode() & 0o077 == 0 {
        return Ok(());
    }
    let message = format!("{} is not a folder of this user's alone (mode 0700): remove it", folder.display());
    Err(io::Error::new(io::ErrorKind::PermissionDenied, message))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_folder_that_is_not_the_users_alone_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let uid = rustix::process::getuid().as_raw();
        let folder = root.path().join("unisono");
        prepare(&folder, uid).unwrap();
        prepare(&folder, uid).unwrap();
        assert_eq!(std::fs::metadata(&folder).unwrap().mode() & 0o777, PRIVATE);
        assert!(check(&folder, uid + 1).is_err());

        let link = root.path().join("link");
        symlink(&folder, &link).unwrap();
        assert!(prepare(&link, uid).is_err());
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o750)).unwrap();
        assert!(prepare(&folder, uid).is_err());
    }

    #[test]
    fn a_process_is_found_by_the_name_of_its_socket() {
        let root = tempfile::tempdir().unwrap();
        for name in ["12.sock", "7.sock", "x.sock", "9", ".sock"] {
            std::fs::write(root.path().join(name), "").unwrap();
        }
        let numbers: Vec<_> = processes(root.path()).into_iter().map(|(number, _)| number).collect();
        assert_eq!(numbers, [7, 12]);
        assert_eq!(socket_of(root.path(), 12), root.path().join("12.sock"));
    }

    #[test]
    fn a_folder_of_the_runtime_comes_first() {
        assert_eq!(of_user(Some(Path::new("/run/user/5")), 5), Path::new("/run/user/5/unisono"));
        assert_eq!(of_user(Some(Path::new("relative")), 5), Path::new("/tmp/unisono-5"));
        assert_eq!(of_user(None, 5), Path::new("/tmp/unisono-5"));
    }
}
