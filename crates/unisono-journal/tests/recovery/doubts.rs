//! What an earlier run had started, and what becomes of it: notes, and files that have lost them.

use std::{fs, path::Path};

use tempfile::TempDir;
use unisono_core::{Effect, OutcomeKind};
use unisono_journal::{Disposition, Finish, Gone, Identity, Journal, Mode, Next, Open, Record, Repeat, RowKey};

use crate::support::{RESUME, fingerprint, folder, interrupted, names, record, resume, write};

#[test]
fn what_was_started_and_has_no_outcome_is_in_doubt_after_a_crash() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    let (journal, _) = Journal::open(&path, Open::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for row in 0..3 {
        runtime
            .block_on(journal.started(RowKey { row, page: 0 }, Some("an id"), fingerprint(row), Repeat::Never))
            .unwrap();
    }
    journal.append(&record(1, OutcomeKind::Ok));
    drop(journal);
    let mut recovered = resume(&path);
    let dispositions: Vec<_> =
        (0..4).map(|row| recovered.dispose(row, Some("an id"), fingerprint(row)).unwrap().1).collect();
    let doubt = |row| interrupted(row);
    assert_eq!(dispositions, [doubt(0), Disposition::Kept, doubt(2), Disposition::Run]);
    recovered.end_of_input().unwrap();
}

#[test]
fn what_was_noted_by_a_run_without_an_outcome_is_in_doubt_whatever_becomes_of_its_run_file() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    let (journal, _) = Journal::open(&path, Open::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(journal.started(RowKey { row: 0, page: 0 }, Some("an id"), 7, Repeat::Never)).unwrap();
    drop(journal);
    let begun = fs::read(&path).unwrap();
    assert_eq!(begun.len(), 35);
    for torn in [35, 34, 20, 1] {
        fs::write(&path, &begun[..torn]).unwrap();
        let (journal, mut recovered) = Journal::open(&path, RESUME).unwrap();
        let doubt = interrupted(0);
        assert_eq!(recovered.dispose(0, Some("an id"), 7).unwrap().1, doubt, "cut at {torn}");
        drop(journal);
    }
    fs::remove_file(folder.path().join("r.jsonl.run")).unwrap();
    assert!(Journal::open(&path, RESUME).unwrap_err().to_string().contains("has not ended"));
    // Nor is it a new one where it was forgotten to say that it is to be gone on with.
    assert!(Journal::open(&path, Open::default()).unwrap_err().to_string().contains("exists already"));
}

#[test]
fn a_first_line_that_was_cut_anywhere_before_there_was_an_outcome_is_one_and_the_notes_say_what_was_started() {
    for (version, other) in [(1, 2), (2, 1), (2, 3)] {
        let folder = folder();
        let path = folder.path().join("r.jsonl");
        let by = |version, adopt| Open { identity: Identity::Content, version, adopt, ..RESUME };
        let (journal, _) = Journal::open(&path, by(version, false)).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(journal.started(RowKey { row: 0, page: 0 }, Some("an id"), 7, Repeat::Never)).unwrap();
        drop(journal);
        let (line, run) = (fs::read(&path).unwrap(), folder.path().join("r.jsonl.run"));
        let notes = fs::read(&run).unwrap();
        for (cut, adopt) in (0..=line.len()).flat_map(|cut| [(cut, false), (cut, true)]) {
            let bring = || {
                // The same file, which the run file knows.
                let file = fs::OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
                std::io::Write::write_all(&mut &file, &line[..cut]).unwrap();
                fs::write(&run, &notes).unwrap();
            };
            bring();
            let error = Journal::open(&path, by(other, adopt)).unwrap_err();
            assert!(error.to_string().contains("by another rule"), "cut at {cut}: {error}");
            bring();
            let (_journal, mut recovered) = Journal::open(&path, by(version, adopt)).unwrap();
            assert_eq!(recovered.dispose(1, None, 7).unwrap().1, interrupted(0), "cut at {cut}");
        }
        // Adopted without its notes.
        for cut in 0..=line.len() {
            fs::write(&path, &line[..cut]).unwrap();
            _ = fs::remove_file(&run);
            let (_journal, mut recovered) = Journal::open(&path, by(version, true)).unwrap();
            let unsure = Disposition::Unsure { otherwise: Box::new(Disposition::Run), has_ended: false };
            assert!(cut == 0 || recovered.dispose(1, None, 7).unwrap().1 == unsure, "cut at {cut}");
        }
    }
}

