//! Crosses by name, each of which was broken once or might be.

use std::time::Duration;

use unisono_core::{Effect, OutcomeKind};
use unisono_journal::{Identity, Mode};
use unisono_runner::RerunMode;

use crate::{
    model::check,
    peer::{Ending, Script, Step, WELL},
    world::{RunEnd, RunOptions, Stop, What, World},
};

const SLOW: Step =
    Step { hop: None, effect: Some(Effect::Done), ending: Ending::Ok, takes: Duration::from_millis(200) };
const HANGS: Step = Step { ending: Ending::Hang, ..WELL };
const WRONG: Step = Step { ending: Ending::Failed, effect: Some(Effect::None), ..WELL };
/// A turn in which the second page of a row of `WELL` pages hangs, and the line of the first is written.
const HANGS_AT: u32 = 9;
const ALL_AGAIN: Mode = Mode::RetryFailed { ambiguous: true };
const FAILED_AGAIN: Mode = Mode::RetryFailed { ambiguous: false };

fn rows(count: u64, script: &Script) -> Vec<(u64, Option<Script>)> {
    (1..=count).map(|content| (content, Some(script.clone()))).collect()
}

fn run(world: &mut World, rows: &[(u64, Option<Script>)], how: &RunOptions) -> RunEnd {
    let before = world.lines();
    let end = world.run(rows, how);
    check(world, rows, how, &before, &end);
    world.crashed.extend(matches!(end, RunEnd::Crashed).then_some(how.mode));
    end
}

fn outcomes(world: &World) -> Vec<(OutcomeKind, Effect)> {
    let mut lines = world.lines();
    lines.sort_by_key(|line| (line.row, line.page));
    lines.iter().map(|line| (line.outcome, line.effect)).collect()
}

fn crash(turn: u32) -> Option<Stop> {
    Some(Stop { turn, what: What::Crash { lost: 0 } })
}

#[test]
fn a_run_that_was_killed_at_any_turn_and_resumed_under_another_name_begins_nothing_twice() {
    for turn in 1..20 {
        let mut world = World::new();
        let rows = rows(5, &Script::unsafe_row([SLOW]));
        run(&mut world, &rows, &RunOptions { stop: crash(turn), limit: 2, ..RunOptions::default() });
        world.rename("other.jsonl");
        let end = run(&mut world, &rows, &RunOptions::default());
        assert_eq!(end.report().rows(), 5, "killed at turn {turn}");
        assert!((1..=5).all(|content| world.peer.begun(content) <= 1));
    }
}

#[test]
fn what_was_done_and_found_wrong_is_not_repeated_by_retry_failed() {
    let wrong = Step { ending: Ending::Failed, ..WELL };
    let mut world = World::new();
    let rows = rows(1, &Script::unsafe_row([wrong]));
    for mode in [Mode::Resume, FAILED_AGAIN, FAILED_AGAIN] {
        run(&mut world, &rows, &RunOptions { mode, ..RunOptions::default() });
        assert_eq!(outcomes(&world), [(OutcomeKind::Failed, Effect::Done)]);
    }
    assert_eq!(world.peer.begun(1), 1);
    run(&mut world, &rows, &RunOptions { mode: ALL_AGAIN, ..RunOptions::default() });
    assert_eq!(outcomes(&world), [(OutcomeKind::Ok, Effect::Done)]);
}

#[test]
fn a_throttle_after_a_hop_that_took_effect_forgets_nothing() {
    let step =
        Step { hop: Some(Effect::Done), effect: Some(Effect::None), ending: Ending::Throttled, takes: WELL.takes };
    let mut world = World::new();
    let rows = rows(1, &Script::unsafe_row([step]));
    run(&mut world, &rows, &RunOptions::default());
    run(&mut world, &rows, &RunOptions { mode: FAILED_AGAIN, ..RunOptions::default() });
    assert_eq!(outcomes(&world), [(OutcomeKind::Failed, Effect::Done)]);
    assert_eq!(world.peer.begun(1), 1);
}

