//! Plans, runs, stops and crashes at random, each run held against the laws; in the end everything is decided.

use std::time::Duration;

use proptest::prelude::*;
use unisono_core::{Effect, OutcomeKind};
use unisono_journal::{Identity, Mode};

use crate::{
    model::check,
    peer::{Ending, Script, Step},
    world::{RunEnd, RunOptions, Stop, What, World},
};

proptest! {
    // The disk has its part in each case, so a seed alone does not bring it back: what failed is printed in full.
    #![proptest_config(ProptestConfig {
        cases: cases(), failure_persistence: None, max_shrink_iters: 1000, ..ProptestConfig::default()
    })]

    #[test]
    fn whatever_happens_nothing_is_repeated_that_must_not_be_and_every_outcome_is_told(history in history()) {
        live(&history);
    }
}

/// Everything that a case is made of.
#[derive(Debug, Clone)]
struct History {
    rows: Vec<Option<Script>>,
    /// Of all runs.
    frame: RunOptions,
    runs: Vec<(RunOptions, Before)>,
}

/// What happens to the file or the input before a run.
#[derive(Debug, Clone, Copy)]
enum Before {
    Nothing,
    Rename,
    /// A row asks for something else now.
    Change(usize),
    /// The run file is lost, from then on the results are adopted, and where rows may stand anywhere this run has only
    /// those from this one on of the rows that have lines.
    Lose(usize),
    /// Rows change places, which does no harm where they are known by their content or their ids; and where they are
    /// known by their places, it is refused or does none.
    Reverse,
}

fn live(history: &History) {
    let mut world = World::new();
    let mut rows: Vec<_> = history.rows.iter().enumerate().map(|(at, row)| (at as u64 + 1, row.clone())).collect();
    // In which order it was before, where it is not known which of them was taken in.
    let mut other = None;
    // The first run that adopts the results may be killed before it has begun.
    let mut frame = history.frame.clone();
    for (number, (how, before)) in history.runs.iter().enumerate() {
        let (mut input, mut how) = (rows.clone(), RunOptions { adopt: frame.adopt, ..how.clone() });
        let mut is_shorter = false;
        match *before {
            Before::Nothing => {}
            Before::Rename => world.rename(&format!("results-{number}.jsonl")),
            Before::Change(at) => {
                let at = at % input.len();
                input[at].0 += 1000;
                // To its end, so that it is either refused or the input from then on.
                (how.stop, how.stop_after, how.max_failures, how.canary) = (None, None, None, None);
            }
            Before::Lose(first) if other.is_none() => {
                world.lose_run_file();
                (how.adopt, frame.adopt) = (true, true);
                if how.identity != Identity::Row {
                    let known: Vec<_> = world.lines().into_iter().filter_map(|line| line.content).collect();
                    let mut place = 0..;
                    input.retain(|(content, _)| place.next() >= Some(first) || !known.contains(content));
                    is_shorter = input.len() < rows.len();
                }
            }
            Before::Lose(_) => {}
            Before::Reverse => input.reverse(),
        }
        let end = run(&mut world, &input, &how);
        let is_moved = matches!(before, Before::Reverse) && how.identity == Identity::Row;
        match end {
            RunEnd::Refused(_) if matches!(before, Before::Change(_)) || is_moved => {}
            RunEnd::Refused(_) => rows = other.take().unwrap_or_else(|| panic!("run {number} was refused")),
            _ if is_shorter => {}
            RunEnd::Finished(report) if report.stopped.is_none() => (rows, other) = (input, None),
            _ => {
                let was = std::mem::replace(&mut rows, input);
                other = if is_moved { Some(was) } else { other };
            }
        }
    }
    let is_taken = other.is_none() || !matches!(run(&mut world, &rows, &frame), RunEnd::Refused(_));
    finish(&mut world, if is_taken { &rows } else { other.as_ref().unwrap_or(&rows) }, &frame);
}

/// Runs until all is decided, then until all is well; both have an end, since each script has.
fn finish(world: &mut World, rows: &[(u64, Option<Script>)], frame: &RunOptions) {
    let how = RunOptions { mode: Mode::Resume, ..frame.clone() };
    // What the input does not have any more stays as it is.
    let is_asked_for =
        |content: Option<u64>| content.is_none_or(|content| rows.iter().any(|(other, _)| *other == content));
    let undecided =
        |world: &World| world.lines().iter().any(|line| line.runs_again(Mode::Resume) && is_asked_for(line.content));
    let mut runs = 0;
    while {
        run(world, rows, &how).report();
        undecided(world)
    } {
        runs += 1;
        assert!(runs < 40, "a resume does not come to an end");
    }
    let how = RunOptions { mode: Mode::RetryFailed { ambiguous: true }, ..how };
    let good = |world: &World| {
        let lines = world.lines();
        let of = |content: u64| lines.iter().filter(move |line| line.content == Some(content));
        rows.iter()
            .all(|(content, script)| script.is_none() || of(*content).all(|line| line.outcome == OutcomeKind::Ok))
    };
    while {
        run(world, rows, &how);
        !good(world)
    } {
        runs += 1;
        assert!(runs < 80, "trying again does not come to an end");
    }
}