#[test]
fn a_torn_end_runs_again_only_where_it_says_that_it_may() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    let unsafe_record = Record { repeatable: false, effect: Effect::Maybe, ..record(1, OutcomeKind::Ok) };
    let (journal, _) = Journal::open(&path, RESUME).unwrap();
    journal.append(&record(0, OutcomeKind::Ok));
    journal.append(&unsafe_record);
    journal.close_blocking(Finish::default());
    let whole = fs::read(&path).unwrap();
    let start = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for cut in start + 1..whole.len() - 1 {
        fs::write(&path, &whole[..cut]).unwrap();
        let (journal, mut recovered) = Journal::open(&path, RESUME).unwrap();
        recovered.dispose(0, None, fingerprint(0)).unwrap();
        let disposition = recovered.dispose(1, Some("an id"), fingerprint(1)).unwrap().1;
        let is_settled = matches!(disposition, Disposition::Interrupted { .. } | Disposition::Unsure { .. });
        assert!(is_settled, "cut at {cut}: {disposition:?}");
        // A kill now forgets nothing of it, though the end is cut off.
        drop(journal);
        let (journal, mut recovered) = Journal::open(&path, RESUME).unwrap();
        recovered.dispose(0, None, fingerprint(0)).unwrap();
        assert_eq!(recovered.dispose(1, Some("an id"), fingerprint(1)).unwrap().1, disposition, "cut at {cut}");
        journal.append(&unsafe_record);
        journal.close_blocking(Finish { is_complete: true, ..Finish::default() });
        assert_eq!(names(&folder), ["r.jsonl"], "cut at {cut}");
    }
}

#[test]
fn a_run_file_that_was_cut_or_damaged_is_refused_until_the_results_are_adopted_and_then_nothing_is_believed() {
    let noted = [(0, "r0"), (1, "r1"), (2, "r2"), (3, "r3")];
    let of_run = |folder: &TempDir| folder.path().join("r.jsonl.run");
    let length = {
        let folder = folder();
        killed(&folder.path().join("r.jsonl"), &noted, 0..2);
        fs::metadata(of_run(&folder)).unwrap().len()
    };
    for lines in [0..0, 0..2] {
        // Each length is tried by the tests of the run file itself.
        for cut in (0..length).step_by(17) {
            let folder = folder();
            let path = folder.path().join("r.jsonl");
            killed(&path, &noted, lines.clone());
            fs::OpenOptions::new().write(true).open(of_run(&folder)).unwrap().set_len(cut).unwrap();
            let before = fs::read(&path).unwrap();
            let error = Journal::open(&path, RESUME).unwrap_err();
            assert!(error.hint().unwrap().contains("--adopt"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), before, "cut at {cut}");
            let (_journal, mut recovered) = Journal::open(&path, Open { adopt: true, ..RESUME }).unwrap();
            for row in 0..4 {
                let (_, disposition) = recovered.dispose(row, None, fingerprint(row)).unwrap();
                assert_ne!(disposition, Disposition::Run, "row {row}, cut at {cut}");
                assert_eq!(disposition == Disposition::Kept, lines.contains(&row), "row {row}, cut at {cut}");
            }
        }
    }
}

