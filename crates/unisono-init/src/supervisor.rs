//! What to do when: a pure machine that is told signals, ends of children and the time, and returns actions.
//!
//! The course of things: *running* until TERM; *draining*, while the command goes on as if nothing had happened; the
//! *hook* of `--pre-stop`; *stopping*, from TERM to its end; *leaving*, from the command's end to that of the last
//! process that it left behind; *killing*, when the grace is over. Any of them may be skipped.
//!
//! 1. A request to stop is TERM, as it comes or as it is forwarded after `--rewrite`. Every other signal is passed on
//!    and changes nothing: Ctrl-C in an interpreter is no request to stop.
//! 2. The grace begins when TERM is forwarded, and is one for all: what the command leaves behind has what remains of
//!    it. Without TERM, it begins with the command's end. The hook has a grace of its own, before.
//! 3. A further TERM ends the drain or the hook early. After that it is forwarded like the first and shortens nothing:
//!    `docker stop` twice must not lose data. For that there is KILL, which needs no help of ours.
//! 4. A process that was asked to end is not asked again by us, since a second TERM makes many programs drop their
//!    clean-up.
//! 5. After KILL we wait for five more seconds, since a process that hangs in the kernel cannot be ended at all.
//! 6. With job control, a command that stops takes us with it, so that the shell above can go on; without, it stays
//!    stopped until it is continued. A stopped command is continued when it is asked to end, and once more if it stops
//!    after that, since the news of a stop may come after the request.
//!
//! Time is any duration since a fixed moment. Nothing here sends a signal or reads a clock.

use alloc::vec::Vec;
use core::time::Duration;

use unisono_bare::signals::Signal;

use crate::options::InitOptions;

/// Something that has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A signal came for us.
    Signal(Signal),
    /// The command ended.
    CommandEnded {
        /// Its exit code, or 128 and its signal.
        code: u8,
        /// Whether there are descendants left.
        others: bool,
    },
    /// The command was stopped, and lives on.
    CommandStopped(Signal),
    /// The stopped command goes on.
    CommandContinued,
    /// The hook ended, or could not start.
    HookEnded,
    /// Other processes ended.
    OthersEnded {
        /// Whether there are descendants left.
        others: bool,
    },
    /// Nothing; time has passed.
    Time,
}

/// Something to do, in the order in which it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send this to the command's group; when the command is gone, to all that are left.
    Forward(Signal),
    /// Run the hook.
    StartHook,
    /// Kill the hook and its group.
    KillHook,
    /// Send TERM to all that are left; not to the command's group when it has been asked already.
    AskOthers {
        /// Whether the command's group is passed over.
        but_group: bool,
    },
    /// Kill the command and its group.
    KillCommand,
    /// Kill all that are left.
    KillEverybody,
    /// Stop ourselves as the command is stopped, and continue both.
    Suspend,
    /// End with this code. Nothing comes after.
    Exit(u8),
}

/// How far things are. Each until a time, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The command runs.
    Running,
    /// TERM has come, and waits.
    Draining(Option<Duration>),
    /// TERM has come, and the hook runs.
    Hook(Option<Duration>),
    /// TERM was forwarded.
    Stopping(Option<Duration>),
    /// The command has ended, others have not.
    Leaving(Option<Duration>),
    /// KILL was sent.
    Killing(Option<Duration>),
}

/// See the head of this file.
#[derive(Debug)]
pub struct Supervisor {
    options: InitOptions,
    /// Whether we are the first process of the namespace.
    first: bool,
    /// Whether the command shares a terminal with us.
    terminal: bool,
    phase: Phase,
    /// The command's code, once it has ended.
    code: Option<u8>,
    /// What will be forwarded for the TERM that came; `None` when `--rewrite` says so.
    request: Option<Signal>,
    stopped: bool,
    /// Whether it stopped after it was asked to end, and was continued: once, or it could keep us busy for ever.
    continued: bool,
}

impl Supervisor {
    /// For a command that runs.
    pub fn new(options: InitOptions, first: bool, terminal: bool) -> Self {
        Self {
            options,
            first,
            terminal,
            phase: Phase::Running,
            code: None,
            request: None,
            stopped: false,
            continued: false,
        }
    }

