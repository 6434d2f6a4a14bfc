//! What a run that goes on does with a row of its input, and with the lines that it finds.

use crate::{Repeat, RowKey};

/// What to do with a row of the input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// Run it.
    Run,
    /// It has its outcome.
    Kept,
    /// Its pages up to this one are there; go on with this address.
    Continue {
        /// The last page that is there.
        page: u32,
        /// The address of the one after it.
        next: String,
        /// Up to which page others behind it may have been started before, as in [`Record`](crate::Record).
        begun_to: u32,
    },
    /// It was started by a run that did not live to write its outcome: it is `ambiguous`, unless it may be repeated in
    /// the way in which it could be then.
    Interrupted {
        /// What was started: its row, and its page where the row has pages.
        key: RowKey,
        /// In which way that could be repeated.
        repeat: Repeat,
        /// Where that may have stood elsewhere: what [`Journal::found`](crate::Journal::found) is to be told.
        found: Option<u32>,
        /// Pages behind that one which were started as well: the lines of those before them are lost.
        later: Vec<Later>,
        /// What to do with it if it is.
        otherwise: Box<Disposition>,
    },
    /// It asks for something else than what was started in its place, or under its id, and could be repeated: another
    /// row by now, unless it may be repeated in another way or not at all.
    Displaced {
        /// In which way that could be repeated.
        repeat: Repeat,
        /// What to do with it if so can this.
        otherwise: Box<Disposition>,
    },
    /// Whether it was started is not known, since notes were lost: what bears being done twice does this, and what has
    /// a line where the user asked for what is ambiguous; the rest is `ambiguous`. Nothing that is done makes it
    /// certain that nothing was done before.
    Unsure {
        /// What to do with it if it does.
        otherwise: Box<Disposition>,
        /// Its line stays then: it says that the row has ended.
        has_ended: bool,
    },
}

/// A page that was started behind another one that is to be asked for again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Later {
    /// Its number.
    pub page: u32,
    /// In which way it could be repeated.
    pub repeat: Repeat,
    /// As of the first of them.
    pub found: Option<u32>,
}

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It stays.
    Stays,
    /// It stays until its row, which runs again, has another one.
    RunsAgain,
}

/// What to do with a row that nothing is known of.
pub(crate) fn fresh(is_unsure: bool) -> Disposition {
    fresh_again(is_unsure, false)
}

/// The same of one with a line; `has_ended` as in [`Disposition::Unsure`].
pub(crate) fn fresh_again(is_unsure: bool, has_ended: bool) -> Disposition {
    if is_unsure { unsure(Disposition::Run, has_ended) } else { Disposition::Run }
}

pub(crate) fn unsure(otherwise: Disposition, has_ended: bool) -> Disposition {
    Disposition::Unsure { otherwise: Box::new(otherwise), has_ended }
}

pub(crate) fn interrupted(
    key: RowKey,
    repeat: Repeat,
    found: Option<u32>,
    later: Vec<Later>,
    otherwise: Disposition,
) -> Disposition {
    Disposition::Interrupted { key, repeat, found, later, otherwise: Box::new(otherwise) }
}
