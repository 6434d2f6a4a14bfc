//! Requests, their ends and a client's options as bytes, for an exchange that takes place on another machine.
//!
//! Each message is a version, then its members in order: numbers as LEB128, everything else behind its length. Both
//! sides are the same version of unisono, which is checked before anything is sent; the version here is for callers
//! that did not check. What cannot be read is an error, never a panic and never a guess: there is nothing optional in
//! it, and nothing may follow it. Credentials are written as they are, so the way must be as safe as the one to the
//! servers.
//!
//! It leaves out what belongs to one machine: a socket's path, a jar of cookies, a source of tokens, a private key.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header};
use unisono_core::{Effect, ErrorKind, Peer, Secret};
use unisono_net::ProxyKind;

use crate::{
    ClientOptions, Error, Family, HostAddress, HttpVersion, NoProxy, Proxies, Proxy, Request, RequestCookie,
    RequestOptions, Response, StatusSet, Tls, Url, proxy::Exception, trail::Hop,
};

/// How an exchange ended.
#[derive(Debug)]
pub(crate) struct RemoteEnd {
    /// What may have been carried out.
    pub(crate) effect: Effect,
    /// Where a repeat would begin, if not with the request itself.
    pub(crate) hop: Option<Hop>,
    /// What it says of the host that the request was for.
    pub(crate) peer: Peer,
    /// The answer, or why there is none.
    pub(crate) outcome: Result<Response, Error>,
}

/// Writes a client's options.
///
/// # Errors
/// Of kind `input` when there is one that holds for one machine alone; it is named.
///
/// ```
/// use unisono_http::{ClientOptions, CookieJar, decode_options, encode_options};
/// let bytes = encode_options(&ClientOptions { max_redirects: 3, ..ClientOptions::default() }).unwrap();
/// assert_eq!(decode_options(bytes.into()).unwrap().max_redirects, 3);
/// let here = ClientOptions { cookies: Some(CookieJar::default()), ..ClientOptions::default() };
/// assert_eq!(encode_options(&here).unwrap_err().to_string(), "each machine would keep cookies of its own");
/// ```
pub fn encode_options(options: &ClientOptions) -> Result<Vec<u8>, Error> {
    if let Some(only) = options.only_here() {
        return Err(Error::new(ErrorKind::Input, only.why()));
    }
    let mut out = MessageWriter::new();
    out.duration(options.connect_timeout);
    out.number(match options.version {
        HttpVersion::Auto => 0,
        HttpVersion::Http1 => 1,
        HttpVersion::Http2 => 2,
    });
    out.list(&options.tls.roots, |out, root| out.bytes(root));
    out.flag(options.tls.insecure);
    out.option(options.proxies.http.as_ref(), MessageWriter::proxy);
    out.option(options.proxies.https.as_ref(), MessageWriter::proxy);
    out.list(&options.proxies.exceptions.0, MessageWriter::exception);
    out.list(&options.hosts, |out, host| {
        out.text(&host.host);
        out.option(host.port, |out, port| out.number(port.into()));
        out.list(&host.addresses, |out, address| out.text(&address.to_string()));
    });
    out.number(match options.family {
        Family::Any => 0,
        Family::V4 => 4,
        Family::V6 => 6,
    });
    out.number(options.max_redirects.into());
    out.number(options.max_body);
    out.number(options.max_header as u64);
    out.list(options.expect.ranges(), |out, (first, last)| {
        out.number((*first).into());
        out.number((*last).into());
    });
    out.headers(&options.headers);
    out.flag(options.decompress);
    out.option(options.min_throughput, MessageWriter::number);
    out.duration(options.idle_timeout);
    Ok(out.0)
}

