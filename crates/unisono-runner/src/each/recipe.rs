//! A command with places to fill in, parsed once: the placeholders of GNU parallel that people use.
//!
//! `{}` is the item, `{.}` without its extension, `{/}` without its folders, `{//}` its folder, `{/.}` neither; `{1}`
//! and `{1.}` and so on are the item of one source; `{name}` is a column, where the input has columns; `{#}` is the
//! item's number from 1, `{%}` the number of the slot it runs in. Anything else in braces is left as it is, so that awk
//! and jq keep theirs.
//!
//! A value is always one whole piece of one argument: nothing splits it. With a shell it is quoted, so that the shell
//! gives back just the same bytes. Where there is no place at all, the command gets the item at its end.

use std::{
    ffi::OsString,
    os::unix::ffi::{OsStrExt, OsStringExt},
    sync::Arc,
};

use percent_encoding::{AsciiSet, CONTROLS, percent_encode};
use xxhash_rust::xxh3::Xxh3;

use super::{nested::is_harmless, script::PLACE};

/// The command of every item, with places to fill in.
#[derive(Debug, Clone, Default)]
pub struct Recipe {
    /// The program and its arguments, or the words of a shell's script.
    pub argv: Vec<Word>,
    /// The pieces are a script for `sh`.
    pub shell: bool,
    /// Where it runs.
    pub folder: Option<Word>,
    /// The environment that it inherits.
    pub inherited: Arc<[(OsString, OsString)]>,
    /// Added to what it inherits.
    pub environment: Vec<(OsString, Word)>,
    /// Taken out of what it inherits.
    pub without: Vec<OsString>,
    /// What it reads; nothing if `None`.
    pub stdin: Option<Word>,
    /// The file that its standard output goes to; standard error goes to the same name with `.stderr` behind it.
    pub save: Option<Word>,
    /// What its limits are kept by.
    pub limit_key: Option<Word>,
    /// That was written with places, and not as the name of a column.
    pub keyed_by_place: bool,
    /// Places may stand within code: see the vetting of recipes.
    pub items_are_code: bool,
    /// The script is given its items as arguments, since it reads some. Found out when a recipe is looked at.
    pub passes_items: bool,
    /// All items become part of a line for a shell that this program starts. Found out likewise.
    pub guarded_by: Option<Box<str>>,
    /// Its output goes where ours goes.
    pub inherit_output: bool,
    /// It reads the terminal that is lent to it.
    pub reads_terminal: bool,
    /// Doing it twice does no more than doing it once.
    pub repeatable: bool,
}

impl Recipe {
    /// The name of the file that its standard output goes to.
    ///
    /// # Errors
    /// When it asks for the slot: which one an item runs in is a matter of luck.
    ///
    /// ```
    /// use unisono_runner::{Grammar, Recipe};
    /// assert!(Recipe::save_name(&Grammar::default(), &"out/{#}".into()).is_ok());
    /// assert!(Recipe::save_name(&Grammar::default(), &"out/{%}".into()).is_err());
    /// ```
    pub fn save_name(grammar: &Grammar, text: &OsString) -> Result<Word, String> {
        let word = grammar.word(text);
        if word.has_slot() {
            let text = text.to_string_lossy();
            return Err(format!(
                "`{text}`: which slot (`{{%}}`) an item runs in is a matter of luck, so it cannot be part of its file's \
                 name (use `{{#}}`, or the item itself)"
            ));
        }
        Ok(word)
    }
}

/// A word with places to fill in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Word(Vec<WordPart>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum WordPart {
    Literal(Vec<u8>),
    /// `guarded` values must not hold anything that a shell could see more in than a part of a word.
    Value {
        selector: Selector,
        form: Form,
        guarded: Option<Box<str>>,
    },
    Sequence,
    Slot,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Selector {
    /// All of the item's values, with a space between them.
    All,
    /// The value of this source, from 0.
    Position(usize),
    /// A column.
    Name(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Whole,
    NoExtension,
    Base,
    Folder,
    BaseNoExtension,
}

/// What an item brings to fill in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Values {
    /// One per source.
    pub positions: Vec<Vec<u8>>,
    /// The columns that are asked for.
    pub columns: Vec<(String, Vec<u8>)>,
}

