//! Which programs take code, and where: the data that [`nested`](super::nested) goes by, and `docs/each-code.md` tells
//! of.
//!
//! Two readings are told apart, see [`Reading`]: a program text, for which an item can be an argument instead; and a
//! line that is given to a shell, where there is often no other way than to put the item into it.
//!
//! Left out: what names a program or a file and nothing else (`sh {}`, `python3 -m {}`, `make -f {}`), languages that
//! can only compute (jq, regular expressions), and options that an item brings by itself when it begins with a dash.

/// How a word is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// It is a program, or is loaded into one.
    Code,
    /// It becomes part of a line for a shell.
    Line,
}

/// A program, by its names.
#[derive(Debug)]
pub(crate) struct Interpreter {
    pub(crate) names: &'static [&'static str],
    pub(crate) takes: &'static [Takes],
    /// How it is given its program otherwise, such as by a file.
    pub(crate) otherwise: Options,
    /// Other options that take a value, so that this is no operand.
    pub(crate) valued: Options,
    /// Options end with the first operand.
    pub(crate) options_first: bool,
    pub(crate) reads: Reads,
}

/// Where a program takes code.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Takes {
    /// The first operand behind `-c`, as shells have it.
    Script,
    /// The value of one of these options.
    Value(Options, Reading),
    /// The operand with this number, from 0, unless an option gave the program.
    Operand(usize),
    /// All that follows, where it is the command itself.
    Builtin,
    /// All that follows, where it is the command itself and one of the words is this.
    BuiltinWith(&'static [&'static str]),
    /// All that follows, which is joined to a line.
    Joined,
    /// The same behind this word.
    JoinedBehind(&'static str),
    /// What follows the host, and options that run something.
    Host,
    /// Words that begin with a plus.
    Plus,
    /// Operands of the form `NAME=VALUE`.
    Variables,
}

/// Options by letter, and by name (behind one dash or two).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    pub(crate) short: &'static str,
    pub(crate) long: &'static [&'static str],
}

/// What a program does with its standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    /// Nothing that is code, unless it is told to take its program from there by name (`-f -`).
    Data,
    /// Its program, if it is not given one.
    Program,
    /// Its commands, whatever else it is given.
    Commands,
}

const NONE: Options = short("");
const PLAIN: Interpreter =
    Interpreter { names: &[], takes: &[], otherwise: NONE, valued: NONE, options_first: false, reads: Reads::Data };

const fn short(short: &'static str) -> Options {
    Options { short, long: &[] }
}

const fn options(short: &'static str, long: &'static [&'static str]) -> Options {
    Options { short, long }
}

const fn code(short: &'static str, long: &'static [&'static str]) -> Takes {
    Takes::Value(options(short, long), Reading::Code)
}

const fn line(short: &'static str, long: &'static [&'static str]) -> Takes {
    Takes::Value(options(short, long), Reading::Line)
}

const fn language(names: &'static [&'static str], takes: &'static [Takes], valued: Options) -> Interpreter {
    Interpreter { names, takes, valued, options_first: true, reads: Reads::Program, ..PLAIN }
}

const fn client(names: &'static [&'static str], takes: &'static [Takes], valued: Options) -> Interpreter {
    Interpreter { names, takes, valued, otherwise: options("f", &["file"]), reads: Reads::Program, ..PLAIN }
}

const fn plain(names: &'static [&'static str], takes: &'static [Takes]) -> Interpreter {
    Interpreter { names, takes, ..PLAIN }
}

const fn commands(names: &'static [&'static str], takes: &'static [Takes]) -> Interpreter {
    Interpreter { names, takes, reads: Reads::Commands, ..PLAIN }
}

