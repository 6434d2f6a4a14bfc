//! What the parser refuses, in our words: what is wrong, in which command, and what to type instead.
//!
//! The parser says which word it stumbled over, and nothing of how it says so is shown. What to type comes from the
//! table of words of other programs ([`foreign`]), or else from an option of the same command that is spelled almost
//! like it; where neither fits, its help is named. Words that are merely alike are not offered: that sends people who
//! look for one option to another.

use std::{error::Error as _, ffi::OsString};

use clap::{
    Arg, Command,
    error::{ContextKind, ContextValue, ErrorKind},
};
use unisono_core::redacted;

use crate::{failure::Failure, foreign};

/// What to say of an error of the parser; `words` is the command line, our own name included.
pub fn explained(error: &clap::Error, words: &[OsString], parser: &Command) -> Failure {
    let line = Line::of(words, parser.clone());
    match error.kind() {
        ErrorKind::UnknownArgument => line.unknown(&given(error, ContextKind::InvalidArg)),
        ErrorKind::InvalidSubcommand => line.no_command(&given(error, ContextKind::InvalidSubcommand)),
        ErrorKind::ValueValidation => {
            let why = error.source().map(ToString::to_string).unwrap_or_default();
            line.bad_value(error, &why)
        }
        ErrorKind::InvalidValue => {
            match (given(error, ContextKind::InvalidValue), error.get(ContextKind::ValidValue)) {
                (value, Some(ContextValue::Strings(known))) if !value.is_empty() => {
                    line.bad_value(error, &format!("expected {}", listed(known)))
                }
                (_, known) => line.no_value(error, known),
            }
        }
        ErrorKind::ArgumentConflict => {
            let (one, other) = (option(error, ContextKind::InvalidArg), option(error, ContextKind::PriorArg));
            Failure::usage(format!("`{one}` and `{other}` do not go together")).hint("give one of them")
        }
        ErrorKind::MissingRequiredArgument => line.missing(error),
        ErrorKind::TooManyValues => {
            Failure::usage(format!("`{}` takes no value", option(error, ContextKind::InvalidArg)))
                .hint(line.meaning(error))
        }
        ErrorKind::InvalidUtf8 => {
            Failure::usage(format!("a word of the line is not UTF-8, and {} takes text", line.name()))
                .hint("what is not text is read from a file, with --from FILE")
        }
        // Nothing of ours makes the parser say anything else.
        kind => Failure::usage(format!("{} cannot be understood ({kind})", line.name())).hint(line.help()),
    }
}

/// The command line that was refused.
struct Line<'a> {
    words: Vec<String>,
    given: &'a [OsString],
    parser: Command,
    /// The command of ours that it calls.
    command: Option<String>,
}

impl<'a> Line<'a> {
    fn of(given: &'a [OsString], mut parser: Command) -> Self {
        let words: Vec<String> = given.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        parser.build();
        let command = words.get(1).filter(|word| parser.find_subcommand(word.as_str()).is_some()).cloned();
        Self { words, given, parser, command }
    }

    /// The command, as it is shown.
    fn name(&self) -> String {
        match &self.command {
            Some(command) => format!("`unisono {command}`"),
            None => "`unisono`".to_owned(),
        }
    }

    fn help(&self) -> String {
        match &self.command {
            Some(command) => format!("`unisono {command} --help` lists what there is"),
            None => "`unisono --help` lists what there is".to_owned(),
        }
    }

    /// What the command takes.
    fn known(&self) -> impl Iterator<Item = &Arg> {
        let command = self.command.as_deref().and_then(|name| self.parser.find_subcommand(name));
        command.unwrap_or(&self.parser).get_arguments()
    }

    /// A word that is no option of the command, or one too many.
    fn unknown(&self, given: &str) -> Failure {
        if !given.starts_with('-') || given == "-" {
            return Failure::usage(format!("`{given}` is one word too many for {}", self.name())).hint(self.help());
        }
        if let Some(failure) = self.negative(given) {
            return failure;
        }
        let word = self.whole(given);
        let tip = self.tips(given, &word).unwrap_or_else(|| self.likeness(given));
        Failure::usage(format!("{} has no option `{word}`", self.name())).hint(tip)
    }