/// What is known only when it starts; `None` leaves the placeholder as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Places {
    /// The item's number, from 1.
    pub sequence: Option<u64>,
    /// The slot, from 1.
    pub slot: Option<usize>,
}

/// What a value has to be made safe for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safety {
    /// It is an argument as it is.
    Plain,
    /// It is part of a shell's script.
    Shell,
    /// It is part of one component of a path.
    FileName,
}

/// How placeholders are found.
#[derive(Debug, Clone, Default)]
pub struct Grammar {
    /// The input has columns.
    pub has_columns: bool,
    /// What stands for the item in place of all placeholders.
    pub mark: Option<String>,
}

impl Grammar {
    /// Reads a word.
    pub fn word(&self, text: &OsString) -> Word {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((part, length)) = self.part(rest) {
            match part {
                None => literal.extend_from_slice(&rest[..length]),
                Some(part) => {
                    if !literal.is_empty() {
                        parts.push(WordPart::Literal(std::mem::take(&mut literal)));
                    }
                    parts.push(part);
                }
            }
            rest = &rest[length..];
        }
        if !literal.is_empty() {
            parts.push(WordPart::Literal(literal));
        }
        Word(parts)
    }

    /// What the text begins with, and how long that is.
    fn part(&self, text: &[u8]) -> Option<(Option<WordPart>, usize)> {
        text.first()?;
        if let Some(mark) = &self.mark {
            let item = WordPart::Value { selector: Selector::All, form: Form::Whole, guarded: None };
            return Some(if text.starts_with(mark.as_bytes()) { (Some(item), mark.len()) } else { (None, 1) });
        }
        let inside = text.strip_prefix(b"{").and_then(|after| {
            let end = memchr::memchr2(b'}', b'{', after)?;
            (after[end] == b'}').then_some(&after[..end])
        });
        let part = inside.and_then(|inside| self.placeholder(std::str::from_utf8(inside).ok()?));
        let length = if part.is_some() { inside.map_or(1, |inside| inside.len() + 2) } else { 1 };
        Some((part, length))
    }

    fn placeholder(&self, inside: &str) -> Option<WordPart> {
        match inside {
            "#" => return Some(WordPart::Sequence),
            "%" => return Some(WordPart::Slot),
            _ => {}
        }
        let split = inside.find(['.', '/']).unwrap_or(inside.len());
        let (name, form) = inside.split_at(split);
        let form = match form {
            "" => Form::Whole,
            "." => Form::NoExtension,
            "/" => Form::Base,
            "//" => Form::Folder,
            "/." => Form::BaseNoExtension,
            _ => return None,
        };
        let selector = match name.parse::<usize>() {
            _ if name.is_empty() => Selector::All,
            Ok(0) => return None,
            Ok(number) => Selector::Position(number - 1),
            Err(_) if self.has_columns && is_name(name) => Selector::Name(name.to_owned()),
            Err(_) => return None,
        };
        Some(WordPart::Value { selector, form, guarded: None })
    }
}

fn is_name(text: &str) -> bool {
    text.chars().all(|one| one.is_alphanumeric() || one == '_' || one == '-') && !text.starts_with('-')
}

impl Word {
    /// A word without places.
    pub fn literal(text: &[u8]) -> Self {
        Self(vec![WordPart::Literal(text.to_vec())])
    }

    /// The item itself.
    pub fn item() -> Self {
        Self(vec![WordPart::Value { selector: Selector::All, form: Form::Whole, guarded: None }])
    }

    /// The value of one source, from 0.
    pub fn position(at: usize) -> Self {
        Self(vec![WordPart::Value { selector: Selector::Position(at), form: Form::Whole, guarded: None }])
    }

    /// A column.
    pub fn column(name: &str) -> Self {
        Self(vec![WordPart::Value { selector: Selector::Name(name.to_owned()), form: Form::Whole, guarded: None }])
    }

    /// What names a source, from 1, or a column.
    pub fn key(text: &str) -> Self {
        match text.parse::<usize>() {
            Ok(number) if number > 0 => Self::position(number - 1),
            _ => Self::column(text),
        }
    }

    /// Whether it has any place, be it for the item, its number or its slot.
    pub fn has_places(&self) -> bool {
        self.0.iter().any(|part| !matches!(part, WordPart::Literal(_)))
    }

