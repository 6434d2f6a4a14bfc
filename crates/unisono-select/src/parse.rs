//! From text to an expression of the plain part.
//!
//! Whatever it does not know makes it give up: there is another reader that knows all of jq, and says what is wrong. So
//! what it does take it must take as that one does: operators bind in the same order, and words are words of the same
//! kind.

/// Most parts of an expression.
pub const MAX_NODES: usize = 256;
/// Most levels of an expression.
pub const MAX_NESTING: usize = 64;

/// A part of an expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    Identity,
    /// What comes from the first, looked into step by step; with what fails left out where that is asked for.
    Path(Box<Node>, Vec<(Step, bool)>),
    /// A value, as JSON.
    Literal(Vec<u8>),
    Array(Option<Box<Node>>),
    Object(Vec<(Node, Node)>),
    Pipe(Box<Node>, Box<Node>),
    Comma(Box<Node>, Box<Node>),
    Alternative(Box<Node>, Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Compare(Comparison, Box<Node>, Box<Node>),
    Select(Box<Node>),
    Map(Box<Node>),
    Length,
    Keys,
    Not,
    Type,
    Empty,
}

/// Where to look.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    Name(String),
    Index(i64),
    Slice(Option<i64>, Option<i64>),
    All,
}

/// What two values are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Reads an expression; `None` when it is not one of ours.
pub fn parse(text: &str) -> Option<Node> {
    if text.len() > LONGEST_BYTES {
        return None;
    }
    let mut parser = Parser { text, nodes: 0, nesting: 0 };
    let node = parser.pipe(true)?;
    parser.space();
    parser.text.is_empty().then_some(node)
}

struct Parser<'a> {
    /// What is left to read.
    text: &'a str,
    nodes: usize,
    nesting: usize,
}

/// Each level reads what binds tighter than it, and then its operators.
impl<'a> Parser<'a> {
    /// `with_comma`: the value of a member ends at a comma.
    fn pipe(&mut self, with_comma: bool) -> Option<Node> {
        let left = if with_comma { self.comma()? } else { self.alternative()? };
        if !self.take_operator("|") {
            return Some(left);
        }
        self.count()?;
        Some(Node::Pipe(left.into(), self.pipe(with_comma)?.into()))
    }

    fn comma(&mut self) -> Option<Node> {
        let mut left = self.alternative()?;
        while self.take(',') {
            self.count()?;
            left = Node::Comma(left.into(), self.alternative()?.into());
        }
        Some(left)
    }

    fn alternative(&mut self) -> Option<Node> {
        let mut left = self.or()?;
        while self.take_operator("//") {
            self.count()?;
            left = Node::Alternative(left.into(), self.or()?.into());
        }
        Some(left)
    }

    fn or(&mut self) -> Option<Node> {
        let mut left = self.and()?;
        while self.take_word("or") {
            self.count()?;
            left = Node::Or(left.into(), self.and()?.into());
        }
        Some(left)
    }

    fn and(&mut self) -> Option<Node> {
        let mut left = self.comparison()?;
        while self.take_word("and") {
            self.count()?;
            left = Node::And(left.into(), self.comparison()?.into());
        }
        Some(left)
    }

    /// One comparison: what a comparison of a comparison means, readers do not agree on.
    fn comparison(&mut self) -> Option<Node> {
        let left = self.postfix()?;
        let Some(comparison) = self.take_comparison() else { return Some(left) };
        self.count()?;
        let right = self.postfix()?;
        match self.take_comparison() {
            None => Some(Node::Compare(comparison, left.into(), right.into())),
            Some(_) => None,
        }
    }

    /// An atom and the steps behind it.
    fn postfix(&mut self) -> Option<Node> {
        self.count()?;
        let (node, mut steps) = self.atom()?;
        loop {
            self.space();
            if self.text.starts_with('[') {
                steps.push(self.brackets()?);
            } else if self.text.starts_with('.') {
                steps.push(self.dot()?);
            } else {
                break;
            }
            self.count()?;
        }
        Some(if steps.is_empty() { node } else { Node::Path(node.into(), steps) })
    }

