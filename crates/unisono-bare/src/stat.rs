//! `/proc/PID/stat` as bytes: one line of what the kernel says of a process. Source: proc_pid_stat(5).
//!
//! The name in it is whatever its process likes, brackets, blanks and bytes that are no text included, so everything is
//! found from the last bracket. The line may be cut off, as where only its start was read: a field that is not there
//! whole to be sure is `None`, which is what the last of a line without its end is.
//!
//! Opens nothing: the caller reads the file.

use core::str;

use crate::process::ProcessId;

/// The fields of one process, each read when it is asked for.
///
/// ```
/// # use unisono_bare::stat::Stat;
/// let stat = Stat::parse(b"7 (a) b) S 1 5 3 0 -1 ").expect("a line of /proc/7/stat");
/// assert_eq!((stat.state(), stat.parent(), stat.group(), stat.session()), (Some(b'S'), Some(1), Some(5), Some(3)));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Stat<'a> {
    number: &'a [u8],
    /// What follows the name.
    fields: &'a [u8],
}

impl<'a> Stat<'a> {
    /// The fields of a line; `None` when it is none, or is cut off within its name.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let open = line.iter().position(|byte| *byte == b'(')?;
        let close = line.iter().rposition(|byte| *byte == b')')?;
        // A bracket of the name that is the only one to close comes before the name does.
        let fields = line.get(close + 1..).filter(|_| open < close)?;
        Some(Self { number: line.get(..open)?, fields })
    }

    /// Which process.
    pub fn process(&self) -> Option<ProcessId> {
        ProcessId::from_number(str::from_utf8(self.number).ok()?.trim_ascii().parse().ok()?)
    }

    /// What it is at: `R`, `S`, `Z` and so on.
    pub fn state(&self) -> Option<u8> {
        match self.field(3)? {
            [state] => Some(*state),
            _ => None,
        }
    }

    /// Whether it has ended and was not reaped yet.
    pub fn is_zombie(&self) -> bool {
        matches!(self.state(), Some(b'Z' | b'X'))
    }

    /// The number of its parent; 0 when that is outside of this namespace.
    pub fn parent(&self) -> Option<i32> {
        self.number_at(4)
    }

    /// The number of its group.
    pub fn group(&self) -> Option<i32> {
        self.number_at(5)
    }

    /// The number of its session.
    pub fn session(&self) -> Option<i32> {
        self.number_at(6)
    }

    /// When it started, in clock ticks since the system did.
    pub fn started(&self) -> Option<u64> {
        self.number_at(22)
    }

    fn number_at<T: str::FromStr>(&self, field: usize) -> Option<T> {
        str::from_utf8(self.field(field)?).ok()?.parse().ok()
    }

    /// A field by its number in proc_pid_stat(5), if its end is there.
    fn field(&self, number: usize) -> Option<&'a [u8]> {
        let mut ends = self.fields.split_inclusive(u8::is_ascii_whitespace).filter(|field| field.len() > 1);
        let (end, field) = ends.nth(number.checked_sub(FIRST)?)?.split_last()?;
        end.is_ascii_whitespace().then_some(field)
    }
}

/// The number of the first field after the name.
const FIRST: usize = 3;

#[cfg(test)]
mod tests {
    use std::{format, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_confuse() {
        let stat = Stat::parse(b"12 (a) S 9 (b) S 3 4 4 0 -1 ").unwrap();
        let found = (stat.process().unwrap().number(), stat.state(), stat.parent(), stat.group(), stat.session());
        assert_eq!(found, (12, Some(b'S'), Some(3), Some(4), Some(4)));
    }

    #[test]
    fn a_line_without_a_whole_name_is_none() {
        for line in [b"".as_slice(), b"12", b"12 (a", b"12 )a(", b")", b"("] {
            assert!(Stat::parse(line).is_none(), "{line:?}");
        }
    }

    #[test]
    fn a_number_that_is_cut_off_is_not_taken_for_a_shorter_one() {
        let stat = Stat::parse(b"12 (a) S 345 67").unwrap();
        assert_eq!((stat.parent(), stat.group(), stat.session(), stat.started()), (Some(345), None, None, None));
    }

    #[test]
    fn this_process_is_read_as_the_system_says() {
        let line = std::fs::read("/proc/self/stat").unwrap();
        let stat = Stat::parse(&line).unwrap();
        assert_eq!(stat.process(), Some(ProcessId::own()));
        assert_eq!(stat.group(), ProcessId::own().group().map(ProcessId::number));
        assert_eq!(stat.parent(), i32::try_from(std::os::unix::process::parent_id()).ok());
        assert!(stat.started().is_some() && stat.session().is_some() && !stat.is_zombie());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(line in any::<Vec<u8>>(), start in "[0-9]{0,12} ?[()]{0,3}[ A-Z0-9)-]{0,40}") {
            for line in [line.as_slice(), start.as_bytes(), &[start.as_bytes(), &line].concat()] {
                if let Some(stat) = Stat::parse(line) {
                    let _ = (stat.process(), stat.state(), stat.parent(), stat.group(), stat.session(), stat.started());
                }
            }
        }

        #[test]
        fn what_the_kernel_writes_is_read_back_whatever_the_name_and_wherever_it_is_cut(
            process in 1..i32::MAX,
            name in prop::collection::vec(any::<u8>(), 0..16),
            state in prop::sample::select(b"RSDZTtXI".as_slice()),
            ids in any::<[i32; 3]>(),
            started in any::<u64>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let [parent, group, session] = ids;
            let zeros = " 0".repeat(15);
            let rest = format!(" {} {parent} {group} {session}{zeros} {started} 0\n", char::from(state));
            let line = [format!("{process} (").as_bytes(), &name, b")", rest.as_bytes()].concat();
            let stat = Stat::parse(&line).unwrap();
            prop_assert_eq!(stat.process().map(ProcessId::number), Some(process));
            prop_assert_eq!((stat.state(), stat.is_zombie()), (Some(state), state == b'Z' || state == b'X'));
            prop_assert_eq!((stat.parent(), stat.group(), stat.session()), (Some(parent), Some(group), Some(session)));
            prop_assert_eq!(stat.started(), Some(started));

            // Cut after its name: what is told is what was told before.
            let kept = line.len() - rest.len() + cut.index(rest.len());
            let stat = Stat::parse(&line[..kept]).unwrap();
            prop_assert!([None, Some(parent)].contains(&stat.parent()) && [None, Some(group)].contains(&stat.group()));
            prop_assert!([None, Some(started)].contains(&stat.started()));
        }
    }
}
