//! Outcomes on their way to another process: what `pickle` takes of each, and what becomes of it there.
//!
//! Each kind has a state, a dict of plain values, and a function of the module that makes the object again. Errors are
//! made from the outcome as ever, so that nothing is kept twice.
//!
//! Left out: what only the run that made an outcome heeds, such as its fingerprint, and user names and passwords in
//! addresses.

use std::{
    ffi::OsString,
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
use pyo3::{exceptions::PyValueError, prelude::*};
use unisono_core::ErrorKind;
use unisono_http::{AttemptResult, Error as HttpError, Response as HttpResponse, Url};
use unisono_runner::{
    CommandResult as Done, DigestResult, Fetched, LineNumber, Returned, RowOutcome as Ended,
    commands::Output,
    file_tools::{Special, Stat},
    hash::Digest as HashDigest,
};

use crate::ffi::ProgramObject;

/// What `__reduce__` returns: a function of the module, and what it is called with.
pub(super) type Reduced<'py, State> = (Bound<'py, PyAny>, (Ending, State));

/// The same for outcomes, which have what their caller gave for them.
pub(super) type ReducedOutcome<'py, State> = (Bound<'py, PyAny>, (Ending, State, Option<Py<PyAny>>));

/// The function of the module that makes an object again.
pub(super) fn maker<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("unisono._native")?.getattr(name)
}

/// What outcomes of all kinds have.
#[derive(FromPyObject, IntoPyObject)]
#[pyo3(from_item_all)]
pub struct Ending {
    kind: String,
    effect: String,
    row: u64,
    page: u32,
    line: u64,
    id: String,
    attempts: u16,
    elapsed_ns: u64,
}

impl Ending {
    pub(super) fn of<D>(ended: &Ended<D>) -> Self {
        Self {
            kind: ended.kind.to_string(),
            effect: ended.effect.to_string(),
            row: ended.key.row,
            page: ended.key.page,
            line: ended.line.get(),
            id: ended.id.to_string(),
            attempts: ended.attempts,
            elapsed_ns: nanoseconds(ended.elapsed),
        }
    }

    pub(super) fn ended<D>(self, done: D) -> PyResult<Ended<D>> {
        let (kind, effect) = (self.kind.parse().map_err(wrong)?, self.effect.parse().map_err(wrong)?);
        let elapsed = Duration::from_nanos(self.elapsed_ns);
        let mut ended = Ended::of_call(self.row, kind, effect, done, self.attempts, elapsed);
        ended.key.page = self.page;
        ended.line = LineNumber::new(self.line);
        ended.id = self.id.into();
        Ok(ended)
    }
}

/// What is an outcome of requests alone.
#[derive(FromPyObject, IntoPyObject)]
#[pyo3(from_item_all)]
pub struct FetchedState {
    /// Method and address.
    asked: Option<(String, String)>,
    response: Option<ResponseState>,
    error: Option<(String, String)>,
    retry_at_ns: Option<u64>,
    selected: Option<Vec<u8>>,
    saved: Option<(PathBuf, u64)>,
    is_expected: Option<bool>,
}

#[derive(FromPyObject, IntoPyObject)]
#[pyo3(from_item_all)]
pub struct ResponseState {
    status: u16,
    version: String,
    headers: Vec<(String, Vec<u8>)>,
    url: String,
    body: Vec<u8>,
    wire_bytes: u64,
    redirects: u8,
}

impl FetchedState {
    pub(super) fn of(done: &Fetched) -> Self {
        let response = done.reply.response.as_ref().map(|response| ResponseState {
            status: response.status.as_u16(),
            version: format!("{:?}", response.version),
            headers: response
                .headers
                .iter()
                .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
                .collect(),
            url: response.url.to_string(),
            body: response.body.to_vec(),
            wire_bytes: response.wire_bytes,
            redirects: response.redirects,
        });
        Self {
            asked: done.asked.as_ref().map(|(method, url)| (method.to_string(), url.to_string())),
            response,
            error: done.reply.error.as_ref().map(|error| (error.kind().to_string(), error.chain())),
            retry_at_ns: done.reply.retry_at.and_then(since_epoch),
            selected: done.selected.as_ref().map(|json| json.to_vec()),
            saved: done.saved.clone(),
            is_expected: done.is_expected,
        }
    }

