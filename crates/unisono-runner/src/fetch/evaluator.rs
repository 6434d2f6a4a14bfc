//! Evaluates expressions: the plain ones here, the others in a process of their own, one per run.
//!
//! That process is started when it is first needed, from words that the face gives, with an empty environment or what
//! the face adds, none of our descriptors, and a group of its own, so that Ctrl-C is ours alone to understand. It is
//! asked one thing at a time over a socket (`super::evaluating` is the other side).
//!
//! jaq cannot be interrupted, so what lasts too long is killed with its process: after [`LONGEST`], or with the attempt
//! whose turn it is, before its own time is over. Its row fails. The next row gets a new process. A process that ends
//! unasked (it ran out of memory, of stack, or was killed from outside) costs the row that it was at a second try in a
//! new one, and only when that ends as well is it the row's fault. No other row notices: they wait for their turn in
//! the order in which they came.

use std::{
    cell::{OnceCell, RefCell},
    ffi::{CString, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStringExt, net::UnixStream as Socket, process::ExitStatusExt},
    },
    process::ExitStatus,
    rc::Rc,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, pidfd_send_signal};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    sync::Mutex,
    time::timeout_at,
};
use unisono_core::clock;
use unisono_select::{CheckedJson, ErrorKind, Outputs, checked};
use unisono_sys::{
    process::reap,
    readiness::Watched,
    start::{Program, Starter},
};

use super::{
    Filter,
    evaluating::{EvaluatorReply, MOST_MEMORY_BYTES, request},
};
use crate::body::unmarked;

/// How to start a process that calls [`super::serve_expressions`].
#[derive(Debug, Clone)]
pub struct EvaluatorCommand {
    /// The program and its arguments. The program is a path.
    pub words: Vec<OsString>,
    /// All of its environment, `NAME=VALUE`: what it needs to start, and nothing else.
    pub environment: Vec<OsString>,
}

/// Evaluates the expressions of a run.
#[derive(Debug)]
pub(crate) struct Evaluator {
    command: Option<EvaluatorCommand>,
    /// Held by the row whose turn it is, across its question and answer. Fair, so no row waits for ever.
    process: Mutex<Option<Process>>,
    /// Killed processes that have not been reaped yet; looked at now and then, and waited for at the end.
    killed: Rc<RefCell<Vec<Ending>>>,
}

impl Evaluator {
    pub(crate) fn new(command: Option<EvaluatorCommand>) -> Self {
        Self { command, process: Mutex::default(), killed: Rc::default() }
    }

    /// All outputs for a body. `by` is when the attempt will be stopped.
    ///
    /// # Errors
    /// When the body is not JSON, or the expression fails on it, or takes too long or too much.
    pub(crate) async fn run(&self, filter: &Filter, body: &Body<'_>, by: Option<Instant>) -> Result<Outputs, String> {
        let failed = |why: &dyn std::fmt::Display| format!("`{}`: {why}", filter.text());
        if let Some(plain) = filter.plain() {
            match plain.run_checked(body.checked().map_err(|error| failed(error))?) {
                Ok(outputs) => return Ok(outputs),
                // RemoteSender there is time for it.
                Err(error) if error.kind() == ErrorKind::Work && self.command.is_some() => {}
                Err(error) => return Err(failed(&error)),
            }
        }
        self.ask(filter.text(), body.text, by).await.map_err(|why| failed(&why))
    }

    /// Ends the process, and waits for its end.
    pub(crate) async fn close(&self) {
        // No row has its turn any more, and dropping the process kills it.
        drop(self.process.lock().await.take());
        let killed = self.killed.take();
        for ending in killed {
            ending.wait().await;
        }
    }

    async fn ask(&self, text: &str, body: &[u8], by: Option<Instant>) -> Result<Outputs, String> {
        let mut turn = self.process.lock().await;
        let now = clock::now();
        let limit = limit(by.map(|by| by.saturating_duration_since(now)));
        let question = request(text, body);
        let mut ended = String::new();
        for _ in 0..TRIES {
            let mut process = match turn.take() {
                Some(process) => process,
                None => self.start()?,
            };
            // Dropped in the middle, as when the attempt is stopped, it is killed: its answer would be taken for that
            // of the row after.
            match timeout_at((now + limit).into(), process.exchange(&question)).await {
                Ok(Ok(reply)) => {
                    *turn = Some(process);
                    return reply.outcome();
                }
                Ok(Err(_)) => ended = process.end().await,
                Err(_) => return Err(format!("it took longer than {:.1} s", limit.as_secs_f64())),
            }
        }
        Err(ended)
    }

