//! What is in a queue: items, the consumers that wait for one, the producers that wait for room, and the joiners.
//!
//! A plain state machine: it blocks nothing, wakes nothing and runs nothing of the program's. Every call returns the
//! waiters to be woken, and its owner wakes them after letting go of the lock. Values that fall out are handed back for
//! the same reason: to drop one may run code of the caller's.
//!
//! Rules: (1) waiters are served in order of arrival, and what serves one (an item, a place) is its own from then on,
//! so that no later one can snatch it, and one item wakes one waiter; (2) there are items only while no consumer waits;
//! (3) an item that was given to a consumer which no longer wants it goes back to its old place, by its number. (4) A
//! thread that waits for room leaves its item here, so that a consumer need not wait until that thread runs. A
//! coroutine keeps its item and is granted a place instead: when it is cancelled, its item has surely not been put.

use std::collections::{HashMap, VecDeque};

/// A waiter.
pub struct Parked<W> {
    /// By which it asks what became of its wait. Later ones are larger.
    pub ticket: u64,
    /// How it is woken.
    pub wake: W,
}

/// Waiters to be woken; mostly none, which costs nothing.
pub type Wakes<W> = Vec<Parked<W>>;

/// What became of a wait.
pub enum Served<T> {
    /// An item is the waiter's; the number is that item's place in the queue.
    Item(i64, T),
    /// The item that the waiter left here is in.
    Accepted,
    /// A place is the waiter's, for the item that it has.
    Granted,
    /// Everything that was put is done.
    Joined,
    /// The queue was closed.
    Closed,
}

/// Why something does not happen now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryError {
    /// There is no item, no room, or something is not done yet.
    Wait,
    /// The queue is closed and, for consumers, drained.
    Closed,
}

/// What `withdraw` finds.
pub enum Withdrawn<T, W> {
    /// Nothing had happened yet. Hands back what the waiter left, to be dropped without the lock.
    Unserved(Option<T>, W),
    /// Too late: this is the waiter's.
    Served(Served<T>),
    /// No waiter has this ticket: a fork has made the channel forget it.
    Unknown,
}

struct Putter<T, W> {
    parked: Parked<W>,
    /// `None` for one that keeps its item and wants a place for it.
    item: Option<T>,
}

/// A first-in, first-out channel with a bound.
pub struct Channel<T, W> {
    items: VecDeque<(i64, T)>,
    next_number: i64,
    /// `usize::MAX` for no bound.
    room: usize,
    /// Places that were granted and not yet used.
    granted: usize,
    getters: VecDeque<Parked<W>>,
    putters: VecDeque<Putter<T, W>>,
    joiners: Vec<Parked<W>>,
    /// Emptied by the waiters that were woken.
    served: HashMap<u64, Served<T>>,
    next_ticket: u64,
    unfinished: usize,
    is_closed: bool,
}

impl<T, W> Channel<T, W> {
    /// An empty one for so many items; `usize::MAX` for no bound.
    pub fn new(room: usize) -> Self {
        Self {
            items: VecDeque::new(),
            next_number: 0,
            room,
            granted: 0,
            getters: VecDeque::new(),
            putters: VecDeque::new(),
            joiners: Vec::new(),
            served: HashMap::new(),
            next_ticket: 0,
            unfinished: 0,
            is_closed: false,
        }
    }

    /// How many items are in it.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether no item is in it.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether there is no room: each place has an item, or was granted.
    pub fn is_full(&self) -> bool {
        self.items.len() + self.granted >= self.room
    }

    /// How many wait for an item, for room, and until all is done.
    pub fn waiting(&self) -> (usize, usize, usize) {
        (self.getters.len(), self.putters.len(), self.joiners.len())
    }

    /// Whether `close` was called.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// How many items were put and are not done.
    pub fn unfinished(&self) -> usize {
        self.unfinished
    }

    /// Puts an item, or hands it back.
    ///
    /// # Errors
    /// There is no room, or it is closed.
    pub fn put(&mut self, item: T) -> Result<Wakes<W>, (TryError, T)> {
        if self.is_closed {
            Err((TryError::Closed, item))
        } else if self.is_full() && self.getters.is_empty() {
            Err((TryError::Wait, item))
        } else {
            Ok(self.push(item))
        }
    }

    /// Puts an item without a bound, or hands it back when it is closed. Of the consumers that wait, the one that came
    /// last has it, against rule 1: for consumers of one owner, which are all alike.
    ///
    /// # Errors
    /// It is closed.
    pub fn put_for_last(&mut self, item: T) -> Result<Wakes<W>, (TryError, T)> {
        if self.is_closed {
            return Err((TryError::Closed, item));
        }
        let last = self.getters.pop_back();
        Ok(self.push_for(last, item))
    }

