//! A control group (version 2) of our own, where we may make one: killing it kills all that is in it, at once.
//!
//! A process that enters it takes along every process it starts from then on, whatever group, session or parent these
//! choose later. See cgroups(7) and the kernel's `cgroup-v2.rst`, "cgroup.kill".

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A control group that was made here, and is removed when it is dropped.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// Makes one below the group that this process is in, named after this process, and takes away those that others
    /// left there by processes that were killed before they could remove them.
    ///
    /// # Errors
    /// When there is no version 2 hierarchy, it is not ours to change, or the kernel cannot kill groups (before 5.14).
    pub fn create(program: &str) -> io::Result<Self> {
        let parent = own_group()?;
        remove_abandoned(&parent, program);
        let path = parent.join(format!("{program}-{}", std::process::id()));
        fs::create_dir(&path)?;
        let group = Self { path };
        match group.path.join("cgroup.kill").try_exists()? {
            true => Ok(group),
            false => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Where it is, for [`enter`] and [`kill`].
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // One that still has a process in it stays; the code that could not end that has said so.
        let _ = fs::remove_dir(&self.path);
    }
}

/// Moves this process into a group.
///
/// # Errors
/// When it may not go there.
pub fn enter(path: &Path) -> io::Result<()> {
    fs::write(path.join("cgroup.procs"), "0")
}

/// Kills all that is in a group, this process included.
///
/// # Errors
/// When the group is not ours, or is gone.
pub fn kill(path: &Path) -> io::Result<()> {
    fs::write(path.join("cgroup.kill"), "1")
}

fn remove_abandoned(parent: &Path, program: &str) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(program)?.strip_prefix('-')?.parse::<u32>().ok());
        if owner.is_some_and(|owner| !Path::new(&format!("/proc/{owner}")).exists()) {
            // Only an empty one can be removed.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

fn own_group() -> io::Result<PathBuf> {
    own_group_and_mount(Path::new("/")).map(|(group, _)| group)
}

/// The group that this process is in, and where its hierarchy (version 2) is mounted, which is the highest one that is
/// seen from here. `root` is where `/proc` and the rest are looked for.
///
/// # Errors
/// When there is no version 2 hierarchy.
pub fn own_group_and_mount(root: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup"))?;
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/")).ok_or(io::ErrorKind::Unsupported)?;
    let mounts = fs::read_to_string(root.join("proc/self/mountinfo"))?;
    // See proc_pid_mountinfo(5): the file system's type stands after a lone dash.
    let is_version_2 = |line: &&str| line.split_once(" - ").is_some_and(|(_, after)| after.starts_with("cgroup2 "));
    let mount = mounts.lines().find(is_version_2).and_then(|line| line.split(' ').nth(4));
    let mount = root.join(mount.ok_or(io::ErrorKind::Unsupported)?.trim_start_matches('/'));
    Ok((mount.join(group), mount))
}
