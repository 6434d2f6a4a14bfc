//! An exchange that takes place on another machine, seen from here; and the other side of it.
//!
//! [`Remote`] puts a request into a queue, as bytes, and waits for its result. What takes from the queue carries both:
//! this crate knows nothing of clusters. Everything but the exchange stays here: limits, retries, pauses, and what an
//! end means.
//!
//! A request counts as sent from the moment when it is handed over until the other side says that it was not. One whose
//! future is dropped is recalled, and keeps its slot until the other side is through with it, so that limits hold
//! there as well. An exchange whose machine has gone ends like one whose connection was closed under it: what does no
//! harm twice is handed to another machine, once, and everything else is judged.
//!
//! [`RemoteWorker`] is the other side: exchanges that run beside each other on one client, as one future.

use std::{collections::HashMap, rc::Rc};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use tokio::sync::{mpsc, oneshot};
use unisono_batch::{BlockingPool, Context, UnattachedPool, WorkNotifier, WorkQueue};
use unisono_core::{Effect, ErrorKind, Peer};
use unisono_net::Local;

use crate::{
    Client, Error, Request, Response, StatusSet, Streaming, Trail,
    client::is_news_of,
    trail::{Hop, HopStage},
    wire::{RemoteEnd, decode_end, decode_request, encode_end, encode_request},
};

/// How a request that was put into the queue came back.
#[derive(Debug)]
pub enum RemoteResult {
    /// With the end of its exchange, as the other side wrote it.
    Ended(Vec<u8>),
    /// It is not known: the machine that had it has gone, and why.
    Lost(String),
    /// It was never sent, and why.
    Unsent(String),
}

/// The engine's end of a queue of requests: where they are put, and their results come from.
pub type RemoteChannel = UnattachedPool<Vec<u8>, RemoteResult>;

/// The carrier's end: where requests are taken from, and their results given back.
pub type RemoteQueue = WorkQueue<Vec<u8>, RemoteResult>;

/// Both ends. The notifier is called when there is something in the queue: see [`BlockingPool::with_foreign_workers`].
pub fn remote_queue(notifier: WorkNotifier) -> (RemoteChannel, RemoteQueue) {
    BlockingPool::with_foreign_workers(notifier)
}

/// Sends requests by way of another machine. Clones share the queue.
#[derive(Clone)]
pub struct Remote {
    pool: Rc<BlockingPool<Vec<u8>, RemoteResult>>,
    expect: StatusSet,
}

impl Remote {
    /// Puts requests into this channel; `expect` are the statuses that are a success.
    pub fn new(channel: RemoteChannel, expect: StatusSet) -> Self {
        Self { pool: Rc::new(channel.attach()), expect }
    }

    pub(crate) fn expect(&self) -> &StatusSet {
        &self.expect
    }

    /// Hands results to the attempts that wait for them. Never ends; to be polled beside them.
    pub(crate) async fn deliver(&self) {
        self.pool.deliver().await;
    }

    /// Has a request sent, and waits for the whole answer.
    pub(crate) async fn open(&self, request: &Request, trail: &Trail, attempt: &Context) -> Result<Streaming, Error> {
        let hop = trail.last_hop();
        let (first, redirects) = hop.as_ref().map_or((request, 0), |hop| (&hop.request, hop.redirects));
        if first.body.as_bytes().is_none() {
            let message = "a file or a stream is not sent by another machine, which does not have it: send it from here, \
                           or give its bytes";
            return Err(Error::new(ErrorKind::Input, message));
        }
        attempt.begin();
        // The other side takes the hop that it is given for the row's own.
        let is_own = is_news_of(request, first);
        trail.reached(if is_own { HopStage::Sent } else { HopStage::Apart });
        let mut result = self.pool.submit(encode_request(first, redirects), attempt.hold()).await;
        if matches!(result, Some(RemoteResult::Lost(_))) && first.is_repeatable() {
            // All that a machine had comes back at once, which is no fault of their servers: their budgets are not for
            // it.
            result = self.pool.submit(encode_request(first, redirects), attempt.hold()).await;
        }
        let lost = |why: String| {
            let origin = request.url.origin();
            Error::new(ErrorKind::Closed, format!("whoever asked {origin} has gone")).with_source(why)
        };
        match result {
            Some(RemoteResult::Ended(bytes)) => {
                let RemoteEnd { effect, hop, peer, outcome } = decode_end(bytes.into())?;
                attempt.settle(effect);
                if let Some(hop) = hop {
                    trail.go_on_from(hop);
                }
                let peer = if is_own { peer } else { Peer::Unknown };
                outcome.map(|response| Streaming::whole(response, effect, peer)).map_err(|error| error.of_peer(peer))
            }
            Some(RemoteResult::Lost(why)) => Err(lost(why)),
            Some(RemoteResult::Unsent(why)) => {
                attempt.settle(Effect::None);
                let origin = request.url.origin();
                Err(Error::new(ErrorKind::Connect, format!("nobody asked {origin}")).with_source(why))
            }
            None => Err(lost("what carries requests has ended".to_owned())),
        }
    }
}

