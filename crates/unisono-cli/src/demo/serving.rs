//! `unisono demo --serve`: the server of tests that `unisono.testing.FakeServer` starts, and nothing for people.
//!
//! It prints its address as a line of JSON. Then each line on standard input is a wish, and each has a line on standard
//! output with its number `wish` as `to`: `{"wish": 1, "rule": {...}}` adds a rule, `{"wish": 2, "requests": N}` tells
//! what was asked from number N on. So the port has nothing but what tests ask for.
//!
//! It ends when its standard input does, and when the process that has started it ends: a copy of the pipe may be in a
//! fork of that.

#![expect(clippy::disallowed_types, reason = "a server, and no engine: its connections are tasks that end with it")]

use std::{
    fmt::Write,
    io::{self, BufRead},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    process::{PidfdFlags, getppid, pidfd_open},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};
use unisono_core::{clock, reactor::Reactor};

use super::{
    rules::{Account, Fault, Rule, Ruling, url_of},
    talk::{Asked, read, reset, send},
};
use crate::{
    failure::{Failure, failed},
    output::{self, StandardOutput},
};

/// Serves until it is not wanted any more.
pub fn run() -> Result<u8, Failure> {
    end_with_parent().map_err(failed("watch the process that has started it"))?;
    let mut stdout = StandardOutput::open()?;
    let listener = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)));
    let listener = listener.map_err(failed("listen on loopback"))?;
    listener.set_nonblocking(true).map_err(failed("listen on loopback"))?;
    let address = listener.local_addr().map_err(failed("listen on loopback"))?;
    let state = Arc::new(State { account: Mutex::default() });
    let serving = state.clone();
    let run = move || async move { serve(TcpListener::from_std(listener)?, serving).await };
    // It ends with the process.
    Reactor::thread("demo-server")
        .start(run, |_: Result<io::Result<()>, _>| ())
        .map_err(io::Error::other)
        .map_err(failed("start the server"))?;
    let mut reply = |value: Value| output::ended(stdout.own(&format!("{value}\n")).and_then(|()| stdout.flush()));
    if reply(json!({ "url": format!("http://{address}") }))? != 0 {
        return Ok(0);
    }
    for line in io::stdin().lock().lines() {
        let line = line.map_err(failed("read what is wanted"))?;
        let answer = match serde_json::from_str::<Value>(&line) {
            Ok(wish) => {
                let mut answer = state.fulfil(&wish);
                answer["to"] = wish["wish"].clone();
                answer
            }
            Err(error) => json!({ "error": format!("no line of JSON: {error}") }),
        };
        if reply(answer)? != 0 {
            break;
        }
    }
    Ok(0)
}

/// Ends this process when the one that has started it ends, whatever becomes of the pipe between them.
fn end_with_parent() -> io::Result<()> {
    let Some(parent) = getppid() else { return Ok(()) };
    let watched = pidfd_open(parent, PidfdFlags::empty())?;
    if getppid() != Some(parent) {
        std::process::exit(0);
    }
    let watch = move || {
        while poll(&mut [PollFd::new(&watched, PollFlags::IN)], None) == Err(rustix::io::Errno::INTR) {}
        std::process::exit(0);
    };
    thread::Builder::new().name("demo-parent".into()).spawn(watch).map(drop)
}

struct State {
    /// Held for one look or one note, and never across a wait.
    account: Mutex<Account>,
}

impl State {
    fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fulfil(&self, wish: &Value) -> Value {
        if let Some(rule) = wish.get("rule") {
            return match Rule::of(rule) {
                Ok(rule) => json!({ "rule": self.account().add(rule) }),
                Err(why) => json!({ "error": why }),
            };
        }
        match wish["requests"].as_u64().and_then(|from| usize::try_from(from).ok()) {
            Some(from) => json!({ "requests": self.account().requests(from) }),
            None => json!({ "error": "a wish is a `rule`, or `requests` with a number" }),
        }
    }
}

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
        if !answer(&mut stream, &asked, state).await? || asked.is_last {
            break;
        }
    }
    Ok(())
}

/// What is answered to a request, as of when it came.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    content: Vec<u8>,
    fault: Option<Fault>,
    delay: std::time::Duration,
}

/// Does what the rules say; returns false when the connection is over.
async fn answer(stream: &mut BufReader<TcpStream>, asked: &Asked, state: &State) -> io::Result<bool> {
    let answer = {
        let mut account = state.account();
        match account.ask(asked, clock::now()) {
            Ruling::Rule(number) => {
                let rule = account.rule(number);
                let (headers, content) = (rule.headers.clone(), rule.content.clone());
                Ok(Answer { status: rule.status, headers, content, fault: rule.fault, delay: rule.delay })
            }
            other => Err(other),
        }
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(Ruling::Refused(wait)) => {
            // Whole seconds, as the header has them.
            let after = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            return send(stream, "429 Too Many Requests", &format!("Retry-After: {after}\r\n"), b"").await;
        }
        Err(_) => {
            let said = format!("no rule of the FakeServer is for {} {}", asked.method, url_of(asked));
            return send(stream, "501 Not Implemented", "Content-Type: text/plain\r\n", said.as_bytes()).await;
        }
    };
    if !answer.delay.is_zero() {
        sleep(answer.delay).await;
    }
    match answer.fault {
        Some(Fault::Reset) => return reset(stream),
        Some(Fault::Silence) => {
            // Until the client gives up: nothing more is asked before there is an answer.
            stream.read_u8().await?;
            return Ok(false);
        }
        Some(Fault::Cut) | None => {}
    }
    let is_cut = answer.fault == Some(Fault::Cut);
    let content = if is_cut && answer.content.is_empty() { b"{".to_vec() } else { answer.content };
    let mut head = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status));
    for (name, value) in &answer.headers {
        // Writing to a string cannot fail.
        let _ = write!(head, "{name}: {value}\r\n");
    }
    let has_body = !matches!(answer.status, 204 | 304);
    if has_body {
        let _ = write!(head, "Content-Length: {}\r\n", content.len() + usize::from(is_cut));
    }
    head.push_str("\r\n");
    // A header may have any bytes, a character each.
    let mut bytes: Vec<u8> = head.chars().filter_map(|character| u8::try_from(character).ok()).collect();
    if has_body && asked.method != "HEAD" {
        bytes.extend_from_slice(if is_cut { &content[..content.len().div_ceil(2)] } else { &content });
    }
    stream.write_all(&bytes).await?;
    Ok(!is_cut)
}

/// The words of a status that people know; none are needed.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        429 => "Too Many Requests",
        503 => "Service Unavailable",
        _ => "",
    }
}
