//! What a watched process says of itself, without the interpreter and without its lock.

use std::time::Duration;

use unisono_sys::thread_activity::{Activity, ThreadActivity};

use crate::{
    interpreter::{Frame, Interpreter, LockHolder, Thread},
    memory::Memory,
    origin::Origin,
    protocol::{Answer, FrameAnswer, LoopAnswer, Question, ThreadAnswer},
    watchdog::Census,
    watched_loop::now,
};

/// What is looked at to answer.
pub struct View<M> {
    /// The loops, and how often they stood still.
    pub census: Census,
    /// None where its memory cannot be read.
    pub interpreter: Option<Interpreter<M>>,
    /// Which frames are the program's own.
    pub origin: Origin,
    /// The version of the interpreter.
    pub python: String,
}

impl<M: Memory> View<M> {
    /// What is said to a question.
    pub fn answer(&self, question: Question) -> Answer {
        let threads = match question {
            Question::Loops => None,
            Question::Threads => self.interpreter.as_ref().map(|interpreter| self.threads(interpreter)),
        };
        Answer {
            process: std::process::id(),
            python: self.python.clone(),
            stalls: self.census.counts().stalls,
            loops: self.loops(),
            threads,
        }
    }

    fn loops(&self) -> Vec<LoopAnswer> {
        let now = now();
        let loops = self.census.loops().into_iter();
        loops
            .filter_map(|watched| {
                let run = watched.run()?;
                let asked = watched.asked();
                let answered = watched.answered();
                let since = |from: Duration, until: Duration| until.saturating_sub(from).as_secs_f64();
                Some(LoopAnswer {
                    thread: run.name.name.clone(),
                    id: run.name.id,
                    lag_seconds: asked.zip(answered).map(|(from, until)| since(from, until)),
                    unanswered_seconds: asked.filter(|_| answered.is_none()).map(|from| since(from, now)),
                })
            })
            .collect()
    }

    fn threads(&self, interpreter: &Interpreter<M>) -> Vec<ThreadAnswer> {
        let holder = interpreter.lock_holder();
        let mut threads: Vec<_> = interpreter
            .threads()
            .into_iter()
            .filter_map(|thread| {
                let id = interpreter.native_id(thread).filter(|id| *id != 0)?;
                let call = ThreadActivity::of(id).ok().and_then(|activity| match activity.now() {
                    Activity::Sleeps(call) => Some(call.name().map_or_else(|| call.number.to_string(), str::to_owned)),
                    _ => None,
                });
                let has_lock = holder == LockHolder::Thread(thread);
                Some(ThreadAnswer { id, has_lock, call, stack: self.stack(interpreter, thread) })
            })
            .collect();
        // As they were started.
        threads.reverse();
        threads
    }

    fn stack(&self, interpreter: &Interpreter<M>, thread: Thread) -> Option<Vec<FrameAnswer>> {
        let frames = interpreter.stack(thread)?;
        let named = frames.iter().filter_map(|frame| interpreter.named(frame));
        Some(named.map(|frame: Frame| self.shown(frame)).collect())
    }

    fn shown(&self, frame: Frame) -> FrameAnswer {
        let is_own = self.origin.is_own(&frame);
        FrameAnswer { file: frame.file, line: frame.line, function: frame.function, is_own }
    }
}