/// What the other side is told.
#[derive(Debug)]
pub enum RemoteCommand {
    /// Send this request, as bytes, under this number.
    Send(u64, Bytes),
    /// End the exchange with this number early.
    Stop(u64),
}

/// Exchanges on another machine's behalf, all on one client.
///
/// ```
/// # async fn example() -> Result<(), unisono_http::Error> {
/// use unisono_http::{Client, ClientOptions, RemoteWorker};
/// let client = Client::new(ClientOptions::default())?;
/// let (commands, worker) = RemoteWorker::new(client, |number, end| println!("{number}: {} bytes", end.len()));
/// drop(commands);
/// worker.serve().await;
/// # Ok(()) }
/// ```
pub struct RemoteWorker<F> {
    client: Client,
    commands: mpsc::UnboundedReceiver<RemoteCommand>,
    ended: F,
    stops: HashMap<u64, oneshot::Sender<()>>,
}

impl<F: Fn(u64, Vec<u8>)> RemoteWorker<F> {
    /// Returns where commands are given, and what does them. `ended` is called for each, with its number and its end as
    /// bytes; it must not block.
    pub fn new(client: Client, ended: F) -> (mpsc::UnboundedSender<RemoteCommand>, Self) {
        let (sender, commands) = mpsc::unbounded_channel();
        (sender, Self { client, commands, ended, stops: HashMap::new() })
    }

    /// Does what it is told until the last sender of commands is dropped. What runs then is dropped as well.
    pub async fn serve(mut self) {
        let mut exchanges: FuturesUnordered<Local<(u64, Vec<u8>)>> = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    None => return,
                    Some(RemoteCommand::Send(number, request)) => {
                        let (stop, stopped) = oneshot::channel();
                        self.stops.insert(number, stop);
                        let client = self.client.clone();
                        let exchange = async move { (number, encode_end(&exchange(&client, request, stopped).await)) };
                        exchanges.push(exchange.boxed_local());
                    }
                    Some(RemoteCommand::Stop(number)) => {
                        // One that has ended by itself is told by its end.
                        if let Some(stop) = self.stops.remove(&number) {
                            _ = stop.send(());
                        }
                    }
                },
                Some((number, end)) = exchanges.next() => {
                    self.stops.remove(&number);
                    (self.ended)(number, end);
                }
            }
        }
    }
}

/// One exchange, from a request's bytes to its end.
async fn exchange(client: &Client, request: Bytes, stopped: oneshot::Receiver<()>) -> RemoteEnd {
    let (attempt, trail) = (Context::detached(), Trail::default());
    let outcome = async {
        let (request, redirects) = decode_request(request)?;
        tokio::select! {
            biased;
            _ = stopped => Err(Error::new(ErrorKind::Cancelled, "stopped before it was done")),
            outcome = whole(client, Hop { request, redirects }, &trail, &attempt) => outcome,
        }
    };
    let outcome = outcome.await;
    let (peer, outcome) = match outcome {
        Ok((response, peer)) => (peer, Ok(response)),
        Err(error) => (error.peer(), Err(error)),
    };
    RemoteEnd { effect: attempt.effect(), hop: trail.last_hop(), peer, outcome }
}

/// For fuzzing: how an exchange ends that is stopped before it is begun, as bytes.
pub(crate) fn stopped_at_once(client: &Client, request: Bytes) -> Vec<u8> {
    let (stop, stopped) = oneshot::channel();
    stop.send(()).expect("its other end is here");
    encode_end(&exchange(client, request, stopped).now_or_never().expect("it waits for nothing"))
}

/// The answer as a job would take it: a success whole or not at all, anything else as worker as it comes.
async fn whole(client: &Client, first: Hop, trail: &Trail, attempt: &Context) -> Result<(Response, Peer), Error> {
    let row = first.request.clone();
    let streaming = client.open_from(first, trail, attempt, &row).await?;
    let peer = streaming.peer;
    match client.options().expect.contains(streaming.status) {
        true => Ok((streaming.collect_for(attempt).await?, peer)),
        false => Ok((streaming.as_far_as_it_comes().await, peer)),
    }
}
