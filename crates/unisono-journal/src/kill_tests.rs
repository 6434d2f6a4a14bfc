//! A run killed before each of its steps, or for which the disk fails there, in a process of its own, and what the next
//! run makes of that.
//!
//! A life is told by a scenario: which rows are there, what the killed run does with them, how it ends. It is run with
//! a kill or a failure at step 0, 1, 2 and so on until it gets through; after each, a run to which nothing happens
//! takes over, and has to know of every row what a ledger beside the results knows.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Command, Stdio},
};

use unisono_core::{Effect, OutcomeKind};

use crate::{
    Disposition, Fields, Finish, Identity, InputOrder, Journal, Mode, Next, Open, Record, Repeat, RowKey, scan,
    steps::InjectedFault,
};

const FOLDER_VARIABLE: &str = "UNISONO_TEST_FOLDER";
const SCENARIO_VARIABLE: &str = "UNISONO_TEST_SCENARIO";
const ROWS: u64 = 8;

#[derive(Debug, Clone, Copy)]
struct Scenario {
    name: &'static str,
    mode: Mode,
    overwrite: bool,
    identity: Identity,
    sort: bool,
    /// Rows that the input of the killed run no longer has.
    prune: u64,
    /// What is done to the results before it.
    before: Before,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Nothing,
    /// A run that ended, and left failed and cancelled rows.
    Ended,
    /// A run that was killed with rows in doubt.
    Killed,
    /// As that, and the file was renamed.
    Renamed,
    /// As that, and its last line is torn.
    Torn,
    /// A run that ended, and its last line, which must not be repeated, was torn since.
    TornSince,
    /// A run that ended, and whose lines were sorted since.
    Shuffled,
}

const SCENARIOS: &[Scenario] = &[
    Scenario { name: "begin", ..ANY },
    Scenario { name: "resume what ended", before: Before::Ended, ..ANY },
    Scenario { name: "resume what was killed", before: Before::Killed, ..ANY },
    Scenario { name: "resume what was renamed", before: Before::Renamed, ..ANY },
    Scenario { name: "resume what was torn", before: Before::Torn, ..ANY },
    Scenario { name: "resume what was torn since it ended", before: Before::TornSince, ..ANY },
    Scenario {
        name: "retry what was torn since it ended, by id",
        before: Before::TornSince,
        identity: Identity::Id,
        mode: Mode::RetryFailed { ambiguous: false },
        ..ANY
    },
    Scenario { name: "resume what was shuffled", before: Before::Shuffled, ..ANY },
    Scenario { name: "retry", before: Before::Ended, mode: Mode::RetryFailed { ambiguous: false }, ..ANY },
    Scenario {
        name: "retry what was killed",
        before: Before::Killed,
        mode: Mode::RetryFailed { ambiguous: false },
        ..ANY
    },
    Scenario {
        name: "retry all that was killed",
        before: Before::Killed,
        mode: Mode::RetryFailed { ambiguous: true },
        ..ANY
    },
    Scenario {
        name: "retry by content",
        before: Before::Killed,
        identity: Identity::Content,
        mode: Mode::RetryFailed { ambiguous: false },
        ..ANY
    },
    Scenario {
        name: "retry by id",
        before: Before::Killed,
        identity: Identity::Id,
        mode: Mode::RetryFailed { ambiguous: false },
        ..ANY
    },
    Scenario { name: "sort", before: Before::Killed, sort: true, ..ANY },
    Scenario { name: "prune", before: Before::Ended, identity: Identity::Content, prune: 2, ..ANY },
    Scenario { name: "prune all", before: Before::Ended, identity: Identity::Content, prune: ROWS, ..ANY },
    Scenario {
        name: "prune and sort",
        before: Before::Killed,
        identity: Identity::Content,
        prune: 2,
        sort: true,
        ..ANY
    },
    Scenario { name: "overwrite what was killed", before: Before::Killed, mode: Mode::Fresh, overwrite: true, ..ANY },
    Scenario { name: "overwrite what ended", before: Before::Ended, mode: Mode::Fresh, overwrite: true, ..ANY },
];

const ANY: Scenario = Scenario {
    name: "",
    mode: Mode::Resume,
    overwrite: false,
    identity: Identity::Row,
    sort: false,
    prune: 0,
    before: Before::Nothing,
};

/// What was done to the world, beside the results: a line for each start of a row that must not be repeated.
struct Ledger<'a>(&'a Path);

impl Ledger<'_> {
    fn start(&self, row: u64) {
        use std::io::Write;
        let mut file = fs::OpenOptions::new().append(true).create(true).open(self.0.join("ledger")).unwrap();
        writeln!(file, "{row}").unwrap();
    }

    fn started(&self) -> Vec<u64> {
        let text = fs::read_to_string(self.0.join("ledger")).unwrap_or_default();
        let mut rows: Vec<u64> = text.lines().map(|row| row.parse().unwrap()).collect();
        rows.sort_unstable();
        rows
    }
}

