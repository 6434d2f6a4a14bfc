//! Connections that cannot be made, certificates that are not to be trusted, redirects.

mod support;

use std::{
    cell::Cell,
    net::IpAddr,
    pin::Pin,
    rc::Rc,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use http::{HeaderValue, Method};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};
use support::*;
use unisono_core::{Effect, ErrorKind, OutcomeKind, Secret};
use unisono_http::{
    ClientCertificate, Family, HostAddress, LookupError, NoProxy, Options, Proxies, Proxy, Resolve, Tls,
};
use unisono_testkit::{Certificates, Server, answer};

/// A port where connections are neither accepted nor refused: its queue is full.
struct BlackHole {
    _listener: std::net::TcpListener,
    _waiting: Vec<std::net::TcpStream>,
    address: std::net::SocketAddr,
}

impl BlackHole {
    fn open(address: std::net::SocketAddr) -> Self {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        bind(&socket, &address).unwrap();
        listen(&socket, 0).unwrap();
        let listener = std::net::TcpListener::from(socket);
        let address = listener.local_addr().unwrap();
        // Nothing accepts, so the kernel drops whatever comes after the first.
        let waiting = vec![std::net::TcpStream::connect(address).unwrap()];
        Self { _listener: listener, _waiting: waiting, address }
    }
}

