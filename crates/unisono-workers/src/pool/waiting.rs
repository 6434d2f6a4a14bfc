//! What waits for a worker: tasks without a key in one line, tasks with one behind those of the same key.
//!
//! Of each key at most `per_key` tasks are *admitted*: they may be handed out, or have been. The next one is admitted
//! when one of them has been let go of, so there are never more under way, and they begin in the order in which they
//! came. The admitted ones stand in a line of their own, in which each key takes its turn; of the two lines every other
//! task is taken, so that neither a key with a backlog nor a backlog without keys keeps the others waiting.
//!
//! Knows no workers and no time.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::task::{Task, held};

#[derive(Debug)]
pub(super) struct Waiting {
    per_key: usize,
    plain: VecDeque<Arc<Task>>,
    keyed: VecDeque<Arc<Task>>,
    keys: HashMap<Arc<str>, Key>,
    /// Whose turn it is when both lines have something.
    is_turn_of_keyed: bool,
}

#[derive(Debug, Default)]
struct Key {
    admitted: usize,
    line: VecDeque<Arc<Task>>,
}

impl Waiting {
    pub fn new(per_key: usize) -> Self {
        Self { per_key, plain: VecDeque::new(), keyed: VecDeque::new(), keys: HashMap::new(), is_turn_of_keyed: true }
    }

    /// Whether nothing may be handed out now.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.keyed.is_empty()
    }

    /// A new task.
    pub fn push(&mut self, task: Arc<Task>) {
        let Some(name) = &task.terms.key else {
            self.plain.push_back(task);
            return;
        };
        let key = self.keys.entry(name.clone()).or_default();
        if key.admitted < self.per_key {
            key.admitted += 1;
            held(&task.inner).is_admitted = true;
            self.keyed.push_back(task);
        } else {
            key.line.push_back(task);
        }
    }

    /// The next one to be handed out.
    pub fn pop(&mut self) -> Option<Arc<Task>> {
        let takes_keyed = self.plain.is_empty() || self.is_turn_of_keyed && !self.keyed.is_empty();
        self.is_turn_of_keyed = !takes_keyed;
        if takes_keyed { self.keyed.pop_front() } else { self.plain.pop_front() }
    }

    /// One that was handed out and has not begun comes first again.
    pub fn give_back(&mut self, task: Arc<Task>) {
        if task.terms.key.is_some() { self.keyed.push_front(task) } else { self.plain.push_front(task) }
    }

    /// One is tried again: behind the others, or, since its key is still its own, before them.
    pub fn again(&mut self, task: Arc<Task>) {
        if task.terms.key.is_some() { self.keyed.push_front(task) } else { self.plain.push_back(task) }
    }

    /// A task has ended, and nothing of it is left.
    pub fn let_go(&mut self, task: &Task) {
        let Some(name) = &task.terms.key else { return };
        if !std::mem::take(&mut held(&task.inner).is_admitted) {
            // It has never had its turn; it is passed over when that comes.
            return;
        }
        let Some(key) = self.keys.get_mut(name) else { return };
        while let Some(next) = key.line.pop_front() {
            if !next.has_ended() {
                held(&next.inner).is_admitted = true;
                self.keyed.push_back(next);
                return;
            }
        }
        key.admitted -= 1;
        if key.admitted == 0 {
            self.keys.remove(name);
        }
    }

    /// Takes everything out, those behind others of their key too.
    pub fn drain(&mut self) -> Vec<Arc<Task>> {
        let behind = self.keys.values_mut().flat_map(|key| key.line.drain(..));
        self.plain.drain(..).chain(self.keyed.drain(..)).chain(behind).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::Waiting;
    use crate::{
        blob::Blob,
        task::{Function, Task, TaskOutcome, Terms},
    };

    fn task(number: u64, key: &str) -> Arc<Task> {
        let function = Arc::new(Function { number: 0, name: String::new(), definition: Blob::Inline(Vec::new()) });
        let key = (!key.is_empty()).then(|| key.into());
        Arc::new(Task::new(number, function, Blob::Inline(Vec::new()), Terms { key, ..Terms::default() }, false))
    }

    fn numbers(waiting: &mut Waiting) -> Vec<u64> {
        std::iter::from_fn(|| waiting.pop()).map(|task| task.number).collect()
    }

    #[test]
    fn a_backlog_of_one_key_delays_nobody_and_is_not_delayed() {
        let mut waiting = Waiting::new(1);
        let first = task(0, "a");
        waiting.push(first.clone());
        (1..4).for_each(|number| waiting.push(task(number, "a")));
        (4..8).for_each(|number| waiting.push(task(number, "")));
        waiting.push(task(8, "b"));
        assert_eq!(numbers(&mut waiting), [0, 4, 8, 5, 6, 7]);
        first.end(TaskOutcome::Cancelled);
        waiting.let_go(&first);
        assert_eq!(numbers(&mut waiting), [1]);
    }

    #[test]
    fn who_was_cancelled_behind_its_key_is_passed_over_and_nothing_is_kept() {
        let mut waiting = Waiting::new(1);
        let all: Vec<_> = (0..3).map(|number| task(number, "a")).collect();
        all.iter().for_each(|task| waiting.push(task.clone()));
        all[1].end(TaskOutcome::Cancelled);
        waiting.let_go(&all[1]);
        assert_eq!(numbers(&mut waiting), [0]);
        all[0].end(TaskOutcome::Cancelled);
        waiting.let_go(&all[0]);
        assert_eq!(numbers(&mut waiting), [2]);
        waiting.let_go(&all[2]);
        assert!(waiting.keys.is_empty());
    }

    proptest! {
        /// Whatever comes, begins, is given back and ends: no key has more under way than it may, each task begins once
        /// and after those of its key that came before.
        #[test]
        fn no_key_has_more_under_way_than_it_may_and_its_order_is_kept(
            per_key in 1..4usize,
            steps in proptest::collection::vec((0..5u8, 0..4usize), 1..200),
        ) {
            let mut waiting = Waiting::new(per_key);
            let (mut came, mut running, mut begun) = (0, Vec::<Arc<Task>>::new(), vec![Vec::new(); 4]);
            let keys = ["", "a", "b", "c"];
            for (step, which) in steps.into_iter().chain(std::iter::repeat_n((2, 0), 400)) {
                match step {
                    0 | 1 => {
                        waiting.push(task(came, keys[which]));
                        came += 1;
                    }
                    2 if !running.is_empty() => {
                        let task = running.remove(which % running.len());
                        task.end(TaskOutcome::Cancelled);
                        waiting.let_go(&task);
                    }
                    4 => {
                        if let Some(task) = waiting.pop() {
                            waiting.give_back(task);
                        }
                    }
                    _ => {
                        if let Some(task) = waiting.pop() {
                            let key = keys.iter().position(|key| task.terms.key.as_deref().unwrap_or("") == *key);
                            begun[key.unwrap()].push(task.number);
                            running.push(task);
                        }
                    }
                }
                for key in &keys[1..] {
                    let many = running.iter().filter(|task| task.terms.key.as_deref() == Some(*key)).count();
                    prop_assert!(many <= per_key);
                }
                if running.is_empty() && let Some(task) = waiting.pop() {
                    let key = keys.iter().position(|key| task.terms.key.as_deref().unwrap_or("") == *key);
                    begun[key.unwrap()].push(task.number);
                    running.push(task);
                }
            }
            prop_assert_eq!(begun.iter().map(Vec::len).sum::<usize>() as u64, came);
            for order in &begun {
                prop_assert!(order.is_sorted());
            }
            prop_assert!(waiting.keys.is_empty());
        }
    }
}