    fn start(&self) -> Result<Process, String> {
        let command = self.command.as_ref().ok_or("there is no process to evaluate it in")?;
        self.killed.borrow_mut().retain_mut(|ending| !ending.has_ended());
        Process::start(command, &self.killed)
            .map_err(|error| format!("the process that evaluates expressions cannot be started: {error}"))
    }
}

/// A body that expressions are asked of. It is checked once, for the first of them that is plain.
#[derive(Debug)]
pub(crate) struct Body<'a> {
    text: &'a [u8],
    checked: OnceCell<Result<CheckedJson<'a>, unisono_select::Error>>,
}

impl<'a> Body<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { text: unmarked(bytes), checked: OnceCell::new() }
    }

    fn checked(&self) -> Result<&CheckedJson<'a>, &unisono_select::Error> {
        self.checked.get_or_init(|| checked(self.text)).as_ref()
    }
}

/// How long an evaluation may take when the attempt has so much time left: it is to end before the attempt does, which
/// would not know why it was late.
fn limit(left: Option<Duration>) -> Duration {
    left.map_or(LONGEST, |left| LONGEST.min(left - left / 8))
}

/// The process. Dropping it kills it.
#[derive(Debug)]
struct Process {
    socket: UnixStream,
    /// There until it is dropped.
    ending: Option<Ending>,
    killed: Rc<RefCell<Vec<Ending>>>,
}

impl Process {
    fn start(command: &EvaluatorCommand, killed: &Rc<RefCell<Vec<Ending>>>) -> io::Result<Self> {
        let (ours, theirs) = Socket::pair()?;
        ours.set_nonblocking(true)?;
        let socket = UnixStream::from_std(ours)?;
        let theirs = above_standard(theirs.into())?;
        let null = above_standard(File::options().read(true).write(true).open("/dev/null")?.into())?;
        let strings = |words: &[OsString]| {
            words.iter().map(|word| Ok(CString::new(word.clone().into_vec())?)).collect::<io::Result<Vec<CString>>>()
        };
        let arguments = strings(&command.words)?;
        let started = Starter::default().start(&Program {
            files: &arguments[..arguments.len().min(1)],
            arguments: &arguments,
            environment: &strings(&command.environment)?,
            folder: Some(c"/"),
            streams: [Some(theirs.as_fd()), Some(null.as_fd()), Some(null.as_fd())],
            terminal: None,
            only_streams: true,
        })?;
        let ending = Ending { pid: started.pid, end: started.end };
        Ok(Self { socket, ending: Some(ending), killed: killed.clone() })
    }

    async fn exchange(&mut self, question: &[u8]) -> io::Result<EvaluatorReply> {
        self.socket.write_all(question).await?;
        let mut head = [0; EvaluatorReply::HEAD_BYTES];
        self.socket.read_exact(&mut head).await?;
        let (mut reply, length) = EvaluatorReply::parse(head).ok_or(io::ErrorKind::InvalidData)?;
        // Nothing is set aside for what is only announced.
        (&mut self.socket).take(length).read_to_end(&mut reply.text).await?;
        if (reply.text.len() as u64) < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(reply) }
    }

    /// Why it has ended.
    async fn end(mut self) -> String {
        // What has closed its socket is about to end.
        let Some(ending) = self.ending.take() else { return String::new() };
        let status = ending.wait().await;
        match status.and_then(|status| status.signal()) {
            Some(libc_signal::ABORT | libc_signal::SEGMENTATION | libc_signal::BUS) => {
                format!("it ran out of memory ({} MiB), or recursed too deeply", MOST_MEMORY_BYTES >> 20)
            }
            Some(signal) => format!("the process that evaluates expressions was ended by signal {signal}, twice"),
            None => "the process that evaluates expressions ended, twice".to_owned(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(ending) = self.ending.take() {
            ending.kill();
            self.killed.borrow_mut().push(ending);
        }
    }
}

/// A process that ends or will be made to.
#[derive(Debug)]
struct Ending {
    pid: Pid,
    end: OwnedFd,
}

impl Ending {
    fn kill(&self) {
        // It may have ended already.
        let _ = pidfd_send_signal(&self.end, Signal::KILL);
    }

    /// Takes in its end, if it has come.
    fn has_ended(&mut self) -> bool {
        // Where the program reaps all its children itself, it is no child of ours any more.
        !matches!(reap(self.pid), Ok(None))
    }

    /// Waits for its end; how it ended, where we are told.
    async fn wait(self) -> Option<ExitStatus> {
        let watched = self.end.try_clone().and_then(Watched::readable);
        if let Ok(watched) = watched {
            // An error means that nothing more will be known of it.
            let _ = std::future::poll_fn(|context| watched.poll_read_ready(context).map(drop)).await;
        }
        reap(self.pid).ok().flatten().map(|ended| ended.status)
    }
}

impl Drop for Evaluator {
    fn drop(&mut self) {
        // Where the run was dropped before its end. They have been killed, so they end in a moment.
        drop(self.process.get_mut().take());
        for ending in self.killed.take() {
            let mut end = [rustix::event::PollFd::new(&ending.end, rustix::event::PollFlags::IN)];
            while rustix::event::poll(&mut end, None) == Err(rustix::io::Errno::INTR) {}
            let _ = reap(ending.pid);
        }
    }
}

/// The same open file under a number that is not that of a standard stream, which may be closed in our process.
fn above_standard(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(&descriptor, 3)?)
}

