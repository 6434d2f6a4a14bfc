//! Where in a shell's script the places stand, and which commands it is made of.
//!
//! A value that is filled in is put between single quotes. That is right where a word stands: there, quotes begin.
//! Within other quotes, a here-document, a comment or an arithmetic expression they do not, and the value would be read
//! as code. So every place has a [`Standing`], and only [`Standing::Word`] may be filled in.
//!
//! `sh` is another program on every system, so this reads what POSIX says and what dash, bash and busybox agree on.
//! Behind something that they end at different points (a `case` within `$(...)`, quotes within `${...}`, an alias)
//! it cannot be said where a place stands, which is [`Standing::Unclear`]. Being too careful costs a message, and being
//! wrong runs an item.
//!
//! No grammar of commands: their words, and where one ends, is all that is asked.

/// Stands for a place in the text that is read: no script can hold a NUL.
pub const PLACE: u8 = 0;

/// Where a place stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In a word, outside of quotes: what is quoted there is taken as it is.
    Word,
    /// Between single quotes.
    SingleQuotes,
    /// Between double quotes.
    DoubleQuotes,
    /// Between backquotes, where a backslash is read once more.
    Backquotes,
    /// In the text of a here-document, or in the word that ends it.
    HereDocument,
    /// In an arithmetic expression.
    Arithmetic,
    /// In the braces of a parameter expansion.
    Expansion,
    /// Right behind a backslash or a dollar sign, which would take the quote for theirs.
    Escaped,
    /// In a comment, which a line's end in the item would end.
    Comment,
    /// Behind something whose end shells see at different points.
    Unclear,
}

/// A script that was read.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Script {
    /// Where each place stands, in their order.
    pub standings: Vec<Standing>,
    /// The words of its commands, those within substitutions included; without redirections, assignments before a
    /// command, and reserved words.
    pub commands: Vec<Vec<ScriptWord>>,
    /// The number of the pipeline that each of them stands in.
    pub pipelines: Vec<u32>,
    /// Pipelines that an item is fed to by a here-document or a here-string, or out of a group of commands.
    pub fed: Vec<u32>,
    /// Assignments, before a command or alone.
    pub assignments: Vec<ScriptWord>,
    /// It expands its arguments: `$1`, `"$@"` and so on.
    pub expands_arguments: bool,
    /// It may read them in another way, as `shift` and `for` do.
    pub hands_arguments_on: bool,
}

/// A word of a command in a script, without its quotes.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct ScriptWord {
    /// Its text, with [`PLACE`] for each place, and expansions as they are written.
    pub text: Vec<u8>,
    /// The numbers of the places that stand in it, from 0.
    pub places: Vec<usize>,
    /// The shell fills an argument or the variable with the item in here.
    pub expands_item: bool,
    /// It is the variable.
    pub names_item: bool,
    /// The shell makes it of something, whatever it is.
    pub is_computed: bool,
    /// Some of it is quoted, so it is no reserved word.
    quoted: bool,
}

impl ScriptWord {
    /// Whether an item stands in it or is filled in.
    pub(crate) fn has_item(&self) -> bool {
        self.expands_item || !self.places.is_empty()
    }
}

impl Script {
    /// Reads a script in which each NUL stands for a place.
    pub fn read(text: &[u8]) -> Self {
        let mut reader = Reader {
            text,
            at: 0,
            script: Self::default(),
            documents: Vec::new(),
            unclear: false,
            depth: 0,
            pipeline: 0,
            pipelines: 0,
            expansions: 0,
        };
        reader.commands(false);
        reader.script
    }
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    script: Script,
    /// Here-documents whose text begins behind the next line's end.
    documents: Vec<Document>,
    /// From here on it cannot be said where a place stands.
    unclear: bool,
    /// How many substitutions are open.
    depth: u32,
    /// The pipeline that is being read.
    pipeline: u32,
    /// How many there were.
    pipelines: u32,
    /// How many expansions of items there were.
    expansions: usize,
}