#[test]
fn a_page_that_was_begun_is_not_begun_again_and_the_pages_before_it_stay() {
    let script = Script { pages: 3, ..Script::unsafe_row([SLOW]) };
    for turn in 1..40 {
        let mut world = World::new();
        let rows = rows(2, &script);
        let how = RunOptions { paged: true, ..RunOptions::default() };
        run(&mut world, &rows, &RunOptions { stop: crash(turn), ..how.clone() });
        run(&mut world, &rows, &RunOptions { mode: FAILED_AGAIN, ..how.clone() });
        run(&mut world, &rows, &RunOptions { mode: ALL_AGAIN, ..how });
        assert_eq!(outcomes(&world), [(OutcomeKind::Ok, Effect::Done); 6], "killed at turn {turn}");
    }
}

#[test]
fn rows_noted_ahead_and_not_started_are_ambiguous_after_a_crash_and_only_the_user_runs_them_again() {
    let mut world = World::new();
    let mut rows = rows(12, &Script::unsafe_row([]));
    rows[0].1 = Some(Script::unsafe_row([HANGS]));
    let how = RunOptions { notes_ahead: true, limit: 1, ..RunOptions::default() };
    run(&mut world, &rows, &RunOptions { stop: crash(8), ..how.clone() });
    let begun = world.peer.ledger.borrow().len();
    run(&mut world, &rows, &how);
    let doubtful = outcomes(&world).iter().filter(|end| **end == (OutcomeKind::Ambiguous, Effect::Maybe)).count();
    assert!(doubtful > begun, "{begun} were begun, and {doubtful} are in doubt");
    run(&mut world, &rows, &RunOptions { mode: ALL_AGAIN, ..how });
    assert!(world.lines().iter().all(|line| line.outcome == OutcomeKind::Ok));
}

#[test]
fn another_input_is_refused_and_nothing_of_it_runs() {
    let mut world = World::new();
    let mut rows = rows(3, &Script::unsafe_row([]));
    run(&mut world, &rows, &RunOptions::default());
    rows[1].0 = 99;
    assert!(matches!(run(&mut world, &rows, &RunOptions::default()), RunEnd::Refused(error) if error.is_usage()));
    assert_eq!(world.peer.begun(99), 0);
    rows[1].0 = 2;
    assert_eq!(run(&mut world, &rows, &RunOptions::default()).report().kept.total(), 3);
}

#[test]
fn rows_known_by_their_content_are_kept_in_any_order_and_what_is_gone_is_pruned() {
    let mut world = World::new();
    let mut rows = rows(4, &Script::unsafe_row([]));
    let how = RunOptions { identity: Identity::Content, keep_order: true, credit: Some(1), ..RunOptions::default() };
    run(&mut world, &rows, &how);
    rows.reverse();
    rows.pop();
    rows.insert(0, (9, Some(Script::unsafe_row([]))));
    let end = run(&mut world, &rows, &RunOptions { prune: true, ..how });
    assert_eq!((end.report().kept.total(), end.report().counts.total()), (3, 1));
    assert!((1..=4).all(|content| world.peer.begun(content) == 1));
}

#[test]
fn a_slow_sink_that_wants_order_gets_all_of_it_while_the_first_row_hangs() {
    let mut world = World::new();
    let mut rows = rows(30, &Script::unsafe_row([]));
    rows[0].1 = Some(Script::unsafe_row([HANGS]));
    let how = RunOptions { keep_order: true, credit: Some(1), window: Some(2), ..RunOptions::default() };
    let end = run(&mut world, &rows, &how);
    assert_eq!((end.report().rows(), world.sunk[0].kind), (30, OutcomeKind::Ambiguous));
}

#[test]
fn a_resume_in_order_whose_first_row_runs_again_reads_on_to_the_last_row_that_it_knows() {
    let mut world = World::new();
    let mut rows = rows(30, &Script::unsafe_row([]));
    rows[0].1 = Some(Script::unsafe_row([Step { effect: Some(Effect::None), ending: Ending::Failed, ..WELL }]));
    let how = RunOptions { keep_order: true, credit: Some(1), window: Some(2), ..RunOptions::default() };
    run(&mut world, &rows, &how);
    let end = run(&mut world, &rows, &RunOptions { mode: FAILED_AGAIN, ..how });
    assert_eq!((end.report().kept.total(), end.report().counts.get(OutcomeKind::Ok)), (29, 1));
}