    /// How far things are.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// When to come back with [`Event::Time`] at the latest.
    pub fn wait_until(&self) -> Option<Duration> {
        match self.phase {
            Phase::Running => None,
            Phase::Draining(until)
            | Phase::Hook(until)
            | Phase::Stopping(until)
            | Phase::Leaving(until)
            | Phase::Killing(until) => until,
        }
    }

    /// Takes an event; returns what to do about it. A time that has come counts before the event.
    pub fn on(&mut self, now: Duration, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        // With a grace of nothing one time leads to the next.
        while self.wait_until().is_some_and(|until| until <= now) && !ends(&actions) {
            self.time_has_come(now, &mut actions);
        }
        if !ends(&actions) {
            self.happened(now, event, &mut actions);
        }
        actions
    }

    fn happened(&mut self, now: Duration, event: Event, actions: &mut Vec<Action>) {
        match event {
            Event::Signal(signal) => self.signal(now, signal, actions),
            Event::CommandEnded { code, others } => self.command_ended(now, code, others, actions),
            Event::CommandStopped(signal) => {
                self.stopped = true;
                if matches!(self.phase, Phase::Stopping(_)) {
                    if !self.continued {
                        self.continued = true;
                        actions.push(Action::Forward(Signal::CONT));
                    }
                    return;
                }
                // Above the first process there is none that could continue it. What the keyboard stopped is continued
                // at once; STOP can only have been meant.
                if self.terminal && !(self.first && signal == Signal::STOP) {
                    actions.push(Action::Suspend);
                }
            }
            Event::CommandContinued => self.stopped = false,
            Event::HookEnded if matches!(self.phase, Phase::Hook(_)) => self.forward_request(now, actions),
            Event::HookEnded | Event::Time => {}
            Event::OthersEnded { others } => match self.code {
                Some(code) if !others => actions.push(self.exit(code)),
                // Children of what was killed are ours now, and may have come after we looked.
                _ if others && matches!(self.phase, Phase::Killing(_)) && self.options.wait_all => {
                    actions.push(Action::KillEverybody);
                }
                _ => {}
            },
        }
    }

    fn signal(&mut self, now: Duration, signal: Signal, actions: &mut Vec<Action>) {
        let forwarded = self.options.rewritten(signal);
        let asks_to_stop = signal == Signal::TERM || forwarded == Some(Signal::TERM);
        match self.phase {
            Phase::Running if asks_to_stop => {
                self.request = forwarded;
                self.phase = Phase::Draining(now.checked_add(self.options.drain));
                if self.options.drain.is_zero() {
                    self.drained(now, actions);
                }
            }
            Phase::Draining(_) if asks_to_stop => self.drained(now, actions),
            Phase::Hook(_) if asks_to_stop => {
                actions.push(Action::KillHook);
                self.forward_request(now, actions);
            }
            _ => {
                actions.extend(forwarded.map(Action::Forward));
                if asks_to_stop && self.stopped {
                    actions.push(Action::Forward(Signal::CONT));
                }
            }
        }
    }

    fn drained(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.options.pre_stop.is_some() {
            self.phase = Phase::Hook(self.grace_from(now));
            actions.push(Action::StartHook);
        } else {
            self.forward_request(now, actions);
        }
    }

    fn forward_request(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.phase = Phase::Stopping(self.grace_from(now));
        actions.extend(self.request.map(Action::Forward));
        if self.stopped {
            actions.push(Action::Forward(Signal::CONT));
        }
    }

    fn command_ended(&mut self, now: Duration, code: u8, others: bool, actions: &mut Vec<Action>) {
        self.code = Some(code);
        self.stopped = false;
        if !others {
            return actions.push(self.exit(code));
        }
        if !self.options.wait_all {
            if matches!(self.phase, Phase::Hook(_)) {
                actions.push(Action::KillHook);
            }
            return actions.push(self.exit(code));
        }
        match self.phase {
            Phase::Killing(_) => actions.push(Action::KillEverybody),
            Phase::Stopping(until) => {
                self.phase = Phase::Leaving(until);
                actions.push(Action::AskOthers { but_group: self.request.is_some() });
            }
            _ => {
                self.phase = Phase::Leaving(self.grace_from(now));
                actions.push(Action::AskOthers { but_group: false });
            }
        }
    }

