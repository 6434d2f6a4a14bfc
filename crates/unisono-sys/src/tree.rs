//! Which process descends from which, from `/proc`, and signals that cannot hit the wrong process.
//!
//! A process belongs to a tree when it is its root, is in the root's group or session, carries the tree's marker in the
//! environment it was started with, or descends from one that belongs. So a process that changes its group, its
//! session, its parent or its environment is found; only one that does all of that at once, and whose parent is gone,
//! is not.
//!
//! A signal goes through a pidfd, after a second look whether the number still means the same process.
//!
//! Lists have parents before their children. A signal that ends is sent in that order: a script whose `sleep` ends
//! before it has its own signal goes on with its next line.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs::{self, File},
    io,
    os::unix::fs::{DirEntryExt, FileExt},
    sync::Mutex,
};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use unisono_bare::stat::Stat;

/// Processes that are older than this one, as they were last seen: most of those on a machine, and reading what `/proc`
/// says of one takes longer than all else about it. The folder of a process has an inode of its own
/// (`proc_pid_make_inode` in the kernel), so a number that was given to another process in the meantime is not
/// mistaken. Never waited for: after a fork its holder is gone.
static OLDER: Mutex<BTreeSet<(i32, u64)>> = Mutex::new(BTreeSet::new());

/// The processes of one moment.
#[derive(Debug)]
pub struct Snapshot {
    processes: HashMap<i32, Process>,
    /// Their markers, of those that have one.
    markers: HashMap<i32, Vec<u8>>,
}

/// What is known of a process. Zombies are left out of everything: they take no effect any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    parent: i32,
    group: i32,
    session: i32,
    is_zombie: bool,
    /// In clock ticks since boot; tells a process from a later one of the same number.
    started_ticks: u64,
}

/// A process as it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FoundProcess {
    /// Its number.
    pub pid: i32,
    started_ticks: u64,
}

impl Snapshot {
    /// Looks at all processes, and at the value that each was started with of the variable `name`. What is older than
    /// this process cannot descend from it and is left out.
    ///
    /// # Errors
    /// When there is no `/proc`.
    pub fn take(name: &str) -> io::Result<Self> {
        let (mut processes, mut markers) = (HashMap::new(), HashMap::new());
        let oldest = Process::read(own_pid()).map_or(0, |own| own.started_ticks);
        let known = OLDER.try_lock().map(|known| known.clone()).unwrap_or_default();
        let mut older = BTreeSet::new();
        for entry in fs::read_dir("/proc")?.flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let identity = (pid, entry.ino());
            if known.contains(&identity) {
                older.insert(identity);
                continue;
            }
            // One that has ended in the meantime is not there any more.
            let Some(process) = Process::read(pid) else { continue };
            if process.started_ticks < oldest {
                older.insert(identity);
                continue;
            }
            if let Some(marker) = marker(pid, name) {
                markers.insert(pid, marker);
            }
            processes.insert(pid, process);
        }
        if let Ok(mut known) = OLDER.try_lock() {
            *known = older;
        }
        Ok(Self { processes, markers })
    }

    /// All living members of the tree of `root`, less this process, parents first; `marker` is the value that marks
    /// them, and `known` are those that were found to belong before.
    pub fn members(&self, root: i32, marker: &[u8], known: &HashSet<FoundProcess>) -> Vec<FoundProcess> {
        let own = own_pid();
        let is_root = |pid: i32, process: &Process| pid == root || process.group == root || process.session == root;
        let mut members: HashSet<i32> = self
            .processes
            .iter()
            .filter(|(pid, process)| {
                is_root(**pid, process) || self.markers.get(pid).is_some_and(|found| found == marker)
            })
            .map(|(pid, _)| *pid)
            .chain(known.iter().filter(|known| self.has(known)).map(|known| known.pid))
            .filter(|pid| *pid != own)
            .collect();
        self.add_descendants(&mut members);
        self.living(members)
    }

    /// All living descendants of this process, parents first.
    pub fn descendants(&self) -> Vec<FoundProcess> {
        let own = own_pid();
        let mut members = HashSet::from([own]);
        self.add_descendants(&mut members);
        members.remove(&own);
        self.living(members)
    }

    fn add_descendants(&self, members: &mut HashSet<i32>) {
        let own = own_pid();
        let mut children: HashMap<i32, Vec<i32>> = HashMap::new();
        for (pid, process) in &self.processes {
            children.entry(process.parent).or_default().push(*pid);
        }
        let mut open: Vec<i32> = members.iter().copied().collect();
        while let Some(parent) = open.pop() {
            for child in children.get(&parent).into_iter().flatten() {
                if *child != own && members.insert(*child) {
                    open.push(*child);
                }
            }
        }
    }

    fn has(&self, found: &FoundProcess) -> bool {
        self.processes.get(&found.pid).is_some_and(|process| process.started_ticks == found.started_ticks)
    }

    fn living(&self, members: HashSet<i32>) -> Vec<FoundProcess> {
        let mut living: Vec<(usize, FoundProcess)> = members
            .iter()
            .filter_map(|pid| self.processes.get(pid).map(|process| (*pid, process)))
            .filter(|(_, process)| !process.is_zombie)
            .map(|(pid, process)| {
                (self.depth(pid, &members), FoundProcess { pid, started_ticks: process.started_ticks })
            })
            .collect();
        living.sort_unstable_by_key(|(depth, _)| *depth);
        living.into_iter().map(|(_, found)| found).collect()
    }

    /// How many of these a process descends from.
    fn depth(&self, pid: i32, members: &HashSet<i32>) -> usize {
        let parent = |pid: &i32| self.processes.get(pid).map(|process| process.parent);
        let ancestors = std::iter::successors(parent(&pid), parent).take_while(|pid| members.contains(pid));
        // A look that lasts sees numbers that were given away meanwhile, and so perhaps a circle.
        ancestors.take(members.len()).count()
    }
}