#[test]
fn a_stop_leaves_a_line_for_everything_that_was_pulled_and_the_rest_for_the_next_run() {
    for what in [What::Drain, What::Abort] {
        for turn in 1..12 {
            let mut world = World::new();
            let rows = rows(9, &Script::unsafe_row([SLOW]));
            run(&mut world, &rows, &RunOptions { stop: Some(Stop { turn, what }), limit: 2, ..RunOptions::default() });
            run(&mut world, &rows, &RunOptions::default());
            assert_eq!(world.lines().len(), 9, "{what:?} at turn {turn}");
        }
    }
}

#[test]
fn what_is_kept_and_was_not_reached_before_a_stop_is_not_pending() {
    for identity in [Identity::Row, Identity::Content, Identity::Id] {
        for (what, turn) in [What::Drain, What::Abort].into_iter().flat_map(|what| (1..5).map(move |turn| (what, turn)))
        {
            let mut world = World::new();
            let mut rows = rows(40, &Script::unsafe_row([WELL]));
            // Of a kind that no resume runs again.
            rows[29].1 = Some(Script::unsafe_row([WRONG]));
            let how = RunOptions { identity, ..RunOptions::default() };
            run(&mut world, &rows, &how);
            for mode in [Mode::Resume, FAILED_AGAIN] {
                let stop = Some(Stop { turn, what });
                let end = run(&mut world, &rows, &RunOptions { mode, stop, ..how.clone() });
                assert_eq!((end.report().rows(), end.report().pending), (40, Some(0)), "stopped at turn {turn}");
            }
        }
    }
}

#[test]
fn a_line_whose_row_is_gone_from_the_input_does_not_stand_for_one_that_is_pending() {
    for identity in [Identity::Content, Identity::Id] {
        let mut world = World::new();
        let wrong = Some(Script::unsafe_row([WRONG]));
        let how = RunOptions { mode: FAILED_AGAIN, identity, canary: Some(1), ..RunOptions::default() };
        run(&mut world, &[(30, wrong.clone())], &how);
        let mut rows = rows(5, &Script::unsafe_row([WELL]));
        rows[0] = (33, wrong);
        let end = run(&mut world, &rows, &how);
        assert_eq!((end.report().rows(), end.report().pending), (2, Some(4)));
    }
}

#[test]
fn an_open_input_that_does_not_come_to_what_is_in_doubt_holds_up_the_others_for_some_seconds_and_says_so() {
    for (canary, max_failures) in [(Some(1), None), (None, Some(2))] {
        let how = RunOptions { identity: Identity::Content, limit: 1, ..RunOptions::default() };
        let killed_at = |turn| {
            let mut world = World::new();
            run(&mut world, &rows(1, &Script::unsafe_row([HANGS])), &RunOptions { stop: crash(turn), ..how.clone() });
            world
        };
        let mut worlds = (1..20).map(killed_at);
        let mut world = worlds.find(|world| world.peer.begun(1) == 1).expect("it begins");
        assert!(world.lines().is_empty());
        let others: Vec<_> = rows(4, &Script::unsafe_row([])).split_off(1);
        let stop_after = Some(Duration::from_secs(30));
        let how = RunOptions { canary, max_failures, stays_open: true, stop_after, ..how };
        let end = run(&mut world, &others, &how);
        assert_eq!(end.report().counts.get(OutcomeKind::Ok), 3, "{:?}", end.report());
        assert!(end.report().warnings.iter().any(|warning| warning.contains("left in doubt")));
    }
}

