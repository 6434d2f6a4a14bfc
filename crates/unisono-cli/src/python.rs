//! What is handed over to `python -m unisono`, since it runs code of Python.
//!
//! The interpreter is the one next to this command, which is the one that the package is installed for. It takes the
//! place of this process, so that signals, standard streams and the exit status are its own. Words are passed on as
//! they are; the help is Python's.

use std::{
    env,
    ffi::OsString,
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::failure::Failure;

/// Becomes `python -m unisono VERB WORDS...`; returns only if that cannot be.
pub fn become_python(verb: &str, words: &[OsString]) -> Result<u8, Failure> {
    let python = python()?;
    // Python would find /dev/null there, and print into it.
    crate::output::file()?;
    let error = Command::new(&python).args(["-m", "unisono", verb]).args(words).exec();
    Err(cannot_start(&python.display().to_string(), &error))
}

/// The Python that this command was installed for.
pub fn python() -> Result<PathBuf, Failure> {
    let here = env::current_exe().map_err(|error| cannot_start("this command", &error))?;
    interpreter(&here).ok_or_else(|| {
        Failure::fault(format!("there is no Python next to `{}`", here.display()))
            .hint("install unisono with pip, or run `python -m unisono` with the Python that has it")
    })
}

fn interpreter(command: &Path) -> Option<PathBuf> {
    let folder = command.parent()?;
    ["python", "python3"].iter().map(|name| folder.join(name)).find(|path| path.exists())
}

fn cannot_start(what: &str, error: &io::Error) -> Failure {
    Failure::fault(format!("cannot start `{what}`: {error}"))
}
