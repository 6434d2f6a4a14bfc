//! Who refers to whom around the tasks: what `unisono_watch::tasks::heap` is made of.
//!
//! From the tasks, and from the modules that they stand in, along everything that the collector sees, up to a bound.
//! Types, modules, loops, contexts and what is alive for ever are no nodes: what they refer to counts as referred to by
//! something unknown.

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasherDefault, Hasher},
};

use unisono_watch::tasks::heap::{Heap, NodeKind};

use super::kinds::Kinds;
use crate::ffi::looking::{Awaitable, Seen};

/// What is known of some objects before they are met.
#[derive(Default)]
pub struct Known {
    /// By address: tasks that are not done.
    pub tasks: HashMap<usize, usize>,
    /// What tasks are made of, and tasks that a loop was begun for: references to these mean nothing.
    pub parts: HashSet<usize>,
    /// Names of the program's modules.
    pub globals: HashSet<usize>,
    /// What is no node: loops, names of other modules.
    pub outside: HashSet<usize>,
}

/// A graph, and what its nodes are.
struct Graph<'look> {
    heap: Heap,
    objects: Vec<Seen<'look>>,
    by_address: HashMap<usize, usize, BuildHasherDefault<AddressHasher>>,
    /// By node: references that other nodes hold.
    held: Vec<isize>,
}

/// The graph around some objects, of which those in `acting` may act. References that are `idle` cannot be used by what
/// has them.
pub fn heap<'look>(
    kinds: &Kinds<'look>,
    known: &Known,
    starts: &[Seen<'look>],
    acting: &[Seen<'look>],
    idle: &[Seen<'look>],
) -> Heap {
    let mut graph =
        Graph { heap: Heap::default(), objects: Vec::new(), by_address: HashMap::default(), held: Vec::new() };
    let bound = NODES + NODES_PER_TASK * known.tasks.len();
    for &start in starts {
        graph.node(known, start);
    }
    for &object in acting.iter().filter(|object| is_node(known, **object)) {
        let node = graph.node(known, object);
        graph.heap.root(node);
    }
    let mut next = 0;
    let mut referents = Vec::new();
    let mut to = Vec::new();
    while next < graph.objects.len() && graph.objects.len() < bound {
        referents.clear();
        to.clear();
        graph.objects[next].referents(&mut referents);
        for &object in &referents {
            if is_node(known, object) {
                let node = graph.node(known, object);
                graph.held[node] += 1;
                to.push(node);
            }
        }
        graph.heap.link(next, to.iter().copied());
        next += 1;
    }
    for object in idle {
        if let Some(&node) = graph.by_address.get(&object.address()) {
            graph.held[node] += 1;
        }
    }
    for (node, &object) in graph.objects.iter().enumerate() {
        let is_exempt = graph.heap.kind(node) == NodeKind::Global || known.parts.contains(&object.address());
        if !is_exempt && (object.references() > graph.held[node] || is_weak(kinds, object)) {
            graph.heap.root(node);
        }
    }
    graph.heap
}

impl<'look> Graph<'look> {
    fn node(&mut self, known: &Known, object: Seen<'look>) -> usize {
        *self.by_address.entry(object.address()).or_insert_with(|| {
            let kind = match known.tasks.get(&object.address()) {
                Some(&task) => NodeKind::Task(task),
                None if known.globals.contains(&object.address()) || is_plain_function(object) => NodeKind::Global,
                None => NodeKind::Plain,
            };
            self.objects.push(object);
            self.held.push(0);
            self.heap.add(kind)
        })
    }
}

/// Whether what it refers to is looked at.
fn is_node(known: &Known, object: Seen<'_>) -> bool {
    object.is_container()
        && !object.is_immortal()
        && !object.is_type()
        && !object.is_module()
        && !object.is_context()
        && !known.outside.contains(&object.address())
}

/// A function that holds nothing of its own can only reach what its module can.
fn is_plain_function(object: Seen<'_>) -> bool {
    object.has_no_closure()
}

/// Whether something may get at an object by a weak reference: all but those that the interpreter itself makes.
fn is_weak<'look>(kinds: &Kinds<'look>, object: Seen<'look>) -> bool {
    object.is_weakly_referenced() && !kinds.is_future(object) && object.awaitable() != Some(Awaitable::AsyncGenerator)
}

/// Addresses are spread by one multiplication.
#[derive(Default)]
struct AddressHasher(u64);

impl Hasher for AddressHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_usize(usize::from(byte));
        }
    }

    fn write_usize(&mut self, number: usize) {
        // 2^64 divided by the golden ratio; the low bits, by which tables are looked up, come from the high ones.
        self.0 = (self.0 ^ number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

/// Objects that are looked at, whatever the number of tasks.
const NODES: usize = 60_000;
/// And for each task.
const NODES_PER_TASK: usize = 30;
