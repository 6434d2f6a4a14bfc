//! Which words of a command another interpreter reads as code: the script of `sh -c`, the program of `python3 -c` and of awk,
//! what `ssh` puts together for the shell of its host.
//!
//! The whole command is looked at, since anything may stand in front of an interpreter: `env`, `sudo`, `timeout 5`,
//! `docker exec x`, `xargs -I @`. A word that only looks like an interpreter is rare, and costs a message.
//!
//! Left out: what a program does with an argument by itself (a host name that begins with a dash, a `make` variable).

use super::script::PLACE;

/// How a word is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// It is a program.
    Code,
    /// It becomes part of a line for a shell elsewhere.
    Joined,
}

/// A word that is read as code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nested {
    /// Its number in the command.
    pub(crate) word: usize,
    /// Who reads it.
    pub(crate) interpreter: String,
    pub(crate) reading: Reading,
}

/// The words with a place in them that are read as code; each word's text has a [`PLACE`] for each place.
pub(crate) fn nested(argv: &[&[u8]]) -> Vec<Nested> {
    let mut found: Vec<Nested> = Vec::new();
    for at in 0..argv.len() {
        let Some(kind) = Kind::of(argv, at) else { continue };
        for (word, reading) in kind.code(argv, at) {
            let has_place = argv.get(word).is_some_and(|text| text.contains(&PLACE));
            if has_place && !found.iter().any(|other| other.word == word) {
                let interpreter = String::from_utf8_lossy(base(argv[at])).into_owned();
                found.push(Nested { word, interpreter, reading });
            }
        }
    }
    found
}

/// Who reads code from standard input, if somebody does.
pub(crate) fn reads_code(argv: &[&[u8]]) -> Option<String> {
    let is_wrapped = argv.first().is_some_and(|first| WRAPPERS.contains(&base(first)));
    let last = if is_wrapped { argv.len() } else { 1.min(argv.len()) };
    let reader = (0..last).find(|at| {
        let operands = || argv[at + 1..].iter().filter(|word| !word.starts_with(b"-") || *word == b"-");
        match Kind::of(argv, *at) {
            Some(Kind::Shell) => {
                let reads_it = argv[at + 1..].iter().any(|word| is_cluster(word) && word.contains(&b's'));
                reads_it || (shell_script(argv, *at).is_none() && operands().next().is_none())
            }
            Some(kind @ Kind::Flags { is_language: true, .. }) => {
                kind.code(argv, *at).is_empty() && operands().next().is_none_or(|word| *word == b"-")
            }
            Some(Kind::Remote) => remote(argv, *at).is_empty() && argv.len() > at + 1,
            _ => false,
        }
    });
    reader.map(|at| String::from_utf8_lossy(base(argv[at])).into_owned())
}