#[test]
fn what_is_no_run_file_is_not_taken_for_one_whatever_is_adopted() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    killed(&path, &[(0, "r0")], 0..0);
    fs::write(folder.path().join("r.jsonl.run"), "a letter").unwrap();
    for adopt in [false, true] {
        let error = Journal::open(&path, Open { adopt, ..RESUME }).unwrap_err();
        assert!(
            error.to_string().contains("not a run file") && error.hint().unwrap().contains("move it away"),
            "{error}"
        );
    }
    assert_eq!(fs::read_to_string(folder.path().join("r.jsonl.run")).unwrap(), "a letter");
}

#[test]
fn results_that_were_cut_behind_a_line_whose_note_is_gone_are_refused() {
    let noted = [(0, "r0"), (1, "r1"), (2, "r2")];
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    killed(&path, &noted, 0..2);
    // The next run lets the notes go of what has its line, and leaves in doubt what was.
    drop(Journal::open(&path, RESUME).unwrap());
    let whole = fs::read(&path).unwrap();
    for cut in (0..whole.len()).step_by(23) {
        fs::write(&path, &whole[..cut]).unwrap();
        let error = Journal::open(&path, RESUME).unwrap_err();
        assert!(error.to_string().contains("was cut") && error.hint().unwrap().contains("--adopt"), "{error}");
    }
    fs::write(&path, &whole).unwrap();
    drop(Journal::open(&path, RESUME).unwrap());
    // Nor is one believed that stands there empty after the first was removed.
    fs::remove_file(&path).unwrap();
    assert!(Journal::open(&path, RESUME).unwrap_err().to_string().contains("was cut"));
    let (_journal, mut recovered) = Journal::open(&path, Open { adopt: true, ..RESUME }).unwrap();
    let unsure = Disposition::Unsure { otherwise: Box::new(Disposition::Run), has_ended: false };
    assert_eq!(recovered.dispose(0, None, fingerprint(0)).unwrap().1, unsure);
}

#[test]
fn results_that_were_cut_where_all_that_is_gone_has_its_note_are_gone_on_with() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    killed(&path, &[(0, "r0"), (1, "r1"), (2, "r2")], 0..2);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let (_journal, mut recovered) = Journal::open(&path, RESUME).unwrap();
    for row in 0..3 {
        let (_, disposition) = recovered.dispose(row, None, fingerprint(row)).unwrap();
        assert_ne!(disposition, Disposition::Run, "row {row}");
    }
}

#[test]
fn what_was_on_its_way_and_has_no_line_is_known_by_what_it_asked_for_and_by_its_id() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    killed(&path, &[(0, "a"), (1, "b")], 0..0);
    for (id, content, says) in [
        (Some("a"), fingerprint(1), "row 0 is not what it was"),
        (Some("b"), fingerprint(0), "row 0 has another id"),
        (None, fingerprint(0), "row 0 has another id"),
    ] {
        let (_journal, mut recovered) = Journal::open(&path, RESUME).unwrap();
        let error = recovered.dispose(0, id, content).unwrap_err();
        assert!(error.to_string().contains(says) && error.is_usage() && error.hint().is_some(), "{error}");
    }
    let (_journal, mut recovered) = Journal::open(&path, RESUME).unwrap();
    recovered.dispose(0, Some("a"), fingerprint(0)).unwrap();
    let interrupted = interrupted(1);
    assert_eq!(recovered.dispose(1, Some("b"), fingerprint(1)).unwrap(), (1, interrupted));
}

