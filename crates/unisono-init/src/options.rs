//! The options, defined once: a table that every face reads, and one place where a value is understood.
//!
//! The small binary reads its words with this table, and the command makes its parser, man page and completions of it.
//! So an option cannot exist in one and be missing in the other, or mean something else.

use alloc::{
    borrow::ToOwned,
    ffi::CString,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::{fmt, time::Duration};

use unisono_bare::signals::Signal;
use unisono_units::Span;

/// One option, for a parser and for its help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OptionSpec {
    /// Without its dashes.
    pub name: &'static str,
    /// Its one-letter form.
    pub short: Option<char>,
    /// How its value is called; `None` when it takes none.
    pub value: Option<&'static str>,
    /// One sentence.
    pub help: &'static str,
    /// Whether it may be given more than once, each adding to the others.
    pub repeated: bool,
}

/// Every option. `no-x` undoes `x`; the later one counts.
pub const OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "grace",
        short: None,
        value: Some("TIME"),
        help: "How long everything may take to end after TERM, before KILL; `none` for ever [default: 10s]",
        repeated: false,
    },
    OptionSpec {
        name: "drain",
        short: None,
        value: Some("TIME"),
        help: "Wait before TERM is forwarded, while load balancers look away; a second TERM ends the wait [default: 0s]",
        repeated: false,
    },
    OptionSpec {
        name: "pre-stop",
        short: None,
        value: Some("COMMAND"),
        help: "Run this by `sh -c` before TERM is forwarded, for at most the grace",
        repeated: false,
    },
    OptionSpec {
        name: "rewrite",
        short: None,
        value: Some("FROM=TO"),
        help: "Forward another signal than the one that came, as `TERM=QUIT`, or `HUP=none`",
        repeated: true,
    },
    OptionSpec {
        name: "map-exit",
        short: None,
        value: Some("FROM=TO"),
        help: "End with another exit code than the command did, as `143=0`",
        repeated: true,
    },
    OptionSpec {
        name: "wait-all",
        short: None,
        value: None,
        help: "After the command, let what it left behind clean up within the grace, and end with the last [default]",
        repeated: false,
    },
    OptionSpec {
        name: "no-wait-all",
        short: None,
        value: None,
        help: "End as soon as the command does",
        repeated: false,
    },
    OptionSpec {
        name: "verbose",
        short: Some('v'),
        value: None,
        help: "A line on standard error for each phase and each signal",
        repeated: false,
    },
];

/// How to supervise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitOptions {
    /// From TERM to KILL; `None` for ever.
    pub grace: Option<Duration>,
    /// From TERM until it is forwarded.
    pub drain: Duration,
    /// What to run before TERM is forwarded.
    pub pre_stop: Option<CString>,
    /// Which signal is forwarded as which; `None` as none.
    pub rewrites: Vec<(Signal, Option<Signal>)>,
    /// Which exit code becomes which.
    pub exit_codes: Vec<(u8, u8)>,
    /// Whether the command's descendants are waited for.
    pub wait_all: bool,
    /// Whether phases are told.
    pub verbose: bool,
}

impl Default for InitOptions {
    fn default() -> Self {
        Self {
            // As long as `docker stop` gives by default, and a third of what Kubernetes does.
            grace: Some(Duration::from_secs(10)),
            drain: Duration::ZERO,
            pre_stop: None,
            rewrites: Vec::new(),
            exit_codes: Vec::new(),
            wait_all: true,
            verbose: false,
        }
    }
}

impl InitOptions {
    /// Sets one option of [`OPTIONS`] by its name; `value` is empty when it takes none.
    ///
    /// # Errors
    /// When there is no such option, or the value makes no sense for it.
    ///
    /// ```
    /// let mut options = unisono_init::InitOptions::default();
    /// options.set("grace", "30s").unwrap();
    /// assert_eq!(options.grace.unwrap().as_secs(), 30);
    /// assert!(options.set("grace", "soon").unwrap_err().to_string().starts_with("--grace: `soon` is not"));
    /// ```
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), OptionError> {
        let error = |why: String| OptionError { message: format!("--{name}: {why}") };
        match name {
            "grace" => self.grace = span(value).map_err(error)?.0,
            "drain" => self.drain = span(value).map_err(error)?.0.ok_or_else(|| error(NO_END.to_owned()))?,
            "pre-stop" => self.pre_stop = Some(command(value).map_err(error)?),
            "rewrite" => self.rewrites.push(rewrite(value).map_err(error)?),
            "map-exit" => self.exit_codes.push(exit_codes(value).map_err(error)?),
            "wait-all" => self.wait_all = true,
            "no-wait-all" => self.wait_all = false,
            "verbose" => self.verbose = true,
            _ => return Err(error("there is no such option".to_owned())),
        }
        Ok(())
    }

    /// Which signal the command gets for this one. The first rule that fits counts.
    pub fn rewritten(&self, signal: Signal) -> Option<Signal> {
        self.rewrites.iter().find(|(from, _)| *from == signal).map_or(Some(signal), |(_, to)| *to)
    }

    /// Which exit code we end with for this one of the command. The first rule that fits counts.
    pub fn exit_code(&self, code: u8) -> u8 {
        self.exit_codes.iter().find(|(from, _)| *from == code).map_or(code, |(_, to)| *to)
    }
}