/// By the name of their file; versions (`python3.12`) are taken off before.
pub(crate) const INTERPRETERS: &[Interpreter] = &[
    // Shells.
    language(
        &[
            "sh", "bash", "dash", "ash", "zsh", "ksh", "mksh", "pdksh", "yash", "fish", "csh", "tcsh", "rbash", "rksh",
            "elvish", "nu", "xonsh",
        ],
        &[Takes::Script],
        NONE,
    ),
    plain(&["eval", "trap", "let", "alias", "unset", "read"], &[Takes::Builtin]),
    // Operands of these are evaluated as arithmetic, which may run commands (bash, "Conditional Expressions").
    plain(&["[[", "[", "test"], &[Takes::BuiltinWith(&["-v", "-R", "-eq", "-ne", "-lt", "-le", "-gt", "-ge"])]),
    // Languages.
    Interpreter {
        otherwise: short("m"),
        ..language(&["python", "pypy", "ipython"], &[code("c", &[])], options("WXQ", &["check-hash-based-pycs"]))
    },
    language(&["perl"], &[code("eEMm", &[])], short("I")),
    language(&["ruby"], &[code("e", &[])], short("IrCE")),
    language(
        &["node", "nodejs", "bun"],
        &[code("ep", &["eval", "print"])],
        options("rC", &["require", "import", "loader"]),
    ),
    plain(&["deno"], &[Takes::JoinedBehind("eval")]),
    Interpreter {
        otherwise: short("fF"),
        ..language(&["php"], &[code("rBRE", &["run", "process-code", "process-begin", "process-end"])], short("dcztS"))
    },
    language(&["lua", "luajit"], &[code("e", &[])], short("l")),
    language(&["R", "Rscript"], &[code("e", &[])], NONE),
    language(&["julia"], &[code("eE", &["eval", "print"])], short("LJCtp")),
    language(&["guile"], &[code("c", &[])], short("Llsx")),
    language(&["elixir", "groovy", "scala", "ghc"], &[code("e", &["eval", "rpc-eval"])], NONE),
    language(&["octave"], &[code("", &["eval"])], NONE),
    language(&["osascript"], &[code("e", &[])], short("l")),
    language(&["gnuplot"], &[code("e", &[])], NONE),
    language(&["tclsh", "wish"], &[], NONE),
    language(&["expect"], &[code("c", &[])], NONE),
    language(&["bpftrace"], &[code("e", &[])], NONE),
    plain(&["pwsh", "powershell"], &[code("cC", &["Command", "command", "EncodedCommand"])]),
    Interpreter {
        otherwise: options("f", &["file"]),
        reads: Reads::Data,
        ..language(
            &["awk", "gawk", "mawk", "nawk", "original-awk"],
            &[code("e", &["source"]), Takes::Operand(0)],
            options("vFli", &["assign", "field-separator", "load", "include"]),
        )
    },
    Interpreter {
        otherwise: options("f", &["file"]),
        ..plain(&["sed", "gsed"], &[code("e", &["expression"]), Takes::Operand(0)])
    },
    // Editors and debuggers, which run commands.
    commands(&["vim", "vi", "nvim", "ex", "view"], &[code("c", &["cmd"]), Takes::Plus]),
    plain(&["emacs"], &[code("", &["eval", "execute"])]),
    commands(&["gdb"], &[code("", &["ex", "iex", "eval-command", "init-eval-command"])]),
    commands(&["lldb"], &[code("oO", &["one-line"])]),
    commands(&["ed", "m4"], &[]),
    commands(&["dc"], &[code("e", &["expression"])]),
    // Clients of databases.
    client(
        &["psql"],
        &[code("c", &["command"])],
        options("dhpUvFPRT", &["dbname", "host", "port", "username", "variable", "set"]),
    ),
    client(&["mysql", "mariadb"], &[code("e", &["execute"])], options("hPuDS", &["host", "port", "user", "database"])),
    plain(&["sqlite", "duckdb"], &[code("c", &["cmd"]), Takes::Operand(1)]),
    plain(&["clickhouse-client"], &[code("q", &["query"])]),
    plain(&["mongosh", "mongo"], &[code("", &["eval"])]),
    plain(&["cqlsh"], &[code("e", &["execute"])]),
    plain(&["sqlcmd"], &[code("qQ", &[])]),
    // These hand a line to a shell.
    plain(&["su", "runuser"], &[code("c", &["command", "session-command"])]),
    plain(&["script", "flock", "sg"], &[code("c", &["command"])]),
    plain(&["env"], &[code("S", &["split-string"])]),
    Interpreter {
        options_first: true,
        ..plain(&["ssh", "autossh", "rsh", "slogin", "dbclient", "plink"], &[Takes::Host])
    },
    plain(&["watch", "tmux", "screen", "pdsh", "hyperfine"], &[Takes::Joined]),
    commands(&["parallel"], &[Takes::Joined]),
    plain(
        &["tar", "bsdtar", "gtar"],
        &[line(
            "IF",
            &[
                "checkpoint-action",
                "to-command",
                "use-compress-program",
                "info-script",
                "new-volume-script",
                "rsh-command",
                "rmt-command",
            ],
        )],
    ),
    plain(&["rsync"], &[line("e", &["rsh", "rsync-path"])]),
    Interpreter { options_first: true, ..plain(&["git"], &[line("c", &["config-env"])]) },
    plain(&["git"], &[Takes::JoinedBehind("foreach"), line("", &["exec", "upload-pack", "receive-pack"])]),
    Interpreter {
        otherwise: options("f", &["file", "makefile"]),
        ..plain(&["make", "gmake"], &[code("", &["eval"]), Takes::Variables])
    },
    plain(&["sort"], &[line("", &["compress-program"])]),
    plain(&["split"], &[line("", &["filter"])]),
    plain(&["man"], &[line("P", &["pager"])]),
    commands(&["lftp"], &[code("ce", &[])]),
    commands(&["at", "batch", "ftp"], &[]),
    plain(&["crontab"], &[]),
    plain(&["sftp"], &[]),
];