#[test]
fn an_open_input_that_does_not_come_to_all_that_an_earlier_run_knew_begins_nothing_and_says_so_once() {
    for (identity, missing) in [(Identity::Row, "4 of at least 6 rows"), (Identity::Id, "2 rows")] {
        for canary in [None, Some(1)] {
            let mut world = World::new();
            let wrong = rows(6, &Script::unsafe_row([WRONG]));
            let how = RunOptions { mode: FAILED_AGAIN, identity, canary, ..RunOptions::default() };
            run(&mut world, &wrong, &RunOptions { canary: None, ..how.clone() });
            let stop_after = Some(Duration::from_secs(30));
            // Without the laws of a run that has seen all of its input.
            let end = world.run(&wrong[..4], &RunOptions { stays_open: true, stop_after, ..how });
            assert!((1..=4).all(|content| world.peer.begun(content) == 1), "{:?}", end.report());
            let told = world.told.borrow();
            assert_eq!((told.len(), told.iter().all(|why| why.contains(missing))), (1, true), "{told:?}");
            assert_eq!(end.report().warnings, Vec::<String>::new());
        }
    }
}

#[test]
fn what_is_tried_again_since_its_time_was_over_while_its_start_was_being_noted_waits_for_that_note() {
    // Several times: where the disk is quicker than this is, the first attempts begin as ever.
    for notes_ahead in [false, true].repeat(10) {
        let mut world = World::new();
        // No others, whose notes would be waited for meanwhile.
        let how = RunOptions { notes_are_late: true, notes_ahead, limit: 2, ..RunOptions::default() };
        let end = run(&mut world, &rows(2, &Script::unsafe_row([WELL])), &how);
        assert_eq!(end.report().counts.get(OutcomeKind::Ok), 2);
        assert_eq!((1..=2).map(|content| world.peer.begun(content)).collect::<Vec<_>>(), [1; 2]);
        assert!(world.peer.ledger.borrow().iter().all(|begun| begun.noted > 0), "{:?}", world.peer.ledger);
    }
}

#[test]
fn what_a_canary_takes_to_be_tried_again_is_the_same_whether_it_ran_or_was_kept() {
    let ends = [(WRONG, RerunMode::Failed), (Step { ending: Ending::Failed, ..WELL }, RerunMode::Ambiguous)];
    for identity in [Identity::Row, Identity::Content, Identity::Id] {
        for (step, needed) in &ends {
            let mut world = World::new();
            let mut rows = rows(6, &Script::unsafe_row([WELL]));
            // Of a kind that no resume runs again.
            rows[2].1 = Some(Script::unsafe_row([*step]));
            let how = RunOptions { canary: Some(3), identity, ..RunOptions::default() };
            for _ in 0..2 {
                let end = run(&mut world, &rows, &how);
                assert_eq!((end.report().canary, end.report().pending), (Some(*needed), Some(3)));
            }
        }
    }
}

#[test]
fn a_row_that_took_the_place_of_one_that_was_started_is_known_again_though_that_one_never_comes_back() {
    for turn in 4..8 {
        let mut world = World::new();
        let repeatable = Script { repeatable: true, ..Script::unsafe_row([HANGS]) };
        let mut rows =
            vec![(1, Some(Script::unsafe_row([]))), (2, Some(repeatable)), (3, Some(Script::unsafe_row([])))];
        let how = RunOptions { limit: 2, ..RunOptions::default() };
        run(&mut world, &rows, &RunOptions { stop: crash(turn), ..how.clone() });
        rows[1] = (1002, Some(Script { repeatable: true, ..Script::unsafe_row([WRONG, WRONG]) }));
        for mode in [Mode::Resume, FAILED_AGAIN, FAILED_AGAIN, ALL_AGAIN] {
            run(&mut world, &rows, &RunOptions { mode, ..how.clone() }).report();
        }
        assert_eq!(outcomes(&world), [(OutcomeKind::Ok, Effect::Done); 3], "killed at turn {turn}");
    }
}

#[test]
fn a_last_line_that_lost_its_line_feed_alone_is_one_and_stays_so_when_the_next_input_is_refused() {
    for turn in 4..14 {
        let mut world = World::new();
        let mut rows = rows(3, &Script::unsafe_row([SLOW]));
        run(
            &mut world,
            &rows,
            &RunOptions { stop: Some(Stop { turn, what: What::Crash { lost: 1 } }), ..RunOptions::default() },
        );
        let had = world.lines().len();
        rows.reverse();
        run(&mut world, &rows, &RunOptions::default());
        assert!(world.lines().len() >= had);
    }
}