/// How a process ends that runs out of memory or stack, see signal(7).
mod libc_signal {
    pub const ABORT: i32 = rustix::process::Signal::ABORT.as_raw();
    pub const SEGMENTATION: i32 = rustix::process::Signal::SEGV.as_raw();
    pub const BUS: i32 = rustix::process::Signal::BUS.as_raw();
}

/// Longest evaluation. Other rows wait meanwhile, for which their attempts have 30 seconds unless told otherwise; and
/// it is many times what a filter takes on the largest body there may be.
const LONGEST: Duration = Duration::from_secs(5);
/// A process may end for reasons that are not the row's.
const TRIES: usize = 2;

#[cfg(test)]
mod tests {
    use std::env;

    use rustix::process::{kill_process, test_kill_process};
    use tokio::time::timeout;

    use super::*;

    /// The other side of these tests, which start it by its name.
    #[test]
    fn evaluates() {
        // Where it is run as a test, standard input is not what it serves.
        let _ = super::super::serve_expressions();
    }

    fn evaluator() -> Evaluator {
        let this = env::current_exe().unwrap().into_os_string();
        let words = ["--exact", "fetch::evaluator::tests::evaluates", "--nocapture"].map(OsString::from);
        let words = [this].into_iter().chain(words).collect();
        Evaluator::new(Some(EvaluatorCommand { words, environment: Vec::new() }))
    }

    async fn run(evaluator: &Evaluator, expression: &str, body: &str, by: Option<Duration>) -> Result<String, String> {
        let filter = Filter::new(expression).unwrap();
        let outputs = evaluator.run(&filter, &Body::new(body.as_bytes()), by.map(|by| clock::now() + by)).await?;
        Ok(String::from_utf8(outputs.into_json()).unwrap())
    }

    async fn number(evaluator: &Evaluator) -> Option<Pid> {
        Some(evaluator.process.lock().await.as_ref()?.ending.as_ref()?.pid)
    }

    const HANGS_WHEN_TOLD: &str = "if . == 0 then (def f: f; f) else . + 1 end";

    #[tokio::test]
    async fn ten_thousand_bodies_are_evaluated_by_one_process_and_plain_ones_by_none() {
        let evaluator = evaluator();
        assert_eq!(run(&evaluator, ".a", "{\"a\":1}", None).await.unwrap(), "1");
        assert_eq!(number(&evaluator).await, None);
        assert_eq!(run(&evaluator, "[.[] | . * 2], \"x\"", "[1,2]", None).await.unwrap(), "[[2,4],\"x\"]");
        let first = number(&evaluator).await;
        let filter = Filter::new(". + 1").unwrap();
        for number in 0..10_000 {
            let outputs = evaluator.run(&filter, &Body::new(number.to_string().as_bytes()), None).await.unwrap();
            assert_eq!(outputs.into_json(), (number + 1).to_string().into_bytes());
        }
        assert_eq!(number(&evaluator).await, first);
        evaluator.close().await;
        assert_eq!(test_kill_process(first.unwrap()), Err(rustix::io::Errno::SRCH), "it is gone, and its end taken in");
    }

    #[tokio::test]
    async fn b2_what_never_ends_fails_alone_before_its_attempt_is_over() {
        let evaluator = evaluator();
        let second = Duration::from_secs(1);
        let (hung, next, last) = tokio::join!(
            run(&evaluator, HANGS_WHEN_TOLD, "0", Some(second)),
            run(&evaluator, HANGS_WHEN_TOLD, "1", None),
            run(&evaluator, HANGS_WHEN_TOLD, "2", None),
        );
        assert!(hung.unwrap_err().contains("it took longer than 0.9 s"));
        assert_eq!((next.unwrap().as_str(), last.unwrap().as_str()), ("2", "3"));
        evaluator.close().await;
    }

