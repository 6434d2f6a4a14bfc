//! An API that behaves badly, on raw sockets: hyper would not let it.
//!
//! What it does to a request depends on the request and on how often it came, so every run of the demonstration meets
//! the same faults.

#![expect(clippy::disallowed_types, reason = "a server, and no engine: its connections are tasks that end with it")]

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, listen, socket_with, sockopt};
use tokio::{
    io::{AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinSet,
    time::sleep,
};

use unisono_core::{clock, reactor::Reactor};

use super::{
    ledger::Ledger,
    talk::{Asked, read, reset, send},
};

/// Two hosts of an API.
pub struct Api {
    /// Up from the start, until it is restarted.
    pub first: SocketAddr,
    /// Down for a while.
    pub second: SocketAddr,
    /// What both did.
    pub ledger: Arc<Ledger>,
    /// Rings when the first is to be restarted.
    restart: Arc<Notify>,
}

impl Api {
    /// Starts both on loopback; the second refuses connections for so long.
    pub fn start(down_for: Duration) -> io::Result<Self> {
        let ledger = Arc::new(Ledger::default());
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let (first, second) = (bound(anywhere)?, bound(anywhere)?);
        listen(&first, BACKLOG)?;
        let restart = Arc::new(Notify::new());
        let (address, called) = (first.local_addr()?, restart.clone());
        let api = Self { first: address, second: second.local_addr()?, ledger: ledger.clone(), restart };
        let run = move || async move {
            let state = Arc::new(State { ledger, served: AtomicU64::new(0), refusing_until: Mutex::new(None) });
            let serving = async {
                let mut present = first;
                loop {
                    let next = bound(address)?;
                    tokio::select! {
                        ended = serve(TcpListener::from_std(present)?, state.clone()) => return ended,
                        () = called.notified() => sleep(AWAY_FOR).await,
                    }
                    listen(&next, BACKLOG)?;
                    present = next;
                }
            };
            let other = async {
                sleep(down_for).await;
                listen(&second, BACKLOG)?;
                serve(TcpListener::from_std(second)?, state.clone()).await
            };
            tokio::try_join!(serving, other).map(drop)
        };
        // It ends with the process.
        Reactor::thread("demo-api").start(run, |_| ()).map_err(io::Error::other)?;
        Ok(api)
    }

    /// Ends the first and all of its connections, in the middle of whatever they do; it is back after [`AWAY_FOR`].
    pub fn restart(&self) {
        self.restart.notify_one();
    }
}

/// A socket that has this address but does not listen yet: the port is taken, and connections to it are refused.
/// Another may listen on it until then, so that no other process can take the port meanwhile.
fn bound(address: SocketAddr) -> io::Result<StdListener> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &address)?;
    Ok(StdListener::from(socket))
}

struct State {
    ledger: Arc<Ledger>,
    served: AtomicU64,
    refusing_until: Mutex<Option<Instant>>,
}

/// Serves until it is dropped, and all its connections with it.
async fn serve(listener: TcpListener, state: Arc<State>) -> io::Result<()> {
    let mut talks = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                let state = state.clone();
                // A client that goes away in the middle is its own business.
                talks.spawn(async move { drop(talk(stream, &state).await) });
            }
            Some(_) = talks.join_next() => {}
        }
    }
}

async fn talk(stream: TcpStream, state: &State) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some(asked) = read(&mut stream).await? {
        if !answer(&mut stream, &asked, state).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// Sends an answer of one kind or another; returns false when the connection is over.
async fn answer(stream: &mut BufReader<TcpStream>, asked: &Asked, state: &State) -> io::Result<bool> {
    let number: u64 = asked.path.rsplit('/').next().and_then(|text| text.parse().ok()).unwrap_or(0);
    let order = order_of(&asked.body);
    let name = if asked.method == "POST" { format!("order {order}") } else { asked.path.clone() };
    let before = state.ledger.request(&name);
    let served = state.served.fetch_add(1, Ordering::Relaxed);
    // Now and then the quota is used up, for all clients and for a moment.
    if served % 1900 == 1899 {
        *state.refusing_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock::now() + REFUSING_FOR);
    }
    if state.refusing_until.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|until| clock::now() < until) {
        state.ledger.deed("429 with Retry-After");
        return send(stream, "429 Too Many Requests", "Retry-After: 1\r\n", b"{}").await;
    }
    match asked.method.as_str() {
        "POST" => take_order(stream, order, before, state).await,
        _ => give_item(stream, &asked.path, number, before, state).await,
    }
}

