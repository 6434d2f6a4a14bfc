//! What is true of each parser for any bytes: one function per target, which panics where it is not.
//!
//! The same bodies are run in two ways. `make fuzz TIME=60` runs each under libFuzzer (`fuzz/fuzz_targets`), guided by
//! coverage, from the seeds in `fuzz/seeds/<target>`; `make test` runs each over those seeds, over damaged ones, and
//! over random bytes (`tests/bodies.rs`). What the fuzzer finds becomes a seed, and so a test.
//!
//! A body asks for more than that nothing panics wherever there is more to ask: what was written reads back, what one
//! decoder takes a real encoder has made, what is bounded stays bounded.

mod decoders;
mod expressions;
mod lines;
mod links;
mod manifests;
mod netrc;
mod numbers;
mod proxies;
mod results;
mod sha256_lanes;
mod shell_places;
mod templates;

/// A target: its name, and what must hold for any bytes.
pub type FuzzTarget = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[FuzzTarget] = &[
    ("decoders", decoders::body),
    ("expressions", expressions::body),
    ("lines", lines::body),
    ("links", links::body),
    ("manifests", manifests::body),
    ("netrc", netrc::body),
    ("numbers", numbers::body),
    ("proxies", proxies::body),
    ("results", results::body),
    ("rows", unisono_runner::fuzzing::rows),
    ("sha256_lanes", sha256_lanes::body),
    ("shell_places", shell_places::body),
    ("templates", templates::body),
    ("wire", unisono_http::fuzzing::wire),
];

/// Runs the target with this name.
///
/// # Panics
/// When what must hold does not, or there is no such target.
pub fn run(name: &str, bytes: &[u8]) {
    let (_, body) = TARGETS.iter().find(|(target, _)| *target == name).expect("a target of this name");
    body(bytes);
}