    fn atom(&mut self) -> Option<(Node, Vec<(Step, bool)>)> {
        self.space();
        let node = match self.text.bytes().next()? {
            b'.' if self.text[1..].starts_with(|next: char| next.is_ascii_alphabetic() || "_\"".contains(next)) => {
                let step = self.dot()?;
                return Some((Node::Identity, vec![step]));
            }
            b'.' => {
                self.text = &self.text[1..];
                if self.text.starts_with('.') {
                    return None;
                }
                Node::Identity
            }
            b'"' => {
                let text = self.string()?;
                let mut json = Vec::new();
                crate::json::push_text(&text, &mut json);
                Node::Literal(json)
            }
            b'-' | b'0'..=b'9' => Node::Literal(self.number()?),
            b'(' => self.nested(')', |parser| parser.pipe(true))?,
            b'[' => self.nested(']', |parser| {
                parser.space();
                let is_empty = parser.text.starts_with(']');
                let inner = if is_empty { None } else { Some(parser.pipe(true)?.into()) };
                Some(Node::Array(inner))
            })?,
            b'{' => self.nested('}', Self::object)?,
            _ => self.call()?,
        };
        self.space();
        // An error that is to be caught is not for us.
        (!self.text.starts_with('?')).then(|| (node, Vec::new()))
    }

    fn call(&mut self) -> Option<Node> {
        let word = self.word()?;
        self.space();
        let has_arguments = self.text.starts_with('(');
        Some(match (word, has_arguments) {
            ("select", true) => Node::Select(self.nested(')', |parser| parser.pipe(true))?.into()),
            ("map", true) => Node::Map(self.nested(')', |parser| parser.pipe(true))?.into()),
            ("true" | "false" | "null", false) => Node::Literal(word.into()),
            ("length", false) => Node::Length,
            ("keys", false) => Node::Keys,
            ("not", false) => Node::Not,
            ("type", false) => Node::Type,
            ("empty", false) => Node::Empty,
            _ => return None,
        })
    }

    /// The members of an object, after its bracket.
    fn object(&mut self) -> Option<Node> {
        let mut members = Vec::new();
        self.space();
        if self.text.starts_with('}') {
            return Some(Node::Object(members));
        }
        loop {
            members.push(self.member()?);
            if !self.take(',') {
                return Some(Node::Object(members));
            }
        }
    }

    fn member(&mut self) -> Option<(Node, Node)> {
        self.count()?;
        self.space();
        if self.text.starts_with('(') {
            let name = self.nested(')', |parser| parser.pipe(true))?;
            return if self.take(':') { Some((name, self.pipe(false)?)) } else { None };
        }
        let name = match self.text.starts_with('"') {
            true => self.string()?,
            false => self.word()?.to_owned(),
        };
        let value = match self.take(':') {
            true => self.pipe(false)?,
            false => Node::Path(Node::Identity.into(), vec![(Step::Name(name.clone()), false)]),
        };
        let mut json = Vec::new();
        crate::json::push_text(&name, &mut json);
        Some((Node::Literal(json), value))
    }

    /// `.a`, `."a"` and `.[...]`.
    fn dot(&mut self) -> Option<(Step, bool)> {
        self.text = self.text.strip_prefix('.')?;
        if self.text.starts_with('[') {
            return self.brackets();
        }
        let name = match self.text.starts_with('"') {
            true => self.string()?,
            false => self.name()?.to_owned(),
        };
        Some((Step::Name(name), self.is_optional()))
    }

