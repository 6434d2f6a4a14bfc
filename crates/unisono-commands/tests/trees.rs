//! Commands against real processes: how they end, and that nothing of them is left.

use std::{ffi::OsString, fs, path::PathBuf, time::Duration};

use tokio::sync::watch;
use unisono_commands::{
    Captured, Command, Commands, CommandsOptions, MARKER, Onlookers, SpawnError, Stdin, StopConditions, StopLevel,
    StopReason, guard::Gate,
};
use unisono_core::clock;

fn commands(run: &str) -> Commands {
    let options = CommandsOptions {
        run: format!("{run}-{}", std::process::id()),
        grace: Duration::from_millis(200),
        leave_running: false,
        keep_watched: false,
        max_output: None,
        spool: std::env::temp_dir(),
        sole: false,
        gate: Gate::default(),
        terminal: None,
    };
    Commands::new(options).unwrap()
}

fn script(text: &str) -> Command {
    Command { argv: ["sh", "-c", text].map(OsString::from).into(), ..Command::default() }
}

async fn run(commands: &Commands, command: &Command, by: Option<Duration>) -> Result<Captured, SpawnError> {
    let (_sender, level) = watch::channel(StopLevel::Run);
    let by = by.map(|by| clock::now() + by);
    commands.run(commands.permit().await, command, 1, Onlookers::default(), StopConditions { by, level }).await
}

/// The living processes that carry the mark of this run.
fn marked(run: &str) -> Vec<PathBuf> {
    let mark = format!("{MARKER}={run}-{}:", std::process::id());
    let entries = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let carries = |path: &PathBuf| {
        fs::read(path.join("environ"))
            .is_ok_and(|text| text.split(|byte| *byte == 0).any(|entry| entry.starts_with(mark.as_bytes())))
    };
    entries.filter(carries).collect()
}

#[tokio::test]
async fn what_a_command_prints_and_how_it_ends_is_captured() {
    let commands = commands("captured");
    let command = Command { stdin: Stdin::Bytes("in".into()), ..script("cat; printf 'err\\000' >&2; exit 3") };
    let done = run(&commands, &command, None).await.unwrap();
    assert_eq!((done.stdout.head(), done.stderr.head()), (&b"in"[..], &b"err\0"[..]));
    assert_eq!((done.status.unwrap().code(), done.stopped, done.left_over, done.pipes_held), (Some(3), None, 0, false));
}

