//! Text with holes: `https://api/v1/{region}/items/{id}?day={day}`.
//!
//! `{name}` is filled from a column and percent-encoded for where it stands (RFC 3986): in a path a slash does not part
//! segments, in a query an ampersand does not part parameters. `{+name}` keeps what is reserved, as in RFC 6570. At
//! the very beginning a column is a whole address and is taken as it is. `{1..500}` (with leading zeros, and
//! `{0..100..10}`) and `{eu,us}` stand for each of their values in turn: one row is as many calls as these have
//! combinations. As in a shell, one of several values may be empty: `{,v2/}items`. `{{` and `}}` are braces. What
//! stands for no value, or for more than can be counted, is an error and never a run without rows.

use std::{borrow::Cow, fmt};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use unisono_core::redacted;

use crate::row::{NoFields, RowFields};

/// A template, parsed once.
#[derive(Clone)]
pub struct Template {
    parts: Vec<TemplatePart>,
    combinations: u64,
}

#[derive(Clone)]
enum TemplatePart {
    Literal(String),
    Field { name: String, escaping: Escaping },
    Choice(Choice),
}

#[derive(Clone)]
enum Choice {
    Range { first: i64, step: i64, count: u64, width: usize },
    List(Vec<String>),
}

/// Its text may have a password in it, in an address or anywhere else, so that is not shown.
impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns: Vec<&str> = self.columns().collect();
        f.debug_struct("Template")
            .field("columns", &columns)
            .field("combinations", &self.combinations)
            .finish_non_exhaustive()
    }
}

impl TemplatePart {
    fn column(&self) -> Option<&str> {
        match self {
            Self::Field { name, .. } => Some(name),
            Self::Literal(_) | Self::Choice(_) => None,
        }
    }
}

/// What a value has to be made safe for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escaping {
    /// A whole address.
    Whole,
    /// A user name, a password, or both parted by a colon.
    UserInformation,
    /// Host and port.
    Authority,
    /// One segment of a path.
    Segment,
    /// A piece of a query.
    Query,
    /// Anything goes that may stand in an address.
    Reserved,
    /// One component of a file's path.
    FileName,
    /// Plain text.
    Text,
}

/// What a template makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Address,
    FilePath,
    Text,
}

impl Template {
    /// A template of an address.
    ///
    /// # Errors
    /// When braces do not match, or a range or list is none.
    ///
    /// ```
    /// use unisono_runner::{NoFields, Template};
    /// let template = Template::address("http://api/{eu,us}/{1..3}").unwrap();
    /// assert_eq!(template.combinations(), 6);
    /// assert_eq!(template.render(&NoFields, 4).unwrap(), "http://api/us/2");
    /// ```
    pub fn address(text: &str) -> Result<Self, String> {
        Self::parse(text, Purpose::Address)
    }

    /// A template of a file's path. A column is never more than one component of it, so no value leads elsewhere.
    ///
    /// # Errors
    /// As [`Template::address`].
    pub fn file_path(text: &str) -> Result<Self, String> {
        Self::parse(text, Purpose::FilePath)
    }

    /// A template of plain text.
    ///
    /// # Errors
    /// As [`Template::address`].
    pub fn text(text: &str) -> Result<Self, String> {
        Self::parse(text, Purpose::Text)
    }

    /// How many calls one row is.
    pub fn combinations(&self) -> u64 {
        self.combinations
    }

    /// Whether it needs columns.
    pub fn has_fields(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, TemplatePart::Field { .. }))
    }

    /// The columns that it needs.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(TemplatePart::column)
    }

    /// What it makes, where that is the same for every row.
    pub fn constant(&self) -> Option<String> {
        if self.combinations > 1 || self.has_fields() {
            return None;
        }
        self.render(&NoFields, 0).ok()
    }

    /// Fills in the columns and one combination of the choices.
    ///
    /// # Errors
    /// When a column is missing or cannot stand where it should.
    pub fn render(&self, fields: &dyn RowFields, combination: u64) -> Result<String, String> {
        let mut text = String::with_capacity(64);
        let mut left = combination;
        // The last choice turns fastest.
        let mut below = self.combinations;
        for part in &self.parts {
            match part {
                TemplatePart::Literal(literal) => text.push_str(literal),
                TemplatePart::Field { name, escaping } => text.push_str(&escaping.fit(name, fields.field(name)?)?),
                TemplatePart::Choice(choice) => {
                    below /= choice.count();
                    choice.push(left / below, &mut text);
                    left %= below;
                }
            }
        }
        Ok(text)
    }

    fn parse(text: &str, purpose: Purpose) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut made = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
                continue;
            }
            let end = rest.find('}').filter(|_| brace == "{");
            let end = end.ok_or_else(|| {
                format!(
                    "`{}` has a brace without its other half (write `{brace}{brace}` for the character itself)",
                    redacted(text)
                )
            })?;
            made.push_str(&literal);
            if !literal.is_empty() {
                parts.push(TemplatePart::Literal(std::mem::take(&mut literal)));
            }
            let part = part(&rest[..end], purpose, &made, &rest[end + 1..])
                .map_err(|why| format!("`{}`: {why}", redacted(text)))?;
            made.push('x');
            parts.push(part);
            rest = &rest[end + 1..];
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(TemplatePart::Literal(literal));
        }
        let mut counts =
            parts.iter().map(|part| if let TemplatePart::Choice(choice) = part { choice.count() } else { 1 });
        let combinations = counts.try_fold(1u64, u64::checked_mul);
        Ok(Self {
            parts,
            combinations: combinations
                .ok_or_else(|| format!("`{}` has more combinations than can be counted", redacted(text)))?,
        })
    }
}