#[test]
fn where_notes_are_lost_a_row_that_may_have_been_tried_again_is_not_known_not_to_have_been() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    let (journal, _) = Journal::open(&path, RESUME).unwrap();
    let failed = Record { repeatable: false, effect: Effect::None, ..record(0, OutcomeKind::Failed) };
    journal.append(&failed);
    journal.append(&Record { repeatable: true, ..Record { key: RowKey { row: 1, page: 0 }, ..failed } });
    journal.append(&Record { repeatable: false, ..record(2, OutcomeKind::Ok) });
    journal.close_blocking(Finish::default());
    let retry = |ambiguous| Open { mode: Mode::RetryFailed { ambiguous }, ..RESUME };
    let (journal, _) = Journal::open(&path, retry(false)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime
        .block_on(journal.started(RowKey { row: 3, page: 0 }, Some("another"), fingerprint(3), Repeat::Never))
        .unwrap();
    drop(journal);
    let run = folder.path().join("r.jsonl.run");
    let copy = folder.path().join("copy.jsonl");
    let [unsure, ended] =
        [false, true].map(|has_ended| Disposition::Unsure { otherwise: Box::new(Disposition::Run), has_ended });
    for (open, first, second) in [
        // It was repeatable perhaps by a key alone, which the run whose notes are lost need not have sent.
        (RESUME, unsure.clone(), ended),
        (retry(false), unsure.clone(), unsure.clone()),
        // A user who has looked may want it done, and yet it may have been done before.
        (retry(true), unsure.clone(), unsure),
    ] {
        for how in ["copied", "cut"] {
            let path = if how == "copied" { &copy } else { &path };
            let (_journal, mut recovered);
            let notes = fs::read(&run).unwrap();
            let lines = fs::read(folder.path().join("r.jsonl")).unwrap();
            if how == "copied" {
                fs::write(&copy, &lines).unwrap();
            } else {
                fs::write(&run, &notes[..notes.len() - 1]).unwrap();
            }
            (_journal, recovered) = Journal::open(path, Open { adopt: true, ..open }).unwrap();
            let mut of = |row, content| recovered.dispose(row, Some("an id"), fingerprint(content)).unwrap().1;
            assert_eq!(
                (of(0, 0), of(1, 0), of(2, 2)),
                (first.clone(), second.clone(), Disposition::Kept),
                "{how}, {open:?}"
            );
            drop(_journal);
            if how == "copied" {
                let _ = fs::remove_file(folder.path().join("copy.jsonl.run"));
            } else {
                fs::write(&run, &notes).unwrap();
                fs::write(path, &lines).unwrap();
            }
        }
    }
}

#[test]
fn what_was_on_its_way_says_how_it_could_be_repeated_and_what_comes_after_it_then() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let keyed = Repeat::by_key("k");
    let (journal, _) = Journal::open(&path, Open::default()).unwrap();
    let note = |journal: &Journal, row, page, repeat| {
        runtime.block_on(journal.started(RowKey { row, page }, Some("an id"), fingerprint(row), repeat)).unwrap();
    };
    note(&journal, 0, 0, keyed);
    note(&journal, 1, 1, keyed);
    let first_page = Record { key: RowKey { row: 1, page: 1 }, next: Next::Page("2"), ..record(1, OutcomeKind::Ok) };
    journal.append(&first_page);
    note(&journal, 1, 2, keyed);
    note(&journal, 2, 0, keyed);
    drop(journal);
    // Two runs that were killed, of which the second began one of them in another way.
    let (journal, _) = Journal::open(&path, RESUME).unwrap();
    for (number, row, repeat) in [(0, 0, keyed), (2, 2, Repeat::ByNature)] {
        journal.found(number, RowKey { row, page: 0 });
        note(&journal, row, 0, repeat);
    }
    drop(journal);
    let mut recovered = resume(&path);
    let doubt = |row, page, repeat, otherwise| {
        let is_adrift = page == 0 && repeat != Repeat::Never;
        let (found, otherwise) = (is_adrift.then_some(row as u32), Box::new(otherwise));
        Disposition::Interrupted { key: RowKey { row, page }, repeat, found, later: Vec::new(), otherwise }
    };
    let page = Disposition::Continue { page: 1, next: "2".into(), begun_to: 0 };
    let dispositions: Vec<_> =
        (0..3).map(|row| recovered.dispose(row, Some("an id"), fingerprint(row)).unwrap().1).collect();
    assert_eq!(
        dispositions,
        [doubt(0, 0, keyed, Disposition::Run), doubt(1, 2, keyed, page), doubt(2, 0, Repeat::Never, Disposition::Run)]
    );
}

