//! Proxies that forward, tunnel, refuse, and are passed by.

mod support;

use std::net::IpAddr;

use support::*;
use unisono_core::{ErrorKind, OutcomeKind};
use unisono_http::{ClientOptions, HostAddress, NoProxy, Proxies, Proxy, Tls};
use unisono_testkit::{Certificates, Server, answer};

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

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

/// A server behind TLS, for what comes through a tunnel.
async fn behind_tunnels(certificates: &Certificates) -> Server {
    let signed = certificates.sign(&["127.0.0.1"]);
    Server::start_tls(certificates.server(&signed, &[], false), |mut connection| async move {
        while connection.request().await.is_some() {
            connection.send(answer(200, &[], b"tunnelled")).await;
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn a_proxy_forwards_http_tunnels_https_and_is_passed_by_for_exceptions() {
    let certificates = Certificates::new();
    let server = behind_tunnels(&certificates).await;
    let proxy = proxy(server.address).await;
    let through = |list: &str| ClientOptions {
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
    let refused = ClientOptions {
        proxies: Proxies::all(Proxy::parse(&proxy.address.to_string()).unwrap(), NoProxy::default()),
        ..through("")
    };
    let out = run(vec![post(format!("https://{}/", server.address))], refused, settings()).await.remove(0);
    assert_eq!((out.kind, out.error, out.attempts), (OutcomeKind::Failed, Some(ErrorKind::Proxy), 1));
}

/// A proxy behind TLS that could speak HTTP/2, and hangs up on HTTP/1.1 where HTTP/2 was agreed on.
async fn encrypted_proxy(certificates: &Certificates, target: std::net::SocketAddr) -> Server {
    let signed = certificates.sign(&["127.0.0.1"]);
    let config = certificates.server(&signed, &["h2", "http/1.1"], false);
    Server::start_tls(config, move |mut connection| async move {
        if connection.protocol.as_deref() != Some(b"http/1.1") {
            return;
        }
        let Some(seen) = connection.request().await else { return };
        if seen.method == "CONNECT" {
            connection.send("HTTP/1.1 200 Connected\r\n\r\n").await;
            connection.pass_on(target).await;
        } else {
            connection.send(answer(200, &[], b"forwarded")).await;
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn to_a_proxy_behind_tls_that_could_speak_http2_what_is_agreed_on_is_spoken() {
    let certificates = Certificates::new();
    let server = behind_tunnels(&certificates).await;
    let proxy = encrypted_proxy(&certificates, server.address).await;
    let through = ClientOptions {
        proxies: Proxies::all(Proxy::parse(&format!("https://{}", proxy.address)).unwrap(), NoProxy::default()),
        tls: Tls { roots: vec![certificates.authority().into_bytes()], ..Tls::default() },
        ..options()
    };
    let forwarded = run(vec![get("http://api.test/")], through.clone(), without_retries()).await.remove(0);
    assert_eq!(&forwarded.body[..], b"forwarded", "{forwarded:?}");
    let url = format!("https://{}/", server.address);
    let tunnelled = run(vec![get(url)], through, without_retries()).await.remove(0);
    assert_eq!(&tunnelled.body[..], b"tunnelled", "{tunnelled:?}");
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
    let through = |scheme: &str| ClientOptions {
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