/// What stands between two braces; `before` and `after` are what comes before and after it in the address.
fn part(inside: &str, purpose: Purpose, before: &str, after: &str) -> Result<TemplatePart, String> {
    if let Some(range) = range(inside)? {
        return Ok(TemplatePart::Choice(range));
    }
    if inside.contains(',') {
        if inside.bytes().all(|byte| byte == b',') {
            return Err(format!("`{{{inside}}}` has no values (write `{{{{` for a brace itself)"));
        }
        return Ok(TemplatePart::Choice(Choice::List(inside.split(',').map(str::to_owned).collect())));
    }
    let (name, reserved) = match inside.strip_prefix('+') {
        Some(name) => (name, true),
        None => (inside, false),
    };
    let escaping = match purpose {
        Purpose::Text => Escaping::Text,
        Purpose::FilePath => Escaping::FileName,
        Purpose::Address if before.is_empty() => Escaping::Whole,
        Purpose::Address if reserved && escaping(before, after) != Escaping::UserInformation => Escaping::Reserved,
        Purpose::Address => escaping(before, after),
    };
    // `{}` is the whole line, as xargs and parallel have it.
    let name = if name.is_empty() { "line" } else { name };
    Ok(TemplatePart::Field { name: name.to_owned(), escaping })
}

fn escaping(before: &str, after: &str) -> Escaping {
    let authority_goes_to = after.find(['/', '?', '#']).unwrap_or(after.len());
    let after_scheme = before.split_once("://").map_or(before, |(_, after)| after);
    match (after_scheme.find('/'), after_scheme.find('?')) {
        (_, Some(_)) => Escaping::Query,
        (Some(_), None) => Escaping::Segment,
        (None, None) if after[..authority_goes_to].contains('@') => Escaping::UserInformation,
        (None, None) => Escaping::Authority,
    }
}

fn range(inside: &str) -> Result<Option<Choice>, String> {
    let Some((first, rest)) = inside.split_once("..") else { return Ok(None) };
    let (last, step) = rest.split_once("..").unwrap_or((rest, "1"));
    let bad = || format!("`{{{inside}}}` is not a range (try `{{1..500}}`, `{{001..500}}` or `{{0..100..10}}`)");
    // `parse` takes a plus sign, which would be lost.
    let number = |text: &str| match text.len() <= MOST_DIGITS && !text.starts_with('+') {
        true => text.parse::<i64>().map_err(|_| bad()),
        false => Err(bad()),
    };
    let (from, to, step) = (number(first)?, number(last)?, number(step)?.unsigned_abs());
    if step == 0 {
        return Err(bad());
    }
    let padded = [first, last].iter().any(|text| text.len() > 1 && text.trim_start_matches('-').starts_with('0'));
    let signed = i64::try_from(step).map_err(|_| bad())?;
    let count = (to.abs_diff(from) / step).checked_add(1);
    Ok(Some(Choice::Range {
        first: from,
        step: if to < from { -signed } else { signed },
        count: count.ok_or_else(|| format!("`{{{inside}}}` has more values than can be counted"))?,
        width: if padded { first.len().max(last.len()) } else { 0 },
    }))
}

impl Choice {
    fn count(&self) -> u64 {
        match self {
            Self::Range { count, .. } => *count,
            Self::List(values) => values.len() as u64,
        }
    }

