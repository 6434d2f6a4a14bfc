//! In which way an attempt may be repeated.
//!
//! What may have taken effect runs again by itself only when the earlier attempt could be repeated *and* the one that
//! would start now can be in the same way: by its nature, or since it carries the same key. An earlier attempt with a
//! key is no leave for one without it, nor for one with another.

use xxhash_rust::xxh3::xxh3_64;

/// Whether, and by what, doing something twice does no more than doing it once.
///
/// ```
/// use unisono_journal::Repeat;
/// assert!(Repeat::by_key("k").agrees_with(Repeat::by_key("k")));
/// assert!(!Repeat::by_key("k").agrees_with(Repeat::by_key("another")));
/// assert!(!Repeat::by_key("k").agrees_with(Repeat::ByNature));
/// assert!(!Repeat::Never.agrees_with(Repeat::Never));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// It does.
    Never,
    /// Whatever it carries: an idempotent method, a command or a function of which the user has said so.
    ByNature,
    /// Whoever is asked knows it again by this key, of which there are 32 bits of a hash: it is only ever held against
    /// one other.
    ByKey(u32),
}

impl Repeat {
    /// By this key.
    pub fn by_key(key: &str) -> Self {
        Self::ByKey(xxh3_64(key.as_bytes()) as u32)
    }

    /// Whether it may be repeated at all.
    pub fn is_allowed(self) -> bool {
        self != Self::Never
    }

    /// In which way both of two attempts may be repeated.
    pub fn join(self, other: Self) -> Self {
        if self == other { self } else { Self::Never }
    }

    /// Whether an attempt of this kind may follow one of the other that may have taken effect.
    pub fn agrees_with(self, other: Self) -> bool {
        self.is_allowed() && self == other
    }
}