    fn time_has_come(&mut self, now: Duration, actions: &mut Vec<Action>) {
        match self.phase {
            Phase::Running => {}
            Phase::Draining(_) => self.drained(now, actions),
            Phase::Hook(_) => {
                actions.push(Action::KillHook);
                self.forward_request(now, actions);
            }
            Phase::Stopping(_) | Phase::Leaving(_) => {
                self.phase = Phase::Killing(now.checked_add(AFTER_KILL));
                actions.push(if self.options.wait_all { Action::KillEverybody } else { Action::KillCommand });
            }
            Phase::Killing(_) => actions.push(self.exit(self.code.unwrap_or(KILLED))),
        }
    }

    fn grace_from(&self, now: Duration) -> Option<Duration> {
        self.options.grace.and_then(|grace| now.checked_add(grace))
    }

    fn exit(&self, code: u8) -> Action {
        Action::Exit(self.options.exit_code(code))
    }
}

fn ends(actions: &[Action]) -> bool {
    matches!(actions.last(), Some(Action::Exit(_)))
}

/// KILL takes effect within milliseconds, unless the process waits for a device or a file server.
const AFTER_KILL: Duration = Duration::from_secs(5);
/// What a shell would say of a command that ended by KILL.
const KILLED: u8 = 128 + 9;

#[cfg(test)]
mod tests {
    use Action::*;
    use Event::{CommandContinued, CommandEnded, CommandStopped, HookEnded, OthersEnded, Time};
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;

    const TERM: Event = Event::Signal(Signal::TERM);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn supervisor(settings: &[(&str, &str)]) -> Supervisor {
        let mut options = InitOptions::default();
        for (name, value) in settings {
            options.set(name, value).unwrap();
        }
        Supervisor::new(options, true, false)
    }

    #[test]
    fn signals_pass_and_the_exit_code_comes_back() {
        let mut one = supervisor(&[]);
        let hup = Event::Signal(Signal::HUP);
        assert_eq!(one.on(seconds(0), hup), [Forward(Signal::HUP)]);
        assert_eq!(one.wait_until(), None);
        assert_eq!(one.on(seconds(1), CommandEnded { code: 3, others: false }), [Exit(3)]);
    }

    #[test]
    fn term_then_grace_then_kill() {
        let mut one = supervisor(&[("grace", "3s")]);
        assert_eq!(one.on(seconds(10), TERM), [Forward(Signal::TERM)]);
        assert_eq!(one.wait_until(), Some(seconds(13)));
        assert_eq!(one.on(seconds(13), Time), [KillEverybody]);
        assert_eq!(one.on(seconds(13), CommandEnded { code: 137, others: false }), [Exit(137)]);
    }

    #[test]
    fn a_further_term_is_forwarded_and_shortens_nothing() {
        let mut one = supervisor(&[]);
        for second in 0..5 {
            assert_eq!(one.on(seconds(second), TERM), [Forward(Signal::TERM)]);
            assert_eq!(one.wait_until(), Some(seconds(10)));
        }
    }

    #[test]
    fn a_drain_holds_term_back_and_nothing_else() {
        let mut one = supervisor(&[("drain", "5s")]);
        assert_eq!(one.on(seconds(0), TERM), []);
        assert_eq!(one.on(seconds(1), Event::Signal(Signal::HUP)), [Forward(Signal::HUP)]);
        assert_eq!(one.on(seconds(5), Time), [Forward(Signal::TERM)]);
        assert_eq!(one.wait_until(), Some(seconds(15)));
    }

    #[test]
    fn a_second_term_ends_the_drain_and_a_third_the_hook() {
        let mut one = supervisor(&[("drain", "5s"), ("pre-stop", "true")]);
        assert_eq!(one.on(seconds(0), TERM), []);
        assert_eq!(one.on(seconds(1), TERM), [StartHook]);
        assert_eq!(one.on(seconds(2), TERM), [KillHook, Forward(Signal::TERM)]);
        assert_eq!(one.wait_until(), Some(seconds(12)));
    }

