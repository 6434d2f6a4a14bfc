//! What commands print, on standard output and standard error: by a thread of its own, so that a slow reader holds up
//! the commands (there is room for so much, and no more) and never the reactor.
//!
//! *Grouped*: all of an item's output at once, when it has ended. *Lines*: whole lines as they come. Within an item the
//! order of its two streams is not known, since they are two pipes; each keeps its own.
//!
//! What commands print is passed on as it is, also to a terminal: colours and all are theirs. The tag before it is
//! ours, and is made safe there. A standard output that fails ends the run, and the first error is handed back; a
//! standard error that fails cannot be reported anywhere.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fs::File,
    io::{self, IsTerminal, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    task::{Context, Poll, Waker},
    thread::{self, JoinHandle},
};

use unisono_core::{CancelReason, CancelToken, printable_bytes};
use unisono_runner::{
    CommandResult, EachCall, Outlet, Tagged, Taken, Taker,
    commands::{OutputStream, OutputWatch},
    outlet,
};

use crate::{output, terminal::Terminal};

/// How it is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Printing {
    /// Each item's at once.
    Grouped { tag: bool },
    /// Line by line.
    Lines { tag: bool },
    /// Not by us.
    Inherited,
}

/// Takes what there is to print.
pub struct Printer {
    printing: Printing,
    taker: Option<Taker<CommandResult>>,
    lines: Arc<OutputLines>,
    notified: Receiver<()>,
}

/// Printing under way.
pub struct PrintingRun(Option<JoinHandle<Option<io::Error>>>);

impl Printer {
    /// A printer, and where a run puts its outcomes for it.
    pub fn new(printing: Printing, limit: u32) -> (Self, Option<Outlet<CommandResult>>) {
        let (notify, notified) = sync_channel(1);
        let lines = Arc::new(OutputLines { state: Mutex::default(), notify: notify.clone() });
        // An outcome may hold two mebibytes in memory, and two descriptors.
        let capacity = usize::try_from(limit).unwrap_or(usize::MAX).clamp(4, 64);
        let notifier = move || {
            // One notification that was not taken yet is enough.
            let _ = notify.try_send(());
        };
        let (outlet, taker) = outlet::<CommandResult>(capacity, Arc::new(notifier));
        let taken = printing != Printing::Inherited;
        // Most commands that are run by the thousand print nothing; waking a thread for each would cost more than the
        // rest.
        let outlet = outlet.only(|outcome| !outcome.done.stdout.is_empty() || !outcome.done.stderr.is_empty());
        (Self { printing, taker: taken.then_some(taker), lines, notified }, taken.then_some(outlet))
    }

    /// What sees the output as it comes, where that is wanted.
    pub fn tagged(&self) -> Option<Tagged> {
        let Printing::Lines { tag } = self.printing else { return None };
        let lines = self.lines.clone();
        Some(Box::new(move |call: &EachCall, _| {
            let tag = if tag { self::tag(&call.item()) } else { Vec::new() };
            Box::new(LineWatch { lines: lines.clone(), tag, partial: RefCell::default() })
        }))
    }

    /// Prints until the run has ended. A reader that is gone ends the run.
    pub fn start(self, terminal: &Terminal, cancel: &CancelToken) -> PrintingRun {
        let Self { printing, taker, lines, notified } = self;
        let Some(taker) = taker else { return PrintingRun(None) };
        let (terminal, cancel) = (terminal.clone(), cancel.clone());
        let print = move || {
            let mut sink = PrintSink { stdout: output::raw(), terminal, cancel, failed: None };
            loop {
                let taken = taker.take();
                // Taken in this order: lines of an item are there before its outcome.
                lines.take().into_iter().for_each(|(stream, text)| sink.print(stream, &[], &mut Text::Bytes(&text)));
                match taken {
                    Taken::Ended => return sink.failed,
                    Taken::Outcomes(outcomes) if outcomes.is_empty() => {
                        if notified.recv().is_err() {
                            return sink.failed;
                        }
                    }
                    Taken::Outcomes(outcomes) => outcomes.into_iter().for_each(|outcome| {
                        if let Printing::Grouped { tag } = printing {
                            sink.print_all(outcome.done, tag);
                        }
                    }),
                }
            }
        };
        // Without a thread nothing is printed, and the taker that is dropped with it ends the run.
        PrintingRun(thread::Builder::new().name("unisono-output".into()).spawn(print).ok())
    }
}

impl PrintingRun {
    /// Waits until all is printed. Returns why not all of it could be, if so. The run, and so the outlet, must have
    /// ended.
    pub fn join(self) -> Option<io::Error> {
        let printed = self.0?.join();
        // A panic there has been shown already.
        printed.unwrap_or_else(|_| Some(io::Error::other("the thread that prints has ended")))
    }
}

struct PrintSink {
    stdout: io::Result<File>,
    terminal: Terminal,
    cancel: CancelToken,
    /// Why nothing more is printed.
    failed: Option<io::Error>,
}

