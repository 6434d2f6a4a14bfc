//! Which tasks can still move: the least set that holds what surely can, and what that may wake.
//!
//! A task can move that is ready, waits for time, the network, a process or a thread, or has a deadline. One that waits
//! for something else can move if something that may act has it in reach: it could complete the future, put into the
//! queue, release the lock, or cancel the task. What may act: objects that are rooted (`heap.rs`), tasks that can move
//! with all that they refer to, and, if anything moves at all, the names of the program's modules.
//!
//! The tasks that are left cannot be woken by anything that is visible, and since the snapshot was taken at one moment,
//! by nothing that has happened since it was begun.

use super::{
    Activity, Snapshot, Task, Wait,
    heap::{Heap, NodeKind},
};

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Liveness {
    /// By task.
    pub can_move: Vec<bool>,
    /// Something can still happen: a task, a timer, a socket, a signal, a thread.
    pub anything_runs: bool,
}

impl Liveness {
    /// Which tasks of a snapshot can move.
    pub fn of(snapshot: &Snapshot) -> Self {
        let mut reach = Reach::new(&snapshot.heap, snapshot.tasks.len());
        for (number, task) in snapshot.tasks.iter().enumerate() {
            if moves_by_itself(task) || snapshot.heap.of_task(number).is_none() {
                reach.task(number);
            }
        }
        for node in 0..snapshot.heap.len() {
            let is_global = snapshot.heap.kind(node) == NodeKind::Global;
            if snapshot.heap.is_rooted(node) && !is_global {
                reach.node(node);
            }
        }
        reach.spread();
        let waits = |task: &Task| !matches!(task.wait, Wait::Failed { .. });
        let anything_runs = acts_beside_tasks(snapshot)
            || snapshot.tasks.iter().zip(&reach.can_move).any(|(task, can_move)| *can_move && waits(task));
        if anything_runs {
            for node in 0..snapshot.heap.len() {
                if snapshot.heap.kind(node) == NodeKind::Global {
                    reach.node(node);
                }
            }
            reach.spread();
        }
        Self { can_move: reach.can_move, anything_runs }
    }
}

/// What may act is in reach of itself.
struct Reach<'a> {
    heap: &'a Heap,
    is_reached: Vec<bool>,
    can_move: Vec<bool>,
    /// Reached, and not yet what they refer to.
    left: Vec<usize>,
}

impl<'a> Reach<'a> {
    fn new(heap: &'a Heap, tasks: usize) -> Self {
        Self { heap, is_reached: vec![false; heap.len()], can_move: vec![false; tasks], left: Vec::new() }
    }

    fn task(&mut self, task: usize) {
        self.can_move[task] = true;
        if let Some(node) = self.heap.of_task(task) {
            self.node(node);
        }
    }

    fn node(&mut self, node: usize) {
        if !std::mem::replace(&mut self.is_reached[node], true) {
            self.left.push(node);
        }
    }

    fn spread(&mut self) {
        while let Some(node) = self.left.pop() {
            if let NodeKind::Task(task) = self.heap.kind(node) {
                self.can_move[task] = true;
            }
            for referent in self.heap.referents(node) {
                // Code reaches the names of its module, but only code that runs.
                if self.heap.kind(referent) != NodeKind::Global {
                    self.node(referent);
                }
            }
        }
    }
}

fn moves_by_itself(task: &Task) -> bool {
    task.is_woken
        || task.has_deadline
        || match task.wait {
            Wait::Tasks { others, .. } => others > 0,
            Wait::Thing { .. } | Wait::Future { .. } => false,
            _ => true,
        }
}

fn acts_beside_tasks(snapshot: &Snapshot) -> bool {
    let mut loops = snapshot.loops.iter();
    loops.any(|seen| seen.activity != Activity::Known { ready: 0, timers: 0, descriptors: 0, signals: 0 })
        || snapshot.pools.iter().any(|pool| !pool.busy.is_empty() || pool.waiting > 0)
        || snapshot.acts_beside_loops()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tasks::{Loop, Thing, ThingKind};

    /// Any heap with some tasks that wait in things, in a program where nothing else happens.
    fn any_snapshot() -> impl Strategy<Value = Snapshot> {
        let node = (0..6_u8, any::<bool>(), prop::collection::vec(0..24_usize, 0..4));
        prop::collection::vec(node, 1..24).prop_map(|nodes| {
            let mut snapshot = Snapshot {
                loops: vec![Loop {
                    activity: Activity::Known { ready: 0, timers: 0, descriptors: 0, signals: 0 },
                    ..Loop::default()
                }],
                things: vec![Thing { kind: ThingKind::Event, number: 0, is_taken: false, places: None }],
                ..Snapshot::default()
            };
            for (kind, is_ready, _) in &nodes {
                let kind = match kind {
                    0..2 => {
                        let wait = if *is_ready { Wait::Ready } else { Wait::Thing { thing: 0, call: "Event.wait" } };
                        snapshot.tasks.push(Task { wait, ..Task::default() });
                        NodeKind::Task(snapshot.tasks.len() - 1)
                    }
                    2 => NodeKind::Global,
                    _ => NodeKind::Plain,
                };
                snapshot.heap.add(kind);
            }
            for (number, (kind, is_rooted, edges)) in nodes.iter().enumerate() {
                snapshot.heap.link(number, edges.iter().map(|to| to % nodes.len()));
                if *kind > 2 && *is_rooted {
                    snapshot.heap.root(number);
                }
            }
            snapshot
        })
    }

    proptest! {
        #[test]
        fn what_is_in_reach_of_something_that_acts_can_move(snapshot in any_snapshot()) {
            let found = Liveness::of(&snapshot);
            for (number, task) in snapshot.tasks.iter().enumerate() {
                let Some(node) = snapshot.heap.of_task(number) else { continue };
                prop_assert!(!matches!(task.wait, Wait::Ready) || found.can_move[number]);
                for referent in snapshot.heap.referents(node) {
                    if let NodeKind::Task(other) = snapshot.heap.kind(referent) {
                        prop_assert!(!found.can_move[number] || found.can_move[other]);
                    }
                }
            }
        }

        #[test]
        fn one_more_that_may_act_makes_no_task_stuck(snapshot in any_snapshot(), node in 0..24_usize) {
            let before = Liveness::of(&snapshot);
            let mut after = snapshot.clone();
            after.heap.root(node % snapshot.heap.len());
            let after = Liveness::of(&after);
            for (task, could) in before.can_move.iter().enumerate() {
                prop_assert!(!could || after.can_move[task]);
            }
        }

        #[test]
        fn where_nothing_may_act_nothing_moves(mut snapshot in any_snapshot()) {
            let mut heap = Heap::default();
            for node in 0..snapshot.heap.len() {
                heap.add(snapshot.heap.kind(node));
            }
            (0..snapshot.heap.len()).for_each(|node| heap.link(node, snapshot.heap.referents(node)));
            snapshot.heap = heap;
            snapshot.tasks.iter_mut().for_each(|task| task.wait = Wait::Thing { thing: 0, call: "Event.wait" });
            let found = Liveness::of(&snapshot);
            prop_assert!(!found.anything_runs && found.can_move.iter().all(|can_move| !can_move));
        }
    }
}
