//! One request, sent once: over a pooled connection, through redirects, with one refresh of a token.
//!
//! "Once" has two exceptions that no server can tell from a first sending: a request that was never sent goes out on
//! another connection, and so does an idempotent one whose kept-alive connection was closed under it.

use std::rc::Rc;

use http::{HeaderMap, HeaderValue, StatusCode, Uri, header, uri};
use unisono_batch::Context;
use unisono_core::{Effect, ErrorKind, Peer};
use unisono_net::LoginPermit;

use crate::{
    Body, ClientOptions, Error, Request, Response, Streaming,
    auth::{Generation, Tokens, basic_authorization},
    cookies::{self, CookieJar},
    decode::{ACCEPT_ENCODING, Decoder},
    fields,
    framing::{check_framing, check_size},
    news,
    pool::{ConnectionPool, PooledConnection},
    redirect,
    resend::Resends,
    response::{Incoming, IncomingBody, MinThroughput, ReadBudget, ResponseBody},
    throttle,
    trail::{Hop, HopStage, Trail},
    url::Origin,
    verdict::effect_of,
};

/// Sends requests. Clones share their connections, which belong to the runtime they were made in.
#[derive(Clone)]
pub struct Client(Rc<Inner>);

struct Inner {
    options: ClientOptions,
    /// What every request is sent with.
    headers: HeaderMap,
    pool: Rc<ConnectionPool>,
    cookies: Option<CookieJar>,
    tokens: Option<Tokens>,
}

impl Client {
    /// A client with these options.
    ///
    /// # Errors
    /// When a certificate or key is of no use.
    pub fn new(options: ClientOptions) -> Result<Self, Error> {
        let mut headers = options.headers.clone();
        if options.decompress {
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(ACCEPT_ENCODING));
        }
        Ok(Self(Rc::new(Inner {
            pool: Rc::new(ConnectionPool::new(&options)?),
            cookies: options.cookies.clone(),
            tokens: options.tokens.clone().map(Tokens::new),
            headers,
            options,
        })))
    }

    /// Its options.
    pub fn options(&self) -> &ClientOptions {
        &self.0.options
    }

    /// How many connections there can be, once the process has run out of file descriptors.
    pub fn most_connections(&self) -> Option<usize> {
        self.0.pool.most_connections()
    }

    /// How many requests were left in doubt by origins that closed a connection which they had promised to keep.
    pub fn in_doubt(&self) -> Vec<(String, u64)> {
        self.0.pool.in_doubt()
    }

    /// Sends a request and waits for the whole answer, whatever its status.
    ///
    /// # Errors
    /// When there is no whole answer. Whether the request may have taken effect is in the context.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), unisono_http::Error> {
    /// let client = unisono_http::Client::new(unisono_http::ClientOptions::default())?;
    /// let request = unisono_http::Request::get("https://example.com/")?;
    /// let response = client.send(&request, &unisono_batch::Context::detached()).await?;
    /// assert_eq!(response.status, 200);
    /// # Ok(()) }
    /// ```
    pub async fn send(&self, request: &Request, attempt: &Context) -> Result<Response, Error> {
        self.open(request, &Trail::default(), attempt).await?.collect_for(attempt).await
    }

    /// Sends a request and waits for the head of the answer. What it says of the request is settled in the context as
    /// if its body came whole. An attempt goes on where the trail ends.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn open(&self, request: &Request, trail: &Trail, attempt: &Context) -> Result<Streaming, Error> {
        match trail.last_hop() {
            None => self.follow(request, 0, trail, attempt, request).await,
            Some(hop) => Box::pin(self.open_from(hop, trail, attempt, request)).await,
        }
    }

    /// As [`Client::open`], from a later hop of this request.
    pub(crate) async fn open_from(
        &self,
        hop: Hop,
        trail: &Trail,
        attempt: &Context,
        request: &Request,
    ) -> Result<Streaming, Error> {
        self.follow(&hop.request, hop.redirects, trail, attempt, request).await
    }

    /// `row` is the request that all of this is for: what is news is news of its host.
    async fn follow(
        &self,
        first: &Request,
        mut redirects: u8,
        trail: &Trail,
        attempt: &Context,
        row: &Request,
    ) -> Result<Streaming, Error> {
        let mut known = Peer::Unknown;
        let is_own = is_news_of(row, first);
        let answer = self.0.ask(first, trail.begin_hop(is_own), attempt).await;
        let mut answer = with_news(answer, is_own, &mut known)?;
        answer.redirects = redirects;
        let most = row.max_redirects(self.0.options.max_redirects);
        if most == 0 {
            return Ok(answer);
        }
        let mut asked;
        let mut current = first;
        while let Some(next) = redirect::follow(current, answer.status, &answer.headers) {
            let next = next.map_err(|error| error.of_peer(known))?;
            if redirects == most {
                let from = answer.url.origin();
                let message = format!("{from} redirects again after {redirects} redirects, the most that are followed");
                return Err(Error::new(ErrorKind::Redirect, message).of_peer(known));
            }
            redirects += 1;
            if attempt.effect() == Effect::Done && !first.is_repeatable() && next.is_repeatable() {
                // Before the hop is sent, so that whatever becomes of it, only the hop is repeated.
                trail.go_on_from(Hop { request: next.clone(), redirects });
            }
            answer.discard().await;
            asked = next;
            current = &asked;
            let is_own = is_news_of(row, current);
            // Boxed, as is all that most requests do without: it would make every request's future as large.
            let next = Box::pin(self.0.ask(current, trail.begin_hop(is_own), attempt)).await;
            answer = with_news(next, is_own, &mut known)?;
            answer.redirects = redirects;
        }
        Ok(answer)
    }
}

