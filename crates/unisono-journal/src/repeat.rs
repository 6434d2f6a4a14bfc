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
    /// The peer knows it again by a key.
    ByKey {
        /// 32 bits of the key's hash: it is only ever held against one other.
        hash: u32,
        /// What the key was made of beside what is asked for, where that is no id: which it is of those that ask for
        /// the same.
        twin: u32,
    },
}

impl Repeat {
    /// By this key, where it needs not be made again.
    pub fn by_key(key: &str) -> Self {
        Self::by_key_of_twin(key, 0)
    }

    /// By this key, which was made for this one of those that ask for the same.
    pub fn by_key_of_twin(key: &str, twin: u32) -> Self {
        Self::ByKey { hash: xxh3_64(key.as_bytes()) as u32, twin }
    }

    /// Which of those that ask for the same the key was made for; 0 as well where that is not known.
    pub fn twin(self) -> u32 {
        if let Self::ByKey { twin, .. } = self { twin } else { 0 }
    }

    /// Whether it may be repeated at all.
    pub fn is_allowed(self) -> bool {
        self != Self::Never
    }

    /// In which way both of two attempts may be repeated.
    pub fn join(self, other: Self) -> Self {
        if self.agrees_with(other) { self } else { Self::Never }
    }

    /// Whether an attempt of this kind may follow one of the other that may have taken effect.
    pub fn agrees_with(self, other: Self) -> bool {
        match (self, other) {
            (Self::ByNature, Self::ByNature) => true,
            // The same key may have been kept by a line, which does not say for which twin it was made.
            (Self::ByKey { hash, .. }, Self::ByKey { hash: other, .. }) => hash == other,
            _ => false,
        }
    }
}