#[test]
fn pages_whose_lines_are_lost_are_in_doubt_each_by_its_own_key_until_they_or_the_end_of_their_row_have_a_line() {
    let keyed = |page: u32| Repeat::by_key_of_twin(&format!("k{page}"), 4);
    let line = |page: u32, next| Record { key: RowKey { row: 1, page }, next, ..record(1, OutcomeKind::Ok) };
    let ends: [&[Record<'_>]; 3] = [&[line(1, Next::Page("2"))], &[line(1, Next::Last)], &[]];
    for (lines, left) in ends.into_iter().zip([vec![2, 3], vec![], vec![1, 2, 3]]) {
        let folder = folder();
        let path = folder.path().join("r.jsonl");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (journal, _) = Journal::open(&path, Open::default()).unwrap();
        for page in 1..4 {
            runtime.block_on(journal.started(RowKey { row: 0, page }, None, fingerprint(1), keyed(page))).unwrap();
        }
        drop(journal);
        // The next run finds the row elsewhere, and is killed as well.
        let (journal, mut recovered) = Journal::open(&path, RESUME).unwrap();
        assert_eq!(recovered.twins().collect::<Vec<_>>(), [(fingerprint(1), 4)]);
        assert_eq!(recovered.dispose(0, None, fingerprint(9)).unwrap().1, displaced(keyed(1)));
        let found = recovered.dispose(1, None, fingerprint(1)).unwrap().1;
        let Disposition::Interrupted { key, repeat, found: Some(number), later, .. } = found else {
            panic!("{found:?}")
        };
        assert_eq!((key, repeat), (RowKey { row: 1, page: 1 }, keyed(1)));
        assert_eq!(later.iter().map(|one| (one.page, one.repeat)).collect::<Vec<_>>(), [(2, keyed(2)), (3, keyed(3))]);
        journal.found(number, key);
        later.iter().for_each(|one| journal.found(one.found.unwrap(), RowKey { page: one.page, ..key }));
        lines.iter().for_each(|line| journal.append(line));
        let closed = journal.close_blocking(Finish::default());
        assert_eq!((closed.failure.is_none(), folder.path().join("r.jsonl.run").exists()), (true, !left.is_empty()));

        let mut recovered = resume(&path);
        recovered.dispose(0, None, fingerprint(9)).unwrap();
        let pages = match recovered.dispose(1, None, fingerprint(1)).unwrap().1 {
            Disposition::Interrupted { key, later, .. } => {
                [key.page].into_iter().chain(later.iter().map(|one| one.page)).collect()
            }
            Disposition::Kept => vec![],
            other => panic!("{other:?}"),
        };
        assert_eq!(pages, left);
    }
}

#[test]
fn a_torn_last_line_of_what_could_be_repeated_is_in_doubt_like_a_note() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    write(&path, 0..1);
    let keyed = Record { effect: Effect::Maybe, idempotency_key: Some("k"), ..record(1, OutcomeKind::Failed) };
    let line = keyed.line();
    let mut torn = fs::read(&path).unwrap();
    torn.extend_from_slice(&line[..line.len() - 3]);
    fs::write(&path, torn).unwrap();
    let mut recovered = resume(&path);
    recovered.dispose(0, Some("an id"), fingerprint(0)).unwrap();
    let Disposition::Interrupted { repeat, .. } = recovered.dispose(1, Some("an id"), fingerprint(1)).unwrap().1 else {
        panic!("it may have been done")
    };
    assert_eq!(repeat, Repeat::by_key("k"));
}

#[test]
fn what_was_killed_and_is_killed_again_in_another_order_is_in_doubt_wherever_it_stands() {
    let of = |content: u64| Some(Repeat::by_key(&content.to_string()));
    let line = |row, content| Record { fingerprint: content, ..record(row, OutcomeKind::Failed) };
    // Of the second run: the rows that it began, and those that it wrote a line of.
    for (begun, written) in [(&[0u64][..], 0), (&[0, 1, 2], 0), (&[0], 1), (&[0, 1], 2), (&[0, 1, 2], 1), (&[], 0)] {
        let folder = folder();
        let path = folder.path().join("r.jsonl");
        killed_with_keys(&path, &[(0, None, 10), (1, None, 11), (2, None, 12)]);
        let shuffled = [12, 10, 11];
        let (journal, mut recovered) = Journal::open(&path, RESUME).unwrap();
        for (row, content) in (0..).zip(shuffled) {
            let Disposition::Interrupted { key, found: Some(number), .. } =
                recovered.dispose(row, None, content).unwrap().1
            else {
                panic!("it had been started")
            };
            assert_eq!(key.row, row);
            journal.found(number, key);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for row in begun {
            let content = shuffled[*row as usize];
            let key = RowKey { row: *row, page: 0 };
            runtime.block_on(journal.started(key, None, content, of(content).unwrap())).unwrap();
        }
        (0..written).for_each(|row| journal.append(&line(row, shuffled[row as usize])));
        drop(journal);
        let written = written as usize;
        let expected = shuffled.iter().enumerate().map(|(at, content)| of(*content).filter(|_| at >= written));
        assert_eq!(doubts(&path, &shuffled), expected.collect::<Vec<_>>(), "{begun:?} begun, {written} written");
    }
}

#[test]
fn a_line_in_the_place_of_what_was_on_its_way_does_not_decide_it() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    killed_with_keys(&path, &[(0, None, 10)]);
    // Another row stands there, and its run ends well.
    let (journal, mut recovered) = Journal::open(&path, RESUME).unwrap();
    assert!(matches!(recovered.dispose(0, None, 77).unwrap().1, Disposition::Displaced { .. }));
    journal.append(&Record { fingerprint: 77, ..record(0, OutcomeKind::Ok) });
    assert_eq!(recovered.gone_in_doubt(9), (1, vec!["r0".to_owned()]));
    assert!(journal.close_blocking(Finish { is_complete: true, ..Finish::default() }).failure.is_none());
    assert_eq!(doubts(&path, &[77, 10]), [None, Some(Repeat::by_key("10"))]);
    assert!(names(&folder).contains(&"r.jsonl.run".to_owned()), "it is still in doubt");
}

#[test]
fn rows_that_ask_for_the_same_and_move_one_into_the_place_of_another_stay_as_many() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    let (key, other) = (Some(Repeat::by_key("5")), Some(Repeat::by_key("6")));
    killed_with_keys(&path, &[(1, None, 5), (2, None, 5), (3, None, 6)]);
    for input in [&[0, 0, 5, 6, 5][..], &[5, 5, 6, 0, 0], &[6, 0, 0, 5, 5]] {
        let (journal, mut recovered) = Journal::open(&path, RESUME).unwrap();
        // Killed before it came to the last.
        for (row, content) in (0..).zip(&input[..4]) {
            if let Disposition::Interrupted { key, found: Some(number), .. } =
                recovered.dispose(row, None, *content).unwrap().1
            {
                journal.found(number, key);
            }
        }
        drop(journal);
        let expected: Vec<_> = input
            .iter()
            .map(|content| [None, key, other][usize::from(*content > 0) + usize::from(*content > 5)])
            .collect();
        assert_eq!(doubts(&path, input), expected, "{input:?}");
    }
}

