//! What a results file promises, on real files: torn, damaged, in use, changed, full.

use std::{fs, path::Path, sync::LazyLock};

use tempfile::TempDir;
use unisono_core::{Effect, OutcomeKind};
use unisono_journal::{
    Closed, Disposition, Fate, Fields, Finish, Gone, Identity, Journal, Mode, Next, Open, Record, Recovered, Repeat,
    RowKey, scan,
};

static URL: LazyLock<Fields> = LazyLock::new(|| {
    let mut fields = Fields::default();
    fields.members().text("url", "http://localhost/");
    fields
});
static BODY: LazyLock<Fields> = LazyLock::new(|| {
    let mut fields = Fields::default();
    fields.members().object("body", |body| body.list("a", |list| list.text("x")));
    fields
});
static RATE_LIMITED: LazyLock<Fields> = LazyLock::new(|| {
    let mut fields = Fields::default();
    fields.members().object("error", |error| error.text("kind", "rate_limited"));
    fields
});

fn record(row: u64, outcome: OutcomeKind) -> Record<'static> {
    Record {
        key: RowKey { row, page: 0 },
        id: "an id",
        fingerprint: fingerprint(row),
        outcome,
        effect: Effect::Maybe,
        repeatable: true,
        idempotency_key: None,
        next: Next::Unknown,
        begun_to: 0,
        fields: &URL,
        body: &BODY,
    }
}

fn interrupted(row: u64) -> Disposition {
    let otherwise = Box::new(Disposition::Run);
    Disposition::Interrupted {
        key: RowKey { row, page: 0 },
        repeat: Repeat::Never,
        found: None,
        later: Vec::new(),
        otherwise,
    }
}

fn fingerprint(row: u64) -> u64 {
    row.wrapping_mul(0x1234_5678_9abc_def1)
}

fn write(path: &Path, rows: impl IntoIterator<Item = u64>) -> Closed {
    let (journal, _) = Journal::open(path, Open { mode: Mode::Resume, ..Open::default() }).unwrap();
    for row in rows {
        journal.append(&record(row, OutcomeKind::Ok));
    }
    journal.close_blocking(Finish::default())
}

fn resume(path: &Path) -> Recovered {
    Journal::open(path, Open { mode: Mode::Resume, ..Open::default() }).unwrap().1
}

fn kept(recovered: &mut Recovered, rows: u64) -> Vec<u64> {
    (0..rows)
        .filter(|row| recovered.dispose(*row, Some("an id"), fingerprint(*row)).unwrap().1 == Disposition::Kept)
        .collect()
}

const RESUME: Open = Open { mode: Mode::Resume, overwrite: false, adopt: false, identity: Identity::Row, version: 1 };

fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_run_that_ends_well_leaves_only_its_results() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    assert_eq!(write(&path, 0..10).lines, 10);
    assert_eq!(names(&folder), ["r.jsonl"]);
    assert_eq!(kept(&mut resume(&path), 12), (0..10).collect::<Vec<_>>());
}

#[test]
fn a_file_cut_at_any_byte_keeps_its_whole_lines_and_takes_the_rest_again() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    write(&path, 0..4);
    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        // A line that lacks its line feed alone is whole.
        let lines = whole[..=cut].iter().filter(|byte| **byte == b'\n').count() as u64;
        let (journal, mut recovered) = Journal::open(&path, RESUME).unwrap();
        let rows: Vec<u64> = (0..4)
            .filter(|row| recovered.dispose(*row, Some("an id"), fingerprint(*row)).unwrap().1 == Disposition::Kept)
            .collect();
        assert_eq!(rows, (0..lines).collect::<Vec<_>>(), "cut at {cut}");
        (lines..4).for_each(|row| journal.append(&record(row, OutcomeKind::Ok)));
        journal.close_blocking(Finish { is_complete: true, ..Finish::default() });
        let after = fs::read(&path).unwrap();
        // The name of the run is another one when the first line was lost.
        assert_eq!(after[24..], whole[24..], "cut at {cut}");
        assert_eq!(names(&folder), ["r.jsonl"], "cut at {cut}");
    }
}

