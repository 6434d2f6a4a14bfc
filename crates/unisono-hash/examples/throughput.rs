//! How fast one thread hashes data that is in memory: each kernel, and the crates that hash one input at a time.
//!
//! `cargo run --release -p unisono-hash --example throughput [PIECES [KIB...]]` prints MB/s (10^6 bytes a second), the
//! best of several rounds, for pieces of 4, 64 and 1,024 KiB or the lengths asked for. Every update gets 64 pieces, or
//! as many as asked for: with fewer pieces than lanes it shows what the narrower kernels that take over are worth.

use std::hint::black_box;
use std::time::{Duration, Instant};

use sha2::Digest as _;
use unisono_hash::{Algorithm, Hasher, Kernel, Lanes, Piece};

fn main() {
    let mut arguments = std::env::args().skip(1).map(|word| word.parse::<usize>().expect("arguments are numbers"));
    let pieces = arguments.next().unwrap_or(64);
    let mut lengths: Vec<usize> = arguments.map(|length| length << 10).collect();
    if lengths.is_empty() {
        lengths = vec![4 << 10, 64 << 10, 1 << 20];
    }
    let data: Vec<u8> = (0..pieces * lengths.iter().max().unwrap_or(&0)).map(|index| (index * 31 / 7) as u8).collect();
    print!("{:<26}", format!("{pieces} pieces an update"));
    lengths.iter().for_each(|length| print!("{:>6} KiB", length >> 10));
    println!();
    let print = |name: &str, measure: &dyn Fn(usize) -> f64| {
        print!("{name:<26}");
        lengths.iter().for_each(|length| print!("{:>10.0}", measure(*length)));
        println!();
    };
    print("sha2 crate", &|length| {
        measure(pieces * length, || {
            parts(&data, pieces, length).for_each(|part| {
                black_box(sha2::Sha256::digest(part));
            })
        })
    });
    for kernel in Kernel::available() {
        print(&format!("sha256, {kernel}"), &|length| measure_lanes(kernel, Algorithm::Sha256, &data, pieces, length));
    }
    print("blake3 crate", &|length| {
        measure(pieces * length, || {
            parts(&data, pieces, length).for_each(|part| {
                black_box(blake3::hash(part));
            })
        })
    });
    for kernel in Kernel::available() {
        print(&format!("blake3, {kernel}"), &|length| measure_lanes(kernel, Algorithm::Blake3, &data, pieces, length));
    }
    for algorithm in [Algorithm::Sha512, Algorithm::Sha1, Algorithm::Md5, Algorithm::Xxh3_128, Algorithm::Crc32c] {
        print(algorithm.as_str(), &|length| measure_lanes(Kernel::best(), algorithm, &data, pieces, length));
    }
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

/// MB/s of the fastest of eight rounds, each long enough for the clock.
fn measure(bytes: usize, mut work: impl FnMut()) -> f64 {
    let mut best: f64 = 0.0;
    for _ in 0..8 {
        let (begin, mut times) = (Instant::now(), 0);
        while begin.elapsed() < Duration::from_millis(10) {
            work();
            times += 1;
        }
        best = best.max((bytes * times) as f64 / begin.elapsed().as_secs_f64() / 1e6);
    }
    best
}
