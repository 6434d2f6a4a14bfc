//! `--on`: requests are sent by the machines of a cluster, which Python joins.
//!
//! A process of Python carries them, `python -m unisono.clusters._bridge`; input, limits, results and everything else
//! stay here. The two speak in frames over its standard input and output: a length, a kind, and what belongs to it. It
//! has a process group of its own, so that Ctrl-C is ours to understand, and it ends when its input does: whatever
//! becomes of us, it is not left behind. If it ends before us, the run is stopped, and every row is accounted for.

use std::{
    collections::HashSet,
    io::{self, Read, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use unisono_runner::{
    Assignments, Carrier, RemoteSender, WorkNotifier,
    http_client::{ClientOptions, OnlyHere, RemoteResult, encode_options},
    remote_requests,
};
use unisono_sys::descriptors::give_back;

use crate::{failure::Failure, python::python};

/// The process that carries requests. Dropping it waits for its end.
pub struct Bridge {
    child: Child,
    ended: mpsc::Receiver<()>,
}

/// Joins a cluster; returns what a run puts its requests on, and what carries them.
pub fn start(address: &str, options: &ClientOptions) -> Result<(RemoteSender, Bridge), Failure> {
    let options = encoded(options)?;
    let python = python()?;
    let mut child = give_back(&mut Command::new(&python))
        // Without modules of the current folder, which may be another user's.
        .args(["-P", "-m", "unisono.clusters._bridge", address])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| Failure::fault(format!("cannot start `{}`: {error}", python.display())))?;
    let mut input = child.stdin.take().expect("it is a pipe");
    let mut output = child.stdout.take().expect("it is a pipe");
    let hello = [env!("CARGO_PKG_VERSION").as_bytes(), b"\n", &options].concat();
    let answer = write_frame(&mut input, b'O', &hello).and_then(|()| read_frame(&mut output));
    match answer {
        Ok(Some((b'R', _))) => {}
        Ok(Some((b'U', why))) => return Err(refused(child, Failure::usage(text(&why).replacen("on: ", "--on: ", 1)))),
        Ok(Some((b'F', why))) => return Err(refused(child, Failure::fault(text(&why)))),
        _ => return Err(refused(child, Failure::fault("what carries requests to the cluster ended at once"))),
    }
    let (notifier, notified) = mpsc::sync_channel(1);
    // Full means that it is notified.
    let notify: WorkNotifier = Arc::new(move || _ = notifier.try_send(()));
    let (remote, carrier) = remote_requests(notify);
    let (end, ended) = mpsc::channel();
    let carrying = Arc::new(Carrying { carrier, is_over: AtomicBool::new(false) });
    let taking = carrying.clone();
    thread("unisono-to-cluster", move || taking.hand_over(&notified, input))?;
    thread("unisono-from-cluster", move || {
        carrying.give_back(output);
        drop(end);
    })?;
    Ok((remote, Bridge { child, ended }))
}

/// Both directions of it.
struct Carrying {
    carrier: Carrier,
    /// The run is over: the other side's end is what we asked for.
    is_over: AtomicBool,
}

impl Carrying {
    /// Hands requests over until the run is over; then the other side's input ends.
    fn hand_over(&self, notified: &mpsc::Receiver<()>, mut input: ChildStdin) {
        while notified.recv().is_ok() {
            let Assignments { begun, stopped, is_open } = self.carrier.requests.take(std::mem::take);
            let mut frames = Vec::new();
            for (number, request) in begun {
                push_frame(&mut frames, b'S', &[&(number as u64).to_le_bytes()[..], &request].concat());
            }
            stopped.into_iter().for_each(|number| push_frame(&mut frames, b'X', &(number as u64).to_le_bytes()));
            // Before the other side can end for it.
            self.is_over.store(!is_open, Ordering::Release);
            // What it cannot take any more is lost when its output ends, which it does then.
            _ = input.write_all(&frames).and_then(|()| input.flush());
            if !is_open {
                return;
            }
        }
    }

    /// Gives ends back until the other side has said its last.
    fn give_back(&self, output: ChildStdout) {
        let mut output = io::BufReader::new(output);
        while let Ok(Some((kind, data))) = read_frame(&mut output) {
            if kind == b'G' {
                self.carrier.give_up(text(&data));
                continue;
            }
            let Some((number, rest)) = data.split_first_chunk() else { break };
            let end = match kind {
                b'E' => RemoteResult::Ended(rest.to_vec()),
                b'N' => RemoteResult::Unsent(text(rest)),
                _ => RemoteResult::Lost(text(rest)),
            };
            let Ok(number) = usize::try_from(u64::from_le_bytes(*number)) else { break };
            self.carrier.requests.give_back([(number, end)]);
        }
        if self.is_over.load(Ordering::Acquire) {
            return;
        }
        let why = "what carries requests to the cluster has ended".to_owned();
        // Before any end is given back: the run is not to begin anything in its place.
        self.carrier.give_up(why.clone());
        let unsent = why.clone();
        let unsent = move || RemoteResult::Unsent(unsent.clone());
        self.carrier.requests.refuse(&HashSet::new(), unsent, || RemoteResult::Lost(why.clone()));
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // Its input has ended, or is about to, since nothing can be put on the queue any more.
        if self.ended.recv_timeout(LONGEST_END) == Err(mpsc::RecvTimeoutError::Timeout) {
            _ = self.child.kill();
        }
        _ = self.child.wait();
    }
}

/// What an option that holds for one machine alone is called here.
fn encoded(options: &ClientOptions) -> Result<Vec<u8>, Failure> {
    if let Some(only) = options.only_here() {
        let flag = match only {
            OnlyHere::UnixSocket => "--unix-socket",
            OnlyHere::Cookies => "--cookies",
            OnlyHere::Tokens => "--token-command",
            OnlyHere::Identity => "--cert",
            OnlyHere::Resolver => "a resolver",
        };
        return Err(Failure::usage(format!("{flag} cannot be used with --on: {}", only.why())));
    }
    Ok(encode_options(options)?)
}

/// The input of a process that has said no has ended with it.
fn refused(mut child: Child, why: Failure) -> Failure {
    _ = child.kill();
    _ = child.wait();
    why
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(work);
    spawned.map(drop).map_err(|error| Failure::fault(format!("no thread for the cluster: {error}")))
}

fn push_frame(into: &mut Vec<u8>, kind: u8, data: &[u8]) {
    let length = u32::try_from(data.len()).expect("a request is far smaller than 4 GiB");
    into.extend_from_slice(&length.to_le_bytes());
    into.push(kind);
    into.extend_from_slice(data);
}

fn write_frame(to: &mut impl Write, kind: u8, data: &[u8]) -> io::Result<()> {
    let mut frame = Vec::new();
    push_frame(&mut frame, kind, data);
    to.write_all(&frame)?;
    to.flush()
}

/// The next frame's kind and data; `None` at the end.
fn read_frame(from: &mut impl Read) -> io::Result<Option<(u8, Vec<u8>)>> {
    let mut head = [0; 5];
    if let Err(error) = from.read_exact(&mut head) {
        return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(None) } else { Err(error) };
    }
    let [a, b, c, d, kind] = head;
    let mut data = Vec::new();
    let length = u64::from(u32::from_le_bytes([a, b, c, d]));
    // Nothing is set aside for what is only announced.
    from.take(length).read_to_end(&mut data)?;
    Ok((data.len() as u64 == length).then_some((kind, data)))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// It leaves the cluster in a moment, and gives up on that after five seconds by itself.
const LONGEST_END: Duration = Duration::from_secs(7);
