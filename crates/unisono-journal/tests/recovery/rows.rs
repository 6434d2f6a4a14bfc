//! Rows that are known again, and inputs that have changed.

use std::fs;

use unisono_core::{Effect, OutcomeKind};
use unisono_journal::{Disposition, Finish, Identity, Journal, Mode, Next, Open, Record, Repeat, RowKey, scan};

use crate::support::{RESUME, fingerprint, folder, interrupted, names, record, resume, write};

#[test]
fn a_changed_input_is_refused_and_the_first_row_that_differs_is_named() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    write(&path, 0..3000);
    for changed in [0, 1023, 1024, 1500, 2999] {
        let mut recovered = resume(&path);
        let fingerprint = |row| fingerprint(row) ^ u64::from(row >= changed);
        let error = (0..3000).find_map(|row| recovered.dispose(row, None, fingerprint(row)).err()).unwrap();
        assert!(error.to_string().contains(&format!("row {changed} is not what it was")), "{error}");
    }
    let mut recovered = resume(&path);
    (0..2000).for_each(|row| drop(recovered.dispose(row, None, fingerprint(row)).unwrap().1));
    assert!(
        recovered
            .end_of_input()
            .unwrap_err()
            .to_string()
            .contains("it ends with row 1999, the results go up to row 2999")
    );
}

#[test]
fn what_may_have_been_carried_out_runs_again_only_when_it_bears_it_or_the_user_asks_for_what_is_ambiguous() {
    let kinds = [OutcomeKind::Failed, OutcomeKind::TimedOut, OutcomeKind::Cancelled, OutcomeKind::Ambiguous];
    let modes = [Mode::Resume, Mode::RetryFailed { ambiguous: false }, Mode::RetryFailed { ambiguous: true }];
    for (kind, effect, repeatable) in kinds.into_iter().flat_map(|kind| {
        Effect::ALL.into_iter().flat_map(move |effect| [true, false].map(|repeatable| (kind, effect, repeatable)))
    }) {
        let again = modes.map(|mode| {
            let folder = folder();
            let path = folder.path().join("r.jsonl");
            let (journal, _) = Journal::open(&path, Open::default()).unwrap();
            journal.append(&Record { effect, repeatable, ..record(0, kind) });
            journal.close_blocking(Finish::default());
            let (_, mut recovered) = Journal::open(&path, Open { mode, ..Open::default() }).unwrap();
            recovered.dispose(0, None, fingerprint(0)).unwrap().1 == Disposition::Run
        });
        let harmless = effect == Effect::None || repeatable;
        let expected = match kind {
            OutcomeKind::Cancelled => [harmless, harmless, true],
            OutcomeKind::Ambiguous => [false, false, true],
            _ => [false, harmless, true],
        };
        assert_eq!(again, expected, "{kind} {effect} {repeatable}");
    }
}

#[test]
fn rows_known_by_their_ids_may_stand_anywhere_and_what_is_kept_must_ask_for_the_same() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    let by_id = Open { mode: Mode::Resume, identity: Identity::Id, ..Open::default() };
    let (journal, _) = Journal::open(&path, RESUME).unwrap();
    for (row, id, outcome) in
        [(0, "a", OutcomeKind::Ok), (1, "b\"", OutcomeKind::Cancelled), (2, "c", OutcomeKind::Failed)]
    {
        journal.append(&Record { id, ..record(row, outcome) });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(journal.started(RowKey { row: 3, page: 0 }, Some("d"), 8, Repeat::Never)).unwrap();
    drop(journal);
    let open = || Journal::open(&path, by_id).unwrap();
    let (journal, mut recovered) = open();
    assert_eq!((recovered.first_row(), recovered.is_checked(9)), (4, false));
    let interrupted = interrupted(3);
    let expected = [
        (Some("d"), 8, (3, interrupted)),
        (Some("new"), 1, (5, Disposition::Run)),
        // It runs again, so it may ask for something else.
        (Some("b\""), 1, (1, Disposition::Run)),
        (None, 1, (7, Disposition::Run)),
        (Some("a"), fingerprint(0), (0, Disposition::Kept)),
    ];
    for ((id, fingerprint, expected), row) in expected.into_iter().zip(4..) {
        assert_eq!(recovered.dispose(row, id, fingerprint).unwrap(), expected, "{id:?}");
    }
    assert_eq!(recovered.gone(9).unwrap(), (1, vec!["c".to_owned()]));
    // A row without an id is named after its place.
    for (id, fingerprint, says) in [
        (Some("r3"), 2, "two rows of the input have the id `r3`"),
        (Some("c"), 1, "the row `c` asks for something else than it did when it was row 2"),
    ] {
        let error = recovered.dispose(9, id, fingerprint).unwrap_err();
        assert!(error.to_string().contains(says) && error.hint().is_some() && error.is_usage(), "{error}");
    }
    assert_eq!(recovered.dispose(9, Some("c"), fingerprint(2)).unwrap(), (2, Disposition::Kept));
    assert!(recovered.is_checked(0));
    drop(journal);
    let (_journal, mut recovered) = open();
    assert!(recovered.dispose(4, Some("d"), 9).is_err(), "what is in doubt asks for the same, too");
}