    #[tokio::test]
    async fn b1_b2_what_eats_memory_or_stack_fails_alone() {
        let evaluator = evaluator();
        let error = run(&evaluator, "\"x\" * 2000000000", "1", None).await.unwrap_err();
        assert!(error.contains("it ran out of memory (1536 MiB), or recursed too deeply"), "{error}");
        assert_eq!(run(&evaluator, ". + 1", "1", None).await.unwrap(), "2");
        // A slow machine may not come to the end of the stack in time.
        let error = run(&evaluator, "def f: 1 + f; f", "1", None).await.unwrap_err();
        assert!(error.contains("recursed too deeply") || error.contains("it took longer"), "{error}");
        assert_eq!(run(&evaluator, ". + 1", "1", None).await.unwrap(), "2");
        evaluator.close().await;
    }

    #[tokio::test]
    async fn a_process_that_somebody_kills_costs_no_row() {
        let evaluator = evaluator();
        run(&evaluator, ". + 1", "1", None).await.unwrap();
        for expression in [". + 1", "last(range(300000)) + . - 299998"] {
            let process = number(&evaluator).await.unwrap();
            // Before, while or after it evaluates, as it happens.
            let (result, ()) = tokio::join!(run(&evaluator, expression, "1", None), async {
                kill_process(process, Signal::KILL).unwrap();
            });
            assert_eq!(result.unwrap(), "2");
            assert_eq!(run(&evaluator, ". + 1", "1", None).await.unwrap(), "2");
            assert_ne!(number(&evaluator).await, Some(process));
        }
        evaluator.close().await;
    }

    #[tokio::test]
    async fn an_attempt_that_is_stopped_takes_its_evaluation_with_it() {
        let evaluator = evaluator();
        run(&evaluator, ". + 1", "1", None).await.unwrap();
        let process = number(&evaluator).await.unwrap();
        let hanging = run(&evaluator, HANGS_WHEN_TOLD, "0", None);
        assert!(timeout(Duration::from_millis(50), hanging).await.is_err());
        assert_eq!(number(&evaluator).await, None);
        assert_eq!(run(&evaluator, HANGS_WHEN_TOLD, "1", None).await.unwrap(), "2");
        evaluator.close().await;
        assert_eq!(test_kill_process(process), Err(rustix::io::Errno::SRCH));
    }

    #[tokio::test]
    async fn it_ends_with_its_socket_whatever_it_is_doing() {
        let evaluator = evaluator();
        run(&evaluator, ". + 1", "1", None).await.unwrap();
        let mut process = evaluator.process.lock().await.take().unwrap();
        process.socket.write_all(&request(HANGS_WHEN_TOLD, b"0")).await.unwrap();
        let ending = process.ending.take().unwrap();
        drop(process);
        let status = timeout(Duration::from_secs(60), ending.wait()).await.unwrap();
        assert_eq!(status.and_then(|status| status.signal()), Some(Signal::KILL.as_raw()));
    }

    #[tokio::test]
    async fn it_has_a_group_of_its_own_so_that_ctrl_c_is_ours() {
        let evaluator = evaluator();
        run(&evaluator, ". + 1", "1", None).await.unwrap();
        let process = number(&evaluator).await.unwrap();
        assert_eq!(rustix::process::getpgid(Some(process)), Ok(process));
        evaluator.close().await;
    }

    #[tokio::test]
    async fn what_takes_too_many_steps_here_is_evaluated_there() {
        let evaluator = evaluator();
        let expression = format!("[.]{} | length", " | [.[], .[]]".repeat(16));
        assert!(Filter::new(&expression).unwrap().is_plain());
        assert_eq!(run(&evaluator, &expression, "1", None).await.unwrap(), "65536");
        assert!(number(&evaluator).await.is_some());
        evaluator.close().await;
        let without = Evaluator::new(None);
        assert!(run(&without, &expression, "1", None).await.unwrap_err().contains("too many steps"));
    }

    #[tokio::test]
    async fn what_cannot_be_started_says_so() {
        let command = EvaluatorCommand { words: vec!["/nowhere/unisono".into()], environment: Vec::new() };
        let evaluator = Evaluator::new(Some(command));
        let error = run(&evaluator, ". + 1", "1", None).await.unwrap_err();
        assert!(error.contains("cannot be started: No such file"), "{error}");
    }
}