    /// Whether anything of the item goes into it.
    pub fn has_values(&self) -> bool {
        self.0.iter().any(|part| matches!(part, WordPart::Value { .. }))
    }

    /// Its text, with a [`PLACE`] for each value; numbers are as good as a digit.
    pub(crate) fn pattern(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for part in &self.0 {
            match part {
                WordPart::Literal(literal) => text.extend(literal.iter().filter(|byte| **byte != PLACE)),
                WordPart::Value { .. } => text.push(PLACE),
                WordPart::Sequence | WordPart::Slot => text.push(b'1'),
            }
        }
        text
    }

    /// How its places for values are written, in their order.
    pub(crate) fn places(&self) -> impl Iterator<Item = String> {
        self.0.iter().filter_map(|part| match part {
            WordPart::Value { selector: Selector::All, .. } => Some(String::new()),
            WordPart::Value { selector: Selector::Position(at), .. } => Some((at + 1).to_string()),
            WordPart::Value { selector: Selector::Name(name), .. } => Some(name.clone()),
            _ => None,
        })
    }

    /// Has what fills the place with this number refused, unless it is harmless to `interpreter`.
    pub(crate) fn guard(&mut self, number: usize, interpreter: &str) {
        let values = self.0.iter_mut().filter_map(|part| match part {
            WordPart::Value { guarded, .. } => Some(guarded),
            _ => None,
        });
        if let Some(guarded) = values.into_iter().nth(number) {
            *guarded = Some(interpreter.into());
        }
    }

    /// Whether the number of the slot goes into it.
    pub fn has_slot(&self) -> bool {
        self.0.contains(&WordPart::Slot)
    }

    /// What it makes, where that is the same for every item and every command.
    pub fn constant(&self) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        for part in &self.0 {
            match part {
                WordPart::Literal(literal) => text.extend_from_slice(literal),
                _ => return None,
            }
        }
        Some(text)
    }

    /// The columns that it asks for.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            WordPart::Value { selector: Selector::Name(name), .. } => Some(name.as_str()),
            _ => None,
        })
    }

    /// The sources that it asks for, from 0.
    pub fn positions(&self) -> impl Iterator<Item = usize> {
        self.0.iter().filter_map(|part| match part {
            WordPart::Value { selector: Selector::Position(at), .. } => Some(*at),
            _ => None,
        })
    }

    /// Fills it in.
    ///
    /// # Errors
    /// When the item does not have what is asked for, or it cannot stand where it should.
    pub fn fill(&self, values: &Values, numbers: Places, safety: Safety) -> Result<OsString, String> {
        let mut text = Vec::new();
        for part in &self.0 {
            match part {
                WordPart::Literal(literal) => text.extend_from_slice(literal),
                WordPart::Sequence => push_number(numbers.sequence, "{#}", &mut text),
                WordPart::Slot => push_number(numbers.slot.and_then(|slot| slot.try_into().ok()), "{%}", &mut text),
                WordPart::Value { selector: Selector::All, form, guarded } => {
                    if values.positions.is_empty() {
                        return Err("the row has columns, so `{}` does not say which (try `{name}`)".to_owned());
                    }
                    for (at, value) in values.positions.iter().enumerate() {
                        if at > 0 {
                            text.push(b' ');
                        }
                        guard(guarded.as_deref(), form.of(value))?;
                        safety.push(form.of(value), &mut text)?;
                    }
                }
                WordPart::Value { selector: Selector::Position(at), form, guarded } => {
                    let value = values.positions.get(*at);
                    let value = value.ok_or_else(|| format!("there is no `{{{}}}`", at + 1))?;
                    guard(guarded.as_deref(), form.of(value))?;
                    safety.push(form.of(value), &mut text)?;
                }
                WordPart::Value { selector: Selector::Name(name), form, guarded } => {
                    let value = values.columns.iter().find(|(column, _)| column == name);
                    let (_, value) = value.ok_or_else(|| format!("no column `{name}`"))?;
                    guard(guarded.as_deref(), form.of(value))?;
                    safety.push(form.of(value), &mut text)?;
                }
            }
        }
        Ok(OsString::from_vec(text))
    }

    /// Adds to a hash what distinguishes it from others.
    pub(crate) fn digest(&self, hash: &mut Xxh3) {
        for part in &self.0 {
            let (kind, text) = match part {
                WordPart::Literal(literal) => (0, literal.clone()),
                WordPart::Sequence => (1, Vec::new()),
                WordPart::Slot => (2, Vec::new()),
                WordPart::Value { selector, form, .. } => (3, format!("{selector:?}{form:?}").into_bytes()),
            };
            hash.update(&[kind]);
            digest(&text, hash);
        }
        hash.update(&[u8::MAX]);
    }
}

