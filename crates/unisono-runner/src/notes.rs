//! Notes of what is about to start and may take effect: durable before it starts.
//!
//! A note takes a sync of the disk, which is as long as a short command. Where work asks for it, the rows that come next are
//! noted together with the one that starts, as many as may run at once and at least sixteen: they share its sync, and when their turn comes
//! nobody waits. The price is paid after a crash alone: so many more rows are `ambiguous` that had not started. A row that is noted and not started in a run that ends otherwise has its outcome like any other.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet, VecDeque},
    rc::Rc,
    sync::Arc,
};

use unisono_journal::{Error, Journal, Note, Repeat, RowKey};

pub(crate) struct Notes {
    journal: Rc<Journal>,
    /// How many rows are noted before their turn.
    ahead: usize,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    /// Rows that were handed out and have not been noted, in their order.
    upcoming: VecDeque<(RowKey, Option<Box<str>>, u64, Repeat)>,
    /// Noted before their turn.
    noted: HashMap<RowKey, Note>,
    /// Started out of their order; still among the upcoming.
    overtook: HashSet<RowKey>,
}

impl Notes {
    pub(crate) fn new(journal: Rc<Journal>, ahead: usize) -> Self {
        Self { journal, ahead, state: RefCell::default() }
    }

    /// A row that may take effect was handed out: its turn will come, or it will end without.
    pub(crate) fn add(&self, key: RowKey, id: Option<&str>, fingerprint: u64, repeat: Repeat) {
        if self.ahead > 0 {
            self.state.borrow_mut().upcoming.push_back((key, id.map(Into::into), fingerprint, repeat));
        }
    }

    /// Answers once it is durable that this row starts.
    pub(crate) async fn started(
        &self,
        key: RowKey,
        id: Option<&str>,
        fingerprint: u64,
        repeat: Repeat,
    ) -> Result<(), Arc<Error>> {
        let (note, is_old) = self.take(key, id, fingerprint, repeat);
        self.journal.noted(note).await?;
        if is_old && !self.journal.is_in_place() {
            // The writer looks whenever it notes, and says what has become of the file.
            return self.journal.started(key, id, fingerprint, repeat).await;
        }
        Ok(())
    }

    /// Also whether it was noted before its turn.
    fn take(&self, key: RowKey, id: Option<&str>, fingerprint: u64, repeat: Repeat) -> (Note, bool) {
        let state = &mut *self.state.borrow_mut();
        let note = state.noted.remove(&key);
        if note.is_none() && self.ahead > 0 {
            state.overtook.insert(key);
        }
        let is_old = note.is_some();
        let note = note.unwrap_or_else(|| self.journal.note(key, id, fingerprint, repeat));
        // Half of them at a time, so that many share a sync.
        if state.noted.len() <= self.ahead / 2 {
            while state.noted.len() < self.ahead
                && let Some((next, id, fingerprint, repeat)) = state.upcoming.pop_front()
            {
                if !state.overtook.remove(&next) {
                    state.noted.insert(next, self.journal.note(next, id.as_deref(), fingerprint, repeat));
                }
            }
        }
        (note, is_old)
    }
}