#[test]
fn a_file_damaged_at_any_byte_loses_no_other_line_silently() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    write(&path, 0..4);
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        for byte in [0, b'\n', b'x', whole[at] ^ 1] {
            let mut damaged = whole.clone();
            damaged[at] = byte;
            fs::write(&path, &damaged).unwrap();
            let line = whole[..at].iter().filter(|byte| **byte == b'\n').count() as u64;
            match Journal::open(&path, Open { mode: Mode::Resume, ..Open::default() }) {
                // Refused: the file is as it was, for the user to look at.
                Err(_) => assert_eq!(fs::read(&path).unwrap(), damaged),
                Ok((journal, _)) => {
                    drop(journal);
                    let after = fs::read(&path).unwrap();
                    let good: Vec<_> =
                        after.split(|byte| *byte == b'\n').filter_map(|line| Some(scan(line)?.key.row)).collect();
                    let others = (0..4).filter(|row| *row != line);
                    // The line before its newline's damage takes the next one with it.
                    let lost = others.filter(|row| !good.contains(row)).count();
                    assert!(lost <= usize::from(whole[at] == b'\n'), "byte {at} as {byte}: {good:?}");
                }
            }
        }
    }
}

#[test]
fn good_lines_after_a_bad_one_are_damage_and_nothing_is_touched() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    write(&path, 0..3);
    let mut bytes = fs::read(&path).unwrap();
    let second = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    bytes[second] = b'?';
    fs::write(&path, &bytes).unwrap();
    let error = Journal::open(&path, Open { mode: Mode::Resume, ..Open::default() }).unwrap_err().to_string();
    assert!(error.contains(&format!("damaged at line 2 (byte {second})")), "{error}");
    assert_eq!(fs::read(&path).unwrap(), bytes);
}

#[test]
fn what_is_not_ours_is_never_overwritten_unless_asked_for() {
    let folder = folder();
    let path = folder.path().join("thesis.txt");
    fs::write(&path, "It was a dark and stormy night\n").unwrap();
    for mode in [Mode::Fresh, Mode::Resume, Mode::RetryFailed { ambiguous: true }] {
        let error = Journal::open(&path, Open { mode, ..Open::default() }).unwrap_err();
        assert!(error.is_usage() && error.hint().is_some(), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "It was a dark and stormy night\n");
    }
    let open = Open { overwrite: true, ..Open::default() };
    Journal::open(&path, open).unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"");
}

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
    assert!(recovered.end_of_input().unwrap_err().to_string().contains("it has 2000 rows"));
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
fn a_row_that_runs_again_keeps_its_line_until_it_has_another_one() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    let (journal, _) = Journal::open(&path, Open::default()).unwrap();
    let kinds = OutcomeKind::ALL;
    kinds.iter().enumerate().for_each(|(row, kind)| journal.append(&record(row as u64, *kind)));
    let limited = Record { fields: &RATE_LIMITED, ..record(6, OutcomeKind::Failed) };
    journal.append(&limited);
    journal.close_blocking(Finish::default());
    let before = fs::read(&path).unwrap();
    let stays = |mode| {
        let (journal, mut recovered) = Journal::open(&path, Open { mode, ..Open::default() }).unwrap();
        let kept = kept(&mut recovered, 7);
        assert_eq!(journal.close_blocking(Finish::default()).stayed.total(), 7 - kept.len() as u64);
        assert_eq!(fs::read(&path).unwrap(), before, "nothing ran, so nothing has changed");
        kept
    };
    assert_eq!(stays(Mode::Resume), [0, 1, 2, 3, 5]);
    assert_eq!(stays(Mode::RetryFailed { ambiguous: false }), [0, 3, 5]);
    let mode = Mode::RetryFailed { ambiguous: true };
    assert_eq!(stays(mode), [0, 5]);
    let (journal, _) = Journal::open(&path, Open { mode, ..Open::default() }).unwrap();
    journal.append(&record(3, OutcomeKind::Ok));
    journal.append(&record(6, OutcomeKind::TimedOut));
    journal.close_blocking(Finish::default());
    let text = fs::read_to_string(&path).unwrap();
    let ends = text.lines().map(|line| scan(line.as_bytes()).map(|head| (head.key.row, head.outcome)).unwrap());
    let expected = [
        (0, kinds[0]),
        (1, kinds[1]),
        (2, kinds[2]),
        (4, kinds[4]),
        (5, kinds[5]),
        (3, OutcomeKind::Ok),
        (6, OutcomeKind::TimedOut),
    ];
    assert_eq!(ends.collect::<Vec<_>>(), expected);
}

