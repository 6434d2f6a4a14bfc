//! Whether what is to be run for each item is there: said once, before the first of them, and not by each in turn.
//!
//! A program whose name has a place is known only with its item, and fails that. What is a script for a shell, a word
//! of a shell or a function of bash is told from a name that is wrong, since there are ways to run it.

use std::{
    env,
    ffi::{OsStr, OsString},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
};

use unisono_runner::{Recipe, Word, push_word};

use crate::failure::Failure;

/// Refuses a command whose program is not there; `words` is the command as it was given. Where nothing is started, the
/// machine that will start it may be another.
pub fn check(words: &[OsString], recipe: &Recipe, starts_nothing: bool) -> Result<(), Failure> {
    let (Some(name), Some(program)) = (words.first(), recipe.argv.first()) else { return Ok(()) };
    if recipe.shell {
        return Ok(());
    }
    let text = name.to_string_lossy();
    let is_script = text.contains(SIGNS);
    match program.constant() {
        // What fills the place may be the name of a program; with a blank beside it, there is hardly one.
        None if !text.contains(' ') => return Ok(()),
        None => {}
        Some(name) => match found(OsStr::from_bytes(&name), recipe) {
            Found::Program | Found::Unknown => return Ok(()),
            Found::File(path) => {
                let shown = path.display();
                return Err(Failure::usage(format!("`{shown}` is a file that may not be executed"))
                    .hint(format!("`chmod +x {shown}`, or name what reads it, as `unisono each -- sh {shown}`")));
            }
            Found::Nothing => {}
        },
    }
    let shell = |script: &str| {
        let mut quoted = Vec::new();
        push_word(script.as_bytes(), &mut quoted);
        format!("`unisono each --shell {}`", String::from_utf8_lossy(&quoted))
    };
    if let [_] = words
        && text.contains(' ')
    {
        let program = text.split(' ').next().unwrap_or_default();
        let apart = !is_script && is_there(OsStr::new(program), recipe);
        let apart =
            if apart { format!("give its words apart, as `unisono each -- {text}`, or ") } else { String::new() };
        return Err(Failure::usage(format!(
            "`{text}` is one word, and so the name of one program, with a blank in it"
        ))
        .hint(format!("{apart}have a shell read it: {}", shell(&text))));
    }
    if starts_nothing {
        return Ok(());
    }
    let failure = Failure::usage(match text.contains('/') {
        true => format!("there is no program `{text}`"),
        false => format!("there is no program `{text}` in the folders of PATH"),
    });
    Err(if env::var_os(format!("BASH_FUNC_{text}%%")).is_some() {
        failure.hint(format!("it is a function of bash: `unisono each -- bash -c '{text} \"$@\"' bash {{}}`"))
    } else if is_script {
        failure.hint("what a shell is to read is one script: `unisono each --shell 'SCRIPT'`")
    } else if SHELL_WORDS.contains(&&*text) {
        failure.hint(format!("it is a word of the shell: {}", shell(&format!("{text} ..."))))
    } else {
        failure.hint("check its name, or give its path")
    })
}

/// Words that a shell would act on, and that are arguments like any other here: what to say of the first, if any.
pub fn for_a_shell(words: &[OsString], recipe: &Recipe) -> Option<String> {
    let program = words.first().map(Path::new)?.file_name()?;
    if recipe.shell || PASS_ON.iter().any(|name| program == *name) {
        return None;
    }
    let joins = |at: usize| words.get(at + 1).is_some_and(|next| is_there(next, recipe));
    let is_one = |(at, word): &(usize, &OsString)| match word.as_bytes() {
        b"|" | b"||" | b"&&" | b";" | b"|&" => joins(*at),
        b">" | b">>" | b"2>" => *at + 1 < words.len(),
        [b'>', ..] => recipe.argv.get(*at).is_some_and(Word::has_places),
        _ => false,
    };
    let (_, word) = words.iter().enumerate().skip(1).find(is_one)?;
    Some(format!(
        "`{}` is an argument of `{}` like any other, since no shell takes part; `--shell` has one: `unisono each --shell 'SCRIPT'`",
        word.to_string_lossy(),
        program.to_string_lossy()
    ))
}

enum Found {
    Program,
    /// Something is there that cannot be executed.
    File(PathBuf),
    Nothing,
    /// It depends on the item.
    Unknown,
}

fn is_there(name: &OsStr, recipe: &Recipe) -> bool {
    matches!(found(name, recipe), Found::Program)
}

/// Looks for a program where execvp(3) will.
fn found(name: &OsStr, recipe: &Recipe) -> Found {
    let mut files: Vec<PathBuf> = if name.as_bytes().contains(&b'/') {
        vec![name.into()]
    } else {
        let own = recipe.environment.iter().rev().find(|(variable, _)| variable == "PATH");
        let path = match own.map(|(_, value)| value.constant()) {
            Some(None) => return Found::Unknown,
            Some(Some(path)) => OsStr::from_bytes(&path).to_owned(),
            None => env::var_os("PATH").unwrap_or_else(|| USUAL_PATH.into()),
        };
        env::split_paths(&path).map(|folder| folder.join(name)).collect()
    };
    if files.iter().any(|file| file.is_relative())
        && let Some(folder) = &recipe.folder
    {
        let Some(folder) = folder.constant() else { return Found::Unknown };
        let folder = Path::new(OsStr::from_bytes(&folder));
        files.iter_mut().for_each(|file| *file = folder.join(&*file));
    }
    let mode = |file: &PathBuf| {
        std::fs::metadata(file).ok().filter(|found| found.is_file()).map(|found| found.permissions().mode())
    };
    let there: Vec<(PathBuf, u32)> =
        files.into_iter().filter_map(|file| mode(&file).map(|mode| (file, mode))).collect();
    match there.iter().any(|(_, mode)| mode & 0o111 != 0) {
        true => Found::Program,
        false => there.into_iter().next().map_or(Found::Nothing, |(file, _)| Found::File(file)),
    }
}

/// What is in a script and in no name of a program.
const SIGNS: &[char] = &['|', '&', ';', '<', '>', '(', ')', '$', '`', '"', '\''];
/// Words of shells that are no programs of their own everywhere.
const SHELL_WORDS: &[&str] = &[
    ".", "alias", "bg", "case", "cd", "command", "declare", "eval", "exec", "exit", "export", "fg", "for", "function",
    "if", "local", "read", "return", "set", "shift", "source", "trap", "type", "ulimit", "umask", "unset", "until",
    "wait", "while",
];
/// Programs that hand their arguments to a shell.
const PASS_ON: &[&str] = &["ssh", "mosh", "rsh", "su", "watch"];
/// What glibc searches where there is no `PATH` (`confstr(_CS_PATH)`).
const USUAL_PATH: &str = "/bin:/usr/bin";
