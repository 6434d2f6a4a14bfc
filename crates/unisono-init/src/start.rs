//! Starting the command: where it is, and what to say when it is not there.
//!
//! Exit codes are those of shells, `env` and `docker run`: 127 when there is no such command, 126 when there is
//! one that cannot be run, 125 when we failed ourselves.

use alloc::{
    borrow::ToOwned,
    ffi::CString,
    format,
    string::{String, ToString},
    vec::Vec,
};
use core::ffi::CStr;

use unisono_bare::{
    error::SystemError,
    program::exists,
    spawn::{SpawnError, SpawnRequest},
};

/// Where a command may be: itself when it is a path, or one place for each folder of `search`.
pub fn program(words: &[CString], search: Option<&[u8]>, foreground: bool) -> SpawnRequest {
    let name = words.first().map_or(&b""[..], |word| word.to_bytes());
    let paths = if name.contains(&b'/') {
        alloc::vec![name.to_vec()]
    } else if name.is_empty() {
        Vec::new()
    } else {
        let folders = search.unwrap_or(USUAL_FOLDERS).split(|byte| *byte == b':');
        // An empty entry means the current folder, as everywhere.
        folders.map(|folder| [if folder.is_empty() { b"." } else { folder }, b"/", name].concat()).collect()
    };
    let paths = paths.into_iter().filter_map(|path| CString::new(path).ok()).collect();
    SpawnRequest { paths, words: words.to_vec(), foreground }
}

/// Why a command did not start, for a person, and the exit code.
pub fn explain(error: SpawnError, program: &SpawnRequest, search: Option<&[u8]>) -> (String, u8) {
    let name = program.words.first().map_or("", |word| word.to_str().unwrap_or(NOT_TEXT));
    let reason = match error {
        SpawnError::Process(reason) => {
            let hint = "the limit on processes is reached (`ulimit -u`, or `pids.max` of the container)";
            return (format!("cannot start `{name}`: no new process: {reason}\nhint: {hint}"), 125);
        }
        SpawnError::Program(reason) => reason,
    };
    let there = program.paths.iter().any(|path| exists(path));
    let (why, hint, code) = match reason {
        SystemError::NOT_FOUND if there => (
            reason.to_string(),
            "the file is there: what is missing is the interpreter in its first line, or the loader it was linked for"
                .to_owned(),
            127,
        ),
        SystemError::NOT_FOUND if name.contains('/') => {
            (reason.to_string(), "paths are those within the container; mind the working directory".to_owned(), 127)
        }
        SystemError::NOT_FOUND => {
            let search = core::str::from_utf8(search.unwrap_or(USUAL_FOLDERS)).unwrap_or(NOT_TEXT);
            let hint = "install it, or give its path; a shell's own words need `sh -c`".to_owned();
            (format!("not found in PATH ({search})"), hint, 127)
        }
        SystemError::NOT_ALLOWED => {
            (reason.to_string(), "make the file executable (`chmod +x`), and check that it is one".to_owned(), 126)
        }
        SystemError::NOT_A_PROGRAM => (
            reason.to_string(),
            "a script needs `#!` in its first line; a program must be built for this kind of machine".to_owned(),
            126,
        ),
        _ => (reason.to_string(), "see the path and what it points to".to_owned(), 126),
    };
    (format!("cannot start `{name}`: {why}\nhint: {hint}"), code)
}

/// The variable that lists the folders of commands.
pub const SEARCH: &CStr = c"PATH";
/// Stands in messages for what is not UTF-8: to show a part of it would cost 1 KB of program.
const NOT_TEXT: &str = "(not UTF-8)";
/// What is searched when the variable is not set: the folders of the usual images.
const USUAL_FOLDERS: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(name: &str, search: Option<&str>) -> Vec<String> {
        let words = [CString::new(name).unwrap()];
        let found = program(&words, search.map(str::as_bytes), false);
        found.paths.into_iter().map(|path| path.into_string().unwrap()).collect()
    }

    #[test]
    fn a_name_is_looked_for_in_every_folder_and_a_path_is_not() {
        assert_eq!(paths("ls", Some("/a:/b::")), ["/a/ls", "/b/ls", "./ls", "./ls"]);
        assert_eq!(paths("./ls", Some("/a")), ["./ls"]);
        assert_eq!(paths("ls", None).len(), 6);
        assert!(paths("", Some("/a")).is_empty());
    }

    #[test]
    fn each_failure_says_what_why_and_what_to_do() {
        let words = [CString::from(c"/etc/passwd")];
        let there = program(&words, None, false);
        let said = |number, program: &SpawnRequest| {
            explain(SpawnError::Program(SystemError::from_number(number)), program, Some(b"/a"))
        };
        let not_found = SystemError::NOT_FOUND.number();
        for (program, number, part, code) in [
            (&there, not_found, "the file is there", 127),
            (&there, SystemError::NOT_ALLOWED.number(), "chmod +x", 126),
            (&there, SystemError::NOT_A_PROGRAM.number(), "`#!`", 126),
            (&program(&[c"nope".into()], Some(b"/a"), false), not_found, "not found in PATH (/a)", 127),
            (&program(&[c"/no/pe".into()], None, false), not_found, "within the container", 127),
        ] {
            let (message, found) = said(number, program);
            assert!(message.starts_with("cannot start `") && message.contains(part), "{message}");
            assert!(message.contains("\nhint: "), "{message}");
            assert_eq!(found, code);
        }
        assert_eq!(explain(SpawnError::Process(SystemError::from_number(11)), &there, None).1, 125);
    }
}
