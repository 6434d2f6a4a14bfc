//! Commands: argument lists, or one command and its items, in; what they printed and how they ended out.
//!
//! We are a guest in the program's process, which may have other children: it is no subreaper, nothing here touches
//! SIGCHLD or waits for a child that is not ours, and the environment is copied when a run starts, on the thread of the
//! program, since reading it later would race with `os.environ`.
//!
//! Left out: files and pipes of the program as input or output, and terminals.

use std::{
    ffi::OsString,
    num::NonZeroU32,
    os::unix::ffi::{OsStrExt, OsStringExt},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use pyo3::{
    prelude::*,
    types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyMapping, PyString},
};
use unisono_core::{FOR_EVER, Limits, RetryPolicy, Times};
use unisono_runner::{
    CommandResult, EachCall, EachMaker, EachPlan, EachStyle, Grammar, Halting, Identity, KILL_AFTER, Recipe, Row,
    RowOrigin, RowOutcome, Settings, Values, Word, Worst,
    commands::{Pressure, guard::Gate},
    each, each_settings,
};

use crate::{
    options::{Keywords, ResultsOptions},
    outcomes::CommandOutcome,
    run::{EngineEnds, Face, Run},
    values::path_of,
};

/// Refuses keywords that are not what they should be, before anything is started.
#[pyfunction(signature = (template, **keywords))]
pub fn check_commands(
    py: Python<'_>,
    template: Option<&Bound<'_, PyAny>>,
    keywords: Option<&Bound<'_, PyDict>>,
) -> PyResult<()> {
    Parsed::of(py, template, keywords).map(drop)
}

/// Starts to run commands: with a template one command for each item, without one each item is a command.
#[pyfunction(signature = (template, *, keep_outcomes, **keywords))]
pub fn commands(
    py: Python<'_>,
    template: Option<&Bound<'_, PyAny>>,
    keep_outcomes: bool,
    keywords: Option<&Bound<'_, PyDict>>,
) -> PyResult<Run> {
    let Parsed { settings, mut results, rules, face, pipes } = Parsed::of(py, template, keywords)?;
    Run::start(py, face, &settings, keep_outcomes, async move |ends| {
        let EngineEnds { intake, outlet, cancel, monitor, gauge, log } = ends;
        let style = if rules.brief { EachStyle::Brief } else { EachStyle::Full };
        let saving = results.take_saving();
        let frame =
            results.frame(Box::new(intake), settings, style, outlet, &log, |open| open.identity = Identity::Content);
        let plan = EachPlan {
            frame,
            kill_after: rules.kill_after,
            expected: rules.expected,
            retry_exits: rules.retry_exits,
            away_exits: rules.away_exits,
            halting: Halting::default(),
            leave_running: rules.leave_running,
            max_output: rules.max_output,
            pipes,
            spool: rules.spool,
            pressure: rules.pressure,
            tagged: None,
            sole: false,
            gate: Gate::default(),
            terminal: None,
            on_stopped: None,
            worst: Worst::default(),
            saving,
        };
        each(plan, cancel, monitor, gauge).await
    })
}

/// What the keywords say.
struct Parsed {
    settings: Settings,
    results: ResultsOptions,
    rules: Rules,
    face: CommandFace,
    /// How many pipes each command has.
    pipes: u32,
}

impl Parsed {
    fn of(py: Python<'_>, template: Option<&Bound<'_, PyAny>>, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let keywords = Keywords::new(keywords.unwrap_or(&PyDict::new(py)))?;
        let surroundings = keywords.surroundings(py)?;
        let settings = keywords.command_settings(surroundings.per_key.is_some())?;
        let results = keywords.results(surroundings.save.is_some())?;
        let pipes = if surroundings.input.is_some() { 3 } else { 2 };
        let commands = match template {
            Some(command) => CommandMaker::template(&surroundings, command),
            None => CommandMaker::many(surroundings),
        };
        let commands = commands.map_err(|why| keywords.mistake(why))?;
        let rules = keywords.rules()?;
        let face = CommandFace { commands, text: keywords.flag("text")? };
        keywords.finish()?;
        Ok(Self { settings, results, rules, face, pipes })
    }
}

