//! The items of a machine by number: what is known of each, which numbers are free, and whose time runs out first.
//!
//! Items that have the times of their batch run out in the order in which they were started, so lists are enough for
//! them; those with times of their own are sorted.
//!
//! A number is given again when its item is gone, with the next generation: a ticket that is kept for too long is
//! recognised by that. Numbers stay below the number of items that were ever undecided at once, so that payloads can
//! lie in a vector beside this one.
//!
//! What an item may do next is not decided here.

use std::{
    collections::BTreeSet,
    ops::{Index, IndexMut},
    time::{Duration, Instant},
};

use unisono_core::Overrides;

use crate::{
    slot_list::{Link, SlotList},
    ticket::Ticket,
};

/// What an item does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Vacant,
    Queued,
    Waiting,
    Running,
    /// Named to the driver as to be decided; in no queue, holding nothing.
    Parked,
    /// Work that outlives its item and still holds its slot.
    Detached,
}

/// What is known of an item.
#[derive(Debug)]
pub(crate) struct Slot {
    generation: u32,
    pub(crate) state: State,
    pub(crate) key: usize,
    /// Boxed, since few items have any and the look-ahead holds thousands.
    overrides: Option<Box<Overrides>>,
    /// Attempts so far.
    pub(crate) attempts: u16,
    /// Attempts that count against the repeats: all but those that were throttled or could not meet their peer.
    pub(crate) counted: u16,
    /// Attempts that were throttled.
    pub(crate) refusals: u16,
    /// The key's epoch when the attempt started.
    pub(crate) epoch: u32,
    /// It was started, and the room in the sink that it will need is set aside.
    pub(crate) owes: bool,
    pub(crate) first_start: Option<Instant>,
    /// When it first found its peer away.
    pub(crate) first_unmet: Option<Instant>,
    /// When the last attempt was started.
    pub(crate) started: Option<Instant>,
    pub(crate) attempt_by: Option<Instant>,
    pub(crate) item_by: Option<Instant>,
    /// Its running work was detached: finishing the attempt frees no slot.
    pub(crate) detached: bool,
    /// Its attempt goes on beyond its deadline, while it is being stopped.
    is_overtime: bool,
    attempt_link: Link,
    item_link: Link,
}

/// All items of a machine. A ticket that is stale must be asked about (`is_current`, `is_in`) before it is looked up.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    vacant: Vec<u32>,
    /// Running attempts by their timeout.
    attempts: ByTime,
    /// Undecided items whose deadline has been set, by it.
    items: ByTime,
    /// Those of them whose attempts go on beyond it.
    overtime: SlotList,
}

impl Slots {
    /// A slot for a new item.
    pub(crate) fn occupy(&mut self, key: usize, state: State, overrides: Overrides) -> Ticket {
        let fresh = Slot {
            generation: 0,
            state,
            key,
            overrides: (overrides != Overrides::default()).then(|| Box::new(overrides)),
            attempts: 0,
            counted: 0,
            refusals: 0,
            epoch: 0,
            owes: false,
            first_start: None,
            first_unmet: None,
            started: None,
            attempt_by: None,
            item_by: None,
            detached: false,
            is_overtime: false,
            attempt_link: Link::default(),
            item_link: Link::default(),
        };
        match self.vacant.pop() {
            Some(slot) => {
                let generation = self.slots[slot as usize].generation;
                self.slots[slot as usize] = Slot { generation, ..fresh };
                Ticket { slot, generation }
            }
            None => {
                let slot = u32::try_from(self.slots.len()).expect("the look-ahead bounds the slots far below 2^32");
                self.slots.push(fresh);
                Ticket { slot, generation: 0 }
            }
        }
    }

    /// The item is gone, and its ticket stale from now on.
    pub(crate) fn vacate(&mut self, ticket: Ticket) {
        self.leave_items(ticket);
        let slot = &mut self[ticket];
        slot.state = State::Vacant;
        slot.generation = slot.generation.wrapping_add(1);
        self.vacant.push(ticket.slot);
    }

    /// Whether the item is still there.
    pub(crate) fn is_current(&self, ticket: Ticket) -> bool {
        self.slots
            .get(ticket.slot())
            .is_some_and(|slot| slot.generation == ticket.generation && slot.state != State::Vacant)
    }

    /// Whether the item is still there, and does this.
    pub(crate) fn is_in(&self, ticket: Ticket, state: State) -> bool {
        self.is_current(ticket) && self[ticket].state == state
    }

    /// The first item by number whose state is such.
    pub(crate) fn find(&self, is_such: impl Fn(State) -> bool) -> Option<Ticket> {
        self.slots.iter().position(|slot| is_such(slot.state)).map(|slot| self.ticket(slot as u32))
    }

    /// An attempt has begun, which has to be over by then.
    pub(crate) fn time_attempt(&mut self, ticket: Ticket, by: Option<Instant>) {
        self[ticket].attempt_by = by;
        if let Some(by) = by {
            self.attempts.insert(&mut self.slots, attempt_link, ticket, by);
        }
    }