impl Inner {
    /// One exchange, repeated with a new token when the old one is refused.
    async fn ask(&self, request: &Request, trail: Option<&Trail>, attempt: &Context) -> Result<Streaming, Error> {
        let headers = self.headers_of(request);
        fields::check(request, &headers)?;
        let tokens =
            self.tokens.as_ref().filter(|_| !request.is_cross_origin && !headers.contains_key(header::AUTHORIZATION));
        match tokens {
            None => self.exchange(request, headers, trail, attempt).await,
            Some(tokens) => Box::pin(self.ask_with_token(request, headers, tokens, trail, attempt)).await,
        }
    }

    async fn ask_with_token(
        &self,
        request: &Request,
        mut headers: HeaderMap,
        tokens: &Tokens,
        trail: Option<&Trail>,
        attempt: &Context,
    ) -> Result<Streaming, Error> {
        let used = tokens.sign(&mut headers).await?;
        let answer = self.exchange(request, headers, trail, attempt).await?;
        if !self.is_refused(tokens, used, answer.status) || request.body.is_spent() {
            return Ok(answer);
        }
        answer.discard().await;
        let mut headers = self.headers_of(request);
        let used = tokens.sign(&mut headers).await?;
        let answer = self.exchange(request, headers, trail, attempt).await?;
        if answer.status != StatusCode::UNAUTHORIZED {
            tokens.accepted(used);
        }
        Ok(answer)
    }

    fn is_refused(&self, tokens: &Tokens, used: Generation, status: StatusCode) -> bool {
        if status == StatusCode::UNAUTHORIZED {
            return tokens.refused(used);
        }
        tokens.accepted(used);
        false
    }

