//! The process that evaluates expressions: what it is asked, what it returns, and how it is kept small.
//!
//! Standard input is a socket. A question is the lengths of an expression and a body, and both; an answer is whether it
//! went well, how many outputs there are, where the first ends, and their text with commas between, or why there is
//! none. Numbers are little-endian. Both sides are one program, so there is nothing to negotiate.
//!
//! It may have so much memory and no core file, and ends with the process that asks it: at the end of its socket, for
//! which a thread watches while the other one evaluates, and with the thread that started it.

use std::{
    collections::{HashMap, hash_map::Entry},
    io::{self, Read, Write},
    os::{fd::AsFd, unix::net::UnixStream},
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{
        DumpableBehavior, Resource, Rlimit, Signal, getpid, getrlimit, kill_process, set_dumpable_behavior,
        set_parent_process_death_signal, setrlimit,
    },
};
use unisono_select::{Expression, Outputs};

use super::jq;

/// Most address space of the process; its stack is a quarter of a GiB of it.
pub const MOST_MEMORY_BYTES: u64 = 1536 << 20;
/// Most that is taken of one body. A body may be as large by default.
pub const MOST_OUTPUT_BYTES: usize = 64 << 20;

/// A question as bytes.
pub fn request(expression: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(16 + expression.len() + body.len());
    for length in [expression.len(), body.len()] {
        bytes.extend_from_slice(&(length as u64).to_le_bytes());
    }
    bytes.extend_from_slice(expression.as_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// An answer.
#[derive(Debug)]
pub struct EvaluatorReply {
    is_ok: bool,
    count: u64,
    first: u64,
    /// The outputs, or why there are none.
    pub text: Vec<u8>,
}

impl EvaluatorReply {
    /// How long its head is.
    pub const HEAD_BYTES: usize = 25;

    fn new(result: Result<Outputs, String>) -> Self {
        match result {
            Ok(outputs) => {
                let (text, first) = outputs.parts();
                Self { is_ok: true, count: outputs.len() as u64, first: first as u64, text: text.to_owned() }
            }
            Err(why) => Self { is_ok: false, count: 0, first: 0, text: why.into_bytes() },
        }
    }

    fn head(&self) -> [u8; Self::HEAD_BYTES] {
        let mut head = [0; Self::HEAD_BYTES];
        head[0] = u8::from(self.is_ok);
        head[1..9].copy_from_slice(&self.count.to_le_bytes());
        head[9..17].copy_from_slice(&self.first.to_le_bytes());
        head[17..].copy_from_slice(&(self.text.len() as u64).to_le_bytes());
        head
    }

    /// An answer without its text, and how long that is; `None` when it cannot be one.
    pub fn parse(head: [u8; Self::HEAD_BYTES]) -> Option<(Self, u64)> {
        let number = |at: usize| head[at..at + 8].try_into().map(u64::from_le_bytes).ok();
        let (count, first, length) = (number(1)?, number(9)?, number(17)?);
        let fits = head[0] <= 1 && length <= MOST_OUTPUT_BYTES as u64;
        fits.then_some((Self { is_ok: head[0] == 1, count, first, text: Vec::new() }, length))
    }

    /// What it says.
    pub fn outcome(self) -> Result<Outputs, String> {
        if !self.is_ok {
            return Err(String::from_utf8_lossy(&self.text).into_owned());
        }
        let number = |number: u64| usize::try_from(number).ok();
        let outputs = number(self.first).zip(number(self.count));
        let outputs = outputs.and_then(|(first, count)| Outputs::joined(self.text, first, count));
        outputs.ok_or_else(|| "the process that evaluates expressions answered nonsense".to_owned())
    }
}

/// Evaluates expressions for the process that has started this one, until that goes. Never prints.
///
/// # Errors
/// When the process was not started for this, or cannot be kept small.
pub fn serve_expressions() -> io::Result<()> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // What is no socket is a terminal or a file: then this process was not started by a run.
    socket.peer_addr()?;
    limit(Resource::As, MOST_MEMORY_BYTES)?;
    limit(Resource::Core, 0)?;
    // A core file may go to a program, whatever its limit.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let watched = socket.try_clone()?;
    thread::Builder::new().stack_size(64 << 10).spawn(move || end_with(&watched))?;
    jq::with_room(move || answer_all(&socket)).map_err(io::Error::other)?
}

/// At most so much, and no more than is allowed already.
fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let most = getrlimit(resource).maximum.map_or(most, |allowed| allowed.min(most));
    Ok(setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?)
}

/// Ends this process, whatever it is doing, when the other end has closed.
fn end_with(socket: &UnixStream) {
    let mut ends = [PollFd::new(socket, PollFlags::RDHUP)];
    while poll(&mut ends, None).is_err() {}
    let _ = kill_process(getpid(), Signal::KILL);
}

fn answer_all(mut socket: &UnixStream) -> io::Result<()> {
    let mut known = HashMap::new();
    loop {
        let mut head = [0; 16];
        match socket.read_exact(&mut head) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let (lengths, _) = head.as_chunks::<8>();
        let expression = String::from_utf8(read(socket, lengths[0])?).map_err(|_| io::ErrorKind::InvalidData)?;
        let body = read(socket, lengths[1])?;
        // A panic is jaq's, and ends the row that caused it alone. Its message goes to /dev/null.
        let answered = catch_unwind(AssertUnwindSafe(|| answer(expression, &body, &mut known)));
        let reply =
            EvaluatorReply::new(answered.unwrap_or_else(|_| Err("the evaluator failed on this body".to_owned())));
        socket.write_all(&reply.head())?;
        socket.write_all(&reply.text)?;
    }
}

fn read(socket: &UnixStream, length: [u8; 8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let length = u64::from_le_bytes(length);
    let read = socket.take(length).read_to_end(&mut bytes)?;
    if (read as u64) < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(bytes) }
}

/// An expression that was read before.
enum Known {
    /// What takes too many steps for the thread that everything runs on, has the time here.
    Plain(Expression),
    Whole(jq::Compiled),
}

fn answer(expression: String, body: &[u8], known: &mut HashMap<String, Known>) -> Result<Outputs, String> {
    let known = match known.entry(expression) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => {
            let read = match Expression::parse(entry.key()) {
                Some(plain) => Known::Plain(plain),
                None => Known::Whole(jq::Compiled::new(entry.key())?),
            };
            entry.insert(read)
        }
    };
    match known {
        Known::Plain(plain) => {
            let outputs = plain.run_within(body, usize::MAX).map_err(|error| error.to_string())?;
            match outputs.parts().0.len() > MOST_OUTPUT_BYTES {
                true => Err(jq::too_large(MOST_OUTPUT_BYTES)),
                false => Ok(outputs),
            }
        }
        Known::Whole(compiled) => compiled.run(body, MOST_OUTPUT_BYTES),
    }
}