    #[test]
    fn the_hook_comes_before_term_and_has_a_grace_of_its_own() {
        let mut one = supervisor(&[("pre-stop", "true")]);
        assert_eq!(one.on(seconds(0), TERM), [StartHook]);
        assert_eq!(one.on(seconds(4), HookEnded), [Forward(Signal::TERM)]);
        assert_eq!(one.wait_until(), Some(seconds(14)));
        let mut two = supervisor(&[("pre-stop", "true")]);
        two.on(seconds(0), TERM);
        assert_eq!(two.on(seconds(10), Time), [KillHook, Forward(Signal::TERM)]);
        assert_eq!(two.on(seconds(10), HookEnded), [], "its end is no news any more");
    }

    #[test]
    fn a_rewritten_term_is_a_request_to_stop_and_so_is_what_becomes_term() {
        let mut one = supervisor(&[("rewrite", "TERM=QUIT"), ("rewrite", "USR1=TERM"), ("rewrite", "HUP=none")]);
        assert_eq!(one.on(seconds(0), Event::Signal(Signal::HUP)), []);
        assert_eq!(one.on(seconds(0), TERM), [Forward(Signal::QUIT)]);
        assert_eq!(one.wait_until(), Some(seconds(10)));
        let mut two = supervisor(&[("rewrite", "QUIT=TERM")]);
        assert_eq!(two.on(seconds(0), Event::Signal(Signal::QUIT)), [Forward(Signal::TERM)]);
        assert_eq!(two.wait_until(), Some(seconds(10)));
    }

    #[test]
    fn who_is_left_is_asked_waited_for_and_killed() {
        let mut one = supervisor(&[]);
        assert_eq!(one.on(seconds(0), CommandEnded { code: 0, others: true }), [AskOthers { but_group: false }]);
        assert_eq!(one.on(seconds(1), OthersEnded { others: true }), []);
        assert_eq!(one.on(seconds(10), Time), [KillEverybody]);
        assert_eq!(one.on(seconds(10), OthersEnded { others: true }), [KillEverybody], "its children are ours now");
        assert_eq!(one.on(seconds(11), OthersEnded { others: false }), [Exit(0)]);
    }

    #[test]
    fn after_term_who_is_left_has_what_remains_of_the_grace_and_its_group_is_not_asked_twice() {
        let mut one = supervisor(&[]);
        one.on(seconds(0), TERM);
        assert_eq!(one.on(seconds(4), CommandEnded { code: 143, others: true }), [AskOthers { but_group: true }]);
        assert_eq!(one.wait_until(), Some(seconds(10)));
        assert_eq!(one.on(seconds(5), OthersEnded { others: false }), [Exit(143)]);
    }

    #[test]
    fn without_waiting_the_end_of_the_command_is_the_end() {
        let mut one = supervisor(&[("no-wait-all", ""), ("pre-stop", "true"), ("map-exit", "143=0")]);
        one.on(seconds(0), TERM);
        assert_eq!(one.on(seconds(1), CommandEnded { code: 143, others: true }), [KillHook, Exit(0)]);
        let mut two = supervisor(&[("no-wait-all", ""), ("grace", "1s")]);
        two.on(seconds(0), TERM);
        assert_eq!(two.on(seconds(1), Time), [KillCommand]);
    }

    #[test]
    fn what_cannot_be_killed_is_left_after_five_seconds() {
        let mut one = supervisor(&[("grace", "1s")]);
        one.on(seconds(0), TERM);
        one.on(seconds(1), Time);
        assert_eq!(one.on(seconds(6), Time), [Exit(137)]);
    }

    #[test]
    fn a_grace_without_end_never_kills() {
        let mut one = supervisor(&[("grace", "none")]);
        assert_eq!(one.on(seconds(0), TERM), [Forward(Signal::TERM)]);
        assert_eq!(one.wait_until(), None);
        assert_eq!(one.on(seconds(1_000_000), Time), []);
    }

    #[test]
    fn a_stopped_command_is_continued_when_it_is_asked_to_end() {
        let mut one = supervisor(&[]);
        assert_eq!(one.on(seconds(0), CommandStopped(Signal::STOP)), []);
        assert_eq!(one.on(seconds(1), TERM), [Forward(Signal::TERM), Forward(Signal::CONT)]);
        let mut two = supervisor(&[]);
        two.on(seconds(0), CommandStopped(Signal::STOP));
        two.on(seconds(0), CommandContinued);
        assert_eq!(two.on(seconds(1), TERM), [Forward(Signal::TERM)]);
    }

