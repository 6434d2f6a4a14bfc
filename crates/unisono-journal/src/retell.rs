//! A line told anew: its row may have been done since, and the line says that it was not.
//!
//! A row that runs again keeps its line until it has another one. Where a run starts it and is killed, a note says so;
//! and where the next run comes to its end before the turn of that row, the line is all that a reader sees. So it is
//! written again, with what the note says: its outcome and its effect, and how it may be repeated. What it says beside
//! stays.

use std::collections::HashMap;

use serde::de::IgnoredAny;
use unisono_core::{Effect, ErrorKind, OutcomeKind};

use crate::{
    RowKey,
    line::{ANY_PAGE, Mark, Next, Record, push_head, scan_start, unescape},
    members::{Fields, Members},
    repeat::Repeat,
    rerun::RerunMode,
};

/// What is to be told anew, by what it is the line of.
pub(crate) type Retold = HashMap<RowKey, Since>;

/// What may have been done of a row since its line was written, which says that nothing was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    /// A later run had started it, and it could be repeated in this way.
    Started(Repeat),
    /// A later run may have started it, and its notes are lost. It may be repeated by its nature, or not at all.
    Unsure { is_repeatable: bool },
}

impl Since {
    fn repeat(self) -> Repeat {
        match self {
            Self::Started(repeat) => repeat,
            Self::Unsure { is_repeatable: true } => Repeat::ByNature,
            Self::Unsure { is_repeatable: false } => Repeat::Never,
        }
    }

    /// How a row has ended by what is known now.
    pub(crate) fn outcome(self, outcome: OutcomeKind) -> OutcomeKind {
        match self {
            // It is not decided, and runs again.
            Self::Started(repeat) => Effect::Maybe.outcome(OutcomeKind::Cancelled, repeat.is_allowed()),
            Self::Unsure { is_repeatable } => Effect::Maybe.outcome(outcome, is_repeatable),
        }
    }

    /// What it takes for it to run again.
    pub(crate) fn again(self, outcome: OutcomeKind, is_passing: bool) -> Option<RerunMode> {
        let is_passing = is_passing && !self.replaces_error();
        RerunMode::of(self.outcome(outcome), Effect::Maybe, self.repeat().is_allowed(), is_passing)
    }

    /// Up to which page behind this one others may have been started, by what is known now.
    fn begun_to(self, key: RowKey, begun_to: u32) -> u32 {
        match self {
            Self::Unsure { .. } if key.page > 0 => ANY_PAGE,
            Self::Unsure { .. } | Self::Started(_) => begun_to,
        }
    }

    fn replaces_error(self) -> bool {
        self != Self::Unsure { is_repeatable: true }
    }

    /// A line that says so, without its line feed; what it says beside stays. The line must be whole.
    pub(crate) fn retell(self, line: &[u8]) -> Option<Vec<u8>> {
        let (head, rest) = scan_start(line)?;
        let (id, next) = (unescape(head.id)?, head.next.flatten().and_then(unescape));
        let record = Record {
            key: head.key,
            id: &id,
            fingerprint: head.fingerprint,
            outcome: self.outcome(head.outcome),
            effect: head.effect.join(Effect::Maybe),
            repeatable: self.repeat().is_allowed(),
            idempotency_key: None,
            next: match (head.next, &next) {
                (None, _) => Next::Unknown,
                (Some(None), _) => Next::Last,
                (Some(Some(_)), next) => Next::Page(next.as_deref()?),
            },
            begun_to: self.begun_to(head.key, head.begun_to),
            fields: &Fields::default(),
            body: &Fields::default(),
        };
        let key_hash = if let Repeat::ByKey { hash, .. } = self.repeat() { Some(hash) } else { None };
        let mut told = Mark::of(line).map_or_else(|| b"{".to_vec(), Mark::beginning);
        let mut members = Members::new(&mut told);
        push_head(&record, key_hash, &mut members);
        let rest = if self.replaces_error() { self.replace_error(rest, &mut members)? } else { rest };
        if !rest.starts_with(b"}") {
            told.push(b',');
        }
        told.extend_from_slice(rest);
        Some(told)
    }

