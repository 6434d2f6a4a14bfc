//! HTTP as a kind of work: what a row asks for, and what came back.

use std::{borrow::Cow, os::unix::ffi::OsStrExt, path::PathBuf, time::SystemTime};

use bytes::Bytes;
use http::{HeaderValue, Method};
use unisono_core::{ErrorKind, Overrides, Peer};
use unisono_http::{AttemptResult, Error, IDEMPOTENCY_KEY, Request, Trail, Url, shown_header};
use unisono_journal::{Members, Repeat};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed, xxh3_128_with_seed};

use super::paginate::Visited;
use crate::{
    body::{self, BodyMode},
    twins::Name,
    work::{Call, Done},
};

/// What a row asks for.
#[derive(Debug)]
pub struct FetchCall {
    /// What to send.
    pub request: Request,
    /// Where it has got to.
    pub trail: Trail,
    /// Where the body of a success goes, if it is to be a file.
    pub save: Option<PathBuf>,
    /// What the keys of its pages are made of, where it has keys.
    pub(crate) keys: Option<PageKeys>,
    /// Its pages so far.
    pub(crate) visited: Visited,
}

/// The idempotency keys of a row's pages: the same in each attempt and run, and another for each page, since a server
/// that knows a key repeats what it answered to it.
#[derive(Debug, Clone)]
pub(crate) enum PageKeys {
    /// Made up for the row.
    Made { base: u64, twin: u32 },
    /// Made of the row's own key.
    Own(HeaderValue),
}

impl PageKeys {
    /// Those of a request that brings a key of its own, and is not idempotent without it.
    pub(crate) fn own(request: &Request) -> Option<Self> {
        request.headers.get(IDEMPOTENCY_KEY).filter(|_| !request.method.is_idempotent()).cloned().map(Self::Own)
    }

    /// Those of this row, in a run with this seed and those that resume it. They are made of what it asks for and not
    /// of its place, which may be another in the next run: nothing says where a row stood that was on its way when a
    /// run was killed.
    pub(crate) fn new(seed: u64, fingerprint: u64, name: Name<'_>) -> Self {
        let seed = xxh3_64_with_seed(&fingerprint.to_le_bytes(), seed);
        match name {
            // Another beginning, since an id may be spelt as a number is stored.
            Name::Id(id) => Self::Made { base: xxh3_64_with_seed(id.as_bytes(), !seed), twin: 0 },
            Name::Twin(twin) => Self::Made { base: xxh3_64_with_seed(&u64::from(twin).to_le_bytes(), seed), twin },
        }
    }

    /// Returns the hash of the key.
    pub(crate) fn set(&self, request: &mut Request, page: u32) -> u64 {
        let value = self.value(page);
        let hash = xxh3_64(value.as_bytes());
        request.headers.insert(IDEMPOTENCY_KEY, value);
        hash
    }

    /// The key of a page. The first has that of a row without pages: a later run may follow pages where this one does
    /// not.
    fn value(&self, page: u32) -> HeaderValue {
        let value = match self {
            Self::Made { base, .. } => {
                let page = if page == 1 { 0 } else { page };
                HeaderValue::try_from(format!("{:032x}", xxh3_128_with_seed(&page.to_le_bytes(), *base)))
            }
            Self::Own(key) if page <= 1 => return key.clone(),
            Self::Own(key) => {
                // Within the quotes of a key that has some, as the draft asks for.
                let (key, end) = match key.as_bytes().strip_suffix(b"\"") {
                    Some(inner) if inner.starts_with(b"\"") => (inner, "\""),
                    _ => (key.as_bytes(), ""),
                };
                HeaderValue::from_bytes(&[key, format!("-page-{page}{end}").as_bytes()].concat())
            }
        };
        value.expect("digits and hyphens can be sent, and so could the key")
    }

    fn twin(&self) -> u32 {
        match self {
            Self::Made { twin, .. } => *twin,
            Self::Own(_) => 0,
        }
    }
}

/// What was asked, and what came back.
#[derive(Debug, Default)]
pub struct Fetched {
    /// What was asked for; `None` when the row could not be understood.
    pub asked: Option<(Method, Url)>,
    /// The answer, the error, or both.
    pub reply: AttemptResult,
    /// What was selected of the answer, as JSON.
    pub selected: Option<Bytes>,
    /// Where the body was saved to, and how long it is.
    pub saved: Option<(PathBuf, u64)>,
    /// The next page: `None` where there are no pages, or that is not known; `Some(None)` after the last.
    pub next: Option<Option<Url>>,
    /// Whether the status is one that its caller had said to be a success, where one had.
    pub is_expected: Option<bool>,
    /// The next page is under way.
    pub(crate) goes_on: bool,
}

/// How answers are written.
#[derive(Debug, Clone, Copy, Default)]
pub struct FetchStyle {
    /// How bodies are written.
    pub body: BodyMode,
    /// Whether the headers of answers are written.
    pub headers: bool,
}

impl Call for FetchCall {
    type Done = Fetched;

    fn fingerprint(&self) -> u64 {
        self.request.fingerprint()
    }