    fn brackets(&mut self) -> Option<(Step, bool)> {
        let step = self.nested(']', |parser| {
            parser.space();
            Some(match parser.text.bytes().next()? {
                b']' => Step::All,
                b'"' => Step::Name(parser.string()?),
                b':' => {
                    parser.take(':');
                    Step::Slice(None, Some(parser.integer()?))
                }
                _ => {
                    let from = parser.integer()?;
                    if !parser.take(':') {
                        Step::Index(from)
                    } else {
                        parser.space();
                        let is_open = parser.text.starts_with(']');
                        Step::Slice(Some(from), if is_open { None } else { Some(parser.integer()?) })
                    }
                }
            })
        })?;
        Some((step, self.is_optional()))
    }

    fn is_optional(&mut self) -> bool {
        let mut is_optional = false;
        while self.take('?') {
            is_optional = true;
        }
        is_optional
    }

    /// What is between this bracket and that one.
    fn nested<T>(&mut self, close: char, inner: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        self.nesting += 1;
        if self.nesting > MAX_NESTING {
            return None;
        }
        self.text = &self.text[1..];
        let inner = inner(self)?;
        self.nesting -= 1;
        self.take(close).then_some(inner)
    }

    fn count(&mut self) -> Option<()> {
        self.nodes += 1;
        (self.nodes <= MAX_NODES).then_some(())
    }

    fn space(&mut self) {
        self.text = self.text.trim_ascii_start();
    }

    /// Takes a character that is a word of its own.
    fn take(&mut self, character: char) -> bool {
        self.space();
        let rest = self.text.strip_prefix(character);
        self.text = rest.unwrap_or(self.text);
        rest.is_some()
    }

    /// The word of symbols that comes next: all that can belong to one does.
    fn symbols(&self) -> &'a str {
        let text = self.text.trim_ascii_start();
        let is_first = |character| "|=!<>+-*/%".contains(character);
        let end = match text.starts_with(is_first) {
            false => 0,
            true => text.find(|character| character == '-' || !is_first(character)).unwrap_or(text.len()).max(1),
        };
        &text[..end]
    }

    fn take_operator(&mut self, operator: &str) -> bool {
        let is_it = self.symbols() == operator;
        if is_it {
            self.space();
            self.text = &self.text[operator.len()..];
        }
        is_it
    }

    fn take_comparison(&mut self) -> Option<Comparison> {
        let symbols = self.symbols();
        let comparison = match symbols {
            "==" => Comparison::Equal,
            "!=" => Comparison::Unequal,
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            _ => return None,
        };
        self.take_operator(symbols);
        Some(comparison)
    }

    fn take_word(&mut self, word: &str) -> bool {
        self.space();
        let before = self.text;
        let is_it = self.word() == Some(word);
        if !is_it {
            self.text = before;
        }
        is_it
    }

    /// A word that is no part of a longer name.
    fn word(&mut self) -> Option<&'a str> {
        self.space();
        let name = self.name()?;
        (!self.text.starts_with("::")).then_some(name)
    }

    fn name(&mut self) -> Option<&'a str> {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        let end = self.text.bytes().position(|byte| !is_part(byte)).unwrap_or(self.text.len());
        let (name, rest) = self.text.split_at(end);
        self.text = rest;
        (!name.is_empty() && !name.as_bytes()[0].is_ascii_digit()).then_some(name)
    }

    fn integer(&mut self) -> Option<i64> {
        self.space();
        let number = self.number()?;
        crate::json::utf8(&number).parse().ok()
    }

    /// A number as JSON.
    fn number(&mut self) -> Option<Vec<u8>> {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"._".contains(&byte);
        let sign = usize::from(self.text.starts_with('-'));
        let mut end =
            sign + self.text[sign..].bytes().position(|byte| !is_part(byte)).unwrap_or(self.text.len() - sign);
        if self.text[..end].ends_with(['e', 'E']) && self.text[end..].starts_with(['+', '-']) {
            end +=
                1 + self.text[end + 1..].bytes().position(|byte| !is_part(byte)).unwrap_or(self.text.len() - end - 1);
        }
        let (number, rest) = self.text.split_at(end);
        self.text = rest;
        // A whole number may begin with zeros, and zero has no sign.
        let digits = &number[sign..];
        if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
            let digits = digits.trim_start_matches('0');
            return Some(match digits {
                "" => b"0".to_vec(),
                _ => [&number[..sign], digits].concat().into_bytes(),
            });
        }
        let is_json = crate::check(number.as_bytes()).is_ok();
        is_json.then(|| number.into())
    }

    /// A string without anything to be filled in.
    fn string(&mut self) -> Option<String> {
        let mut text = String::new();
        let mut rest = self.text.strip_prefix('"')?;
        loop {
            let at = rest.find(['"', '\\'])?;
            text.push_str(&rest[..at]);
            let escape = &rest[at..];
            if let Some(rest) = escape.strip_prefix('"') {
                self.text = rest;
                return Some(text);
            }
            let kind = escape.as_bytes().get(1)?;
            let length = match kind {
                b'"' | b'\\' | b'/' => {
                    text.push(char::from(*kind));
                    2
                }
                b'b' | b'f' | b'n' | b'r' | b't' => {
                    text.push(match kind {
                        b'b' => '\u{8}',
                        b'f' => '\u{c}',
                        b'n' => '\n',
                        b'r' => '\r',
                        _ => '\t',
                    });
                    2
                }
                b'u' => {
                    let digits =
                        escape.get(2..6).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
                    text.push(u32::from_str_radix(digits, 16).ok().and_then(char::from_u32)?);
                    6
                }
                _ => return None,
            };
            rest = &escape[length..];
        }
    }
}