async fn take_order(stream: &mut BufReader<TcpStream>, order: u64, before: u32, state: &State) -> io::Result<bool> {
    if before == 0 && order.is_multiple_of(83) {
        // Refused before anything was done, with a time to come back: the one failure after which a POST may come
        // again.
        state.ledger.deed("503 with Retry-After");
        return send(stream, "503 Service Unavailable", "Retry-After: 1\r\n", b"{}").await;
    }
    state.ledger.order(order);
    if order % 293 == 3 {
        state.ledger.deed("order done, then reset");
        return reset(stream);
    }
    if order % 293 == 13 {
        // What is done is looked up under an address with a character that a careless writer of JSON does not escape.
        state.ledger.deed("order done, 303 with a backslash");
        return send(stream, "303 See Other", &format!("Location: /receipts/{order}?by=\\q\r\n"), b"").await;
    }
    if order % 293 == 23 {
        state.ledger.deed("order done, its receipt missing");
        return send(stream, "303 See Other", &format!("Location: /nowhere/{order}\r\n"), b"").await;
    }
    let body = format!("{{\"order\":{order},\"state\":\"done\"}}");
    send(stream, "201 Created", "Content-Type: application/json\r\n", body.as_bytes()).await
}

async fn give_item(
    stream: &mut BufReader<TcpStream>,
    path: &str,
    number: u64,
    before: u32,
    state: &State,
) -> io::Result<bool> {
    let body = format!("{{\"id\":{number},\"name\":\"item {number}\",\"text\":\"{}\"}}", "x".repeat(300));
    let deed = |name| state.ledger.deed(name);
    if let Some(receipt) = path.strip_prefix("/receipts/") {
        let order: u64 = receipt.split('?').next().and_then(|text| text.parse().ok()).unwrap_or(0);
        if before == 0 {
            deed("receipt: 503 with Retry-After");
            return send(stream, "503 Service Unavailable", "Retry-After: 0\r\n", b"{}").await;
        }
        let body = format!("{{\"order\":{order},\"state\":\"done\"}}");
        return send(stream, "200 OK", "Content-Type: application/json\r\n", body.as_bytes()).await;
    }
    if path.starts_with("/nowhere/") {
        return send(stream, "404 Not Found", "", b"{}").await;
    }
    match (before, number % 97) {
        _ if path.starts_with("/moved/") => {
            send(stream, "200 OK", "Content-Type: application/json\r\n", body.as_bytes()).await
        }
        (0, 1) => {
            deed("503");
            send(stream, "503 Service Unavailable", "", b"try again").await
        }
        (0, 12) => {
            deed("reset");
            reset(stream)
        }
        (0, 24) => {
            deed("body cut short");
            let half = &body.as_bytes()[..body.len() / 2];
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(&[head.as_bytes(), half].concat()).await?;
            Ok(false)
        }
        (0, 35) => {
            deed("slow answer");
            sleep(Duration::from_millis(400)).await;
            send(stream, "200 OK", "Content-Type: application/json\r\n", body.as_bytes()).await
        }
        (_, 48 | 59) => {
            deed("redirect");
            send(stream, "302 Found", &format!("Location: /moved/{number}\r\n"), b"").await
        }
        (0, 60) => {
            deed("closed without an answer");
            Ok(false)
        }
        _ => send(stream, "200 OK", "Content-Type: application/json\r\n", body.as_bytes()).await,
    }
}

/// How long a restart takes.
pub const AWAY_FOR: Duration = Duration::from_millis(300);
const BACKLOG: i32 = 1024;
const REFUSING_FOR: Duration = Duration::from_millis(300);

fn order_of(body: &[u8]) -> u64 {
    serde_json::from_slice::<serde_json::Value>(body).ok().and_then(|value| value["order"].as_u64()).unwrap_or(0)
}
