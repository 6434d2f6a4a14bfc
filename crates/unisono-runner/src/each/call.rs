//! A command as a kind of work: what an item asks for, and what became of it.

use std::{
    borrow::Cow,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use unisono_commands::{Command, Output, Stdin};
use unisono_core::{ErrorKind, Peer};
use unisono_journal::{Members, Repeat};
use xxhash_rust::xxh3::Xxh3;

use crate::{
    each::recipe::{Places, Recipe, Safety, Values, Word, digest},
    saves::with_suffix,
    work::{Call, Done},
};

/// What an item asks for.
#[derive(Debug)]
pub struct EachCall {
    /// The command.
    pub recipe: Arc<Recipe>,
    /// What to fill in.
    pub values: Values,
    /// What it reads, where that is the item itself.
    pub block: Option<Bytes>,
    /// What its limits are kept by.
    pub(crate) limit_key: Box<str>,
}

/// What is known when an item starts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbered {
    /// The item's number, from 1.
    pub sequence: u64,
    /// The slot it runs in, from 1.
    pub slot: usize,
    /// 1 for the first attempt.
    pub attempt: u16,
}

/// What was run, and what became of it.
#[derive(Debug, Default)]
pub struct CommandResult {
    /// The item, as one text.
    pub item: Vec<u8>,
    /// The item's number, from 1; 0 when it was not started.
    pub sequence: u64,
    /// The program and its arguments.
    pub argv: Vec<OsString>,
    /// Its exit code; 127 and 126 for what was not found or cannot be executed.
    pub exit: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// When it was started.
    pub started: Option<SystemTime>,
    /// Processor time, in microseconds.
    pub cpu_micros: u64,
    /// Its largest resident set, in bytes.
    pub peak_memory: u64,
    /// What it printed.
    pub stdout: Output,
    /// What it printed to standard error.
    pub stderr: Output,
    /// Where its output was saved to.
    pub saved: Option<PathBuf>,
    /// Where what it printed to standard error was saved to.
    pub saved_stderr: Option<PathBuf>,
    /// Processes that outlived it and were ended.
    pub left_over: u32,
    /// Another process still held its pipes when it was given up to read them.
    pub pipes_held: bool,
    /// What it is limited by beside the whole; empty where there is no key.
    pub key: Box<str>,
    /// What its end says of whatever its key stands for.
    pub peer: Peer,
    /// Why it did not go well.
    pub error: Option<(ErrorKind, String)>,
}

/// How outcomes of commands are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EachStyle {
    /// With what they printed: the first mebibyte of each stream, as text or as base64.
    #[default]
    Full,
    /// Without what they printed.
    Brief,
}

impl EachCall {
    /// What an item asks for that brings these values, and `block` to read.
    ///
    /// # Errors
    /// When its command cannot be made: that is known before anything of it is started.
    pub fn new(recipe: Arc<Recipe>, values: Values, block: Option<Bytes>) -> Result<Self, String> {
        let limit_key = match &recipe.limit_key {
            None => String::new(),
            Some(word) => word.fill(&values, Places::default(), Safety::Plain)?.to_string_lossy().into_owned(),
        };
        let call = Self { recipe, values, block, limit_key: limit_key.into() };
        call.argv(Places::default())?;
        Ok(call)
    }

    /// The program and its arguments.
    ///
    /// # Errors
    /// When something is missing to fill in, or it holds a NUL, which no argument can.
    pub fn argv(&self, numbers: Places) -> Result<Vec<OsString>, String> {
        let safety = if self.recipe.shell { Safety::Shell } else { Safety::Plain };
        let filled = self.recipe.argv.iter().map(|word| word.fill(&self.values, numbers, safety));
        let mut argv: Vec<OsString> = filled.collect::<Result<_, _>>()?;
        if self.recipe.shell {
            argv = vec!["sh".into(), "-c".into(), argv.join(OsStr::new(" "))];
            if self.recipe.passes_items {
                argv.push("sh".into());
                argv.extend(self.values.positions.iter().map(|value| OsStr::from_bytes(value).to_owned()));
            }
        }
        let values = self.values.positions.iter().chain(self.values.columns.iter().map(|(_, value)| value));
        values.into_iter().try_for_each(|value| super::recipe::guard(self.recipe.guarded_by.as_deref(), value))?;
        if argv.iter().any(|word| word.as_bytes().contains(&0)) {
            return Err("the item holds a NUL, which no argument can (let the command read it)".to_owned());
        }
        Ok(argv)
    }