/// Far more than so many parts take.
const LONGEST_BYTES: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_bind_as_in_jq() {
        for (plain, meant) in [
            (".a | .b, .c | .d", "(.a) | ((.b, .c) | .d)"),
            (".a // .b or .c and .d == 1", ".a // (.b or (.c and (.d == 1)))"),
            (".a // .b // .c", "(.a // .b) // .c"),
            ("{a: .b | .c, d: 1 == 2}", "{a: (.b | .c), d: (1 == 2)}"),
            (".a.b[0]?[]", "(.a.b)[0]?[]"),
        ] {
            let flat = |text| format!("{:?}", parse(text).unwrap()).replace("Path(Path(Identity, ", "Path(Identity, ");
            if plain.starts_with(".a.b") {
                assert!(parse(plain).is_some() && parse(meant).is_some());
            } else {
                assert_eq!(flat(plain), flat(meant), "{plain}");
            }
        }
    }

    #[test]
    fn what_is_not_of_the_plain_part_is_left_to_others() {
        for text in [
            "",
            "..",
            ".a + 1",
            ".[.a]",
            ".a as $x | $x",
            "\"\\(.a)\"",
            "(.a)?",
            "1?",
            "length?",
            ".a |= 1",
            "def f: 1; f",
            "if . then 1 else 2 end",
            "env",
            "$ENV",
            "halt",
            "input",
            "@base64",
            ".a == 1 == 2",
            "map",
            "select",
            "length(1)",
            "a::b",
            "{a: 1,}",
            "{$x}",
            "[1,]",
            ".[1:2:3]",
            ".[:]",
            "1.",
            ".5",
            "007.5",
            "1_0",
            "- 1",
            "-.a",
            "\"\\ud83d\\ude00\"",
            "# x\n.",
            ".[1.5]",
            "nosuch",
            "{",
            ".[",
            ".a b",
            "{(.a)}",
            ".é",
            "limit(1; .[])",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn parts_and_levels_are_bounded() {
        assert!(parse(&format!("{}.{}", "(".repeat(MAX_NESTING), ")".repeat(MAX_NESTING))).is_some());
        assert!(parse(&"(".repeat(1_000_000)).is_none());
        assert!(parse(&format!("{}.{}", "(".repeat(MAX_NESTING + 1), ")".repeat(MAX_NESTING + 1))).is_none());
        assert!(parse(&format!(".{}", "|.".repeat(MAX_NODES))).is_none());
        assert!(parse(&format!(".{}", ",.".repeat(5000))).is_none());
    }
}
