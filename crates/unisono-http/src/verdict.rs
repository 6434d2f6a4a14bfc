//! The rule for what may be repeated, as one pure function over what is known; docs/fetch.md has it as a table.
//!
//! 1. An answer says what its request did: [`effect_of`] knows what each status means for it. No answer: it is not
//!    known.
//! 2. What is known of all hops and attempts is joined; a hop takes back only what it did itself.
//! 3. What has no effect, or bears being done twice, may be repeated. So may the last hop alone, where that does no
//!    harm.
//! 4. Otherwise it ends: as `ambiguous` where it may have been done, and as `failed` where it was done and found wrong.
//!
//! A later fault (a body that is cut, a failed selection, an expectation) changes what went wrong, never what was done.

use std::time::Instant;

use http::{Method, StatusCode};
use unisono_batch::Verdict;
use unisono_core::{Effect, ErrorKind, OutcomeKind};

/// What the end of an attempt that is no success is by itself, before it is asked whether a repeat does harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptEnd {
    /// Not as expected, and it would not be the next time.
    Wrong,
    /// It may go better another time, not before this moment if one is given.
    Again { not_before: Option<Instant> },
    /// Nothing was sent, since the host was not there.
    Unmet,
    /// The peer refused for now; as [`Verdict::Throttled`].
    Throttled { until: Option<Instant>, quota: bool },
}

/// What follows for the item. `repeatable` is of the request as a whole, `from_last_hop` says that a repeat would begin
/// with a later hop that can be sent again.
pub(crate) fn verdict(end: AttemptEnd, effect: Effect, repeatable: bool, from_last_hop: bool) -> Verdict {
    let failed = effect.outcome(OutcomeKind::Failed, repeatable);
    let may_repeat = effect.allows_repeat(repeatable) || from_last_hop;
    match end {
        AttemptEnd::Again { not_before } if may_repeat => Verdict::Retry { otherwise: failed, not_before },
        AttemptEnd::Unmet if may_repeat => Verdict::Unmet { otherwise: failed },
        AttemptEnd::Throttled { until, quota } if may_repeat => Verdict::Throttled { until, quota },
        AttemptEnd::Wrong | AttemptEnd::Again { .. } | AttemptEnd::Unmet | AttemptEnd::Throttled { .. } => {
            Verdict::Final(failed)
        }
    }
}

/// What an answer with this status says of its request, once it is there in full: whether it was carried out.
///
/// `comes_back` says that the answer names a time to come back at, with which a server that is overloaded refuses. An
/// unknown status counts as the first of its class (RFC 9110, section 15); one that is of no class, as 500.
pub(crate) fn effect_of(method: &Method, status: StatusCode, comes_back: bool) -> Effect {
    match status.as_u16() {
        200..=299 | 303 | 304 => Effect::Done,
        // The result is elsewhere, which is what servers mean by it, and how every client reads it.
        301 | 302 if method == Method::POST => Effect::Done,
        // Not done here: it is to be asked elsewhere.
        301 | 302 | 307 | 308 => Effect::None,
        // The server has waited in vain for the rest of a request; what it made of the beginning is unknown.
        408 => Effect::Maybe,
        400..=499 => Effect::None,
        // It does not know how (method, version), or a gateway on the way did not let it through.
        501 | 505 | 511 => Effect::None,
        503 if comes_back => Effect::None,
        _ => Effect::Maybe,
    }
}

/// Whether a server that answers with this status may do better another time.
pub(crate) fn is_worth_a_repeat(status: StatusCode) -> bool {
    match status.as_u16() {
        // 421 and 425 say that it was not processed.
        408 | 421 | 425 => true,
        501 | 505 | 511 => false,
        code => code >= 500,
    }
}