    /// `--timeout -1s`: a value that the parser takes for an option, as it begins like one.
    fn negative(&self, given: &str) -> Option<Failure> {
        if !given[1..].starts_with(|first: char| first.is_ascii_digit() || first == '.') {
            return None;
        }
        let at = self.words.windows(2).position(|two| two[1].starts_with(given) && self.takes_value(&two[0]))?;
        let mut joined = self.given.to_vec();
        let value = joined.remove(at + 1);
        let is_long = self.words[at].starts_with("--");
        joined[at].push(if is_long { "=" } else { "" });
        joined[at].push(value);
        // With the value where it belongs, it is what is refused, or what comes behind it.
        self.refused(&joined).map(|error| explained(&error, &joined, &self.parser))
    }

    /// What the parser says of another line.
    fn refused(&self, words: &[OsString]) -> Option<clap::Error> {
        self.parser.clone().try_get_matches_from(words).err()
    }

    fn takes_value(&self, word: &str) -> bool {
        let is_it = |arg: &&Arg| match word.strip_prefix("--") {
            Some(long) => arg.get_long() == Some(long),
            None => arg.get_short().is_some_and(|short| word == format!("-{short}")),
        };
        self.known().find(is_it).is_some_and(|arg| arg.get_action().takes_values())
    }

    /// The word that a refused option stands in, where other programs have it as a whole: `-nc`.
    fn whole(&self, given: &str) -> String {
        let is_it = |word: &&String| {
            word.starts_with(given) && self.command.as_ref().is_some_and(|name| foreign::tip(name, word).is_some())
        };
        self.words.iter().find(is_it).cloned().unwrap_or_else(|| given.to_owned())
    }

    /// What the table says of it, and of the other letters that are unknown where several stand in one word.
    fn tips(&self, given: &str, word: &str) -> Option<String> {
        let command = self.command.as_ref()?;
        let first = foreign::tip(command, word)?;
        let is_cluster = |cluster: &&String| !given.starts_with("--") && word == given && cluster.starts_with(given);
        let letters = self.words.iter().find(is_cluster).map(|cluster| &cluster[given.len()..]).unwrap_or_default();
        let is_known = |letter: char| self.known().any(|arg| arg.get_short() == Some(letter));
        let mut tips = vec![first];
        for letter in letters.chars().filter(|letter| !is_known(*letter)) {
            match foreign::tip(command, &format!("-{letter}")) {
                Some(tip) if !tips.contains(&tip) => tips.push(tip),
                Some(_) => {}
                // What follows is a value, and no options.
                None => break,
            }
        }
        match tips[..] {
            [only] => Some(only.to_owned()),
            _ => Some(tips.join("; ")),
        }
    }

    /// An option that is almost spelled so, or where to look.
    fn likeness(&self, given: &str) -> String {
        if self.command.is_none()
            && let Some(command) = self.words.iter().find(|word| self.parser.find_subcommand(word.as_str()).is_some())
        {
            return format!("options stand behind the command: `unisono {command} {given}`");
        }
        let Some(long) = given.strip_prefix("--") else { return self.help() };
        let known = self.known().filter(|arg| !arg.is_hide_set()).filter_map(Arg::get_long);
        match nearest(long, known) {
            Some(near) => format!("did you mean `--{near}`?"),
            None => self.help(),
        }
    }

    fn no_command(&self, given: &str) -> Failure {
        let hint = foreign::command(given).map(|ours| format!("that is `{ours}`"));
        let hint = hint.or_else(|| {
            let known = self.parser.get_subcommands().filter(|command| !command.is_hide_set()).map(Command::get_name);
            nearest(given, known).map(|near| format!("did you mean `unisono {near}`?"))
        });
        let hint = hint.unwrap_or_else(|| self.help());
        Failure::usage(format!("`{}` is no command of unisono", redacted(given))).hint(hint)
    }

    fn bad_value(&self, error: &clap::Error, why: &str) -> Failure {
        let value = given(error, ContextKind::InvalidValue);
        let named = option(error, ContextKind::InvalidArg);
        let failure = match why.contains(&format!("`{value}`")) {
            true => Failure::usage(format!("`{named}`: {why}")),
            false => Failure::usage(format!("`{named} {}`: {why}", redacted(&value))),
        };
        failure.hint(self.meaning(error))
    }

    fn no_value(&self, error: &clap::Error, known: Option<&ContextValue>) -> Failure {
        let what = match known {
            Some(ContextValue::Strings(known)) if !known.is_empty() => format!(": {}", listed(known)),
            _ => String::new(),
        };
        Failure::usage(format!("`{}` needs a value{what}", option(error, ContextKind::InvalidArg)))
            .hint(self.meaning(error))
    }

