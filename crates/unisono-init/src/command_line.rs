//! The words of `unisono-init`: options up to the first word that is none, or up to `--`, then the command.
//!
//! By hand and small, since a parser library would be larger than the program. The command `unisono init` reads the
//! same table with its own parser.

use alloc::{
    ffi::CString,
    format,
    string::{String, ToString},
    vec::Vec,
};

use unisono_bare::{
    program::{self, StandardStream},
    signals::HeldSignals,
};

use crate::{
    drive,
    options::{InitOptions, OPTIONS, OptionSpec},
};

/// The whole program: reads its words, does what they say, returns the exit code. Usage that makes no sense is 2.
pub fn main(words: Vec<CString>) -> u8 {
    // First of all: what comes from now on waits until there is a command to forward it to.
    let signals = HeldSignals::hold();
    match read(words.get(1..).unwrap_or_default()) {
        Ok(Request::Run(options, command)) => drive::run(options, command, &signals),
        Ok(Request::Help) => {
            program::print(StandardStream::Standard, &help());
            0
        }
        Ok(Request::Version) => {
            program::print(StandardStream::Standard, concat!("unisono-init ", env!("CARGO_PKG_VERSION"), "\n"));
            0
        }
        Err(message) => {
            drive::say(message);
            drive::say("hint: unisono-init [options] -- command; see `unisono-init --help`");
            2
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Request<'a> {
    Run(InitOptions, &'a [CString]),
    Help,
    Version,
}

fn read(words: &[CString]) -> Result<Request<'_>, String> {
    let mut options = InitOptions::default();
    let mut rest = words;
    while let [word, after @ ..] = rest {
        // A word that is not UTF-8 cannot be an option, but may well be a command.
        let Some(name) = word.to_str().ok().and_then(|text| text.strip_prefix('-')) else { break };
        rest = after;
        match name {
            "-" => break,
            "h" | "-help" => return Ok(Request::Help),
            "V" | "-version" => return Ok(Request::Version),
            _ => {}
        }
        let (spec, attached) = find(name).ok_or_else(|| format!("there is no option `-{name}`"))?;
        let value = match (spec.value, attached, rest) {
            (None, None, _) => "",
            (None, Some(_), _) => return Err(format!("--{} takes no value", spec.name)),
            (Some(_), Some(value), _) => value,
            (Some(_), None, [value, after @ ..]) => {
                rest = after;
                value.to_str().map_err(|_| format!("--{}: its value is not UTF-8", spec.name))?
            }
            (Some(kind), None, []) => return Err(format!("--{} needs a value ({kind})", spec.name)),
        };
        options.set(spec.name, value).map_err(|error| error.to_string())?;
    }
    if rest.is_empty() { Err("there is no command to run".to_string()) } else { Ok(Request::Run(options, rest)) }
}

/// The option that `-v`, `--grace` or `--grace=5s` without its first dash means, and the value attached to it.
fn find(name: &str) -> Option<(&'static OptionSpec, Option<&str>)> {
    let Some(long) = name.strip_prefix('-') else {
        let mut letters = name.chars();
        let letter = letters.next();
        let spec = OPTIONS.iter().find(|spec| spec.short.is_some() && spec.short == letter)?;
        return letters.as_str().is_empty().then_some((spec, None));
    };
    let (long, value) = long.split_once('=').map_or((long, None), |(long, value)| (long, Some(value)));
    OPTIONS.iter().find(|spec| spec.name == long).map(|spec| (spec, value))
}

fn help() -> String {
    let mut text = String::from(ABOUT);
    for spec in OPTIONS {
        let short = spec.short.map_or_else(|| "    ".to_string(), |short| format!("-{short}, "));
        let value = spec.value.map_or_else(String::new, |value| format!(" <{value}>"));
        text += &format!("  {short}--{}{value}\n          {}\n", spec.name, spec.help);
    }
    text + "  -h, --help\n  -V, --version\n\n" + EXIT_STATUS
}

const ABOUT: &str = "\
The first process of a container: runs a command, forwards signals to it, reaps what is left, ends when all is over.

Usage: unisono-init [options] -- <command> [arguments]

Options:
";

/// What the exit status means, for the help of every face.
pub const EXIT_STATUS: &str = "\
Exit status: the command's, or 128 and the number of the signal that ended it; 127 when there is no such command,
126 when it cannot be run, 125 when we failed ourselves, 2 when the options make no sense.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<CString> {
        text.split_ascii_whitespace().map(|word| CString::new(word).unwrap()).collect()
    }

    #[test]
    fn options_end_where_the_command_begins() {
        for (text, command) in
            [("-v --grace 3s -- ls -v", "ls -v"), ("-v --grace=3s ls -v", "ls -v"), ("-v --grace 3s -- -odd", "-odd")]
        {
            let (words, command) = (words(text), words(command));
            let mut options = InitOptions::default();
            options.set("verbose", "").unwrap();
            options.set("grace", "3s").unwrap();
            assert_eq!(read(&words), Ok(Request::Run(options, &command[..])), "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for (text, part) in [
            ("", "no command"),
            ("--", "no command"),
            ("--graec 3s ls", "no option `--graec`"),
            ("-x ls", "no option `-x`"),
            ("-vx ls", "no option `-vx`"),
            ("--grace", "needs a value (TIME)"),
            ("--verbose=1 ls", "takes no value"),
            ("--grace soon ls", "`soon` is not a duration"),
        ] {
            let message = read(&words(text)).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn help_names_every_option() {
        for spec in OPTIONS {
            assert!(help().contains(&format!("--{}", spec.name)), "{}", spec.name);
        }
        assert_eq!(read(&words("--help")), Ok(Request::Help));
        assert_eq!(read(&words("-V ls")), Ok(Request::Version));
    }
}
