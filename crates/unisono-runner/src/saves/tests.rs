//! Names and files, with runs that are killed anywhere between the two; and bodies that break off.

use std::{collections::HashMap, fs, io, os::unix::fs::symlink, path::Path};

use proptest::prelude::*;
use unisono_core::{Effect, OutcomeKind};
use unisono_http::BodyVersion;
use unisono_journal::{Disposition, Fields, Finish, Identity, Journal, Mode, Next, Open, Record, RowKey};

use crate::row::LineNumber;

use super::{Claimant, Earlier, ResultsFile, SavedFile, Saves, Saving, Target, names::Folders, with_suffix};

fn claimant(row: u64, fingerprint: u64) -> Claimant<'static> {
    Claimant { row, line: LineNumber::new(row + 1), id: None, fingerprint, is_precious: false }
}

fn fresh(folder: &Path) -> Saves {
    let saving = Saving { spool: folder.to_owned(), ..Saving::default() };
    Saves::open(saving, None, &Earlier::default()).unwrap()
}

async fn save(target: &Target, text: &str) -> io::Result<u64> {
    let text = text.to_owned();
    let part = target.fill(move |part| part.push(text.as_bytes())).await?;
    target.finish(part).await?.place()
}

#[test]
fn every_spelling_of_a_name_is_the_same_name() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("here/inner")).unwrap();
    symlink("here", root.join("there")).unwrap();
    symlink("there/x", root.join("to-x")).unwrap();
    symlink(root.join("here/inner"), root.join("inner")).unwrap();
    fs::write(root.join("file"), "").unwrap();
    for (one, other, same) in [
        ("x", "./x", true),
        ("x", "here/../x", true),
        ("x", "new/../x", true),
        ("x", "X", false),
        ("new/x", "new//./x", true),
        ("new/x", "new/deep/../x", true),
        ("here/x", "there/x", true),
        ("here/x", "to-x", true),
        // As the kernel sees it, and not by the letter: the folder above is that of the link's end.
        ("here/x", "inner/../x", true),
        ("x", "inner/../x", false),
        ("here/x", "here/x.stderr", false),
    ] {
        for names in [[one, other], [other, one]] {
            let mut saves = fresh(root);
            let claim = |saves: &mut Saves, row: u64| {
                let name = root.join(names[usize::try_from(row).unwrap()]);
                saves.claim(claimant(row, row), &[name]).map(drop)
            };
            claim(&mut saves, 0).unwrap();
            let second = claim(&mut saves, 1);
            assert_eq!(second.is_err(), same, "{names:?}");
            assert!(second.is_ok() || second.unwrap_err().why.contains("row `r0` (line 1)"));
        }
    }
    for bad in ["here", "here/", "file/x", "..", "."] {
        assert!(Folders::default().resolve(&root.join(bad)).is_err(), "{bad}");
    }
}

#[test]
fn a_folder_of_one_row_is_not_the_file_of_another() {
    let folder = tempfile::tempdir().unwrap();
    for names in [["new/deep/x", "new/deep"], ["new/deep", "new/deep/x"], ["new/deep/x", "new"]] {
        let mut saves = fresh(folder.path());
        saves.claim(claimant(0, 0), &[folder.path().join(names[0])]).unwrap();
        let why = saves.claim(claimant(1, 1), &[folder.path().join(names[1])]).unwrap_err().why;
        assert!(why.contains("row `r0` (line 1)"), "{why}");
    }
}

#[test]
fn a_row_gets_all_of_its_names_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let names = |one: &str, other: &str| [folder.path().join(one), folder.path().join(other)];
    let mut saves = fresh(folder.path());
    saves.claim(claimant(0, 0), &names("a", "b")).unwrap();
    assert!(saves.claim(claimant(1, 1), &names("c", "b")).is_err());
    saves.claim(claimant(2, 2), &names("c", "d")).unwrap();
}