    /// Writes why the row has not ended well in the place of the error with which these members begin; returns what
    /// comes after that.
    fn replace_error<'a>(self, rest: &'a [u8], members: &mut Members<'_>) -> Option<&'a [u8]> {
        let is_cancelled = matches!(self, Self::Started(repeat) if repeat.is_allowed());
        let (kind, message) = match self {
            Self::Started(_) if is_cancelled => (ErrorKind::Cancelled, STARTED_AND_STOPPED),
            Self::Started(_) => (ErrorKind::Interrupted, STARTED),
            Self::Unsure { .. } => (ErrorKind::Interrupted, UNSURE),
        };
        members.object("error", |error| {
            error.display("kind", kind);
            error.text("message", message);
        });
        let Some(error) = rest.strip_prefix(b"\"error\":") else { return Some(rest) };
        let mut values = serde_json::Deserializer::from_slice(error).into_iter::<IgnoredAny>();
        values.next()?.ok()?;
        let after = &error[values.byte_offset()..];
        Some(after.strip_prefix(b",").unwrap_or(after))
    }
}

const STARTED: &str = "an earlier run had started it and did not live to see its end";
const STARTED_AND_STOPPED: &str =
    "an earlier run had started it and did not live to see its end, and later ones were stopped before its turn";
const UNSURE: &str = "an earlier run may have started it: its notes of what it had started are lost";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;
    use crate::line::scan;

    proptest! {
        #[test]
        fn a_line_told_anew_says_what_may_have_been_done_and_beside_that_what_it_said(
            page in 0u32..3, id in any::<String>(), next in any::<String>(), kind in 2usize..6, message in any::<Option<String>>(),
            repeatable: bool, run in any::<Option<u64>>(), since in 0usize..5, hash: u32, has_more: bool,
        ) {
            let since = [
                Since::Started(Repeat::Never), Since::Started(Repeat::ByNature),
                Since::Started(Repeat::ByKey { hash, twin: 7 }),
                Since::Unsure { is_repeatable: true }, Since::Unsure { is_repeatable: false },
            ][since];
            let (mut fields, mut body) = (Fields::default(), Fields::default());
            if let Some(message) = &message {
                fields.members().object("error", |error| {
                    error.text("kind", "connect");
                    error.text("message", message);
                    error.list("hops", |hops| hops.text(&id));
                });
            }
            if has_more {
                fields.members().text("url", &id);
                body.members().object("body", |body| body.text("error", "\"}"));
            }
            let record = Record {
                key: RowKey { row: 3, page }, id: &id, fingerprint: 7, outcome: OutcomeKind::ALL[kind], effect: Effect::None, repeatable,
                idempotency_key: None, next: Next::Page(&next), begun_to: page, fields: &fields, body: &body,
            };
            let mut line = run.map(|run| Mark { run, is_open: true, version: 2 }.beginning()).unwrap_or_default();
            crate::line::encode(&record, run.is_some(), &mut line);
            line.pop();
            prop_assume!(scan(&line).is_some());
            let told = since.retell(&line).unwrap();
            let (had, head) = (scan(&line).unwrap(), scan(&told).unwrap());
            prop_assert_eq!(Mark::of(&told), Mark::of(&line));
            prop_assert_eq!((head.key, head.id, head.fingerprint), (had.key, had.id, had.fingerprint));
            prop_assert_eq!((head.next, head.begun_to), (had.next, since.begun_to(had.key, had.begun_to)));
            prop_assert_eq!((head.effect, head.outcome), (Effect::Maybe, since.outcome(had.outcome)));
            prop_assert!(head.repeat() == since.repeat() || head.repeat().agrees_with(since.repeat()));
            prop_assert_eq!(RerunMode::of_line(&head), since.again(had.outcome, had.is_passing));
            let [mut was, mut now]: [Value; 2] = [&line, &told].map(|line| serde_json::from_slice(line).unwrap());
            for changed in ["outcome", "effect", "repeatable", "key_hash", "begun_to"] {
                for line in [&mut was, &mut now] {
                    line.as_object_mut().unwrap().remove(changed);
                }
            }
            if since.replaces_error() {
                prop_assert!(now["error"]["message"].as_str().unwrap().contains("an earlier run"));
                for line in [&mut was, &mut now] {
                    line.as_object_mut().unwrap().remove("error");
                }
            }
            prop_assert_eq!(was, now);
        }
    }
}
