//! A connection needs no HTTP: what is said over it is its caller's choice.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixListener},
};
use tokio_rustls::TlsAcceptor;
use unisono_core::{ErrorKind, Peer};
use unisono_net::{
    Alpn, ByteStream, Connector, ConnectorOptions, Endpoint, Error, Family, HostAddress, Proxy, ProxyLogin, Route, Tls,
};
use unisono_testkit::Certificates;

fn connector(change: impl FnOnce(&mut ConnectorOptions)) -> Connector {
    let mut options = ConnectorOptions {
        connect_timeout: Duration::from_secs(5),
        resolver: None,
        hosts: Vec::new(),
        family: Family::Any,
        tls: Tls::default(),
        alpn: Alpn::default(),
        forward_alpn: Alpn::default(),
    };
    change(&mut options);
    Connector::new(options).unwrap()
}

fn endpoint(address: SocketAddr, is_tls: bool) -> Endpoint<'static> {
    Endpoint { host: "127.0.0.1", port: address.port(), is_tls, named: &"the echo" }
}

async fn echoed(mut stream: ByteStream) -> String {
    stream.write_all(b"hello").await.unwrap();
    stream.flush().await.unwrap();
    let mut back = [0; 5];
    stream.read_exact(&mut back).await.unwrap();
    String::from_utf8(back.to_vec()).unwrap()
}

/// Gives back what comes over one connection, encrypted or not.
async fn echo(acceptor: Option<TlsAcceptor>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut bytes = [0; 5];
        match acceptor {
            None => {
                socket.read_exact(&mut bytes).await.unwrap();
                socket.write_all(&bytes).await.unwrap();
            }
            Some(acceptor) => {
                let Ok(mut stream) = acceptor.accept(socket).await else { return };
                let Ok(_) = stream.read_exact(&mut bytes).await else { return };
                stream.write_all(&bytes).await.unwrap();
                stream.flush().await.unwrap();
            }
        }
    });
    address
}

#[tokio::test(start_paused = true)]
async fn bytes_go_both_ways_over_tcp_and_over_unix_sockets() {
    let address = echo(None).await;
    let connected = connector(|_| {}).connect(endpoint(address, false), Route::Direct).await.unwrap();
    assert!(connected.socket.is_quiet() && connected.protocol.is_none());
    assert_eq!(echoed(connected.stream).await, "hello");
    assert_eq!(connected.socket.written(), 5);

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut bytes = [0; 5];
        socket.read_exact(&mut bytes).await.unwrap();
        socket.write_all(&bytes).await.unwrap();
    });
    let connected = connector(|_| {}).connect(endpoint(address, false), Route::Unix(&path)).await.unwrap();
    assert_eq!(echoed(connected.stream).await, "hello");
}

#[tokio::test(start_paused = true)]
async fn tls_agrees_on_whatever_protocol_the_caller_offers() {
    let certificates = Certificates::new();
    let server = |protocols: &[&str]| {
        let config = certificates.server(&certificates.sign(&["127.0.0.1"]), protocols, false);
        Some(TlsAcceptor::from(Arc::new(config)))
    };
    let connect = async |address, required| {
        let connector = connector(|options| {
            options.tls.roots = vec![certificates.authority().into_bytes()];
            options.alpn = Alpn { offered: &[b"echo/2", b"echo/1"], required };
        });
        connector.connect(endpoint(address, true), Route::Direct).await
    };
    let connected = connect(echo(server(&["echo/1"])).await, Some("echo")).await.unwrap();
    assert_eq!(connected.protocol, Some(b"echo/1".as_slice()));
    assert_eq!(echoed(connected.stream).await, "hello");
    let connected = connect(echo(server(&[])).await, None).await.unwrap();
    assert_eq!((connected.protocol, echoed(connected.stream).await.as_str()), (None, "hello"));
    let error = connect(echo(server(&[])).await, Some("echo")).await.err().unwrap();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Protocol, "the echo does not speak echo"));
}

#[tokio::test(start_paused = true)]
async fn an_error_names_what_failed_by_the_callers_word_and_says_what_it_is_news_of() {
    let closed = { std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    let facts = |error: &Error| (error.kind(), error.is_retryable(), error.peer());
    let error = connector(|_| {}).connect(endpoint(closed, false), Route::Direct).await.err().unwrap();
    assert_eq!(facts(&error), (ErrorKind::Connect, true, Peer::Away));
    assert!(error.chain().starts_with("connect to the echo failed: "), "{}", error.chain());

    let login = ProxyLogin::new(Proxy::parse(&format!("socks5://bob:pw@{closed}")).unwrap());
    let error = connector(|_| {}).connect(endpoint(closed, false), Route::Tunnel(&login)).await.err().unwrap();
    assert_eq!(facts(&error), (ErrorKind::Proxy, true, Peer::Away));
    assert!(error.chain().contains(&format!("proxy {closed}")) && !error.chain().contains("pw"), "{}", error.chain());

    let hosts = vec![HostAddress { host: "six.test".into(), port: None, addresses: vec!["::1".parse().unwrap()] }];
    let connector = connector(|options| (options.hosts, options.family) = (hosts, Family::V4));
    let to = Endpoint { host: "six.test", port: 1, is_tls: false, named: &"six" };
    let error = connector.connect(to, Route::Direct).await.err().unwrap();
    assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Dns, "`six.test` has no IPv4 address"));
}
