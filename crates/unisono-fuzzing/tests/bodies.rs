//! Each fuzz target as a property test: over its seeds, over damaged ones, and over random bytes.

use std::{fs, path::Path, thread};

use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use unisono_fuzzing::TARGETS;

fn seeds(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{target} has no seeds: {error}"));
    let mut seeds: Vec<_> = entries.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect();
    seeds.sort();
    seeds
}

/// A seed with some bytes changed, cut or repeated; or any bytes at all.
fn inputs(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let any_bytes = prop::collection::vec(any::<u8>(), 0..200);
    let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..6);
    let damaged = (prop::sample::select(seeds), changes).prop_map(|(mut bytes, changes)| {
        for (at, byte, how) in changes {
            if bytes.is_empty() {
                break;
            }
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 => bytes.truncate(at),
                _ => bytes.extend_from_within(at..),
            }
            bytes.truncate(1 << 16);
        }
        bytes
    });
    prop_oneof![2 => any_bytes, 8 => damaged]
}

#[test]
fn what_must_hold_for_any_bytes_holds_for_seeds_damaged_seeds_and_random_bytes() {
    let cases = std::env::var("UNISONO_FUZZ_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(400);
    // A body that panics fails its own thread, and the scope with it.
    thread::scope(|scope| {
        for (name, body) in TARGETS {
            scope.spawn(move || {
                let seeds = seeds(name);
                seeds.iter().for_each(|seed| body(seed));
                let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
                let result = runner.run(&inputs(seeds), |bytes| {
                    body(&bytes);
                    Ok(())
                });
                result.unwrap_or_else(|error| panic!("{name}: {error}"));
            });
        }
    });
}

#[test]
fn each_target_has_a_program_for_the_fuzzer_and_each_program_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/fuzz_targets");
    let mut programs: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    programs.sort();
    assert_eq!(programs, TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
}