/// What an error in the middle of a body says of its request, given what the status said: an answer that breaks off
/// says that its server did, so that it is not known; one that came and is of no use to us changes nothing.
pub(crate) fn effect_of_broken_body(of_status: Effect, kind: ErrorKind) -> Effect {
    match kind {
        ErrorKind::Decode | ErrorKind::TooLarge | ErrorKind::Save => of_status,
        _ if of_status == Effect::Done => Effect::Maybe,
        _ => of_status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of the table in docs/fetch.md.
    struct Documented {
        statuses: Vec<std::ops::RangeInclusive<u16>>,
        answer: &'static str,
        effect: &'static str,
        ends: &'static str,
        again: &'static str,
    }

    impl Documented {
        fn is_about(&self, method: &Method, code: u16, comes_back: bool) -> bool {
            let other = if *method == Method::POST { "to a PATCH" } else { "to a POST" };
            let is_wait = !self.answer.starts_with("503") || self.answer.contains("with `Retry-After") == comes_back;
            is_wait && !self.answer.contains(other) && self.statuses.iter().any(|range| range.contains(&code))
        }
    }

    fn documented() -> Vec<Documented> {
        let page = include_str!("../../../docs/fetch.md");
        let (_, table) = page.split_once("<!-- table: effects -->").expect("the page has the table");
        let (table, _) = table.split_once("<!-- end -->").expect("the table has an end");
        let row = |line: &'static str| {
            let cells: Vec<&str> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
            let words =
                cells[1].split([' ', ',']).filter(|word| word.starts_with(|first: char| first.is_ascii_digit()));
            let statuses = words.map(|word| {
                let (first, last) = word.split_once('-').unwrap_or((word, word));
                first.parse().unwrap()..=last.parse().unwrap()
            });
            let statuses = statuses.collect();
            Documented { statuses, answer: cells[1], effect: cells[2], ends: cells[3], again: cells[4] }
        };
        table.lines().filter(|line| line.starts_with("| ")).skip(1).map(row).collect()
    }

    #[test]
    fn the_documented_table_is_what_the_rule_says_for_every_status_and_method_there_is() {
        let rows = documented();
        for method in [Method::POST, Method::PATCH] {
            for (code, comes_back) in (100..=999).flat_map(|code| [(code, false), (code, true)]) {
                let status = StatusCode::from_u16(code).unwrap();
                let effect = effect_of(&method, status, comes_back);
                let about: Vec<&Documented> =
                    rows.iter().filter(|row| row.is_about(&method, code, comes_back)).collect();
                let [row] = about[..] else { panic!("{} rows are about {method} {code}", about.len()) };
                let what = format!("{method} {code}, Retry-After: {comes_back}");
                assert_eq!(row.effect, effect.as_str(), "{what}");
                let end = match code {
                    429 => AttemptEnd::Throttled { until: None, quota: true },
                    503 if comes_back => AttemptEnd::Throttled { until: None, quota: false },
                    _ if is_worth_a_repeat(status) => AttemptEnd::Again { not_before: None },
                    _ => AttemptEnd::Wrong,
                };
                let said = match (code, verdict(end, effect, false, false)) {
                    (200..=299 | 304, _) => ("ok", "–"),
                    (301..=303 | 307 | 308, _) if effect == Effect::Done => ("by what the GET brings", "only the GET"),
                    (301 | 302 | 307 | 308, _) => ("by what comes from there", "to the new address"),
                    (_, Verdict::Final(kind)) => (kind.as_str(), "no"),
                    (_, Verdict::Retry { .. } | Verdict::Throttled { .. } | Verdict::Unmet { .. }) => {
                        ("by the next answer", "yes")
                    }
                };
                assert_eq!((row.ends, row.again), said, "{what}");
                for other in [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE] {
                    let of_patch = effect_of(&Method::PATCH, status, comes_back);
                    assert_eq!(effect_of(&other, status, comes_back), of_patch, "{other} {code}");
                }
            }
        }
    }

    #[test]
    fn what_the_table_sends_again_by_itself_is_what_is_worth_a_repeat() {
        for code in [408, 421, 425, 500, 502, 503, 504, 507, 520, 529, 599, 600, 999] {
            assert!(is_worth_a_repeat(StatusCode::from_u16(code).unwrap()), "{code}");
        }
        for code in [200, 301, 400, 404, 409, 499, 501, 505, 511] {
            assert!(!is_worth_a_repeat(StatusCode::from_u16(code).unwrap()), "{code}");
        }
    }

    #[test]
    fn no_status_and_no_effect_lets_an_unsafe_request_be_sent_twice() {
        let ends = [
            AttemptEnd::Wrong,
            AttemptEnd::Again { not_before: None },
            AttemptEnd::Throttled { until: None, quota: true },
            AttemptEnd::Throttled { until: None, quota: false },
        ];
        for end in ends {
            for effect in [Effect::Maybe, Effect::Done] {
                let Verdict::Final(kind) = verdict(end, effect, false, false) else { panic!("{end:?} {effect}") };
                let expected = if effect == Effect::Maybe { OutcomeKind::Ambiguous } else { OutcomeKind::Failed };
                assert_eq!(kind, expected);
                // With a key, or from a later hop, it is worth another attempt.
                for (repeatable, from_last_hop) in [(true, false), (false, true)] {
                    let again = !matches!(verdict(end, effect, repeatable, from_last_hop), Verdict::Final(_));
                    assert_eq!(again, end != AttemptEnd::Wrong, "{end:?} {effect}");
                }
            }
            assert_eq!(matches!(verdict(end, Effect::None, false, false), Verdict::Final(_)), end == AttemptEnd::Wrong);
        }
    }

    #[test]
    fn a_broken_body_leaves_in_doubt_only_what_the_status_said_was_done() {
        let broken = |status, kind| effect_of_broken_body(status, kind);
        assert_eq!(broken(Effect::Done, ErrorKind::IncompleteBody), Effect::Maybe);
        assert_eq!(broken(Effect::None, ErrorKind::IncompleteBody), Effect::None);
        for kind in [ErrorKind::Decode, ErrorKind::TooLarge, ErrorKind::Save] {
            assert_eq!(broken(Effect::Done, kind), Effect::Done);
        }
    }
}
