//! What the end of an exchange says of the host, as one pure function over what was met; docs/http.md has it as a
//! table.
//!
//! 1. News is of the hop whose authority is the key of the row. A redirect to another origin that fails says nothing of
//!    the key; that the key's own host redirected says that it is there.
//! 2. Only what would happen to the next request as well is news: that one connection of many was closed is none.
//! 3. What is wrong on this side (no descriptor, no port, no right) is no news of the host.
//!
//! What becomes of the request itself is decided elsewhere (`verdict.rs`), from other facts.

use http::{HeaderMap, StatusCode};
use unisono_core::Peer;
use unisono_net::DialFailure;

use crate::throttle;

/// What an exchange met, as far as it may say something of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    /// There was no connection.
    Dial(DialFailure),
    /// A connection that had carried nothing before ended without a byte of an answer.
    NewClosed,
    /// One that had carried something before did.
    UsedClosed,
    /// One connection after the other says that it takes nothing more, before it took anything.
    Draining,
    /// Streams are refused over and over.
    StreamsRefused,
    /// HTTP/2's ENHANCE_YOUR_CALM.
    Calm,
    /// Nothing came back in time for what was sent.
    Silent,
    /// The head of an answer came in time, and not all of its body.
    Unfinished,
    /// The head of an answer; `comes_back` says that it names a time to come back at.
    Answer { status: StatusCode, comes_back: bool },
    /// Anything else: a broken protocol, an answer that breaks off, a fault of this side.
    Other,
}

/// The news that this sign is.
pub(crate) fn news(sign: Sign) -> Peer {
    match sign {
        Sign::Dial(failure) => failure.peer(),
        Sign::NewClosed | Sign::Draining => Peer::Away,
        Sign::StreamsRefused | Sign::Calm | Sign::Unfinished => Peer::Overloaded,
        Sign::Silent => Peer::Silent,
        Sign::UsedClosed | Sign::Other => Peer::Unknown,
        Sign::Answer { status, comes_back } => match status.as_u16() {
            // A gateway's own words for: there is no server behind it.
            521..=523 => Peer::Away,
            // A limit, a queue that is full, or a gateway whose server is slow, or away for one address of many. A time
            // to come back at says more, and pauses the host.
            503 if comes_back => Peer::Fine,
            502..=504 | 520 | 524 | 529 => Peer::Overloaded,
            _ => Peer::Fine,
        },
    }
}

/// The news that the head of an answer is.
pub(crate) fn of_head(status: StatusCode, headers: &HeaderMap) -> Peer {
    news(Sign::Answer { status, comes_back: throttle::comes_back(headers) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first column of the table, for what is no answer.
    const ROWS: [(&str, Sign); 17] = [
        ("the connection is refused, or a Unix socket is not there", Sign::Dial(DialFailure::Refused)),
        ("host or network cannot be reached", Sign::Dial(DialFailure::Unreachable)),
        (
            "there is no connection within `--connect-timeout`, or within `--timeout`",
            Sign::Dial(DialFailure::NoConnection),
        ),
        ("the name cannot be resolved for now (no answer, or SERVFAIL)", Sign::Dial(DialFailure::NameForNow)),
        ("the name does not exist", Sign::Dial(DialFailure::NoSuchName)),
        ("the connection ends in the middle of the TLS handshake", Sign::Dial(DialFailure::HandshakeCut)),
        ("a certificate is not accepted, by this side or the other", Sign::Dial(DialFailure::HandshakeRefused)),
        (
            "a proxy cannot reach the host (502, 503 or 504 for CONNECT; 1, 3, 4, 5 or 6 of SOCKS), or hangs up",
            Sign::Dial(DialFailure::ProxyCannotReach),
        ),
        ("a proxy refuses (a password, a rule)", Sign::Dial(DialFailure::ProxyRefuses)),
        ("a new connection ends without a byte of an answer", Sign::NewClosed),
        ("a connection that was used before ends without a byte of an answer", Sign::UsedClosed),
        ("GOAWAY from one connection after the other, none of which took a request", Sign::Draining),
        ("REFUSED_STREAM over and over", Sign::StreamsRefused),
        ("ENHANCE_YOUR_CALM", Sign::Calm),
        ("no answer within `--timeout`", Sign::Silent),
        ("no whole answer within `--timeout`, though one began", Sign::Unfinished),
        ("anything else: a broken protocol, a body that breaks off, a fault of this side", Sign::Other),
    ];

    fn documented() -> Vec<(String, String)> {
        let page = include_str!("../../../docs/http.md");
        let (_, table) = page.split_once("<!-- table: news -->").expect("the page has the table");
        let (table, _) = table.split_once("<!-- end -->").expect("the table has an end");
        let rows = table.lines().filter(|line| line.starts_with("| ")).skip(1).map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            (cells[1].to_owned(), cells[2].trim_matches('`').to_owned())
        });
        rows.collect()
    }

    #[test]
    fn the_documented_table_is_what_the_rule_says_of_every_sign() {
        let rows = documented();
        for (words, sign) in ROWS {
            let said: Vec<&str> = rows.iter().filter(|row| row.0 == words).map(|row| row.1.as_str()).collect();
            assert_eq!(said, [news(sign).as_str()], "{words}");
        }
        let answers = rows.iter().filter(|row| row.0.starts_with("an answer")).count();
        assert_eq!(rows.len(), ROWS.len() + answers, "a row of the table is none of the rule's");
    }

    #[test]
    fn the_documented_table_is_what_the_rule_says_of_every_status_there_is() {
        let rows = documented();
        let is_in = |row: &str, code: u16| {
            row.split([' ', ',']).filter(|word| word.starts_with(|first: char| first.is_ascii_digit())).any(|word| {
                let (first, last) = word.split_once('-').unwrap_or((word, word));
                (first.parse().unwrap()..=last.parse().unwrap()).contains(&code)
            })
        };
        for (code, comes_back) in (200..=999).flat_map(|code| [(code, false), (code, true)]) {
            let mut said = rows.iter().filter(|row| row.0.starts_with("an answer with") && is_in(&row.0, code));
            let said = said.find(|row| !row.0.contains("without `Retry-After`") || !comes_back);
            let said = said.map_or_else(
                || rows.iter().find(|row| row.0 == "an answer of any other kind").unwrap().1.as_str(),
                |row| row.1.as_str(),
            );
            let sign = Sign::Answer { status: StatusCode::from_u16(code).unwrap(), comes_back };
            assert_eq!(said, news(sign).as_str(), "{code}, Retry-After: {comes_back}");
        }
    }
}
