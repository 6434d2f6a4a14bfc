//! Which servers are told a user name and password, and what a request's own head may say.

mod support;

use base64::{Engine, prelude::BASE64_STANDARD};
use http::{HeaderName, HeaderValue, Method};
use support::*;
use unisono_core::{ErrorKind, OutcomeKind};
use unisono_http::{ClientOptions, CookieJar, NoProxy, Proxies, Proxy, Url};
use unisono_testkit::{Server, answer};

fn basic(user: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(user))
}

fn with_user(url: String, user: &str) -> String {
    url.replacen("http://", &format!("http://{user}@"), 1)
}

/// What `Authorization` each request came with, by target.
fn told(server: &Server) -> Vec<(String, Option<String>)> {
    server.seen().iter().map(|seen| (seen.target.clone(), seen.header("authorization").map(str::to_owned))).collect()
}

#[tokio::test(start_paused = true)]
async fn a_redirect_within_an_origin_keeps_the_user_as_curl_does() {
    for location in ["/there", "there", "//HOST/there", "http://HOST/there"] {
        let server = Server::answering(move |seen| {
            let host = seen.header("host").unwrap_or_default();
            match seen.target.as_str() {
                "/" => answer(302, &[&format!("Location: {}", location.replace("HOST", host))], b""),
                _ => answer(200, &[], b""),
            }
        })
        .await;
        assert!(once(get(with_user(server.url("/"), "me:pw"))).await.is_ok());
        let me = Some(basic("me:pw"));
        assert_eq!(told(&server), [("/".to_owned(), me.clone()), ("/there".to_owned(), me)], "{location}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_redirect_elsewhere_and_back_has_lost_the_user() {
    let home = Server::answering(|seen| match seen.target.as_str() {
        "/back" => answer(200, &[], b""),
        target => answer(302, &[&format!("Location: {}", &target[1..])], b""),
    })
    .await;
    let back = format!("Location: {}", home.url("/back"));
    let other = Server::answering(move |_| answer(302, &[&back], b"")).await;
    let start = home.url(&format!("/{}", other.url("/x")));
    assert!(once(get(with_user(start, "me:pw"))).await.is_ok());
    assert_eq!(told(&other), [("/x".to_owned(), None)]);
    assert_eq!(told(&home)[1], ("/back".to_owned(), None));
}

#[tokio::test(start_paused = true)]
async fn a_location_with_a_user_of_its_own_means_that_one() {
    let other = Server::answering(|_| answer(200, &[], b"")).await;
    let elsewhere = with_user(other.url("/o"), "eve:x");
    let server = Server::answering(move |seen| {
        let here = format!("http://bob:y@{}/end", seen.header("host").unwrap_or_default());
        match seen.target.as_str() {
            "/own" => answer(302, &[&format!("Location: {here}")], b""),
            "/elsewhere" => answer(302, &[&format!("Location: {elsewhere}")], b""),
            _ => answer(200, &[], b""),
        }
    })
    .await;
    // Over the user of the address, and over a header.
    for with_header in [false, true] {
        let mut request = get(with_user(server.url("/own"), "me:pw"));
        if with_header {
            request = get(server.url("/own"));
            request.headers.insert("authorization", HeaderValue::from_static("Bearer mine"));
        }
        assert!(once(request).await.is_ok());
        assert_eq!(told(&server).pop().unwrap(), ("/end".to_owned(), Some(basic("bob:y"))));
    }
    assert!(once(get(with_user(server.url("/elsewhere"), "me:pw"))).await.is_ok());
    assert_eq!(told(&other), [("/o".to_owned(), Some(basic("eve:x")))]);
}

#[tokio::test(start_paused = true)]
async fn a_header_that_was_given_stays_within_the_origin_and_wins_over_the_address() {
    let server = Server::answering(|seen| match seen.target.as_str() {
        "/" => answer(307, &["Location: /there"], b""),
        _ => answer(200, &[], b""),
    })
    .await;
    let mut request = get(with_user(server.url("/"), "me:pw"));
    request.headers.insert("authorization", HeaderValue::from_static("Bearer mine"));
    assert!(once(request).await.is_ok());
    assert!(told(&server).iter().all(|(_, told)| told.as_deref() == Some("Bearer mine")));
}

#[tokio::test(start_paused = true)]
async fn what_a_server_names_is_never_shown_with_its_password() {
    for location in
        ["http://bob:hun/ter2@host/", "//bob:hun?ter2@host", "ftp://bob:hunter2@host/", "http://bob:/hunter2@host"]
    {
        let server = Server::answering(move |_| answer(302, &[&format!("Location: {location}")], b"")).await;
        let out = once(get(server.url("/"))).await;
        assert_eq!(out.error, Some(ErrorKind::Redirect), "{location}");
        assert!(!out.message.contains("ter2"), "{}", out.message);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_is_framed_by_us_alone_and_nothing_is_sent_that_says_otherwise() {
    let server = Server::answering(|_| answer(200, &[], b"")).await;
    for (name, value) in [
        ("content-length", "3"),
        ("content-length", "4"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("te", "trailers"),
        ("expect", "100-continue"),
        ("trailer", "x"),
        ("upgrade", "h2c"),
        ("keep-alive", "x"),
        ("proxy-connection", "close"),
        ("proxy-authorization", "x"),
        ("host", ""),
        ("host", "a b"),
        ("host", "me@a"),
    ] {
        for method in [Method::GET, Method::POST] {
            let mut request = post(server.url("/"));
            request.method = method;
            request.body = "longer than that".into();
            request.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            let out = one(request).await;
            assert_eq!((out.kind, out.error, out.attempts), (OutcomeKind::Failed, Some(ErrorKind::Input), 1), "{name}");
            assert!(out.message.contains(name), "{}", out.message);
        }
    }
    let mut twice = get(server.url("/"));
    twice.headers.append("host", HeaderValue::from_static("a"));
    twice.headers.append("host", HeaderValue::from_static("b"));
    assert_eq!(one(twice).await.error, Some(ErrorKind::Input));
    let mut tunnel = get(server.url("/"));
    tunnel.method = Method::CONNECT;
    assert_eq!(one(tunnel).await.error, Some(ErrorKind::Input));
    assert!(server.seen().is_empty());
    let mut named = get(server.url("/"));
    named.headers.insert("host", HeaderValue::from_static("virtual.test:81"));
    assert!(one(named).await.is_ok());
    assert_eq!(server.seen()[0].header("host"), Some("virtual.test:81"));
}

#[tokio::test(start_paused = true)]
async fn a_proxy_that_drips_talks_rubbish_or_never_ends_is_a_bounded_error() {
    for (drip, said) in [
        (b"HTTP/1.1 200 ".as_slice(), b"x".as_slice()),
        (b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"\0\0\0\0", b"\0"),
        (b"SSH-2.0-x", b"x"),
        (b"HTTP/1.1 599 \x1b[2J\0\xff\r\n\r\n", b""),
    ] {
        let server = Server::start(move |mut connection| async move {
            connection.send(drip).await;
            // Slower than any client would wait for.
            for _ in 0..30 {
                tokio::time::sleep(seconds(1)).await;
                connection.send(said).await;
            }
        })
        .await;
        for scheme in ["http", "socks5h"] {
            let proxy = Proxy::parse(&format!("{scheme}://{}", server.address)).unwrap();
            let proxies = Proxies::all(proxy, NoProxy::default());
            let begun = tokio::time::Instant::now();
            let out = run(vec![get("https://host.test/")], ClientOptions { proxies, ..options() }, without_retries())
                .await
                .remove(0);
            assert!(matches!(out.error, Some(ErrorKind::Proxy | ErrorKind::Connect)), "{out:?}");
            assert!(begun.elapsed() <= seconds(6));
            assert!(out.message.len() < 400 && !out.message.chars().any(char::is_control), "{:?}", out.message);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn cookies_of_a_hostile_server_do_not_swell_what_is_sent() {
    let server = Server::answering(|seen| {
        let from: usize = seen.target[1..].parse().unwrap();
        let headers: Vec<String> =
            (from..from + 20).map(|n| format!("Set-Cookie: c{n}={}", "x".repeat(3000))).collect();
        answer(200, &headers.iter().map(String::as_str).collect::<Vec<_>>(), b"")
    })
    .await;
    let options = ClientOptions { cookies: Some(CookieJar::default()), ..options() };
    let client = unisono_http::Client::new(options).unwrap();
    for at in 0..15 {
        assert!(run_with(&client, vec![get(server.url(&format!("/{}", at * 20)))], settings()).await[0].is_ok());
    }
    let last = server.seen().pop().unwrap();
    assert!(last.header("cookie").unwrap().len() < 8192 && last.header("cookie").unwrap().contains("c279="));
}

#[test]
fn an_address_cannot_be_printed_with_its_password_by_any_means() {
    let request = get("http://bob:hunter2@host/x");
    let shown =
        format!("{request:?} {:?} {} {}", request.url, request.url, Url::parse("http://bob:hunter2@host/").unwrap());
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn cookies_are_kept_when_asked_for() {
    let server =
        Server::answering(|seen| answer(200, &["Set-Cookie: a=b; Path=/"], seen.header("cookie").unwrap_or(""))).await;
    let client = unisono_http::Client::new(ClientOptions { cookies: Some(CookieJar::default()), ..options() }).unwrap();
    for expected in ["", "a=b"] {
        let out = run_with(&client, vec![get(server.url("/"))], without_retries()).await.remove(0);
        assert_eq!(&out.body[..], expected.as_bytes());
    }
    let mut request = get(server.url("/"));
    request.method = Method::HEAD;
    assert!(once(request).await.is_ok());
}