fn run(world: &mut World, rows: &[(u64, Option<Script>)], how: &RunOptions) -> RunEnd {
    let before = world.lines();
    let end = world.run(rows, how);
    check(world, rows, how, &before, &end);
    world.crashed.extend(matches!(end, RunEnd::Crashed).then_some(how.mode));
    end
}

fn history() -> impl Strategy<Value = History> {
    let frame = (
        any::<bool>(),
        any::<bool>(),
        prop::bool::weighted(0.7),
        prop_oneof![
            3 => Just(Identity::Row), 1 => Just(Identity::Content), 2 => Just(Identity::Id)
        ],
    );
    frame.prop_flat_map(|(paged, notes_ahead, has_ids, identity)| {
        // No kind of work has both.
        let paged = paged && identity != Identity::Content;
        // Without ids they are known by their places.
        let has_ids = has_ids || identity == Identity::Id;
        let frame = RunOptions { paged, notes_ahead, identity, has_ids, ..RunOptions::default() };
        let row = prop_oneof![1 => Just(None), 12 => script(paged).prop_map(Some)];
        // What has one page may be asked for with and without the option to follow more.
        let may_change = !paged && identity != Identity::Content;
        let how = (how(frame.clone()), any::<bool>())
            .prop_map(move |(how, other)| RunOptions { paged: how.paged || may_change && other, ..how });
        // Who has lost notes has often looked, and asks for what is in doubt: by chance alone that is one run in fifty.
        let run = (how, before(), any::<bool>()).prop_map(|(how, before, looked)| match before {
            Before::Lose(_) if looked => (RunOptions { mode: Mode::RetryFailed { ambiguous: true }, ..how }, before),
            _ => (how, before),
        });
        let runs = prop::collection::vec(run, 1..6);
        (prop::collection::vec(row, 1..10), runs).prop_map(move |(rows, runs)| History {
            rows,
            frame: frame.clone(),
            runs,
        })
    })
}

fn script(paged: bool) -> impl Strategy<Value = Script> {
    let steps = prop::collection::vec(step(), 0..4);
    let pages = if paged { 1..4u32 } else { 1..2 };
    (prop::bool::weighted(0.3), pages, steps, 0..2u8).prop_map(|(repeatable, pages, steps, limit_key)| Script {
        repeatable,
        pages,
        steps,
        limit_key,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let effect = || prop::sample::select(Effect::ALL.to_vec());
    let ending = prop_oneof![
        3 => Just(Ending::Ok),
        3 => Just(Ending::Failed),
        2 => Just(Ending::Retry),
        1 => Just(Ending::Throttled),
        1 => Just(Ending::Hang),
        1 => Just(Ending::Panic),
    ];
    (prop::option::weighted(0.2, effect()), prop::option::weighted(0.9, effect()), ending, 0..300u64).prop_map(
        |(hop, effect, ending, takes)| {
            // What goes well was done.
            let effect = if ending == Ending::Ok { Some(Effect::Done) } else { effect };
            Step { hop, effect, ending, takes: Duration::from_millis(takes) }
        },
    )
}

fn how(frame: RunOptions) -> impl Strategy<Value = RunOptions> {
    let mode = prop_oneof![
        4 => Just(Mode::Resume),
        3 => Just(Mode::RetryFailed { ambiguous: false }),
        1 => Just(Mode::RetryFailed { ambiguous: true }),
    ];
    let what = prop_oneof![
        1 => Just(What::Drain),
        1 => Just(What::Abort),
        4 => prop_oneof![Just(0), 0..1500u64].prop_map(|lost| What::Crash { lost }),
    ];
    let stop = prop::option::weighted(0.7, (1..40u32, what).prop_map(|(turn, what)| Stop { turn, what }));
    let sink = (any::<bool>(), prop::option::of(1..3usize), prop::option::of(1..4u64));
    let bounds = (
        (1..5u32, prop::option::weighted(0.1, 1..4u64)),
        prop::option::weighted(0.2, 1..4u64),
        prop::option::weighted(0.2, 1..2000u64),
    );
    // The same ones mostly, so that there is something to agree with.
    let keys = prop_oneof![2 => Just(None), 4 => Just(Some(0)), 1 => Just(Some(1))];
    (mode, stop, sink, bounds, keys).prop_map(
        move |(mode, stop, (keep_order, credit, window), ((limit, canary), max_failures, stop_after), keys)| {
            RunOptions {
                mode,
                stop,
                keep_order,
                credit,
                window,
                limit,
                max_failures,
                canary,
                keys,
                stop_after: stop_after.map(Duration::from_millis),
                ..frame.clone()
            }
        },
    )
}

fn before() -> impl Strategy<Value = Before> {
    prop_oneof![
        5 => Just(Before::Nothing),
        2 => Just(Before::Rename),
        1 => any::<usize>().prop_map(Before::Change),
        2 => (0..20usize).prop_map(Before::Lose),
        2 => Just(Before::Reverse),
    ]
}

/// Each case is a handful of runs with the syncs of a real disk, and takes some ten milliseconds.
pub fn cases() -> u32 {
    std::env::var("UNISONO_WORLD_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(100)
}
