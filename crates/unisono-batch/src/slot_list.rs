//! A doubly linked list through the machine's slots, first in, first out; each slot may also be taken out in between.
//!
//! All attempts of a batch have the same timeout, so the order in which they start is the order in which they run
//! out: no heap is needed, taking one out costs O(1), and a timeout of 30 s at 20,000 starts per second keeps no record
//! of what has long finished.

/// The links of one slot in one list.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Link {
    previous: Option<u32>,
    next: Option<u32>,
    is_in: bool,
}

/// The ends of a list. The links themselves are found by the `link` function that each call is given.
#[derive(Debug, Default)]
pub(crate) struct SlotList {
    first: Option<u32>,
    last: Option<u32>,
}

impl SlotList {
    pub(crate) fn front(&self) -> Option<u32> {
        self.first
    }

    pub(crate) fn push_back<T>(&mut self, slots: &mut [T], link: fn(&mut T) -> &mut Link, slot: u32) {
        debug_assert!(!link(&mut slots[slot as usize]).is_in);
        *link(&mut slots[slot as usize]) = Link { previous: self.last, next: None, is_in: true };
        match self.last {
            Some(last) => link(&mut slots[last as usize]).next = Some(slot),
            None => self.first = Some(slot),
        }
        self.last = Some(slot);
    }

    /// Takes a slot out; nothing happens when it is not in the list.
    pub(crate) fn remove<T>(&mut self, slots: &mut [T], link: fn(&mut T) -> &mut Link, slot: u32) {
        let Link { previous, next, is_in } = std::mem::take(link(&mut slots[slot as usize]));
        if !is_in {
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
        fn a_list_keeps_its_order_whichever_slot_is_taken_out(moves in prop::collection::vec((any::<bool>(), 0u32..8), 0..60)) {
            let (mut list, mut links, mut model) = (SlotList::default(), vec![Link::default(); 8], Vec::new());
            for (joins, slot) in moves {
                if joins && !model.contains(&slot) {
                    list.push_back(&mut links, |link| link, slot);
                    model.push(slot);
                } else if !joins {
                    list.remove(&mut links, |link| link, slot);
                    model.retain(|other| *other != slot);
                }
                let mut walked = Vec::new();
                let mut at = list.front();
                while let Some(slot) = at {
                    walked.push(slot);
                    at = links[slot as usize].next;
                }
                prop_assert_eq!(&walked, &model);
            }
        }
    }
}