    #[test]
    fn a_command_whose_stop_is_learnt_of_late_is_continued_once() {
        let mut one = supervisor(&[]);
        one.on(seconds(0), TERM);
        assert_eq!(one.on(seconds(0), CommandStopped(Signal::STOP)), [Forward(Signal::CONT)]);
        assert_eq!(one.on(seconds(0), CommandStopped(Signal::STOP)), []);
        assert_eq!(one.on(seconds(1), TERM), [Forward(Signal::TERM), Forward(Signal::CONT)]);
    }

    #[test]
    fn job_control_needs_a_terminal_and_the_first_process_respects_stop() {
        for (first, terminal, signal, suspends) in [
            (false, true, Signal::TSTP, true),
            (false, true, Signal::STOP, true),
            (true, true, Signal::TTIN, true),
            (true, true, Signal::STOP, false),
            (false, false, Signal::TSTP, false),
        ] {
            let mut one = Supervisor::new(InitOptions::default(), first, terminal);
            let actions = one.on(seconds(0), CommandStopped(signal));
            assert_eq!(actions, if suspends { vec![Suspend] } else { vec![] }, "{first} {terminal} {signal}");
        }
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            3 => Just(TERM),
            2 => (1..=31).prop_map(|number| Event::Signal(Signal::from_number(number).unwrap())),
            1 => any::<(u8, bool)>().prop_map(|(code, others)| CommandEnded { code, others }),
            1 => Just(CommandStopped(Signal::TSTP)),
            1 => Just(CommandContinued),
            1 => Just(HookEnded),
            2 => any::<bool>().prop_map(|others| OthersEnded { others }),
            3 => Just(Time),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order: nothing is killed before its grace is over, and after a TERM
        /// everything is over within the drain, the hook's grace, the grace, and the five seconds after KILL.
        #[test]
        fn a_stop_keeps_its_times_whatever_happens(
            steps in prop::collection::vec((0_u64..8, event()), 1..60),
            drain in 0_u64..10, grace in 0_u64..10, hook: bool, wait_all: bool, first: bool, terminal: bool,
        ) {
            let options = InitOptions {
                grace: Some(seconds(grace)),
                drain: seconds(drain),
                pre_stop: hook.then(|| c"true".into()),
                wait_all,
                ..InitOptions::default()
            };
            let mut one = Supervisor::new(options, first, terminal);
            let (mut now, mut asked, mut gone) = (Duration::ZERO, None, false);
            for (later, event) in steps {
                // The loop around the machine comes back in time and tells the command's end once.
                let due = one.wait_until();
                let target = now + seconds(later);
                let (at, event) = match due {
                    Some(due) if due <= target => (due.max(now), Time),
                    _ => (target, event),
                };
                now = at;
                if gone && matches!(event, CommandEnded { .. } | CommandStopped(_) | CommandContinued) {
                    continue;
                }
                if matches!(event, OthersEnded { others: false }) && !gone {
                    continue;
                }
                gone |= matches!(event, CommandEnded { .. });
                let began = one.phase();
                let actions = one.on(now, event);
                if event == TERM || (event == Time && began != one.phase()) || gone {
                    asked = asked.or(Some(now));
                }
                for (at, action) in actions.iter().enumerate() {
                    match action {
                        KillCommand | KillEverybody => prop_assert!(now >= asked.unwrap() + seconds(grace)),
                        Exit(_) => prop_assert_eq!(at, actions.len() - 1, "nothing comes after the end"),
                        AskOthers { .. } => prop_assert!(gone && wait_all),
                        Suspend => prop_assert!(terminal),
                        _ => {}
                    }
                }
                if let Some(asked) = asked {
                    let most = drain + 3 * grace + AFTER_KILL.as_secs();
                    prop_assert!(now <= asked + seconds(most) || ends(&actions) || one.wait_until().is_some());
                    prop_assert!(one.wait_until().is_none_or(|until| until <= asked + seconds(most)));
                }
                if ends(&actions) {
                    break;
                }
            }
        }
    }
}
