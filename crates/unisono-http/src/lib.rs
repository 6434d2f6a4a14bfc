//! HTTP for many calls at once: one attempt done well, and what its end means.
//!
//! [`Client`] sends one request, once: connection, redirects, one refresh of a token, one replay of a connection that
//! turned out to be closed, decoding, caps. [`AttemptClassifier`] makes it a job of the batch engine: it tells which
//! ends are worth another attempt, which pause a host, and which must not be repeated. Nothing here retries on its own.
//! The exchange itself may take place on another machine: [`Remote`] is this side of it, [`RemoteWorker`] the other.

mod auth;
mod body;
mod classifier;
mod client;
mod connection_limit;
mod cookies;
mod decode;
mod dialer;
mod error;
mod fault;
mod feed;
mod fields;
mod framing;
#[doc(hidden)]
pub mod fuzzing;
mod http1;
mod http2;
mod keep_alive;
mod news;
mod options;
mod pool;
mod proxy;
mod ranges;
mod redirect;
mod remote;
mod request;
mod resend;
mod response;
mod status;
mod throttle;
mod trail;
mod upload;
mod url;
mod verdict;
mod wire;

pub use auth::{TokenSource, basic_authorization, bearer_authorization};
pub use body::{Body, FORM, Part, encode_form};
pub use classifier::{AttemptClassifier, AttemptResult, Judged};
pub use client::Client;
pub use cookies::{CookieJar, KeptCookie, RequestCookie};
#[doc(hidden)]
pub use decode::decode_body;
pub use error::Error;
pub use feed::BodyFeed;
pub use fields::{request_header, shown_header};
pub use options::{ClientOptions, HttpVersion, OnlyHere, SLOW_WINDOW};
pub use proxy::{NoProxy, Proxies};
pub use ranges::{BodyVersion, RestOfBody, may_go_on};
pub use remote::{Remote, RemoteChannel, RemoteCommand, RemoteQueue, RemoteResult, RemoteWorker, remote_queue};
pub use request::{IDEMPOTENCY_KEY, Request, RequestOptions};
pub use response::{Response, Streaming};
pub use status::{BadStatus, StatusSet};
pub use trail::Trail;
pub use unisono_net::{ClientCertificate, Family, HostAddress, LookupError, Proxy, Resolve, Tls, Trust};
pub use url::{Origin, Url};
pub use wire::{decode_options, encode_options};
