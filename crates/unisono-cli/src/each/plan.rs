//! What the words of `unisono each` mean together.

use std::{
    ffi::{OsStr, OsString},
    num::{NonZeroU32, NonZeroU64},
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::Arc,
};

use unisono_core::{Limits, Rate, RetryPolicy};
use unisono_runner::{
    Format, Grammar, Halting, Named, Pieces, Recipe, Saving, Separator, Settings, Word, commands::Pressure,
    each_settings, refuse_same,
};

use super::{
    args::{EachArgs, ExitWith},
    printer::Printing,
    program,
    sources::{ItemSource, SourceFrom},
};
use crate::{args::times, failure::Failure};

/// What the words before and behind `:::` come to.
pub struct CommandLine {
    pub recipe: Recipe,
    pub sources: Vec<ItemSource>,
    pub separator: Option<Separator>,
    /// What there is to say when its program is not there. Whether it is safe comes first.
    pub missing: Option<Failure>,
    /// What may be meant otherwise.
    pub warning: Option<String>,
}

impl EachArgs {
    pub fn command_line(&self) -> Result<CommandLine, Failure> {
        self.output.check(self.printed.save.is_some())?;
        let (command, sources) = self.split()?;
        if command.is_empty() {
            return Err(Failure::usage("there is no command").hint(
                "as in `unisono each -- gzip {} ::: *.log`; items that are commands themselves: `unisono each --items-are-code -- sh -c {}`",
            ));
        }
        if !sources.is_empty() && (self.from.is_some() || self.pipe) {
            return Err(Failure::usage("items come from `:::` and `::::` or from --from, not from both"));
        }
        if sources.iter().filter(|source| source.is_standard_input()).count() > 1 {
            return Err(Failure::usage("standard input can be read once only (`:::: -` stands there twice)"));
        }
        let format = self.format().unwrap_or_else(|| self.from.as_deref().map_or(Format::Lines, Format::of));
        let has_columns = sources.is_empty() && format != Format::Lines;
        if self.colsep.is_some() && (has_columns || self.pipe) {
            let what =
                if self.pipe { "--pipe gives whole blocks" } else { "this input has columns with names already" };
            return Err(Failure::usage(format!("--colsep parts lines, but {what}")));
        }
        let grammar = Grammar { has_columns, mark: self.placeholder.clone().filter(|mark| !mark.is_empty()) };
        let word = |text: &OsString| grammar.word(text);
        let recipe = Recipe {
            argv: command.iter().map(word).collect(),
            shell: self.shell,
            folder: self.cwd.as_ref().map(word),
            inherited: Arc::default(),
            environment: self.env.iter().map(|text| variable(text, &grammar)).collect::<Result<_, _>>()?,
            without: Vec::new(),
            stdin: self.stdin.as_ref().map(word),
            save: self.save_name(&grammar)?,
            limit_key: self
                .limits
                .key
                .as_ref()
                .map(|key| if key.contains('{') { word(&key.into()) } else { Word::key(key) }),
            keyed_by_place: self.limits.key.as_ref().is_some_and(|key| word(&key.into()).has_places()),
            items_are_code: self.items_are_code,
            passes_items: false,
            guarded_by: None,
            inherit_output: self.printed.ungroup || self.tty,
            reads_terminal: self.tty,
            repeatable: self.idempotent,
        };
        let missing = program::check(&command, &recipe, self.dry_run).err();
        let warning = program::for_a_shell(&command, &recipe);
        Ok(CommandLine { recipe, sources, separator: self.colsep.clone(), missing, warning })
    }

    fn save_name(&self, grammar: &Grammar) -> Result<Option<Word>, Failure> {
        let name = self.printed.save.as_ref().map(|text| Recipe::save_name(grammar, text)).transpose();
        name.map_err(|why| Failure::usage(format!("--save: {why}")))
    }

    /// What holds for the files that output goes to, where it does.
    pub fn saving(&self) -> Result<Option<Saving>, Failure> {
        let (_, sources) = self.split()?;
        let files = sources.into_iter().filter_map(|source| match source.from {
            SourceFrom::File(path) => Some(path),
            SourceFrom::Words(_) => None,
        });
        let protected = self.from.clone().into_iter().chain(files).filter(|path| path.as_os_str() != "-").collect();
        Ok(self.printed.save.as_ref().map(|_| self.output.saving(protected)))
    }

    pub fn canary(&self) -> Option<NonZeroU64> {
        self.limits.canary
    }

    /// The command, and the sources of its items.
    fn split(&self) -> Result<(Vec<OsString>, Vec<ItemSource>), Failure> {
        let is_mark = |word: &&OsString| word.as_bytes().starts_with(b":::");
        let end = self.command.iter().position(|word| is_mark(&word)).unwrap_or(self.command.len());
        let (command, mut rest) = self.command.split_at(end);
        let mut sources = Vec::new();
        while let Some((mark, behind)) = rest.split_first() {
            let end = behind.iter().position(|word| is_mark(&word)).unwrap_or(behind.len());
            let (words, following) = behind.split_at(end);
            rest = following;
            let (are_files, is_linked) = match mark.as_bytes() {
                b":::" => (false, false),
                b":::+" => (false, true),
                b"::::" => (true, false),
                b"::::+" => (true, true),
                _ => {
                    let mistake = Failure::usage(format!("`{}` is unknown", mark.to_string_lossy()));
                    return Err(mistake.hint(
                        "items follow `:::`, and files of items `::::` (with a `+` they are linked to the source before); \
                         items that begin so are read with --from or from standard input",
                    ));
                }
            };
            if is_linked && sources.is_empty() {
                let what = mark.to_string_lossy();
                return Err(Failure::usage(format!("`{what}` links items to a source before it, and there is none")));
            }
            let source = |from| ItemSource { from, is_linked };
            match are_files && !words.is_empty() {
                // As with GNU parallel, each file is a source of its own.
                true => sources.extend(words.iter().map(|word| source(SourceFrom::File(word.into())))),
                // No files, no items: standard input is not read in their place.
                false => {
                    let words = words.iter().map(|word| word.as_bytes().to_vec());
                    sources.push(source(SourceFrom::Words(words.collect())));
                }
            }
        }
        Ok((command.to_vec(), sources))
    }

