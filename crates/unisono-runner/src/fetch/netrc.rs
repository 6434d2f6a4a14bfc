//! Credentials from a netrc file, as curl and ftp(1) read it.
//!
//! A file is words, wherever its lines end. A word may be quoted, with `\"`, `\\`, `\n`, `\r` and `\t` in it, and then
//! hold blanks. Entries are taken in their order, `default` among them: the first that has a login and a password
//! counts, or else the last that has one of them; what belongs to different entries is never put together. A macro
//! (`macdef`) goes to the next empty line.
//!
//! A `#` begins a comment where a keyword could stand. Where a value stands it is the value, since passwords begin with
//! one, too (curl since it reads them so; before, such a password was empty).

use std::{collections::HashMap, fmt};

use unisono_core::Secret;

/// User names and passwords by host.
#[derive(Debug, Clone, Default)]
pub struct Netrc {
    entries: Vec<Entry>,
    /// The entries of a host, by their numbers.
    by_host: HashMap<String, Vec<usize>>,
    /// Those for every host.
    for_all: Vec<usize>,
}

/// A user name and password.
pub type Login = (String, Secret);

/// What an entry says, in its order.
#[derive(Debug, Clone, Default)]
struct Entry(Vec<Said>);

#[derive(Debug, Clone)]
enum Said {
    Login(String),
    Password(Secret),
}

/// A file that is no netrc file. What stands in it is not in the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadNetrc {
    line: usize,
}

impl Netrc {
    /// Reads a netrc file. A word that is not understood is passed over, as every reader of these files does.
    ///
    /// # Errors
    /// When a quoted word has no end on its line.
    ///
    /// ```
    /// let text = "machine api.test login me password \"p w\" # mine\ndefault login x";
    /// let netrc = unisono_runner::Netrc::parse(text).unwrap();
    /// assert_eq!(netrc.get("api.test", None).unwrap().1.reveal(), "p w");
    /// assert_eq!(netrc.get("elsewhere", None).unwrap().0, "x");
    /// assert!(unisono_runner::Netrc::parse("machine h login \"me").is_err());
    /// ```
    pub fn parse(text: &str) -> Result<Self, BadNetrc> {
        let mut netrc = Self::default();
        let mut state = State::Keyword;
        for (line, number) in text.trim_start_matches('\u{feff}').lines().zip(1..) {
            if state == State::Macro {
                if line.is_empty() {
                    state = State::Keyword;
                }
                continue;
            }
            let mut words = Words { rest: line };
            while let Some(word) =
                words.next(state == State::Keyword).map_err(|NoClosingQuote| BadNetrc { line: number })?
            {
                state = netrc.take(state, word);
                if state == State::Macro {
                    // Its name is the rest of the line.
                    break;
                }
            }
        }
        Ok(netrc)
    }

    /// The login for this host, that of a certain user when one is named; `None` when there is none.
    pub fn get(&self, host: &str, user: Option<&str>) -> Option<Login> {
        let own = self.by_host.get(host).map_or(&[][..], Vec::as_slice);
        let mut numbers: Vec<usize> = own.iter().chain(&self.for_all).copied().collect();
        numbers.sort_unstable();
        let mut last = None;
        for entry in numbers.iter().map(|number| &self.entries[*number]) {
            match entry.login(user) {
                (Some(login), Some(password)) => return Some((login.to_owned(), password.clone())),
                (None, None) => {}
                part => last = Some(part),
            }
        }
        last.map(|(login, password)| {
            (login.unwrap_or_default().to_owned(), password.cloned().unwrap_or_else(|| Secret::new("")))
        })
    }

    /// Takes a word; returns what the next one is.
    fn take(&mut self, state: State, word: String) -> State {
        let mut say = |said| {
            // Before any entry it is about no host.
            if let Some(entry) = self.entries.last_mut() {
                entry.0.push(said);
            }
        };
        match state {
            State::Login => say(Said::Login(word)),
            State::Password => say(Said::Password(Secret::new(word))),
            State::Machine => {
                self.by_host.entry(word.to_ascii_lowercase()).or_default().push(self.entries.len());
                self.entries.push(Entry::default());
            }
            State::Account | State::Macro => {}
            State::Keyword => match word.to_ascii_lowercase().as_str() {
                "machine" => return State::Machine,
                "default" => {
                    self.for_all.push(self.entries.len());
                    self.entries.push(Entry::default());
                }
                "login" => return State::Login,
                "password" => return State::Password,
                "account" => return State::Account,
                "macdef" => return State::Macro,
                _ => {}
            },
        }
        State::Keyword
    }
}

impl Entry {
    /// Its login and password, as soon as there are both; for a certain user only theirs.
    fn login(&self, user: Option<&str>) -> (Option<&str>, Option<&Secret>) {
        let (mut login, mut password) = (None, None);
        for said in &self.0 {
            match said {
                Said::Login(name) => login = Some(name.as_str()).filter(|name| user.is_none_or(|user| user == *name)),
                // One before its login holds for any user.
                Said::Password(secret) if user.is_none() || login.is_some() => password = Some(secret),
                Said::Password(_) => {}
            }
            if login.is_some() && password.is_some() {
                break;
            }
        }
        (login, password)
    }
}