/// Variables that are code for whatever is started.
pub(crate) const CODE_VARIABLES: &[&str] = &[
    "BASH_ENV",
    "ENV",
    "PROMPT_COMMAND",
    "PS4",
    "LD_PRELOAD",
    "LD_AUDIT",
    "DYLD_INSERT_LIBRARIES",
    "PYTHONSTARTUP",
    "PERL5OPT",
    "PERL5DB",
    "RUBYOPT",
    "MAKEFLAGS",
    "GNUMAKEFLAGS",
    "VIMINIT",
    "EXINIT",
];

/// Variables that hold a line for a shell, or options of whatever is started: code where an item is their beginning.
pub(crate) const LINE_VARIABLES: &[&str] = &[
    "GIT_SSH_COMMAND",
    "GIT_SSH",
    "GIT_PAGER",
    "GIT_EDITOR",
    "GIT_SEQUENCE_EDITOR",
    "GIT_EXTERNAL_DIFF",
    "GIT_PROXY_COMMAND",
    "GIT_ASKPASS",
    "SSH_ASKPASS",
    "PAGER",
    "MANPAGER",
    "EDITOR",
    "VISUAL",
    "BROWSER",
    "LESSOPEN",
    "LESSCLOSE",
    "RSYNC_RSH",
    "CVS_RSH",
    "TAR_OPTIONS",
    "NODE_OPTIONS",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "SHELL",
];

/// Programs that run the command that follows.
pub(crate) const WRAPPERS: &[&str] = &[
    "env",
    "sudo",
    "doas",
    "timeout",
    "nice",
    "ionice",
    "nohup",
    "setsid",
    "stdbuf",
    "time",
    "chroot",
    "unshare",
    "nsenter",
    "docker",
    "podman",
    "kubectl",
    "systemd-run",
    "taskset",
    "chrt",
    "setpriv",
    "gosu",
    "busybox",
    "sshpass",
    "exec",
    "command",
    "builtin",
    "xargs",
    "lxc",
    "runuser",
    "su",
    "strace",
    "ltrace",
    "perf",
    "faketime",
    "firejail",
    "bwrap",
    "toolbox",
    "distrobox",
    "nerdctl",
    "oc",
    "script",
    "flock",
    "!",
    "caffeinate",
    "unbuffer",
    "catchsegv",
    "linux32",
    "linux64",
    "setarch",
];

/// Programs that run none of the words behind them, so that the name of an interpreter among them means nothing.
pub(crate) const ONLY_DATA: &[&str] = &[
    "echo",
    "printf",
    "grep",
    "egrep",
    "fgrep",
    "zgrep",
    "rg",
    "ag",
    "ls",
    "cat",
    "cp",
    "mv",
    "rm",
    "ln",
    "mkdir",
    "rmdir",
    "touch",
    "stat",
    "file",
    "wc",
    "head",
    "tail",
    "uniq",
    "cut",
    "tr",
    "tee",
    "diff",
    "cmp",
    "which",
    "type",
    "whereis",
    "basename",
    "dirname",
    "realpath",
    "readlink",
    "chmod",
    "chown",
    "gzip",
    "gunzip",
    "xz",
    "zstd",
    "bzip2",
    "sha256sum",
    "md5sum",
    "curl",
    "wget",
    "jq",
    "convert",
    "ffmpeg",
    "pip",
    "apt",
    "apt-get",
    "dnf",
    "brew",
    "npm",
    "cargo",
    "pgrep",
    "pkill",
    "kill",
    "true",
    "false",
    "sleep",
    "seq",
    "date",
    "du",
    "df",
    "pgrep",
];

/// Options of ssh_config(5) that are run by a shell.
pub(crate) const REMOTE_COMMANDS: &[&str] =
    &["ProxyCommand", "LocalCommand", "RemoteCommand", "KnownHostsCommand", "Match"];

/// Those options of ssh(1) that take a value.
pub(crate) const REMOTE_OPTIONS: &str = "BbcDEeFIiJLlmOopQRSWw";

/// Names of standard input.
pub(crate) const STANDARD_INPUT: &[&str] = &["-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"];