    fn limit_key(&self) -> Cow<'_, str> {
        self.request.url.authority().into()
    }

    fn overrides(&self) -> Overrides {
        self.request.overrides()
    }

    fn repeat(&self) -> Repeat {
        match (self.request.method.is_idempotent(), self.request.headers.get(IDEMPOTENCY_KEY)) {
            (true, _) => Repeat::ByNature,
            (false, Some(key)) => {
                let twin = self.keys.as_ref().map_or(0, PageKeys::twin);
                Repeat::by_key_of_twin(&String::from_utf8_lossy(key.as_bytes()), twin)
            }
            (false, None) => Repeat::Never,
        }
    }

    const HAS_PAGES: bool = true;

    fn repeat_of_page(&self, page: u32) -> Repeat {
        match self.keys.as_ref().filter(|_| !self.request.method.is_idempotent()) {
            Some(keys) => Repeat::by_key_of_twin(&String::from_utf8_lossy(keys.value(page).as_bytes()), keys.twin()),
            None => self.repeat(),
        }
    }

    fn is_safe(&self) -> bool {
        self.request.method.is_safe()
    }

    fn idempotency_key(&self) -> Option<&str> {
        // With any other there is none that a later run could send again.
        let key = self.request.headers.get(IDEMPOTENCY_KEY).filter(|_| !self.request.method.is_idempotent())?;
        std::str::from_utf8(key.as_bytes()).ok()
    }

    fn keep_key(&mut self, earlier: &str) {
        if let Some(PageKeys::Made { .. }) = self.keys
            && let Ok(value) = HeaderValue::try_from(earlier)
        {
            self.request.headers.insert(IDEMPOTENCY_KEY, value);
        }
    }

    const REPEATABLE_WITH: &'static str = "the same Idempotency-Key (--idempotency-key as before, or the rows' own)";

    fn save_names(&self, _sequence: u64) -> Result<Vec<PathBuf>, String> {
        Ok(self.save.iter().cloned().collect())
    }

    fn describe(&self, done: &mut Fetched) {
        done.asked = Some((self.request.method.clone(), self.request.url.clone()));
    }

    fn continue_at(&mut self, next: &str, page: u32) -> Result<(), String> {
        // As it came with the page before, when it was resolved against that page's address.
        let moved = self.request.url.join(next).and_then(|url| self.request.moved_to(url));
        self.request = moved.map_err(|error| error.chain())?;
        if let Some(keys) = &self.keys {
            keys.set(&mut self.request, page);
        }
        Ok(())
    }
}

impl Fetched {
    /// What came back for a call outside of any run.
    pub fn new(asked: (Method, Url), reply: AttemptResult) -> Self {
        Self { asked: Some(asked), reply, ..Self::default() }
    }

    pub(crate) fn error(error: Error) -> Self {
        Self { reply: AttemptResult::failed(error), ..Self::default() }
    }
}

impl Done for Fetched {
    type Style = FetchStyle;

    fn failed(kind: ErrorKind, message: String) -> Self {
        Self::error(Error::new(kind, message).retryable(false))
    }

    fn error(&self) -> Option<(ErrorKind, String)> {
        self.reply.error.as_ref().map(|error| (error.kind(), error.chain()))
    }

    fn group(&self) -> Option<Cow<'_, str>> {
        self.asked.as_ref().map(|(_, url)| url.authority().into())
    }

    fn bytes(&self) -> u64 {
        self.reply.response.as_ref().map_or(0, |response| response.wire_bytes)
    }

    fn next(&self) -> Option<Option<String>> {
        self.next.as_ref().map(|next| next.as_ref().map(ToString::to_string))
    }

    fn goes_on(&self) -> bool {
        self.goes_on
    }

    fn peer(&self) -> Peer {
        self.reply.peer
    }

    fn has_saved(&mut self, _place: usize, name: PathBuf, length: u64) {
        self.saved.get_or_insert((name, length));
    }

    fn push_error(&self, error: &mut Members<'_>) {
        if let Some(at) = self.reply.retry_at.and_then(|at| at.duration_since(SystemTime::UNIX_EPOCH).ok()) {
            error.number("retry_at", at.as_secs());
        }
    }

    fn push_subject(&self, fields: &mut Members<'_>) {
        match &self.asked {
            Some((method, url)) => {
                fields.display("url", url);
                fields.text("method", method.as_str());
            }
            None => fields.null("url"),
        }
        if let Some(response) = &self.reply.response {
            fields.number("status", response.status.as_u16());
        }
    }

    fn push_result(&self, style: FetchStyle, fields: &mut Members<'_>, body: &mut Members<'_>) {
        if let Some(response) = &self.reply.response {
            fields.number("bytes", response.wire_bytes);
            if response.redirects > 0 {
                fields.display("final_url", &response.url);
            }
            if style.headers {
                fields.object("headers", |headers| push_headers(&response.headers, headers));
            }
            body::push_body(self.selected.as_ref().unwrap_or(&response.body), style.body, fields, body);
        }
        if let Some((path, bytes)) = &self.saved {
            fields.bytes("saved", path.as_os_str().as_bytes());
            fields.number("saved_bytes", *bytes);
        }
    }
}

fn push_headers(headers: &http::HeaderMap, into: &mut Members<'_>) {
    for name in headers.keys() {
        // Several of one name are one list (RFC 9110, section 5.3); a cookie is a secret.
        if *name == http::header::SET_COOKIE {
            into.text(name.as_str(), "***");
            continue;
        }
        let values: Vec<_> = headers.get_all(name).iter().map(|value| shown_header(name, value.as_bytes())).collect();
        into.text(name.as_str(), &values.join(", "));
    }
}
