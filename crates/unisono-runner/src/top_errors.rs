//! The most frequent errors of a batch, each with one row as an example, in bounded memory.

use std::collections::HashMap;

use unisono_core::ErrorKind;

/// Counts errors by kind and message.
#[derive(Debug, Default, Clone)]
pub struct TopErrors {
    seen: HashMap<(ErrorKind, Box<str>), Seen>,
    /// Those whose message came after [`MOST_MESSAGES`] others.
    unlisted: u64,
}

/// One error and how often it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorCount {
    /// The kind of the error.
    pub kind: ErrorKind,
    /// Its message, as the first row had it.
    pub message: String,
    /// How many rows ended with it.
    pub count: u64,
    /// The id of the first of these rows.
    pub example: String,
}

#[derive(Debug, Clone)]
struct Seen {
    count: u64,
    example: Box<str>,
}

impl TopErrors {
    /// Counts one error of the row with this id.
    pub fn record(&mut self, kind: ErrorKind, message: &str, id: &str) {
        if let Some(seen) = self.seen.get_mut(&(kind, message.into())) {
            seen.count += 1;
        } else if self.seen.len() < MOST_MESSAGES {
            self.seen.insert((kind, message.into()), Seen { count: 1, example: id.into() });
        } else {
            self.unlisted += 1;
        }
    }

    /// The most frequent ones first; those equally frequent by their message.
    pub fn most_frequent(&self, most: usize) -> Vec<ErrorCount> {
        let mut all: Vec<_> = self.seen.iter().collect();
        all.sort_by(|(a_key, a), (b_key, b)| b.count.cmp(&a.count).then_with(|| a_key.cmp(b_key)));
        all.into_iter()
            .take(most)
            .map(|((kind, message), seen)| ErrorCount {
                kind: *kind,
                message: message.to_string(),
                count: seen.count,
                example: seen.example.to_string(),
            })
            .collect()
    }

    /// How many errors are not told apart, because there were too many different messages.
    pub fn unlisted(&self) -> u64 {
        self.unlisted
    }
}

/// Messages that name a row or a time are all different; a few hundred suffice to see what goes wrong.
const MOST_MESSAGES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_come_first_with_their_first_row() {
        let mut errors = TopErrors::default();
        errors.record(ErrorKind::Dns, "no such name", "a");
        for id in ["b", "c"] {
            errors.record(ErrorKind::Status, "HTTP 500", id);
        }
        let top = errors.most_frequent(5);
        assert_eq!((top[0].count, top[0].example.as_str(), top[0].kind), (2, "b", ErrorKind::Status));
        assert_eq!((top[1].count, top[1].example.as_str()), (1, "a"));
        assert_eq!(errors.most_frequent(1).len(), 1);
    }

    #[test]
    fn ten_thousand_different_messages_do_not_grow_it_without_bound() {
        let mut errors = TopErrors::default();
        for n in 0..10_000 {
            errors.record(ErrorKind::Status, &n.to_string(), "x");
        }
        assert_eq!(errors.most_frequent(usize::MAX).len(), MOST_MESSAGES);
        assert_eq!(errors.unlisted(), 10_000 - MOST_MESSAGES as u64);
    }
}
