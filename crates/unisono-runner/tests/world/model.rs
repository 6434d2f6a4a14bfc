//! What must hold after each run, whatever happened in it: the laws, by the peer's ledger and the results file.

use serde_json::Value;
use unisono_core::{CancelReason, Effect, OutcomeCounts, OutcomeKind};
use unisono_journal::{Identity, Mode};
use unisono_runner::{Report, RerunMode};

use crate::{
    peer::{Begun, Script},
    world::{RunEnd, RunOptions, World},
};

/// A line of a results file.
#[derive(Debug, Clone)]
pub struct Line {
    pub row: u64,
    /// 1 where there are no pages, which is the same line.
    pub page: u32,
    /// `None` of a row that could not be understood, whose content is not its own.
    pub content: Option<u64>,
    pub outcome: OutcomeKind,
    pub effect: Effect,
    pub repeatable: bool,
    pub goes_on: bool,
    pub error: Option<String>,
    /// All of it but the part of the first line that says whether a run is open.
    pub whole: Value,
}

impl Line {
    pub fn parse(text: &str) -> Self {
        let mut whole: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("no JSON: {error}: {text}"));
        let word = |name: &str| whole[name].as_str().unwrap_or_else(|| panic!("no {name} in {text}")).to_owned();
        // What is not in the input any more says what it asked for by its fingerprint alone.
        let asked = || u64::from_str_radix(&word("fp"), 16).expect("a fingerprint");
        let is_gone = whole["error"]["kind"] == "interrupted";
        let line = Self {
            row: whole["row"].as_u64().expect("a row"),
            page: u32::try_from(whole["page"].as_u64().unwrap_or(1)).expect("a page"),
            content: whole["content"].as_u64().filter(|content| *content > 0).or_else(|| is_gone.then(asked)),
            outcome: word("outcome").parse().expect("an outcome"),
            effect: word("effect").parse().expect("an effect"),
            repeatable: whole["repeatable"].as_bool().expect("whether it is repeatable"),
            goes_on: whole["next"].is_string(),
            error: whole["error"]["kind"].as_str().map(str::to_owned),
            whole: Value::Null,
        };
        let members = whole.as_object_mut().expect("an object");
        members.remove("run");
        members.remove("open");
        Self { whole, ..line }
    }

    /// Whether a row with this line runs again in a run of this mode, as docs/fetch.md has it.
    pub fn runs_again(&self, mode: Mode) -> bool {
        let accepts_doubles = mode == Mode::RetryFailed { ambiguous: true };
        let retries = matches!(mode, Mode::RetryFailed { .. });
        let asked = match self.outcome {
            OutcomeKind::Ok | OutcomeKind::Skipped => false,
            OutcomeKind::Cancelled => true,
            OutcomeKind::Failed => {
                let passing = ["connect", "away", "rate_limited", "retry_budget"];
                retries || self.error.as_deref().is_some_and(|kind| passing.contains(&kind))
            }
            OutcomeKind::TimedOut => retries,
            OutcomeKind::Ambiguous => accepts_doubles,
        };
        asked && (self.repeatable || self.effect == Effect::None || accepts_doubles)
    }

    /// What it is the line of, to the peer.
    fn key(&self) -> (Option<u64>, u32) {
        (self.content, self.page)
    }
}

