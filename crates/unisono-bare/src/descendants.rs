//! The descendants of this process, as `/proc` shows them at one moment.
//!
//! The list is a photograph: a process in it may have ended, and one that came since is not in it. So a caller that
//! ends everything looks again after each end, until it has no children left.
//!
//! Reads `/proc/PID/stat` rather than `/proc/PID/task/TID/children`, which not every kernel is built with.

#![allow(unsafe_code)]

use alloc::{format, vec::Vec};
use core::ffi::CStr;

use crate::{error::SystemError, process::ProcessId, stat::Stat};

/// A child, or a child of one, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descendant {
    /// Which.
    pub process: ProcessId,
    /// The group it is in.
    pub group: i32,
    parent: i32,
}

/// Every descendant of this process; `None` where `/proc` is missing or that of another namespace.
pub fn descendants() -> Option<Vec<Descendant>> {
    let own = ProcessId::own().number();
    // In a namespace of its own, but with the `/proc` of another, the numbers would mean other processes.
    let shown = read(c"/proc/self/stat").and_then(|stat| parse(&stat).map(|one| one.process.number()))?;
    if shown != own {
        return None;
    }
    let mut others = all()?;
    let mut found: Vec<Descendant> = Vec::new();
    let mut parents = alloc::vec![own];
    while let Some(parent) = parents.pop() {
        others.retain(|one| {
            if one.parent == parent {
                parents.push(one.process.number());
                found.push(*one);
            }
            one.parent != parent
        });
    }
    Some(found)
}

fn all() -> Option<Vec<Descendant>> {
    // SAFETY: the path ends with a zero byte.
    let folder = unsafe { libc::opendir(c"/proc".as_ptr()) };
    if folder.is_null() {
        return None;
    }
    let mut all = Vec::new();
    loop {
        // SAFETY: `folder` is open, and nothing else reads from it.
        let entry = unsafe { libc::readdir(folder) };
        if entry.is_null() {
            break;
        }
        // SAFETY: the entry is valid until the next readdir, and its name ends with a zero byte.
        let name = unsafe { CStr::from_ptr((&raw const (*entry).d_name).cast()) };
        let Some(process) = name.to_str().ok().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let path = format!("/proc/{process}/stat\0");
        let path = CStr::from_bytes_with_nul(path.as_bytes()).ok();
        // A process that has ended since it was listed is not there to be read.
        all.extend(path.and_then(read).and_then(|stat| parse(&stat)));
    }
    // SAFETY: opened above, closed once, and not used after.
    unsafe { libc::closedir(folder) };
    Some(all)
}

/// The start of a file of `/proc`: process, name, state, parent and group come first, and fit.
fn read(path: &CStr) -> Option<Vec<u8>> {
    // SAFETY: the path ends with a zero byte.
    let file = SystemError::check(unsafe { libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) }).ok()?;
    let mut text = alloc::vec![0_u8; 256];
    // SAFETY: the file is open, and the kernel writes at most `text.len()` bytes, which are ours.
    let length = unsafe { libc::read(file, text.as_mut_ptr().cast(), text.len()) };
    // SAFETY: opened above, closed once, and not used after.
    unsafe { libc::close(file) };
    text.truncate(usize::try_from(length).ok()?);
    Some(text)
}

fn parse(stat: &[u8]) -> Option<Descendant> {
    let stat = Stat::parse(stat)?;
    Some(Descendant { process: stat.process()?, group: stat.group()?, parent: stat.parent()? })
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_child_and_its_child_are_found() {
        let script = "sleep 1000 & echo; wait";
        let mut child =
            Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().expect("there is a shell");
        // The shell writes a line once its own child exists.
        let mut line = [0];
        std::io::Read::read_exact(&mut child.stdout.take().expect("piped"), &mut line).expect("a line comes");
        let found = descendants().expect("/proc is mounted");
        let shell = i32::try_from(child.id()).unwrap();
        let sleep = found.iter().find(|one| one.parent == shell).expect("the child of the child");
        assert!(found.iter().any(|one| one.process.number() == shell));
        crate::signals::send(crate::signals::Recipient::Process(sleep.process), crate::signals::Signal::KILL).unwrap();
        child.wait().unwrap();
    }
}
