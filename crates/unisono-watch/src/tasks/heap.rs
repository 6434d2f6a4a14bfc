//! Who refers to whom, around the tasks: the part of a program's objects by which a task could be woken.
//!
//! A node is an object. It is *rooted* where something refers to it that is no node: a count of references that is
//! larger than what the nodes hold, or a weak reference. So whatever was not looked at, and whatever C holds without
//! showing it, counts as something that may act. Nothing is lost by looking at less, but findings.

use std::ops::Range;

/// A graph of objects.
#[derive(Debug, Clone, Default)]
pub struct Heap {
    nodes: Vec<Node>,
    edges: Vec<u32>,
    /// By task: its node.
    tasks: Vec<Option<u32>>,
}

/// An object.
#[derive(Debug, Clone)]
struct Node {
    kind: NodeKind,
    is_rooted: bool,
    edges: Range<u32>,
}

/// What kind of an object a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    /// Any.
    Plain,
    /// A task that is not done: what it refers to is in reach only once it can move itself.
    Task(usize),
    /// The names of a module of the program, or a function that holds nothing: in reach of all code, if any still runs.
    Global,
}

impl Heap {
    /// Adds an object without referents. Returns its number.
    pub fn add(&mut self, kind: NodeKind) -> usize {
        let number = self.nodes.len();
        if let NodeKind::Task(task) = kind {
            if self.tasks.len() <= task {
                self.tasks.resize(task + 1, None);
            }
            self.tasks[task] = u32::try_from(number).ok();
        }
        self.nodes.push(Node { kind, is_rooted: false, edges: 0..0 });
        number
    }

    /// What an object refers to.
    pub fn link(&mut self, from: usize, to: impl IntoIterator<Item = usize>) {
        let start = self.edges.len() as u32;
        self.edges.extend(to.into_iter().map(|node| node as u32));
        self.nodes[from].edges = start..self.edges.len() as u32;
    }

    /// Something that is no node refers to it.
    pub fn root(&mut self, node: usize) {
        self.nodes[node].is_rooted = true;
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// What kind of an object it is.
    pub fn kind(&self, node: usize) -> NodeKind {
        self.nodes[node].kind
    }

    /// Whether something that is no node refers to it.
    pub fn is_rooted(&self, node: usize) -> bool {
        self.nodes[node].is_rooted
    }

    /// What it refers to.
    pub fn referents(&self, node: usize) -> impl Iterator<Item = usize> + '_ {
        let Range { start, end } = self.nodes[node].edges.clone();
        self.edges[start as usize..end as usize].iter().map(|&node| node as usize)
    }

    /// The node of a task, if it was looked at.
    pub fn of_task(&self, task: usize) -> Option<usize> {
        self.tasks.get(task).copied().flatten().map(|node| node as usize)
    }
}