#[test]
fn of_two_lines_that_a_killed_run_has_left_of_a_row_the_later_counts_and_the_earlier_goes() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    let (journal, _) = Journal::open(&path, Open::default()).unwrap();
    journal.append(&record(0, OutcomeKind::Failed));
    drop(journal);
    // Open, and its run file is lost: adopted.
    let mut text = fs::read_to_string(&path).unwrap().replace("\"open\":0", "\"open\":1");
    for (row, outcome) in [(1, OutcomeKind::Ok), (0, OutcomeKind::Cancelled), (0, OutcomeKind::Ok)] {
        text.push_str(std::str::from_utf8(&record(row, outcome).line()).unwrap());
    }
    fs::write(&path, text).unwrap();
    let mut told = Vec::new();
    let adopt = Open { adopt: true, ..RESUME };
    let (journal, mut recovered) =
        Journal::open_with(&path, adopt, |head, _, _| told.push((head.key.row, head.outcome))).unwrap();
    assert_eq!(told, [(1, OutcomeKind::Ok), (0, OutcomeKind::Ok)]);
    assert_eq!((kept(&mut recovered, 3), recovered.counts().total()), (vec![0, 1], 2));
    journal.close_blocking(Finish { is_complete: true, ..Finish::default() });
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 2);
}

#[test]
fn a_run_without_an_outcome_has_begun_its_first_line_and_takes_that_back_when_it_ends() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    let (journal, _) = Journal::open(&path, Open::default()).unwrap();
    let begun = fs::read(&path).unwrap();
    assert_eq!((&begun[..8], &begun[24..]), (&b"{\"run\":\""[..], &b"\",\"open\":1,"[..]));
    // To a copy it says that it is one.
    let copy = folder.path().join("copy.jsonl");
    fs::write(&copy, &begun).unwrap();
    for open in [RESUME, Open::default()] {
        let error = Journal::open(&copy, open).unwrap_err();
        assert!(error.is_usage(), "{error}");
        assert_eq!(fs::read(&copy).unwrap(), begun);
    }
    let (adopted, mut recovered) = Journal::open(&copy, Open { adopt: true, ..RESUME }).unwrap();
    let unsure = Disposition::Unsure { otherwise: Box::new(Disposition::Run), has_ended: false };
    assert_eq!(recovered.dispose(0, None, 7).unwrap(), (0, unsure));
    adopted.close_blocking(Finish { is_complete: true, ..Finish::default() });
    assert_eq!(fs::read(&copy).unwrap(), b"");
    journal.close_blocking(Finish::default());
    assert_eq!(fs::read(&path).unwrap(), b"");
    assert_eq!(names(&folder), ["copy.jsonl", "r.jsonl"]);
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
fn two_runs_on_one_file_are_refused() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    let (journal, _) = Journal::open(&path, Open::default()).unwrap();
    let error = Journal::open(&path, Open { mode: Mode::Resume, ..Open::default() }).unwrap_err();
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    drop(journal);
    resume(&path);
}

#[test]
fn a_device_that_takes_nothing_is_reported_and_not_waited_for() {
    let (journal, _) = Journal::open(Path::new("/dev/full"), Open::default()).unwrap();
    journal.append(&record(0, OutcomeKind::Ok));
    let closed = journal.close_blocking(Finish::default());
    assert_eq!((closed.lines, closed.lost), (0, 1));
    assert!(closed.failure.unwrap().to_string().contains("cannot write `/dev/full`"));
}

#[test]
fn a_folder_that_is_not_there_is_named() {
    let folder = folder();
    let error = Journal::open(&folder.path().join("no/r.jsonl"), Open::default()).unwrap_err();
    assert_eq!(error.hint(), Some("create the folder first"));
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

#[test]
fn a_last_line_that_is_broken_and_has_its_line_feed_is_no_kills_doing() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    for repeatable in [true, false] {
        let _ = fs::remove_file(&path);
        let (journal, _) = Journal::open(&path, RESUME).unwrap();
        journal.append(&record(0, OutcomeKind::Ok));
        journal.append(&Record { repeatable, ..record(1, OutcomeKind::Ok) });
        journal.close_blocking(Finish::default());
        let whole = fs::read_to_string(&path).unwrap();
        for broken in [format!("{}\n", &whole[..whole.len() - 2]), format!("{},}}\n", &whole[..whole.len() - 2])] {
            fs::write(&path, &broken).unwrap();
            let error = Journal::open(&path, RESUME).unwrap_err().to_string();
            assert!(error.contains("line 2") && error.contains("it is broken"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), broken, "nothing is touched");
        }
    }
}

