//! A batch of one's own, without Python: which of these addresses accept a connection?
//!
//! At most 50 at once, a second for each attempt, two repeats:
//! `cargo run -p unisono-batch --example who_listens -- 127.0.0.1:22 127.0.0.1:80`

use std::{
    env, io,
    process::ExitCode,
    rc::Rc,
    task::{self, Poll},
    time::Duration,
};

use tokio::net::TcpStream;
use unisono_batch::{
    Attempt, Batch, Context, Decided, Halt, Job, Monitor, Offer, Pull, Settings, Sink, Source, Verdict, drive,
};
use unisono_core::{CancelToken, Limits, OutcomeKind, RetryPolicy, Times, reactor::Reactor};

/// What is tried for each address.
struct Connect;

impl Job for Connect {
    type Item = String;
    type Value = String;

    async fn attempt(&self, address: Rc<String>, _: Context) -> Attempt<String, String> {
        match TcpStream::connect(&*address).await {
            Ok(_) => Attempt::new(Verdict::Final(OutcomeKind::Ok), "listens".to_owned()),
            // An address that makes no sense makes none the next time.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                Attempt::new(Verdict::Final(OutcomeKind::Failed), error.to_string())
            }
            Err(error) => {
                let verdict = Verdict::Retry { otherwise: OutcomeKind::Failed, not_before: None };
                Attempt::new(verdict, error.to_string())
            }
        }
    }

    fn halted(&self, _: &String, halt: Halt, last: Option<String>) -> (Verdict, String) {
        match halt {
            Halt::AttemptTimeout { .. } => {
                (Verdict::Retry { otherwise: OutcomeKind::TimedOut, not_before: None }, "no answer".to_owned())
            }
            Halt::Deadline { .. } => (Verdict::Final(OutcomeKind::TimedOut), "no answer in time".to_owned()),
            Halt::Cancelled { .. } => (Verdict::Final(OutcomeKind::Cancelled), "stopped".to_owned()),
            _ => (Verdict::Final(OutcomeKind::Failed), last.unwrap_or_else(|| "given up".to_owned())),
        }
    }
}

/// Addresses, handed over as the engine asks for them. Their key is the host, which `per_key` limits would hold for.
struct Addresses<I>(I);

impl<I: Iterator<Item = String>> Source for Addresses<I> {
    type Item = String;

    fn poll_pull(&mut self, _: &mut task::Context<'_>, max: usize, into: &mut Vec<Offer<String>>) -> Poll<Pull> {
        into.extend(self.0.by_ref().take(max).map(|address| Offer {
            key: address.rsplit_once(':').map_or(&*address, |(host, _)| host).into(),
            item: address,
        }));
        Poll::Ready(if into.is_empty() { Pull::End } else { Pull::More })
    }
}

/// Prints each outcome as it comes, and counts those that are not well.
#[derive(Default)]
struct Print {
    not_ok: usize,
}

impl Sink<Connect> for Print {
    fn deliver(&mut self, decided: &mut Vec<Decided<Connect>>) {
        for one in decided.drain(..) {
            println!("{}: {} ({}, attempts: {})", one.item, one.value, one.kind, one.attempts);
            self.not_ok += usize::from(one.kind != OutcomeKind::Ok);
        }
    }

    fn poll_credit(&mut self, _: &mut task::Context<'_>) -> usize {
        usize::MAX
    }
}

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let batch = Batch {
        settings: Settings {
            limits: Limits::new(50.try_into().ok(), None),
            times: Times { timeout: Some(Duration::from_secs(1)), ..Times::default() },
            retry: RetryPolicy { repeats: 2, ..RetryPolicy::default() },
            ordered_by_key: false,
        },
        source: Addresses(env::args().skip(1)),
        sink: Print::default(),
        cancel: CancelToken::new(),
        monitor: Monitor::new(),
    };
    // Every address that was pulled has been printed once when this returns, whatever has become of it.
    let printed = Reactor::run_here(|| drive(Connect, batch))?.sink;
    Ok(ExitCode::from(u8::from(printed.not_ok > 0)))
}