impl FoundProcess {
    /// The process that has this number now; `None` when there is none, or it has ended.
    pub fn of(pid: i32) -> Option<Self> {
        let process = Process::read(pid).filter(|process| !process.is_zombie)?;
        Some(Self { pid, started_ticks: process.started_ticks })
    }

    /// Sends it a signal, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        let Some(pid) = Pid::from_raw(self.pid) else { return };
        // The descriptor is opened first and the look taken second, so what was looked at is what is hit.
        let Ok(descriptor) = pidfd_open(pid, PidfdFlags::empty()) else { return };
        if Process::read(self.pid).is_some_and(|process| process.started_ticks == self.started_ticks) {
            // It may have ended, or the number may be another process's by now; both leave nothing to be done.
            let _ = pidfd_send_signal(descriptor, signal);
        }
    }

    /// Whether it would go on if it had a core, or what it reads from a disk: what it does not do now says nothing of
    /// it.
    pub fn is_held_up(&self) -> bool {
        // Its number may be another's by now, which then counts once.
        matches!(state(self.pid), Some(b'R' | b'D'))
    }
}

impl Process {
    fn read(pid: i32) -> Option<Self> {
        let line = fs::read(format!("/proc/{pid}/stat")).ok()?;
        let stat = Stat::parse(&line)?;
        Some(Self {
            parent: stat.parent()?,
            group: stat.group()?,
            session: stat.session()?,
            is_zombie: stat.is_zombie(),
            started_ticks: stat.started()?,
        })
    }
}

/// The value of a variable in the environment that a process was started with, if it is ours to look at.
pub fn marker(pid: i32, name: &str) -> Option<Vec<u8>> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let value = |entry: &[u8]| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=").map(<[u8]>::to_vec);
    environment.split(|byte| *byte == 0).find_map(value)
}

/// The group of a process, zombies included.
pub fn group_of(pid: i32) -> Option<i32> {
    Process::read(pid).map(|process| process.group)
}