    /// What an option is for.
    fn meaning(&self, error: &clap::Error) -> String {
        let written = given(error, ContextKind::InvalidArg);
        let arg = self.known().find(|arg| arg.to_string() == written);
        match arg.and_then(Arg::get_help) {
            Some(help) => format!("`{}`: {help}", bare(&written)),
            None => self.help(),
        }
    }

    /// What is not there, and what of the line asks for it.
    fn missing(&self, error: &clap::Error) -> Failure {
        let missing = match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::Strings(all)) => all.clone(),
            Some(ContextValue::String(one)) => vec![one.clone()],
            _ => Vec::new(),
        };
        let named: Vec<String> = missing.iter().map(|missing| format!("`{}`", bare(missing))).collect();
        let named = named.join(" and ");
        let is_option = missing.iter().any(|missing| missing.starts_with('-'));
        let failure = match self.asks_for_more() {
            Some(option) => Failure::usage(format!("`{option}` needs {named}")),
            None if is_option => {
                Failure::usage(format!("{named} is not there, and several options of the line need it"))
            }
            None => Failure::usage(format!("{} needs {named}", self.name())),
        };
        failure.hint(if is_option { format!("add {named}") } else { self.help() })
    }

    /// The option without which nothing would be missing.
    fn asks_for_more(&self) -> Option<&str> {
        let is_enough = |at: &usize| {
            let mut without = self.given.to_vec();
            without.remove(*at);
            self.refused(&without).is_none_or(|error| error.kind() != ErrorKind::MissingRequiredArgument)
        };
        let option = (2..self.words.len()).filter(|at| self.words[*at].starts_with('-')).find(is_enough)?;
        self.words[option].split('=').next()
    }
}

/// A context of an error that is one word.
fn given(error: &clap::Error, kind: ContextKind) -> String {
    match error.get(kind) {
        Some(ContextValue::String(one)) => one.clone(),
        Some(ContextValue::Strings(all)) => all.first().cloned().unwrap_or_default(),
        _ => String::new(),
    }
}

/// An option by its name, without what it takes.
fn option(error: &clap::Error, kind: ContextKind) -> String {
    bare(given(error, kind).split([' ', '=', '[']).next().unwrap_or_default())
}

/// As it is written in our texts: `--out FILE`.
fn bare(written: &str) -> String {
    written.replace(['<', '>'], "").trim_end_matches("...").to_owned()
}

fn listed(known: &[String]) -> String {
    match known {
        [] => String::new(),
        [only] => format!("`{only}`"),
        [others @ .., last] => {
            let others: Vec<String> = others.iter().map(|one| format!("`{one}`")).collect();
            format!("{} or `{last}`", others.join(", "))
        }
    }
}

/// The only word of these that begins as this one does, or that one or two slips of the fingers turn it into.
fn nearest<'a>(given: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let known: Vec<&str> = known.collect();
    let mut begun = known.iter().filter(|known| given.len() > 2 && known.starts_with(given));
    if let (Some(only), None) = (begun.next(), begun.next()) {
        return Some(only);
    }
    let most = if given.len() > 5 { 2 } else { 1 };
    known
        .into_iter()
        .map(|known| (slips(given, known), known))
        .filter(|(slips, _)| *slips <= most)
        .min()
        .map(|(_, near)| near)
}

/// How many letters are to be put in, left out or replaced to turn one word into the other.
fn slips(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut above: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in (1..).zip(one.chars()) {
        let mut here = vec![row];
        for (at, theirs) in other.iter().enumerate() {
            let replaced = above[at] + usize::from(letter != *theirs);
            here.push(replaced.min(above[at + 1] + 1).min(here[at] + 1));
        }
        above = here;
    }
    above[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_fingers_is_told_from_another_word() {
        for (given, near) in [
            ("froom", Some("from")),
            ("retires", Some("retries")),
            ("retry-f", Some("retry-failed")),
            ("timeut", Some("timeout")),
            ("retry", None),
            ("concurrency", None),
            ("max-time", None),
            ("jobs", None),
        ] {
            let known = ["from", "retries", "retry-failed", "retry-ambiguous", "timeout", "json", "connect-timeout"];
            assert_eq!(nearest(given, known.into_iter()), near, "{given}");
        }
    }
}
