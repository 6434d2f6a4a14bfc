//! A server whose every byte is scripted, and the log of the requests that it got.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustix::net::sockopt::set_socket_linger;
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixListener},
    task::JoinHandle,
    time::sleep,
};
use tokio_rustls::TlsAcceptor;

/// A listening server; it stops when it is dropped.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    ledger: Arc<RequestLog>,
    task: JoinHandle<()>,
}

/// A request that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRequest {
    /// Its method.
    pub method: String,
    /// Its target, as it was sent.
    pub target: String,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
    /// Which connection it came over, from 0.
    pub connection: usize,
}

impl SeenRequest {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Default)]
struct RequestLog {
    seen: Mutex<Vec<SeenRequest>>,
    connections: AtomicUsize,
}

impl Server {
    /// Starts a server on the test's runtime; `script` is what it does with each connection.
    pub async fn start<F, R>(script: F) -> Self
    where
        F: Fn(Connection) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        Self::start_on(bound().await, None, script)
    }

    /// The same, over TLS.
    pub async fn start_tls<F, R>(config: ServerConfig, script: F) -> Self
    where
        F: Fn(Connection) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        Self::start_on(bound().await, Some(TlsAcceptor::from(Arc::new(config))), script)
    }

    /// Answers each request by what `answer` makes of it: the whole response, as bytes.
    pub async fn answering(answer: impl Fn(&SeenRequest) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let answer = Arc::new(answer);
        Self::start(move |mut connection| {
            let answer = answer.clone();
            async move {
                while let Some(seen) = connection.request().await {
                    connection.send(answer(&seen)).await;
                }
            }
        })
        .await
    }

    fn start_on<F, R>(listener: TcpListener, tls: Option<TlsAcceptor>, script: F) -> Self
    where
        F: Fn(Connection) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let address = listener.local_addr().expect("a bound socket has an address");
        let ledger = Arc::new(RequestLog::default());
        let (known, script) = (ledger.clone(), Arc::new(script));
        let accept = async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = known.connections.fetch_add(1, Ordering::Relaxed);
                let (tls, known, script) = (tls.clone(), known.clone(), script.clone());
                tokio::spawn(async move {
                    // A client that does not like our certificate goes away here.
                    if let Ok((stream, socket, protocol)) = set_up(stream, tls).await {
                        let socket = Some(socket);
                        script(Connection { stream, socket, protocol, ledger: known, number, buffer: Vec::new() })
                            .await;
                    }
                });
            }
        };
        Self { address, ledger, task: tokio::spawn(accept) }
    }

    /// Starts a server on a Unix socket.
    ///
    /// # Panics
    /// When the socket cannot be made.
    pub fn start_unix<F, R>(path: &Path, script: F) -> Self
    where
        F: Fn(Connection) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let listener = UnixListener::bind(path).expect("the socket's folder is the test's own");
        let ledger = Arc::new(RequestLog::default());
        let known = ledger.clone();
        let accept = async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = known.connections.fetch_add(1, Ordering::Relaxed);
                let ledger = known.clone();
                tokio::spawn(script(Connection {
                    stream: Box::new(stream),
                    socket: None,
                    protocol: None,
                    ledger,
                    number,
                    buffer: Vec::new(),
                }));
            }
        };
        Self { address: ([0, 0, 0, 0], 0).into(), ledger, task: tokio::spawn(accept) }
    }

    /// An address on it.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The requests that came in, in order.
    pub fn seen(&self) -> Vec<SeenRequest> {
        self.ledger.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.ledger.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn bound() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports to spare")
}

/// The stream, its socket, and the protocol that TLS has agreed on.
async fn set_up(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
) -> io::Result<(Box<dyn AnyStream>, std::net::TcpStream, Option<Vec<u8>>)> {
    stream.set_nodelay(true)?;
    let socket = std::net::TcpStream::from(rustix::io::dup(&stream)?);
    let Some(tls) = tls else { return Ok((Box::new(stream), socket, None)) };
    let stream = tls.accept(stream).await?;
    let protocol = stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    Ok((Box::new(stream), socket, protocol))
}

/// Any byte stream.
trait AnyStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> AnyStream for S {}