    /// The item as one text.
    pub fn item(&self) -> Vec<u8> {
        match self.values.positions.is_empty() {
            false => self.values.positions.join(&b' '),
            true => self.values.columns.iter().map(|(_, value)| value.as_slice()).collect::<Vec<_>>().join(&b' '),
        }
    }

    /// What to start.
    pub(crate) fn command(&self, numbered: Numbered) -> Result<Command, String> {
        let numbers = Places { sequence: Some(numbered.sequence), slot: Some(numbered.slot) };
        let recipe = &*self.recipe;
        let plain = |word: &Word| word.fill(&self.values, numbers, Safety::Plain);
        let mut environment = Vec::with_capacity(recipe.environment.len() + 4);
        for (name, value) in &recipe.environment {
            environment.push((name.clone(), plain(value)?));
        }
        let item = self.item();
        // The kernel bounds a variable as it bounds an argument (`MAX_ARG_STRLEN`); one that is read need not be one.
        if item.len() <= LARGEST_VARIABLE_BYTES && !item.contains(&0) {
            environment.push(("UNISONO_ITEM".into(), std::os::unix::ffi::OsStringExt::from_vec(item)));
        }
        environment.push(("UNISONO_SEQ".into(), numbered.sequence.to_string().into()));
        environment.push(("UNISONO_SLOT".into(), numbered.slot.to_string().into()));
        environment.push(("UNISONO_ATTEMPT".into(), numbered.attempt.to_string().into()));
        let stdin = match (&self.block, &recipe.stdin) {
            (Some(block), _) => Stdin::Bytes(block.clone()),
            (None, Some(word)) => Stdin::Bytes(std::os::unix::ffi::OsStringExt::into_vec(plain(word)?).into()),
            (None, None) if recipe.reads_terminal => Stdin::Terminal,
            (None, None) => Stdin::Null,
        };
        Ok(Command {
            argv: self.argv(numbers)?,
            folder: recipe.folder.as_ref().map(plain).transpose()?.map(PathBuf::from),
            inherited: recipe.inherited.clone(),
            environment,
            without: recipe.without.clone(),
            stdin,
            inherit_output: recipe.inherit_output,
        })
    }
}

impl Call for EachCall {
    type Done = CommandResult;

    /// Over what is run, but not over the numbers of item and slot, which change when the input does.
    fn fingerprint(&self) -> u64 {
        let mut hash = Xxh3::new();
        let recipe = &*self.recipe;
        let words = recipe.argv.iter().chain(&recipe.folder).chain(&recipe.stdin);
        words.chain(recipe.environment.iter().map(|(_, value)| value)).for_each(|word| word.digest(&mut hash));
        recipe.environment.iter().for_each(|(name, _)| digest(name.as_bytes(), &mut hash));
        hash.update(&[u8::from(recipe.shell)]);
        self.values.positions.iter().for_each(|value| digest(value, &mut hash));
        for (name, value) in &self.values.columns {
            digest(name.as_bytes(), &mut hash);
            digest(value, &mut hash);
        }
        digest(self.block.as_deref().unwrap_or_default(), &mut hash);
        hash.digest()
    }