#[tokio::test]
async fn what_another_row_has_put_there_is_never_replaced_whatever_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let saving = Saving { overwrite: true, spool: folder.path().to_owned(), ..Saving::default() };
    let mut saves = Saves::open(saving, None, &Earlier::default()).unwrap();
    let target = |saves: &mut Saves, row, name: &str| {
        saves.claim(claimant(row, row), &[folder.path().join(name)]).unwrap().remove(0)
    };
    let (first, second) = (target(&mut saves, 0, "x"), target(&mut saves, 1, "y"));
    save(&first, "first").await.unwrap();
    // What a file system does that knows no upper and lower case: one file answers to both names.
    fs::hard_link(folder.path().join("x"), folder.path().join("y")).unwrap();
    assert_eq!(save(&second, "second").await.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    save(&first, "again").await.unwrap();
    assert_eq!(fs::read_to_string(folder.path().join("x")).unwrap(), "again");
}

/// Spellings, and the file that each leads to.
const NAMES: [(&str, &str); 9] = [
    ("a", "a"),
    ("./a", "a"),
    ("there/../d/../a", "a"),
    ("link", "a"),
    ("d/b", "d/b"),
    ("there/b", "d/b"),
    ("new/c", "new/c"),
    ("new/deep/../c", "new/c"),
    ("foreign", "foreign"),
];

#[derive(Debug, Clone)]
struct Plan {
    /// By row: which name it asks for.
    rows: Vec<usize>,
    /// By run: the order of the input where rows may stand anywhere, the course of each row, and after how many steps
    /// the run is killed.
    runs: Vec<(Vec<u16>, Vec<Course>, usize)>,
    identity: Identity,
}

/// Where a row stands in the order of completion, and how it does.
type Course = (u16, Fortune);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fortune {
    /// It saves both of its files.
    Well,
    /// It saves the first, and has nothing for the second.
    Brief,
    /// It saves both, and fails all the same.
    FailedAfter,
    /// It fails before it has anything to save.
    FailedBefore,
}

fn plans() -> impl Strategy<Value = Plan> {
    let fortune =
        prop_oneof![Just(Fortune::Well), Just(Fortune::Brief), Just(Fortune::FailedAfter), Just(Fortune::FailedBefore)];
    let course = prop::collection::vec((any::<u16>(), fortune), 12);
    let run = (prop::collection::vec(any::<u16>(), 12), course, 0usize..60);
    let identity = prop_oneof![Just(Identity::Row), Just(Identity::Content), Just(Identity::Id)];
    (prop::collection::vec(0..NAMES.len(), 1..12), prop::collection::vec(run, 1..5), identity)
        .prop_map(|(rows, runs, identity)| Plan { rows, runs, identity })
}

/// The files that the row with this name writes to.
fn files(name: usize) -> [String; 2] {
    let (spelling, file) = NAMES[name];
    // A link to one file leads nowhere with something behind its name.
    [file.to_owned(), format!("{}.stderr", if spelling == "link" { spelling } else { file })]
}