/// A connection that a script reads and writes. Dropping it closes it.
pub struct Connection {
    stream: Box<dyn AnyStream>,
    /// For what only the socket itself can be told.
    socket: Option<std::net::TcpStream>,
    /// What TLS has agreed on (ALPN, RFC 7301).
    pub protocol: Option<Vec<u8>>,
    ledger: Arc<RequestLog>,
    /// Which one of its server, from 0.
    pub number: usize,
    /// Read, but not part of a request yet.
    buffer: Vec<u8>,
}

impl Connection {
    /// The next request, noted in the ledger; `None` when the client has closed.
    pub async fn request(&mut self) -> Option<SeenRequest> {
        let head_end = loop {
            if let Some(at) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            self.more().await?;
        };
        let head = String::from_utf8_lossy(&self.buffer[..head_end]).into_owned();
        self.buffer.drain(..head_end + 4);
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ').map(str::to_owned);
        let (method, target) = (words.next()?, words.next()?);
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let length = headers
            .iter()
            .find(|(name, _)| name == "content-length")
            .and_then(|(_, value)| value.parse().ok())
            .unwrap_or(0);
        while self.buffer.len() < length {
            self.more().await?;
        }
        let body = self.buffer.drain(..length).collect();
        let seen = SeenRequest { method, target, headers, body, connection: self.number };
        self.ledger.seen.lock().unwrap_or_else(PoisonError::into_inner).push(seen.clone());
        Some(seen)
    }

    /// So many bytes, whatever they are; `None` when the client has closed before.
    pub async fn bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            self.more().await?;
        }
        Some(self.buffer.drain(..count).collect())
    }

    /// Sends bytes. That the client is gone is its own business.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
        let _ = self.stream.flush().await;
    }

    /// Sends bytes one by one, with a pause after each; ends when the client is gone.
    pub async fn drip(&mut self, bytes: impl AsRef<[u8]>, pause: Duration) {
        for byte in bytes.as_ref() {
            if self.stream.write_all(&[*byte]).await.is_err() || self.stream.flush().await.is_err() {
                return;
            }
            sleep(pause).await;
        }
    }

    /// Says nothing until the client closes.
    pub async fn silence(&mut self) {
        while self.more().await.is_some() {}
    }

    /// Closes with a word: over TLS, its close_notify. One that is only dropped is cut off.
    pub async fn close(mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Closes so that the client sees a reset.
    pub fn reset(self) {
        if let Some(socket) = &self.socket {
            let _ = set_socket_linger(socket, Some(Duration::ZERO));
        }
    }

    /// Connects to another server and passes bytes both ways, until either side closes.
    pub async fn pass_on(mut self, address: SocketAddr) {
        if let Ok(mut other) = TcpStream::connect(address).await {
            let _ = other.write_all(&self.buffer).await;
            let _ = tokio::io::copy_bidirectional(&mut self.stream, &mut other).await;
        }
    }

    async fn more(&mut self) -> Option<()> {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes).await {
            Ok(0) | Err(_) => None,
            Ok(read) => {
                self.buffer.extend_from_slice(&bytes[..read]);
                Some(())
            }
        }
    }
}

/// A whole response with a `Content-Length`; `headers` are lines without their ends.
pub fn answer(status: u16, headers: &[&str], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n", body.len()).into_bytes();
    for header in headers {
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_is_read_whole_however_it_comes_and_noted() {
        let server = Server::answering(|seen| answer(200, &[], &seen.body)).await;
        let mut client = TcpStream::connect(server.address).await.unwrap();
        for piece in ["POST /a HTTP/1.1\r\nContent-Le", "ngth: 4\r\n\r\nab", "cdGET /b HTTP/1.1\r\n\r\n"] {
            client.write_all(piece.as_bytes()).await.unwrap();
        }
        client.shutdown().await.unwrap();
        let mut answers = String::new();
        client.read_to_string(&mut answers).await.unwrap();
        assert_eq!(answers.matches("HTTP/1.1 200").count(), 2);
        assert!(answers.contains("\r\n\r\nabcd"));
        let targets: Vec<String> = server.seen().into_iter().map(|seen| seen.target).collect();
        assert_eq!((targets, server.connections()), (vec!["/a".to_owned(), "/b".to_owned()], 1));
    }

    #[tokio::test]
    async fn a_reset_is_seen_as_one() {
        let server = Server::start(|mut connection| async move {
            connection.bytes(1).await;
            connection.reset();
        })
        .await;
        let mut client = TcpStream::connect(server.address).await.unwrap();
        client.write_all(b"x").await.unwrap();
        let error = client.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
