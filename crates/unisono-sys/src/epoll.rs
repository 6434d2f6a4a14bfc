//! Which epoll instance of this process watches a descriptor.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// Returns the number of an epoll instance that watches `descriptor`, as `/proc/self/fdinfo` shows it (proc(5)), or
/// `None` where there is none, or that cannot be seen.
pub fn watching(descriptor: BorrowedFd<'_>) -> Option<RawFd> {
    let wanted = descriptor.as_raw_fd();
    let entries = std::fs::read_dir("/proc/self/fd").ok()?;
    entries.filter_map(Result::ok).find_map(|entry| {
        let number: RawFd = entry.file_name().to_str()?.parse().ok()?;
        let target = std::fs::read_link(entry.path()).ok()?;
        if target.as_os_str() != "anon_inode:[eventpoll]" {
            return None;
        }
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
        info.lines().any(|line| target_of(line) == Some(wanted)).then_some(number)
    })
}

/// The descriptor of a line `tfd:  5 events: ...`.
fn target_of(line: &str) -> Option<RawFd> {
    line.strip_prefix("tfd:")?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::event::{EventfdFlags, epoll, eventfd};

    use super::*;

    #[test]
    fn the_instance_that_watches_a_descriptor_is_found() {
        let watched = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let other = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let instance = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        assert_eq!(watching(watched.as_fd()), None);
        epoll::add(&instance, &watched, epoll::EventData::new_u64(0), epoll::EventFlags::IN).unwrap();
        assert_eq!(watching(watched.as_fd()), Some(instance.as_raw_fd()));
        drop(other);
    }
}
