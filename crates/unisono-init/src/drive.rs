//! The loop around the machine: waits for the next signal or the next time, and does what the machine answers.
//!
//! One thread, no handlers, no descriptors kept open. Everything is decided in `supervisor.rs`; here is only how.

use alloc::{borrow::ToOwned, ffi::CString, format, string::String, vec::Vec};
use core::fmt::Display;

use unisono_bare::{
    clock,
    descendants::descendants,
    error::SystemError,
    process::ProcessId,
    program::{self, StandardStream},
    reap::{self, Reaped},
    signals::{self, HeldSignals, Recipient, Signal},
    spawn,
    terminal::InputTerminal,
};
use unisono_units::format_duration;

use crate::{
    options::InitOptions,
    start,
    supervisor::{Action, Event, Phase, Supervisor},
};

/// Runs `words` under `options` until everything is over; returns the exit code.
///
/// `signals` must have been held since the program's start and before any thread: a TERM that came in the meantime
/// waits there, and is forwarded once the command exists.
pub fn run(options: InitOptions, words: &[CString], signals: &HeldSignals) -> u8 {
    let own = ProcessId::own();
    if !own.is_first()
        && let Err(error) = reap::become_subreaper()
    {
        say(format_args!("cannot become the parent of orphans, so some may be missed: {error}"));
    }
    let terminal = InputTerminal::of_standard_input();
    let search = program::variable(start::SEARCH);
    let program = start::program(words, search.as_deref(), terminal.as_ref().is_some_and(InputTerminal::is_ours));
    let command = match spawn::spawn(&program, signals) {
        Ok(command) => command,
        Err(error) => {
            let (message, code) = start::explain(error, &program, search.as_deref());
            message.lines().for_each(say);
            return code;
        }
    };
    let mut drive = Drive {
        verbose: options.verbose,
        hook_words: options.pre_stop.clone(),
        supervisor: Supervisor::new(options, own.is_first(), terminal.is_some()),
        signals,
        own,
        terminal,
        command,
        command_lives: true,
        hook: None,
        exit: None,
    };
    if drive.verbose {
        let place = if own.is_first() { "first process of its namespace" } else { "subreaper" };
        say(format_args!("started {} as {place} {}", command.number(), own.number()));
    }
    let code = drive.until_the_end();
    if let Some(terminal) = &drive.terminal {
        terminal.take_back(command);
    }
    code
}

struct Drive<'a> {
    supervisor: Supervisor,
    signals: &'a HeldSignals,
    own: ProcessId,
    terminal: Option<InputTerminal>,
    /// Also the number of its group.
    command: ProcessId,
    /// Once it has been reaped, its number may be given to another process.
    command_lives: bool,
    hook_words: Option<CString>,
    hook: Option<ProcessId>,
    exit: Option<u8>,
    verbose: bool,
}

