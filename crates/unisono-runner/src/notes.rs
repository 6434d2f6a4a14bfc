//! Notes of what is about to start and may take effect: durable before it starts.
//!
//! A note takes a sync of the disk, which is as long as a short command. So rows that come next are noted together with
//! the one that starts: they share its sync, and do not wait when their turn comes. The price is paid after a crash
//! alone: so many more rows are in doubt that had not started. For what can be repeated that is next to nothing, since
//! it runs again in any case unless the next run would do it in another way, so of that many are noted ahead, always;
//! of what must not be repeated only where its kind of work asks for it, as many as may run at once and at least
//! sixteen. A row that is noted and not started in a run that ends otherwise has its outcome like any other.

use std::{
    cell::{RefCell, RefMut},
    collections::{HashMap, HashSet, VecDeque, hash_map::Entry},
    future::poll_fn,
    rc::Rc,
    sync::Arc,
};

use tokio::sync::OnceCell;
use unisono_journal::{Error, Journal, Note, Repeat, RowKey};

pub(crate) struct Notes {
    journal: Rc<Journal>,
    /// Of what must not be repeated.
    once: RefCell<NoteQueue>,
    /// Of what may be.
    repeatable: RefCell<NoteQueue>,
    /// What an attempt waits for: if it is stopped there, the next one of its row goes on with that. Whether it was
    /// noted before its turn stands beside.
    awaited: RefCell<HashMap<RowKey, (Rc<NoteBatch>, bool)>>,
}

struct NoteQueue {
    /// How many rows are noted before their turn.
    ahead: usize,
    /// Rows that were handed out and have not been noted, in their order.
    upcoming: VecDeque<NotedRow>,
    /// Noted before their turn, in their order, which is that of their starts in the main.
    noted: VecDeque<(RowKey, Rc<NoteBatch>)>,
    /// Started out of their order; still among the upcoming.
    overtook: HashSet<RowKey>,
}

/// Rows that are noted together.
struct NoteBatch {
    note: RefCell<Note>,
    result: OnceCell<Result<(), Arc<Error>>>,
}

impl NoteBatch {
    /// Ready once they are durable, for each of the rows.
    async fn noted(&self, journal: &Journal) -> Result<(), Arc<Error>> {
        // The first waiter polls, and another in its place if it gives up.
        let noted = || poll_fn(|context| journal.poll_noted(&mut self.note.borrow_mut(), context));
        self.result.get_or_init(noted).await.clone()
    }
}

impl Notes {
    /// `ahead` is how many rows are noted before their turn that must not be repeated.
    pub(crate) fn new(journal: Rc<Journal>, ahead: usize) -> Self {
        let queue = |ahead| RefCell::new(NoteQueue::new(ahead));
        Self { journal, once: queue(ahead), repeatable: queue(REPEATABLE_AHEAD), awaited: RefCell::default() }
    }

    fn queue(&self, repeat: Repeat) -> RefMut<'_, NoteQueue> {
        if repeat.is_allowed() { self.repeatable.borrow_mut() } else { self.once.borrow_mut() }
    }

    /// A row that may take effect was handed out: its turn will come, or it will end without.
    pub(crate) fn add(&self, key: RowKey, id: Option<&str>, fingerprint: u64, repeat: Repeat) {
        let mut queue = self.queue(repeat);
        if queue.ahead > 0 {
            queue.upcoming.push_back((key, id.map(Into::into), fingerprint, repeat));
        }
    }

    /// Whether nothing is to be waited for before this row starts, which can be repeated and was noted before its turn.
    pub(crate) fn is_noted(&self, key: RowKey, repeat: Repeat) -> bool {
        repeat.is_allowed() && self.repeatable.borrow_mut().take_next(&self.journal, key)
    }

    /// Returns once it is durable that this row starts.
    pub(crate) async fn started(
        &self,
        key: RowKey,
        id: Option<&str>,
        fingerprint: u64,
        repeat: Repeat,
    ) -> Result<(), Arc<Error>> {
        let (batch, is_old) = match self.awaited.borrow_mut().entry(key) {
            Entry::Occupied(awaited) => awaited.get().clone(),
            Entry::Vacant(entry) => {
                let taken = self.queue(repeat).take(&self.journal, (key, id, fingerprint, repeat));
                entry.insert(taken).clone()
            }
        };
        batch.noted(&self.journal).await?;
        self.awaited.borrow_mut().remove(&key);
        if is_old && !repeat.is_allowed() && !self.journal.is_in_place() {
            // The writer looks whenever it notes, and says what has become of the file.
            return self.journal.started(key, id, fingerprint, repeat).await;
        }
        Ok(())
    }
}