/// Reads what [`encode_options`] wrote.
///
/// # Errors
/// Of kind `input` when it is something else, or another version's.
pub fn decode_options(bytes: Bytes) -> Result<ClientOptions, Error> {
    read(bytes, |from| {
        Ok(ClientOptions {
            connect_timeout: from.duration()?,
            version: match from.number()? {
                0 => HttpVersion::Auto,
                1 => HttpVersion::Http1,
                2 => HttpVersion::Http2,
                _ => return Err(Malformed),
            },
            tls: Tls { roots: from.list(|from| Ok(from.bytes()?.to_vec()))?, insecure: from.flag()?, identity: None },
            proxies: Proxies {
                http: from.option(MessageReader::proxy)?,
                https: from.option(MessageReader::proxy)?,
                exceptions: NoProxy(from.list(MessageReader::exception)?),
            },
            hosts: from.list(|from| {
                Ok(HostAddress {
                    host: from.text()?,
                    port: from.option(MessageReader::small)?,
                    addresses: from.list(|from| from.text()?.parse().map_err(|_| Malformed))?,
                })
            })?,
            family: match from.number()? {
                0 => Family::Any,
                4 => Family::V4,
                6 => Family::V6,
                _ => return Err(Malformed),
            },
            max_redirects: from.small()?,
            max_body: from.number()?,
            max_header: from.small()?,
            expect: StatusSet::from_ranges(from.list(|from| Ok((from.small()?, from.small()?)))?),
            headers: from.headers()?,
            decompress: from.flag()?,
            min_throughput: from.option(MessageReader::number)?,
            idle_timeout: from.duration()?,
            resolver: None,
            unix_socket: None,
            cookies: None,
            tokens: None,
        })
    })
}

/// Writes a request, and how many redirects have led to it.
pub(crate) fn encode_request(request: &Request, redirects: u8) -> Vec<u8> {
    let mut out = MessageWriter::new();
    out.request(request);
    out.number(redirects.into());
    out.0
}

/// Reads what [`encode_request`] wrote.
pub(crate) fn decode_request(bytes: Bytes) -> Result<(Request, u8), Error> {
    read(bytes, |from| Ok((from.request()?, from.small()?)))
}

/// Writes the end of an exchange.
pub(crate) fn encode_end(end: &RemoteEnd) -> Vec<u8> {
    let mut out = MessageWriter::new();
    let effect = Effect::ALL.iter().position(|effect| *effect == end.effect).unwrap_or(0);
    out.number(effect as u64);
    out.option(end.hop.as_ref(), |out, hop| {
        out.request(&hop.request);
        out.number(hop.redirects.into());
    });
    let peer = Peer::ALL.iter().position(|peer| *peer == end.peer).unwrap_or(0);
    out.number(peer as u64);
    out.flag(end.outcome.is_ok());
    match &end.outcome {
        Ok(response) => {
            out.number(response.status.as_u16().into());
            out.number(VERSIONS.iter().position(|version| *version == response.version).unwrap_or(0) as u64);
            out.headers(&response.headers);
            out.url(&response.url);
            out.number(response.wire_bytes);
            out.number(response.redirects.into());
            out.bytes(&response.body);
        }
        Err(error) => {
            out.text(error.kind().as_str());
            out.list(&error.levels(), |out, level| out.text(level));
            for flag in [error.is_retryable(), error.is_unprocessed(), error.is_stale()] {
                out.flag(flag);
            }
        }
    }
    out.0
}

/// Reads what [`encode_end`] wrote.
pub(crate) fn decode_end(bytes: Bytes) -> Result<RemoteEnd, Error> {
    read(bytes, |from| {
        let effect = *Effect::ALL.get(from.small::<usize>()?).ok_or(Malformed)?;
        let hop = from.option(|from| Ok(Hop { request: from.request()?, redirects: from.small()? }))?;
        let peer = *Peer::ALL.get(from.small::<usize>()?).ok_or(Malformed)?;
        if from.flag()? {
            let response = Response {
                status: StatusCode::from_u16(from.small()?).map_err(|_| Malformed)?,
                version: *VERSIONS.get(from.small::<usize>()?).ok_or(Malformed)?,
                headers: from.headers()?,
                url: from.url()?,
                wire_bytes: from.number()?,
                redirects: from.small()?,
                body: from.bytes()?,
            };
            return Ok(RemoteEnd { effect, hop, peer, outcome: Ok(response) });
        }
        let kind = ErrorKind::named(&from.text()?).ok_or(Malformed)?;
        let levels = from.list(MessageReader::text)?;
        let error = Error::of_levels(kind, levels).ok_or(Malformed)?;
        let error = error.retryable(from.flag()?).unprocessed(from.flag()?).stale(from.flag()?);
        Ok(RemoteEnd { effect, hop, peer, outcome: Err(error) })
    })
}

