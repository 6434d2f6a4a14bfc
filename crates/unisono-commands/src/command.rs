//! What to start, and why it could not be.
//!
//! The search in `PATH` is that of execvp(3) in the environment that the command will have; the files that it may be
//! are listed here and tried by the child. A file without an interpreter is no script for `sh`.

use std::{
    error::Error,
    ffi::{CString, OsStr, OsString},
    fmt,
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::ffi::{OsStrExt, OsStringExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use rustix::{io::fcntl_dupfd_cloexec, process::Pid};
use unisono_sys::{
    foreground::ControllingTerminal,
    start::{Program, Starter},
};

/// A program, its arguments, and what surrounds it.
#[derive(Debug, Clone, Default)]
pub struct Command {
    /// The program and its arguments; never empty. A name without a slash is looked for in `PATH`.
    pub argv: Vec<OsString>,
    /// Where it runs; `None`: where we are.
    pub folder: Option<PathBuf>,
    /// The environment that it inherits. It is given, since a change while it is read is a race (setenv(3),
    /// "MT-Unsafe"), and only the owner of the process knows when there is none.
    pub inherited: Arc<[(OsString, OsString)]>,
    /// Added to what it inherits.
    pub environment: Vec<(OsString, OsString)>,
    /// Taken out of what it inherits.
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
    /// The terminal that is lent to it; nothing, where none is lent.
    Terminal,
}

/// What every start of a run uses.
#[derive(Debug)]
pub(crate) struct Launcher {
    starter: Starter,
    /// What commands read that are given nothing; opened once.
    null: OwnedFd,
    /// Lent to what is started.
    terminal: Option<Arc<ControllingTerminal>>,
}

/// A command that was started, with our ends of its pipes.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) pid: Pid,
    /// Readable once it has ended.
    pub(crate) end: OwnedFd,
    pub(crate) stdin: Option<OwnedFd>,
    /// Standard output and standard error: where we read, and where it writes.
    pub(crate) outputs: [Option<Pipe>; 2],
}

/// The two ends of a pipe; neither is inherited by other processes.
#[derive(Debug)]
pub(crate) struct Pipe {
    pub(crate) reader: OwnedFd,
    pub(crate) writer: OwnedFd,
}

impl Launcher {
    pub(crate) fn new(terminal: Option<Arc<ControllingTerminal>>) -> io::Result<Self> {
        let null = above_standard(File::open("/dev/null")?.into())?;
        Ok(Self { starter: Starter::default(), null, terminal })
    }
}

impl Pipe {
    fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        Ok(Self { reader: above_standard(reader.into())?, writer: above_standard(writer.into())? })
    }
}

impl Command {
    /// Starts it at the head of a process group of its own.
    pub(crate) fn start(&self, launcher: &mut Launcher, marker: &str) -> io::Result<Launched> {
        let environment = self.whole_environment(marker)?;
        let arguments: Vec<CString> =
            self.argv.iter().map(|word| Ok(CString::new(word.as_bytes())?)).collect::<io::Result<_>>()?;
        let folder = self.folder.as_ref().map(|folder| CString::new(folder.as_os_str().as_bytes())).transpose()?;
        let stdin = match &self.stdin {
            Stdin::Bytes(_) => Some(Pipe::new()?),
            Stdin::Null | Stdin::Inherit | Stdin::Terminal => None,
        };
        let outputs = match self.inherit_output {
            true => [None, None],
            false => [Some(Pipe::new()?), Some(Pipe::new()?)],
        };
        let started = launcher.starter.start(&Program {
            files: &files(&self.argv[0], &environment)?,
            arguments: &arguments,
            environment: &environment,
            folder: folder.as_deref(),
            streams: [
                match &self.stdin {
                    Stdin::Null => Some(launcher.null.as_fd()),
                    Stdin::Bytes(_) => stdin.as_ref().map(|pipe| pipe.reader.as_fd()),
                    Stdin::Terminal => {
                        launcher.terminal.as_deref().map_or(Some(launcher.null.as_fd()), |one| Some(one.as_fd()))
                    }
                    Stdin::Inherit => None,
                },
                outputs[0].as_ref().map(|pipe| pipe.writer.as_fd()),
                outputs[1].as_ref().map(|pipe| pipe.writer.as_fd()),
            ],
            terminal: launcher.terminal.as_deref().map(AsFd::as_fd),
            only_streams: false,
        })?;
        Ok(Launched { pid: started.pid, end: started.end, stdin: stdin.map(|pipe| pipe.writer), outputs })
    }