#[test]
fn an_id_that_was_started_with_a_key_and_asks_for_something_else_without_one_is_refused_before_anything_runs() {
    let mut world = World::new();
    let mut input = rows(1, &Script::unsafe_row([HANGS]));
    let how = RunOptions { identity: Identity::Id, ..RunOptions::default() };
    run(&mut world, &input, &RunOptions { keys: Some(0), stop: crash(8), ..how.clone() });
    assert_eq!(world.peer.begun(1), 1);
    input[0].0 = 1001;
    input.splice(0..0, (2..40).map(|content| (content, Some(Script::unsafe_row([])))));
    assert!(matches!(run(&mut world, &input, &how), RunEnd::Refused(error) if error.is_usage()));
    assert_eq!(world.peer.ledger.borrow().len(), 1);
}

#[test]
fn a_row_that_runs_again_from_a_page_that_failed_begins_its_later_pages_anew() {
    let done = Step { hop: None, effect: Some(Effect::Done), ending: Ending::Ok, takes: Duration::ZERO };
    let panics = Step { effect: None, ending: Ending::Panic, ..done };
    let retried = Step { effect: None, ending: Ending::Retry, takes: Duration::from_millis(1), ..done };
    let paged = Script { repeatable: true, pages: 2, ..Script::unsafe_row([done, panics]) };
    let rows = [(2, Some(Script::unsafe_row([retried]))), (1, Some(paged))];
    let how = RunOptions { paged: true, notes_ahead: true, limit: 2, ..RunOptions::default() };
    for (turn, lost) in (1..10).flat_map(|turn| [0, 100, 300, 861, 3000].map(|lost| (turn, lost))) {
        let mut world = World::new();
        let stop = Some(Stop { turn, what: What::Crash { lost } });
        // Its second page may be done, and the lines of both be lost; then its first page fails.
        run(&mut world, &rows, &RunOptions { stop, ..how.clone() });
        for mode in [Mode::Resume, FAILED_AGAIN, ALL_AGAIN, ALL_AGAIN] {
            run(&mut world, &rows, &RunOptions { mode, ..how.clone() });
        }
        assert!(world.peer.begun(1) >= 2 && outcomes(&world).len() >= 2, "crashed at turn {turn}, {lost} bytes lost");
    }
}

#[test]
fn a_page_that_was_started_stays_in_doubt_when_the_line_before_it_is_lost_and_its_next_attempt_is_refused() {
    let rows = [(1, Some(Script { pages: 2, ..Script::unsafe_row([]) }))];
    let how = RunOptions { paged: true, ..RunOptions::default() };
    let cases = (0..40).flat_map(|turn| [(turn, false), (turn, true)]);
    let mut tried = 0;
    for (turn, is_adopted) in cases {
        let mut world = World::new();
        // Both pages are carried out, and the second is not answered; then its line and its answer are lost.
        world.peer.next_at(1, 2, [HANGS, WRONG, WRONG]);
        run(&mut world, &rows, &RunOptions { stop: crash(HANGS_AT), ..how.clone() });
        assert_eq!((world.peer.begun(1), world.lines().len()), (2, 1), "of the first run");
        world.cut(5);
        if is_adopted {
            world.lose_run_file();
        }
        run(&mut world, &rows, &RunOptions { adopt: is_adopted, ..how.clone() });
        assert_eq!(outcomes(&world), [(OutcomeKind::Ambiguous, Effect::Maybe)]);
        // It is done again, and killed in between.
        run(&mut world, &rows, &RunOptions { mode: ALL_AGAIN, stop: crash(turn), ..how.clone() });
        run(&mut world, &rows, &RunOptions { mode: ALL_AGAIN, ..how.clone() });
        let ends = outcomes(&world);
        if ends.len() < 2 {
            continue;
        }
        tried += 1;
        assert_eq!(ends, [(OutcomeKind::Ok, Effect::Done), (OutcomeKind::Ambiguous, Effect::Maybe)], "turn {turn}");
        let begun = world.peer.begun(1);
        for mode in [Mode::Resume, FAILED_AGAIN] {
            run(&mut world, &rows, &RunOptions { mode, ..how.clone() });
        }
        assert_eq!(world.peer.begun(1), begun, "it was sent again");
    }
    assert!(tried > 40, "{tried}");
}