pub(super) fn guard(interpreter: Option<&str>, value: &[u8]) -> Result<(), String> {
    match interpreter {
        Some(interpreter) if !is_harmless(value) => Err(format!(
            "`{}` would be read as code by the shell that `{interpreter}` starts (let it read the item from standard input, \
             or say --items-are-code)",
            String::from_utf8_lossy(value).escape_debug()
        )),
        _ => Ok(()),
    }
}

/// Adds bytes and their length to a hash.
pub(crate) fn digest(bytes: &[u8], hash: &mut Xxh3) {
    hash.update(&(bytes.len() as u64).to_le_bytes());
    hash.update(bytes);
}

fn push_number(number: Option<u64>, placeholder: &str, text: &mut Vec<u8>) {
    match number {
        Some(number) => text.extend_from_slice(number.to_string().as_bytes()),
        None => text.extend_from_slice(placeholder.as_bytes()),
    }
}

impl Form {
    fn of(self, value: &[u8]) -> &[u8] {
        match self {
            Self::Whole => value,
            Self::NoExtension => without_extension(value),
            Self::Base => base(value),
            Self::BaseNoExtension => without_extension(base(value)),
            Self::Folder => folder(value),
        }
    }
}

/// As dirname(1) and GNU parallel: slashes at the end, and several in a row, part nothing.
fn folder(path: &[u8]) -> &[u8] {
    let trimmed = |path: &'_ [u8]| path.iter().rposition(|byte| *byte != b'/').map_or(0, |at| at + 1);
    let whole = &path[..trimmed(path)];
    match whole.iter().rposition(|byte| *byte == b'/') {
        None if whole.is_empty() && !path.is_empty() => b"/",
        None => b".",
        Some(at) => match trimmed(&whole[..at]) {
            0 => b"/",
            end => &whole[..end],
        },
    }
}

fn base(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(path, |at| &path[at + 1..])
}

fn without_extension(path: &[u8]) -> &[u8] {
    let dot = path.iter().rposition(|byte| *byte == b'.' || *byte == b'/');
    dot.filter(|at| path[*at] == b'.').map_or(path, |at| &path[..at])
}

impl Safety {
    fn push(self, value: &[u8], text: &mut Vec<u8>) -> Result<(), String> {
        match self {
            Self::Plain => text.extend_from_slice(value),
            Self::Shell => push_quoted(value, text),
            Self::FileName if value.is_empty() => return Err("an empty item cannot name a file".to_owned()),
            Self::FileName if value == b"." || value == b".." => {
                return Err(format!("`{}` cannot name a file", String::from_utf8_lossy(value)));
            }
            Self::FileName => {
                percent_encode(value, FILE_NAME).for_each(|piece| text.extend_from_slice(piece.as_bytes()))
            }
        }
        Ok(())
    }
}

/// As a person would write it: quoted only where that is needed.
pub fn push_word(value: &[u8], text: &mut Vec<u8>) {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./:@%+,".contains(byte);
    if !value.is_empty() && value.iter().all(plain) { text.extend_from_slice(value) } else { push_quoted(value, text) }
}

/// As one word of a shell's script: within single quotes nothing has a meaning but the quote itself (POSIX, "Quoting").
/// Always quoted: `if` would be a keyword, and the `2` of `2>file` a descriptor.
fn push_quoted(value: &[u8], text: &mut Vec<u8>) {
    text.push(b'\'');
    for byte in value {
        match byte {
            b'\'' => text.extend_from_slice(b"'\\''"),
            byte => text.push(*byte),
        }
    }
    text.push(b'\'');
}

