//! Which words of a command another program reads as code: the script of `sh -c`, the program of `python3 -c` and of
//! awk, what `ssh` puts together for the shell of its host, what `make` puts into its recipes. Which program
//! takes what is in [`interpreters`](super::interpreters).
//!
//! The whole command is looked at, since anything may stand in front of an interpreter: `env`, `sudo`, `timeout 5`,
//! `docker exec x`, `xargs -I @`. A script that its user has written whole is read as well: an `eval "$1"` in it runs
//! an item, and so does `. /dev/stdin` when items are read from there.
//!
//! Left out: what a written program in another language than the shell's does with its arguments.

use super::{
    interpreters::{
        CODE_VARIABLES, INTERPRETERS, Interpreter, LINE_VARIABLES, ONLY_DATA, Options, REMOTE_COMMANDS, REMOTE_OPTIONS,
        Reads, STANDARD_INPUT, Takes, WRAPPERS,
    },
    script::{PLACE, Script, ScriptWord},
};

pub(crate) use super::interpreters::Reading;

/// A word of a command, as far as is known before an item is there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    /// With a [`PLACE`] for each place.
    pub(crate) text: &'a [u8],
    /// The shell fills an item in here, as `"$1"` or `$UNISONO_ITEM`.
    pub(crate) expands_item: bool,
    /// The shell makes it of something else.
    pub(crate) is_computed: bool,
}

impl<'a> Seen<'a> {
    /// A word that no shell sees.
    pub(crate) fn plain(text: &'a [u8]) -> Self {
        Self { text, expands_item: false, is_computed: false }
    }

    /// A word of a script.
    pub(crate) fn of(word: &'a ScriptWord) -> Self {
        Self { text: &word.text, expands_item: word.expands_item, is_computed: word.is_computed }
    }

    fn has_place(&self) -> bool {
        self.text.contains(&PLACE)
    }
}

/// A word that is read as code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nested {
    /// Its number in the command; none if it stands in a script within.
    pub(crate) word: Option<usize>,
    /// What reads it.
    pub(crate) interpreter: String,
    pub(crate) reading: Reading,
    /// The word is a program text and nothing else: if it is all place, so are the items.
    pub(crate) is_text: bool,
}

