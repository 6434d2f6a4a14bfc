//! What a peer can make an answer cost in memory. In a process of its own, whose peak is measured.

mod support;

use std::{fs, io::Write};

use support::*;
use unisono_core::ErrorKind;
use unisono_http::ClientOptions;
use unisono_testkit::{Server, answer};

/// The most memory that this process had since its peak was last cleared, in MiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}

/// A frame that asks for a window of this size, and fills it.
fn zstd(bytes: &[u8], window: u32) -> Vec<u8> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(window).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn twenty_hostile_answers_at_once_cost_no_more_than_twenty_large_ones() {
    const CAP: u64 = 1 << 20;
    let zeros = vec![0; 64 << 20];
    let gzip_bomb = gzip(&zeros);
    let zstd_bomb = zstd(&zeros, 27);
    let nested = zstd(&zstd(&gzip(&gzip(&zeros)), 23), 23);
    drop(zeros);
    let many = |name: &str, count: usize| format!("Content-Encoding: {}", vec![name; count].join(","));
    let large: Vec<String> = (0..400).map(|number| format!("X-{number}: {}", "y".repeat(700))).collect();
    let small: Vec<String> = (0..600).map(|number| format!("X-{number}: y")).collect();
    let spread = vec![many("zstd", 1); 400];
    let hostile: Vec<(&str, Vec<u8>, ErrorKind)> = vec![
        ("12,000 codings", answer(200, &[&many("gzip", 12_000)], &gzip_bomb), ErrorKind::Decode),
        ("codings on 400 lines", answer(200, &borrowed(&spread), &zstd_bomb), ErrorKind::Decode),
        ("unknown codings", answer(200, &[&many("zstd, x-of-their-own", 2000)], &zstd_bomb), ErrorKind::Decode),
        ("a bomb", answer(200, &[&many("gzip", 1)], &gzip_bomb), ErrorKind::TooLarge),
        ("a window of 128 MiB", answer(200, &[&many("zstd", 1)], &zstd_bomb), ErrorKind::Decode),
        ("a bomb in a bomb", answer(200, &["Content-Encoding: gzip, gzip, zstd, zstd"], &nested), ErrorKind::TooLarge),
        ("five decoders", answer(200, &[&many("br", 5)], [0x0f; 5000]), ErrorKind::Decode),
        ("a large head", answer(200, &borrowed(&large), b""), ErrorKind::HeaderTooLarge),
        ("600 headers", answer(200, &borrowed(&small), b""), ErrorKind::HeaderTooLarge),
    ];
    let mut requests = Vec::new();
    let mut servers = Vec::new();
    for (_, bytes, _) in &hostile {
        let bytes = bytes.clone();
        servers.push(Server::answering(move |_| bytes.clone()).await);
    }
    for server in &servers {
        requests.extend((0..20).map(|_| get(server.url("/"))));
    }
    // What it took to make them does not count.
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let before = peak();
    for ((named, _, kind), requests) in hostile.iter().zip(requests.chunks(20)) {
        let outs = run(requests.to_vec(), ClientOptions { max_body: CAP, ..options() }, without_retries()).await;
        assert!(outs.iter().all(|out| out.error == Some(*kind)), "{named}: {:?}", outs[0]);
    }
    let rose = peak() - before;
    // Twenty bodies at the cap, what lies between (the server is in here as well), and the windows.
    assert!(rose < 200, "twenty answers took {rose} MiB");
    println!("twenty hostile answers: {rose} MiB");
}

fn borrowed(lines: &[String]) -> Vec<&str> {
    lines.iter().map(String::as_str).collect()
}