    fn push(&self, index: u64, text: &mut String) {
        match self {
            Self::Range { first, step, width, .. } => {
                let value = i128::from(*first) + i128::from(*step) * i128::from(index);
                let width = *width;
                text.push_str(&format!("{value:0width$}"));
            }
            Self::List(values) => text.push_str(&values[usize::try_from(index).expect("an index into a list fits")]),
        }
    }
}

impl Escaping {
    fn fit<'a>(self, name: &str, value: &'a str) -> Result<Cow<'a, str>, String> {
        let bad = |why: &str| Err(format!("column `{name}` {why}"));
        match self {
            Self::Whole | Self::Text => Ok(Cow::Borrowed(value)),
            Self::Authority => {
                let plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte));
                if plain && !value.is_empty() {
                    Ok(Cow::Borrowed(value))
                } else {
                    bad(&format!("is not a host: `{}`", redacted(value)))
                }
            }
            Self::UserInformation => Ok(utf8_percent_encode(value, USER_INFORMATION).into()),
            // A path that ends early, or climbs, asks for something else than was meant.
            Self::Segment if value.is_empty() => bad("is empty"),
            Self::Segment if value == "." || value == ".." => bad(&format!("cannot be a segment of a path: `{value}`")),
            Self::Segment | Self::Query => Ok(utf8_percent_encode(value, UNRESERVED).into()),
            Self::Reserved => Ok(utf8_percent_encode(value, RESERVED).into()),
            Self::FileName if value.is_empty() => bad("is empty"),
            Self::FileName if value == "." || value == ".." => bad(&format!("cannot be a file name: `{value}`")),
            Self::FileName => Ok(utf8_percent_encode(value, FILE_NAME).into()),
        }
    }
}

/// More than any number has that can be counted with, leading zeros included.
const MOST_DIGITS: usize = 64;
/// RFC 3986, section 2.3.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// A colon parts the name from the password; in either it does no harm.
const USER_INFORMATION: &AsciiSet = &UNRESERVED.remove(b':');
/// And section 2.2, less the fragment's `#`.
const RESERVED: &AsciiSet = &UNRESERVED
    .remove(b':')
    .remove(b'/')
    .remove(b'?')
    .remove(b'[')
    .remove(b']')
    .remove(b'@')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b'%');