struct CommandFace {
    commands: CommandMaker,
    /// What was printed is text to the program.
    text: bool,
}

impl Face for CommandFace {
    type Asked = EachCall;
    type Done = CommandResult;

    fn row(&self, item: &Bound<'_, PyAny>, line: u64) -> PyResult<Row<EachCall>> {
        let (id, call) = match &self.commands {
            CommandMaker::Template(template) => (None, template.call(item)),
            CommandMaker::Many(surroundings) => match ItemCommand::of(item, surroundings.shell) {
                Ok(command) => (command.id.clone(), command.call(surroundings)),
                Err(why) => (None, Err(why)),
            },
        };
        Ok(Row { id, origin: RowOrigin::of_item(line), call })
    }

    fn outcome<'py>(
        &self,
        py: Python<'py>,
        ended: RowOutcome<CommandResult>,
        item: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        CommandOutcome::object(py, ended, item, self.text).map(Bound::into_any)
    }

    fn may_have_more(&self, _ended: &RowOutcome<CommandResult>) -> bool {
        false
    }
}

/// What items are.
enum CommandMaker {
    /// What is filled into one command.
    Template(Box<CommandTemplate>),
    /// Commands.
    Many(Surroundings),
}

impl CommandMaker {
    fn template(surroundings: &Surroundings, command: &Bound<'_, PyAny>) -> Result<Self, String> {
        let argv = argv_of(command, surroundings.shell)?;
        let maker = |grammar: &Grammar| {
            let recipe = surroundings.recipe(&argv, |text| grammar.word(text));
            let recipe = Recipe { save: surroundings.save_name(grammar)?, ..recipe };
            let words = recipe.argv.iter().chain(&recipe.stdin).chain(&recipe.folder).chain(&recipe.save);
            let mut words = words.chain(recipe.environment.iter().map(|(_, value)| value));
            let has_places = words.any(Word::has_values);
            let columns: Vec<String> = recipe.argv.iter().flat_map(Word::columns).map(str::to_owned).collect();
            Ok::<_, String>((EachMaker::new(recipe, Vec::new(), None), has_places, columns))
        };
        // What is a column to items that are mappings may be a brace of another language to all others.
        let (mapped, _, columns) = maker(&Grammar { has_columns: true, mark: None })?;
        let (plain, has_places, _) = maker(&Grammar::default())?;
        let plain = plain?;
        let block = match &surroundings.input {
            Some(StdinInput::Bytes(bytes)) => Some(bytes.clone()),
            _ => None,
        };
        // A command with columns alone would get any other item at its end, which cannot have been meant.
        let column = columns.first().filter(|_| !has_places).cloned();
        let mapped = if column.is_some() { Ok(mapped?) } else { mapped };
        Ok(Self::Template(Box::new(CommandTemplate { plain, mapped, column, block })))
    }

    fn many(surroundings: Surroundings) -> Result<Self, String> {
        if surroundings.per_key.is_some() {
            return Err("per_key is a member of items, and needs items=".to_owned());
        }
        if surroundings.save_name(&Grammar::default())?.is_some_and(|name| name.has_values()) {
            return Err("save: without items= the only place is `{#}`".to_owned());
        }
        Ok(Self::Many(surroundings))
    }
}

/// One command for all items.
struct CommandTemplate {
    /// Where an item is one value.
    plain: EachMaker,
    /// Where an item has members; or why it must not have any.
    mapped: Result<EachMaker, String>,
    /// A member without which the command makes no sense.
    column: Option<String>,
    block: Option<Bytes>,
}

impl CommandTemplate {
    fn call(&self, item: &Bound<'_, PyAny>) -> Result<EachCall, String> {
        let mut call = match (item.cast::<PyMapping>(), &self.column) {
            (Ok(mapping), _) => {
                let maker = self.mapped.as_ref().map_err(Clone::clone)?;
                let column = |name: &String| {
                    let value = mapping.get_item(name).map_err(|_| format!("the item has no `{name}`"))?;
                    Ok((name.clone(), text_of(&value).map_err(|why| format!("`{name}` is {why}"))?.into_vec()))
                };
                let columns = maker.columns().iter().map(column).collect::<Result<_, String>>()?;
                maker.call(Values { positions: Vec::new(), columns })?
            }
            (Err(_), Some(column)) => {
                return Err(format!("the command asks for `{{{column}}}`, so an item has to be a mapping"));
            }
            (Err(_), None) => {
                let value = text_of(item).map_err(|why| format!("the item is {why}"))?;
                self.plain.call(Values { positions: vec![value.into_vec()], columns: Vec::new() })?
            }
        };
        call.block = self.block.clone();
        Ok(call)
    }
}

