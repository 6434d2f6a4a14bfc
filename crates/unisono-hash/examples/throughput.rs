//! How fast one thread hashes data that is in memory: each kernel, and the crates that hash one input at a time.
//!
//! `cargo run --release -p unisono-hash --example throughput [PIECES]` prints MB/s (10^6 bytes a second), the best
//! of several rounds. Every update gets 64 pieces, or as many as asked for: with fewer pieces than lanes it shows
//! what the narrower kernels that take over are worth.

use std::hint::black_box;
use std::time::{Duration, Instant};

use sha2::Digest as _;
use unisono_hash::{Algorithm, Hasher, Kernel, Lanes, Piece};

fn main() {
    let pieces = std::env::args().nth(1).map_or(64, |count| count.parse().expect("the argument is a number of pieces"));
    println!("{pieces} pieces an update{:>17} {:>9} {:>9}", "4 KiB", "64 KiB", "1 MiB");
    let data: Vec<u8> = (0..pieces * LENGTHS[2]).map(|index| (index * 31 / 7) as u8).collect();
    print("sha2 crate", |length| {
        measure(pieces * length, || {
            parts(&data, pieces, length).for_each(|part| {
                black_box(sha2::Sha256::digest(part));
            })
        })
    });
    for kernel in Kernel::available() {
        print(&format!("sha256, {kernel}"), |length| measure_lanes(kernel, Algorithm::Sha256, &data, pieces, length));
    }
    print("blake3 crate", |length| {
        measure(pieces * length, || {
            parts(&data, pieces, length).for_each(|part| {
                black_box(blake3::hash(part));
            })
        })
    });
    for kernel in Kernel::available() {
        print(&format!("blake3, {kernel}"), |length| measure_lanes(kernel, Algorithm::Blake3, &data, pieces, length));
    }
    for algorithm in [Algorithm::Sha512, Algorithm::Sha1, Algorithm::Md5, Algorithm::Xxh3_128, Algorithm::Crc32c] {
        print(algorithm.as_str(), |length| measure_lanes(Kernel::best(), algorithm, &data, pieces, length));
    }
}

fn print(name: &str, measure: impl Fn(usize) -> f64) {
    let [small, middle, large] = LENGTHS.map(measure);
    println!("{name:<26}{small:>9.0} {middle:>9.0} {large:>9.0}");
}

fn parts(data: &[u8], pieces: usize, length: usize) -> impl Iterator<Item = &[u8]> {
    data.chunks_exact(length).take(pieces)
}

fn measure_lanes(kernel: Kernel, algorithm: Algorithm, data: &[u8], pieces: usize, length: usize) -> f64 {
    let mut lanes = Lanes::new(kernel);
    let mut hashers: Vec<Hasher> = (0..pieces).map(|_| Hasher::new(algorithm)).collect();
    measure(pieces * length, || {
        hashers.iter_mut().for_each(Hasher::reset);
        let mut pieces: Vec<Piece<'_>> = hashers
            .iter_mut()
            .zip(parts(data, pieces, length))
            .map(|(hasher, data)| Piece { hasher, data, last: true })
            .collect();
        lanes.update(&mut pieces);
    })
}

/// MB/s of the fastest of ten rounds, each long enough for the clock.
fn measure(bytes: usize, mut work: impl FnMut()) -> f64 {
    let mut best: f64 = 0.0;
    for _ in 0..10 {
        let (begin, mut times) = (Instant::now(), 0);
        while begin.elapsed() < Duration::from_millis(20) {
            work();
            times += 1;
        }
        best = best.max((bytes * times) as f64 / begin.elapsed().as_secs_f64() / 1e6);
    }
    best
}

const LENGTHS: [usize; 3] = [4 << 10, 64 << 10, 1 << 20];