    /// Puts an item into a place that was granted, or hands it back.
    ///
    /// # Errors
    /// It was closed meanwhile.
    pub fn put_granted(&mut self, item: T) -> Result<Wakes<W>, T> {
        self.granted -= 1;
        if self.is_closed {
            return Err(item);
        }
        let mut wakes = self.push(item);
        // A consumer may have waited for the item, and then the place is free again.
        wakes.extend(self.admit());
        Ok(wakes)
    }

    /// Takes the first item; returns as well the waiters to be woken since there is room now.
    ///
    /// # Errors
    /// There is no item, or it is closed and drained.
    pub fn take(&mut self) -> Result<(T, Wakes<W>), TryError> {
        match self.items.pop_front() {
            Some((_, item)) => Ok((item, self.admit())),
            None if self.is_closed => Err(TryError::Closed),
            None => Err(TryError::Wait),
        }
    }

    /// Takes up to `count` items, and returns the waiters to be woken.
    pub fn take_many(&mut self, count: usize, into: &mut Vec<T>, wakes: &mut Wakes<W>) {
        // A putter that is admitted adds an item, which is taken as well.
        for _ in 0..count {
            let Ok((item, wake)) = self.take() else { break };
            into.push(item);
            wakes.extend(wake);
        }
    }

    /// A consumer waits for an item. Returns its ticket.
    pub fn park_getter(&mut self, wake: W) -> u64 {
        let ticket = self.ticket();
        self.getters.push_back(Parked { ticket, wake });
        ticket
    }

    /// A producer waits for room. `None` as item: it keeps that and wants a place. Returns its ticket.
    pub fn park_putter(&mut self, wake: W, item: Option<T>) -> u64 {
        let ticket = self.ticket();
        let parked = Parked { ticket, wake };
        self.putters.push_back(Putter { parked, item });
        ticket
    }

    /// A joiner waits until everything that was put is done. Returns its ticket.
    pub fn park_joiner(&mut self, wake: W) -> u64 {
        let ticket = self.ticket();
        self.joiners.push(Parked { ticket, wake });
        ticket
    }

    /// What became of the wait of one that was woken.
    pub fn collect(&mut self, ticket: u64) -> Option<Served<T>> {
        self.served.remove(&ticket)
    }

    /// A waiter waits no longer.
    pub fn withdraw(&mut self, ticket: u64) -> Withdrawn<T, W> {
        // First what it was given: served waiters stand in no line any more, and what is theirs must not be lost.
        if let Some(served) = self.served.remove(&ticket) {
            return Withdrawn::Served(served);
        }
        // Tickets grow along each line, so a place is found by bisection, however many wait.
        if let Ok(at) = self.getters.binary_search_by_key(&ticket, |parked| parked.ticket) {
            let parked = self.getters.remove(at).expect("it was found there");
            return Withdrawn::Unserved(None, parked.wake);
        }
        if let Ok(at) = self.putters.binary_search_by_key(&ticket, |putter| putter.parked.ticket) {
            let putter = self.putters.remove(at).expect("it was found there");
            return Withdrawn::Unserved(putter.item, putter.parked.wake);
        }
        match self.joiners.binary_search_by_key(&ticket, |parked| parked.ticket) {
            Ok(at) => Withdrawn::Unserved(None, self.joiners.remove(at).wake),
            Err(_) => Withdrawn::Unknown,
        }
    }

    /// An item that was given to a consumer which does not want it goes to the next one, or back to its place.
    pub fn give_back(&mut self, number: i64, item: T) -> Wakes<W> {
        if let Some(getter) = self.getters.pop_front() {
            return vec![self.serve(getter, Served::Item(number, item))];
        }
        let at = self.items.partition_point(|(other, _)| *other < number);
        self.items.insert(at, (number, item));
        Vec::new()
    }

    /// Items that were taken go back to the front, in their order.
    pub fn give_back_front(&mut self, items: Vec<T>) -> Wakes<W> {
        let front = self.items.front().map_or(self.next_number, |(number, _)| *number);
        let numbers = front - i64::try_from(items.len()).expect("fewer items than numbers")..;
        let back: Vec<_> = numbers.zip(items).collect();
        let mut wakes = Vec::new();
        // The first of them goes to the longest waiter; what is left keeps its order by its numbers.
        for (number, item) in back {
            wakes.extend(self.give_back(number, item));
        }
        wakes
    }