#[test]
fn what_was_tried_again_and_killed_is_in_doubt_whatever_the_next_run_repeats() {
    for identity in [Identity::Row, Identity::Content, Identity::Id] {
        let folder = folder();
        let path = folder.path().join("r.jsonl");
        let open = |mode| Journal::open(&path, Open { mode, identity, ..Open::default() }).unwrap();
        let failed = Record { effect: Effect::None, repeatable: false, ..record(0, OutcomeKind::Failed) };
        let (journal, _) = open(Mode::Resume);
        journal.append(&failed);
        journal.close_blocking(Finish::default());
        let (journal, _) = open(Mode::RetryFailed { ambiguous: false });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let keyed = Repeat::by_key("k");
        runtime.block_on(journal.started(RowKey { row: 0, page: 0 }, Some("an id"), fingerprint(0), keyed)).unwrap();
        drop(journal);
        for mode in [Mode::Resume, Mode::RetryFailed { ambiguous: false }, Mode::Resume] {
            let (journal, mut recovered) = open(mode);
            let (row, disposition) = recovered.dispose(recovered.first_row(), Some("an id"), fingerprint(0)).unwrap();
            let Disposition::Interrupted { repeat, .. } = disposition else { panic!("{identity:?}: {disposition:?}") };
            assert_eq!((row, repeat), (0, keyed));
            // It ends before there is an outcome.
            assert!(journal.close_blocking(Finish::default()).failure.is_none());
        }
    }
}