struct Document {
    end: Vec<u8>,
    /// Its text is taken as it is.
    verbatim: bool,
    /// Tabs before a line do not count.
    strips_tabs: bool,
    /// The substitution in which it was asked for.
    depth: u32,
    /// What reads it.
    pipeline: u32,
}

/// A command that is being read.
#[derive(Default)]
struct Unfinished {
    words: Vec<ScriptWord>,
    word: Option<ScriptWord>,
    /// The word belongs to a redirection.
    redirected: bool,
    /// The word is a here-string.
    is_here_string: bool,
    /// The command before has its output piped into this one.
    is_piped: bool,
}

impl Unfinished {
    fn word(&mut self) -> &mut ScriptWord {
        self.word.get_or_insert_default()
    }

    fn push(&mut self, byte: u8) {
        self.word().text.push(byte);
    }
}

impl Reader<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn place(&mut self, standing: Standing) -> usize {
        self.script.standings.push(if self.unclear { Standing::Unclear } else { standing });
        self.script.standings.len() - 1
    }

    /// Goes over bytes whose places all stand alike.
    fn pass(&mut self, to: usize, standing: Standing) {
        let to = to.min(self.text.len());
        for at in self.at..to {
            if self.text[at] == PLACE {
                self.place(standing);
            }
        }
        self.at = to;
    }

    /// Reads commands to the end of the text, or over the parenthesis that ends a substitution.
    fn commands(&mut self, is_substitution: bool) {
        let mut command = Unfinished::default();
        let mut parentheses = 0u32;
        while let Some(byte) = self.peek(0) {
            if self.unclear {
                // Arguments that are expanded further on are looked for as text.
                self.look_for_arguments(self.at, self.text.len());
                self.pass(self.text.len(), Standing::Unclear);
                break;
            }
            self.at += 1;
            match byte {
                b' ' | b'\t' => self.end_word(&mut command),
                b'\n' => {
                    let goes_on = command.is_piped && command.words.is_empty() && command.word.is_none();
                    self.end_command(&mut command);
                    command.is_piped = goes_on;
                    self.next_pipeline(!goes_on);
                    self.here_documents();
                }
                b'&' if self.peek(0) == Some(b'>') => self.end_word(&mut command),
                b';' | b'&' | b'|' => {
                    self.end_command(&mut command);
                    command.is_piped = byte == b'|' && self.peek(0) != Some(b'|');
                    self.next_pipeline(!command.is_piped);
                }
                b'(' => {
                    // An arithmetic command to some, two subshells to others.
                    self.unclear |= self.peek(0) == Some(b'(');
                    self.end_command(&mut command);
                    parentheses += 1;
                }
                b')' => {
                    self.end_command(&mut command);
                    if is_substitution && parentheses == 0 {
                        return;
                    }
                    self.group_ends();
                    // A pattern of `case` ends with one that was never opened.
                    parentheses = parentheses.saturating_sub(1);
                }
                b'<' | b'>' => self.redirection(byte, &mut command),
                b'#' if command.word.is_none() => {
                    let end = self.line_end();
                    self.pass(end, Standing::Comment);
                }
                b'\\' => self.backslash(&mut command),
                b'\'' => self.single_quotes(&mut command),
                b'"' => self.double_quotes(&mut command),
                b'`' => self.backquotes(&mut command),
                b'$' => self.dollar(&mut command, false),
                PLACE => {
                    let number = self.place(Standing::Word);
                    command.word().places.push(number);
                    command.push(PLACE);
                    command.word().quoted = true;
                }
                byte => command.push(byte),
            }
        }
        self.end_command(&mut command);
    }

    fn end_word(&mut self, command: &mut Unfinished) {
        let Some(word) = command.word.take() else { return };
        // What these do to the rest of a script differs, or depends on what they say.
        let is_unclear = !word.quoted
            && match word.text.as_slice() {
                b"case" => self.depth > 0,
                b"alias" | b"=~" => true,
                // The index of an array to some, which may hold anything; a word that ends here to others.
                text => {
                    is_name(text.split(|byte| *byte == b'[').next().unwrap_or_default())
                        && text.contains(&b'[')
                        && !text.contains(&b']')
                }
            };
        self.unclear |= is_unclear;
        self.script.hands_arguments_on |= READ_ARGUMENTS.contains(&word.text.as_slice());
        let is_fed = std::mem::take(&mut command.is_here_string) && word.has_item();
        self.script.fed.extend(is_fed.then_some(self.pipeline));
        if !std::mem::take(&mut command.redirected) {
            command.words.push(word);
        }
    }

    /// Whatever is piped out of a group of commands may be an item, once there was one.
    fn group_ends(&mut self) {
        if self.items() > 0 {
            self.script.fed.push(self.pipeline);
        }
    }

    fn next_pipeline(&mut self, begins: bool) {
        if begins {
            self.pipelines += 1;
            self.pipeline = self.pipelines;
        }
    }

    fn items(&self) -> usize {
        self.expansions + self.script.standings.len()
    }

    fn end_command(&mut self, command: &mut Unfinished) {
        self.end_word(command);
        (command.redirected, command.is_here_string, command.is_piped) = (false, false, false);
        let mut words = std::mem::take(&mut command.words);
        if words.first().is_some_and(|word| !word.quoted && ENDS_OF_GROUPS.contains(&word.text.as_slice())) {
            self.group_ends();
        }
        let before = words.iter().take_while(|word| {
            let is_reserved = !word.quoted && RESERVED.contains(&word.text.as_slice());
            let name = word.text.iter().position(|byte| *byte == b'=').map(|at| &word.text[..at]);
            is_reserved || name.is_some_and(|name| is_name(name.strip_suffix(b"+").unwrap_or(name)))
        });
        let before = words.drain(..before.count()).filter(|word| word.text.contains(&b'='));
        self.script.assignments.extend(before);
        if !words.is_empty() {
            self.script.commands.push(words);
            self.script.pipelines.push(self.pipeline);
        }
    }

    fn redirection(&mut self, first: u8, command: &mut Unfinished) {
        let is_descriptor = |word: &mut ScriptWord| !word.quoted && word.text.iter().all(u8::is_ascii_digit);
        if command.word.take_if(is_descriptor).is_none() {
            self.end_word(command);
        }
        match (first, self.peek(0), self.peek(1)) {
            // A substitution of some shells: its commands are read as those of a subshell.
            (_, Some(b'('), _) => return,
            (b'<', Some(b'<'), Some(b'<')) => {
                self.at += 2;
                command.is_here_string = true;
            }
            (b'<', Some(b'<'), after) => {
                self.at += 1;
                let strips_tabs = after == Some(b'-');
                self.at += usize::from(strips_tabs);
                return self.document(strips_tabs);
            }
            (_, Some(b'&' | b'>' | b'|'), _) => self.at += 1,
            _ => {}
        }
        command.redirected = true;
    }

    /// The word that ends a here-document.
    fn document(&mut self, strips_tabs: bool) {
        while matches!(self.peek(0), Some(b' ' | b'\t')) {
            self.at += 1;
        }
        let (mut end, mut verbatim) = (Vec::new(), false);
        while let Some(byte) = self.peek(0) {
            match byte {
                b' ' | b'\t' | b'\n' | b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')' => break,
                PLACE => {
                    self.place(Standing::HereDocument);
                    self.unclear = true;
                }
                b'$' | b'`' => self.unclear = true,
                b'\\' => {
                    verbatim = true;
                    self.at += 1;
                    match self.peek(0) {
                        Some(b'\n' | PLACE) | None => {
                            self.unclear = true;
                            return;
                        }
                        Some(byte) => end.push(byte),
                    }
                }
                b'\'' | b'"' => {
                    verbatim = true;
                    let quoted = &self.text[self.at + 1..];
                    let length = quoted.iter().position(|other| *other == byte).unwrap_or(quoted.len());
                    end.extend_from_slice(&quoted[..length]);
                    // A delimiter of several lines, or one with backslashes, is another one to every shell.
                    self.unclear |= quoted[..length].iter().any(|byte| b"\n\\$`".contains(byte));
                    self.pass(self.at + 1 + length, Standing::HereDocument);
                }
                byte => end.push(byte),
            }
            self.at = (self.at + 1).min(self.text.len());
        }
        self.unclear |= end.is_empty() || end.contains(&PLACE);
        let (depth, pipeline) = (self.depth, self.pipeline);
        self.documents.push(Document { end, verbatim, strips_tabs, depth, pipeline });
    }

    /// A line has ended: the here-documents that it asked for follow.
    fn here_documents(&mut self) {
        for document in std::mem::take(&mut self.documents) {
            // Whether a line within a substitution is the one behind which they begin is seen differently.
            self.unclear |= document.depth != self.depth;
            while self.at < self.text.len() && !self.unclear {
                let end = self.line_end();
                let line = &self.text[self.at..end];
                let stripped = if document.strips_tabs { line.trim_ascii_start_tabs() } else { line };
                let is_end = stripped == document.end;
                let simple = document.verbatim || is_simple(line);
                if !document.verbatim && self.look_for_arguments(self.at, end) {
                    self.script.fed.push(document.pipeline);
                }
                self.pass(end, Standing::HereDocument);
                self.at = (self.at + 1).min(self.text.len());
                if is_end {
                    break;
                }
                self.unclear |= !simple;
            }
        }
    }

    fn backslash(&mut self, command: &mut Unfinished) {
        match self.peek(0) {
            // As if it were not there; but it must not stand within an operator, of which we would see the halves.
            Some(b'\n') => {
                let before = self.at.checked_sub(2).and_then(|at| self.text.get(at)).copied();
                let divides = match (before, self.peek(1)) {
                    (Some(b'$'), _) => true,
                    (Some(b'<' | b'>' | b'(' | b'&' | b'|' | b';'), Some(after)) => {
                        !(after.is_ascii_alphanumeric() || b" \t\n/.".contains(&after))
                    }
                    _ => false,
                };
                self.unclear |= divides;
                self.at += 1;
            }
            Some(PLACE) => {
                self.place(Standing::Escaped);
                self.at += 1;
            }
            Some(byte) => {
                command.push(byte);
                command.word().quoted = true;
                self.at += 1;
            }
            None => command.push(b'\\'),
        }
    }

    fn single_quotes(&mut self, command: &mut Unfinished) {
        let rest = &self.text[self.at..];
        let length = rest.iter().position(|byte| *byte == b'\'').unwrap_or(rest.len());
        command.word().quoted = true;
        command.word().text.extend_from_slice(&rest[..length]);
        self.lines_pass(&rest[..length]);
        self.pass(self.at + length, Standing::SingleQuotes);
        self.at = (self.at + 1).min(self.text.len());
    }

    fn double_quotes(&mut self, command: &mut Unfinished) {
        command.word().quoted = true;
        while let Some(byte) = self.peek(0) {
            if self.unclear {
                return;
            }
            self.at += 1;
            match byte {
                b'"' => return,
                b'`' => self.backquotes(command),
                b'$' => self.dollar(command, true),
                PLACE => {
                    self.place(Standing::DoubleQuotes);
                    command.push(PLACE);
                }
                b'\\' if self.peek(0) == Some(b'\n') => {
                    self.unclear |= self.at >= 2 && self.text[self.at - 2] == b'$';
                    self.at += 1;
                }
                b'\\' if self.peek(0).is_some_and(|byte| b"\"\\$`".contains(&byte)) => {
                    command.push(self.text[self.at]);
                    self.at += 1;
                }
                byte => {
                    self.lines_pass(&[byte]);
                    command.push(byte);
                }
            }
        }
    }

    /// Old-fashioned substitution. What is quoted in it is read twice, so its commands are of no interest.
    fn backquotes(&mut self, command: &mut Unfinished) {
        let mut end = self.at;
        while end < self.text.len() && self.text[end] != b'`' {
            end += if self.text[end] == b'\\' { 2 } else { 1 };
        }
        let end = end.min(self.text.len());
        command.word().quoted = true;
        command.word().text.extend_from_slice(b"`...`");
        command.word().is_computed = true;
        self.look_for_arguments(self.at, end);
        self.lines_pass(&self.text[self.at..end]);
        self.pass(end, Standing::Backquotes);
        self.at = (self.at + 1).min(self.text.len());
    }

    fn dollar(&mut self, command: &mut Unfinished, in_double_quotes: bool) {
        match self.peek(0) {
            Some(b'(') if self.peek(1) == Some(b'(') => self.arithmetic(command),
            Some(b'(') => {
                self.at += 1;
                command.word().quoted = true;
                command.word().is_computed = true;
                command.word().text.extend_from_slice(b"$(...)");
                if self.depth >= DEEPEST {
                    self.unclear = true;
                    return;
                }
                let (outer, before) = (self.documents.len(), self.items());
                let pipeline = self.pipeline;
                self.next_pipeline(true);
                self.depth += 1;
                self.commands(true);
                self.depth -= 1;
                self.pipeline = pipeline;
                command.word().expands_item |= self.items() > before;
                // A here-document that was asked for in there, and begins out here.
                self.unclear |= self.documents.len() > outer;
            }
            Some(b'{') => self.expansion(command),
            Some(b'[') => self.unclear = true,
            Some(b'\'') if !in_double_quotes => {
                // To some shells a backslash escapes the quote that would end it.
                let rest = &self.text[self.at + 1..];
                let length = rest.iter().position(|byte| *byte == b'\'').unwrap_or(rest.len());
                self.unclear |= rest[..length].contains(&b'\\');
                self.at += 1;
                self.single_quotes(command);
            }
            Some(PLACE) => {
                self.place(if in_double_quotes { Standing::DoubleQuotes } else { Standing::Escaped });
                command.push(b'$');
                command.push(PLACE);
                self.at += 1;
            }
            Some(byte) if byte.is_ascii_digit() || b"@*#?$!-".contains(&byte) => {
                self.script.expands_arguments |= is_argument(byte);
                let is_item = is_argument(byte) && byte != b'#';
                self.expansions += usize::from(is_item);
                command.word().expands_item |= is_item;
                command.word().is_computed = true;
                command.word().text.extend_from_slice(&[b'$', byte]);
                self.at += 1;
            }
            _ => {
                let word = command.word();
                word.names_item |= self.text[self.at..].starts_with(ITEM);
                word.expands_item |= word.names_item;
                self.expansions += usize::from(word.names_item);
                word.is_computed |=
                    self.text.get(self.at).is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_');
                command.push(b'$');
            }
        }
    }

    /// `$((...))`: only of what no shell could read otherwise.
    fn arithmetic(&mut self, command: &mut Unfinished) {
        let start = self.at + 2;
        let (mut at, mut open) = (start, 0u32);
        let end = loop {
            match self.text.get(at) {
                None => break None,
                Some(b'(') => open += 1,
                Some(b')') if open > 0 => open -= 1,
                Some(b')') => break (self.text.get(at + 1) == Some(&b')')).then_some(at),
                Some(b'\'' | b'"' | b'\\' | b'`' | b'#' | b'\n') => break None,
                Some(b'$') if matches!(self.text.get(at + 1), Some(b'(' | b'{' | b'[' | b'\'' | b'"')) => break None,
                Some(_) => {}
            }
            at += 1;
        };
        command.word().quoted = true;
        command.word().text.extend_from_slice(b"$((...))");
        match end.filter(|end| !contains(&self.text[start..*end], b"case")) {
            Some(end) => {
                self.look_for_arguments(start, end);
                self.pass(end, Standing::Arithmetic);
                self.at = end + 2;
            }
            None => self.unclear = true,
        }
    }

    /// `${...}`: only of what no shell could read otherwise.
    fn expansion(&mut self, command: &mut Unfinished) {
        let start = self.at + 1;
        let rest = &self.text[start..];
        let length = rest.iter().position(|byte| *byte == b'}').unwrap_or(rest.len());
        let inside = &rest[..length];
        let is_odd = |(at, byte): (usize, &u8)| match byte {
            b'\'' | b'"' | b'\\' | b'`' | b'{' | b'(' | b')' | b'\n' | b'<' | b'>' => true,
            b'$' => matches!(inside.get(at + 1), Some(b'(' | b'{' | b'[' | b'\'' | b'"')),
            _ => false,
        };
        self.unclear |= length == rest.len() || inside.iter().enumerate().any(is_odd);
        command.word().quoted = true;
        command.word().text.extend_from_slice(b"${...}");
        command.word().is_computed = true;
        let is_item = inside.starts_with(ITEM) || matches!(inside, [b'1'..=b'9' | b'@' | b'*', ..]);
        self.expansions += usize::from(is_item);
        command.word().names_item |= inside.starts_with(ITEM);
        command.word().expands_item |= is_item;
        self.look_for_arguments(self.at.saturating_sub(1), start + length);
        if !self.unclear {
            self.pass(start + length, Standing::Expansion);
            self.at = (self.at + 1).min(self.text.len());
        }
    }

    /// Within quotes, the line behind which a here-document begins may end; shells agree on that, but only just.
    fn lines_pass(&mut self, text: &[u8]) {
        self.unclear |= !self.documents.is_empty() && text.contains(&b'\n');
    }

    fn look_for_arguments(&mut self, from: usize, to: usize) -> bool {
        let text = &self.text[from..to.min(self.text.len())];
        let expands = text.iter().enumerate().any(|(at, byte)| {
            let after = &text[at + 1..];
            let after = after.strip_prefix(b"{").map_or(after, |inside| match inside {
                [b'#' | b'!', next, ..] if is_argument(*next) => &inside[1..],
                _ => inside,
            });
            *byte == b'$' && after.first().is_some_and(|byte| is_argument(*byte))
        });
        self.script.expands_arguments |= expands;
        let has_item = expands || contains(text, ITEM);
        self.expansions += usize::from(has_item);
        has_item
    }

    fn line_end(&self) -> usize {
        let rest = &self.text[self.at..];
        self.at + rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len())
    }
}

