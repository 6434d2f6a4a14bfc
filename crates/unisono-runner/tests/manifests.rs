//! Manifests of ours check without a word more, whatever the names, algorithms and layout.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    rc::Rc,
};

use proptest::prelude::*;
use tokio::sync::mpsc::Receiver;
use unisono_core::{CancelToken, OutcomeKind};
use unisono_runner::{
    Destination, DigestResult, FileCall, Gauge, Manifests, Monitor, Outputs, Report, RowBatch, RowOutcome, SumPlan,
    VerifyOptions,
    file_tools::{
        FilesOptions, WalkOptions,
        manifest::{Layout, push_entry},
    },
    hash::Algorithm,
    sum, sum_settings, tree_rows, verify_rows,
};

use support::frame;

mod support;

/// Runs rows; each outcome is told.
fn run(rows: Receiver<RowBatch<FileCall>>, mut told: impl FnMut(&RowOutcome<DigestResult>) + 'static) -> Report {
    let frame = frame(rows, sum_settings(), Destination::Nothing);
    let listing = Box::new(move |outcome: &RowOutcome<DigestResult>| {
        told(outcome);
        Ok(())
    });
    let files = FilesOptions::default();
    let plan = SumPlan { frame, files, listing: Some(listing), manifest: None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(sum(plan, CancelToken::new(), Monitor::new(), Gauge::default())).unwrap()
}

fn manifest_of(root: &Path, algorithms: &[Algorithm], layout: Layout) -> Vec<u8> {
    let rows =
        tree_rows(vec![root.into()], None, WalkOptions::default(), algorithms.into(), Outputs::default()).unwrap();
    let lines = Rc::new(RefCell::new(Vec::new()));
    let into = lines.clone();
    run(rows, move |outcome| {
        let path = outcome.done.path.as_deref().unwrap();
        outcome.done.digests.iter().for_each(|digest| push_entry(path, digest, layout, &mut into.borrow_mut()));
    });
    lines.take()
}

/// Checks a manifest, and says how each entry ended, by name.
fn check(manifest: &Path, options: VerifyOptions) -> (Report, Manifests, Vec<(PathBuf, OutcomeKind)>) {
    let (rows, manifests) = verify_rows(&[manifest.into()], options).unwrap();
    let ends = Rc::new(RefCell::new(Vec::new()));
    let into = ends.clone();
    let report = run(rows, move |outcome| {
        into.borrow_mut().push((outcome.done.path.as_deref().unwrap().to_owned(), outcome.kind));
    });
    (report, manifests, ends.take())
}

/// Any name that a file can have.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![3 => prop::sample::select(&b" *\\\n\r\t()=a#{%"[..]), 1 => 1u8..];
    let name = prop::collection::vec(byte.prop_filter("parts of a path", |byte| *byte != b'/'), 1..30);
    name.prop_filter("folders", |name| !matches!(&name[..], b"." | b".."))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn a_manifest_of_any_names_algorithms_and_layout_checks_without_options(
        files in prop::collection::btree_map(name(), prop::collection::vec(any::<u8>(), 0..200), 1..6),
        algorithms in prop::sample::subsequence(&Algorithm::ALL[..], 1..4),
        tag: bool, zero: bool, changed: prop::sample::Index,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("tree");
        fs::create_dir(&root).unwrap();
        let files: BTreeMap<PathBuf, Vec<u8>> =
            files.into_iter().map(|(name, data)| (root.join(OsString::from_vec(name)), data)).collect();
        files.iter().for_each(|(path, data)| fs::write(path, data).unwrap());
        let manifest = folder.path().join("manifest");
        fs::write(&manifest, manifest_of(&root, &algorithms, Layout { tag, zero })).unwrap();

        let (report, manifests, ends) = check(&manifest, VerifyOptions { extra: vec![root], ..VerifyOptions::default() });
        let verdict = manifests.verdict(true, false);
        prop_assert_eq!(&verdict.failures, &Vec::<String>::new());
        prop_assert_eq!(report.exit_code(), 0);
        let expected: Vec<_> =
            files.keys().flat_map(|path| algorithms.iter().map(|_| (path.clone(), OutcomeKind::Ok))).collect();
        prop_assert_eq!(ends, expected);

        // And it tells the file that is not what it was.
        let (path, data) = changed.get(&files.iter().collect::<Vec<_>>()).to_owned();
        fs::write(path, [&data[..], b"!"].concat()).unwrap();
        let (_, _, ends) = check(&manifest, VerifyOptions::default());
        for (other, kind) in ends {
            prop_assert_eq!(kind, if other == *path { OutcomeKind::Failed } else { OutcomeKind::Ok });
        }
    }
}

#[test]
fn a_forgery_that_fits_as_xxh3_fails_beside_lines_of_md5() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["a", "b"] {
        fs::write(at(name), name).unwrap();
    }
    let hex = |name: &str, algorithm| {
        let line = manifest_of(&at(name), &[algorithm], Layout { tag: true, zero: false });
        let line = String::from_utf8(line).unwrap();
        line.trim_end().rsplit(' ').next().unwrap().to_owned()
    };
    // What it would look like if an attacker had made another `b` with these digits.
    let lines = [("a", Algorithm::Md5), ("b", Algorithm::Xxh3_128)]
        .map(|(name, algorithm)| format!("{}  {}\n", hex(name, algorithm), at(name).display()));
    fs::write(at("manifest"), lines.concat()).unwrap();
    let (report, _, _) = check(&at("manifest"), VerifyOptions::default());
    assert_eq!((report.counts.get(OutcomeKind::Ok), report.exit_code()), (1, 1));
    // A whole manifest of xxh128sum is another thing.
    let lines = ["a", "b"].map(|name| format!("{}  {}\n", hex(name, Algorithm::Xxh3_128), at(name).display()));
    fs::write(at("manifest"), lines.concat()).unwrap();
    let (report, manifests, _) = check(&at("manifest"), VerifyOptions::default());
    assert_eq!(report.exit_code(), 0);
    assert!(manifests.verdict(false, false).warnings[0].contains("of xxh3-128, not md5"));
}