/// Holds a run against the laws. `before` is what was in the file when it began.
pub fn check(world: &World, rows: &[(u64, Option<Script>)], how: &RunOptions, before: &[Line], end: &RunEnd) {
    let ledger = world.peer.ledger.borrow();
    let run = world.peer.run.get();
    let after = world.lines();
    nothing_is_repeated_that_must_not_be(&ledger, run, how.mode);
    what_is_kept_is_not_run(world, &ledger, how, before, &after, end);
    no_line_denies_what_happened(&ledger, run, before, &after, end);
    no_effect_goes_down(before, &after);
    if let RunEnd::Refused(error) = end {
        let [before, after] = [before, &after].map(|lines| lines.iter().map(|line| &line.whole).collect::<Vec<_>>());
        assert_eq!(before, after, "the run was refused, and yet has changed the results: {error}");
    }
    let RunEnd::Finished(report) = end else { return };
    assert_eq!(world.all_lines().len(), after.len(), "a row or page has two lines");
    assert!(report.failures.is_empty(), "{:?}", report.failures);

    let mut counts = OutcomeCounts::default();
    after.iter().for_each(|line| counts.add(line.outcome));
    for kind in OutcomeKind::ALL {
        assert_eq!(report.count(kind), counts.get(kind), "the report counts other {kind} than there are lines");
    }
    what_may_be_asked_for_is_what_a_later_run_does(&after, report);
    if !how.paged && how.identity == Identity::Row {
        what_is_pending_has_no_line(rows, &after, report);
    }
    if how.keep_order {
        the_file_is_in_the_order_of_the_input(rows, how.identity, &after, report.stopped.is_some());
        assert!(world.sunk.is_sorted_by_key(|sunk| sunk.index), "the sink was not given them in order");
    }
    if how.credit.is_some() {
        let mut sunk = OutcomeCounts::default();
        world.sunk.iter().for_each(|outcome| sunk.add(outcome.kind));
        assert_eq!(sunk, report.counts, "the sink got other outcomes than the report counts");
    }
    for begun in ledger.iter().filter(|begun| begun.run == run) {
        let key = (Some(begun.content), begun.page);
        assert!(after.iter().any(|line| line.key() == key), "{begun:?} was begun and has no line");
    }
    let not_ok = report.counts.not_ok() - report.counts.get(OutcomeKind::Cancelled);
    if how.max_failures.is_some_and(|most| not_ok >= most) {
        assert!(report.stopped.is_some(), "it should have stopped after {not_ok} failures");
    }
    if report.stopped == Some(CancelReason::MaxFailures) {
        assert!(how.max_failures.is_some_and(|most| not_ok >= most), "it stopped after {not_ok} failures already");
    }
    if report.stopped.is_none() {
        every_row_is_decided(rows, &after);
    }
}

/// A summary names the option that runs a row again, so its counts are those of the lines that this option takes.
fn what_may_be_asked_for_is_what_a_later_run_does(after: &[Line], report: &Report) {
    let taken_by = |mode| after.iter().filter(|line| line.runs_again(mode)).count() as u64;
    let [resume, failed, ambiguous] = RerunMode::ALL.map(|again| report.again.get(again));
    assert_eq!(resume, taken_by(Mode::Resume), "what --resume runs again");
    assert_eq!(resume + failed, taken_by(Mode::RetryFailed { ambiguous: false }), "what --retry-failed runs again");
    let all = taken_by(Mode::RetryFailed { ambiguous: true });
    assert_eq!(resume + failed + ambiguous, all, "what --retry-ambiguous runs again");
}

/// Each row of the input has a line, or is pending, and never both.
fn what_is_pending_has_no_line(rows: &[(u64, Option<Script>)], after: &[Line], report: &Report) {
    if let Some(pending) = report.pending {
        assert_eq!(pending + after.len() as u64, rows.len() as u64, "{pending} rows are said to be pending");
    }
}

/// What may have had an effect is begun again only in the way in which it could be repeated. A user who asks for
/// what is ambiguous to be tried again accepts what that does, and what was done before does not count any more. No
/// other run is given that, and none repeats by itself what it did.
fn nothing_is_repeated_that_must_not_be(ledger: &[Begun], run: u32, mode: Mode) {
    let accepts_doubles = mode == Mode::RetryFailed { ambiguous: true };
    for (at, begun) in ledger.iter().enumerate().filter(|(_, begun)| begun.run == run) {
        let same = ledger[..at].iter().filter(|earlier| (earlier.content, earlier.page) == (begun.content, begun.page));
        let mut counted = same.filter(|earlier| (earlier.run == run || !accepts_doubles) && !earlier.forgiven.get());
        assert!(
            counted.all(|earlier| earlier.truth == Effect::None || begun.repeat.agrees_with(earlier.repeat)),
            "{begun:?} was begun again after it may have had an effect: {ledger:#?}"
        );
    }
    for begun in ledger.iter().filter(|begun| begun.run < run) {
        begun.forgiven.set(begun.forgiven.get() || accepts_doubles);
    }
}

fn what_is_kept_is_not_run(
    world: &World,
    ledger: &[Begun],
    how: &RunOptions,
    before: &[Line],
    after: &[Line],
    end: &RunEnd,
) {
    let run = world.peer.run.get();
    // What a run that was killed may have begun once more is not kept: its line is not its last word.
    let is_doubtful = |line: &&Line| world.crashed.iter().any(|mode| line.runs_again(*mode));
    for line in before.iter().filter(|line| !line.runs_again(how.mode) && !is_doubtful(line)) {
        let begun = ledger.iter().find(|begun| begun.run == run && (Some(begun.content), begun.page) == line.key());
        assert!(begun.is_none(), "{line:?} was kept, and yet {begun:?}");
        // It was to run again in a run that was killed, which has noted that it starts.
        let is_doubtful = |other: &Line| {
            (other.row, other.page) == (line.row, line.page) && other.error.as_deref() == Some("interrupted")
        };
        let stays =
            after.iter().any(|other| other.whole == line.whole || is_doubtful(other) || is_told_anew(line, other));
        assert!(stays || how.prune && matches!(end, RunEnd::Finished(_)), "{line:?} was to be kept, and is gone");
    }
}

