//! The types that a look knows, and how what they have is read.
//!
//! They are found where the interpreter and its standard library keep them, and only in modules that the program has
//! imported. A type that is not there is never met.

use std::{cell::RefCell, collections::HashMap, ffi::CStr};

use unisono_watch::tasks::ThingKind;

use crate::ffi::looking::{Look, Seen};

/// What a look knows of types.
pub struct Kinds<'look> {
    pub look: &'look Look,
    names: RefCell<HashMap<&'static CStr, Seen<'look>>>,
    task: Option<Seen<'look>>,
    python_task: Option<Seen<'look>>,
    future: Option<Seen<'look>>,
    python_future: Option<Seen<'look>>,
    pub thread_future: Option<Seen<'look>>,
    pub gathering: Option<Seen<'look>>,
    pub timer_handle: Option<Seen<'look>>,
    pub other_timer_handle: Option<Seen<'look>>,
    pub timeout: Option<Seen<'look>>,
    pub task_group: Option<Seen<'look>>,
    pub reader: Option<Seen<'look>>,
    pub process: Option<Seen<'look>>,
    pub cancelled: Option<Seen<'look>>,
    pub stock_loop: Option<Seen<'look>>,
    pub limiter: Option<Seen<'look>>,
    pub cancel_scope: Option<Seen<'look>>,
    pub ping: Option<Seen<'look>>,
    things: Vec<(Seen<'look>, ThingKind)>,
}

/// How far a future is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Pending,
    Done,
}

impl<'look> Kinds<'look> {
    pub fn new(look: &'look Look) -> Self {
        let of = |module, name| look.of_module(module, name).filter(|kind| kind.is_type());
        let things = [
            (c"asyncio.queues", c"Queue", ThingKind::Queue),
            (c"asyncio.locks", c"Event", ThingKind::Event),
            (c"asyncio.locks", c"Condition", ThingKind::Condition),
            (c"asyncio.locks", c"Lock", ThingKind::Lock),
            (c"asyncio.locks", c"Semaphore", ThingKind::Semaphore),
            (c"asyncio.locks", c"Barrier", ThingKind::Barrier),
        ];
        Self {
            look,
            names: RefCell::default(),
            task: of(c"_asyncio", c"Task"),
            python_task: of(c"asyncio.tasks", c"_PyTask"),
            future: of(c"_asyncio", c"Future"),
            python_future: of(c"asyncio.futures", c"_PyFuture"),
            thread_future: of(c"concurrent.futures._base", c"Future"),
            gathering: of(c"asyncio.tasks", c"_GatheringFuture"),
            timer_handle: of(c"asyncio.events", c"TimerHandle"),
            other_timer_handle: of(c"uvloop.loop", c"TimerHandle"),
            timeout: of(c"asyncio.timeouts", c"Timeout"),
            task_group: of(c"asyncio.taskgroups", c"TaskGroup"),
            reader: of(c"asyncio.streams", c"StreamReader"),
            process: of(c"asyncio.subprocess", c"Process"),
            cancelled: of(c"asyncio.exceptions", c"CancelledError"),
            stock_loop: of(c"asyncio.base_events", c"BaseEventLoop"),
            limiter: of(c"anyio._backends._asyncio", c"CapacityLimiter"),
            cancel_scope: of(c"anyio._backends._asyncio", c"CancelScope"),
            ping: of(c"unisono._native", c"LoopPing"),
            things: things.into_iter().filter_map(|(module, name, kind)| Some((of(module, name)?, kind))).collect(),
        }
    }

    /// A text to look for attributes by, made once.
    pub fn name(&self, text: &'static CStr) -> Seen<'look> {
        *self.names.borrow_mut().entry(text).or_insert_with(|| self.look.name(text))
    }

    /// An attribute: of C, or of the instance itself.
    pub fn get(&self, of: Seen<'look>, name: &'static CStr) -> Option<Seen<'look>> {
        self.look.field(of, self.name(name)).filter(|value| !value.is_none())
    }

    pub fn is_a(object: Seen<'look>, kind: Option<Seen<'look>>) -> bool {
        kind.is_some_and(|kind| object.is_a(kind))
    }

    pub fn is_task(&self, object: Seen<'look>) -> bool {
        Self::is_a(object, self.task) || Self::is_a(object, self.python_task)
    }

    pub fn is_future(&self, object: Seen<'look>) -> bool {
        Self::is_a(object, self.future) || Self::is_a(object, self.python_future)
    }

    pub fn is_timer(&self, object: Seen<'look>) -> bool {
        Self::is_a(object, self.timer_handle) || Self::is_a(object, self.other_timer_handle)
    }

    /// An attribute of a future or task, past those that a class of the program may have put in front of it.
    pub fn of_future(&self, object: Seen<'look>, name: &'static CStr) -> Option<Seen<'look>> {
        let base = [self.task, self.future].into_iter().flatten().find(|base| object.is_a(*base));
        let name_of = self.name(name);
        match base.and_then(|base| base.in_type(name_of)) {
            Some(getter) => self.look.member(getter, object).filter(|value| !value.is_none()),
            None => self.get(object, name),
        }
    }

    /// How far a future is, if it says so.
    pub fn state(&self, future: Seen<'look>) -> Option<State> {
        let state = self.of_future(future, c"_state")?.text()?;
        Some(if state == "PENDING" { State::Pending } else { State::Done })
    }

    /// How often a task was asked to stop.
    pub fn cancels(&self, task: Seen<'look>) -> u32 {
        let count = match self.task.filter(|kind| task.is_a(*kind)) {
            Some(kind) => kind.in_type(self.name(c"cancelling")).and_then(|method| self.look.called(method, task)),
            None => self.get(task, c"_num_cancels_requested"),
        };
        count.and_then(Seen::whole).and_then(|count| u32::try_from(count).ok()).unwrap_or(0)
    }

    /// The name of a task, if it is plain text.
    pub fn task_name(&self, task: Seen<'look>) -> Option<String> {
        let name = match self.task.filter(|kind| task.is_a(*kind)) {
            Some(kind) => kind.in_type(self.name(c"get_name")).and_then(|method| self.look.called(method, task)),
            None => self.get(task, c"_name"),
        };
        name?.text()
    }

    /// What kind of a thing to wait in an object is.
    pub fn thing(&self, object: Seen<'look>) -> Option<ThingKind> {
        self.things.iter().find(|(kind, _)| object.is_a(*kind)).map(|(_, kind)| *kind)
    }

    /// The functions of Python's that are called when a future is done.
    ///
    /// They are read from what the future refers to, since its own list would be made anew, and count as references.
    pub fn callbacks(&self, future: Seen<'look>) -> Vec<Seen<'look>> {
        let mut found = self.referents(future);
        let lists: Vec<_> = found.iter().filter(|object| object.is_list()).copied().collect();
        let kept = self.get(future, c"_callbacks").filter(|_| !Self::is_a(future, self.future));
        for pair in lists.into_iter().chain(kept).flat_map(|list| self.referents(list)) {
            pair.referents(&mut found);
        }
        found.retain(|object| object.function_code().is_some());
        found
    }

    /// Everything that an object refers to.
    pub fn referents(&self, object: Seen<'look>) -> Vec<Seen<'look>> {
        let mut referents = Vec::new();
        object.referents(&mut referents);
        referents
    }
}
