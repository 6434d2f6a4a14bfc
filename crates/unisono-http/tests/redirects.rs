//! Where a redirect leads, what goes along, and that what was carried out before it is not done again.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderValue;
use support::*;
use unisono_core::{Effect, ErrorKind, OutcomeKind};
use unisono_http::{ClientOptions, Tls};
use unisono_testkit::{Certificates, Server, answer};

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
    let out = run(vec![get(url)], ClientOptions { tls, ..options() }, settings()).await.remove(0);
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
