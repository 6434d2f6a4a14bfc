//! What the end of an attempt says of the peer, apart from what it means for its item.
//!
//! A POST whose connection was reset is `ambiguous`, which is about the POST; that the host behind it goes away is
//! about every other item that is for the same host. Both are told side by side, and neither follows from the other.

/// News of the peer that an attempt was for: of the one whose key it has, and of no other.
///
/// ```
/// use unisono_core::Peer;
/// assert_eq!(Peer::default(), Peer::Unknown);
/// assert_eq!(Peer::Away.as_str(), "away");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Peer {
    /// It says nothing of the peer.
    #[default]
    Unknown,
    /// It is there, and did what it does.
    Fine,
    /// It cannot be reached now; the next attempt would not reach it either.
    Away,
    /// It is there, and has more to do than it bears.
    Overloaded,
    /// It took what it was given, and nothing came back in all the time that there was. Once, that may be slowness;
    /// when nothing else comes back either, it is as good as away.
    Silent,
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Unknown, Self::Fine, Self::Away, Self::Overloaded, Self::Silent];

    /// Whether it came back with anything, be it a refusal.
    pub const fn is_answer(self) -> bool {
        matches!(self, Self::Fine | Self::Overloaded)
    }

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Fine => "fine",
            Self::Away => "away",
            Self::Overloaded => "overloaded",
            Self::Silent => "silent",
        }
    }
}
