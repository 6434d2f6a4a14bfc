//! `unisono init`: the options of the table of `unisono-init`, in this command's own parser.
//!
//! So its help, completions and man page know them, and nothing is defined twice. It starts no runtime and no thread:
//! the supervisor must be the only one, and holds all signals from the first instruction.

use std::{
    ffi::{CString, OsString},
    os::unix::ffi::OsStringExt,
};

use clap::{Arg, ArgAction, ArgMatches, Args, Error, FromArgMatches, builder::OsStringValueParser};
use unisono_init::{HeldSignals, InitOptions, OPTIONS, command_line::EXIT_STATUS};

use crate::failure::Failure;

/// What to run, and how to supervise it.
#[derive(Debug)]
pub struct InitArgs {
    /// Names and values, as given.
    options: Vec<(&'static str, String)>,
    command: Vec<OsString>,
}

/// Whether the command line begins with `init`: asked before it is parsed, since a signal may come while it is.
pub fn is_meant() -> bool {
    std::env::args_os().nth(1).is_some_and(|word| word == "init")
}

/// Runs the command to its end.
pub fn run(args: InitArgs, signals: Option<HeldSignals>) -> Result<u8, Failure> {
    // `init` may also stand behind an option of all commands, once there is one.
    let signals = signals.unwrap_or_else(HeldSignals::hold);
    let mut options = InitOptions::default();
    for (name, value) in &args.options {
        options.set(name, value).map_err(|error| Failure::usage(error.to_string()))?;
    }
    let words = args.command.into_iter().map(|word| CString::new(word.into_vec()));
    let words = words.collect::<Result<Vec<_>, _>>().map_err(|_| Failure::usage("a word holds a zero byte"))?;
    Ok(unisono_init::run(options, &words, &signals))
}

impl Args for InitArgs {
    fn augment_args(command: clap::Command) -> clap::Command {
        let options = OPTIONS.iter().map(|spec| {
            let arg = Arg::new(spec.name).long(spec.name).help(spec.help);
            let arg = spec.short.into_iter().fold(arg, Arg::short);
            // Of `x` and `no-x` the later one counts.
            let opposite = OPTIONS.iter().find(|other| {
                other.name.strip_prefix("no-") == Some(spec.name) || spec.name.strip_prefix("no-") == Some(other.name)
            });
            let arg = opposite.into_iter().fold(arg, |arg, other| arg.overrides_with(other.name));
            match (spec.value, spec.repeated) {
                (None, _) => arg.action(ArgAction::SetTrue).overrides_with(spec.name),
                (Some(value), false) => arg.value_name(value),
                (Some(value), true) => arg.value_name(value).action(ArgAction::Append),
            }
        });
        command.args(options).after_help(EXIT_STATUS.replace('\n', " ")).arg(
            Arg::new(COMMAND)
                .value_name("COMMAND")
                .help("What to run, with its arguments")
                .value_parser(OsStringValueParser::new())
                .num_args(1..)
                .required(true)
                .trailing_var_arg(true),
        )
    }

    fn augment_args_for_update(command: clap::Command) -> clap::Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for InitArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut options = Vec::new();
        for spec in OPTIONS {
            if spec.value.is_some() {
                let values = matches.get_many::<String>(spec.name).into_iter().flatten();
                options.extend(values.map(|value| (spec.name, value.clone())));
            } else if matches.get_flag(spec.name) {
                options.push((spec.name, String::new()));
            }
        }
        let command = matches.get_many::<OsString>(COMMAND).into_iter().flatten().cloned().collect();
        Ok(Self { options, command })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

const COMMAND: &str = "command";
