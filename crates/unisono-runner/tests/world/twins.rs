//! Rows without ids that ask for the same, with a key each that the run makes: any of them may go on with the key of
//! any other, and never two with one. So they need not be ambiguous, however often a run is killed, and in whatever
//! order they come.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use unisono_core::{Effect, OutcomeKind};
use unisono_journal::Identity;

use crate::{
    peer::{Script, Step, WELL},
    properties::cases,
    world::{RunEnd, RunOptions, Stop, What, World},
};

/// What is asked for, of which pages.
type Rows = Vec<(u64, Option<Script>)>;

fn row(content: u64, pages: u32) -> (u64, Option<Script>) {
    let slow = Step { takes: std::time::Duration::from_millis(60), ..WELL };
    (content, Some(Script { pages, ..Script::unsafe_row([slow]) }))
}

/// A run that is killed at each of these turns, with so many bytes lost, its rows in that order; then one to the end.
fn live(orders: &[(Rows, Stop)], last: &Rows, how: &RunOptions) {
    let mut world = World::new();
    let mut accepted: Vec<&Rows> = vec![last];
    for (rows, stop) in orders {
        let end = world.run(rows, &RunOptions { stop: Some(*stop), ..how.clone() });
        if !matches!(end, RunEnd::Refused(_)) {
            accepted.push(rows);
        }
    }
    // Where rows have lines their order is known, and another is refused.
    let mut ends = std::iter::once(last).chain(accepted.into_iter().rev()).map(|rows| (rows, world.run(rows, how)));
    let (rows, end) =
        ends.find(|(_, end)| !matches!(end, RunEnd::Refused(_))).expect("the order that lines have is taken");
    assert_eq!(end.report().stopped, None);
    assert!(!world.path().with_extension("jsonl.run").exists(), "all is decided, and something is in doubt");

    let lines = world.lines();
    assert!(lines.iter().all(|line| line.outcome == OutcomeKind::Ok), "{lines:#?}");
    let mut asked: HashMap<(u64, u32), usize> = HashMap::new();
    for (content, script) in rows {
        let pages = script.as_ref().map_or(1, |script| script.pages);
        (1..=pages).for_each(|page| *asked.entry((*content, page)).or_default() += 1);
    }
    let ledger = world.peer.ledger.borrow();
    for ((content, page), count) in asked {
        let has_line = lines.iter().filter(|line| (line.content, line.page) == (Some(content), page)).count();
        let done =
            ledger.iter().filter(|begun| (begun.content, begun.page, begun.truth) == (content, page, Effect::Done));
        let keys: HashSet<_> = done.map(|begun| begun.key.clone()).collect();
        assert_eq!((has_line, keys.len()), (count, count), "page {page} of {content}: {ledger:#?}");
    }
}

fn how() -> RunOptions {
    RunOptions { keys: Some(0), has_ids: false, makes_keys: true, paged: true, ..RunOptions::default() }
}

fn crash(turn: u32, lost: u64) -> Stop {
    Stop { turn, what: What::Crash { lost } }
}

#[test]
fn rows_that_ask_for_the_same_are_carried_out_once_each_after_two_kills_in_other_orders() {
    let orders =
        [[1, 2, 1, 1, 3], [2, 3, 1, 1, 1], [1, 1, 2, 1, 3]].map(|order| order.map(|content| row(content, 1)).to_vec());
    for (first, second) in (4..12).step_by(2).flat_map(|first| (4..12).step_by(2).map(move |second| (first, second))) {
        let [one, other, last] = &orders;
        let how = RunOptions { limit: 2, ..how() };
        live(&[(one.clone(), crash(first, 0)), (other.clone(), crash(second, 0))], last, &how);
    }
}

#[test]
fn a_row_with_keys_whose_first_pages_lost_their_lines_goes_on_with_these_keys() {
    for turn in (8..32).step_by(3) {
        let rows = vec![row(1, 3), row(2, 2)];
        live(&[(rows.clone(), crash(turn, 1500))], &rows, &how());
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: cases(), failure_persistence: None, max_shrink_iters: 1000, ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_rows_that_ask_for_the_same_are_carried_out_once_each((orders, last, how) in history()) {
        live(&orders, &last, &how);
    }
}

fn history() -> impl Strategy<Value = (Vec<(Rows, Stop)>, Rows, RunOptions)> {
    let rows = prop::collection::vec(1..4u64, 1..9);
    let identity = prop_oneof![3 => Just(Identity::Row), 1 => Just(Identity::Id)];
    let how = (identity, 1..5u32, any::<bool>()).prop_map(|(identity, limit, notes_ahead)| RunOptions {
        identity,
        limit,
        notes_ahead,
        ..how()
    });
    (rows, how).prop_flat_map(|(contents, how)| {
        let order = move || {
            let rows: Rows = contents.iter().map(|content| row(*content, *content as u32)).collect();
            Just(rows).prop_shuffle()
        };
        let stop = (1..40u32, prop_oneof![Just(0), 0..1500u64]).prop_map(|(turn, lost)| crash(turn, lost));
        (prop::collection::vec((order(), stop), 1..4), order(), Just(how))
    })
}