/// The words with an item in them that are read as code.
pub(crate) fn nested(argv: &[Seen<'_>]) -> Vec<Nested> {
    within(argv, DEEPEST)
}

fn within(argv: &[Seen<'_>], depth: u32) -> Vec<Nested> {
    let mut found: Vec<Nested> = Vec::new();
    for at in starts(argv) {
        for (program, takes) in taken(argv, at) {
            let name = String::from_utf8_lossy(base(argv[at].text)).into_owned();
            let reads_shell = matches!(takes, Takes::Script | Takes::Builtin | Takes::Host | Takes::Joined);
            for (word, reading) in places(program, takes, argv, at) {
                let Some(seen) = argv.get(word) else { continue };
                let is_new = !found.iter().any(|other| other.word == Some(word));
                if is_new && (seen.has_place() || (reads_shell && seen.expands_item)) {
                    let is_text = matches!(takes, Takes::Script | Takes::Value(..) | Takes::Operand(_))
                        && !(name == "perl" && seen.text.starts_with(b"-"));
                    found.push(Nested { word: Some(word), interpreter: name.clone(), reading, is_text });
                } else if matches!(takes, Takes::Script) && !seen.has_place() && depth > 0 {
                    let gives_items = argv[word + 1..].iter().any(|seen| seen.has_place() || seen.expands_item);
                    let script = whole(seen.text, gives_items);
                    let inner = script.commands.iter().flat_map(|command| within(&seen_of(command), depth - 1));
                    found.extend(inner.map(|nested| Nested { word: None, is_text: false, ..nested }));
                    let fed = fed(&script).map(|interpreter| Nested {
                        word: None,
                        interpreter,
                        reading: Reading::Code,
                        is_text: false,
                    });
                    found.extend(fed);
                }
            }
        }
    }
    for (at, seen) in argv.iter().enumerate() {
        let is_new = !found.iter().any(|other| other.word == Some(at));
        if is_new
            && let Some((name, value)) = variable(seen.text)
            && let Some(reading) = read_as(name, value)
        {
            let interpreter = String::from_utf8_lossy(name).into_owned();
            found.push(Nested { word: Some(at), interpreter, reading, is_text: false });
        }
    }
    found
}

/// How the program that is started reads the value of a variable with a place in it, if as code.
pub(crate) fn read_as(name: &[u8], value: &[u8]) -> Option<Reading> {
    if !value.contains(&PLACE) {
        return None;
    }
    let is_among = |names: &[&str]| names.iter().any(|one| one.as_bytes() == name);
    let is_line = is_among(LINE_VARIABLES) || name.starts_with(b"GIT_CONFIG_VALUE_");
    match value.first() {
        _ if is_among(CODE_VARIABLES) || name.starts_with(b"BASH_FUNC_") => Some(Reading::Code),
        Some(&PLACE) if is_line => Some(Reading::Code),
        _ if is_line => Some(Reading::Line),
        _ => None,
    }
}

/// A reader of code from standard input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reader {
    /// Its name.
    pub(crate) interpreter: String,
    /// It is the command itself, or is run by it.
    pub(crate) is_direct: bool,
}

/// The interpreter that reads code from standard input, if there is one.
pub(crate) fn reads_code(argv: &[Seen<'_>]) -> Option<Reader> {
    reader(argv, DEEPEST)
}

fn reader(argv: &[Seen<'_>], depth: u32) -> Option<Reader> {
    let is_wrapped = argv.first().is_some_and(|first| is_one_of(base(first.text), WRAPPERS));
    let count = if is_wrapped { argv.len() } else { 1.min(argv.len()) };
    let direct = |at: usize| {
        Some(Reader { interpreter: String::from_utf8_lossy(base(argv[at].text)).into_owned(), is_direct: true })
    };
    let indirect = |found: Option<Reader>| found.map(|reader| Reader { is_direct: false, ..reader });
    starts(argv).filter(|at| *at < count).find_map(|at| {
        let name = base(argv[at].text);
        let behind = &argv[at + 1..];
        if name == b"xargs" {
            return indirect(fed_by_xargs(behind));
        }
        if matches!(name, b"." | b"source") && behind.first().is_some_and(|file| is_standard_input(file.text)) {
            return direct(at);
        }
        if name == b"eval" && behind.iter().any(|word| word.is_computed) {
            return direct(at);
        }
        if name == b"crontab" || (name == b"sftp" && behind.iter().any(|word| matches!(word.text, b"-b" | b"-b-"))) {
            return behind
                .iter()
                .any(|word| is_standard_input(word.text) || word.text == b"-b-")
                .then(|| direct(at))?;
        }
        taken(argv, at)
            .find_map(|(program, takes)| match takes {
                Takes::Script => match shell_script(argv, at) {
                    Some(word) if argv[word].is_computed => direct(at),
                    Some(word) if depth > 0 => {
                        let commands = commands_of(argv[word].text, false);
                        indirect(commands.iter().find_map(|command| reader(&seen_of(command), depth - 1)))
                    }
                    Some(_) => None,
                    None => {
                        let reads = behind.iter().any(|word| is_cluster(word.text) && word.text.contains(&b's'));
                        let file = behind.iter().find(|word| !is_option(word.text));
                        (reads || file.is_none_or(|file| is_standard_input(file.text))).then(|| direct(at))?
                    }
                },
                Takes::Host => {
                    let line: Vec<&[u8]> = remote(argv, at).into_iter().map(|(word, _)| argv[word].text).collect();
                    if line.is_empty() {
                        return (!behind.is_empty()).then(|| direct(at))?;
                    }
                    let commands = commands_of(&line.join(&b' '), false);
                    indirect(
                        commands.iter().filter(|_| depth > 0).find_map(|command| reader(&seen_of(command), depth - 1)),
                    )
                }
                _ => reads_program(program, argv, at).then(|| direct(at))?,
            })
            .or_else(|| {
                // Those that take code by no word at all.
                let program =
                    INTERPRETERS.iter().find(|program| program.takes.is_empty() && is_called(name, program))?;
                reads_program(program, argv, at).then(|| direct(at))?
            })
    })
}

fn reads_program(program: &Interpreter, argv: &[Seen<'_>], at: usize) -> bool {
    let given = |options| values(argv, at, options, program);
    let otherwise = given(program.otherwise);
    if otherwise.iter().any(|value| {
        argv.get(value.word).is_some_and(|word| is_standard_input(&word.text[value.from.min(word.text.len())..]))
    }) {
        return true;
    }
    let has_code =
        program.takes.iter().any(|takes| matches!(takes, Takes::Value(options, _) if !given(*options).is_empty()));
    match program.reads {
        Reads::Data => false,
        Reads::Commands => true,
        Reads::Program if has_code || !otherwise.is_empty() => false,
        Reads::Program if !program.options_first => true,
        Reads::Program => operand(argv, at, program, 0).is_none_or(|word| is_standard_input(argv[word].text)),
    }
}

/// What xargs reads becomes words of the command behind it.
fn fed_by_xargs(behind: &[Seen<'_>]) -> Option<Reader> {
    let (mut mark, mut first) = (None, 0);
    while let Some(word) = behind.get(first).filter(|word| is_option(word.text)) {
        let text = word.text;
        match text {
            b"-I" | b"--replace" => {
                mark = behind.get(first + 1).map(|word| word.text);
                first += 1;
            }
            b"-i" => mark = Some(b"{}"),
            _ if text.starts_with(b"-I") => mark = Some(&text[2..]),
            _ if text.starts_with(b"--replace=") => mark = Some(&text[b"--replace=".len()..]),
            [b'-', b'a' | b'd' | b'E' | b'L' | b'n' | b'P' | b's'] => first += 1,
            _ => {}
        }
        first += 1;
    }
    let mut filled: Vec<Vec<u8>> = behind[first.min(behind.len())..].iter().map(|word| word.text.to_vec()).collect();
    match mark.filter(|mark| !mark.is_empty()) {
        Some(mark) => filled.iter_mut().for_each(|word| *word = replaced(word, mark)),
        None => filled.push(vec![PLACE]),
    }
    let words: Vec<Seen<'_>> = filled.iter().map(|word| Seen::plain(word)).collect();
    let found = nested(&words).into_iter().next()?;
    Some(Reader { interpreter: found.interpreter, is_direct: false })
}

fn replaced(word: &[u8], mark: &[u8]) -> Vec<u8> {
    let (mut text, mut at) = (Vec::new(), 0);
    while at < word.len() {
        let is_mark = word[at..].starts_with(mark);
        text.push(if is_mark { PLACE } else { word[at] });
        at += if is_mark { mark.len() } else { 1 };
    }
    text
}

/// A script that is written whole; `gives_items` says whether its arguments are items.
fn whole(text: &[u8], gives_items: bool) -> Script {
    let mut script = Script::read(text);
    for word in script.commands.iter_mut().flatten() {
        word.expands_item &= gives_items || word.names_item;
    }
    if !gives_items {
        script.fed.clear();
    }
    script
}

fn commands_of(text: &[u8], gives_items: bool) -> Vec<Vec<ScriptWord>> {
    whole(text, gives_items).commands
}

/// The interpreter that runs an item which a script feeds to it: in a pipeline, a here-document or a here-string.
pub(crate) fn fed(script: &Script) -> Option<String> {
    let reader = |(at, command): (usize, &Vec<ScriptWord>)| {
        let pipeline = script.pipelines.get(at)?;
        let has_item = |command: &[ScriptWord]| command.iter().any(ScriptWord::has_item);
        let others = script.commands[..at].iter().zip(&script.pipelines);
        let is_fed = script.fed.contains(pipeline)
            || others.into_iter().any(|(other, number)| number == pipeline && has_item(other));
        is_fed.then(|| reads_code(&seen_of(command))).flatten()
    };
    script.commands.iter().enumerate().find_map(reader).map(|reader| reader.interpreter)
}

fn seen_of(command: &[ScriptWord]) -> Vec<Seen<'_>> {
    command.iter().map(Seen::of).collect()
}

/// Where an interpreter may stand.
fn starts(argv: &[Seen<'_>]) -> std::ops::Range<usize> {
    let is_data = argv.first().is_some_and(|first| is_one_of(base(first.text), ONLY_DATA));
    if is_data { 0..0 } else { 0..argv.len() }
}

/// What the program at this word takes, whose name may be one that only a shell knows (`"$SHELL"`).
fn taken<'a>(argv: &'a [Seen<'_>], at: usize) -> impl Iterator<Item = (&'static Interpreter, Takes)> + 'a {
    let name = base(argv[at].text);
    let is_head = is_head(argv, at);
    // Anything that is computed may be a shell.
    let is_unknown = argv[at].is_computed && is_head;
    INTERPRETERS
        .iter()
        .filter(move |program| is_called(name, program) || (is_unknown && program.names.contains(&"sh")))
        .flat_map(|program| program.takes.iter().map(move |takes| (program, *takes)))
        .filter(move |(_, takes)| match takes {
            Takes::Builtin => is_head,
            Takes::BuiltinWith(words) => is_head && argv.iter().any(|word| is_one_of(word.text, words)),
            _ => true,
        })
}

/// Whether a word is the command, and not an argument of another than what runs it.
fn is_head(argv: &[Seen<'_>], at: usize) -> bool {
    argv[..at]
        .iter()
        .all(|word| is_option(word.text) || variable(word.text).is_some() || is_one_of(base(word.text), WRAPPERS))
}

/// The words that are read as code, of the program that stands at `at`.
fn places(program: &Interpreter, takes: Takes, argv: &[Seen<'_>], at: usize) -> Vec<(usize, Reading)> {
    let behind = at + 1..argv.len();
    match takes {
        Takes::Script => shell_script(argv, at).into_iter().map(|word| (word, Reading::Code)).collect(),
        Takes::Value(options, reading) => {
            values(argv, at, options, program).into_iter().map(|value| (value.word, reading)).collect()
        }
        Takes::Operand(number) => {
            let is_given = |options| !values(argv, at, options, program).is_empty();
            let has_program = is_given(program.otherwise)
                || program.takes.iter().any(|takes| matches!(takes, Takes::Value(options, _) if is_given(*options)));
            let word = operand(argv, at, program, number).filter(|_| !has_program);
            word.into_iter().map(|word| (word, Reading::Code)).collect()
        }
        Takes::Builtin | Takes::BuiltinWith(_) => behind.map(|word| (word, Reading::Code)).collect(),
        Takes::Joined => behind.map(|word| (word, Reading::Line)).collect(),
        Takes::JoinedBehind(name) => {
            let from = behind.clone().find(|word| argv[*word].text == name.as_bytes()).unwrap_or(argv.len());
            (from + 1..argv.len()).map(|word| (word, Reading::Line)).collect()
        }
        Takes::Host => remote(argv, at),
        Takes::Plus => {
            behind.filter(|word| argv[*word].text.starts_with(b"+")).map(|word| (word, Reading::Code)).collect()
        }
        Takes::Variables => {
            let is_variable =
                |word: &usize| variable(argv[*word].text).is_some_and(|(_, value)| value.contains(&PLACE));
            behind.filter(is_variable).map(|word| (word, Reading::Line)).collect()
        }
    }
}

/// The value of an option: its word, and where in it.
struct Value {
    word: usize,
    from: usize,
}

/// The values of these options of the program at `at`.
fn values(argv: &[Seen<'_>], at: usize, wanted: Options, program: &Interpreter) -> Vec<Value> {
    let mut found = Vec::new();
    walk(argv, at, wanted, program, &mut |value| found.push(value), &mut |_| {});
    found
}

/// The operand with this number, from 0.
fn operand(argv: &[Seen<'_>], at: usize, program: &Interpreter, number: usize) -> Option<usize> {
    let mut operands = Vec::new();
    walk(argv, at, Options { short: "", long: &[] }, program, &mut |_| {}, &mut |word| operands.push(word));
    operands.get(number).copied()
}

/// Goes over the words of a program as getopt_long(3) does.
fn walk(
    argv: &[Seen<'_>],
    at: usize,
    wanted: Options,
    program: &Interpreter,
    value: &mut dyn FnMut(Value),
    operand: &mut dyn FnMut(usize),
) {
    let others = |take: &dyn Fn(&Options) -> bool| {
        take(&program.valued)
            || take(&program.otherwise)
            || program.takes.iter().any(|takes| matches!(takes, Takes::Value(options, _) if take(options)))
    };
    let mut word = at + 1;
    let mut over = false;
    while let Some(seen) = argv.get(word) {
        let text = seen.text;
        if over || !is_option(text) {
            operand(word);
            over |= program.options_first;
            word += 1;
            continue;
        }
        if text == b"--" {
            over = true;
            word += 1;
            continue;
        }
        let name = text.strip_prefix(b"--").unwrap_or(&text[1..]);
        let split = name.iter().position(|byte| *byte == b'=');
        let bare = &name[..split.unwrap_or(name.len())];
        let in_word = split.map(|split| text.len() - name.len() + split + 1);
        if is_one_of(bare, wanted.long) {
            value(in_word.map_or(Value { word: word + 1, from: 0 }, |from| Value { word, from }));
            word += usize::from(in_word.is_none());
        } else if others(&|options| is_one_of(bare, options.long)) {
            word += usize::from(in_word.is_none());
        } else if is_cluster(text) {
            let takes_value = |letter: &u8| {
                let has = |options: &Options| options.short.as_bytes().contains(letter);
                has(&wanted) || others(&has)
            };
            if let Some(letter) = text.iter().skip(1).position(takes_value).map(|at| at + 1) {
                let in_word = letter + 1 < text.len();
                if wanted.short.as_bytes().contains(&text[letter]) {
                    value(if in_word { Value { word, from: letter + 1 } } else { Value { word: word + 1, from: 0 } });
                }
                word += usize::from(!in_word);
            }
        }
        word += 1;
    }
}

/// The script of a shell: the first word behind `-c` that is no option.
fn shell_script(argv: &[Seen<'_>], at: usize) -> Option<usize> {
    let (mut is_script, mut word) = (false, at + 1);
    while let Some(seen) = argv.get(word) {
        match seen.text {
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

/// What ssh sends to its host, and options that it has a shell run.
fn remote(argv: &[Seen<'_>], at: usize) -> Vec<(usize, Reading)> {
    let mut words = Vec::new();
    let (mut word, mut has_host) = (at + 1, false);
    while let Some(seen) = argv.get(word) {
        let text = seen.text;
        let runs = |text: &[u8]| REMOTE_COMMANDS.iter().any(|name| starts_with_ignoring_case(text, name.as_bytes()));
        if has_host {
            words.push((word, Reading::Line));
        } else if let Some(option) = text.strip_prefix(b"-").filter(|option| !option.is_empty()) {
            let takes_next = option.len() == 1 && REMOTE_OPTIONS.as_bytes().contains(&option[0]);
            let value = if takes_next { word + 1 } else { word };
            let is_command = |seen: &Seen<'_>| runs(seen.text.strip_prefix(b"-o".as_slice()).unwrap_or(seen.text));
            if option[0] == b'o' && argv.get(value).is_some_and(is_command) {
                words.push((value, Reading::Line));
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

/// The name and the value of a word of the form `NAME=VALUE`.
fn variable(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let split = text.iter().position(|byte| *byte == b'=')?;
    let name = text[..split].strip_suffix(b"+").unwrap_or(&text[..split]);
    let is_name = !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    is_name.then_some((name, &text[split + 1..]))
}

fn is_option(word: &[u8]) -> bool {
    word.starts_with(b"-") && word.len() > 1
}

/// Options of one letter, perhaps several in one word.
fn is_cluster(word: &[u8]) -> bool {
    is_option(word) && !word.starts_with(b"--")
}

fn is_standard_input(word: &[u8]) -> bool {
    is_one_of(word, STANDARD_INPUT)
}

fn is_one_of(word: &[u8], names: &[&str]) -> bool {
    names.iter().any(|name| name.as_bytes() == word)
}

fn base(path: &[u8]) -> &[u8] {
    path.iter().rposition(|byte| *byte == b'/').map_or(path, |at| &path[at + 1..])
}

/// Whether a program has this name, perhaps with a version: `python3.12`, `lua5.4`.
fn is_called(name: &[u8], program: &Interpreter) -> bool {
    let is_version = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'-');
    let end = name.iter().rposition(|byte| !is_version(byte)).map_or(0, |at| at + 1);
    is_one_of(name, program.names) || is_one_of(&name[..end], program.names)
}

/// Whether no shell sees anything in a value but a part of a word.
pub(crate) fn is_harmless(value: &[u8]) -> bool {
    let is_plain = |one: char| one.is_alphanumeric() || "-_./:@%+,".contains(one);
    !value.is_empty() && std::str::from_utf8(value).is_ok_and(|text| text.chars().all(is_plain))
}

/// No command of people's has so many shells within each other.
const DEEPEST: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn split(line: &str) -> Vec<Vec<u8>> {
        line.split(' ').map(|word| word.replace("{}", "\0").replace('_', " ").into_bytes()).collect()
    }

    fn words(line: &str) -> Vec<(usize, Reading)> {
        let argv = split(line);
        let argv: Vec<Seen<'_>> = argv.iter().map(|word| Seen::plain(word)).collect();
        nested(&argv).into_iter().map(|nested| (nested.word.unwrap_or(usize::MAX), nested.reading)).collect()
    }

    fn of(reader: Option<Reader>) -> bool {
        reader.is_some()
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
            ("perl -M{} -e 1", 1),
            ("make --eval={}", 1),
            ("vim -c :!{} x", 2),
            ("vim -es +!{} x", 2),
            ("sqlite3 db select_{}", 2),
            ("psql db -c select_{}", 3),
            ("eval echo {}", 2),
        ] {
            assert_eq!(words(line), [(word, Reading::Code)], "{line}");
        }
        assert_eq!(words("ssh -p 22 {} systemctl restart {}"), [(6, Reading::Line)]);
        assert_eq!(words("ssh host echo_{}"), [(2, Reading::Line)]);
        assert_eq!(words("watch -n 1 ls {}"), [(4, Reading::Line)]);
        assert_eq!(words("ssh -o ProxyCommand=nc_{} host"), [(2, Reading::Line)]);
        assert_eq!(words("make -j2 X={} all"), [(2, Reading::Line)]);
        assert_eq!(words("tar -cf x.tar --checkpoint-action=exec={} d"), [(3, Reading::Line)]);
        assert_eq!(words("git -c alias.x=!{} x"), [(2, Reading::Line)]);
        assert_eq!(words("rsync -avze ssh_-p{} a b"), [(2, Reading::Line)]);
        assert_eq!(words("sh -c eval_\"$1\" sh {}"), [(usize::MAX, Reading::Code)]);
        for line in [
            "sh -c echo_\"$1\"_|_sh sh {}",
            "bash -c bash_<<<\"$1\" b {}",
            "sh -c for_x_in_\"$1\";_do_echo_\"$x\";_done_|_sh sh {}",
        ] {
            assert_eq!(words(line), [(usize::MAX, Reading::Code)], "{line}");
        }
        assert_eq!(words("sh -c sh_-c_\"$1\" sh {}"), [(usize::MAX, Reading::Code)]);
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
            "sh -c eval_\"$x\" sh {}",
            "sh -c echo_'eval_$1' sh {}",
            "python3 manage.py -c {}",
            "python3 -m {}",
            "git switch -c {}",
            "git commit -m {}",
            "make -C {} all",
            "make {}",
            "tar -czf {}.tar.gz {}",
            "echo sh -c {}",
            "jq .a_{}",
            "node x.js -e {}",
            "kubectl get pods -c {}",
            "sh -c curl_-s_x_|_sh",
            "sh -c cd_\"$1\"_&&_curl_x_|_sh sh {}",
        ] {
            assert_eq!(words(line), [], "{line}");
        }
    }

    #[test]
    fn code_on_standard_input_is_known_by_who_reads_it() {
        let reader = |line: &str| {
            let argv = split(line);
            let argv: Vec<Seen<'_>> = argv.iter().map(|word| Seen::plain(word)).collect();
            reads_code(&argv)
        };
        for line in [
            "sh -",
            "sh /dev/stdin",
            "sh -c ._/dev/stdin",
            "sh -c cat_|_sh",
            "sh -c eval_\"$(cat)\"",
            "sh -c sh_-c_\"$(cat)\"",
            "bash -s",
            "xargs -I @ sh -c @",
            "xargs -d x sh -c",
            "xargs ssh host",
            "sudo xargs -I@ sh -c x@",
            "parallel",
            "psql db",
            "make -f -",
            "sed -f - x",
            "awk -f /dev/stdin x",
            "at now",
            "crontab -",
            "ssh host sh",
            "docker exec -i x bash",
            "m4",
        ] {
            assert!(of(reader(line)), "{line}");
        }
        for line in [
            "xargs rm",
            "xargs -I @ cp @ x",
            "sh -c cat_>x",
            "python3 -m json.tool",
            "psql -f x.sql",
            "awk -f x.awk",
            "kubectl apply -f -",
            "docker load",
            "ssh host cat_>x",
            "crontab -l",
            "sed s/a/b/",
            "perl -ne print",
        ] {
            assert!(!of(reader(line)), "{line}");
        }
        for line in ["sh", "bash -s x", "sudo bash", "python3 -", "python3", "ssh host", "timeout 5 perl"] {
            assert!(reader(line).is_some(), "{line}");
        }
        for line in ["sh -c cat", "sh script", "grep sh", "python3 -c x", "python3 x.py", "ssh host cat", "cat"] {
            assert_eq!(reader(line), None, "{line}");
        }
    }
}