#[test]
fn pages_go_on_after_the_last_one_that_was_written() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    let (journal, _) = Journal::open(&path, Open::default()).unwrap();
    let page = |row, page, next| Record { key: RowKey { row, page }, next, ..record(row, OutcomeKind::Ok) };
    journal.append(&page(0, 1, Next::Page("/a?page=2")));
    journal.append(&page(1, 1, Next::Page("/b?page=2")));
    journal.append(&page(0, 2, Next::Page("/a?page=3")));
    journal.append(&page(1, 2, Next::Last));
    journal.close_blocking(Finish::default());
    let mut recovered = resume(&path);
    let first = recovered.dispose(0, None, fingerprint(0)).unwrap().1;
    assert_eq!(first, Disposition::Continue { page: 2, next: "/a?page=3".into(), begun_to: 0 });
    assert_eq!(recovered.dispose(1, None, fingerprint(1)).unwrap().1, Disposition::Kept);
}

#[test]
fn rows_known_by_content_may_come_in_any_order_and_equal_ones_are_counted() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    let by_content = Open { mode: Mode::Resume, identity: Identity::Content, ..Open::default() };
    let (journal, _) = Journal::open(&path, by_content).unwrap();
    // Rows 0 and 1 ask for the same; row 2 is started, and its outcome never written.
    for (row, content) in [(0, 7), (1, 7), (3, 9)] {
        journal.append(&Record { fingerprint: content, ..record(row, OutcomeKind::Ok) });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(journal.started(RowKey { row: 2, page: 0 }, Some("an id"), 8, Repeat::Never)).unwrap();
    journal.close_blocking(Finish::default());
    let (_journal, mut recovered) = Journal::open(&path, by_content).unwrap();
    assert_eq!((recovered.first_row(), recovered.is_checked(0)), (4, true));
    assert_eq!(recovered.left_over().count(), 3);
    let interrupted = interrupted(2);
    let expected = [
        (9, Disposition::Kept),
        (8, interrupted),
        (8, Disposition::Run),
        (7, Disposition::Kept),
        (7, Disposition::Kept),
        (7, Disposition::Run),
        (5, Disposition::Run),
    ];
    for ((content, disposition), row) in expected.into_iter().zip(4..) {
        assert_eq!(recovered.dispose(row, None, content).unwrap().1, disposition, "row {row}");
    }
    assert_eq!(recovered.left_over().count(), 0);
    recovered.end_of_input().unwrap();
}