#[test]
fn what_was_on_its_way_and_is_gone_from_the_input_is_known_by_its_name() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    let by_id = Open { identity: Identity::Id, ..RESUME };
    let (long, whole) = ("x".repeat(1025), "ü".repeat(512));
    killed(&path, &[(0, ODD), (1, "b"), (2, ""), (3, "r3"), (4, &long), (5, &whole)], 0..0);
    let (journal, mut recovered) = Journal::open(&path, by_id).unwrap();
    let row = recovered.first_row();
    recovered.dispose(row, Some("b"), fingerprint(1)).unwrap();
    let gone = recovered.ambiguous_and_gone();
    let ids: Vec<_> = gone.iter().map(|gone| (gone.key.row, gone.id.as_str(), gone.fingerprint)).collect();
    let expected = [(0, ODD), (2, ""), (3, "r3"), (5, &whole)].map(|(row, id)| (row, id, fingerprint(row)));
    assert_eq!(ids, expected);
    assert_eq!(recovered.gone_in_doubt(1), (5, vec![ODD.to_owned()]));
    assert_eq!(recovered.gone(9).unwrap(), (0, vec![]));
    for gone in &gone {
        let Gone { key, id, fingerprint, .. } = gone;
        let ambiguous = Record {
            key: *key,
            id,
            fingerprint: *fingerprint,
            repeatable: false,
            ..record(key.row, OutcomeKind::Ambiguous)
        };
        journal.append(&ambiguous);
    }
    drop(journal);
    // They have their lines; those that have none are as they were.
    let (_journal, mut recovered) = Journal::open(&path, by_id).unwrap();
    let mut dispose = |id, row| recovered.dispose(recovered.first_row(), Some(id), fingerprint(row)).unwrap();
    assert_eq!(dispose(ODD, 0), (0, Disposition::Kept));
    assert_eq!(dispose(&whole, 5), (5, Disposition::Kept));
    assert_eq!(dispose("b", 1), (1, interrupted(1)));
    assert_eq!(dispose(&long, 4), (4, interrupted(4)));
    assert_eq!(recovered.gone(9).unwrap(), (2, vec![String::new(), "r3".to_owned()]));
}

#[test]
fn a_run_file_of_another_version_is_refused_and_nothing_is_touched() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    killed(&path, &[(0, "r0"), (1, "r1")], 0..1);
    let run = folder.path().join("r.jsonl.run");
    let mut bytes = fs::read(&run).unwrap();
    bytes[7] = b'4';
    fs::write(&run, &bytes).unwrap();
    let before = fs::read(&path).unwrap();
    let error = Journal::open(&path, RESUME).unwrap_err();
    assert!(error.to_string().contains("another version of unisono"), "{error}");
    assert!(error.hint().unwrap().contains("finish it with the version"), "{error}");
    assert_eq!((fs::read(&path).unwrap(), fs::read(&run).unwrap()), (before, bytes));
    let (_journal, mut recovered) = Journal::open(&path, Open { adopt: true, ..RESUME }).unwrap();
    assert_eq!(recovered.dispose(0, None, fingerprint(0)).unwrap().1, Disposition::Kept);
    assert!(matches!(recovered.dispose(1, None, fingerprint(1)).unwrap().1, Disposition::Unsure { .. }));
}