/// What may have been done since, by a run whose notes are lost, is no more said not to have been.
fn is_told_anew(line: &Line, now: &Line) -> bool {
    let mut whole = now.whole.clone();
    whole["effect"] = line.whole["effect"].clone();
    // The pages behind it as well.
    match line.whole.get("begun_to") {
        Some(begun_to) => whole["begun_to"] = begun_to.clone(),
        None => _ = whole.as_object_mut().expect("an object").remove("begun_to"),
    }
    now.effect == Effect::Maybe && whole == line.whole
}

/// What may have happened is not written down as if it had not: in this run by any line of its own, in all runs by any
/// line, once a run has ended otherwise than by a crash, be it before the turn of that row.
fn no_line_denies_what_happened(ledger: &[Begun], run: u32, before: &[Line], after: &[Line], end: &RunEnd) {
    let is_at_end = matches!(end, RunEnd::Finished(_));
    for line in after {
        let (Some(content), page) = line.key() else { continue };
        // Until then a note is what says that it was begun once more.
        let is_old = before.iter().any(|other| other.whole == line.whole);
        let counts = |begun: &&Begun| {
            (begun.content, begun.page) == (content, page) && (is_at_end || begun.run == run && !is_old)
        };
        let truth = ledger.iter().filter(counts).fold(Effect::None, |truth, begun| truth.join(begun.truth));
        assert!(truth == Effect::None || line.effect > Effect::None, "{line:?} denies {truth:?}");
        let is_unsafe = !line.repeatable && line.effect == Effect::Maybe;
        assert!(!is_unsafe || matches!(line.outcome, OutcomeKind::Ambiguous | OutcomeKind::Ok), "{line:?}");
    }
}

/// By number, or where the input has the content now: what it does not have any more comes last.
fn the_file_is_in_the_order_of_the_input(
    rows: &[(u64, Option<Script>)],
    identity: Identity,
    after: &[Line],
    is_stopped: bool,
) {
    if identity == Identity::Row {
        assert!(after.is_sorted_by_key(|line| (line.row, line.page)), "the file is not in order");
        return;
    }
    let place = |content: u64| rows.iter().position(|(other, _)| *other == content).unwrap_or(rows.len());
    // What a stopped run has not come to has no place yet; and what makes no sense has no content.
    let known = after.iter().filter(|line| !is_stopped && line.content.is_some());
    let places: Vec<_> = known.map(|line| (place(line.content.unwrap_or_default()), line)).collect();
    let key = |(place, line): &(usize, &Line)| (*place, if *place < rows.len() { line.page } else { 0 });
    assert!(places.is_sorted_by_key(key), "the file is not in the order of the input: {places:#?}");
}

/// What an earlier run has done, or may have, is not undone by a later attempt, and is not forgotten while that goes
/// on.
fn no_effect_goes_down(before: &[Line], after: &[Line]) {
    for line in before {
        let same = |other: &&Line| (other.row, other.page) == (line.row, line.page);
        if let Some(now) = after.iter().find(same) {
            assert!(now.effect >= line.effect, "{now:?} forgets {line:?}");
        } else {
            assert!(line.outcome != OutcomeKind::Ambiguous, "{line:?} is gone");
        }
    }
}

/// A file of a run that was not stopped: one end for each row, after all of its pages.
fn every_row_is_decided(rows: &[(u64, Option<Script>)], after: &[Line]) {
    for (content, script) in rows {
        let Some(script) = script else { continue };
        let mut lines: Vec<_> = after.iter().filter(|line| line.content == Some(*content)).collect();
        lines.sort_by_key(|line| line.page);
        let Some(last) = lines.pop() else { panic!("row {content} has no line") };
        assert!(lines.iter().all(|line| line.goes_on), "row {content} has two ends: {lines:?} {last:?}");
        assert!(!last.goes_on, "row {content} has no end: {last:?}");
        assert!(last.outcome != OutcomeKind::Ok || last.page == script.pages, "row {content} ended too early");
    }
    let bad = rows.iter().filter(|(_, script)| script.is_none()).count();
    let input = after.iter().filter(|line| line.error.as_deref() == Some("input")).count();
    assert!(input >= bad, "{bad} rows make no sense, and {input} lines say so");
}
