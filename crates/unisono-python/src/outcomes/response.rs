//! The answer to a request: what the engine holds, made into objects of Python only when they are asked for.

use std::sync::Arc;

use http::Version;
use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{PyBytes, PyDict, PyList},
};
use unisono_http::Response as HttpResponse;

use unisono_runner::Fetched;

use super::pickled::{Ending, FetchedState, Reduced, maker, wrong};
use crate::errors;

/// How a request ended, as the engine holds it: an outcome and its response share it.
pub(super) type EndedFetch = unisono_runner::RowOutcome<Fetched>;

/// An answer.
#[pyclass(frozen, module = "unisono")]
pub struct Response {
    ended: Arc<EndedFetch>,
}

impl Response {
    /// The response of a request that got one.
    pub(super) fn of(ended: &Arc<EndedFetch>) -> Option<Self> {
        ended.done.reply.response.as_ref().map(|_| Self { ended: ended.clone() })
    }

    /// The response that it stands for.
    pub fn inner(&self) -> &HttpResponse {
        self.ended.done.reply.response.as_ref().expect("made only where there is a response")
    }
}

#[pymethods]
impl Response {
    /// Its status.
    #[getter]
    fn status_code(&self) -> u16 {
        self.inner().status.as_u16()
    }

    /// The phrase that belongs to the status.
    #[getter]
    fn reason_phrase(&self) -> &'static str {
        self.inner().status.canonical_reason().unwrap_or("")
    }

    /// Whether the status is 2xx.
    #[getter]
    fn is_success(&self) -> bool {
        self.inner().status.is_success()
    }

    /// Whether `raise_for_status` would return, and not raise: below 400, or what `expect=` named.
    #[getter]
    fn ok(&self) -> bool {
        let status = self.inner().status;
        self.ended.done.is_expected.unwrap_or(!status.is_client_error() && !status.is_server_error())
    }

    /// What other clients call what is there by another name: the error says what it is called here.
    fn __getattr__<'py>(slf: &Bound<'py, Self>, name: &str) -> PyResult<Bound<'py, PyAny>> {
        Err(errors::no_attribute(slf.as_any(), name))
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'py, FetchedState>> {
        Ok((maker(py, "restored_response")?, (Ending::of(&self.ended), FetchedState::of(&self.ended.done))))
    }

    /// `HTTP/1.1` or `HTTP/2`.
    #[getter]
    fn http_version(&self) -> &'static str {
        match self.inner().version {
            Version::HTTP_10 => "HTTP/1.0",
            Version::HTTP_2 => "HTTP/2",
            _ => "HTTP/1.1",
        }
    }

    /// Where it came from, after redirects.
    #[getter]
    fn url(&self) -> String {
        self.inner().url.to_string()
    }

    /// How many redirects were followed.
    #[getter]
    fn redirects(&self) -> u8 {
        self.inner().redirects
    }

    /// Its headers.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let pairs = self.inner().headers.iter().map(|(name, value)| (name.as_str(), latin1(value.as_bytes())));
        py.import("unisono._http.headers")?.getattr("Headers")?.call1((PyList::new(py, pairs.collect::<Vec<_>>())?,))
    }

    /// The body, decoded, as bytes.
    #[getter]
    fn content<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.inner().body)
    }

    /// The body as text, in the charset that the server names, else UTF-8; what is not text in it is replaced.
    #[getter]
    fn text<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let content = self.content(py);
        let named = content.call_method1("decode", (self.charset(), "replace"));
        // A charset that Python does not know.
        named.or_else(|_| content.call_method1("decode", ("utf-8", "replace")))
    }

    /// The body as JSON.
    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        loads(py, &self.inner().body)
    }

    /// Seconds from the first start of the request to its end, repeats and waits included.
    #[getter]
    fn elapsed(&self) -> f64 {
        self.ended.elapsed.as_secs_f64()
    }

    /// How often the request was tried.
    #[getter]
    fn attempts(&self) -> u16 {
        self.ended.attempts
    }

    /// Raises when the status is none of those that `expect=` named, or, without that, 400 or above; returns itself
    /// otherwise.
    fn raise_for_status<'py>(slf: Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        let py = slf.py();
        let (status, url) = (slf.get().inner().status, slf.get().url());
        if slf.get().ok() {
            return Ok(slf);
        }
        let fields = PyDict::new(py);
        fields.set_item("kind", "status")?;
        fields.set_item("outcome", "failed")?;
        fields.set_item("effect", slf.get().ended.effect.as_str())?;
        fields.set_item("url", &url)?;
        fields.set_item("response", &slf)?;
        fields.set_item("attempts", slf.get().ended.attempts)?;
        fields.set_item("retry_at", py.None())?;
        let reason = status.canonical_reason().unwrap_or("");
        let message = format!("HTTP {} {reason} for {url}", status.as_u16());
        let error = errors::class(py, "StatusError")?.call((message,), Some(&fields))?;
        Err(PyErr::from_value(error))
    }

    fn __repr__(&self) -> String {
        unisono_core::printable(&format!("<Response {} {}>", self.status_code(), self.url())).into_owned()
    }
}

/// A pickled response.
#[pyfunction]
pub fn restored_response(ending: Ending, state: FetchedState) -> PyResult<Response> {
    Response::of(&Arc::new(ending.ended(state.done()?)?)).ok_or_else(|| wrong("there is no response in it"))
}

impl Response {
    fn charset(&self) -> String {
        let value =
            self.inner().headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
        let charset = value
            .split(';')
            .filter_map(|part| part.trim().split_once('='))
            .find(|(name, _)| name.eq_ignore_ascii_case("charset"));
        charset.map_or("utf-8".to_owned(), |(_, charset)| charset.trim_matches('"').to_owned())
    }
}

/// RFC 9110, section 5.5: what is not ASCII in a header is opaque, and Latin-1 keeps it.
fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| char::from(*byte)).collect()
}

/// JSON as objects of Python.
///
/// # Errors
/// Those of `json.loads`.
pub fn loads<'py>(py: Python<'py>, json: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let loads = LOADS.get_or_try_init(py, || py.import("json")?.getattr("loads").map(Bound::unbind))?.bind(py);
    match std::str::from_utf8(unisono_runner::unmarked(json)) {
        // From bytes Python would first find out how they are encoded.
        Ok(text) => loads.call1((text,)),
        Err(_) => loads.call1((PyBytes::new(py, json),)),
    }
}
