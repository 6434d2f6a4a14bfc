//! The same requests, sent from here and by another machine, end alike; and what there is beside: recalls and deaths.
//!
//! The other machine is a [`RemoteWorker`] on the same runtime, and a loop that carries bytes between it and the queue.

mod support;

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use support::*;
use tokio::sync::{Notify, mpsc};
use unisono_batch::Settings;
use unisono_core::{ErrorKind, OutcomeKind, Times};
use unisono_http::{
    AttemptClassifier, Client, ClientOptions, Remote, RemoteCommand, RemoteQueue, RemoteResult, RemoteWorker, Request,
    Tls, decode_options, encode_options, remote_queue,
};
use unisono_testkit::{Certificates, Server, answer};

type Tasks = Rc<RefCell<HashMap<u64, unisono_batch::BlockingTask<Vec<u8>, RemoteResult>>>>;

/// Carries between a queue and a remote worker, whose options have travelled as well; the first so many get lost.
async fn carry(queue: RemoteQueue, notify: Arc<Notify>, options: ClientOptions, losses: usize) {
    let options = decode_options(encode_options(&options).unwrap().into()).unwrap();
    let queue = Rc::new(queue);
    let tasks = Tasks::default();
    let (back, carried) = (queue.clone(), tasks.clone());
    let ended = move |number, end| {
        let task = carried.borrow_mut().remove(&number).expect("an exchange ends once");
        back.give_back(&mut vec![(task, RemoteResult::Ended(end))]);
    };
    let (commands, worker) = RemoteWorker::new(Client::new(options).unwrap(), ended);
    tokio::join!(worker.serve(), hand_over(&queue, &notify, &tasks, commands, losses));
}

async fn hand_over(
    queue: &RemoteQueue,
    notify: &Notify,
    tasks: &Tasks,
    commands: mpsc::UnboundedSender<RemoteCommand>,
    mut losses: usize,
) {
    loop {
        notify.notified().await;
        let mut taken = Vec::new();
        queue.take(usize::MAX, false, &mut taken);
        let lost = losses.min(taken.len());
        losses -= lost;
        queue.give_back(
            &mut taken.drain(..lost).map(|task| (task, RemoteResult::Lost("it burns".to_owned()))).collect(),
        );
        for mut task in taken {
            let (number, request) = (task.number() as u64, std::mem::take(&mut task.work));
            tasks.borrow_mut().insert(number, task);
            commands.send(RemoteCommand::Send(number, request.into())).unwrap();
        }
        for number in queue.take_stopped(|_| true) {
            commands.send(RemoteCommand::Stop(number as u64)).unwrap();
        }
    }
}

fn notifier() -> (Arc<Notify>, unisono_batch::WorkNotifier) {
    let notify = Arc::new(Notify::new());
    let shared = notify.clone();
    (notify, Arc::new(move || shared.notify_one()))
}

/// As [`run`], by way of another machine.
async fn run_far(requests: Vec<Request>, options: ClientOptions, settings: Settings) -> Vec<Out> {
    run_far_losing(0, requests, options, settings).await
}

async fn run_far_losing(losses: usize, requests: Vec<Request>, options: ClientOptions, settings: Settings) -> Vec<Out> {
    let (notify, notifier) = notifier();
    let (channel, queue) = remote_queue(notifier);
    let job = AttemptClassifier::over(Remote::new(channel, options.expect.clone()));
    tokio::select! {
        outs = run_job(&job, requests, settings) => outs,
        () = job.deliver() => unreachable!(),
        () = carry(queue, notify, options, losses) => unreachable!(),
    }
}