    /// A place that was granted to a producer which does not want it goes to the next one.
    pub fn give_back_place(&mut self) -> Wakes<W> {
        self.granted -= 1;
        self.admit()
    }

    /// `count` items are done. Returns the joiners that waited for that, or `None` if fewer were put than are done.
    pub fn done(&mut self, count: usize) -> Option<Wakes<W>> {
        self.unfinished = self.unfinished.checked_sub(count)?;
        Some(self.release_joiners())
    }

    /// Nothing can be put any more. With `discard` what is in it counts as done; it is handed back to be dropped.
    pub fn close(&mut self, discard: bool) -> (Vec<T>, Wakes<W>) {
        self.is_closed = true;
        let mut dropped = Vec::new();
        let mut wakes = Vec::new();
        if discard {
            dropped.extend(self.items.drain(..).map(|(_, item)| item));
            self.unfinished = self.unfinished.saturating_sub(dropped.len());
            wakes.extend(self.release_joiners());
        }
        while let Some(getter) = self.getters.pop_front() {
            wakes.push(self.serve(getter, Served::Closed));
        }
        while let Some(putter) = self.putters.pop_front() {
            dropped.extend(putter.item);
            wakes.push(self.serve(putter.parked, Served::Closed));
        }
        (dropped, wakes)
    }

    /// Forgets all waiters: after a fork they are in the parent. Hands back what is to be dropped.
    pub fn forget_waiters(&mut self) -> impl Sized + use<T, W> {
        self.granted = 0;
        (
            std::mem::take(&mut self.getters),
            std::mem::take(&mut self.putters),
            std::mem::take(&mut self.joiners),
            std::mem::take(&mut self.served),
        )
    }

    /// Empties it for the garbage collector. Hands back what is to be dropped.
    pub fn clear(&mut self) -> impl Sized + use<T, W> {
        (std::mem::take(&mut self.items), self.forget_waiters())
    }

    /// Everything that is held, for the garbage collector.
    pub fn held(&self) -> (impl Iterator<Item = &T>, impl Iterator<Item = &W>) {
        let served = self.served.values().filter_map(|served| match served {
            Served::Item(_, item) => Some(item),
            _ => None,
        });
        let left = self.putters.iter().filter_map(|putter| putter.item.as_ref());
        let items = self.items.iter().map(|(_, item)| item).chain(served).chain(left);
        let parked = self.getters.iter().chain(&self.joiners);
        let wakes = parked.chain(self.putters.iter().map(|putter| &putter.parked)).map(|parked| &parked.wake);
        (items, wakes)
    }

    fn push(&mut self, item: T) -> Wakes<W> {
        let first = self.getters.pop_front();
        self.push_for(first, item)
    }

    /// For a consumer that waits, of which there is none only when none waits.
    fn push_for(&mut self, getter: Option<Parked<W>>, item: T) -> Wakes<W> {
        let number = self.next_number;
        self.next_number += 1;
        self.unfinished += 1;
        // Past the items, of which there are none while a consumer waits: so no item is overtaken.
        if let Some(getter) = getter {
            return vec![self.serve(getter, Served::Item(number, item))];
        }
        self.items.push_back((number, item));
        Vec::new()
    }

    /// There may be room: lets producers in that wait for it, in their order.
    fn admit(&mut self) -> Wakes<W> {
        let mut wakes = Vec::new();
        while !self.is_full() {
            let Some(Putter { parked, item }) = self.putters.pop_front() else { break };
            let served = match item {
                Some(item) => {
                    wakes.extend(self.push(item));
                    Served::Accepted
                }
                None => {
                    // It counts as taken from now on, or two producers would come for one place.
                    self.granted += 1;
                    Served::Granted
                }
            };
            wakes.push(self.serve(parked, served));
        }
        wakes
    }

    fn serve(&mut self, parked: Parked<W>, served: Served<T>) -> Parked<W> {
        self.served.insert(parked.ticket, served);
        parked
    }

    fn release_joiners(&mut self) -> Wakes<W> {
        if self.unfinished > 0 {
            return Vec::new();
        }
        let joiners = std::mem::take(&mut self.joiners);
        joiners.into_iter().map(|joiner| self.serve(joiner, Served::Joined)).collect()
    }