#[tokio::test]
async fn a_script_that_is_stopped_does_not_go_on_with_its_next_line_as_its_present_one_ends() {
    let commands = commands("next-line");
    let folder = tempfile::tempdir().unwrap();
    let went_on = folder.path().join("went-on");
    let path = went_on.display();
    let scripts = [
        format!("sleep 1000; echo next >> {path}"),
        format!("sleep 1000 | (cat; echo next >> {path})"),
        format!("(sleep 1000; echo next >> {path}) & exit 0"),
        format!("setsid sh -c 'sleep 1000; echo next >> {path}'; echo next >> {path}"),
    ];
    // Whose turn comes first was a matter of luck: of 40 of these some went on.
    for round in 0..10 {
        for text in &scripts {
            run(&commands, &script(text), Some(Duration::from_millis(30))).await.unwrap();
            assert!(!went_on.exists(), "round {round}: {text}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_started_says_why_with_the_status_that_shells_give() {
    let commands = commands("spawn");
    for (program, code) in [("/no/such/program", 127), ("/etc/passwd", 126)] {
        let command = Command { argv: vec![program.into()], ..Command::default() };
        let error = run(&commands, &command, None).await.unwrap_err();
        assert_eq!(error.exit_code(), code);
        assert!(error.to_string().contains(program));
    }
    let command = Command { folder: Some("/no/such/folder".into()), ..script("true") };
    let error = run(&commands, &command, None).await.unwrap_err();
    assert_eq!((error.exit_code(), error.to_string().contains("/no/such/folder")), (126, true));
}

#[tokio::test]
async fn a_program_that_is_just_being_written_is_tried_again() {
    use std::{future::Future, io::Write, os::unix::fs::PermissionsExt, pin::pin, task};
    let commands = commands("busy");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    let mut writer = fs::File::create(&path).unwrap();
    writer.write_all(b"#!/bin/sh\necho ran\n").unwrap();
    writer.set_permissions(fs::Permissions::from_mode(0o700)).unwrap();
    let command = Command { argv: vec![path.into()], ..Command::default() };
    let mut running = pin!(run(&commands, &command, None));
    // The first attempt is made here, and is refused by the kernel (ETXTBSY) as long as there is a writer.
    assert!(running.as_mut().poll(&mut task::Context::from_waker(task::Waker::noop())).is_pending());
    drop(writer);
    assert_eq!(running.await.unwrap().stdout.head(), b"ran\n");
}

#[tokio::test]
async fn a_tree_that_ignores_sigterm_and_changes_its_session_is_gone_after_a_timeout() {
    let commands = commands("timeout");
    let command = script("trap '' TERM; setsid sleep 1000 & sleep 1000 & while :; do sleep 1000; done");
    let done = run(&commands, &command, Some(Duration::from_millis(100))).await.unwrap();
    assert_eq!((done.stopped, done.unkillable), (Some(StopReason::Timeout), 0));
    assert_eq!(marked("timeout"), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a_stopped_command_is_gone_after_a_timeout() {
    let commands = commands("stopped");
    let done = run(&commands, &script("kill -STOP $$"), Some(Duration::from_millis(100))).await.unwrap();
    assert_eq!((done.stopped, done.unkillable), (Some(StopReason::Timeout), 0));
    assert_eq!(marked("stopped"), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn who_keeps_a_pipe_open_is_waited_for_a_moment_and_then_ended() {
    let commands = commands("pipe");
    let done = run(&commands, &script("sleep 1000 & echo out"), None).await.unwrap();
    assert_eq!((done.stdout.head(), done.left_over, done.stopped), (&b"out\n"[..], 1, None));
    let done = run(&commands, &script("(sleep 0.02; echo late) & echo out"), None).await.unwrap();
    assert_eq!((done.stdout.head(), done.left_over), (&b"out\nlate\n"[..], 0));
    assert_eq!(marked("pipe"), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn dropping_the_future_kills_the_tree_before_drop_returns() {
    let commands = commands("drop");
    let command = script("trap '' TERM; setsid sleep 1000 & echo up; sleep 1000");
    let (_sender, level) = watch::channel(StopLevel::Run);
    let mut future = Box::pin(commands.run(
        commands.permit().await,
        &command,
        1,
        Onlookers::default(),
        StopConditions { by: None, level },
    ));
    let is_up = async {
        while marked("drop").len() < 3 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = &mut future => panic!("it does not end by itself"),
        () = is_up => {}
    }
    drop(future);
    assert_eq!(marked("drop"), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn output_beyond_memory_is_whole_and_too_much_of_it_ends_the_command() {
    let commands = commands("large");
    let done = run(&commands, &script("head -c 5000000 /dev/zero"), None).await.unwrap();
    let mut all = Vec::new();
    done.stdout.copy_to(&mut all).unwrap();
    assert!(all.len() == 5_000_000 && all.iter().all(|byte| *byte == 0));
}

#[tokio::test(start_paused = true)]
async fn a_command_that_ended_while_the_reactor_stood_is_not_late() {
    let commands = commands("stood");
    let command = script("echo out; sleep 0.05");
    let stand = async {
        while marked("stood").is_empty() {
            tokio::task::yield_now().await;
        }
        // From here on nothing of this thread is polled until the command has ended.
        while !marked("stood").is_empty() {
            std::thread::yield_now();
        }
        let mut passing = Box::pin(tokio::time::advance(Duration::from_secs(60)));
        let _ = passing.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
    };
    let (done, ()) = tokio::join!(run(&commands, &command, Some(Duration::from_secs(1))), stand);
    let done = done.unwrap();
    assert_eq!((done.stopped, done.stdout.head()), (None, &b"out\n"[..]));
}