/// A value that makes no sense; says for which option, and what would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionError {
    message: String,
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl core::error::Error for OptionError {}

fn span(value: &str) -> Result<Span, String> {
    value.parse::<Span>().map_err(|error| error.to_string())
}

fn command(value: &str) -> Result<CString, String> {
    match CString::new(value) {
        Ok(command) if !value.trim_ascii().is_empty() => Ok(command),
        _ => Err("it is empty, or holds a zero byte".to_owned()),
    }
}

fn rewrite(value: &str) -> Result<(Signal, Option<Signal>), String> {
    let (from, to) = pair(value, "`TERM=QUIT`")?;
    let signal = |name: &str| name.parse::<Signal>().map_err(|error| format!("`{name}`: {error}"));
    let from = signal(from)?;
    if matches!(from, Signal::KILL | Signal::STOP | Signal::CHLD) {
        return Err(format!("{from} never reaches us to be forwarded"));
    }
    Ok((from, if to == "none" { None } else { Some(signal(to)?) }))
}

fn exit_codes(value: &str) -> Result<(u8, u8), String> {
    let (from, to) = pair(value, "`143=0`")?;
    let code = |text: &str| text.parse().map_err(|_| format!("`{text}` is not an exit code (0 to 255)"));
    Ok((code(from)?, code(to)?))
}

fn pair<'a>(value: &'a str, example: &str) -> Result<(&'a str, &'a str), String> {
    value.split_once('=').ok_or_else(|| format!("`{value}` is not a pair (try {example})"))
}

const NO_END: &str = "a wait without end would never forward TERM (try `5s`)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_of_the_table_can_be_set() {
        for spec in OPTIONS {
            let value = match spec.value {
                Some("TIME") => "5s",
                Some("COMMAND") => "true",
                Some("FROM=TO") => "15=3",
                _ => "",
            };
            let mut options = InitOptions { wait_all: spec.name == "no-wait-all", ..InitOptions::default() };
            let before = options.clone();
            assert_eq!(options.set(spec.name, value), Ok(()), "{}", spec.name);
            assert_ne!(options, before, "{} changes something", spec.name);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_option_and_an_example() {
        let wrong = [
            ("grace", "soon", "try `10s`"),
            ("drain", "none", "try `5s`"),
            ("pre-stop", " ", "empty"),
            ("rewrite", "TERM", "try `TERM=QUIT`"),
            ("rewrite", "TERM=QIUT", "`QIUT`: no such signal"),
            ("rewrite", "KILL=TERM", "never reaches us"),
            ("map-exit", "143", "try `143=0`"),
            ("map-exit", "143=256", "0 to 255"),
            ("bogus", "", "no such option"),
        ];
        for (name, value, part) in wrong {
            let message = InitOptions::default().set(name, value).unwrap_err().to_string();
            assert!(message.starts_with(&format!("--{name}: ")) && message.contains(part), "{message}");
        }
    }

    #[test]
    fn the_first_rule_that_fits_counts() {
        let mut options = InitOptions::default();
        for (name, value) in [("rewrite", "TERM=QUIT"), ("rewrite", "15=HUP"), ("map-exit", "1=2"), ("map-exit", "2=3")]
        {
            options.set(name, value).unwrap();
        }
        assert_eq!(options.rewritten(Signal::TERM), Some(Signal::QUIT));
        assert_eq!(options.rewritten(Signal::HUP), Some(Signal::HUP));
        assert_eq!(options.exit_code(1), 2);
    }
}