/// It is not what it should be. Where, is of no use: both sides are ours.
struct Malformed;

struct MessageWriter(Vec<u8>);

impl MessageWriter {
    fn new() -> Self {
        Self(vec![FORMAT])
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn flag(&mut self, flag: bool) {
        self.0.push(flag.into());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn duration(&mut self, duration: Duration) {
        self.number(duration.as_secs());
        self.number(duration.subsec_nanos().into());
    }

    fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    fn list<T>(&mut self, values: &[T], write: impl Fn(&mut Self, &T)) {
        self.number(values.len() as u64);
        values.iter().for_each(|value| write(self, value));
    }

    fn user(&mut self, user: Option<(&str, &Secret)>) {
        self.option(user, |out, (name, password)| {
            out.text(name);
            out.text(password.reveal());
        });
    }

    fn url(&mut self, url: &Url) {
        self.text(&url.to_string());
        self.user(url.user());
    }

    fn request(&mut self, request: &Request) {
        self.text(request.method.as_str());
        self.url(&request.url);
        match request.body.content_type() {
            None => self.headers(&request.headers),
            // The other side gets the bytes alone.
            Some(content_type) => {
                let mut headers = request.headers.clone();
                headers.insert(header::CONTENT_TYPE, content_type.clone());
                self.headers(&headers);
            }
        }
        self.flag(request.is_cross_origin);
        // The rest of a request's options is heeded by the side that has it from its user.
        self.option(request.options.as_ref(), |out, options| {
            out.option(options.follow_redirects, Self::flag);
            out.list(&options.cookies, |out, cookie| {
                out.text(cookie.name());
                out.text(cookie.value());
                out.flag(cookie.yields());
            });
        });
        self.bytes(request.body.as_bytes().expect("what is read as it is sent is refused before"));
    }

    fn headers(&mut self, headers: &HeaderMap) {
        self.number(headers.len() as u64);
        for (name, value) in headers {
            self.text(name.as_str());
            self.bytes(value.as_bytes());
            self.flag(value.is_sensitive());
        }
    }

    fn proxy(&mut self, proxy: &Proxy) {
        self.number(match proxy.kind {
            ProxyKind::Http => 0,
            ProxyKind::Https => 1,
            ProxyKind::Socks { remote_names: false } => 2,
            ProxyKind::Socks { remote_names: true } => 3,
        });
        self.text(&proxy.host);
        self.number(proxy.port.into());
        self.user(proxy.user.as_ref().map(|(name, password)| (name.as_str(), password)));
    }

    fn exception(&mut self, exception: &Exception) {
        match exception {
            Exception::All => self.number(0),
            Exception::Network(network) => {
                self.number(1);
                self.text(&network.to_string());
            }
            Exception::Name(name, port) => {
                self.number(2);
                self.text(name);
                self.option(*port, |out, port| out.number(port.into()));
            }
        }
    }
}

/// Reads one message to its end.
fn read<T>(bytes: Bytes, members: impl FnOnce(&mut MessageReader) -> Result<T, Malformed>) -> Result<T, Error> {
    let mut from = MessageReader(bytes);
    let whole = |from: &mut MessageReader| {
        if from.byte()? != FORMAT {
            return Err(Malformed);
        }
        let value = members(from)?;
        if from.0.is_empty() { Ok(value) } else { Err(Malformed) }
    };
    whole(&mut from).map_err(|Malformed| {
        let message = "what came from the other machine cannot be read (is it the same version of unisono?)";
        Error::new(ErrorKind::Input, message)
    })
}

struct MessageReader(Bytes);

impl MessageReader {
    fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    /// Shares the message's memory: a body is not copied.
    fn take(&mut self, count: usize) -> Result<Bytes, Malformed> {
        if count > self.0.len() {
            return Err(Malformed);
        }
        Ok(self.0.split_to(count))
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return Err(Malformed);
            }
            number |= bits << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    fn small<T: TryFrom<u64>>(&mut self) -> Result<T, Malformed> {
        T::try_from(self.number()?).map_err(|_| Malformed)
    }

    fn flag(&mut self) -> Result<bool, Malformed> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let length = self.small()?;
        self.take(length)
    }

    fn text(&mut self) -> Result<String, Malformed> {
        String::from_utf8(self.bytes()?.into()).map_err(|_| Malformed)
    }

    fn duration(&mut self) -> Result<Duration, Malformed> {
        let (seconds, nanoseconds) = (self.number()?, self.small()?);
        if nanoseconds < 1_000_000_000 { Ok(Duration::new(seconds, nanoseconds)) } else { Err(Malformed) }
    }

    fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Malformed>) -> Result<Option<T>, Malformed> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    /// Nothing is set aside for a number that is only announced.
    fn list<T>(&mut self, read: impl Fn(&mut Self) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
        let count = self.number()?;
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(read(self)?);
        }
        Ok(values)
    }

    fn user(&mut self) -> Result<Option<(String, Secret)>, Malformed> {
        self.option(|from| Ok((from.text()?, Secret::new(from.text()?))))
    }

    fn url(&mut self) -> Result<Url, Malformed> {
        let url = Url::parse(&self.text()?).map_err(|_| Malformed)?;
        Ok(url.with_user(self.user()?))
    }

    fn request(&mut self) -> Result<Request, Malformed> {
        Ok(Request {
            method: Method::from_bytes(&self.bytes()?).map_err(|_| Malformed)?,
            url: self.url()?,
            headers: self.headers()?,
            is_cross_origin: self.flag()?,
            options: self.option(Self::request_options)?.map(Box::new),
            body: self.bytes()?.into(),
        })
    }

    fn request_options(&mut self) -> Result<RequestOptions, Malformed> {
        Ok(RequestOptions {
            follow_redirects: self.option(Self::flag)?,
            cookies: self.list(|from| {
                let cookie = RequestCookie::new(&from.text()?, &from.text()?).map_err(|_| Malformed)?;
                Ok(if from.flag()? { cookie.to_begin_with() } else { cookie })
            })?,
            ..RequestOptions::default()
        })
    }

    fn headers(&mut self) -> Result<HeaderMap, Malformed> {
        let mut headers = HeaderMap::new();
        for _ in 0..self.number()? {
            let name = HeaderName::from_bytes(&self.bytes()?).map_err(|_| Malformed)?;
            let mut value = HeaderValue::from_maybe_shared(self.bytes()?).map_err(|_| Malformed)?;
            value.set_sensitive(self.flag()?);
            headers.try_append(name, value).map_err(|_| Malformed)?;
        }
        Ok(headers)
    }

    fn proxy(&mut self) -> Result<Proxy, Malformed> {
        let kind = match self.number()? {
            0 => ProxyKind::Http,
            1 => ProxyKind::Https,
            2 => ProxyKind::Socks { remote_names: false },
            3 => ProxyKind::Socks { remote_names: true },
            _ => return Err(Malformed),
        };
        Ok(Proxy { kind, host: self.text()?.into(), port: self.small()?, user: self.user()? })
    }

    fn exception(&mut self) -> Result<Exception, Malformed> {
        Ok(match self.number()? {
            0 => Exception::All,
            1 => Exception::Network(self.text()?.parse().map_err(|_| Malformed)?),
            2 => Exception::Name(self.text()?, self.option(MessageReader::small)?),
            _ => return Err(Malformed),
        })
    }
}