    async fn exchange(
        &self,
        request: &Request,
        headers: HeaderMap,
        trail: Option<&Trail>,
        attempt: &Context,
    ) -> Result<Streaming, Error> {
        let origin = request.url.origin();
        let reached = |stage| trail.into_iter().for_each(|trail| trail.reached(stage));
        // Whether it goes over a new connection because a kept one was lost under it.
        let mut replayed = false;
        let mut fresh = false;
        let mut resends = Resends::default();
        // Before the connection: until the proxy has let one request in, one at a time may show it the password.
        let permit = self.pool.dialer().permit_to_forward(&origin).await?;
        loop {
            // What may not be sent twice goes over no connection that its server may be about to close.
            let alone = !request.is_repeatable() && self.pool.breaks_promises(&origin);
            // Nor does what comes in once: it would be lost with that connection.
            let alone_or_once = alone || request.body.is_once();
            let connection = self.pool.acquire(&origin, fresh || alone_or_once, &reached).await;
            if let (Err(error), Some(permit)) = (&connection, &permit) {
                permit.failed(&error.for_other_logins());
            }
            let mut connection = connection?;
            reached(HopStage::Sent);
            let message = self.message(request, headers.clone(), &origin, &connection, alone)?;
            let answer = match &mut connection {
                PooledConnection::Http1(connection) => {
                    connection.send(message, attempt, &origin).await.map(|answer| answer.map(Incoming::Http1))
                }
                PooledConnection::Http2(connection) => {
                    connection.send(message, attempt, &origin).await.map(|answer| answer.map(Incoming::Http2))
                }
            };
            let error = match answer {
                Ok(answer) if answer.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED && permit.is_some() => {
                    attempt.settle(Effect::None);
                    return Err(permit.expect("just looked at").refused_by_status().into());
                }
                Ok(answer) => {
                    reached(HopStage::Answered);
                    permit.iter().for_each(LoginPermit::accepted);
                    let streaming = self.answered(request, origin, connection, answer)?;
                    attempt.settle(streaming.effect);
                    return Ok(streaming);
                }
                Err(error) => error,
            };
            if request.body.is_spent() {
                return Err(error);
            }
            if let (true, PooledConnection::Http2(connection)) = (error.is_unprocessed(), &connection) {
                let Some(pause) = resends.again(&error, connection, &self.pool, &origin) else {
                    if connection.is_closed() {
                        self.pool.note_failure(&origin, &error);
                    }
                    return Err(error);
                };
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
                continue;
            }
            if matches!(&connection, PooledConnection::Http1(_)) && error.is_stale() && !error.is_unprocessed() {
                // Before anything else is sent: from now on, what must not be sent twice gets a connection of its own.
                self.pool.note_broken_promise(&origin);
                if !request.is_repeatable() {
                    self.pool.note_in_doubt(&origin);
                }
            }
            let may_be_repeated = error.is_unprocessed() || request.is_repeatable();
            if replayed || !error.is_stale() || error.kind() != ErrorKind::Closed || !may_be_repeated {
                return Err(error);
            }
            (replayed, fresh) = (true, matches!(connection, PooledConnection::Http1(_)));
        }
    }

    fn answered(
        &self,
        request: &Request,
        origin: Origin,
        connection: PooledConnection,
        answer: http::Response<Incoming>,
    ) -> Result<Streaming, Error> {
        let (head, incoming) = answer.into_parts();
        if matches!(connection, PooledConnection::Http1(_)) {
            check_framing(&head.headers, &origin)?;
        }
        check_size(&head.headers, self.options.max_header, &origin)?;
        if let Some(cookies) = &self.cookies {
            cookies.keep(&request.url, &head.headers);
        }
        let is_misdirected = head.status == StatusCode::MISDIRECTED_REQUEST;
        if let (true, PooledConnection::Http2(connection)) = (is_misdirected, &connection) {
            self.pool.retire(&origin, connection);
        }
        // Where requests like this one get connections of their own, it would be kept for none.
        let condemned = is_misdirected || (!request.is_repeatable() && self.pool.breaks_promises(&origin));
        let options = &self.options;
        Ok(Streaming {
            status: head.status,
            version: head.version,
            url: request.url.clone(),
            redirects: 0,
            peer: Peer::Unknown,
            effect: effect_of(&request.method, head.status, throttle::comes_back(&head.headers)),
            body: ResponseBody::Incoming(IncomingBody {
                incoming,
                decoder: Decoder::new(&head.headers, options.decompress, options.max_body),
                budget: ReadBudget::over(&connection),
                connection: Some(connection),
                condemned,
                pool: self.pool.clone(),
                origin,
                wire_bytes: 0,
                min_throughput: options
                    .min_throughput
                    .map(|min_throughput| Box::new(MinThroughput::new(min_throughput))),
            }),
            headers: head.headers,
        })
    }