impl Drive<'_> {
    fn until_the_end(&mut self) -> u8 {
        // The program that exec'd us may have left children behind, whose end we were never told.
        self.reap();
        loop {
            if let Some(code) = self.exit {
                return code;
            }
            let timeout = self.supervisor.wait_until().map(|until| until.saturating_sub(clock::monotonic()));
            match self.signals.next(timeout) {
                Some(Signal::CHLD) => self.reap(),
                Some(signal) => self.tell(Event::Signal(signal)),
                None => self.tell(Event::Time),
            }
        }
    }

    /// Takes all news of children, and tells it as few events: of ten thousand orphans the supervisor needs not hear
    /// one by one.
    fn reap(&mut self) {
        let (mut ended, mut command_code, mut hook_ended, mut others) = (false, None, false, true);
        loop {
            match reap::reap() {
                Reaped::Ended { process, code } => {
                    ended = true;
                    if process == self.command && self.command_lives {
                        self.command_lives = false;
                        command_code = Some(code);
                    } else if self.hook == Some(process) {
                        self.hook = None;
                        hook_ended = true;
                        if code != 0 {
                            say(format_args!("the pre-stop command ended with {code}"));
                        }
                    }
                }
                Reaped::Stopped { process, signal } if process == self.command => {
                    self.tell(Event::CommandStopped(signal));
                }
                Reaped::Continued(process) if process == self.command => self.tell(Event::CommandContinued),
                Reaped::Stopped { .. } | Reaped::Continued(_) => {}
                Reaped::Nothing => break,
                Reaped::NoChildren => {
                    others = false;
                    break;
                }
            }
        }
        if let Some(code) = command_code {
            if self.verbose {
                say(format_args!("{} ended with {code}", self.command.number()));
            }
            self.tell(Event::CommandEnded { code, others });
        } else if ended {
            self.tell(Event::OthersEnded { others });
        }
        if hook_ended {
            self.tell(Event::HookEnded);
        }
    }

    fn tell(&mut self, event: Event) {
        if self.exit.is_some() {
            return;
        }
        let before = self.supervisor.phase();
        let now = clock::monotonic();
        let actions = self.supervisor.on(now, event);
        let phase = self.supervisor.phase();
        if self.verbose && phase != before {
            let left = self.supervisor.wait_until().map(|until| until.saturating_sub(now));
            let left =
                left.map_or_else(|| "without end".to_owned(), |left| format!("for at most {}", format_duration(left)));
            say(format_args!("{} {left}", describe(phase)));
        }
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Forward(signal) => self.forward(signal),
            Action::StartHook => self.start_hook(),
            Action::KillHook => {
                if let Some(hook) = self.hook {
                    say("the pre-stop command is killed before its end");
                    deliver(Recipient::Group(hook), Signal::KILL);
                }
            }
            Action::AskOthers { but_group } => self.send_to_others(Signal::TERM, but_group),
            Action::KillCommand => {
                say(format_args!("the grace is over, {} is killed", self.command.number()));
                self.send_to_command(Signal::KILL);
            }
            Action::KillEverybody => self.kill_everybody(),
            Action::Suspend => self.suspend(),
            Action::Exit(code) => {
                if self.verbose {
                    say(format_args!("exit {code}"));
                }
                self.exit = Some(code);
            }
        }
    }

    fn forward(&mut self, signal: Signal) {
        if self.verbose {
            say(format_args!("forwarding {signal}"));
        }
        if !self.command_lives {
            return self.send_to_others(signal, false);
        }
        if signal == Signal::CONT {
            self.lend_terminal();
        }
        self.send_to_command(signal);
    }

    /// To the command's group as it is now, for it may have changed it; to the command alone if that is our own.
    fn send_to_command(&self, signal: Signal) {
        match self.command.group() {
            Some(group) if Some(group) != self.own.group() && deliver(Recipient::Group(group), signal) => {}
            _ if self.command_lives => {
                deliver(Recipient::Process(self.command), signal);
            }
            _ => {}
        }
    }

    fn send_to_others(&self, signal: Signal, but_group: bool) {
        let Some(found) = descendants() else {
            // Without /proc the first process can still reach all others, if not choose.
            if self.own.is_first() {
                deliver(Recipient::Everything, signal);
            } else {
                say("what is left cannot be found, since /proc is not that of this namespace");
            }
            return;
        };
        if self.verbose {
            say(format_args!("{} processes are left", found.len()));
        }
        for one in found {
            if !(but_group && one.group == self.command.number()) {
                deliver(Recipient::Process(one.process), signal);
            }
        }
    }

    fn kill_everybody(&self) {
        if self.own.is_first() {
            deliver(Recipient::Everything, Signal::KILL);
            return;
        }
        if self.command_lives {
            self.send_to_command(Signal::KILL);
        }
        for one in descendants().unwrap_or_default() {
            deliver(Recipient::Process(one.process), Signal::KILL);
        }
    }

    fn start_hook(&mut self) {
        let words: Vec<CString> = [c"sh".into(), c"-c".into()].into_iter().chain(self.hook_words.clone()).collect();
        let search = program::variable(start::SEARCH);
        let program = start::program(&words, search.as_deref(), false);
        match spawn::spawn(&program, self.signals) {
            Ok(hook) => self.hook = Some(hook),
            Err(error) => {
                let (message, _) = start::explain(error, &program, search.as_deref());
                message.lines().for_each(say);
                self.tell(Event::HookEnded);
            }
        }
    }

    /// The shell above sees us stop, does what it likes, and continues us in the foreground or behind.
    fn suspend(&mut self) {
        let Some(terminal) = &self.terminal else { return };
        terminal.take_back(self.command);
        self.signals.suspend();
        // Continued in the background, the command gets the CONT that continued us, from the loop, and no terminal.
        // Where nothing could stop us, nothing would continue us either.
        self.lend_terminal();
        if self.terminal.as_ref().is_some_and(|terminal| terminal.belongs_to(self.command)) {
            self.send_to_command(Signal::CONT);
        }
    }

    fn lend_terminal(&self) {
        if let Some(terminal) = &self.terminal
            && terminal.is_ours()
        {
            terminal.give(self.command);
        }
    }
}

/// Whether a process was there to get it. One that may not be sent a signal (another user's) is there, but out of
/// reach.
fn deliver(recipient: Recipient, signal: Signal) -> bool {
    match signals::send(recipient, signal) {
        Ok(()) => true,
        Err(SystemError::NO_PROCESS) => false,
        Err(error) => {
            say(format_args!("cannot send {signal}: {error}"));
            true
        }
    }
}

fn describe(phase: Phase) -> &'static str {
    match phase {
        Phase::Running => "running",
        Phase::Draining(_) => "TERM came: draining",
        Phase::Hook(_) => "running the pre-stop command",
        Phase::Stopping(_) => "stopping",
        Phase::Leaving(_) => "waiting for what is left",
        Phase::Killing(_) => "the grace is over: killing, and waiting",
    }
}

/// One line on standard error, by one write, so that it stays whole between lines of others.
pub(crate) fn say(what: impl Display) {
    let line: String = format!("unisono-init: {what}\n");
    program::print(StandardStream::Error, &line);
}