#[test]
fn what_may_have_been_started_and_is_not_in_the_input_of_the_run_that_adopts_the_results_is_not_started_again() {
    for (identity, first, mode) in [
        (Identity::Id, Mode::Resume, Mode::Resume),
        (Identity::Content, Mode::Resume, Mode::Resume),
        (Identity::Id, FAILED_AGAIN, Mode::Resume),
        (Identity::Content, Mode::Resume, ALL_AGAIN),
    ] {
        let mut world = World::new();
        let how = RunOptions { identity, limit: 1, ..RunOptions::default() };
        let rows = rows(4, &Script::unsafe_row([]));
        world.peer.next_at(1, 1, [WRONG, SLOW]);
        run(&mut world, &rows, &RunOptions { max_failures: Some(1), ..how.clone() });
        // Some of those that were cancelled are started, and what tells that is lost.
        run(&mut world, &rows, &RunOptions { mode: first, stop: crash(12), limit: 3, ..how.clone() });
        world.lose_run_file();
        run(&mut world, &rows[..1], &RunOptions { mode, adopt: true, ..how.clone() });
        let begun = world.peer.ledger.borrow().iter().filter(|begun| begun.content > 1).count();
        for mode in [Mode::Resume, FAILED_AGAIN] {
            run(&mut world, &rows, &RunOptions { mode, ..how.clone() });
        }
        let again = world.peer.ledger.borrow().iter().filter(|begun| begun.content > 1).count();
        assert!(begun > 0 && again == begun, "{identity:?}, {mode:?}: {begun} were started, then {again}");
    }
}

#[test]
fn a_row_that_a_killed_run_had_started_is_in_doubt_in_its_line_though_the_next_run_stops_before_its_turn() {
    let natural = Script { repeatable: true, ..Script::unsafe_row([]) };
    for (identity, script, keys, ended) in [
        (Identity::Row, Script::unsafe_row([]), None, OutcomeKind::Ambiguous),
        (Identity::Content, Script::unsafe_row([]), None, OutcomeKind::Ambiguous),
        (Identity::Row, Script::unsafe_row([]), Some(0), OutcomeKind::Cancelled),
        (Identity::Id, Script::unsafe_row([]), Some(0), OutcomeKind::Cancelled),
        (Identity::Id, natural.clone(), None, OutcomeKind::Cancelled),
        (Identity::Content, natural, None, OutcomeKind::Cancelled),
    ] {
        let mut world = World::new();
        let how = RunOptions { identity, keys, limit: 1, keep_order: true, ..RunOptions::default() };
        let rows = rows(4, &script);
        world.peer.next_at(1, 1, [WRONG]);
        world.peer.next_at(2, 1, [HANGS]);
        run(&mut world, &rows, &RunOptions { max_failures: Some(1), ..how.clone() });
        assert_eq!(outcomes(&world)[1], (OutcomeKind::Cancelled, Effect::None));
        run(&mut world, &rows, &RunOptions { stop: crash(8), ..how.clone() });
        assert_eq!(world.peer.begun(2), 1, "{identity:?}");
        // Before it has read a row.
        for _ in 0..2 {
            let stop = Some(Stop { turn: 1, what: What::Drain });
            let end = run(&mut world, &rows, &RunOptions { stop, ..how.clone() });
            assert_eq!(end.report().counts.total(), 0);
            assert_eq!(outcomes(&world)[1], (ended, Effect::Maybe), "{identity:?}");
        }
        // In the way in which it could be repeated it is, and in no other.
        let other = RunOptions { keys: keys.map(|key| key + 1), ..how.clone() };
        run(&mut world, &rows, if keys.is_some() { &other } else { &how });
        let again = if script.repeatable { 2 } else { 1 };
        assert_eq!(world.peer.begun(2), again, "{identity:?}");
    }
}