    /// What is read must not be what is written.
    pub fn refuse_own_input(&self, command_line: &CommandLine) -> Result<(), Failure> {
        let from = self.from.as_deref().or_else(|| command_line.sources.is_empty().then_some(Path::new("-")));
        let mut reads: Vec<Named> = from.map(|path| Named::input("--from", path)).into_iter().collect();
        reads.extend(command_line.sources.iter().filter_map(|source| match &source.from {
            SourceFrom::File(path) => Some(Named::input("::::", path)),
            SourceFrom::Words(_) => None,
        }));
        let mut writes = self.output.written();
        if self.output.out.is_some() {
            // Commands print as well.
            writes.push(Named::output());
        }
        if let Some(path) = command_line.recipe.save.as_ref().and_then(Word::constant) {
            writes.push(Named::new("--save", OsStr::from_bytes(&path)));
            writes.push(Named::new("--save", OsStr::from_bytes(&[&path[..], b".stderr"].concat())));
        }
        Ok(refuse_same(&reads, &writes)?)
    }

    pub fn format(&self) -> Option<Format> {
        self.input_format.map(Format::from)
    }

    pub fn pieces(&self) -> Result<Option<Pieces>, Failure> {
        match (self.lines, self.block) {
            _ if !self.pipe => Ok(None),
            (Some(0), _) | (_, Some(0)) => Err(Failure::usage("a block of --pipe cannot be empty")),
            (Some(lines), _) => Ok(Some(Pieces::Lines(lines))),
            (None, size) => Ok(Some(Pieces::Bytes(size.unwrap_or(1 << 20)))),
        }
    }

    /// Whether it may take long until the items can be read: sources are read whole, a pipe is opened by both, and of a
    /// table or of JSON lines the first line is waited for.
    pub fn may_wait(&self, command_line: &CommandLine) -> bool {
        let is_file = |source: &ItemSource| matches!(source.from, SourceFrom::File(_));
        let from = self.from.as_deref().filter(|path| *path != Path::new("-"));
        let has_first_line = || self.format().is_some_and(|format| format != Format::Lines);
        command_line.sources.iter().any(is_file)
            || from.map_or_else(|| command_line.sources.is_empty() && has_first_line(), |path| !path.is_file())
    }

    /// How many pipes each command is given.
    pub fn pipes(&self) -> u32 {
        let taken_in = if self.printing() == Printing::Inherited { 0 } else { 2 };
        taken_in + u32::from(self.pipe || self.stdin.is_some())
    }

    pub fn settings(&self) -> Result<Settings, Failure> {
        let args = &self.limits;
        let per_key = args.key.as_ref().map(|_| args.per_key);
        let limit = if self.tty { NonZeroU32::MIN } else { args.limit.0 };
        let mut limits = Limits::new(Some(limit), per_key);
        let delayed = args.delay.and_then(|delay| delay.0).filter(|delay| !delay.is_zero());
        let spaced = delayed.map(|delay| Rate::new(NonZeroU32::MIN, delay).ok_or(()));
        let spaced = spaced.transpose().map_err(|()| Failure::usage("--delay is too short to be kept"))?;
        limits.rate = args.rate.or(spaced);
        limits.per_key_rate = args.per_key_rate;
        let times = times(args.timeout, args.deadline, args.stop_after, args.grace);
        let host_away = Some(args.host_away.0.unwrap_or(unisono_core::FOR_EVER));
        let retry = RetryPolicy { repeats: args.retries, ..each_settings().retry }.waiting(host_away);
        Ok(Settings { limits, times, retry, ordered_by_key: args.ordered_by_key })
    }

    pub fn max_failures(&self) -> Option<u64> {
        self.limits.halt.map(|halt| halt.failures).or(self.limits.max_failures)
    }

    pub fn halting(&self) -> Halting {
        self.limits.halt.map(|halt| halt.halting).unwrap_or_default()
    }

    pub fn pressure(&self) -> Option<Pressure> {
        let pressure = Pressure { most_load: self.limits.load, least_memory: self.limits.min_memory };
        (pressure != Pressure::default()).then_some(pressure)
    }

    pub fn printing(&self) -> Printing {
        match (self.printed.ungroup || self.tty, self.printed.line_buffer) {
            (true, _) => Printing::Inherited,
            (_, true) => Printing::Lines { tag: self.printed.tag },
            _ => Printing::Grouped { tag: self.printed.tag },
        }
    }

    pub fn max_output(&self) -> Option<u64> {
        self.printed.max_output
    }

    pub fn expected(&self) -> &[i32] {
        &self.expect
    }

    pub fn exits_with_worst(&self) -> bool {
        self.printed.exit_with == ExitWith::Worst
    }
}

fn variable(text: &OsStr, grammar: &Grammar) -> Result<(OsString, Word), Failure> {
    let bytes = text.as_bytes();
    let at = bytes.iter().position(|byte| *byte == b'=').filter(|at| *at > 0);
    let at = at.ok_or_else(|| Failure::usage(format!("--env: `{}` is not NAME=VALUE", text.to_string_lossy())))?;
    let value = OsStr::from_bytes(&bytes[at + 1..]).to_owned();
    Ok((OsStr::from_bytes(&bytes[..at]).to_owned(), grammar.word(&value)))
}