/// Whether a process has been stopped by a signal, and not been told to go on.
pub fn is_stopped(pid: Pid) -> bool {
    state(pid.as_raw_nonzero().get()) == Some(b'T')
}

/// The letter of proc_pid_stat(5).
fn state(pid: i32) -> Option<u8> {
    Stat::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)?.state()
}

/// The children of this process's first thread, to which orphans come when this process is a subreaper.
///
/// The file stays open, so a look costs two system calls; that is cheap enough for the end of every command.
#[derive(Debug)]
pub struct Children {
    file: File,
    text: Vec<u8>,
}

impl Children {
    /// Opens the list.
    ///
    /// # Errors
    /// When the kernel has no such list (`CONFIG_PROC_CHILDREN`).
    pub fn open() -> io::Result<Self> {
        let pid = own_pid();
        Ok(Self { file: File::open(format!("/proc/{pid}/task/{pid}/children"))?, text: vec![0; 4096] })
    }

    /// Calls `each` with the number of every child, zombies included.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn look(&mut self, mut each: impl FnMut(i32)) -> io::Result<()> {
        let mut length = 0;
        loop {
            match self.file.read_at(&mut self.text[length..], length as u64)? {
                0 => break,
                read => length += read,
            }
            if length == self.text.len() {
                self.text.resize(length * 2, 0);
            }
        }
        let numbers =
            self.text[..length].split(|byte| *byte == b' ').filter_map(|number| std::str::from_utf8(number).ok());
        numbers.filter_map(|number| number.parse().ok()).for_each(&mut each);
        Ok(())
    }
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_nonzero().get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_found_with_its_parent_and_is_no_descendant_of_itself() {
        let own = own_pid();
        let process = Process::read(own).unwrap();
        let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
        assert_eq!((Some(process.parent), process.is_zombie), (parent, false));
        assert!(Snapshot::take("UNISONO_RUN").unwrap().descendants().iter().all(|found| found.pid != own));
    }

    #[test]
    fn parents_come_before_their_children_whatever_their_numbers_are() {
        let process = |parent, is_zombie| Process { parent, group: 7, session: 7, is_zombie, started_ticks: 1 };
        // 7 -> 90 -> 8 -> 70, and 7 -> 3 -> (60, a zombie).
        let tree = [(7, 1), (90, 7), (8, 90), (70, 8), (3, 7), (60, 3)];
        let processes = tree.map(|(pid, parent)| (pid, process(parent, pid == 60))).into();
        let snapshot = Snapshot { processes, markers: HashMap::new() };
        let members = snapshot.members(7, b"", &HashSet::new());
        let at = |pid| members.iter().position(|found| found.pid == pid).unwrap();
        assert_eq!(members.len(), 5);
        assert!(at(7) < at(90) && at(90) < at(8) && at(8) < at(70) && at(7) < at(3), "{members:?}");
    }

    #[test]
    fn a_number_that_means_another_process_by_now_is_not_hit() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let started = Process::read(pid).unwrap().started_ticks;
        FoundProcess { pid, started_ticks: started + 1 }.signal(Signal::KILL);
        assert_eq!(child.try_wait().unwrap(), None);
        FoundProcess { pid, started_ticks: started }.signal(Signal::KILL);
        assert!(!child.wait().unwrap().success());
    }

    #[test]
    fn who_computes_is_held_up_with_a_core_or_without_and_who_waits_is_not() {
        for (script, is_held_up) in [("while :; do :; done", true), ("exec sleep 60", false)] {
            let mut child = std::process::Command::new("sh").args(["-c", script]).spawn().unwrap();
            let found = FoundProcess::of(i32::try_from(child.id()).unwrap()).unwrap();
            // It reads itself from a disk before, and may have to wait for a core to do so.
            let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
            while found.is_held_up() != is_held_up {
                assert!(std::time::Instant::now() < until, "{script}");
                std::thread::yield_now();
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