impl NoteQueue {
    fn new(ahead: usize) -> Self {
        Self { ahead, upcoming: VecDeque::new(), noted: VecDeque::new(), overtook: HashSet::new() }
    }

    /// Takes the note of a row that starts, if that is the next one and durable.
    fn take_next(&mut self, journal: &Journal, key: RowKey) -> bool {
        let is_next =
            |(next, batch): &(RowKey, Rc<NoteBatch>)| *next == key && matches!(batch.result.get(), Some(Ok(())));
        let is_ready = self.noted.front().is_some_and(is_next);
        if is_ready {
            self.noted.pop_front();
            self.note(journal, None);
        }
        is_ready
    }

    /// The note of a row that starts, and whether it was noted before its turn.
    fn take(&mut self, journal: &Journal, row: (RowKey, Option<&str>, u64, Repeat)) -> (Rc<NoteBatch>, bool) {
        let (key, id, fingerprint, repeat) = row;
        let at = self.noted.iter().position(|(noted, _)| *noted == key);
        if let Some((_, batch)) = at.and_then(|at| self.noted.remove(at)) {
            self.note(journal, None);
            return (batch, true);
        }
        // Later pages come from the work itself in the main, and are among the upcoming only where a row goes on with
        // one.
        if self.ahead > 0 && (key.page <= 1 || self.upcoming.iter().any(|(upcoming, ..)| *upcoming == key)) {
            self.overtook.insert(key);
        }
        let noted = self.note(journal, Some((key, id.map(Into::into), fingerprint, repeat)));
        (noted.expect("a row that is given is noted"), false)
    }

    /// Notes this row and, half of them at a time so that many share a sync, those that come next.
    fn note(&mut self, journal: &Journal, starts: Option<NotedRow>) -> Option<Rc<NoteBatch>> {
        let given = usize::from(starts.is_some());
        let mut rows: Vec<NotedRow> = starts.into_iter().collect();
        if self.noted.len() <= self.ahead / 2 {
            while self.noted.len() + rows.len() - given < self.ahead
                && let Some(row) = self.upcoming.pop_front()
            {
                if self.overtook.is_empty() || !self.overtook.remove(&row.0) {
                    rows.push(row);
                }
            }
        }
        if rows.is_empty() {
            return None;
        }
        let noted = rows.iter().map(|(key, id, fingerprint, repeat)| (*key, id.as_deref(), *fingerprint, *repeat));
        let batch = Rc::new(NoteBatch { note: RefCell::new(journal.note_all(noted)), result: OnceCell::new() });
        self.noted.extend(rows[given..].iter().map(|(key, ..)| (*key, batch.clone())));
        Some(batch)
    }
}

/// What a note is made of.
type NotedRow = (RowKey, Option<Box<str>>, u64, Repeat);

/// Enough that their syncs are lost among the system calls of the rows, and no more than that.
const REPEATABLE_AHEAD: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_handed_out_is_noted_once_whichever_page_it_goes_on_with() {
        let journal = Journal::stream(tempfile::tempfile().unwrap(), "a stream".as_ref()).unwrap();
        for page in [0, 1, 2, 7] {
            let mut queue = NoteQueue::new(4);
            let keys = [0, 1].map(|row| RowKey { row, page });
            queue.upcoming.extend(keys.map(|key| (key, None, 7, Repeat::ByNature)));
            // Out of their order.
            queue.take(&journal, (keys[1], None, 7, Repeat::ByNature));
            let noted: Vec<_> = queue.noted.iter().map(|(key, _)| *key).collect();
            assert_eq!(noted, keys[..1], "page {page}");
            assert!(queue.upcoming.is_empty() && queue.overtook.is_empty());
            // A page that comes from the work itself leaves nothing behind.
            queue.take(&journal, (RowKey { row: 0, page: 9 }, None, 7, Repeat::ByNature));
            assert!(queue.overtook.is_empty());
        }
    }
}