#[test]
fn whoever_asks_is_given_each_line_and_told_whether_its_row_runs_again() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    let (journal, _) = Journal::open(&path, RESUME).unwrap();
    for (row, kind) in [(0, OutcomeKind::Ok), (1, OutcomeKind::Cancelled), (2, OutcomeKind::Failed)] {
        journal.append(&record(row, kind));
    }
    drop(journal);
    let mut rows = Vec::new();
    let (journal, _) = Journal::open_with(&path, RESUME, |head, line, fate| {
        assert_eq!(scan(line).unwrap(), *head);
        rows.push((head.key.row, fate));
    })
    .unwrap();
    drop(journal);
    assert_eq!(rows, [(0, Fate::Stays), (1, Fate::RunsAgain), (2, Fate::Stays)]);
}

#[test]
fn a_closed_file_says_so_and_an_open_one_does_not() {
    let folder = folder();
    let path = folder.path().join("r.jsonl");
    let digit = || fs::read(&path).unwrap()[33];
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    write(&path, 0..2);
    assert_eq!(digit(), b'0');
    let (journal, _) = Journal::open(&path, RESUME).unwrap();
    assert_eq!(digit(), b'1');
    runtime
        .block_on(journal.started(RowKey { row: 2, page: 0 }, Some("an id"), fingerprint(2), Repeat::Never))
        .unwrap();
    drop(journal);
    assert_eq!(digit(), b'1', "what is in doubt keeps it open");
    let (journal, _) = Journal::open(&path, RESUME).unwrap();
    journal.append(&record(2, OutcomeKind::Ambiguous));
    drop(journal);
    assert_eq!(digit(), b'0');
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
fn lines_whose_shape_another_program_has_changed_say_what_they_said_and_are_brought_into_shape() {
    let text = |path: &Path| fs::read_to_string(path).unwrap();
    let one = folder();
    let path = one.path().join("r.jsonl");
    write(&path, 0..3);
    let lines = text(&path);
    let other = one.path().join("other.jsonl");
    write(&other, 3..5);
    let joined = format!("{}{}", lines.trim_end(), text(&other));
    let shapes = [
        lines.replace('\n', "\r\n"),
        format!("{lines}\n\n \n"),
        format!("\n{}", lines.replace('\n', "\n\n")),
        format!("{lines}\r\n\t"),
        lines.trim_end().replace('\n', "\r\n"),
        lines.replace('\n', " "),
        joined,
    ];
    for shape in shapes {
        let rows = if shape.contains("\"row\":4") { 5 } else { 3 };
        fs::write(&path, &shape).unwrap();
        let (journal, mut recovered) =
            Journal::open(&path, RESUME).unwrap_or_else(|error| panic!("{error}: {shape:?}"));
        assert_eq!(kept(&mut recovered, rows), (0..rows).collect::<Vec<_>>(), "{shape:?}");
        let closed = journal.close_blocking(Finish { is_complete: true, ..Finish::default() });
        assert!(closed.failure.is_none(), "{closed:?}");
        let read = text(&path);
        assert_eq!(read.lines().count() as u64, rows, "{shape:?}");
        assert!(read.ends_with("}\n") && read.lines().all(|line| unisono_journal::scan(line.as_bytes()).is_some()));
    }
    // What is there beside the outcomes is damage as before, and empty lines alone are no results.
    for (shape, says) in [
        (lines.replacen('\n', "x\n", 1), "line 1"),
        (lines.replacen('\n', "\r\n\n{\n", 1), "line 3"),
        ("\r\n\n".to_owned(), "not a results file"),
    ] {
        fs::write(&path, &shape).unwrap();
        assert!(Journal::open(&path, RESUME).unwrap_err().to_string().contains(says), "{shape:?}");
        assert_eq!(text(&path), shape);
    }
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
        // A user who has looked may want it done.
        (retry(true), Disposition::Run, Disposition::Run),
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

fn displaced(repeat: Repeat) -> Disposition {
    Disposition::Displaced { repeat, otherwise: Box::new(Disposition::Run) }
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