/// What would part components, and what terminals and scripts choke on.
const FILE_NAME: &AsciiSet = &percent_encoding::CONTROLS.add(b'/').add(b'%').add(b'\\');

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct One(&'static str, String);

    impl RowFields for One {
        fn field(&self, name: &str) -> Result<&str, String> {
            if name == self.0 { Ok(&self.1) } else { Err(format!("no column `{name}`")) }
        }
    }

    fn all(text: &str) -> Vec<String> {
        let template = Template::address(text).unwrap();
        (0..template.combinations()).map(|at| template.render(&crate::row::NoFields, at).unwrap()).collect()
    }

    #[test]
    fn ranges_and_lists_stand_for_each_of_their_values() {
        assert_eq!(all("h/{1..3}"), ["h/1", "h/2", "h/3"]);
        assert_eq!(all("h/{3..1}"), ["h/3", "h/2", "h/1"]);
        assert_eq!(all("h/{08..10}"), ["h/08", "h/09", "h/10"]);
        assert_eq!(all("h/{0..20..10}/{a,b}"), ["h/0/a", "h/0/b", "h/10/a", "h/10/b", "h/20/a", "h/20/b"]);
        assert_eq!(all("h/{{x}}"), ["h/{x}"]);
        assert_eq!(all("h/"), ["h/"]);
    }

    #[test]
    fn what_is_no_template_is_refused_with_a_reason() {
        for text in ["h/{a", "h/a}", "h/{1..x}", "h/{1..2..0}", "{1..9999999999}{1..9999999999}{1..9999999999}"] {
            assert!(Template::address(text).unwrap_err().contains(text), "{text}");
        }
    }

    #[test]
    fn what_stands_for_more_than_can_be_counted_or_for_nothing_is_refused() {
        let zeros = "0".repeat(70);
        for text in [
            "h/{-9223372036854775808..9223372036854775807}",
            "h/{9223372036854775807..-9223372036854775808}",
            "h/{0..9223372036854775807}/{1..3}",
            "h/{1..1e9}",
            "h/{1..99999999999999999999}",
            "h/{1..10..-9223372036854775808}",
            "h/{+1..3}",
            "h/{,}",
            "h/{,,}",
            &format!("h/{{{zeros}1..2}}"),
        ] {
            let why = Template::address(text).unwrap_err();
            assert!(why.contains(text), "{why}");
        }
        // The most that can be counted is taken, and its last value is right.
        let most = Template::address("h/{-9223372036854775807..9223372036854775807}").unwrap();
        assert_eq!(most.render(&crate::row::NoFields, most.combinations() - 1).unwrap(), "h/9223372036854775807");
        assert_eq!(all("h/{,v2/}x"), ["h/x", "h/v2/x"]);
        assert_eq!(all("h/{-1..1}"), ["h/-1", "h/0", "h/1"]);
        assert_eq!(all("h/{-01..1}"), ["h/-01", "h/000", "h/001"]);
    }

    #[test]
    fn a_column_is_encoded_for_where_it_stands() {
        let fill = |text: &str, value: &str| Template::address(text).unwrap().render(&One("v", value.into()), 0);
        assert_eq!(fill("http://h/a/{v}", "x/y z?").unwrap(), "http://h/a/x%2Fy%20z%3F");
        assert_eq!(fill("http://h/a?q={v}", "1&2=3").unwrap(), "http://h/a?q=1%262%3D3");
        assert_eq!(fill("http://h/{+v}", "x/y?z").unwrap(), "http://h/x/y?z");
        assert_eq!(fill("{v}", "http://h/?a=b").unwrap(), "http://h/?a=b");
        assert_eq!(fill("http://{v}:80/", "db-1.test").unwrap(), "http://db-1.test:80/");
        for (text, value) in
            [("http://{v}/", "evil/x"), ("http://{v}/", "a@b"), ("http://h/{v}/x", ".."), ("http://h/{v}", "")]
        {
            assert!(fill(text, value).unwrap_err().starts_with("column `v` "), "{text} {value}");
        }
        assert_eq!(fill("http://h/{w}", "x").unwrap_err(), "no column `w`");
    }

    #[test]
    fn a_password_from_a_column_is_encoded_and_one_in_a_template_is_not_shown() {
        let fill =
            |text: &str, value: &str| Template::address(text).unwrap().render(&One("v", value.into()), 0).unwrap();
        for password in ["p/w", "p#w", "p?w", "p@w", "p%w", "p w"] {
            for text in ["http://me:{v}@h/", "http://me:{+v}@h/x@y", "http://me:{v}@h"] {
                let url = unisono_http::Url::parse(&fill(text, password)).unwrap();
                assert_eq!((url.host(), url.user().unwrap().1.reveal()), ("h", password));
            }
        }
        let url = unisono_http::Url::parse(&fill("http://{v}@h/", "bob:p/w")).unwrap();
        assert_eq!((url.user().unwrap().0, url.user().unwrap().1.reveal()), ("bob", "p/w"));
        for text in [
            "http://bob:hun/ter2@h/{",
            "http://bob:hunter2@h/{1..x}",
            "http://bob:hunter2@h/{1..9999999999}{1..9999999999}{1..9}",
        ] {
            let why = Template::address(text).unwrap_err();
            assert!(!why.contains("ter2") && why.contains("***@h/"), "{why}");
        }
        let why = Template::address("http://{v}/").unwrap().render(&One("v", "bob:hun/ter2@h".into()), 0).unwrap_err();
        assert!(!why.contains("ter2"), "{why}");
    }

    proptest! {
        #[test]
        fn a_range_has_each_of_its_values_once(first: i64, last: i64, step in 1..=i64::MAX) {
            let Ok(template) = Template::address(&format!("{{{first}..{last}..{step}}}")) else {
                prop_assert!(step == 1 && last.abs_diff(first) == u64::MAX);
                return Ok(());
            };
            let value = |at| template.render(&crate::row::NoFields, at).unwrap().parse::<i64>().unwrap();
            let end = value(template.combinations() - 1);
            prop_assert_eq!(value(0), first);
            prop_assert!(end.abs_diff(last) < step.unsigned_abs() && (end <= last) == (first <= last) || end == last);
        }

        #[test]
        fn no_value_leads_out_of_its_place(value in ".{1,12}") {
            let address = Template::address("http://h/a/{v}/b").unwrap().render(&One("v", value.clone()), 0);
            if let Ok(address) = address {
                let url = unisono_http::Url::parse(&address).unwrap();
                prop_assert_eq!(url.target().path().split('/').count(), 4);
                prop_assert_eq!(url.host(), "h");
            }
            let file = Template::file_path("out/{v}.json").unwrap().render(&One("v", value), 0);
            if let Ok(file) = file {
                prop_assert_eq!(std::path::Path::new(&file).components().count(), 2);
            }
        }
    }
}
