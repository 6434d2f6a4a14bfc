//! The file itself: torn, damaged, in use, of another shape, begun and ended.

use std::{fs, path::Path};

use unisono_core::OutcomeKind;
use unisono_journal::{Disposition, Fate, Finish, Journal, Mode, Open, Record, Recovered, Repeat, RowKey, scan};

use crate::support::{RATE_LIMITED, RESUME, fingerprint, folder, names, record, resume, write};

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

fn kept(recovered: &mut Recovered, rows: u64) -> Vec<u64> {
    (0..rows)
        .filter(|row| recovered.dispose(*row, Some("an id"), fingerprint(*row)).unwrap().1 == Disposition::Kept)
        .collect()
}