trait Tabs {
    fn trim_ascii_start_tabs(&self) -> &[u8];
}

impl Tabs for [u8] {
    fn trim_ascii_start_tabs(&self) -> &[u8] {
        &self[self.iter().take_while(|byte| **byte == b'\t').count()..]
    }
}

/// Whether a line of a here-document ends where it seems to, whatever is expanded in it.
fn is_simple(line: &[u8]) -> bool {
    if line.ends_with(b"\\") {
        return false;
    }
    let count = |wanted: u8| line.iter().filter(|byte| **byte == wanted).count();
    let expands = [b"$(".as_slice(), b"${", b"`", b"$["].iter().any(|start| contains(line, start));
    !expands
        || (count(b'(') == count(b')')
            && count(b'{') == count(b'}')
            && count(b'`').is_multiple_of(2)
            && !line.iter().any(|byte| b"'\"\\#".contains(byte))
            && !contains(line, b"<<")
            && !contains(line, b"$[")
            && !contains(line, b"case"))
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|window| window == wanted)
}

fn is_argument(byte: u8) -> bool {
    matches!(byte, b'1'..=b'9' | b'@' | b'*' | b'#')
}

fn is_name(text: &[u8]) -> bool {
    text.first().is_some_and(|byte| !byte.is_ascii_digit())
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
}

/// Words that end a group of commands.
const ENDS_OF_GROUPS: &[&[u8]] = &[b"}", b"done", b"fi", b"esac"];
/// The variable that holds the item.
const ITEM: &[u8] = b"UNISONO_ITEM";
/// What may stand before a command (POSIX, "Reserved Words").
const RESERVED: &[&[u8]] =
    &[b"if", b"then", b"elif", b"else", b"while", b"until", b"do", b"{", b"}", b"!", b"time", b"fi", b"done", b"esac"];
/// Words that read a script's arguments without a dollar sign.
const READ_ARGUMENTS: &[&[u8]] = &[b"shift", b"getopts", b".", b"source", b"eval", b"for"];
/// No script of people's has this many substitutions within each other.
const DEEPEST: u32 = 32;