    pub(super) fn done(self) -> PyResult<Fetched> {
        let asked = match self.asked {
            None => None,
            Some((method, url)) => {
                Some((Method::from_bytes(method.as_bytes()).map_err(wrong)?, Url::parse(&url).map_err(wrong)?))
            }
        };
        let error = self.error.map(|(kind, message)| PyResult::Ok(HttpError::new(error_kind(&kind)?, message)));
        let reply = AttemptResult {
            response: self.response.map(ResponseState::response).transpose()?,
            error: error.transpose()?,
            retry_at: self.retry_at_ns.map(at),
            ..AttemptResult::default()
        };
        let mut done = Fetched::default();
        (done.asked, done.reply) = (asked, reply);
        done.selected = self.selected.map(Into::into);
        done.saved = self.saved;
        done.is_expected = self.is_expected;
        Ok(done)
    }
}

impl ResponseState {
    fn response(self) -> PyResult<HttpResponse> {
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers {
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(wrong)?;
            headers.append(name, HeaderValue::from_bytes(&value).map_err(wrong)?);
        }
        let version = [Version::HTTP_10, Version::HTTP_11, Version::HTTP_2]
            .into_iter()
            .find(|version| format!("{version:?}") == self.version)
            .ok_or_else(|| wrong(format!("`{}` is no version of HTTP", self.version)))?;
        Ok(HttpResponse {
            status: StatusCode::from_u16(self.status).map_err(wrong)?,
            version,
            headers,
            url: Url::parse(&self.url).map_err(wrong)?,
            body: self.body.into(),
            wire_bytes: self.wire_bytes,
            redirects: self.redirects,
        })
    }
}

/// What is an outcome of files alone.
#[derive(FromPyObject, IntoPyObject)]
#[pyo3(from_item_all)]
pub struct FileState {
    path: Option<PathBuf>,
    /// Algorithm, and digest in hexadecimal.
    digests: Vec<(String, String)>,
    /// Size, mtime, ctime and inode.
    stat: Option<(u64, i64, i64, u64)>,
    special: Option<String>,
    error: Option<(String, String)>,
    shares_line: bool,
}

impl FileState {
    pub(super) fn of(done: &DigestResult) -> Self {
        let digest = |digest: &HashDigest| (digest.algorithm().as_str().to_owned(), digest.to_string());
        let error = done.error.as_deref();
        Self {
            path: done.path.as_deref().map(Into::into),
            digests: done.digests.iter().map(digest).collect(),
            stat: done.stat.map(|stat| (stat.size, stat.mtime_ns, stat.ctime_ns, stat.inode)),
            special: done.special.map(|special| special.as_str().to_owned()),
            error: error.map(|(kind, message)| (kind.to_string(), message.clone())),
            shares_line: done.shares_line,
        }
    }

    pub(super) fn done(self) -> PyResult<DigestResult> {
        let digest = |(algorithm, digits): (String, String)| {
            HashDigest::from_hex(algorithm.parse().map_err(wrong)?, &digits).map_err(wrong)
        };
        let mut done = DigestResult::default();
        done.path = self.path.map(Into::into);
        done.digests = self.digests.into_iter().map(digest).collect::<PyResult<_>>()?;
        done.stat = self.stat.map(|(size, mtime_ns, ctime_ns, inode)| Stat { size, mtime_ns, ctime_ns, inode });
        done.special = self.special.map(|word| Special::named(&word).ok_or_else(|| wrong(word))).transpose()?;
        done.error = error(self.error)?.map(Box::new);
        done.shares_line = self.shares_line;
        Ok(done)
    }
}

