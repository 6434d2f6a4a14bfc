//! A worker of the tests: what its words mean, and how it comes to meet a test.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::exit,
};

use rustix::process::{Signal, getpid, kill_process};
use unisono_sys::shared::Shared;
use unisono_workers::{
    Given, Inside,
    blob::{LONGEST_INLINE_BYTES, Received},
    kind,
};

use super::{read, zygote};

#[test]
#[ignore = "not a test: what a pool starts"]
fn worker() {
    let born_with = zygote::receive(std::io::stdin().as_fd()).expect("a socket and memory");
    let [socket, memory]: [OwnedFd; 2] = born_with.try_into().expect("a socket and memory");
    let mut worker = Worker {
        own_socket: socket.try_clone().unwrap(),
        own_memory: memory.try_clone().unwrap(),
        words: HashMap::new(),
        kept: Vec::new(),
    };
    let mut inside = Inside::new(socket, memory).unwrap();
    inside.ready().unwrap();
    loop {
        match inside.take() {
            Ok(Some(given)) => worker.run(&mut inside, given),
            // As with the package's own workers, a pool that is gone is a reason to go.
            Ok(None) => match inside.sleep() {
                Ok(true) => {}
                Ok(false) | Err(_) => exit(0),
            },
            Err(error) => {
                eprintln!("{error}");
                exit(1);
            }
        }
    }
}

struct Worker {
    /// The same as the pool's, for what a sane worker does not do.
    own_socket: OwnedFd,
    own_memory: OwnedFd,
    words: HashMap<u64, String>,
    /// Arguments that it still looks at.
    kept: Vec<Received>,
}

impl Worker {
    fn run(&mut self, inside: &mut Inside, mut given: Given) {
        let arguments = std::mem::replace(&mut given.arguments, Ok(Received::Inline(Vec::new()))).unwrap();
        if let Some(definition) = given.definition.take() {
            self.words.insert(given.function, String::from_utf8(read(&definition.unwrap())).unwrap());
        }
        match self.words[&given.function].as_str() {
            "echo" => {
                let bytes = read(&arguments);
                drop(arguments);
                publish(inside, kind::RETURNED, &given, &bytes);
            }
            "grow" => {
                let bytes = read(&arguments).repeat(LONGEST_INLINE_BYTES);
                publish(inside, kind::RETURNED, &given, &bytes);
            }
            "keep" => {
                self.kept.push(arguments);
                publish(inside, kind::RETURNED, &given, b"kept");
            }
            "kept" => {
                let all: Vec<u8> = self.kept.drain(..).flat_map(|received| read(&received)).collect();
                publish(inside, kind::RETURNED, &given, &all);
            }
            "raise" => publish(inside, kind::RAISED, &given, &read(&arguments)),
            "process" => publish(inside, kind::RETURNED, &given, getpid().as_raw_nonzero().to_string().as_bytes()),
            "files" => publish(inside, kind::RETURNED, &given, open_files().join("\n").as_bytes()),
            "say" => {
                eprintln!("{}", String::from_utf8(read(&arguments)).unwrap());
                exit(1);
            }
            "unfit" => {
                inside.unfit(b"not today").unwrap();
                park();
            }
            "meet" => self.meet(inside, &given, &String::from_utf8(read(&arguments)).unwrap()),
            word => panic!("no task is called {word}"),
        }
    }

    fn meet(&self, inside: &mut Inside, given: &Given, place: &str) {
        let test = BufReader::new(UnixStream::connect(place).unwrap());
        let order = test.lines().next().map(Result::unwrap);
        match order.as_deref() {
            Some("return") => publish(inside, kind::RETURNED, given, b"met"),
            Some("raise") => publish(inside, kind::RAISED, given, b"met"),
            Some("exit") => exit(3),
            Some("die") => die(),
            Some("publish and die") => {
                publish(inside, kind::RETURNED, given, b"last");
                die();
            }
            Some("publish half and die") => {
                // As far as a worker comes that dies between its slot and its record.
                let slot = Shared::new("unisono-slot", 1 << 20).unwrap();
                let text = [b"m".as_slice(), &(1u64 << 8).to_le_bytes()].concat();
                zygote::send_text(self.own_socket.as_fd(), &text, &[slot.as_fd()]);
                die();
            }
            Some("scribble") => {
                let memory = Shared::open(self.own_memory.try_clone().unwrap()).unwrap();
                let nonsense: Vec<u8> = (0..=255u8).cycle().take(memory.size()).collect();
                memory.write(0, &nonsense);
                zygote::send_text(self.own_socket.as_fd(), b"w", &[]);
                park();
            }
            Some("talk nonsense") => {
                zygote::send_text(self.own_socket.as_fd(), b"nonsense", &[]);
                park();
            }
            other => panic!("no order is {other:?}"),
        }
    }
}

fn publish(inside: &mut Inside, kind: u32, given: &Given, bytes: &[u8]) {
    let (head, rest) = bytes.split_at(bytes.len() / 2);
    inside.publish(kind, given, bytes.len(), &[head, rest]).unwrap();
}

fn die() -> ! {
    kill_process(getpid(), Signal::KILL).unwrap();
    park()
}

/// Does nothing until it is killed.
fn park() -> ! {
    loop {
        std::thread::park();
    }
}

/// What this process has open, each with its size in bytes.
fn open_files() -> Vec<String> {
    let files = std::fs::read_dir("/proc/self/fd").unwrap();
    let line = |file: std::fs::DirEntry| {
        let (name, size) = (std::fs::read_link(file.path()).ok()?, std::fs::metadata(file.path()).ok()?.len());
        Some(format!("{size} {}", name.display()))
    };
    files.filter_map(|file| line(file.unwrap())).collect()
}
