//! What to start, and why it could not be.
//!
//! A command is started by the standard library, which uses `posix_spawn`: no code of ours runs between fork and exec, so
//! the memory of this process is never copied. That is why there is no `pre_exec` here.
//!
//! The standard library searches `PATH` of a changed environment only after a fork, so where the whole environment is given
//! the search is done here, by the rules of execvp(3).

use std::{
    error::Error,
    ffi::{OsStr, OsString},
    fmt, io,
    os::unix::{ffi::OsStrExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{self, Stdio},
    sync::Arc,
};

use bytes::Bytes;
use rustix::{
    fs::{Access, access},
    io::Errno,
};

/// A program, its arguments, and what surrounds it.
#[derive(Debug, Clone, Default)]
pub struct Command {
    /// The program and its arguments; never empty. A name without a slash is looked for in `PATH`.
    pub argv: Vec<OsString>,
    /// Where it runs; `None`: where we are.
    pub folder: Option<PathBuf>,
    /// The environment that it inherits; `None`: ours. Whoever shares this process with code that may change the environment
    /// gives it, since a change while it is read is a race (setenv(3), "MT-Unsafe").
    pub inherited: Option<Arc<[(OsString, OsString)]>>,
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
}

impl Command {
    /// Starts it at the head of a process group of its own.
    pub(crate) fn spawn(&self, marker: &str) -> io::Result<process::Child> {
        let program = &self.argv[0];
        let mut command = match &self.inherited {
            None => process::Command::new(program),
            Some(inherited) => {
                let mut command = process::Command::new(self.found_in_path(inherited)?);
                let inherited = inherited.iter().map(|(name, value)| (name, value));
                command.arg0(program).env_clear().envs(inherited);
                command
            }
        };
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

    /// The program's file, by the `PATH` that it will have.
    fn found_in_path(&self, inherited: &[(OsString, OsString)]) -> io::Result<PathBuf> {
        let program = Path::new(&self.argv[0]);
        if program.as_os_str().as_bytes().contains(&b'/') {
            return Ok(program.to_owned());
        }
        let is_kept = !self.without.iter().any(|name| name == "PATH");
        let variables = self.environment.iter().rev().chain(inherited.iter().filter(|_| is_kept));
        let mut variables = variables.filter(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
        let path = variables.next().unwrap_or(OsStr::new(USUAL_PATH));
        let mut reason = Errno::NOENT;
        for folder in std::env::split_paths(path) {
            // An empty entry is the current folder, and without a slash the name would be searched for again.
            let folder = if folder.as_os_str().is_empty() { Path::new(".").to_owned() } else { folder };
            let file = folder.join(program);
            match access(&file, Access::EXEC_OK) {
                Ok(()) if file.is_file() => return Ok(file),
                Err(Errno::ACCESS) => reason = Errno::ACCESS,
                // There may be one in a folder behind it.
                _ => {}
            }
        }
        Err(reason.into())
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

/// What glibc searches where there is no `PATH` (`confstr(_CS_PATH)`).
const USUAL_PATH: &str = "/bin:/usr/bin";

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn command(argv: &[&str], path: &OsStr) -> Command {
        Command {
            argv: argv.iter().map(OsString::from).collect(),
            inherited: Some([("PATH".into(), path.to_owned()), ("KEPT".into(), "kept".into())].into()),
            ..Command::default()
        }
    }

    fn printed(command: &Command) -> String {
        let done = command.spawn("mark").unwrap().wait_with_output().unwrap();
        String::from_utf8(done.stdout).unwrap()
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
        let reason = |name| command(&[name], path).spawn("mark").unwrap_err().kind();
        assert_eq!(reason("plain"), io::ErrorKind::PermissionDenied);
        assert_eq!(reason("missing"), io::ErrorKind::NotFound);
        let mut own = command(&["program"], OsStr::new("/nowhere"));
        own.environment = vec![("PATH".into(), path.to_owned())];
        assert_eq!(printed(&own), "mine\n");
    }
}