/// Changes with whatever is written.
const FORMAT: u8 = 4;

const VERSIONS: [Version; 5] = [Version::HTTP_11, Version::HTTP_2, Version::HTTP_10, Version::HTTP_09, Version::HTTP_3];

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, option, prelude::*};

    use super::*;
    use crate::CookieJar;

    fn header_maps() -> impl Strategy<Value = HeaderMap> {
        let values = vec(prop_oneof![Just(b'\t'), 32u8..=126, 128u8..=255], 0..12);
        vec(("[a-z][a-z0-9-]{0,8}", values, any::<bool>()), 0..6).prop_map(|headers| {
            let named = headers.into_iter().map(|(name, value, sensitive)| {
                let mut value = HeaderValue::from_bytes(&value).unwrap();
                value.set_sensitive(sensitive);
                (HeaderName::try_from(name).unwrap(), value)
            });
            let mut map = HeaderMap::new();
            named.for_each(|(name, value)| _ = map.append(name, value));
            map
        })
    }

    fn urls() -> impl Strategy<Value = Url> {
        let hosts =
            prop_oneof!["[a-z][a-z0-9-]{0,8}(\\.[a-z]{2,5})?", Just("[::1]".to_owned()), Just("10.1.2.3".into())];
        let users = option::of((".{0,6}", ".{0,6}"));
        (any::<bool>(), hosts, option::of(1u16..), "(/[ -~]{0,12}){0,2}", users).prop_filter_map(
            "not an address",
            |(https, host, port, path, user)| {
                let scheme = if https { "https" } else { "http" };
                let port = port.map_or(String::new(), |port| format!(":{port}"));
                let url = Url::parse(&format!("{scheme}://{host}{port}{path}")).ok()?;
                Some(url.with_user(user.map(|(name, password)| (name, Secret::new(password)))))
            },
        )
    }

    fn requests() -> impl Strategy<Value = Request> {
        let methods = prop_oneof![Just("GET".to_owned()), "[A-Z]{1,8}"];
        let cookies = vec(("[a-z]{1,4}", "[a-z ]{0,4}", any::<bool>()), 0..3).prop_map(|cookies| {
            let cookie = |(name, value, yields): (String, String, bool)| {
                let cookie = RequestCookie::new(&name, &value).unwrap();
                if yields { cookie.to_begin_with() } else { cookie }
            };
            cookies.into_iter().map(cookie).collect()
        });
        let options = (proptest::option::of(any::<bool>()), cookies).prop_map(|(follow_redirects, cookies)| {
            Box::new(RequestOptions { follow_redirects, cookies, ..RequestOptions::default() })
        });
        let options = proptest::option::of(options);
        (methods, urls(), header_maps(), vec(any::<u8>(), 0..50), any::<bool>(), options).prop_map(
            |(method, url, headers, body, is_cross_origin, options)| Request {
                method: method.parse().unwrap(),
                url,
                headers,
                body: body.into(),
                options,
                is_cross_origin,
            },
        )
    }

    fn ends() -> impl Strategy<Value = RemoteEnd> {
        let answers =
            (100u16..1000, 0usize..5, header_maps(), urls(), vec(any::<u8>(), 0..50), any::<u64>(), any::<u8>())
                .prop_map(|(status, version, headers, url, body, wire_bytes, redirects)| {
                    Ok(Response {
                        status: StatusCode::from_u16(status).unwrap(),
                        version: VERSIONS[version],
                        headers,
                        url,
                        body: body.into(),
                        wire_bytes,
                        redirects,
                    })
                });
        let kinds = (0..ErrorKind::ALL.len()).prop_map(|at| ErrorKind::ALL[at]);
        let errors = (kinds, vec(".{0,12}", 1..4), any::<[bool; 3]>()).prop_map(|(kind, levels, flags)| {
            let error = Error::of_levels(kind, levels).unwrap();
            Err(error.retryable(flags[0]).unprocessed(flags[1]).stale(flags[2]))
        });
        let hops = option::of((requests(), any::<u8>()).prop_map(|(request, redirects)| Hop { request, redirects }));
        (0usize..3, hops, 0usize..4, prop_oneof![answers, errors]).prop_map(|(effect, hop, peer, outcome)| RemoteEnd {
            effect: Effect::ALL[effect],
            hop,
            peer: Peer::ALL[peer],
            outcome,
        })
    }

    struct Set(ClientOptions);

    impl std::fmt::Debug for Set {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            write!(f, "{:?}", encode_options(&self.0))
        }
    }

    fn option_sets() -> impl Strategy<Value = Set> {
        let proxies = option::of((
            "(http|https|socks5|socks5h)://([a-z]{1,4}:[a-z]{1,4}@)?[a-z]{1,6}(:[1-9][0-9]{0,3})?",
            ".{0,20}",
        ));
        let statuses = vec((100u16..600, 100u16..600), 0..3);
        let numbers = (any::<[u64; 4]>(), any::<[bool; 2]>(), 0u8..3, 0u8..3, any::<u8>());
        (proxies, header_maps(), statuses, numbers, vec(any::<std::net::IpAddr>(), 0..3)).prop_map(
            |(proxy, headers, statuses, (numbers, flags, version, family, redirects), addresses)| {
                Set(ClientOptions {
                    connect_timeout: Duration::from_nanos(numbers[0]),
                    idle_timeout: Duration::from_nanos(numbers[1]),
                    max_body: numbers[2],
                    min_throughput: flags[0].then_some(numbers[3]),
                    version: [HttpVersion::Auto, HttpVersion::Http1, HttpVersion::Http2][usize::from(version)],
                    family: [Family::Any, Family::V4, Family::V6][usize::from(family)],
                    tls: Tls { roots: vec![vec![redirects]], identity: None, insecure: flags[1] },
                    proxies: proxy.map_or_else(Proxies::default, |(proxy, except)| {
                        Proxies::all(Proxy::parse(&proxy).unwrap(), NoProxy::parse(&format!("10.0.0.0/8,{except},*")))
                    }),
                    hosts: vec![HostAddress { host: "a".into(), port: flags[0].then_some(1), addresses }],
                    max_redirects: redirects,
                    expect: StatusSet::from_ranges(statuses),
                    headers,
                    decompress: flags[1],
                    ..ClientOptions::default()
                })
            },
        )
    }

    fn same_headers(one: &HeaderMap, other: &HeaderMap) -> bool {
        let flags = |map: &HeaderMap| map.values().map(HeaderValue::is_sensitive).collect::<Vec<_>>();
        one == other && flags(one) == flags(other)
    }

    proptest! {
        #[test]
        fn a_request_that_was_written_reads_back(request in requests(), redirects in any::<u8>()) {
            let (back, followed) = decode_request(encode_request(&request, redirects).into()).unwrap();
            prop_assert_eq!(followed, redirects);
            prop_assert_eq!(&back.method, &request.method);
            prop_assert!(back.url == request.url && same_headers(&back.headers, &request.headers));
            prop_assert_eq!((back.body.as_bytes(), back.is_cross_origin), (request.body.as_bytes(), request.is_cross_origin));
            prop_assert_eq!(&back.options, &request.options);
        }

        #[test]
        fn an_end_that_was_written_reads_back(end in ends()) {
            let back = decode_end(encode_end(&end).into()).unwrap();
            prop_assert_eq!(back.effect, end.effect);
            let hop = |hop: Option<Hop>| hop.map(|hop| (hop.request.url, hop.request.body.as_bytes().cloned(), hop.redirects));
            prop_assert_eq!(hop(back.hop), hop(end.hop));
            prop_assert_eq!(back.peer, end.peer);
            match (back.outcome, end.outcome) {
                (Ok(back), Ok(end)) => {
                    prop_assert!(back.url == end.url && same_headers(&back.headers, &end.headers));
                    prop_assert_eq!((back.status, back.version, back.body), (end.status, end.version, end.body));
                    prop_assert_eq!((back.wire_bytes, back.redirects), (end.wire_bytes, end.redirects));
                }
                (Err(back), Err(end)) => {
                    prop_assert_eq!((back.kind(), back.to_string(), back.chain()), (end.kind(), end.to_string(), end.chain()));
                    prop_assert_eq!(
                        (back.is_retryable(), back.is_unprocessed(), back.is_stale()),
                        (end.is_retryable(), end.is_unprocessed(), end.is_stale())
                    );
                }
                _ => prop_assert!(false, "an answer is not an error"),
            }
        }

        #[test]
        fn options_that_were_written_read_back(set in option_sets()) {
            let options = set.0;
            let bytes = encode_options(&options).unwrap();
            let back = decode_options(bytes.clone().into()).unwrap();
            prop_assert_eq!(encode_options(&back).unwrap(), bytes);
            prop_assert_eq!((back.max_body, back.hosts, back.expect), (options.max_body, options.hosts, options.expect));
            prop_assert_eq!(back.proxies.exceptions, options.proxies.exceptions);
        }

        #[test]
        fn bytes_that_are_none_of_ours_are_an_error(noise in vec(any::<u8>(), 0..60), request in requests(), end in ends(), at in any::<prop::sample::Index>()) {
            for bytes in [noise, encode_request(&request, 0), encode_end(&end)] {
                let cut = if bytes.is_empty() { 0 } else { at.index(bytes.len()) };
                prop_assert!(decode_request(Bytes::copy_from_slice(&bytes[..cut])).is_err());
                prop_assert!(decode_end(Bytes::copy_from_slice(&bytes[..cut])).is_err());
                prop_assert!(decode_options(Bytes::copy_from_slice(&bytes[..cut])).is_err());
                let mut flipped = bytes;
                if let Some(byte) = flipped.get_mut(cut) {
                    *byte ^= 1 << (cut % 8);
                }
                crate::fuzzing::wire(&flipped);
            }
        }
    }

    #[test]
    fn an_error_of_any_number_of_causes_is_refused_and_takes_no_stack() {
        let with_causes = |count: u64| {
            let mut out = MessageWriter::new();
            out.number(0);
            out.option(None::<()>, |_, ()| ());
            out.number(0);
            out.flag(false);
            out.text(ErrorKind::Closed.as_str());
            out.number(count);
            (0..count).for_each(|_| out.text(""));
            (0..3).for_each(|_| out.flag(false));
            decode_end(out.0.into())
        };
        assert_eq!(with_causes(32).unwrap().outcome.unwrap_err().levels().len(), 32);
        for count in [0, 33, 1_000_000] {
            assert!(with_causes(count).unwrap_err().to_string().contains("same version of unisono"));
        }
    }

    #[test]
    fn another_version_is_refused() {
        let mut bytes = encode_request(&Request::get("http://host/").unwrap(), 0);
        bytes[0] += 1;
        assert!(decode_request(bytes.into()).unwrap_err().to_string().contains("same version of unisono"));
    }

    #[test]
    fn what_holds_for_one_machine_alone_is_not_written() {
        let refused = |options: ClientOptions| encode_options(&options).unwrap_err().to_string();
        let socket = ClientOptions { unix_socket: Some("/run/socket".into()), ..ClientOptions::default() };
        assert_eq!(refused(socket), "a Unix socket is on one machine alone");
        assert_eq!(
            refused(ClientOptions { cookies: Some(CookieJar::default()), ..ClientOptions::default() }),
            "each machine would keep cookies of its own"
        );
    }
}