/// One of many commands, and what it has of its own.
struct ItemCommand {
    argv: Vec<OsString>,
    id: Option<Box<str>>,
    folder: Option<OsString>,
    environment: Vec<Variable>,
    input: Option<Bytes>,
}

impl ItemCommand {
    fn of(item: &Bound<'_, PyAny>, shell: bool) -> Result<Self, String> {
        let mut command = Self { argv: Vec::new(), id: None, folder: None, environment: Vec::new(), input: None };
        let Ok(mapping) = item.cast::<PyMapping>() else {
            command.argv = argv_of(item, shell)?;
            return Ok(command);
        };
        let members = mapping.items().map_err(|error| error.to_string())?;
        for (name, value) in members.iter().filter_map(|member| member.extract::<(Bound<'_, PyAny>, _)>().ok()) {
            let value: Bound<'_, PyAny> = value;
            let name = name.to_string();
            let named = |why: String| format!("`{name}` is {why}");
            match name.as_str() {
                "argv" => command.argv = argv_of(&value, shell)?,
                _ if value.is_none() => {}
                "id" => command.id = Some(text_of(&value).map_err(named)?.to_string_lossy().into()),
                "cwd" => command.folder = Some(text_of(&value).map_err(named)?),
                "env" => command.environment = variables(&value)?,
                "input" => command.input = Some(bytes_of(&value).map_err(named)?),
                _ => return Err(format!("a command has no `{name}` (but argv, id, cwd, env and input)")),
            }
        }
        if command.argv.is_empty() {
            return Err("the command has no `argv`".to_owned());
        }
        Ok(command)
    }

    fn call(self, surroundings: &Surroundings) -> Result<EachCall, String> {
        let mut recipe = surroundings.recipe(&self.argv, |text| Word::literal(text.as_bytes()));
        // The number of a command is known only when it starts.
        recipe.save = surroundings.save_name(&Grammar::default())?;
        if let Some(folder) = &self.folder {
            recipe.folder = Some(Word::literal(folder.as_bytes()));
        }
        for (name, value) in self.environment {
            recipe.environment.retain(|(other, _)| *other != name);
            match value {
                Some(value) => recipe.environment.push((name, Word::literal(value.as_bytes()))),
                None => recipe.without.push(name),
            }
        }
        let common = surroundings.input.as_ref().map(|input| match input {
            StdinInput::Bytes(bytes) => bytes.clone(),
            StdinInput::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
        });
        recipe.stdin = None;
        EachCall::new(Arc::new(recipe), Values::default(), self.input.or(common))
    }
}

/// A variable, or its absence.
type Variable = (OsString, Option<OsString>);

/// What surrounds all commands of a run.
struct Surroundings {
    shell: bool,
    folder: Option<OsString>,
    inherited: Arc<[(OsString, OsString)]>,
    environment: Vec<Variable>,
    input: Option<StdinInput>,
    save: Option<OsString>,
    per_key: Option<Word>,
    repeatable: bool,
    items_are_code: bool,
}

/// What commands read.
enum StdinInput {
    /// As it is.
    Bytes(Bytes),
    /// With places, where there is something to fill in.
    Text(OsString),
}

impl Surroundings {
    fn save_name(&self, grammar: &Grammar) -> Result<Option<Word>, String> {
        let name = self.save.as_ref().map(|text| Recipe::save_name(grammar, text)).transpose();
        name.map_err(|why| format!("save: {why}"))
    }