/// One run over the rows in this order, killed after so many steps. Returns whether it came to its end.
async fn run_once(
    root: &Path,
    plan: &Plan,
    order: &[usize],
    course: &[Course],
    mut steps: usize,
    ours: &mut HashMap<String, usize>,
) -> bool {
    let path = root.join("results/r.jsonl");
    let open = Open { mode: Mode::RetryFailed { ambiguous: true }, identity: plan.identity, ..Open::default() };
    let mut earlier = Earlier::new(plan.identity);
    let (journal, mut recovered) =
        Journal::open_with(&path, open, |head, line, fate| earlier.take(head, line, fate)).unwrap();
    let saving = Saving { spool: root.to_owned(), ..Saving::default() };
    let mut saves = Saves::open(saving, Some(ResultsFile { path: &path, open, seed: 7 }), &earlier).unwrap();
    let line = |row: usize, number, outcome, saved: &[SavedFile]| {
        let (mut members, body) = (Fields::default(), Fields::default());
        members.members().text("x", "y");
        for file in saved {
            members.members().text(["saved", "saved_stderr"][file.place], file.name.to_str().unwrap());
        }
        journal.append(&Record {
            key: RowKey { row: number, page: 0 },
            id: &format!("r{row}"),
            fingerprint: 100 + row as u64,
            outcome,
            effect: Effect::None,
            repeatable: true,
            idempotency_key: None,
            next: Next::Unknown,
            begun_to: 0,
            fields: &members,
            body: &body,
        });
    };
    let mut running = Vec::new();
    for (position, row) in order.iter().enumerate() {
        let number = recovered.first_row() + position as u64;
        let (row, fingerprint) = (*row, 100 + *row as u64);
        let name = root.join(NAMES[plan.rows[row]].0);
        let names = vec![name.clone(), with_suffix(&name, ".stderr")];
        let (number, disposition) = recovered.dispose(number, Some(&format!("r{row}")), fingerprint).unwrap();
        if disposition == Disposition::Kept {
            saves.keep(claimant(number, fingerprint), names);
            continue;
        }
        match saves.claim(claimant(number, fingerprint), &names) {
            Ok(targets) => running.push((row, number, targets)),
            Err(refusal) => line(row, number, OutcomeKind::Failed, &refusal.own),
        }
    }
    running.sort_by_key(|(row, ..)| course[*row].0);
    for (row, number, targets) in running {
        let fortune = course[row].1;
        let mut is_killed = || {
            let now = steps == 0;
            steps = steps.saturating_sub(1);
            now
        };
        let mut filled = Vec::new();
        let count = match fortune {
            Fortune::FailedBefore => 0,
            Fortune::Brief => 1,
            Fortune::Well | Fortune::FailedAfter => 2,
        };
        for target in &targets[..count] {
            let text = format!("row {row}");
            let part = target.fill(move |part| part.push(text.as_bytes())).await.unwrap();
            if is_killed() {
                return false;
            }
            filled.push(target.finish(part).await.unwrap());
        }
        // Between the marks and the names, between the names, between these and the line, and after the line.
        for (place, filled) in filled.into_iter().enumerate() {
            if is_killed() {
                return false;
            }
            filled.place().unwrap();
            let file = files(plan.rows[row])[place].clone();
            let before = ours.insert(file.clone(), row);
            assert!(before.is_none_or(|before| before == row), "{file} has changed hands");
        }
        if fortune == Fortune::Brief {
            targets[1].clear().unwrap();
        }
        if is_killed() {
            return false;
        }
        let saved: Vec<_> = targets.iter().enumerate().filter_map(|(place, target)| target.own(place)).collect();
        let went_well = matches!(fortune, Fortune::Well | Fortune::Brief);
        line(row, number, if went_well { OutcomeKind::Ok } else { OutcomeKind::Failed }, &saved);
    }
    assert!(journal.close(Finish::default()).await.failure.is_none());
    saves.finish(true);
    true
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn each_file_is_its_owners_whatever_the_names_the_order_and_the_kills(plan in plans()) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("d")).unwrap();
        fs::create_dir_all(root.join("results")).unwrap();
        symlink("d", root.join("there")).unwrap();
        symlink("a", root.join("link")).unwrap();
        fs::write(root.join("foreign"), "mine").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut ours = HashMap::new();
        let last = (Vec::new(), vec![(0, Fortune::Well); plan.rows.len()], usize::MAX);
        for (run, (shuffle, course, kill)) in plan.runs.iter().chain([&last]).enumerate() {
            let mut order: Vec<usize> = (0..plan.rows.len()).collect();
            if plan.identity != Identity::Row {
                order.sort_by_key(|row| shuffle.get(*row).copied().unwrap_or(0));
            }
            let ended = runtime.block_on(run_once(root, &plan, &order, course, *kill, &mut ours));
            prop_assert!(ended || run < plan.runs.len());
        }
        let text = fs::read_to_string(root.join("results/r.jsonl")).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        prop_assert_eq!(lines.len(), plan.rows.len());
        for line in &lines {
            let row: usize = line["id"].as_str().unwrap()[1..].parse().unwrap();
            let [output, stderr] = files(plan.rows[row]);
            let is_owner = ours.get(&output) == Some(&row);
            prop_assert_eq!(line["outcome"] == "ok", is_owner, "{}", line);
            // What a line does not say, no row may replace any more.
            for (member, file) in [("saved", output), ("saved_stderr", stderr)] {
                let is_there = is_owner && root.join(file).exists();
                prop_assert_eq!(line.get(member).is_some(), is_there, "{}: {}", member, line);
            }
        }
        for (file, row) in ours.iter().filter(|(file, _)| root.join(file).exists()) {
            prop_assert_eq!(fs::read_to_string(root.join(file)).unwrap(), format!("row {row}"));
        }
        // Each name that was asked for and was free has its row.
        let asked = plan.rows.iter().map(|name| NAMES[*name].1).filter(|file| *file != "foreign");
        prop_assert!(asked.clone().all(|file| ours.contains_key(file)));
        prop_assert_eq!(fs::read_to_string(root.join("foreign")).unwrap(), "mine");
        for place in [root.to_owned(), root.join("d"), root.join("results")] {
            for entry in fs::read_dir(place).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                prop_assert!(!name.starts_with('.') && !name.ends_with(".saves"), "{} is left", name);
            }
        }
    }
}