#[test]
fn a_file_that_tells_its_rows_apart_by_another_rule_is_refused_if_some_must_not_be_repeated() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    let by = |version| Open { identity: Identity::Content, version, ..RESUME };
    let line = |repeatable, effect| Record { repeatable, effect, ..record(0, OutcomeKind::Ok) };
    let refused = [line(false, Effect::Done), line(false, Effect::Maybe)];
    let taken = [line(true, Effect::Done), line(false, Effect::None)];
    for (had, wanted) in [(1, 2), (2, 1), (2, 3)] {
        for (line, is_refused) in refused.iter().zip([true; 2]).chain(taken.iter().zip([false; 2])) {
            let (journal, _) = Journal::open(&path, by(had)).unwrap();
            journal.append(line);
            journal.close_blocking(Finish::default());
            let before = fs::read(&path).unwrap();
            drop(Journal::open(&path, by(had)).unwrap());
            match Journal::open(&path, by(wanted)) {
                Err(error) => {
                    assert!(is_refused && error.is_usage(), "{error}");
                    assert!(error.to_string().contains("by another rule"), "{error}");
                    assert_eq!(names(&folder), ["r.jsonl"]);
                    assert_eq!(fs::read(&path).unwrap(), before);
                }
                Ok((journal, _)) => {
                    assert!(!is_refused);
                    // From now on it is one of the other rule, whatever comes.
                    journal.append(&Record { key: RowKey { row: 1, page: 0 }, ..refused[0] });
                    journal.close_blocking(Finish::default());
                    Journal::open(&path, by(had)).unwrap_err();
                    assert_eq!(Journal::open(&path, by(wanted)).unwrap().1.counts().total(), 2);
                }
            }
            fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn what_was_noted_by_another_rule_is_refused_and_a_file_without_anything_is_taken() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    let by = |version| Open { identity: Identity::Content, version, ..RESUME };
    drop(Journal::open(&path, by(1)).unwrap());
    let (journal, _) = Journal::open(&path, by(2)).unwrap();
    assert!(fs::read_to_string(&path).unwrap().ends_with("\"open\":1,\"identity\":2,"));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(journal.started(RowKey { row: 0, page: 0 }, Some("an id"), 7, Repeat::Never)).unwrap();
    drop(journal);
    assert!(Journal::open(&path, by(1)).unwrap_err().to_string().contains("by another rule"));
    let (_journal, mut recovered) = Journal::open(&path, by(2)).unwrap();
    let doubt = interrupted(0);
    assert_eq!(recovered.dispose(1, None, 7).unwrap().1, doubt);
}

#[test]
fn lines_that_an_input_has_no_row_for_can_be_taken_out() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    let by_content = Open { mode: Mode::Resume, identity: Identity::Content, ..Open::default() };
    write(&path, 0..5);
    let (journal, mut recovered) = Journal::open(&path, by_content).unwrap();
    for (row, content) in (5..).zip([fingerprint(3), fingerprint(1), 77]) {
        recovered.dispose(row, None, content).unwrap();
    }
    journal.append(&Record { fingerprint: fingerprint(0), ..record(7, OutcomeKind::Ok) });
    let finish = Finish { left_over: recovered.left_over(), ..Finish::default() };
    let gone = journal.close_blocking(finish).pruned;
    assert_eq!((gone.total(), gone.get(OutcomeKind::Ok)), (3, 3));
    let text = fs::read_to_string(&path).unwrap();
    let rows: Vec<u64> = text.lines().map(|line| scan(line.as_bytes()).unwrap().key.row).collect();
    assert_eq!(rows, [1, 3, 7], "what this run wrote stays, even if an old line asked for the same");
}

#[test]
fn pages_whose_lines_were_sorted_as_text_go_on_after_the_last_of_them() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    let line = |page, next| {
        Record { key: RowKey { row: 0, page }, next: Next::Page(next), ..record(0, OutcomeKind::Ok) }.line()
    };
    let (ten, two) = (line(10, "/a?page=11"), line(2, "/a?page=3"));
    fs::write(&path, [ten.as_slice(), &two].concat()).unwrap();
    let (journal, mut recovered) = Journal::open(&path, RESUME).unwrap();
    let last = Disposition::Continue { page: 10, next: "/a?page=11".into(), begun_to: 0 };
    assert_eq!(recovered.dispose(0, None, fingerprint(0)).unwrap(), (0, last));
    drop(journal);
    fs::write(&path, ten.repeat(2)).unwrap();
    let error = Journal::open(&path, RESUME).unwrap_err().to_string();
    assert!(error.contains("a page has two outcomes"), "{error}");
    // And the page that was the last comes first.
    let end = Record { key: RowKey { row: 0, page: 11 }, next: Next::Last, ..record(0, OutcomeKind::Ok) }.line();
    fs::write(&path, [end.as_slice(), &ten, &two].concat()).unwrap();
    let mut recovered = resume(&path);
    assert_eq!(recovered.dispose(0, None, fingerprint(0)).unwrap().1, Disposition::Kept);
    assert_eq!(recovered.counts().total(), 3);
    fs::write(&path, [end.as_slice(), &ten, &end].concat()).unwrap();
    let error = Journal::open(&path, RESUME).unwrap_err().to_string();
    assert!(error.contains("a row has two outcomes"), "{error}");
}