    fn recipe(&self, argv: &[OsString], word: impl Fn(&OsString) -> Word) -> Recipe {
        let variable = |(name, value): &Variable| value.as_ref().map(|value| (name.clone(), word(value)));
        let absent = self.environment.iter().filter(|(_, value)| value.is_none());
        Recipe {
            argv: argv.iter().map(&word).collect(),
            shell: self.shell,
            folder: self.folder.as_ref().map(&word),
            inherited: self.inherited.clone(),
            environment: self.environment.iter().filter_map(variable).collect(),
            without: absent.map(|(name, _)| name.clone()).collect(),
            stdin: match &self.input {
                Some(StdinInput::Text(text)) => Some(word(text)),
                _ => None,
            },
            save: None,
            limit_key: self.per_key.clone(),
            keyed_by_place: false,
            items_are_code: self.items_are_code,
            passes_items: false,
            guarded_by: None,
            inherit_output: false,
            reads_terminal: false,
            repeatable: self.repeatable,
        }
    }
}

/// What holds for all commands of a run, once they are started.
struct Rules {
    kill_after: Duration,
    expected: Vec<i32>,
    retry_exits: Vec<i32>,
    away_exits: Vec<i32>,
    leave_running: bool,
    max_output: Option<u64>,
    spool: std::path::PathBuf,
    pressure: Option<Pressure>,
    brief: bool,
}

/// Keywords that commands have; the words and defaults are those of `unisono each`.
impl Keywords<'_> {
    fn command_settings(&self, has_keys: bool) -> PyResult<Settings> {
        let defaults = each_settings();
        let limit = self.whole("limit")?.unwrap_or(defaults.limits.limit);
        let per_key = self.whole::<NonZeroU32>("per_key")?;
        let per_key_rate = self.rate("per_key_rate")?;
        if !has_keys && (per_key.is_some() || per_key_rate.is_some()) {
            return Err(self.mistake("per_key and per_key_rate need key="));
        }
        let (retry, ordered_by_key) = self.keyed(defaults.retry, has_keys, "key=")?;
        if !has_keys && self.has("away_exit")? {
            return Err(self.mistake("away_exit needs key=, which says what is away"));
        }
        let mut limits = Limits::new(Some(limit), has_keys.then(|| per_key.unwrap_or(NonZeroU32::MIN)));
        limits.rate = self.rate("rate")?;
        limits.per_key_rate = per_key_rate;
        let timeout = self.span("timeout")?.unwrap_or(defaults.times.timeout);
        let times = Times { timeout, ..self.times(defaults.times)? };
        let repeats = self.whole("retries")?.unwrap_or(defaults.retry.repeats);
        Ok(Settings { limits, times, retry: RetryPolicy { repeats, ..retry }, ordered_by_key })
    }

    fn surroundings(&self, py: Python<'_>) -> PyResult<Surroundings> {
        let text = |name: &str| -> PyResult<Option<OsString>> {
            let Some(value) = self.take(name)? else { return Ok(None) };
            text_of(&value).map(Some).map_err(|why| self.mistake(format!("{name}: {why}")))
        };
        let environment = match self.take("env")? {
            Some(given) => variables(&given).map_err(|why| self.mistake(why))?,
            None => Vec::new(),
        };
        let input = match self.take("input")? {
            None => None,
            Some(value) => Some(match value.is_instance_of::<PyString>() {
                true => StdinInput::Text(value.extract()?),
                false => StdinInput::Bytes(bytes_of(&value).map_err(|why| self.mistake(format!("input: {why}")))?),
            }),
        };
        let per_key = text("key")?.map(|key| Word::key(&key.to_string_lossy()));
        Ok(Surroundings {
            shell: self.flag("shell")?,
            folder: text("cwd")?,
            inherited: environment_of(py)?,
            environment,
            input,
            save: text("save")?,
            per_key,
            repeatable: self.flag("idempotent")?,
            items_are_code: self.flag("items_are_code")?,
        })
    }

