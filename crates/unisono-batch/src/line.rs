//! A doubly linked line through the machine's slots: whoever joined first is at the front, anybody may leave.
//!
//! All attempts of a batch have the same timeout, so the order in which they start is the order in which they run
//! out: no heap is needed, leaving costs O(1), and a timeout of 30 s at 20,000 starts per second keeps no record of
//! what has long finished.

/// The links of one slot in one line.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Link {
    previous: Option<u32>,
    next: Option<u32>,
    joined: bool,
}

/// The ends of a line. The links themselves are found by the `link` function that each call is given.
#[derive(Debug, Default)]
pub(crate) struct Line {
    first: Option<u32>,
    last: Option<u32>,
}

impl Line {
    pub(crate) fn first(&self) -> Option<u32> {
        self.first
    }

    pub(crate) fn join<T>(&mut self, slots: &mut [T], link: fn(&mut T) -> &mut Link, slot: u32) {
        debug_assert!(!link(&mut slots[slot as usize]).joined);
        *link(&mut slots[slot as usize]) = Link { previous: self.last, next: None, joined: true };
        match self.last {
            Some(last) => link(&mut slots[last as usize]).next = Some(slot),
            None => self.first = Some(slot),
        }
        self.last = Some(slot);
    }

    /// Takes a slot out; nothing happens when it is not in the line.
    pub(crate) fn leave<T>(&mut self, slots: &mut [T], link: fn(&mut T) -> &mut Link, slot: u32) {
        let Link { previous, next, joined } = std::mem::take(link(&mut slots[slot as usize]));
        if !joined {
            return;
        }
        match previous {
            Some(previous) => link(&mut slots[previous as usize]).next = next,
            None => self.first = next,
        }
        match next {
            Some(next) => link(&mut slots[next as usize]).previous = previous,
            None => self.last = previous,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_line_keeps_its_order_whoever_leaves(moves in prop::collection::vec((any::<bool>(), 0u32..8), 0..60)) {
            let (mut line, mut links, mut model) = (Line::default(), vec![Link::default(); 8], Vec::new());
            for (joins, slot) in moves {
                if joins && !model.contains(&slot) {
                    line.join(&mut links, |link| link, slot);
                    model.push(slot);
                } else if !joins {
                    line.leave(&mut links, |link| link, slot);
                    model.retain(|other| *other != slot);
                }
                let mut walked = Vec::new();
                let mut at = line.first();
                while let Some(slot) = at {
                    walked.push(slot);
                    at = links[slot as usize].next;
                }
                prop_assert_eq!(&walked, &model);
            }
        }
    }
}