/// Each way of sending meets a server of its own that does the same.
async fn alike<S, R>(script: S, request: R, settings: Settings) -> Out
where
    S: Fn(usize) -> Vec<u8> + Send + Sync + Clone + 'static,
    R: Fn(String) -> Request,
{
    let start = async || {
        let (script, count) = (script.clone(), AtomicUsize::new(0));
        Server::start(move |mut connection| {
            let (script, number) = (script.clone(), count.fetch_add(1, Ordering::Relaxed));
            async move {
                if connection.request().await.is_some() {
                    connection.send(script(number)).await;
                }
            }
        })
        .await
    };
    let (one, other) = (start().await, start().await);
    let here = run(vec![request(one.url("/a"))], options(), settings).await.remove(0);
    let there = run_far(vec![request(other.url("/a"))], options(), settings).await.remove(0);
    let named =
        |out: &Out, server: &Server| Out { message: out.message.replace(&server.url(""), "SERVER"), ..out.clone() };
    assert_eq!(named(&here, &one), named(&there, &other));
    assert_eq!(one.seen().len(), other.seen().len());
    there
}

#[tokio::test(start_paused = true)]
async fn an_exchange_elsewhere_ends_as_it_does_here() {
    let ok = |_| answer(200, &["Content-Encoding: gzip"], gzip(b"text"));
    assert_eq!(&alike(ok, get, settings()).await.body[..], b"text");
    let gone = alike(|_| answer(404, &[], b"no"), get, settings()).await;
    assert_eq!((gone.kind, gone.status, &gone.body[..]), (OutcomeKind::Failed, Some(404), &b"no"[..]));
    let flaky = |number| if number < 2 { answer(503, &[], b"") } else { answer(200, &[], b"up") };
    assert_eq!(alike(flaky, get, settings()).await.attempts, 3);
    let cut = |_| b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort".to_vec();
    assert_eq!(alike(cut, get, settings()).await.error, Some(ErrorKind::IncompleteBody));
    assert_eq!(alike(cut, post, settings()).await.kind, OutcomeKind::Ambiguous);
    assert_eq!(alike(|_| Vec::new(), post, settings()).await.kind, OutcomeKind::Ambiguous);
    assert_eq!(alike(|_| Vec::new(), get, settings()).await.error, Some(ErrorKind::Closed));
    let garbage = |_| b"BOO\r\n\r\n".to_vec();
    assert_eq!(alike(garbage, get, settings()).await.error, Some(ErrorKind::Protocol));
    let busy = |number| if number == 0 { answer(429, &["Retry-After: 2"], b"") } else { answer(200, &[], b"ok") };
    assert_eq!(alike(busy, post, settings()).await.kind, OutcomeKind::Ok);
    let moved = |number| match number {
        0 => answer(302, &["Location: /b", "Connection: close"], b""),
        _ => answer(200, &[], b"there"),
    };
    assert_eq!(&alike(moved, get, settings()).await.body[..], b"there");
}

#[tokio::test(start_paused = true)]
async fn certificates_headers_and_credentials_are_there_what_they_are_here() {
    let certificates = Certificates::new();
    let signed = certificates.sign(&["127.0.0.1"]);
    let script = |mut connection: unisono_testkit::Connection| async move {
        while connection.request().await.is_some() {
            connection.send(answer(200, &[], b"trusted")).await;
        }
    };
    let server = Server::start_tls(certificates.server(&signed, &["http/1.1"], false), script).await;
    let mut request = post(format!("https://me:secret@{}/a?b=c", server.address));
    request.headers.insert("x-own", "1".parse().unwrap());
    let tls = Tls { roots: vec![certificates.authority().into_bytes()], ..Tls::default() };
    let with = ClientOptions { tls, ..options() };
    let here = run(vec![request.clone()], with.clone(), settings()).await;
    let there = run_far(vec![request.clone()], with, settings()).await;
    assert!(here[0].is_ok());
    assert_eq!(here, there);
    let [one, other] = &server.seen()[..] else { panic!("each was sent once") };
    assert_eq!((&one.target, &one.headers, &one.body), (&other.target, &other.headers, &other.body));
    assert!(one.header("authorization").is_some());
    // Without them, neither of them trusts the server.
    assert_eq!(run_far(vec![request], options(), settings()).await[0].error, Some(ErrorKind::Tls));
}