/// What would part components, and what terminals and scripts choke on.
const FILE_NAME: &AsciiSet = &CONTROLS.add(b'/').add(b'%').add(b'\\');

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fill(text: &str, positions: &[&str]) -> String {
        let values = Values {
            positions: positions.iter().map(|value| value.as_bytes().to_vec()).collect(),
            ..Values::default()
        };
        let numbers = Places { sequence: Some(7), slot: Some(2) };
        let filled = Grammar::default().word(&text.into()).fill(&values, numbers, Safety::Plain);
        filled.unwrap().into_string().unwrap()
    }

    #[test]
    fn placeholders_mean_what_they_mean_to_gnu_parallel() {
        let path = "sub/dir/file.tar.gz";
        for (text, filled) in [
            ("{}", "sub/dir/file.tar.gz"),
            ("{.}", "sub/dir/file.tar"),
            ("{/}", "file.tar.gz"),
            ("{//}", "sub/dir"),
            ("{/.}", "file.tar"),
            ("{1/.}-{#}-{%}", "file.tar-7-2"),
            ("x{}y{}z", "xsub/dir/file.tar.gzysub/dir/file.tar.gzz"),
        ] {
            assert_eq!(fill(text, &[path]), filled, "{text}");
        }
        assert_eq!(fill("{//} {.} {/}", &["a.b/c"]), "a.b a.b/c c");
        // What GNU parallel 20221122 prints for each.
        for (path, filled) in [
            ("a/b/", "a/b/|a/b/||a|"),
            ("/etc", "/etc|/etc|etc|/|etc"),
            ("/", "/|/||/|"),
            ("a//b", "a//b|a//b|b|a|b"),
            ("//b", "//b|//b|b|/|b"),
            ("a/", "a/|a/||.|"),
            ("a/b.c/", "a/b.c/|a/b.c/||a|"),
            ("./x", "./x|./x|x|.|x"),
            ("", "|||.|"),
            ("//", "//|//||/|"),
            ("x/.b", "x/.b|x/|.b|x|"),
            (".b", ".b||.b|.|"),
            ("x.", "x.|x|x.|.|x"),
            ("a/b//", "a/b//|a/b//||a|"),
            ("a///b///", "a///b///|a///b///||a|"),
        ] {
            assert_eq!(fill("{}|{.}|{/}|{//}|{/.}", &[path]), filled, "{path}");
        }
        assert_eq!(fill("{2}{1} {}", &["a", "b"]), "ba a b");
    }

    #[test]
    fn braces_of_other_languages_are_left_alone() {
        for text in ["{print $1}", "{name}", "{0}", "{1..3}", "{{x}}", "{", "}", "{a", "${x}"] {
            assert_eq!(fill(text, &["v"]), text);
        }
        assert_eq!(fill("{{}}", &["v"]), "{v}");
        let grammar = Grammar { mark: Some("@".into()), ..Grammar::default() };
        let values = Values { positions: vec![b"v".to_vec()], ..Values::default() };
        let filled = grammar.word(&"{} @ {1}".into()).fill(&values, Places::default(), Safety::Plain);
        assert_eq!(filled.unwrap(), "{} v {1}");
    }

    proptest! {
        #[test]
        fn a_real_shell_gives_back_every_value_that_was_quoted(value in prop::collection::vec(1u8.., 0..40)) {
            for quote in [push_quoted, push_word] {
                let mut script = b"printf %s ".to_vec();
                quote(&value, &mut script);
                let done = std::process::Command::new("sh").arg("-c").arg(OsString::from_vec(script)).output().unwrap();
                prop_assert_eq!(&done.stdout, &value);
            }
        }

        #[test]
        fn a_value_is_one_component_of_a_file_name_or_refused(value in prop::collection::vec(any::<u8>(), 0..12)) {
            let values = Values { positions: vec![value], ..Values::default() };
            let word = Grammar::default().word(&"out/{}".into());
            if let Ok(path) = word.fill(&values, Places::default(), Safety::FileName) {
                prop_assert_eq!(std::path::Path::new(&path).components().count(), 2);
            }
        }

        #[test]
        fn what_is_no_placeholder_comes_through_unchanged(text in "[^{}]{0,20}") {
            prop_assert_eq!(fill(&text, &["v"]), text);
        }
    }
}
