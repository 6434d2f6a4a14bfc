//! Deadlocks: tasks each of which waits for tasks that wait as well, without an end.
//!
//! The largest set in which every task needs others of the set, and nothing else: who waits for a lock needs its
//! holder, for a semaphore all of its holders, for tasks each of these. A task with a deadline is in none: it goes on
//! by itself.

use super::finding::{Certainty, Finding, Kind, Line};
use crate::tasks::{Snapshot, ThingKind, Wait};

/// The tasks of a snapshot that are deadlocked, and those that wait for them.
pub struct Deadlocks {
    /// By task: whom it needs, where it is in the set.
    needs: Vec<Option<Vec<usize>>>,
}

impl Deadlocks {
    pub fn of(snapshot: &Snapshot) -> Self {
        let holders = snapshot.all_holders();
        let mut needs: Vec<_> = (0..snapshot.tasks.len()).map(|task| needed(snapshot, &holders, task)).collect();
        // Whoever is let go frees those that need it.
        let mut needed_by = vec![Vec::new(); needs.len()];
        for (task, needed) in needs.iter().enumerate() {
            needed.iter().flatten().for_each(|&other| needed_by[other].push(task));
        }
        let mut free: Vec<_> = (0..needs.len()).filter(|&task| needs[task].is_none()).collect();
        while let Some(task) = free.pop() {
            for &other in &needed_by[task] {
                if needs[other].take().is_some() {
                    free.push(other);
                }
            }
        }
        Self { needs }
    }

    /// Whether a task is deadlocked, or waits for one that is.
    pub fn has(&self, task: usize) -> bool {
        self.needs[task].is_some()
    }

    pub fn findings(&self, snapshot: &Snapshot) -> Vec<Finding> {
        let mut is_told = vec![false; self.needs.len()];
        let mut found = Vec::new();
        for start in (0..self.needs.len()).filter(|&task| self.has(task)) {
            let cycle = self.cycle(start);
            if cycle.iter().any(|&task| is_told[task]) {
                continue;
            }
            cycle.iter().for_each(|&task| is_told[task] = true);
            found.push(self.finding(snapshot, cycle));
        }
        found
    }

    /// A cycle that the needs of a task of the set end in.
    fn cycle(&self, start: usize) -> Vec<usize> {
        let mut place = vec![None; self.needs.len()];
        let mut path = Vec::new();
        let mut task = start;
        loop {
            if let Some(begin) = place[task] {
                return path.split_off(begin);
            }
            place[task] = Some(path.len());
            path.push(task);
            task = self.needs[task].as_ref().expect("who is in the set needs others of it")[0];
        }
    }

    fn finding(&self, snapshot: &Snapshot, mut cycle: Vec<usize>) -> Finding {
        // The innermost waits say more than those for whole tasks.
        let rest = cycle.iter().position(|&task| matches!(snapshot.tasks[task].wait, Wait::Thing { .. }));
        cycle.rotate_left(rest.unwrap_or(0));
        let others = (0..self.needs.len()).filter(|task| self.has(*task) && !cycle.contains(task)).count();
        let more = match others {
            0 => String::new(),
            1 => "; 1 more task waits for such".into(),
            others => format!("; {others} more tasks wait for such"),
        };
        let headline = match cycle[..] {
            [only] => format!("{} waits for itself{more}", snapshot.task_words(only)),
            _ => format!("{} tasks wait for each other{more}", cycle.len()),
        };
        let lines = cycle.iter().map(|&task| Line::of_task(snapshot, task)).collect();
        Finding { kind: Kind::Deadlock, certainty: Certainty::Proved, headline, lines, tasks: cycle }
    }
}

/// The tasks that a task needs to go on, if it needs tasks and nothing else.
fn needed(snapshot: &Snapshot, holders: &[Vec<usize>], task: usize) -> Option<Vec<usize>> {
    let task = &snapshot.tasks[task];
    if task.has_deadline || task.is_woken {
        return None;
    }
    let needed: Vec<usize> = match &task.wait {
        Wait::Tasks { of, others: 0, .. } => of.clone(),
        Wait::Thing { thing, .. } => {
            let seen = &snapshot.things[*thing];
            let holders = &holders[*thing];
            let is_full = match seen.kind {
                ThingKind::Lock => seen.is_taken && holders.len() == 1,
                ThingKind::Semaphore => seen.is_taken && seen.places.is_some_and(|places| holders.len() >= places),
                _ => false,
            };
            is_full.then(|| holders.clone())?
        }
        _ => return None,
    };
    (!needed.is_empty()).then_some(needed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tasks::{Hold, Site, Task, Thing};

    /// Locks, by the task that holds each, and tasks by the lock that each waits for.
    fn bank(holders: &[usize], waits: &[Option<usize>]) -> Snapshot {
        let mut snapshot = Snapshot {
            sites: vec![Site {
                file: "bank.py".into(),
                line: 1,
                function: "move".into(),
                is_framework: false,
                role: None,
            }],
            ..Snapshot::default()
        };
        for wait in waits {
            let wait = wait.map_or(Wait::Ready, |thing| Wait::Thing { thing, call: "Lock.acquire" });
            snapshot.tasks.push(Task { wait, stack: vec![0], ..Task::default() });
        }
        for (thing, &holder) in holders.iter().enumerate() {
            snapshot.things.push(Thing { kind: ThingKind::Lock, number: thing, is_taken: true, places: None });
            snapshot.tasks[holder].holds.push(Hold { thing, site: 0 });
        }
        snapshot
    }

    #[test]
    fn locks_in_opposite_order_are_one_deadlock_of_two_tasks() {
        let snapshot = bank(&[0, 1], &[Some(1), Some(0), Some(0), None]);
        let found = Deadlocks::of(&snapshot).findings(&snapshot);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].tasks, [0, 1]);
        assert_eq!(found[0].headline, "2 tasks wait for each other; 1 more task waits for such");
    }

    #[test]
    fn a_lock_that_is_taken_twice_is_a_deadlock_of_one_task() {
        let snapshot = bank(&[0], &[Some(0)]);
        assert_eq!(Deadlocks::of(&snapshot).findings(&snapshot)[0].headline, "task #0 waits for itself");
    }

    #[test]
    fn a_time_limit_ends_a_deadlock() {
        let mut snapshot = bank(&[0, 1], &[Some(1), Some(0)]);
        snapshot.tasks[1].has_deadline = true;
        assert!(Deadlocks::of(&snapshot).findings(&snapshot).is_empty());
    }

    proptest! {
        #[test]
        fn whoever_is_deadlocked_waits_along_others_without_end(
            holders in prop::collection::vec(0..8_usize, 1..6), waits in prop::collection::vec(prop::option::of(0..6_usize), 8),
        ) {
            let waits: Vec<_> = waits.into_iter().map(|wait| wait.map(|thing| thing % holders.len())).collect();
            let snapshot = bank(&holders, &waits);
            let deadlocks = Deadlocks::of(&snapshot);
            for start in 0..waits.len() {
                let mut at = start;
                let mut steps = 0;
                while let Some(thing) = waits[at].filter(|_| steps <= waits.len()) {
                    at = holders[thing];
                    steps += 1;
                }
                prop_assert_eq!(deadlocks.has(start), steps > waits.len());
            }
        }
    }
}