#[tokio::test(start_paused = true)]
async fn what_was_never_sent_is_repeated_whatever_its_method() {
    // A port that nothing listens at.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let out = run_far(vec![post(format!("http://{address}/"))], options(), settings()).await.remove(0);
    assert_eq!((out.kind, out.error, out.attempts), (OutcomeKind::Failed, Some(ErrorKind::Connect), 4));
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_out_of_time_is_recalled_and_closes_its_connection() {
    let closed = Arc::new(Notify::new());
    let told = closed.clone();
    let server = Server::start(move |mut connection| {
        let told = told.clone();
        async move {
            connection.request().await;
            // Nothing more comes, until the client goes away.
            connection.request().await;
            told.notify_one();
        }
    })
    .await;
    let times = Times { timeout: Some(seconds(1)), ..Times::default() };
    let impatient = Settings { times, ..without_retries() };
    let out = run_far(vec![post(server.url("/")), get(server.url("/"))], options(), impatient).await;
    assert_eq!([out[0].kind, out[1].kind], [OutcomeKind::Ambiguous, OutcomeKind::TimedOut]);
    closed.notified().await;
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_goes_leaves_in_doubt_only_what_it_may_have_sent() {
    let lost = (RemoteResult::Lost as fn(String) -> RemoteResult, OutcomeKind::Ambiguous, ErrorKind::Closed);
    let unsent = (RemoteResult::Unsent as fn(String) -> RemoteResult, OutcomeKind::Failed, ErrorKind::Connect);
    for (end, of_post, kind) in [lost, unsent] {
        let (notify, notifier) = notifier();
        let (channel, queue) = remote_queue(notifier);
        let job = AttemptClassifier::over(Remote::new(channel, options().expect));
        let give_back = async {
            loop {
                notify.notified().await;
                let mut taken = Vec::new();
                queue.take(usize::MAX, false, &mut taken);
                let mut done = taken.into_iter().map(|task| (task, end("its power is off".to_owned()))).collect();
                queue.give_back(&mut done);
            }
        };
        let out = tokio::select! {
            outs = run_job(&job, vec![get("http://a/"), post("http://a/")], settings()) => outs,
            () = job.deliver() => unreachable!(),
            () = give_back => unreachable!(),
        };
        assert_eq!((out[0].kind, out[0].attempts, out[0].error), (OutcomeKind::Failed, 4, Some(kind)));
        assert_eq!((out[1].kind, out[1].error), (of_post, Some(kind)));
        assert!(out[1].message.ends_with("its power is off"), "{}", out[1].message);
    }
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_goes_with_hundreds_of_requests_costs_none_of_them_an_attempt() {
    let server = Server::answering(|_| answer(200, &[], b"ok")).await;
    // More than a host's budget of repeats would allow.
    let requests = (0..300).map(|number| get(server.url(&format!("/{number}")))).collect();
    let limits = unisono_core::Limits::new(300.try_into().ok(), None);
    let outs = run_far_losing(300, requests, options(), Settings { limits, ..without_retries() }).await;
    assert!(outs.iter().all(|out| out.is_ok() && out.attempts == 1));
    assert_eq!(server.seen().len(), 300);
    let outs = run_far_losing(1, vec![post(server.url("/"))], options(), settings()).await;
    assert_eq!((outs[0].kind, server.seen().len()), (OutcomeKind::Ambiguous, 300));
}

#[tokio::test(start_paused = true)]
async fn when_what_carries_requests_ends_no_request_waits_for_ever() {
    let (_, notifier) = notifier();
    let (channel, queue) = remote_queue(notifier);
    drop(queue);
    let job = AttemptClassifier::over(Remote::new(channel, options().expect));
    let out = tokio::select! {
        outs = run_job(&job, vec![post("http://a/")], settings()) => outs,
        () = job.deliver() => unreachable!(),
    };
    assert_eq!((out[0].kind, out[0].error), (OutcomeKind::Ambiguous, Some(ErrorKind::Closed)));
}
