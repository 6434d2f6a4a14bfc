//! Where coroutines and threads stand: from the outermost function to the innermost, each with its line.

use std::{cell::RefCell, collections::HashMap};

use unisono_watch::tasks::{
    Site,
    roles::Role,
    with_blocks::{Instructions, with_blocks},
};

use super::kinds::Kinds;
use crate::ffi::looking::{Awaitable, Seen};

/// What is the program's own, how its files are shown, and how its code is read.
#[derive(Debug, Clone)]
pub struct Files {
    /// Folders of the standard library and of packages, each with a slash at its end.
    pub framework: Vec<String>,
    /// The current folder, with a slash at its end.
    pub here: String,
    /// The instructions of this interpreter.
    pub instructions: Instructions,
}

/// The lines that were met, each once.
pub struct Stacks<'a, 'look> {
    kinds: &'a Kinds<'look>,
    files: &'a Files,
    sites: RefCell<Sites>,
}

#[derive(Default)]
struct Sites {
    all: Vec<Site>,
    /// By the address of a code object, and the instruction.
    by_instruction: HashMap<(usize, i32), usize>,
    by_line: HashMap<Site, usize>,
    /// As `by_instruction`: the lines of each `with` around it.
    with_lines: HashMap<(usize, i32), Vec<usize>>,
}

/// A step of what a task awaits.
#[derive(Debug, Clone, Copy)]
pub struct Link<'look> {
    /// The coroutine, generator, or what wraps one.
    pub object: Seen<'look>,
    /// Its frame.
    pub frame: Option<Seen<'look>>,
    /// Where that stands.
    pub site: Option<usize>,
}

impl<'a, 'look> Stacks<'a, 'look> {
    pub fn new(kinds: &'a Kinds<'look>, files: &'a Files) -> Self {
        Self { kinds, files, sites: RefCell::default() }
    }

    pub fn into_sites(self) -> Vec<Site> {
        self.sites.into_inner().all
    }

    pub fn role(&self, site: usize) -> Option<Role> {
        self.sites.borrow().all[site].role
    }

    pub fn is_framework(&self, site: usize) -> bool {
        self.sites.borrow().all[site].is_framework
    }

    /// From the coroutine of a task to the innermost that is awaited.
    pub fn chain(&self, coroutine: Seen<'look>) -> Vec<Link<'look>> {
        let mut chain: Vec<Link<'look>> = Vec::new();
        let mut next = Some(coroutine);
        while let Some(object) = next.filter(|_| chain.len() < DEEPEST) {
            let (frame, awaited) = match object.awaitable() {
                Some(Awaitable::Coroutine) => (c"cr_frame", c"cr_await"),
                Some(Awaitable::Generator) => (c"gi_frame", c"gi_yieldfrom"),
                Some(Awaitable::AsyncGenerator) => (c"ag_frame", c"ag_await"),
                None => {
                    next = self.wrapped(object);
                    chain.push(Link { object, frame: None, site: None });
                    continue;
                }
            };
            let frame = self.kinds.get(object, frame);
            chain.push(Link { object, frame, site: frame.and_then(|frame| self.site(frame)) });
            next = self.kinds.get(object, awaited).filter(|object| !self.kinds.is_future(*object));
        }
        chain
    }

    /// What an awaitable that is no coroutine itself leads to: a step of an asynchronous generator, a wrapper.
    fn wrapped(&self, object: Seen<'look>) -> Option<Seen<'look>> {
        if let Some(awaited) = self.kinds.get(object, c"cr_await") {
            return Some(awaited).filter(|object| !self.kinds.is_future(*object));
        }
        if object.kind().is_of_program() {
            return None;
        }
        self.kinds.referents(object).into_iter().find(|referent| referent.awaitable().is_some())
    }

    /// Where a thread stands, from its first function on.
    pub fn of_thread(&self, innermost: Seen<'look>) -> Vec<Link<'look>> {
        let mut stack = Vec::new();
        let mut next = Some(innermost);
        while let Some(frame) = next.filter(|_| stack.len() < DEEPEST_THREAD) {
            stack.push(Link { object: frame, frame: Some(frame), site: self.site(frame) });
            next = self.kinds.look.caller(frame);
        }
        stack.reverse();
        stack
    }

    /// Where a frame stands.
    pub fn site(&self, frame: Seen<'look>) -> Option<usize> {
        let code = self.kinds.look.code(frame)?;
        let key = (code.address(), frame.instruction()?);
        if let Some(&site) = self.sites.borrow().by_instruction.get(&key) {
            return Some(site);
        }
        let site = self.of_code(code, frame.line().unwrap_or(0))?;
        self.sites.borrow_mut().by_instruction.insert(key, site);
        Some(site)
    }

    /// The lines of each `with` that a frame is inside of, the innermost first.
    pub fn with_lines(&self, frame: Seen<'look>) -> Vec<usize> {
        let Some((code, at)) = self.kinds.look.code(frame).zip(frame.instruction()) else { return Vec::new() };
        let key = (code.address(), at);
        if let Some(lines) = self.sites.borrow().with_lines.get(&key) {
            return lines.clone();
        }
        let found = || {
            let at = usize::try_from(at).ok()?;
            let table = self.kinds.get(code, c"co_exceptiontable")?.bytes()?;
            let bytes = self.kinds.get(code, c"co_code")?.bytes()?;
            let handlers = with_blocks(&table, &bytes, at, self.files.instructions);
            Some(handlers.into_iter().filter_map(|handler| self.of_code(code, code.line_of(handler)?)).collect())
        };
        let lines: Vec<_> = found().unwrap_or_default();
        self.sites.borrow_mut().with_lines.insert(key, lines.clone());
        lines
    }

    /// A line of some code.
    pub fn of_code(&self, code: Seen<'look>, line: u32) -> Option<usize> {
        let file = self.kinds.get(code, c"co_filename")?.text()?;
        let function = self.kinds.get(code, c"co_qualname")?.text()?;
        Some(self.of_line(&file, line, function))
    }

    /// A line of a file.
    pub fn of_line(&self, file: &str, line: u32, function: String) -> usize {
        let is_framework = file.starts_with("<frozen")
            || file.contains("/site-packages/")
            || file.contains("/dist-packages/")
            || self.files.framework.iter().any(|folder| file.starts_with(folder));
        let role = if is_framework { Role::of(file, &function) } else { None };
        let shown = file.strip_prefix(&self.files.here).unwrap_or(file).to_owned();
        let site = Site { file: shown, line, function, is_framework, role };
        let mut sites = self.sites.borrow_mut();
        if let Some(&number) = sites.by_line.get(&site) {
            return number;
        }
        let number = sites.all.len();
        sites.all.push(site.clone());
        sites.by_line.insert(site, number);
        number
    }
}

/// A recursion of coroutines may be as deep as the interpreter lets it.
const DEEPEST: usize = 200;
const DEEPEST_THREAD: usize = 300;