/// A run: takes its rows in, starts what should run, ends.
struct Run {
    open: Open,
    finish: fn(&mut crate::Recovered, &Scenario) -> Finish,
    /// How many rows it starts before it is dropped without an end; all for `None`.
    dies_after: Option<u64>,
    first_row: u64,
}

fn outcome_of(row: u64) -> (OutcomeKind, Effect) {
    match row % 4 {
        0 => (OutcomeKind::Ok, Effect::Done),
        1 => (OutcomeKind::Failed, Effect::None),
        2 => (OutcomeKind::Cancelled, Effect::None),
        _ => (OutcomeKind::Ambiguous, Effect::Maybe),
    }
}

fn append(journal: &Journal, key: RowKey, fingerprint: u64, outcome: OutcomeKind, effect: Effect) {
    let (mut fields, body) = (Fields::default(), Fields::default());
    fields.members().text("url", "http://localhost/");
    journal.append(&Record {
        key,
        id: &fingerprint.to_string(),
        fingerprint,
        outcome,
        effect,
        repeatable: false,
        idempotency_key: None,
        next: Next::Unknown,
        begun_to: 0,
        fields: &fields,
        body: &body,
    });
}

impl Run {
    /// Returns what it could not do, if the disk failed.
    fn live(&self, folder: &Path, path: &Path, scenario: &Scenario) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (journal, mut recovered) = Journal::open(path, self.open).map_err(|error| error.to_string())?;
        let ledger = Ledger(folder);
        let first = recovered.first_row();
        for (done, content) in (self.first_row..ROWS).enumerate() {
            let id = content.to_string();
            let (row, disposition) = recovered.dispose(first + done as u64, Some(&id), content).unwrap();
            let key = RowKey { row, page: 0 };
            match disposition {
                Disposition::Kept => {}
                Disposition::Run => {
                    let noted = runtime
                        .block_on(async { journal.noted(journal.note(key, Some(&id), content, Repeat::Never)).await });
                    if noted.is_err() {
                        // It does not start, and nor does anything after it.
                        break;
                    }
                    ledger.start(content);
                    if self.dies_after.is_some_and(|most| done as u64 >= most) {
                        // Neither an outcome nor an end: what is in doubt stays so.
                        drop(journal);
                        return Ok(());
                    }
                    let (outcome, effect) = outcome_of(content);
                    append(&journal, key, content, outcome, effect);
                }
                Disposition::Interrupted { key, .. } => {
                    append(&journal, key, content, OutcomeKind::Ambiguous, Effect::Maybe);
                }
                other => panic!("nothing is unsure here: {other:?}"),
            }
        }
        let finish = (self.finish)(&mut recovered, scenario);
        match journal.close_blocking(finish).failure {
            None => Ok(()),
            Some(failure) => Err(failure.to_string()),
        }
    }
}

fn plain(identity: Identity) -> Run {
    Run {
        open: Open { mode: Mode::Resume, identity, ..Open::default() },
        finish: |_, _| Finish { is_complete: true, ..Finish::default() },
        dies_after: None,
        first_row: 0,
    }
}

fn prepare(folder: &Path, scenario: &Scenario) -> std::path::PathBuf {
    let path = folder.join("r.jsonl");
    let killed = Run { dies_after: Some(5), ..plain(scenario.identity) };
    match scenario.before {
        Before::Nothing => {}
        Before::Ended => plain(scenario.identity).live(folder, &path, scenario).unwrap(),
        Before::Killed => killed.live(folder, &path, scenario).unwrap(),
        Before::Renamed => {
            killed.live(folder, &folder.join("before.jsonl"), scenario).unwrap();
            fs::rename(folder.join("before.jsonl"), &path).unwrap();
        }
        Before::Torn | Before::TornSince => {
            let run = if scenario.before == Before::Torn { killed } else { plain(scenario.identity) };
            run.live(folder, &path, scenario).unwrap();
            let length = fs::metadata(&path).unwrap().len();
            fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 9).unwrap();
        }
        Before::Shuffled => {
            plain(scenario.identity).live(folder, &path, scenario).unwrap();
            let text = fs::read_to_string(&path).unwrap();
            let lines: String = text.lines().rev().flat_map(|line| [line, "\n"]).collect();
            fs::write(&path, lines).unwrap();
        }
    }
    path
}

fn killed_run(scenario: &Scenario) -> Run {
    Run {
        open: Open {
            mode: scenario.mode,
            overwrite: scenario.overwrite,
            identity: scenario.identity,
            ..Open::default()
        },
        finish: |recovered, scenario| Finish {
            left_over: if scenario.prune > 0 { recovered.left_over() } else { Default::default() },
            sort: scenario.sort.then(InputOrder::default),
            is_complete: true,
            tells_anew: true,
            ..Finish::default()
        },
        dies_after: None,
        first_row: scenario.prune,
    }
}

