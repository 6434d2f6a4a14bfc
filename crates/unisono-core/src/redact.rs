//! Text that may hold an address with a password in it, made fit to be shown.
//!
//! An address that was read is a `Url`, whose user information is kept apart. This is for everything else: what could
//! not be read as an address, and so may be a password in any place. The rule is to hide whatever *might* be user
//! information rather than what certainly is: a hidden path costs a look into the input, a shown password costs the
//! password.
//!
//! It leaves out secrets that stand elsewhere, such as in the parameters of a query: it cannot tell which these are.

use std::borrow::Cow;

/// The text with `***` in place of all that might be a user name or password: from the scheme to the last `@`, or from
/// the first colon of a host whose port is no number. Long text is cut.
///
/// ```
/// use unisono_core::redacted;
/// assert_eq!(redacted("http://bob:p/w@host/x"), "http://***@host/x");
/// assert_eq!(redacted("http:/bob:pw@host:99999"), "http:/***@host:99999");
/// assert_eq!(redacted("bob:hunter2"), "bob:***");
/// assert_eq!(redacted("example.com:8080/items"), "example.com:8080/items");
/// ```
pub fn redacted(text: &str) -> Cow<'_, str> {
    let start = scheme_length(text);
    let (scheme, rest) = text.split_at(start);
    let shown = match last_at(rest) {
        Some(end) => Cow::Owned(format!("{scheme}***@{}", &rest[end..])),
        None => match password_start(rest) {
            Some(at) => Cow::Owned(format!("{scheme}{}***", &rest[..at])),
            None => Cow::Borrowed(text),
        },
    };
    shortened(shown)
}

/// The length of what begins an address and is no secret: a scheme that an address may have here, and its slashes.
fn scheme_length(text: &str) -> usize {
    let blank = text.len() - text.trim_start().len();
    let Some((name, rest)) = text[blank..].split_once(':') else { return slashes(text) };
    // Any other word before a colon may be a user name, and that one a token.
    if !SCHEMES.iter().any(|known| name.eq_ignore_ascii_case(known)) {
        return slashes(text);
    }
    // `http:bob` may be a user with this name, but never a password.
    blank + name.len() + 1 + slashes(rest)
}

fn slashes(text: &str) -> usize {
    text.len() - text.trim_start_matches(['/', '\\']).len()
}

/// Where what follows the last `@` begins; one that is written `%40` or in full width counts.
fn last_at(text: &str) -> Option<usize> {
    let lower = text.rfind('@').map(|at| at + 1);
    let wide = text.rfind('\u{ff20}').map(|at| at + '\u{ff20}'.len_utf8());
    let coded = text.rfind("%40").map(|at| at + 3);
    lower.max(wide).max(coded)
}

/// Where a password might begin in text without an `@`: behind a colon of the host that no port follows.
fn password_start(rest: &str) -> Option<usize> {
    let authority = &rest[..rest.find(['/', '\\', '?', '#']).unwrap_or(rest.len())];
    if authority.starts_with('[') {
        let is_address = authority.bytes().all(|byte| byte.is_ascii_hexdigit() || b"[]:.%".contains(&byte));
        return (!is_address).then_some(1);
    }
    let colon = authority.find(':')?;
    let port = &authority[colon + 1..];
    let is_port =
        !port.is_empty() && port.len() <= LONGEST_PORT_DIGITS && port.bytes().all(|byte| byte.is_ascii_digit());
    // A template's place for a port is no secret either.
    let is_place = port.starts_with('{') && port.ends_with('}');
    // A scheme that is not ours; a password cannot be behind it, since there is no `@`.
    let is_scheme = port.is_empty() && rest[colon + 1..].starts_with("//");
    (!is_port && !is_place && !is_scheme).then_some(colon + 1)
}

fn shortened(text: Cow<'_, str>) -> Cow<'_, str> {
    match text.char_indices().nth(LONGEST_CHARS) {
        None => text,
        Some((end, _)) => Cow::Owned(format!("{}...", &text[..end])),
    }
}

/// What an address may begin with anywhere in unisono.
const SCHEMES: [&str; 10] = ["http", "https", "socks", "socks4", "socks5", "socks5h", "dask", "ray", "tcp", "ftp"];
/// As many as 65535 has, and one for a typing mistake.
const LONGEST_PORT_DIGITS: usize = 6;
/// A peer may send a megabyte where an address should be.
const LONGEST_CHARS: usize = 400;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_may_be_a_password_is_never_shown() {
        for password in
            ["p/w", "p#w", "p?w", "p@w", "p:w", "p w", "p%40w", "/pw", "#pw", "p\\w", "p[w", "://pw", "1/w", "\u{e9}w"]
        {
            for address in [
                format!("http://bob:{password}@host"),
                format!("http:/bob:{password}@host/x"),
                format!("http:bob:{password}@host"),
                format!("//bob:{password}@host"),
                format!("bob:{password}@host:3128"),
                format!("socks5h://bob:{password}@host"),
                format!("gopher://bob:{password}@host"),
                format!(" HTTP://bob:{password}@host"),
            ] {
                let shown = redacted(&address);
                assert!(!shown.contains(password) && !shown.contains("w@"), "{address} {shown}");
                assert!(shown.contains("***@host"), "{address} {shown}");
            }
        }
        // Without an `@` it may be the host that was forgotten.
        for address in ["http://bob:hunter2/x", "bob:hunter2", "http://bob:hunter2", "http://[x:hunter2"] {
            assert!(!redacted(address).contains("hunter2"), "{}", redacted(address));
        }
    }

    #[test]
    fn what_cannot_be_a_password_is_shown() {
        for text in [
            "example.com/a:b",
            "http://host:99999/x",
            "localhost:8080",
            "http://[::1",
            "http://{host}:{port}/x",
            "gopher://x/y",
            "",
            "x",
            "http://",
            "dask://scheduler",
        ] {
            assert_eq!(redacted(text), text);
        }
        assert_eq!(redacted(&"x".repeat(1000)).len(), LONGEST_CHARS + 3);
    }

    proptest! {
        #[test]
        fn user_information_of_any_shape_is_hidden(
            before in "(http|https|socks5|x|)(:|://|:/|)", user in "[a-z]{0,5}", password in "[ -?A-~]{6,12}", after in "[a-z.]{1,8}(:[0-9]{1,5})?(/[a-z]{0,5})?",
        ) {
            let shown = redacted(&format!("{before}{user}:{password}@{after}")).into_owned();
            prop_assert!(!shown.contains(&password), "{}", shown);
            prop_assert!(shown.ends_with(&after));
        }

        #[test]
        fn any_text_can_be_shown(text in ".{0,40}") {
            redacted(&text);
        }
    }
}
