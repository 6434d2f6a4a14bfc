//! Why an item failed, in one word that scripts can match on.

use std::fmt;

/// The reason of a failure. The word is stable: it stands in results files and in Python.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The item itself could not be understood; nothing was sent.
    Input,
    /// The name has no address, or the resolver did not answer.
    Dns,
    /// No connection could be made: refused, unreachable, or nothing answered in time.
    Connect,
    /// The peer's certificate was not accepted, or it did not accept ours.
    Tls,
    /// The proxy refused, or did not speak its protocol.
    Proxy,
    /// The peer broke the protocol.
    Protocol,
    /// The response's header section is larger than the cap.
    HeaderTooLarge,
    /// The connection was closed or reset before an answer.
    Closed,
    /// The body ended before its announced end.
    IncompleteBody,
    /// The body could not be decoded.
    Decode,
    /// The body is larger than its cap.
    TooLarge,
    /// An answer with a status that was not expected.
    Status,
    /// The credentials could not be had, or were refused after a refresh.
    Auth,
    /// The peer asks for a longer wait than allowed.
    RateLimited,
    /// Its host could not be met for as long as it is waited for.
    Away,
    /// It failed, and the repeats that all items of its host have together were used up.
    RetryBudget,
    /// A redirect that leads nowhere, round in circles, or down to plain text.
    Redirect,
    /// An attempt took longer than its timeout.
    Timeout,
    /// The item took longer than its deadline.
    Deadline,
    /// The selection failed on this answer.
    Select,
    /// It cannot be told where the next page is, or it is one that was there before.
    Pages,
    /// The result could not be kept: a file could not be written.
    Save,
    /// The file is not there.
    Missing,
    /// The file cannot be read, or is none.
    Unreadable,
    /// The file changed while it was read.
    Changed,
    /// The file is not what its manifest says.
    Mismatch,
    /// The file is not in the manifest.
    Extra,
    /// Stopped on request.
    Cancelled,
    /// Started in an earlier run that did not live to write its outcome.
    Interrupted,
    /// A command ended with another exit code than was expected.
    Exit,
    /// A command was ended by a signal.
    Signal,
    /// A command could not be started: not found, not executable, too long.
    Spawn,
    /// The function that the user gave raised.
    Raised,
    /// The process that the function ran in ended.
    Died,
    /// A fault of unisono itself.
    Internal,
}

impl ErrorKind {
    /// All of them.
    pub const ALL: [Self; 35] = [
        Self::Input,
        Self::Dns,
        Self::Connect,
        Self::Tls,
        Self::Proxy,
        Self::Protocol,
        Self::HeaderTooLarge,
        Self::Closed,
        Self::IncompleteBody,
        Self::Decode,
        Self::TooLarge,
        Self::Status,
        Self::Auth,
        Self::RateLimited,
        Self::Away,
        Self::RetryBudget,
        Self::Redirect,
        Self::Timeout,
        Self::Deadline,
        Self::Select,
        Self::Pages,
        Self::Save,
        Self::Missing,
        Self::Unreadable,
        Self::Changed,
        Self::Mismatch,
        Self::Extra,
        Self::Cancelled,
        Self::Interrupted,
        Self::Exit,
        Self::Signal,
        Self::Spawn,
        Self::Raised,
        Self::Died,
        Self::Internal,
    ];

    /// The one that this word stands for.
    ///
    /// ```
    /// use unisono_core::ErrorKind;
    /// assert_eq!(ErrorKind::named("closed"), Some(ErrorKind::Closed));
    /// assert_eq!(ErrorKind::named("tired"), None);
    /// ```
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Whether it says nothing of the item, since the absence of a host or a limit of ours decided: then a later run
    /// tries again by itself.
    ///
    /// ```
    /// use unisono_core::ErrorKind;
    /// assert!(ErrorKind::Away.is_passing() && !ErrorKind::Status.is_passing());
    /// ```
    pub const fn is_passing(self) -> bool {
        matches!(self, Self::Connect | Self::Away | Self::RateLimited | Self::RetryBudget)
    }

    /// The word for it in results files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Dns => "dns",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Proxy => "proxy",
            Self::Protocol => "protocol",
            Self::HeaderTooLarge => "header_too_large",
            Self::Closed => "closed",
            Self::IncompleteBody => "incomplete_body",
            Self::Decode => "decode",
            Self::TooLarge => "too_large",
            Self::Status => "status",
            Self::Auth => "auth",
            Self::RateLimited => "rate_limited",
            Self::Away => "away",
            Self::RetryBudget => "retry_budget",
            Self::Redirect => "redirect",
            Self::Timeout => "timeout",
            Self::Deadline => "deadline",
            Self::Select => "select",
            Self::Pages => "pages",
            Self::Save => "save",
            Self::Missing => "missing",
            Self::Unreadable => "unreadable",
            Self::Changed => "changed",
            Self::Mismatch => "mismatch",
            Self::Extra => "extra",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
            Self::Exit => "exit",
            Self::Signal => "signal",
            Self::Spawn => "spawn",
            Self::Raised => "raised",
            Self::Died => "died",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