    /// The attempt is over.
    pub(crate) fn untime_attempt(&mut self, ticket: Ticket) {
        let by = self[ticket].attempt_by;
        self.attempts.remove(&mut self.slots, attempt_link, ticket, by);
    }

    /// The item has to be over by then, unless it has a deadline already. Returns the one that it has.
    pub(crate) fn time_item(&mut self, ticket: Ticket, by: Option<Instant>) -> Option<Instant> {
        if let (None, Some(by)) = (self[ticket].item_by, by) {
            self[ticket].item_by = Some(by);
            self.items.insert(&mut self.slots, item_link, ticket, by);
        }
        self[ticket].item_by
    }

    /// The item has no deadline any more.
    pub(crate) fn untime_item(&mut self, ticket: Ticket) {
        self.leave_items(ticket);
        self[ticket].item_by = None;
    }

    /// The item's deadline is over, and its attempt gets the time that it takes to be stopped.
    pub(crate) fn grant_overtime(&mut self, ticket: Ticket) {
        let by = self[ticket].item_by;
        self.items.remove(&mut self.slots, item_link, ticket, by);
        // In the order of their deadlines, since they run out in that order.
        self.overtime.push_back(&mut self.slots, item_link, ticket.slot);
        self[ticket].is_overtime = true;
    }

    /// The running attempt whose timeout comes first.
    pub(crate) fn first_attempt(&self) -> Option<Ticket> {
        self.attempts.first(|slot| (self.ticket(slot), self.slots[slot as usize].attempt_by))
    }

    /// The item whose deadline comes first.
    pub(crate) fn first_item(&self) -> Option<Ticket> {
        self.items.first(|slot| (self.ticket(slot), self.slots[slot as usize].item_by))
    }

    /// The item beyond its deadline that has been so for longest.
    pub(crate) fn first_overtime(&self) -> Option<Ticket> {
        self.overtime.front().map(|slot| self.ticket(slot))
    }

    /// When the first of all these times is over, where overtime lasts for so long.
    pub(crate) fn due(&self, overtime: Duration) -> Option<Instant> {
        let attempt = self.first_attempt().and_then(|ticket| self[ticket].attempt_by);
        let item = self.first_item().and_then(|ticket| self[ticket].item_by);
        let late = self.first_overtime().and_then(|ticket| self[ticket].item_by);
        [attempt, item, late.and_then(|by| by.checked_add(overtime))].into_iter().flatten().min()
    }

    fn leave_items(&mut self, ticket: Ticket) {
        let Slot { is_overtime, item_by, .. } = self[ticket];
        match is_overtime {
            true => self.overtime.remove(&mut self.slots, item_link, ticket.slot),
            false => self.items.remove(&mut self.slots, item_link, ticket, item_by),
        }
    }

    fn ticket(&self, slot: u32) -> Ticket {
        Ticket { slot, generation: self.slots[slot as usize].generation }
    }
}

impl Slot {
    /// What it has of its own.
    pub(crate) fn overrides(&self) -> Overrides {
        self.overrides.as_deref().copied().unwrap_or_default()
    }
}

/// Slots by the time at which something of theirs is over.
#[derive(Debug, Default)]
struct ByTime {
    /// Those with the times of the batch, whose order is that in which they came.
    alike: SlotList,
    /// Those with times of their own.
    others: BTreeSet<(Instant, Ticket)>,
}

impl ByTime {
    fn insert(&mut self, slots: &mut [Slot], link: fn(&mut Slot) -> &mut Link, ticket: Ticket, by: Instant) {
        match slots[ticket.slot()].overrides {
            None => self.alike.push_back(slots, link, ticket.slot),
            Some(_) => {
                self.others.insert((by, ticket));
            }
        }
    }

    /// Takes a slot out; nothing happens when it is not in here.
    fn remove(&mut self, slots: &mut [Slot], link: fn(&mut Slot) -> &mut Link, ticket: Ticket, by: Option<Instant>) {
        match (slots[ticket.slot()].overrides.is_some(), by) {
            (false, _) => self.alike.remove(slots, link, ticket.slot),
            (true, Some(by)) => {
                self.others.remove(&(by, ticket));
            }
            (true, None) => {}
        }
    }

    fn first(&self, look: impl Fn(u32) -> (Ticket, Option<Instant>)) -> Option<Ticket> {
        let alike = self.alike.front().map(&look);
        let Some(&(by, other)) = self.others.first() else { return alike.map(|(ticket, _)| ticket) };
        match alike {
            Some((ticket, Some(at))) if at <= by => Some(ticket),
            _ => Some(other),
        }
    }
}

impl Index<Ticket> for Slots {
    type Output = Slot;

    fn index(&self, ticket: Ticket) -> &Slot {
        &self.slots[ticket.slot()]
    }
}

impl IndexMut<Ticket> for Slots {
    fn index_mut(&mut self, ticket: Ticket) -> &mut Slot {
        &mut self.slots[ticket.slot()]
    }
}

fn attempt_link(slot: &mut Slot) -> &mut Link {
    &mut slot.attempt_link
}

fn item_link(slot: &mut Slot) -> &mut Link {
    &mut slot.item_link
}