    /// The request's own headers over those of the client.
    fn headers_of(&self, request: &Request) -> HeaderMap {
        let mut headers = self.headers.clone();
        let mut last = None;
        for (name, value) in &request.headers {
            // The first of a name replaces the client's; further ones stand beside it.
            match last.replace(name) == Some(name) {
                true => headers.append(name, value.clone()),
                false => headers.insert(name, value.clone()).is_some(),
            };
        }
        if let Some(content_type) = request.body.content_type() {
            // Any other would name another boundary.
            headers.insert(header::CONTENT_TYPE, content_type.clone());
        }
        if let (Some((name, password)), false) = (request.url.user(), headers.contains_key(header::AUTHORIZATION)) {
            headers.insert(header::AUTHORIZATION, basic_authorization(name, password));
        }
        let brought = request.cookies();
        if self.cookies.is_some() || !brought.is_empty() {
            cookies::add(self.cookies.as_ref(), brought, &request.url, &mut headers);
        }
        headers
    }

    fn message(
        &self,
        request: &Request,
        mut headers: HeaderMap,
        origin: &Origin,
        connection: &PooledConnection,
        alone: bool,
    ) -> Result<http::Request<Body>, Error> {
        let unsendable = |what: &str| Error::new(ErrorKind::Input, format!("{what} cannot be sent"));
        let mut parts = uri::Parts::default();
        let authority = request.url.authority();
        let forwarding = self.pool.dialer().forwarding(origin);
        let is_http1 = matches!(connection, PooledConnection::Http1(_));
        if is_http1 && !headers.contains_key(header::HOST) {
            headers.insert(header::HOST, HeaderValue::from_str(&authority).map_err(|_| unsendable("the host"))?);
        }
        if is_http1 && alone {
            // A server of few workers need not keep one for a connection that is not used again.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        // HTTP/2 has no such field; a host that the caller named is the one that it is for (RFC 9113, section 8.3.1).
        let named = if is_http1 { None } else { headers.remove(header::HOST) };
        if !is_http1 || forwarding.is_some() {
            let authority = named.as_ref().map_or(authority.as_bytes(), HeaderValue::as_bytes);
            parts.scheme = Some(if request.url.is_https() { uri::Scheme::HTTPS } else { uri::Scheme::HTTP });
            parts.authority = Some(authority.try_into().map_err(|_| unsendable("the host"))?);
        }
        if let Some(Some(credentials)) = forwarding {
            headers.insert(header::PROXY_AUTHORIZATION, credentials);
        }
        parts.path_and_query = Some(request.url.target().clone());
        let mut message = http::Request::new(request.body.clone());
        *message.method_mut() = request.method.clone();
        *message.uri_mut() = Uri::from_parts(parts).map_err(|_| unsendable("the address"))?;
        *message.headers_mut() = headers;
        if !is_http1 {
            *message.version_mut() = http::Version::HTTP_2;
        }
        Ok(message)
    }
}

/// Whether what becomes of this hop is news of the host that the row is limited by: that of its own address.
pub(crate) fn is_news_of(row: &Request, hop: &Request) -> bool {
    // Most rows have one hop, for which nothing need be compared.
    std::ptr::eq(row, hop) || hop.url.authority() == row.url.authority()
}

/// The end of a hop with what is known by it of the row's host: a hop to another origin adds nothing to that. `known`
/// keeps it for the hops that follow.
fn with_news(mut result: Result<Streaming, Error>, is_own: bool, known: &mut Peer) -> Result<Streaming, Error> {
    if is_own {
        *known = match &result {
            Ok(answer) => news::of_head(answer.status, &answer.headers),
            Err(error) => error.peer(),
        };
    }
    if let Ok(answer) = &mut result {
        answer.peer = *known;
    }
    result.map_err(|error| error.of_peer(*known))
}