    /// `NAME=VALUE` of all that it will have: what it inherits, less what is taken out or said anew.
    fn whole_environment(&self, marker: &str) -> io::Result<Vec<CString>> {
        let is_said = |name: &OsString| {
            name == crate::MARKER
                || self.without.contains(name)
                || self.environment.iter().any(|(said, _)| said == name)
        };
        let mut all = Vec::new();
        let mut push = |name: &OsStr, value: &OsStr| {
            let mut entry = Vec::with_capacity(name.len() + value.len() + 2);
            entry.extend_from_slice(name.as_bytes());
            entry.push(b'=');
            entry.extend_from_slice(value.as_bytes());
            all.push(CString::new(entry)?);
            io::Result::Ok(())
        };
        let inherited = self.inherited.iter().filter(|(name, _)| !is_said(name));
        for (name, value) in inherited {
            push(name, value)?;
        }
        for (at, (name, value)) in self.environment.iter().enumerate() {
            // What was said last counts.
            let is_last = !self.environment[at + 1..].iter().any(|(later, _)| later == name);
            if is_last && name != crate::MARKER {
                push(name, value)?;
            }
        }
        push(OsStr::new(crate::MARKER), OsStr::new(marker))?;
        Ok(all)
    }
}

/// The files that a program may be, by the `PATH` that it will have.
fn files(program: &OsStr, environment: &[CString]) -> io::Result<Vec<CString>> {
    if program.as_bytes().contains(&b'/') {
        return Ok(vec![CString::new(program.as_bytes())?]);
    }
    if program.is_empty() {
        // A folder alone would be tried otherwise.
        return Ok(Vec::new());
    }
    let path = environment.iter().find_map(|entry| entry.as_bytes().strip_prefix(b"PATH="));
    let path = OsStr::from_bytes(path.unwrap_or(USUAL_PATH));
    std::env::split_paths(path)
        .map(|folder| {
            // An empty entry is the current folder.
            let folder = if folder.as_os_str().is_empty() { Path::new(".").to_owned() } else { folder };
            Ok(CString::new(folder.join(program).into_os_string().into_vec())?)
        })
        .collect()
}

/// The same open file under a number that is not that of a standard stream, which may be closed in our process.
fn above_standard(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    match descriptor.as_raw_fd() {
        0..=2 => Ok(fcntl_dupfd_cloexec(&descriptor, 3)?),
        _ => Ok(descriptor),
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

    /// The exit status that shells give for this: 127 not found, 126 not executable (POSIX, "Exit Status for
    /// Commands").
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

/// What glibc searches where there is no `PATH` (`confstr(_CS_PATH)`).
const USUAL_PATH: &[u8] = b"/bin:/usr/bin";

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::fs::PermissionsExt};

    use super::*;

    fn command(argv: &[&str], path: &OsStr) -> Command {
        Command {
            argv: argv.iter().map(OsString::from).collect(),
            inherited: [("PATH".into(), path.to_owned()), ("KEPT".into(), "kept".into())].into(),
            ..Command::default()
        }
    }

    fn printed(command: &Command) -> String {
        let Launched { pid, outputs: [Some(stdout), _], .. } =
            command.start(&mut Launcher::new(None).unwrap(), "mark").unwrap()
        else {
            panic!("its output was to be captured");
        };
        drop(stdout.writer);
        let mut text = String::new();
        File::from(stdout.reader).read_to_string(&mut text).unwrap();
        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).unwrap();
        text
    }

    #[test]
    fn a_given_environment_is_all_that_a_command_has() {
        let mut command = command(&["/usr/bin/env"], OsStr::new("/usr/bin:/bin"));
        command.without = vec!["KEPT".into()];
        command.environment = vec![("ADDED".into(), "1".into())];
        let mut lines: Vec<_> = printed(&command).lines().map(str::to_owned).collect();
        lines.sort_unstable();
        assert_eq!(lines, ["ADDED=1", "PATH=/usr/bin:/bin", "UNISONO_RUN=mark"]);
    }

    #[test]
    fn the_path_of_the_given_environment_decides_which_program_it_is() {
        let folder = tempfile::tempdir().unwrap();
        for (name, mode) in [("plain", 0o644), ("program", 0o755)] {
            let path = folder.path().join(name);
            std::fs::write(&path, "#!/bin/sh\necho mine\n").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let path = folder.path().as_os_str();
        assert_eq!(printed(&command(&["program"], path)), "mine\n");
        let start = |name| command(&[name], path).start(&mut Launcher::new(None).unwrap(), "mark");
        let reason = |name| start(name).unwrap_err().kind();
        assert_eq!(reason("plain"), io::ErrorKind::PermissionDenied);
        assert_eq!(reason("missing"), io::ErrorKind::NotFound);
        let mut own = command(&["program"], OsStr::new("/nowhere"));
        own.environment = vec![("PATH".into(), path.to_owned())];
        assert_eq!(printed(&own), "mine\n");
    }
}