    fn ticket(&mut self) -> u64 {
        self.next_ticket += 1;
        self.next_ticket
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Queue = Channel<u32, &'static str>;

    fn woken(wakes: Wakes<&'static str>) -> Vec<&'static str> {
        wakes.into_iter().map(|parked| parked.wake).collect()
    }

    #[test]
    fn what_is_put_for_the_last_that_came_leaves_the_others_their_order() {
        let mut queue = Queue::new(usize::MAX);
        let (first, second) = (queue.park_getter("first"), queue.park_getter("second"));
        let last = queue.park_getter("last");
        assert_eq!(woken(queue.put_for_last(1).unwrap()), ["last"]);
        assert!(matches!(queue.collect(last), Some(Served::Item(0, 1))));
        assert_eq!(woken(queue.put(2).unwrap()), ["first"]);
        assert!(matches!(queue.withdraw(first), Withdrawn::Served(Served::Item(1, 2))));
        assert!(matches!(queue.withdraw(second), Withdrawn::Unserved(None, "second")));
        assert!(woken(queue.put_for_last(3).unwrap()).is_empty());
        assert!(queue.take().is_ok_and(|(item, _)| item == 3));
        queue.close(false);
        assert!(matches!(queue.put_for_last(4), Err((TryError::Closed, 4))));
    }

    fn put(channel: &mut Queue, item: u32) -> Vec<&'static str> {
        channel.put(item).map(woken).expect("there is room")
    }

    fn take(channel: &mut Queue) -> Option<u32> {
        channel.take().ok().map(|(item, _)| item)
    }

    #[test]
    fn an_item_belongs_to_the_longest_waiter_and_no_later_one_can_snatch_it() {
        let mut channel = Queue::new(usize::MAX);
        let (first, second) = (channel.park_getter("first"), channel.park_getter("second"));
        assert_eq!(put(&mut channel, 1), ["first"]);
        assert_eq!(take(&mut channel), None);
        assert!(matches!(channel.collect(first), Some(Served::Item(_, 1))));
        assert!(channel.collect(second).is_none());
    }

    #[test]
    fn an_item_that_is_not_wanted_goes_to_the_next_waiter_or_back_to_its_place() {
        let mut channel = Queue::new(usize::MAX);
        let (first, second) = (channel.park_getter("first"), channel.park_getter("second"));
        put(&mut channel, 1);
        let Withdrawn::Served(Served::Item(number, item)) = channel.withdraw(first) else { panic!("it was served") };
        assert_eq!(woken(channel.give_back(number, item)), ["second"]);
        let Withdrawn::Served(Served::Item(number, item)) = channel.withdraw(second) else { panic!("it was served") };
        put(&mut channel, 2);
        assert!(woken(channel.give_back(number, item)).is_empty());
        assert_eq!((take(&mut channel), take(&mut channel)), (Some(1), Some(2)));
    }

    #[test]
    fn a_producer_that_waits_with_its_item_is_let_in_by_a_take_and_one_without_is_granted_a_place() {
        let mut channel = Queue::new(1);
        put(&mut channel, 1);
        let thread = channel.park_putter("thread", Some(2));
        let task = channel.park_putter("task", None);
        assert_eq!(channel.take().map(|(item, wakes)| (item, woken(wakes))).unwrap(), (1, vec!["thread"]));
        assert!(matches!(channel.collect(thread), Some(Served::Accepted)));
        assert_eq!(channel.take().map(|(item, wakes)| (item, woken(wakes))).unwrap(), (2, vec!["task"]));
        assert!(matches!(channel.collect(task), Some(Served::Granted)));
        // The place counts as taken until it is used or given back.
        assert!(channel.is_full() && channel.is_empty());
        assert!(matches!(channel.put(3), Err((TryError::Wait, 3))));
        assert!(channel.put_granted(4).is_ok());
        assert_eq!(take(&mut channel), Some(4));
    }

    #[test]
    fn closing_ends_every_wait_hands_back_what_was_not_put_and_leaves_what_was() {
        let mut channel = Queue::new(1);
        put(&mut channel, 1);
        channel.park_putter("thread", Some(2));
        let (dropped, wakes) = channel.close(false);
        assert_eq!((dropped, woken(wakes)), (vec![2], vec!["thread"]));
        assert_eq!(take(&mut channel), Some(1));
        assert!(matches!(channel.take(), Err(TryError::Closed)));
        assert!(matches!(channel.put(3), Err((TryError::Closed, 3))));
    }

    #[test]
    fn joiners_wait_until_as_many_are_done_as_were_put_and_more_is_refused() {
        let mut channel = Queue::new(usize::MAX);
        put(&mut channel, 1);
        put(&mut channel, 2);
        channel.park_joiner("joiner");
        assert!(woken(channel.done(1).unwrap()).is_empty());
        assert_eq!(woken(channel.done(1).unwrap()), ["joiner"]);
        assert!(channel.done(1).is_none());
    }
}