#[test]
fn a_row_that_was_started_with_a_key_and_whose_next_run_was_stopped_goes_on_with_that_key() {
    let mut world = World::new();
    let how = RunOptions { keys: Some(0), limit: 1, ..RunOptions::default() };
    let rows = rows(3, &Script::unsafe_row([]));
    world.peer.next_at(1, 1, [WRONG]);
    world.peer.next_at(2, 1, [HANGS]);
    run(&mut world, &rows, &RunOptions { max_failures: Some(1), ..how.clone() });
    run(&mut world, &rows, &RunOptions { stop: crash(8), ..how.clone() });
    run(&mut world, &rows, &RunOptions { stop: Some(Stop { turn: 1, what: What::Drain }), ..how.clone() });
    assert_eq!(outcomes(&world)[1], (OutcomeKind::Cancelled, Effect::Maybe));
    run(&mut world, &rows, &how);
    assert_eq!((world.peer.begun(2), outcomes(&world)[1]), (2, (OutcomeKind::Ok, Effect::Done)));
}

#[test]
fn a_row_that_a_lost_run_may_have_started_without_its_key_is_not_started_with_it_once_it_is_back_in_the_input() {
    for (identity, mode) in [
        (Identity::Id, Mode::Resume),
        (Identity::Content, Mode::Resume),
        (Identity::Id, FAILED_AGAIN),
        (Identity::Row, FAILED_AGAIN),
    ] {
        for stays in [false, true] {
            if !stays && identity == Identity::Row {
                continue;
            }
            let mut world = World::new();
            let how = RunOptions { identity, limit: 1, ..RunOptions::default() };
            let rows = rows(3, &Script::unsafe_row([]));
            // Of a kind that resume runs again or not: it was repeatable by its key alone.
            world.peer.next_at(1, 1, [WRONG, WRONG, WRONG]);
            world.peer.next_at(3, 1, [WRONG]);
            run(&mut world, &rows, &RunOptions { keys: Some(0), ..how.clone() });
            world.peer.next_at(3, 1, [HANGS]);
            run(&mut world, &rows, &RunOptions { mode: FAILED_AGAIN, stop: crash(12), ..how.clone() });
            world.lose_run_file();
            let input = if stays { &rows[..] } else { &rows[..2] };
            run(&mut world, input, &RunOptions { adopt: true, ..how.clone() });
            let begun = world.peer.begun(3);
            for keys in [Some(0), None] {
                run(&mut world, &rows, &RunOptions { mode, keys, ..how.clone() });
            }
            assert_eq!((begun, world.peer.begun(3)), (2, 2), "{identity:?}, {mode:?}, {stays}");
        }
    }
}

#[test]
fn a_line_of_a_row_that_may_be_repeated_stays_when_the_results_are_adopted() {
    for identity in [Identity::Row, Identity::Content, Identity::Id] {
        let mut world = World::new();
        let mut rows = rows(3, &Script::unsafe_row([]));
        // Of a kind that no resume runs again.
        rows[2].1 = Some(Script { repeatable: true, ..Script::unsafe_row([WRONG]) });
        let how = RunOptions { identity, ..RunOptions::default() };
        run(&mut world, &rows, &RunOptions { stop_after: Some(Duration::from_secs(60)), ..how.clone() });
        let was = world.lines();
        world.lose_run_file();
        let end = run(&mut world, &rows, &RunOptions { adopt: true, ..how });
        assert_eq!((end.report().counts.total(), world.peer.begun(3), was.len()), (0, 1, 3), "{identity:?}");
    }
}

#[test]
fn a_page_that_a_lost_run_may_have_started_behind_one_with_a_key_is_not_started_without_it_once_its_row_is_back() {
    let rows = [(1, Some(Script { pages: 3, ..Script::unsafe_row([]) })), (2, Some(Script::unsafe_row([])))];
    let how = RunOptions { identity: Identity::Id, paged: true, ..RunOptions::default() };
    let mut world = World::new();
    world.peer.next_at(1, 2, [HANGS]);
    run(&mut world, &rows[..1], &RunOptions { keys: Some(0), stop: crash(HANGS_AT), ..how.clone() });
    assert_eq!((world.peer.begun(1), world.lines().len()), (2, 1), "of the first run");
    world.lose_run_file();
    run(&mut world, &rows[1..], &RunOptions { adopt: true, ..how.clone() });
    for mode in [Mode::Resume, FAILED_AGAIN] {
        run(&mut world, &rows, &RunOptions { mode, ..how.clone() });
    }
    assert_eq!(world.peer.begun(1), 2);
}