/// Kinds of interpreters, by how they are given code.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// `-c`, and then the first word that is no option.
    Shell,
    /// Behind one of these letters, or in the same word; behind one of these long options, or in the same word.
    Flags { short: &'static [u8], long: &'static [&'static str], is_language: bool },
    /// The first word that is no option, and what stands behind these.
    First { short: &'static [u8], long: &'static [&'static str] },
    /// What stands behind the host.
    Remote,
    /// All that follows.
    All { reading: Reading },
    /// The words behind this option.
    Split,
}

impl Kind {
    fn of(argv: &[&[u8]], at: usize) -> Option<Self> {
        let name = std::str::from_utf8(base(argv[at])).ok()?;
        // Versions: `python3.12`, `lua5.4`.
        let plain = name.trim_end_matches(|one: char| one.is_ascii_digit() || one == '.' || one == '-');
        let flags = |short, long| Some(Self::Flags { short, long, is_language: true });
        let command = |long| Some(Self::Flags { short: b"c", long, is_language: false });
        match plain {
            "sh" | "bash" | "dash" | "ash" | "zsh" | "ksh" | "mksh" | "pdksh" | "yash" | "fish" | "csh" | "tcsh"
            | "rbash" | "rksh" | "elvish" | "nu" | "xonsh" => Some(Self::Shell),
            "python" | "pypy" | "ipython" => flags(b"c", &[]),
            "perl" => flags(b"eE", &[]),
            "ruby" | "Rscript" | "R" | "lua" | "luajit" | "guile" | "elixir" | "groovy" | "julia" => {
                flags(b"eE", &["eval", "print"])
            }
            "node" | "nodejs" | "bun" => flags(b"ep", &["eval", "print"]),
            "deno" => flags(b"", &["eval"]),
            "php" => flags(b"rBRE", &["run", "process-code", "process-begin", "process-end"]),
            "pwsh" | "powershell" => flags(b"cC", &["Command"]),
            "psql" => flags(b"c", &["command"]),
            "mysql" | "mariadb" => flags(b"e", &["execute"]),
            "su" | "runuser" => command(&["command", "session-command"]),
            "script" | "flock" | "sg" => command(&["command"]),
            "awk" | "gawk" | "mawk" | "nawk" | "original-awk" => Some(Self::First { short: b"e", long: &["source"] }),
            "sed" | "gsed" => Some(Self::First { short: b"e", long: &["expression"] }),
            "ssh" | "autossh" | "rsh" | "slogin" | "dbclient" | "plink" => Some(Self::Remote),
            "watch" | "tmux" | "pdsh" => Some(Self::All { reading: Reading::Joined }),
            "eval" | "trap" | "let" | "alias" | "unset" | "read" if at == 0 => {
                Some(Self::All { reading: Reading::Code })
            }
            "[[" | "[" | "test" if at == 0 && argv.iter().any(|word| EVALUATED.contains(word)) => {
                Some(Self::All { reading: Reading::Code })
            }
            "env" => Some(Self::Split),
            _ => None,
        }
    }

    /// The words that are read as code, of the interpreter that stands at `at`.
    fn code(self, argv: &[&[u8]], at: usize) -> Vec<(usize, Reading)> {
        let behind = at + 1..argv.len();
        let code = |words: Vec<usize>| words.into_iter().map(|word| (word, Reading::Code)).collect();
        match self {
            Self::Shell => code(shell_script(argv, at).into_iter().collect()),
            Self::Flags { short, long, .. } => code(flagged(argv, at, short, long)),
            Self::First { short, long } => {
                let mut words = flagged(argv, at, short, long);
                if words.is_empty() && !behind.clone().any(|at| matches!(argv[at], b"-f" | b"--file")) {
                    words.extend(first_operand(argv, at));
                }
                code(words)
            }
            Self::Remote => remote(argv, at),
            Self::All { reading } => behind.map(|word| (word, reading)).collect(),
            Self::Split => code(flagged(argv, at, b"S", &["split-string"])),
        }
    }
}

/// The script of a shell: the first word behind `-c` that is no option.
fn shell_script(argv: &[&[u8]], at: usize) -> Option<usize> {
    let (mut is_script, mut word) = (false, at + 1);
    while let Some(&text) = argv.get(word) {
        match text {
            b"--" | b"-" => {
                word += 1;
                break;
            }
            b"--command" => is_script = true,
            b"--rcfile" | b"--init-file" => word += 1,
            text if text.starts_with(b"--command=") => return Some(word),
            text if text.starts_with(b"--") => {}
            text if text.starts_with(b"-") || text.starts_with(b"+") => {
                is_script |= text.starts_with(b"-") && text.contains(&b'c');
                // The name of an option follows.
                word += usize::from(text.ends_with(b"o") || text.ends_with(b"O"));
            }
            _ => break,
        }
        word += 1;
    }
    (is_script && word < argv.len()).then_some(word)
}

/// The words that are code by one of these options: in the word itself, or in the next.
fn flagged(argv: &[&[u8]], at: usize, short: &[u8], long: &[&str]) -> Vec<usize> {
    let mut words = Vec::new();
    for (word, text) in argv.iter().enumerate().skip(at + 1) {
        let name = text.strip_prefix(b"--").or_else(|| text.strip_prefix(b"-")).unwrap_or_default();
        let split = name.iter().position(|byte| *byte == b'=');
        let (bare, has_value) = split.map_or((name, false), |at| (&name[..at], true));
        if long.iter().any(|long| long.as_bytes() == bare) {
            words.push(if has_value { word } else { word + 1 });
        } else if is_cluster(text)
            && let Some(letter) = text.iter().position(|byte| short.contains(byte))
        {
            // In the same word, unless these are more letters (`-ep`, `-nle`).
            let rest = &text[letter + 1..];
            words.push(if rest.iter().all(u8::is_ascii_alphabetic) { word + 1 } else { word });
        }
    }
    words
}

fn first_operand(argv: &[&[u8]], at: usize) -> Option<usize> {
    let mut word = at + 1;
    while let Some(&text) = argv.get(word) {
        match text {
            b"--" => return Some(word + 1),
            // A variable or a separator of awk.
            b"-v" | b"-F" => word += 1,
            text if text.starts_with(b"-") && text.len() > 1 => {}
            _ => return Some(word),
        }
        word += 1;
    }
    None
}

/// What ssh sends to its host, and options that it has a shell run.
fn remote(argv: &[&[u8]], at: usize) -> Vec<(usize, Reading)> {
    let mut words = Vec::new();
    let (mut word, mut has_host) = (at + 1, false);
    while let Some(&text) = argv.get(word) {
        let runs = |text: &[u8]| REMOTE_COMMANDS.iter().any(|name| starts_with_ignoring_case(text, name));
        if has_host {
            words.push((word, Reading::Joined));
        } else if let Some(option) = text.strip_prefix(b"-").filter(|option| !option.is_empty()) {
            let takes_next = option.len() == 1 && REMOTE_OPTIONS.contains(&option[0]);
            let value = if takes_next { word + 1 } else { word };
            if option[0] == b'o'
                && argv.get(value).is_some_and(|text| runs(text.strip_prefix(b"-o".as_slice()).unwrap_or(text)))
            {
                words.push((value, Reading::Code));
            }
            word = value;
        } else {
            has_host = true;
        }
        word += 1;
    }
    words
}

fn starts_with_ignoring_case(text: &[u8], name: &[u8]) -> bool {
    text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
}

/// Options of one letter, perhaps several in one word.
fn is_cluster(word: &[u8]) -> bool {
    word.starts_with(b"-") && !word.starts_with(b"--") && word.len() > 1
}

fn base(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(path, |at| &path[at + 1..])
}

/// Whether no shell sees anything in a value but a part of a word.
pub(crate) fn is_harmless(value: &[u8]) -> bool {
    let is_plain = |one: char| one.is_alphanumeric() || "-_./:@%+,".contains(one);
    !value.is_empty() && std::str::from_utf8(value).is_ok_and(|text| text.chars().all(is_plain))
}

/// Who runs the command that follows.
const WRAPPERS: &[&[u8]] = &[
    b"env",
    b"sudo",
    b"doas",
    b"timeout",
    b"nice",
    b"ionice",
    b"nohup",
    b"setsid",
    b"stdbuf",
    b"time",
    b"chroot",
    b"unshare",
    b"nsenter",
    b"docker",
    b"podman",
    b"kubectl",
    b"systemd-run",
    b"taskset",
    b"chrt",
    b"setpriv",
    b"gosu",
    b"busybox",
    b"sshpass",
    b"exec",
    b"command",
    b"xargs",
    b"lxc",
    b"runuser",
    b"su",
];
/// Those options of ssh(1) that take a value.
const REMOTE_OPTIONS: &[u8] = b"BbcDEeFIiJLlmOopQRSWw";
/// Options of ssh_config(5) that are run by a shell.
const REMOTE_COMMANDS: &[&[u8]] = &[b"ProxyCommand", b"LocalCommand", b"RemoteCommand", b"KnownHostsCommand", b"Match"];
/// Tests that evaluate their operands as arithmetic, which may run commands (bash, "Conditional Expressions").
const EVALUATED: &[&[u8]] = &[b"-v", b"-R", b"-eq", b"-ne", b"-lt", b"-le", b"-gt", b"-ge"];

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<(usize, Reading)> {
        let argv: Vec<Vec<u8>> =
            line.split(' ').map(|word| word.replace("{}", "\0").replace('_', " ").into_bytes()).collect();
        let argv: Vec<&[u8]> = argv.iter().map(Vec::as_slice).collect();
        nested(&argv).into_iter().map(|nested| (nested.word, nested.reading)).collect()
    }

    #[test]
    fn code_is_found_behind_whatever_runs_the_interpreter() {
        for (line, word) in [
            ("sh -c echo_{}", 2),
            ("/bin/bash -ic echo_{}", 2),
            ("bash -o pipefail -c echo_{}", 4),
            ("bash -c -e echo_{} x", 3),
            ("bash --norc -ec echo_{}", 3),
            ("env A=1 sh -c echo_{}", 4),
            ("sudo -u x sh -c echo_{}", 5),
            ("timeout 5 sh -c echo_{}", 4),
            ("docker exec x sh -c echo_{}", 5),
            ("nice -n 5 nohup setsid sh -c echo_{}", 7),
            ("xargs -I @ sh -c echo_{}", 5),
            ("su -c echo_{} bob", 2),
            ("su bob --command=echo_{}", 2),
            ("python3 -c print('{}')", 2),
            ("python3.12 -Ic print('{}')", 2),
            ("python3 -cprint('{}')", 1),
            ("perl -ne print_{}", 2),
            ("node --eval=f({}) x", 1),
            ("php -r echo_{};", 2),
            ("awk -F : /{}/", 3),
            ("sed -i s/a/{}/ file", 2),
            ("env -S sh_{}", 2),
            ("ssh -o ProxyCommand=nc_{} host", 2),
            ("eval echo {}", 2),
        ] {
            assert_eq!(words(line), [(word, Reading::Code)], "{line}");
        }
        assert_eq!(words("ssh -p 22 {} systemctl restart {}"), [(6, Reading::Joined)]);
        assert_eq!(words("ssh host echo_{}"), [(2, Reading::Joined)]);
        assert_eq!(words("watch -n 1 ls {}"), [(4, Reading::Joined)]);
    }

    #[test]
    fn arguments_of_scripts_and_of_other_programs_are_no_code() {
        for line in [
            "sh -c echo_\"$1\" sh {}",
            "sh {} -c",
            "bash -c x -c {}",
            "python3 -c x {}",
            "perl -e x {}",
            "perl -ne x {}",
            "ssh -p 22 {} uptime",
            "awk -f prog {}",
            "awk -v x={} /a/ {}",
            "sed -e s/a/b/ {}",
            "grep -e {} sh",
            "gzip -c {}",
            "env A={} make",
            "cc -c {}",
        ] {
            assert_eq!(words(line), [], "{line}");
        }
    }

    #[test]
    fn code_on_standard_input_is_known_by_who_reads_it() {
        let reader = |line: &str| {
            let argv: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            reads_code(&argv)
        };
        for line in ["sh", "bash -s x", "sudo bash", "python3 -", "python3", "ssh host", "timeout 5 perl"] {
            assert!(reader(line).is_some(), "{line}");
        }
        for line in ["sh -c cat", "sh script", "grep sh", "python3 -c x", "python3 x.py", "ssh host cat", "cat"] {
            assert_eq!(reader(line), None, "{line}");
        }
    }
}