    fn rules(&self) -> PyResult<Rules> {
        let codes = |name: &str| self.get::<Vec<i32>>(name);
        let pressure = Pressure { most_load: self.get("load")?, least_memory: self.size("min_memory")? };
        Ok(Rules {
            kill_after: self.span("kill_after")?.map_or(KILL_AFTER, |time| time.unwrap_or(FOR_EVER)),
            expected: codes("expect")?.unwrap_or_else(|| vec![0]),
            retry_exits: codes("retry_exit")?.unwrap_or_default(),
            away_exits: codes("away_exit")?.unwrap_or_default(),
            leave_running: self.flag("leave_running")?,
            max_output: self.size("max_output")?,
            spool: std::env::temp_dir(),
            pressure: (pressure != Pressure::default()).then_some(pressure),
            brief: self.flag("brief")?,
        })
    }
}

/// The environment as Python has it now.
fn environment_of(py: Python<'_>) -> PyResult<Arc<[(OsString, OsString)]>> {
    let copy = py.import("os")?.getattr("environb")?.call_method0("copy")?.cast_into::<PyDict>()?;
    let variable = |(name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>)| -> PyResult<(OsString, OsString)> {
        Ok((OsString::from_vec(name.extract()?), OsString::from_vec(value.extract()?)))
    };
    copy.iter().map(variable).collect()
}

/// The program and its arguments, or the one script of a shell.
fn argv_of(command: &Bound<'_, PyAny>, shell: bool) -> Result<Vec<OsString>, String> {
    let is_text = command.is_instance_of::<PyString>() || command.is_instance_of::<PyBytes>();
    let argv = match (is_text, shell) {
        (true, true) => vec![text_of(command)?],
        (true, false) => return Err(format!("{A_LIST}, not one text (or use shell=True)")),
        (false, true) => return Err("with shell=True a command is one text, not a list".to_owned()),
        (false, false) => {
            let words = command.try_iter().map_err(|_| format!("{A_LIST}, not {}", shown(command)))?;
            let word = |word: PyResult<Bound<'_, PyAny>>| text_of(&word.map_err(|error| error.to_string())?);
            words.map(word).collect::<Result<Vec<_>, _>>().map_err(|why| format!("an argument is {why}"))?
        }
    };
    if argv.is_empty() { Err("the command is empty".to_owned()) } else { Ok(argv) }
}

/// Text, bytes, a path, or a number as it is written.
fn text_of(value: &Bound<'_, PyAny>) -> Result<OsString, String> {
    let is_number = value.is_instance_of::<PyInt>() || value.is_instance_of::<PyFloat>();
    let text = match is_number && !value.is_instance_of::<PyBool>() {
        true => value.str().and_then(|text| text.extract()),
        false => path_of(value).map(Into::into),
    };
    text.map_err(|_| format!("neither text, a path nor a number: {}", shown(value)))
}

/// What a command reads: text as UTF-8, or bytes.
fn bytes_of(value: &Bound<'_, PyAny>) -> Result<Bytes, String> {
    match value.extract::<&str>() {
        Ok(text) => Ok(Bytes::copy_from_slice(text.as_bytes())),
        Err(_) => {
            value.extract::<Vec<u8>>().map(Bytes::from).map_err(|_| format!("neither text nor bytes: {}", shown(value)))
        }
    }
}

fn variables(given: &Bound<'_, PyAny>) -> Result<Vec<Variable>, String> {
    let no_mapping = || format!("env: expected a mapping of names to values, not {}", shown(given));
    let items = given.cast::<PyMapping>().map_err(|_| no_mapping())?.items().map_err(|_| no_mapping())?;
    let variable = |member: Bound<'_, PyAny>| -> Result<Variable, String> {
        let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = member.extract().map_err(|_| no_mapping())?;
        let name = text_of(&name).map_err(|why| format!("env: a name is {why}"))?;
        if name.is_empty() || name.as_bytes().contains(&b'=') {
            return Err(format!("env: `{}` cannot be the name of a variable", name.to_string_lossy()));
        }
        let value = if value.is_none() { None } else { Some(text_of(&value)) };
        let value = value.transpose().map_err(|why| format!("env: `{}` is {why}", name.to_string_lossy()))?;
        Ok((name, value))
    };
    items.iter().map(variable).collect()
}

/// What something is called in a message: by its type, since what it holds may be a secret.
fn shown(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "this".to_owned(), |name| format!("a value of type {name}"))
}

const A_LIST: &str = "a command is a list of its program and arguments, as in [\"ls\", \"-l\"]";