#[tokio::test(start_paused = true)]
async fn a_black_hole_ends_at_the_connect_timeout() {
    let hole = BlackHole::open(([127, 0, 0, 1], 0).into());
    let begun = tokio::time::Instant::now();
    let out = once(get(format!("http://{}/", hole.address))).await;
    assert_eq!((out.kind, out.error), (OutcomeKind::Failed, Some(ErrorKind::Connect)));
    assert!(out.message.contains("no answer within 5s"), "{}", out.message);
    assert_eq!(begun.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_black_hole_behind_https_takes_all_requests_that_wait_no_longer() {
    let hole = BlackHole::open(([127, 0, 0, 1], 0).into());
    let begun = tokio::time::Instant::now();
    let requests = (0..20).map(|_| get(format!("https://{}/", hole.address))).collect();
    let outs = run(requests, options(), without_retries()).await;
    assert!(outs.iter().all(|out| out.error == Some(ErrorKind::Connect)), "{outs:?}");
    assert_eq!(begun.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_refused_connection_is_repeated_even_for_a_post() {
    let port = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() };
    for request in [get, post] {
        let out = one(request(format!("http://127.0.0.1:{port}/"))).await;
        assert_eq!((out.kind, out.error, out.attempts), (OutcomeKind::Failed, Some(ErrorKind::Connect), 4));
    }
}

struct Scripted {
    asked: Cell<u32>,
    answer: Box<dyn Fn(u32) -> Result<Vec<IpAddr>, LookupError>>,
}

impl Resolve for Scripted {
    fn resolve(&self, _: &str) -> Pin<Box<dyn Future<Output = Result<Vec<IpAddr>, LookupError>>>> {
        self.asked.set(self.asked.get() + 1);
        let answer = (self.answer)(self.asked.get());
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            answer
        })
    }
}

fn resolving(answer: impl Fn(u32) -> Result<Vec<IpAddr>, LookupError> + 'static) -> (Options, Rc<Scripted>) {
    let scripted = Rc::new(Scripted { asked: Cell::new(0), answer: Box::new(answer) });
    (Options { resolver: Some(scripted.clone()), ..options() }, scripted)
}

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

#[tokio::test(start_paused = true)]
async fn a_name_that_does_not_exist_is_not_asked_for_again() {
    let (options, scripted) =
        resolving(|_| Err(LookupError { temporary: false, message: "Name or service not known".into() }));
    let outs = run((0..100).map(|_| get("http://nowhere.test/")).collect(), options, settings()).await;
    assert!(outs.iter().all(|out| out.error == Some(ErrorKind::Dns) && out.attempts == 1));
    assert!(outs[0].message.contains("`nowhere.test` has no address: Name or service not known"));
    assert_eq!(scripted.asked.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_fails_for_a_moment_is_asked_again() {
    let server = Server::answering(|_| answer(200, &[], b"")).await;
    let (options, _) = resolving(|asked| match asked {
        1 => Err(LookupError { temporary: true, message: "Temporary failure in name resolution".into() }),
        _ => Ok(vec![LOOPBACK]),
    });
    let url = format!("http://api.test:{}/", server.address.port());
    let out = run(vec![post(url)], options, settings()).await.remove(0);
    assert_eq!((out.is_ok(), out.attempts), (true, 2));
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_calls_of_one_name_are_one_query() {
    let server = Server::answering(|_| answer(200, &[], b"")).await;
    let (options, scripted) = resolving(|_| Ok(vec![LOOPBACK]));
    let url = format!("http://api.test:{}/", server.address.port());
    let outs = run((0..10_000).map(|_| get(&url)).collect(), options, settings()).await;
    assert!(outs.iter().all(Out::is_ok));
    assert_eq!(scripted.asked.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_next_address_is_tried_when_the_first_is_dead() {
    let server = Server::answering(|_| answer(200, &[], b"")).await;
    let port = server.address.port();
    let dead = IpAddr::from([127, 0, 0, 9]);
    let given = |addresses: Vec<IpAddr>| Options {
        hosts: vec![HostAddress { host: "api.test".into(), port: None, addresses }],
        ..options()
    };
    let url = format!("http://api.test:{port}/");
    // Refused: the next one at once.
    assert!(run(vec![get(&url)], given(vec![dead, LOOPBACK]), without_retries()).await[0].is_ok());
    // No answer at all: the next one after a quarter of a second.
    let _hole = BlackHole::open((dead, port).into());
    let begun = tokio::time::Instant::now();
    assert!(run(vec![get(&url)], given(vec![dead, LOOPBACK]), without_retries()).await[0].is_ok());
    assert!(begun.elapsed() >= Duration::from_millis(250) && begun.elapsed() < Duration::from_millis(400));
    let only = Options { family: Family::V6, ..given(vec![LOOPBACK]) };
    let out = run(vec![get(&url)], only, without_retries()).await.remove(0);
    assert_eq!(out.error, Some(ErrorKind::Dns));
    assert!(out.message.contains("no IPv6 address"));
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_is_not_to_be_trusted_is_refused_once() {
    let (ours, other) = (Certificates::new(), Certificates::new());
    for (signed, why) in [
        (other.sign(&["127.0.0.1"]), "UnknownIssuer"),
        (ours.sign_expired(&["127.0.0.1"]), "xpired"),
        (ours.sign(&["elsewhere.test"]), "not valid for name"),
    ] {
        let server = Server::start_tls(ours.server(&signed, &[], false), |mut connection| async move {
            connection.request().await;
        })
        .await;
        let tls = Tls { roots: vec![ours.authority().into_bytes()], ..Tls::default() };
        let url = format!("https://{}/", server.address);
        let out = run(vec![get(&url)], Options { tls, ..options() }, settings()).await.remove(0);
        assert_eq!((out.kind, out.error, out.attempts), (OutcomeKind::Failed, Some(ErrorKind::Tls), 1), "{why}");
        assert!(out.message.contains(why), "{why}: {}", out.message);
        assert!(server.seen().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_certificate_is_wanted_and_shown() {
    let certificates = Certificates::new();
    let signed = certificates.sign(&["127.0.0.1"]);
    let server = Server::start_tls(certificates.server(&signed, &["http/1.1"], true), |mut connection| async move {
        while connection.request().await.is_some() {
            connection.send(answer(200, &[], b"")).await;
        }
    })
    .await;
    let url = format!("https://{}/", server.address);
    let roots = vec![certificates.authority().into_bytes()];
    let without = Tls { roots: roots.clone(), ..Tls::default() };
    let out = run(vec![get(&url)], Options { tls: without, ..options() }, settings()).await.remove(0);
    assert_eq!((out.error, out.attempts), (Some(ErrorKind::Tls), 1), "{out:?}");
    let client = certificates.sign_client();
    let identity = Some(ClientCertificate { chain: client.certificate.into_bytes(), key: Secret::new(client.key) });
    let with = Tls { roots, identity, insecure: false };
    assert!(run(vec![get(&url)], Options { tls: with, ..options() }, settings()).await[0].is_ok());
}

#[tokio::test(start_paused = true)]
async fn another_origin_gets_no_header_that_may_be_a_secret() {
    let other = Server::answering(|_| answer(200, &[], b"")).await;
    let location = format!("Location: {}", other.url("/there"));
    let server = Server::answering(move |_| answer(302, &[&location], b"")).await;
    let mut request = get(server.url("/").replace("http://", "http://me:pw@"));
    for name in ["x-api-key", "cookie", "x-session", "accept-language"] {
        request.headers.insert(name, HeaderValue::from_static("secret"));
    }
    assert!(once(request).await.is_ok());
    assert_eq!(server.seen()[0].header("x-api-key"), Some("secret"));
    assert!(server.seen()[0].header("authorization").is_some());
    let there = other.seen().remove(0);
    assert_eq!(there.header("accept-language"), Some("secret"));
    for name in ["authorization", "cookie", "x-session", "x-api-key"] {
        assert_eq!(there.header(name), None, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn https_does_not_become_http() {
    let certificates = Certificates::new();
    let signed = certificates.sign(&["127.0.0.1"]);
    let server = Server::start_tls(certificates.server(&signed, &[], false), |mut connection| async move {
        connection.request().await;
        connection.send(answer(302, &["Location: http://127.0.0.1:1/"], b"")).await;
    })
    .await;
    let tls = Tls { roots: vec![certificates.authority().into_bytes()], ..Tls::default() };
    let url = format!("https://{}/", server.address);
    let out = run(vec![get(url)], Options { tls, ..options() }, settings()).await.remove(0);
    assert_eq!((out.error, out.attempts), (Some(ErrorKind::Redirect), 1));
}

#[tokio::test(start_paused = true)]
async fn a_loop_too_many_hops_and_a_bad_location_are_not_repeated() {
    let hops = AtomicUsize::new(0);
    let server = Server::answering(move |seen| match seen.target.as_str() {
        "/loop" => answer(302, &["Location: /loop"], b""),
        "/bad" => answer(302, &["Location: http://[::"], b""),
        _ => answer(302, &[&format!("Location: /{}", hops.fetch_add(1, Ordering::Relaxed))], b""),
    })
    .await;
    for (path, hops) in [("/loop", 21), ("/start", 21), ("/bad", 1)] {
        let before = server.seen().len();
        let out = one(get(server.url(path))).await;
        assert_eq!((out.kind, out.error, out.attempts), (OutcomeKind::Failed, Some(ErrorKind::Redirect), 1), "{path}");
        assert_eq!(server.seen().len() - before, hops, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_redirected_post_follows_the_method_rules_of_rfc_9110() {
    for (status, method, body) in
        [(301, "GET", ""), (302, "GET", ""), (303, "GET", ""), (307, "POST", "body"), (308, "POST", "body")]
    {
        let server = Server::answering(move |seen| match seen.target.as_str() {
            "/there" => answer(200, &[], b""),
            _ => answer(status, &["Location: /there"], b""),
        })
        .await;
        assert!(once(post(server.url("/"))).await.is_ok());
        let there = server.seen().remove(1);
        assert_eq!((there.method.as_str(), there.body.as_slice()), (method, body.as_bytes()), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_post_that_took_effect_is_not_repeated_because_its_redirect_failed() {
    for (status, effect, orders) in [(303, Effect::Done, 1), (307, Effect::None, 4)] {
        let server = Server::answering(move |_| answer(status, &["Location: http://127.0.0.1:1/"], b"")).await;
        let out = one(post(server.url("/"))).await;
        assert_eq!((out.kind, out.effect, server.seen().len()), (OutcomeKind::Failed, effect, orders), "{status}");
    }
}

/// A proxy that tunnels or forwards, and notes what it was asked.
async fn proxy(target: std::net::SocketAddr) -> Server {
    Server::start(move |mut connection| async move {
        let Some(seen) = connection.request().await else { return };
        if seen.header("proxy-authorization").is_none() {
            connection.send(answer(407, &[], b"")).await;
        } else if seen.method == "CONNECT" {
            connection.send("HTTP/1.1 200 Connected\r\n\r\n").await;
            connection.pass_on(target).await;
        } else {
            connection.send(answer(200, &["Via: proxy"], b"")).await;
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_proxy_forwards_http_tunnels_https_and_is_passed_by_for_exceptions() {
    let certificates = Certificates::new();
    let signed = certificates.sign(&["127.0.0.1"]);
    let server = Server::start_tls(certificates.server(&signed, &[], false), |mut connection| async move {
        while connection.request().await.is_some() {
            connection.send(answer(200, &[], b"tunnelled")).await;
        }
    })
    .await;
    let proxy = proxy(server.address).await;
    let through = |list: &str| Options {
        proxies: Proxies::all(Proxy::parse(&format!("http://me:pw@{}", proxy.address)).unwrap(), NoProxy::parse(list)),
        tls: Tls { roots: vec![certificates.authority().into_bytes()], ..Tls::default() },
        ..options()
    };
    let out = run(vec![get(format!("https://{}/", server.address))], through(""), without_retries()).await.remove(0);
    assert_eq!(&out.body[..], b"tunnelled", "{out:?}");
    assert!(run(vec![get("http://api.test/x?y")], through(""), without_retries()).await[0].is_ok());
    let seen = proxy.seen();
    assert_eq!((seen[0].method.as_str(), seen[0].target.as_str()), ("CONNECT", server.address.to_string().as_str()));
    assert_eq!(seen[1].target, "http://api.test/x?y");
    assert!(
        run(vec![get(format!("https://{}/", server.address))], through("127.0.0.0/8"), without_retries()).await[0]
            .is_ok()
    );
    assert_eq!(proxy.seen().len(), 2);
    let refused = Options {
        proxies: Proxies::all(Proxy::parse(&proxy.address.to_string()).unwrap(), NoProxy::default()),
        ..through("")
    };
    let out = run(vec![post(format!("https://{}/", server.address))], refused, settings()).await.remove(0);
    assert_eq!((out.kind, out.error, out.attempts), (OutcomeKind::Failed, Some(ErrorKind::Proxy), 1));
}

#[tokio::test(start_paused = true)]
async fn a_socks_proxy_connects_by_name_or_by_address_and_says_why_not() {
    let server = Server::answering(|_| answer(200, &[], b"")).await;
    let target = server.address;
    let socks = Server::start(move |mut connection| async move {
        let Some(()) = socks_login(&mut connection).await else { return };
        connection.send([1, 0]).await;
        let Some(request) = connection.bytes(4).await else { return };
        match request[3] {
            1 => drop(connection.bytes(6).await),
            _ => {
                let Some(length) = connection.bytes(1).await else { return };
                let name = connection.bytes(usize::from(length[0]) + 2).await;
                if name.is_some_and(|name| name.starts_with(b"forbidden")) {
                    connection.send([5, 2, 0, 1, 0, 0, 0, 0, 0, 0]).await;
                    return;
                }
            }
        }
        connection.send([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await;
        connection.pass_on(target).await;
    })
    .await;
    let through = |scheme: &str| Options {
        proxies: Proxies::all(
            Proxy::parse(&format!("{scheme}://me:pw@{}", socks.address)).unwrap(),
            NoProxy::default(),
        ),
        hosts: vec![HostAddress { host: "api.test".into(), port: None, addresses: vec![LOOPBACK] }],
        ..options()
    };
    for scheme in ["socks5", "socks5h"] {
        assert!(run(vec![get("http://api.test/")], through(scheme), without_retries()).await[0].is_ok(), "{scheme}");
    }
    let out = run(vec![get("http://forbidden/")], through("socks5h"), settings()).await.remove(0);
    assert_eq!((out.error, out.attempts), (Some(ErrorKind::Proxy), 1));
    assert!(out.message.ends_with("not allowed by its rules"), "{}", out.message);
}

#[tokio::test(start_paused = true)]
async fn a_unix_socket_takes_the_place_of_whatever_the_address_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let server = Server::start_unix(&path, |mut connection| async move {
        while connection.request().await.is_some() {
            connection.send(answer(200, &[], b"")).await;
        }
    });
    let options = Options { unix_socket: Some(path), ..options() };
    assert!(run(vec![get("http://docker/info")], options, without_retries()).await[0].is_ok());
    assert_eq!(server.seen()[0].header("host"), Some("docker"));
}

#[tokio::test(start_paused = true)]
async fn cookies_are_kept_when_asked_for() {
    let server =
        Server::answering(|seen| answer(200, &["Set-Cookie: a=b; Path=/"], seen.header("cookie").unwrap_or(""))).await;
    let client = unisono_http::Client::new(Options { cookies: true, ..options() }).unwrap();
    for expected in ["", "a=b"] {
        let out = run_with(&client, vec![get(server.url("/"))], without_retries()).await.remove(0);
        assert_eq!(&out.body[..], expected.as_bytes());
    }
    let mut request = get(server.url("/"));
    request.method = Method::HEAD;
    assert!(once(request).await.is_ok());
}