/// Run by the tests below in a process of its own; does nothing where it is not said what.
#[test]
fn a_run_of_which_a_test_says_how_it_ends() {
    let (Ok(folder), Ok(number)) = (std::env::var(FOLDER_VARIABLE), std::env::var(SCENARIO_VARIABLE)) else { return };
    let scenario = &SCENARIOS[number.parse::<usize>().unwrap()];
    if let Err(why) = killed_run(scenario).live(Path::new(&folder), &Path::new(&folder).join("r.jsonl"), scenario) {
        eprintln!("told: {why}");
    }
}

/// What became of a run.
#[derive(Debug, PartialEq, Eq)]
enum Became {
    Killed,
    /// The disk failed at this step, and the run said so or not.
    Failed {
        step: String,
        is_told: bool,
    },
    Through,
}

/// Has this happen to it at this step.
fn run_with(folder: &Path, scenario: usize, fault: InjectedFault, step: u32) -> Became {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill_tests::a_run_of_which_a_test_says_how_it_ends", "--nocapture", "--test-threads=1"])
        .env(FOLDER_VARIABLE, folder)
        .env(SCENARIO_VARIABLE, scenario.to_string())
        .env(fault.variable(), step.to_string())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    match output.status.signal() {
        Some(9) => Became::Killed,
        None if output.status.success() => match text.lines().find_map(|line| line.strip_prefix("failed: ")) {
            None => Became::Through,
            Some(step) => Became::Failed { step: step.to_owned(), is_told: text.contains("told: ") },
        },
        _ => panic!("{}: {fault:?} at step {step}: {}: {text}", SCENARIOS[scenario].name, output.status),
    }
}

#[test]
fn a_kill_before_any_step_of_any_life_of_a_results_file_repeats_nothing_and_loses_nothing() {
    inject_at_each_step(InjectedFault::Killed);
}

#[test]
fn a_disk_that_fails_at_any_step_is_told_of_and_the_next_run_repeats_nothing_and_loses_nothing() {
    inject_at_each_step(InjectedFault::Fails);
}

#[test]
fn nor_does_it_when_the_disk_fails_from_any_step_on() {
    inject_at_each_step(InjectedFault::FailsFromThereOn);
}

fn inject_at_each_step(fault: InjectedFault) {
    let mut ends = 0;
    for (number, scenario) in SCENARIOS.iter().enumerate() {
        for step in 0.. {
            let folder = folder();
            let path = prepare(folder.path(), scenario);
            let before = Ledger(folder.path()).started();
            let became = run_with(folder.path(), number, fault, step);
            ends += u32::from(became != Became::Through);
            let what = format!("{}, {fault:?} at step {step}: {became:?}", scenario.name);
            check(folder.path(), &path, scenario, &before, &what);
            match became {
                Became::Through => break,
                Became::Failed { step, is_told: false } => {
                    assert_eq!(step, "run file: remove", "{what}: only what the next run puts right is not told");
                }
                _ => {}
            }
        }
    }
    assert!(ends > 100, "{ends} ends: the steps are there to end at");
}

/// In memory where that is to be had: what a sync does to a disk is not what is tried here, and there are thousands.
fn folder() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// What a run to which nothing happens makes of it.
fn check(folder: &Path, path: &Path, scenario: &Scenario, before: &[u64], what: &str) {
    let killed = Ledger(folder).started();
    let next = plain(scenario.identity);
    next.live(folder, path, scenario).unwrap_or_else(|why| panic!("{what}: {why}"));
    // Nothing was started twice, but for what its own line allowed: `ok` and what may have had an effect never.
    let after = Ledger(folder).started();
    for row in (0..ROWS).filter(|row| outcome_of(*row).1 != Effect::None) {
        let count = |rows: &[u64]| rows.iter().filter(|one| **one == row).count();
        // Overwritten, taken out, or wanted once more whatever it did: the user has said that it begins anew.
        let is_wanted = scenario.mode == Mode::RetryFailed { ambiguous: true } && outcome_of(row).1 == Effect::Maybe;
        let begins_anew = scenario.overwrite || row < scenario.prune || is_wanted;
        let most = if begins_anew { count(before) + 1 } else { 1 };
        assert!(count(&after) <= most, "{what}: row {row} was started {} times", count(&after));
        assert!(count(&killed) <= most, "{what}: row {row}");
    }
    // Every row has its line, once, and the file is closed and alone.
    let text = fs::read_to_string(path).unwrap();
    let mut contents: Vec<u64> = text.lines().map(|line| scan(line.as_bytes()).expect(line).fingerprint).collect();
    contents.sort_unstable();
    assert_eq!(contents, (0..ROWS).collect::<Vec<_>>(), "{what}");
    let marks: Vec<_> = text.lines().map(|line| crate::line::Mark::of(line.as_bytes())).collect();
    assert!(marks[0].is_some_and(|mark| !mark.is_open), "{what}: {text}");
    assert!(marks[1..].iter().all(Option::is_none), "{what}: {text}");
    let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["ledger", "r.jsonl"], "{what}");
}