/// How one attempt to get a body goes: it brings about so many bytes, in pieces of so many, and ends.
type BodyAttempt = (usize, usize, BodyEnd);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyEnd {
    BrokenOff,
    /// So does the process.
    Killed,
    /// Its server has another version by now.
    Changed,
}

fn body_attempts() -> impl Strategy<Value = Vec<BodyAttempt>> {
    let end = prop_oneof![4 => Just(BodyEnd::BrokenOff), 3 => Just(BodyEnd::Killed), 1 => Just(BodyEnd::Changed)];
    prop::collection::vec((0..2_000_000usize, 100_000..1_500_000usize, end), 0..6)
}

/// The target of one row, in a run that goes on.
fn target_of_one(root: &Path) -> Target {
    let path = root.join("r.jsonl");
    fs::OpenOptions::new().append(true).create(true).open(&path).unwrap();
    let open = Open { mode: Mode::Resume, ..Open::default() };
    let saving = Saving { spool: root.to_owned(), ..Saving::default() };
    let results = ResultsFile { path: &path, open, seed: 7 };
    let mut saves = Saves::open(saving, Some(results), &Earlier::default()).unwrap();
    saves.claim(claimant(0, 1), &[root.join("out/a")]).unwrap().remove(0)
}

async fn body_of_attempts(root: &Path, attempts: &[BodyAttempt]) {
    let content = |version: u8| {
        let pattern: Vec<u8> = (0..250).map(|at| at ^ version).collect();
        pattern.repeat(12_000)
    };
    let known = |version: u8| BodyVersion::noted(&format!("\"{version}\""), None).unwrap();
    let (mut version, mut target) = (0, target_of_one(root));
    for (most, piece, end) in attempts.iter().copied().chain([(usize::MAX, 1_000_000, BodyEnd::BrokenOff)]) {
        let begun = target.begun().await.unwrap();
        let is_same = begun.as_ref().is_some_and(|begun| begun.version() == Some(&known(version)));
        let mut growing = match begun {
            Some(begun) if is_same => begun,
            other => {
                if let Some(other) = other {
                    other.discard().await.unwrap();
                }
                target.begin(Some(known(version)))
            }
        };
        let from = usize::try_from(growing.length()).unwrap();
        let content = content(version);
        for piece in content[from..].chunks(piece).take(most.div_ceil(piece)) {
            growing = growing.push(piece.to_vec()).await.unwrap();
        }
        if most == usize::MAX {
            let part = growing.whole().await.unwrap();
            assert_eq!(target.finish(part).await.unwrap().place().unwrap(), 3_000_000);
            break;
        }
        drop(growing);
        match end {
            BodyEnd::BrokenOff => {}
            BodyEnd::Killed => target = target_of_one(root),
            BodyEnd::Changed => version += 1,
        }
    }
    assert!(fs::read(root.join("out/a")).unwrap() == content(version), "it is not the one that the server has");
    let left: Vec<_> = fs::read_dir(root.join("out")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["a"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_body_is_of_one_version_and_whole_wherever_its_attempts_and_runs_end(attempts in body_attempts()) {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(body_of_attempts(folder.path(), &attempts));
    }
}