/// The first of three rows has failed and the others were cancelled, then all are started again by a run that is
/// killed, and its notes are lost. In which turn all have started is for the disk to say.
fn lost_in_flight(how: &RunOptions, rows: &[(u64, Option<Script>)]) -> World {
    let in_flight = (6..60).map(|turn| {
        let mut world = World::new();
        world.peer.next_at(1, 1, [WRONG, HANGS, WRONG]);
        (2..4).for_each(|content| world.peer.next_at(content, 1, [HANGS, WRONG]));
        run(&mut world, rows, &RunOptions { max_failures: Some(1), limit: 1, ..how.clone() });
        run(&mut world, rows, &RunOptions { mode: FAILED_AGAIN, stop: crash(turn), limit: 3, ..how.clone() });
        world.lose_run_file();
        world
    });
    let is_wanted = |world: &World| {
        [1, 2, 3].map(|content| world.peer.begun(content)) == [2, 1, 1]
            && outcomes(world).iter().all(|(_, effect)| *effect == Effect::None)
            && outcomes(world).len() == 3
    };
    in_flight.into_iter().find(is_wanted).expect("all were under way in one of those turns")
}

#[test]
fn what_a_lost_run_may_have_done_since_its_line_stays_in_doubt_whatever_becomes_of_the_attempt_that_was_asked_for() {
    let rows = rows(3, &Script::unsafe_row([]));
    for (identity, keys, turn) in [Identity::Row, Identity::Content, Identity::Id]
        .into_iter()
        .flat_map(|identity| [None, Some(0)].map(|keys| (identity, keys)))
        .flat_map(|(identity, keys)| [0, 1, 4, 8, 12].map(|turn| (identity, keys, turn)))
    {
        let how = RunOptions { identity, ..RunOptions::default() };
        let mut world = lost_in_flight(&how, &rows);
        // To its end, or stopped before.
        let stop = (turn > 0).then_some(Stop { turn, what: What::Drain });
        run(&mut world, &rows, &RunOptions { mode: ALL_AGAIN, adopt: true, keys, stop, limit: 1, ..how.clone() });
        assert_eq!(outcomes(&world), [(OutcomeKind::Ambiguous, Effect::Maybe); 3], "{identity:?}, {keys:?}, {turn}");
        let begun = world.peer.ledger.borrow().len();
        assert!(turn > 0 || begun == 7, "what the user has asked for was not done");
        for keys in [keys, None] {
            run(&mut world, &rows, &RunOptions { mode: FAILED_AGAIN, keys, ..how.clone() });
        }
        assert_eq!(world.peer.ledger.borrow().len(), begun, "{identity:?}, {keys:?}, {turn}: sent again");
    }
}

#[test]
fn a_line_keeps_what_it_says_of_its_row_when_that_is_not_in_the_input_of_the_run_that_adopts_the_results() {
    let rows = rows(3, &Script::unsafe_row([]));
    for (identity, mode) in [Identity::Id, Identity::Content]
        .into_iter()
        .flat_map(|identity| [Mode::Resume, FAILED_AGAIN, ALL_AGAIN].map(|mode| (identity, mode)))
    {
        let how = RunOptions { identity, ..RunOptions::default() };
        let mut world = lost_in_flight(&how, &rows);
        let was = world.lines();
        run(&mut world, &rows[..1], &RunOptions { mode, adopt: true, ..how.clone() });
        for line in world.lines() {
            assert_eq!((line.outcome, line.effect), (OutcomeKind::Ambiguous, Effect::Maybe), "{identity:?}, {mode:?}");
            let mut whole = was.iter().find(|was| was.row == line.row).expect("it had a line").whole.clone();
            for changed in ["outcome", "effect", "error"] {
                whole[changed] = line.whole[changed].clone();
            }
            assert!(line.row == 0 || whole == line.whole, "{identity:?}, {mode:?}: {whole} became {}", line.whole);
        }
    }
}
