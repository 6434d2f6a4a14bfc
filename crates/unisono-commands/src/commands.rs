//! All commands of a run: started when there are descriptors for another one, and tried again where that passes.

use std::{
    cell::{Cell, RefCell},
    io,
    time::Duration,
};

use rustix::process::set_child_subreaper;
use tokio::sync::{Semaphore, SemaphorePermit};
use unisono_core::clock;
use unisono_sys::{descriptors, foreground, tree::Children};

use crate::{
    child::{Captured, Onlookers, Running, Shared, StopConditions},
    command::{Command, Launcher, SpawnError},
    descendants::kill_descendants,
    options::CommandsOptions,
};

/// Runs commands, and knows which of them run.
#[derive(Debug)]
pub struct Commands {
    shared: Shared,
    launcher: RefCell<Launcher>,
    /// As many as there are descriptors for.
    permits: Semaphore,
    most: u32,
    waited_for_permit: Cell<bool>,
}

/// A place among the commands that there are descriptors for.
#[derive(Debug)]
pub struct CommandPermit<'a>(#[expect(dead_code, reason = "held until the command is over")] SemaphorePermit<'a>);

impl Commands {
    /// Makes this process the one to which orphaned descendants come, if it is there for commands alone.
    ///
    /// # Errors
    /// When the kernel refuses that, or there is no `/dev/null`.
    pub fn new(options: CommandsOptions) -> io::Result<Self> {
        if options.sole {
            set_child_subreaper(Some(rustix::process::getpid()))?;
        }
        let children = options.sole.then(|| Children::open().ok()).flatten();
        let look_every = match options.terminal.is_some() {
            true => Some(LOOK_AT_LENT),
            false => foreground::is_there().then_some(LOOK_AT_STOPPED),
        };
        let launcher = RefCell::new(Launcher::new(options.terminal.clone())?);
        let most = most_commands(descriptors::left());
        let shared = Shared {
            options,
            children: RefCell::new(children),
            running: RefCell::default(),
            snapshot: RefCell::default(),
            buffer: RefCell::new(Vec::with_capacity(READ_AT_ONCE_BYTES)),
            look_every,
        };
        Ok(Self { shared, launcher, permits: Semaphore::new(most as usize), most, waited_for_permit: Cell::new(false) })
    }

    /// How many commands there were descriptors for, when that was fewer than wanted.
    pub fn most_at_once(&self) -> Option<u32> {
        self.waited_for_permit.get().then_some(self.most)
    }

    /// Waits until there are descriptors for another command. What is returned keeps its place.
    pub async fn permit(&self) -> CommandPermit<'_> {
        CommandPermit(match self.permits.try_acquire() {
            Ok(permit) => permit,
            Err(_) => {
                self.waited_for_permit.set(true);
                self.permits.acquire().await.expect("it is never closed")
            }
        })
    }

    /// Runs a command, and returns when nothing of it is left. `sequence` tells it from all others of the run.
    ///
    /// # Errors
    /// When it could not be started.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use unisono_commands::{StopConditions, Command, Commands, Onlookers, CommandsOptions, StopLevel, guard::Gate};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let commands = Commands::new(CommandsOptions {
    ///     run: "example".to_owned(),
    ///     grace: Duration::from_secs(5),
    ///     leave_running: false,
    ///     keep_watched: false,
    ///     max_output: None,
    ///     spool: std::env::temp_dir(),
    ///     sole: false,
    ///     gate: Gate::default(),
    ///     terminal: None,
    /// })?;
    /// let command = Command { argv: ["sh", "-c", "echo out; exit 3"].map(Into::into).into(), ..Command::default() };
    /// let (_stop, level) = tokio::sync::watch::channel(StopLevel::Run);
    /// let permit = commands.permit().await;
    /// let ended = commands.run(permit, &command, 1, Onlookers::default(), StopConditions { by: None, level }).await?;
    /// assert_eq!(ended.stdout.head(), b"out\n");
    /// assert_eq!(ended.status.and_then(|status| status.code()), Some(3));
    /// assert_eq!(ended.left_over, 0);
    /// # Ok(()) }
    /// ```
    pub async fn run(
        &self,
        _permit: CommandPermit<'_>,
        command: &Command,
        sequence: u64,
        onlookers: Onlookers<'_>,
        bounds: StopConditions,
    ) -> Result<Captured, SpawnError> {
        let started = clock::wall();
        let running =
            self.start(command, sequence, onlookers).await.map_err(|error| SpawnError::new(command, error))?;
        Ok(running.finish(bounds, started).await)
    }

    /// Ends whatever descends from this process: what hid from the end of its command. Returns how many it were. Only
    /// for a process that has no other children, once no command runs.
    pub fn end_strays(&self) -> u32 {
        kill_descendants()
    }

    async fn start<'a>(
        &'a self,
        command: &Command,
        sequence: u64,
        onlookers: Onlookers<'a>,
    ) -> io::Result<Running<'a>> {
        let marker = format!("{}:{sequence}", self.shared.options.run);
        let mut tries = 0;
        let launched = loop {
            match self.shared.options.gate.pass(|| command.start(&mut self.launcher.borrow_mut(), &marker)) {
                // A program that is just being written, and a full process table, pass.
                Err(error) if is_passing(&error) && tries < SPAWN_TRIES => {
                    tries += 1;
                    tokio::time::sleep(SPAWN_PAUSE).await;
                }
                result => break result?,
            }
        };
        Running::of(&self.shared, launched, marker, &command.stdin, onlookers)
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ExecutableFileBusy | io::ErrorKind::WouldBlock)
}

/// How many commands run at once under a limit of so many descriptors.
pub fn most_commands(descriptors: u64) -> u32 {
    let most = descriptors.saturating_sub(OTHER_DESCRIPTORS) / DESCRIPTORS_PER_COMMAND;
    u32::try_from(most.clamp(1, MOST_AT_ONCE)).expect("it was clamped")
}

/// How many descriptors it takes to start one command with so many pipes.
pub fn least_descriptors(pipes: u32) -> u64 {
    // Both ends of each, a pidfd, and one that a start takes for a moment.
    u64::from(pipes) * 2 + 2
}

/// A person does not notice the one, and may have to wait for the other.
const LOOK_AT_LENT: Duration = Duration::from_millis(50);
const LOOK_AT_STOPPED: Duration = Duration::from_secs(1);
const SPAWN_TRIES: u32 = 50;
const SPAWN_PAUSE: Duration = Duration::from_millis(10);
/// What a pipe holds (`/proc/sys/fs/pipe-max-size` apart).
const READ_AT_ONCE_BYTES: usize = 64 << 10;
/// Both ends of two pipes, a pidfd, two spool files, and one end of a third pipe where there is input.
const DESCRIPTORS_PER_COMMAND: u64 = 8;
/// Results, input, and what starting and looking at processes takes for a moment.
const OTHER_DESCRIPTORS: u64 = 24;
const MOST_AT_ONCE: u64 = 100_000;
