//! What is waited for without anything to be seen is said once: the other end of a named pipe, which may never be
//! opened, after two seconds, and what is to be typed at a terminal, at once.

use std::{
    io::IsTerminal,
    os::unix::fs::FileTypeExt,
    path::Path,
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::Duration,
};

use crate::{args::ShowArgs, terminal::Terminal};

/// What is to open the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherEnd {
    Writer,
    Reader,
}

/// Opens what is at some of these paths.
pub fn opening<'a, T>(
    paths: impl IntoIterator<Item = &'a Path>,
    other: OtherEnd,
    terminal: &Terminal,
    open: impl FnOnce() -> T,
) -> T {
    let is_pipe = |path: &&Path| std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo());
    let pipes: Vec<String> = paths.into_iter().filter(is_pipe).map(|path| format!("`{}`", path.display())).collect();
    if pipes.is_empty() {
        return open();
    }
    let noun = if let [_] = pipes[..] { "the pipe" } else { "one of the pipes" };
    let end = match other {
        OtherEnd::Writer => "written to",
        OtherEnd::Reader => "read from",
    };
    let told = format!("waiting until {noun} {} is opened to be {end}", pipes.join(", "));
    let terminal = terminal.clone();
    let (opened, is_open) = channel::<()>();
    let wait = move || {
        if is_open.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            terminal.note(&told);
        }
    };
    // Without a thread it waits silently, and is not the worse for it.
    let thread = thread::Builder::new().name("unisono-waiting".into()).spawn(wait);
    let result = open();
    drop(opened);
    if let Ok(thread) = thread {
        let _ = thread.join();
    }
    result
}

/// Says that standard input is a terminal, where that is what is read.
pub fn typed(path: &Path, what: &str, show: &ShowArgs, terminal: &Terminal) {
    if path.as_os_str() == "-" && !show.is_quiet() && std::io::stdin().is_terminal() {
        terminal.note(format!("reading {what} from the terminal, one per line (Ctrl-D ends them)"));
    }
}

/// Longer than a shell takes to start both ends, and no longer than a user would wait before asking.
const PATIENCE: Duration = Duration::from_secs(2);
