//! `--colsep`: what parts an item into columns, as with GNU parallel: a regular expression, and blanks around a column
//! do not count. Other than there, one character is that character (`|`, `.`), and a column that is missing is an error
//! of its row.

use regex_automata::{meta::Regex, util::syntax};

/// Parts items into columns.
#[derive(Debug, Clone)]
pub struct Separator(Regex);

impl Separator {
    /// A separator: a regular expression, or one character.
    ///
    /// # Errors
    /// When it is no regular expression, or parts what has nothing between it.
    pub fn new(text: &str) -> Result<Self, String> {
        let is_one = text.chars().count() == 1;
        let pattern =
            if is_one { format!("\\x{{{:x}}}", text.chars().next().map_or(0, u32::from)) } else { text.to_owned() };
        let unicode = is_one && !text.is_ascii();
        let regex = Regex::builder().syntax(syntax::Config::new().unicode(unicode).utf8(false)).build(&pattern);
        let regex = regex.map_err(|_| format!("`{text}` is no regular expression"))?;
        if regex.is_match("") {
            return Err(format!("`{text}` matches nothing at all, so it cannot part columns"));
        }
        Ok(Self(regex))
    }

    /// The columns of a value; at least one.
    pub fn split(&self, value: &[u8]) -> Vec<Vec<u8>> {
        let mut columns = Vec::new();
        let mut from = 0;
        for found in self.0.find_iter(value) {
            columns.push(trimmed(&value[from..found.start()]).to_vec());
            from = found.end();
        }
        columns.push(trimmed(&value[from..]).to_vec());
        columns
    }
}

fn trimmed(column: &[u8]) -> &[u8] {
    column.trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_parted_by_a_character_or_a_regular_expression() {
        for (separator, value, columns) in [
            (",", "a, b ,,c", vec!["a", "b", "", "c"]),
            (" ", "a  b", vec!["a", "", "b"]),
            ("|", "a|b", vec!["a", "b"]),
            (".", "a.b", vec!["a", "b"]),
            ("·", "a·b", vec!["a", "b"]),
            ("\\t", "a b\tc", vec!["a b", "c"]),
            (" *[;,] *", "a ; b,c", vec!["a", "b", "c"]),
            ("::", "a::b:c", vec!["a", "b:c"]),
            (",", "", vec![""]),
        ] {
            let split = Separator::new(separator).unwrap().split(value.as_bytes());
            let split: Vec<_> = split.iter().map(|column| std::str::from_utf8(column).unwrap()).collect();
            assert_eq!(split, columns, "{separator:?} {value:?}");
        }
        assert_eq!(Separator::new(",").unwrap().split(b"\xff,\xfe"), [b"\xff", b"\xfe"]);
    }

    #[test]
    fn a_separator_that_parts_nothing_is_refused() {
        for text in ["(a", "", ",*", "a|"] {
            assert!(Separator::new(text).is_err(), "{text:?}");
        }
    }
}