    fn limit_key(&self) -> Cow<'_, str> {
        (&*self.limit_key).into()
    }

    fn repeat(&self) -> Repeat {
        if self.recipe.repeatable { Repeat::ByNature } else { Repeat::Never }
    }

    const REPEATABLE_WITH: &'static str = "--idempotent";

    fn save_names(&self, sequence: u64) -> Result<Vec<PathBuf>, String> {
        let Some(word) = &self.recipe.save else { return Ok(Vec::new()) };
        let numbers = Places { sequence: Some(sequence), slot: None };
        let name = PathBuf::from(word.fill(&self.values, numbers, Safety::FileName)?);
        let stderr = with_suffix(&name, ".stderr");
        Ok(vec![name, stderr])
    }

    fn describe(&self, done: &mut CommandResult) {
        done.item = self.item();
        done.key.clone_from(&self.limit_key);
        if done.argv.is_empty() {
            // An item whose command cannot be made has said so already.
            done.argv = self.argv(Places::default()).unwrap_or_default();
        }
    }
}

impl CommandResult {
    pub(crate) fn of_error(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { error: Some((kind, message.into())), ..Self::default() }
    }
}

impl Done for CommandResult {
    type Style = EachStyle;

    fn failed(kind: ErrorKind, message: String) -> Self {
        Self::of_error(kind, message)
    }

    fn error(&self) -> Option<(ErrorKind, String)> {
        self.error.clone()
    }

    fn group(&self) -> Option<Cow<'_, str>> {
        (!self.key.is_empty()).then(|| (&*self.key).into())
    }

    fn label(&self) -> Option<Cow<'_, str>> {
        (!self.item.is_empty()).then(|| String::from_utf8_lossy(&self.item))
    }

    fn bytes(&self) -> u64 {
        self.stdout.len() + self.stderr.len()
    }

    fn peer(&self) -> Peer {
        self.peer
    }

    fn has_saved(&mut self, place: usize, name: PathBuf, _length: u64) {
        if place == 0 {
            self.saved.get_or_insert(name);
        } else if self.saved.as_ref().is_none_or(|saved| with_suffix(saved, ".stderr") == name) {
            // Another one is of a run that saved under other names, and not what was printed beside this output.
            self.saved_stderr.get_or_insert(name);
        }
    }

    fn push_subject(&self, fields: &mut Members<'_>) {
        fields.bytes("item", &self.item);
        // What is not text is exact in `item_base64`.
        fields.list("command", |words| self.argv.iter().for_each(|word| words.text(&word.to_string_lossy())));
    }

    fn push_result(&self, style: EachStyle, fields: &mut Members<'_>, body: &mut Members<'_>) {
        if let Some(exit) = self.exit {
            fields.number("exit", exit);
        }
        if let Some(signal) = self.signal {
            fields.number("signal", signal);
        }
        if let Some(started) = self.started.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()) {
            fields.seconds("started", started);
            fields.seconds("cpu_seconds", Duration::from_micros(self.cpu_micros));
            fields.number("peak_memory", self.peak_memory);
        }
        if self.left_over > 0 {
            fields.number("left_over", self.left_over);
        }
        if self.pipes_held {
            fields.flag("pipes_held", true);
        }
        for (name, path) in [("saved", &self.saved), ("saved_stderr", &self.saved_stderr)] {
            if let Some(path) = path {
                fields.bytes(name, path.as_os_str().as_bytes());
            }
        }
        for (name, size, output) in [("stdout", "stdout_bytes", &self.stdout), ("stderr", "stderr_bytes", &self.stderr)]
        {
            let is_cut = output.len() > output.head().len() as u64;
            if is_cut || (style == EachStyle::Brief && !output.is_empty()) {
                fields.number(size, output.len());
            }
            if style == EachStyle::Full && !output.is_empty() {
                body.bytes(name, output.head());
            }
        }
    }
}

/// Half of what the kernel lets one argument or variable be long on a machine with pages of 4 KiB.
const LARGEST_VARIABLE_BYTES: usize = 64 << 10;