enum Text<'a> {
    Bytes(&'a [u8]),
    Output(&'a mut unisono_runner::commands::Output),
}

impl PrintSink {
    fn print_all(&mut self, mut ran: CommandResult, tagged: bool) {
        let tag = if tagged { self::tag(&ran.item) } else { Vec::new() };
        self.print(OutputStream::Out, &tag, &mut Text::Output(&mut ran.stdout));
        self.print(OutputStream::Err, &tag, &mut Text::Output(&mut ran.stderr));
    }

    fn print(&mut self, stream: OutputStream, tag: &[u8], text: &mut Text<'_>) {
        let is_empty = match text {
            Text::Bytes(bytes) => bytes.is_empty(),
            Text::Output(output) => output.is_empty(),
        };
        if self.failed.is_some() || is_empty {
            return;
        }
        let written = self.terminal.above(|| match stream {
            OutputStream::Out => match &mut self.stdout {
                Ok(stdout) => write(stdout, tag, text),
                Err(error) => Err(error.kind().into()),
            },
            OutputStream::Err => {
                // There is no other stream to report it on.
                let _ = write(&mut io::stderr().lock(), tag, text);
                Ok(())
            }
        });
        if let Err(error) = written {
            let closed = error.kind() == io::ErrorKind::BrokenPipe;
            self.cancel.abort(if closed { CancelReason::OutputClosed } else { CancelReason::OutputFailed });
            self.failed = Some(error);
        }
    }
}

fn write(into: &mut impl Write, tag: &[u8], text: &mut Text<'_>) -> io::Result<()> {
    let mut into = Tagging { into: io::BufWriter::with_capacity(64 << 10, into), tag, at_start: true };
    match text {
        Text::Bytes(bytes) => into.write_all(bytes)?,
        Text::Output(output) => output.copy_to(&mut into)?,
    }
    into.flush()
}

/// Puts a tag before each line.
struct Tagging<'a, W: Write> {
    into: W,
    tag: &'a [u8],
    at_start: bool,
}

impl<W: Write> Write for Tagging<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.tag.is_empty() {
            return self.into.write(bytes);
        }
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.at_start {
                self.into.write_all(self.tag)?;
            }
            self.into.write_all(line)?;
            self.at_start = line.ends_with(b"\n");
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.into.flush()
    }
}

/// On one line, whatever the item holds.
fn tag(item: &[u8]) -> Vec<u8> {
    let mut tag: Vec<u8> = match io::stdout().is_terminal() || io::stderr().is_terminal() {
        true => printable_bytes(item).into_owned().into_bytes(),
        false => item.iter().map(|byte| if byte.is_ascii_control() { b' ' } else { *byte }).collect(),
    };
    tag.push(b'\t');
    tag
}

/// Lines on their way.
struct OutputLines {
    /// Held to move lines in or out; never across a wait.
    state: Mutex<Waiting>,
    notify: SyncSender<()>,
}

#[derive(Default)]
struct Waiting {
    queue: VecDeque<(OutputStream, Vec<u8>)>,
    bytes: usize,
    wakers: Vec<Waker>,
}

impl OutputLines {
    fn put(&self, stream: OutputStream, text: Vec<u8>) {
        let mut state = self.lock();
        state.bytes += text.len();
        state.queue.push_back((stream, text));
        drop(state);
        // One notification that was not taken yet is enough.
        let _ = self.notify.try_send(());
    }

    fn take(&self) -> VecDeque<(OutputStream, Vec<u8>)> {
        let mut state = self.lock();
        state.bytes = 0;
        let wakers = std::mem::take(&mut state.wakers);
        let queue = std::mem::take(&mut state.queue);
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        queue
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing in here panics half way, so what a panicking thread left is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Cuts one command's output into lines.
struct LineWatch {
    lines: Arc<OutputLines>,
    tag: Vec<u8>,
    /// What has no end yet, of standard output and of standard error.
    partial: RefCell<[Vec<u8>; 2]>,
}

impl OutputWatch for LineWatch {
    fn output(&self, stream: OutputStream, bytes: &[u8]) {
        let mut partial = self.partial.borrow_mut();
        let partial = &mut partial[stream as usize];
        partial.extend_from_slice(bytes);
        let whole = partial.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let whole = if whole == 0 && partial.len() > LONGEST_LINE_BYTES { partial.len() } else { whole };
        let rest = partial.split_off(whole);
        let whole = std::mem::replace(partial, rest);
        self.put(stream, &whole);
    }

    fn poll_room(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lines.lock();
        if state.bytes < MOST_WAITING_BYTES {
            return Poll::Ready(());
        }
        state.wakers.push(context.waker().clone());
        Poll::Pending
    }
}

impl LineWatch {
    fn put(&self, stream: OutputStream, text: &[u8]) {
        let mut tagged = Vec::with_capacity(text.len() + self.tag.len());
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            tagged.extend_from_slice(&self.tag);
            tagged.extend_from_slice(line);
        }
        if !tagged.is_empty() {
            self.lines.put(stream, tagged);
        }
    }
}

impl Drop for LineWatch {
    fn drop(&mut self) {
        let [stdout, stderr] = self.partial.take();
        for (stream, mut rest) in [(OutputStream::Out, stdout), (OutputStream::Err, stderr)] {
            if !rest.is_empty() {
                // The next line is another command's.
                rest.push(b'\n');
                self.put(stream, &rest);
            }
        }
    }
}

const MOST_WAITING_BYTES: usize = 1 << 20;
/// A line longer than this is passed on in pieces.
const LONGEST_LINE_BYTES: usize = 1 << 20;