impl fmt::Display for BadNetrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} has a quoted word without a closing quote (write `\\\"` for a quote within one)", self.line)
    }
}

impl std::error::Error for BadNetrc {}

/// What the next word is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Keyword,
    Machine,
    Login,
    Password,
    Account,
    /// Nothing, up to an empty line.
    Macro,
}

struct NoClosingQuote;

/// The words of a line.
struct Words<'a> {
    rest: &'a str,
}

impl Words<'_> {
    fn next(&mut self, with_comments: bool) -> Result<Option<String>, NoClosingQuote> {
        self.rest = self.rest.trim_ascii_start();
        if self.rest.is_empty() || (with_comments && self.rest.starts_with('#')) {
            self.rest = "";
            return Ok(None);
        }
        if let Some(quoted) = self.rest.strip_prefix('"') {
            return self.unquoted(quoted).map(Some);
        }
        let end = self.rest.find(|c: char| c.is_ascii_whitespace()).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(Some(word.to_owned()))
    }

    fn unquoted(&mut self, quoted: &str) -> Result<String, NoClosingQuote> {
        let mut word = String::new();
        let mut chars = quoted.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    let before = self.rest.len() - quoted.len();
                    self.rest = &self.rest[before + at + 1..];
                    return Ok(word);
                }
                '\\' => match chars.next().ok_or(NoClosingQuote)?.1 {
                    'n' => word.push('\n'),
                    'r' => word.push('\r'),
                    't' => word.push('\t'),
                    other => word.push(other),
                },
                _ => word.push(c),
            }
        }
        Err(NoClosingQuote)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn login(text: &str) -> Option<String> {
        let (name, password) = Netrc::parse(text).unwrap().get("h", None)?;
        Some(format!("{name}:{}", password.reveal()))
    }

    #[test]
    fn passwords_are_never_shown() {
        let netrc = Netrc::parse("machine a login b password hunter2").unwrap();
        assert!(!format!("{netrc:?}").contains("hunter2"));
        assert_eq!(netrc.get("a", None).unwrap().1.reveal(), "hunter2");
        assert!(netrc.get("b", None).is_none());
        let error = Netrc::parse("machine a\nlogin b password \"hunter2").unwrap_err();
        assert!(error.to_string().starts_with("line 2 has a quoted word without a closing quote"), "{error}");
    }

    #[test]
    fn a_hash_begins_a_comment_but_not_where_a_value_stands() {
        for (text, expected) in [
            ("machine h login me password #hash", "me:#hash"),
            ("machine h login #me password\n#hash", "#me:#hash"),
            ("machine h login me password a#b # password c", "me:a#b"),
            ("# machine h login a password b\nmachine h login me password pw", "me:pw"),
            ("machine h # login a password b\nlogin me password pw", "me:pw"),
        ] {
            assert_eq!(login(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_macro_within_an_entry_is_no_part_of_it() {
        assert_eq!(
            login("machine h login me\nmacdef init\npassword bad\nmachine h\n\npassword pw").as_deref(),
            Some("me:pw")
        );
        assert_eq!(login("machine h login me password pw macdef x\r\nlogin bad\r\n\r\n").as_deref(), Some("me:pw"));
        assert_eq!(login("macdef never ends\nmachine h login me"), None);
    }

    #[test]
    fn what_belongs_to_different_entries_is_never_put_together() {
        for (text, expected) in [
            ("machine h login me\nmachine h password pw", ":pw"),
            ("machine h password pw\nmachine h login you password qw", "you:qw"),
            ("default login d\nmachine h password pw", ":pw"),
            ("machine h login me password \"\"\nmachine h login you password pw", "me:"),
            ("machine h\nmachine x login me password pw\ndefault login d", "d:"),
        ] {
            assert_eq!(login(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_user_who_is_named_gets_their_own_password_or_none() {
        let netrc =
            Netrc::parse("machine h login a password 1\nmachine h login b password 2\ndefault login c password 3")
                .unwrap();
        let password = |user| netrc.get("h", Some(user)).map(|(name, password)| format!("{name}{}", password.reveal()));
        assert_eq!(["a", "b", "c", "d"].map(password), [Some("a1".into()), Some("b2".into()), Some("c3".into()), None]);
    }

    proptest! {
        #[test]
        fn any_text_is_a_file_or_an_error(text in "(machine|login|password|macdef|default|account|h|\"|\\\\|#| |\n|.){0,40}") {
            if let Ok(netrc) = Netrc::parse(&text) {
                netrc.get("h", None);
                netrc.get("h", Some("a"));
            }
        }

        #[test]
        fn what_is_quoted_is_read_back(name in ".{1,12}", password in ".{1,12}", account in ".{0,5}") {
            let quote = |word: &str| {
                let escaped: String = word.chars().flat_map(|c| match c {
                    '\n' => vec!['\\', 'n'],
                    '\r' => vec!['\\', 'r'],
                    '"' | '\\' => vec!['\\', c],
                    _ => vec![c],
                }).collect();
                format!("\"{escaped}\"")
            };
            let text = format!("machine x login y password z\nmachine \"H\"\nlogin {} account {}\n password {} # c", quote(&name), quote(&account), quote(&password));
            prop_assert_eq!(login(&text), Some(format!("{name}:{password}")));
        }
    }
}
