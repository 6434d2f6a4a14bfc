//! What to start, and why it could not be.
//!
//! A command is started by the standard library, which uses `posix_spawn`: no code of ours runs between fork and exec, so
//! the memory of this process is never copied. That is why there is no `pre_exec` here.

use std::{
    error::Error,
    ffi::OsString,
    fmt, io,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{self, Stdio},
};

use bytes::Bytes;

/// A program, its arguments, and what surrounds it.
#[derive(Debug, Clone, Default)]
pub struct Command {
    /// The program and its arguments; never empty. A name without a slash is looked for in `PATH`.
    pub argv: Vec<OsString>,
    /// Where it runs; `None`: where we are.
    pub folder: Option<PathBuf>,
    /// Added to our environment.
    pub environment: Vec<(OsString, OsString)>,
    /// Taken out of our environment.
    pub without: Vec<OsString>,
    /// What it reads.
    pub stdin: Stdin,
    /// Its output goes where ours goes, and is not captured.
    pub inherit_output: bool,
}

/// What a command reads.
#[derive(Debug, Clone, Default)]
pub enum Stdin {
    /// Nothing: a command that asks for something finds the end of its input.
    #[default]
    Null,
    /// These bytes.
    Bytes(Bytes),
    /// What we read.
    Inherit,
}

impl Command {
    /// Starts it at the head of a process group of its own.
    pub(crate) fn spawn(&self, marker: &str) -> io::Result<process::Child> {
        let mut command = process::Command::new(&self.argv[0]);
        command.args(&self.argv[1..]).process_group(0);
        for name in &self.without {
            command.env_remove(name);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.env(crate::MARKER, marker);
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command.stdin(match self.stdin {
            Stdin::Null => Stdio::null(),
            Stdin::Bytes(_) => Stdio::piped(),
            Stdin::Inherit => Stdio::inherit(),
        });
        if !self.inherit_output {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        command.spawn()
    }
}

/// Why a command could not be started. It has taken no effect.
#[derive(Debug)]
pub struct SpawnError {
    program: OsString,
    folder: Option<PathBuf>,
    source: io::Error,
}

impl SpawnError {
    pub(crate) fn new(command: &Command, source: io::Error) -> Self {
        let folder = command.folder.clone().filter(|folder| !folder.is_dir());
        Self { program: command.argv.first().cloned().unwrap_or_default(), folder, source }
    }

    /// The exit status that shells give for this: 127 not found, 126 not executable (POSIX, "Exit Status for Commands").
    pub fn exit_code(&self) -> u8 {
        let is_missing = self.source.kind() == io::ErrorKind::NotFound && self.folder.is_none();
        if is_missing { 127 } else { 126 }
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = self.program.to_string_lossy();
        match &self.folder {
            Some(folder) => write!(f, "`{program}` cannot be started in `{}`", folder.display()),
            None => write!(f, "`{program}` cannot be started"),
        }
    }
}

impl Error for SpawnError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.source)
    }
}