/// What is an outcome of commands alone.
#[derive(FromPyObject, IntoPyObject)]
#[pyo3(from_item_all)]
pub struct CommandState {
    pub(super) as_text: bool,
    argv: Vec<OsString>,
    exit: Option<i32>,
    signal: Option<i32>,
    started_ns: Option<u64>,
    cpu_micros: u64,
    peak_memory: u64,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    saved: Option<PathBuf>,
    saved_stderr: Option<PathBuf>,
    left_over: u32,
    error: Option<(String, String)>,
}

impl CommandState {
    /// `stdout` and `stderr` are what it printed, which lies in files where it is long.
    pub(super) fn of(done: &Done, as_text: bool, stdout: Vec<u8>, stderr: Vec<u8>) -> Self {
        Self {
            as_text,
            argv: done.argv.clone(),
            exit: done.exit,
            signal: done.signal,
            started_ns: done.started.and_then(since_epoch),
            cpu_micros: done.cpu_micros,
            peak_memory: done.peak_memory,
            stdout,
            stderr,
            saved: done.saved.clone(),
            saved_stderr: done.saved_stderr.clone(),
            left_over: done.left_over,
            error: done.error.as_ref().map(|(kind, message)| (kind.to_string(), message.clone())),
        }
    }

    pub(super) fn done(self) -> PyResult<Done> {
        let output = |bytes: &[u8]| Output::of_bytes(bytes, &std::env::temp_dir());
        Ok(Done {
            argv: self.argv,
            exit: self.exit,
            signal: self.signal,
            started: self.started_ns.map(at),
            cpu_micros: self.cpu_micros,
            peak_memory: self.peak_memory,
            stdout: output(&self.stdout)?,
            stderr: output(&self.stderr)?,
            saved: self.saved,
            saved_stderr: self.saved_stderr,
            left_over: self.left_over,
            error: error(self.error)?,
            ..Done::default()
        })
    }
}

/// What is an outcome of functions alone.
#[derive(FromPyObject, IntoPyObject)]
#[pyo3(from_item_all)]
pub struct FunctionState {
    value: Option<Py<PyAny>>,
    /// What was raised, and what each was caused by: exceptions leave that behind when they are pickled.
    raised: Vec<Py<PyAny>>,
    error: Option<(String, String)>,
    label: Option<String>,
}

impl FunctionState {
    pub(super) fn of(py: Python<'_>, done: &Returned<ProgramObject>) -> PyResult<Self> {
        let value = done.value.as_ref().map(|value| value.clone_ref(py));
        let (value, raised) = match (value, &done.error) {
            (Some(raised), Some(_)) => (None, chain(py)?.call_method1("with_causes", (raised,))?.extract()?),
            (value, _) => (value, Vec::new()),
        };
        let error = done.error.as_ref().map(|(kind, message)| (kind.to_string(), message.clone()));
        Ok(Self { value, raised, error, label: done.label.as_deref().map(str::to_owned) })
    }

    pub(super) fn done(self, py: Python<'_>) -> PyResult<Returned<ProgramObject>> {
        let mut done = Returned::default();
        let value = match self.raised.is_empty() {
            true => self.value,
            false => Some(chain(py)?.call_method1("linked", (self.raised,))?.unbind()),
        };
        done.value = value.map(ProgramObject::new);
        done.error = error(self.error)?;
        done.label = self.label.map(Into::into);
        Ok(done)
    }
}

fn chain(py: Python<'_>) -> PyResult<Bound<'_, PyModule>> {
    py.import("unisono.errors")
}

fn error(error: Option<(String, String)>) -> PyResult<Option<(ErrorKind, String)>> {
    error.map(|(kind, message)| Ok((error_kind(&kind)?, message))).transpose()
}

fn error_kind(word: &str) -> PyResult<ErrorKind> {
    ErrorKind::named(word).ok_or_else(|| wrong(format!("`{word}` is no kind of error")))
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn since_epoch(time: SystemTime) -> Option<u64> {
    time.duration_since(UNIX_EPOCH).ok().map(nanoseconds)
}

fn at(nanoseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(nanoseconds)
}

/// What was pickled is no outcome of this version.
pub(super) fn wrong(why: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(format!("this cannot be unpickled: {why} (it was pickled by another version of unisono?)"))
}