#[test]
fn a_run_that_ends_before_the_turn_of_a_row_that_was_started_leaves_no_line_that_denies_it() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let (journal, _) = Journal::open(&path, RESUME).unwrap();
    let cancelled = |row| Record { effect: Effect::None, ..record(row, OutcomeKind::Cancelled) };
    (0..4).for_each(|row| journal.append(&cancelled(row)));
    journal.close_blocking(Finish::default());
    let (journal, _) = Journal::open(&path, RESUME).unwrap();
    for (row, repeat) in [(0, Repeat::Never), (1, Repeat::ByNature), (2, Repeat::by_key("k"))] {
        runtime.block_on(journal.started(RowKey { row, page: 0 }, Some("an id"), fingerprint(row), repeat)).unwrap();
    }
    let closed = journal.close_blocking(Finish { tells_anew: true, ..Finish::default() });
    let told: Vec<(OutcomeKind, Effect, Repeat)> = fs::read_to_string(&path)
        .unwrap()
        .lines()
        .map(|line| unisono_journal::scan(line.as_bytes()).unwrap())
        .map(|head| (head.outcome, head.effect, head.repeat()))
        .collect();
    assert_eq!(
        told,
        [
            (OutcomeKind::Ambiguous, Effect::Maybe, Repeat::Never),
            (OutcomeKind::Cancelled, Effect::Maybe, Repeat::ByNature),
            (OutcomeKind::Cancelled, Effect::Maybe, Repeat::by_key("k")),
            (
                OutcomeKind::Cancelled,
                Effect::None,
                if cancelled(3).repeatable { Repeat::ByNature } else { Repeat::Never }
            ),
        ]
    );
    assert_eq!((closed.stayed.get(OutcomeKind::Ambiguous), closed.stayed.get(OutcomeKind::Cancelled)), (1, 3));
}

/// A run that noted these rows, each with its id, wrote the lines of some, and was killed.
fn killed(path: &Path, noted: &[(u64, &str)], lines: std::ops::Range<u64>) {
    let (journal, _) = Journal::open(path, RESUME).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (row, id) in noted {
        runtime
            .block_on(journal.started(RowKey { row: *row, page: 0 }, Some(id), fingerprint(*row), Repeat::Never))
            .unwrap();
    }
    for row in lines {
        let id = format!("r{row}");
        journal.append(&Record { id: &id, repeatable: false, ..record(row, OutcomeKind::Ok) });
    }
}

fn displaced(repeat: Repeat) -> Disposition {
    Disposition::Displaced { repeat, otherwise: Box::new(Disposition::Run) }
}

/// An id that no line holds as it is.
const ODD: &str = "a \\ \"";

/// A run that began these rows with keys and was killed.
fn killed_with_keys(path: &Path, rows: &[(u64, Option<&str>, u64)]) {
    let (journal, _) = Journal::open(path, RESUME).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for (row, id, content) in rows {
        let repeat = Repeat::by_key(&content.to_string());
        runtime.block_on(journal.started(RowKey { row: *row, page: 0 }, *id, *content, repeat)).unwrap();
    }
}

/// What the rows of this input, by what they ask for, may have done, and with which key.
fn doubts(path: &Path, contents: &[u64]) -> Vec<Option<Repeat>> {
    let mut recovered = resume(path);
    let mut doubt = |(row, content): (usize, &u64)| match recovered.dispose(row as u64, None, *content).unwrap().1 {
        Disposition::Interrupted { repeat, .. } => Some(repeat),
        _ => None,
    };
    contents.iter().enumerate().map(&mut doubt).collect()
}
