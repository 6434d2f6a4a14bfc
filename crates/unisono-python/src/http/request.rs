//! Requests as Python gives them: an address, a `Request`, or a mapping.

use std::time::Duration;

use pyo3::{
    PyTraverseError, PyVisit,
    prelude::*,
    types::{PyBytes, PyDict, PyMapping, PyString},
};
use unisono_core::{Overrides, Secret, redacted};
use unisono_http::{Body, FORM, RequestCookie, RequestOptions, StatusSet};
use unisono_runner::{
    Defaults, FetchCall, NoFields, ROW_BODIES, ROW_OPTIONS, Row, RowFields, RowOptions, RowOrigin, RowRequest,
};

use crate::{
    errors,
    http::bodies::{self, Fed, Given, Source},
    options::Keywords,
    values::{pairs, params, text},
};

/// One request: an address and what goes with it.
#[pyclass(frozen, name = "Request", module = "unisono", from_py_object)]
#[derive(Debug, Clone, Default)]
pub struct GivenRequest {
    #[pyo3(get)]
    url: String,
    #[pyo3(get)]
    method: Option<String>,
    #[pyo3(get)]
    id: Option<String>,
    headers: Vec<(String, String)>,
    params: Vec<(String, String)>,
    body: Option<Body>,
    content_type: Option<&'static str>,
    source: Source,
    options: RowOptions,
}

#[pymethods]
impl GivenRequest {
    #[new]
    #[pyo3(signature = (url, **keywords))]
    fn new(py: Python<'_>, url: String, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        Self { url, ..Self::default() }.changed(py, keywords)
    }

    /// The same request with these arguments in place of its own.
    #[pyo3(signature = (url=None, **keywords))]
    fn replace(&self, py: Python<'_>, url: Option<String>, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let url = url.unwrap_or_else(|| self.url.clone());
        Self { url, ..self.clone() }.changed(py, keywords)
    }

    /// The same request with these headers, in place of those of the same name.
    fn with_headers(&self, headers: &Bound<'_, PyAny>) -> PyResult<Self> {
        let new = pairs(Some(headers))?;
        let mut with = self.clone();
        with.headers.retain(|(name, _)| !new.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)));
        with.headers.extend(new);
        Ok(with)
    }

    /// The headers, in the order given.
    #[getter]
    fn headers(&self) -> Vec<(String, String)> {
        self.headers.clone()
    }

    /// The body, if there is one: its bytes, or what was given where these are read as they are sent. `None` for a form
    /// with files on disk.
    #[getter]
    fn content<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
        match self.body.as_ref()?.as_bytes() {
            Some(bytes) => Some(PyBytes::new(py, bytes).into_any()),
            None => self.source.given.as_ref().map(|given| given.bind(py).clone()),
        }
    }

    /// A user name, a password and cookies go along: without them it would be another request.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (RequestState,))> {
        Ok((py.import("unisono._native")?.getattr("restored_request")?, (RequestState::of(py, self)?,)))
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.source.traverse(&visit)
    }

    fn __repr__(&self) -> String {
        let method = self.method.as_deref().unwrap_or(if self.body.is_some() { "POST" } else { "GET" });
        unisono_core::printable(&format!("<Request {method} {}>", shown(&self.url))).into_owned()
    }
}

impl GivenRequest {
    fn changed(mut self, py: Python<'_>, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let Some(keywords) = keywords else { return Ok(self) };
        let keywords = Keywords::new(keywords)?;
        for (name, kept) in [("method", &mut self.method), ("id", &mut self.id)] {
            if let Some(given) = keywords.take(name)? {
                *kept = Some(text(name, &given)?);
            }
        }
        if let Some(given) = keywords.take("headers")? {
            self.headers = pairs(Some(&given))?;
        }
        if let Some(given) = keywords.take("params")? {
            self.params = params(Some(&given))?;
        }
        let given = Given {
            json: keywords.take("json")?,
            content: keywords.take("content")?,
            data: keywords.take("data")?,
            files: keywords.take("files")?,
        };
        // As in rows, whose members a client that signs them makes a request of.
        let words = ROW_BODIES.iter().filter(|word| **word != "json").filter_map(|word| {
            keywords.take(word).transpose().map(|value| value.map(|value| ((*word).to_owned(), value)))
        });
        let words = words.collect::<PyResult<Vec<_>>>()?;
        if let Some(((body, content_type), source)) = bodies::of_words(py, given.body(py)?, &words)? {
            (self.body, self.content_type, self.source) = (Some(body), content_type, source);
        }
        self.options.change(keywords.row_options()?);
        keywords.finish_call("Request")?;
        Ok(self)
    }

    /// What of the body comes in once, in the order in which it is sent.
    pub fn fed(&self) -> &[Fed] {
        &self.source.fed
    }

    pub fn row_request(&self) -> RowRequest {
        RowRequest {
            id: self.id.clone(),
            url: Some(self.url.clone()),
            method: self.method.clone(),
            headers: self.headers.clone(),
            params: self.params.clone(),
            body: self.body.clone(),
            content_type: self.content_type,
            options: self.options.clone(),
        }
    }
}

/// A request on its way to another process.
#[derive(FromPyObject, IntoPyObject)]
#[pyo3(from_item_all)]
pub struct RequestState {
    url: String,
    method: Option<String>,
    id: Option<String>,
    headers: Vec<(String, String)>,
    params: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    /// Goes with the body, unless a header says another.
    media: Option<String>,
    timeout_ns: Option<u64>,
    deadline_ns: Option<u64>,
    retries: Option<u16>,
    /// Ranges of statuses, first and last.
    expect: Option<Vec<(u16, u16)>>,
    follow_redirects: Option<bool>,
    cookies: Vec<(String, String)>,
    auth: Option<(String, String)>,
    idempotency_key: Option<String>,
}

impl RequestState {
    fn of(py: Python<'_>, request: &GivenRequest) -> PyResult<Self> {
        let body = match &request.body {
            None => None,
            Some(body) => Some(body.as_bytes().ok_or_else(|| errors::usage(py, NOT_IN_MEMORY))?.to_vec()),
        };
        let RowOptions { request: options, auth, idempotency_key } = request.options.clone();
        let mut headers = request.headers.clone();
        // A form with files is told by its boundary, which it has in it.
        if let Some(form) = request.body.as_ref().and_then(Body::content_type) {
            headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
            headers.push(("Content-Type".to_owned(), form.to_str().unwrap_or_default().to_owned()));
        }
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Ok(Self {
            url: request.url.clone(),
            method: request.method.clone(),
            id: request.id.clone(),
            headers,
            params: request.params.clone(),
            body,
            media: request.content_type.map(str::to_owned),
            timeout_ns: options.overrides.timeout.map(nanoseconds),
            deadline_ns: options.overrides.deadline.map(nanoseconds),
            retries: options.overrides.repeats,
            expect: options.expect.map(|expect| expect.ranges().to_vec()),
            follow_redirects: options.follow_redirects,
            cookies: options
                .cookies
                .iter()
                .map(|cookie| (cookie.name().to_owned(), cookie.value().to_owned()))
                .collect(),
            auth: auth.map(|(name, password)| (name, password.reveal().to_owned())),
            idempotency_key,
        })
    }
}

/// Why a request does not go to another process.
const NOT_IN_MEMORY: &str = "a request whose body is a file or a stream cannot be pickled: give its bytes, or make the \
                             request where it is sent";

/// A pickled request.
#[pyfunction]
pub fn restored_request(py: Python<'_>, state: RequestState) -> PyResult<GivenRequest> {
    let cookie = |(name, value): (String, String)| {
        RequestCookie::new(&name, &value).map_err(|error| errors::usage(py, error.chain()))
    };
    let options = RequestOptions {
        overrides: Overrides {
            timeout: state.timeout_ns.map(Duration::from_nanos),
            deadline: state.deadline_ns.map(Duration::from_nanos),
            repeats: state.retries,
        },
        expect: state.expect.map(StatusSet::from_ranges),
        follow_redirects: state.follow_redirects,
        cookies: state.cookies.into_iter().map(cookie).collect::<PyResult<_>>()?,
    };
    let auth = state.auth.map(|(name, password)| (name, Secret::new(password)));
    Ok(GivenRequest {
        url: state.url,
        method: state.method,
        id: state.id,
        headers: state.headers,
        params: state.params,
        body: state.body.map(Into::into),
        content_type: [FORM, JSON].into_iter().find(|known| state.media.as_deref() == Some(known)),
        source: Source::default(),
        options: RowOptions { request: options, auth, idempotency_key: state.idempotency_key },
    })
}

/// The media type of a body of JSON.
const JSON: &str = "application/json";

/// An address without what may be a password.
fn shown(url: &str) -> String {
    unisono_http::Url::parse(url).map_or_else(|_| redacted(url).into_owned(), |url| url.to_string())
}

/// A row for each request; one that cannot be understood is a row as well, and its outcome says why.
pub fn row(item: &Bound<'_, PyAny>, defaults: &Defaults, line: u64) -> PyResult<Row<FetchCall>> {
    let origin = RowOrigin::of_item(line);
    if let Ok(url) = item.cast::<PyString>() {
        return Ok(match url.to_str() {
            Ok(url) => {
                defaults.row(&NoFields, &RowRequest { url: Some(url.to_owned()), ..RowRequest::default() }, 0, origin)
            }
            Err(_) => Row { id: None, origin, call: Err("the address is not valid text".to_owned()) },
        });
    }
    if let Ok(request) = item.cast::<GivenRequest>() {
        return Ok(defaults.row(&NoFields, &request.get().row_request(), 0, origin));
    }
    Ok(match errors::blame(item.py(), from_mapping(item))? {
        Ok((row, columns)) => defaults.row(&columns, &row, 0, origin),
        Err(error) => Row { id: None, origin, call: Err(format!("not a request: {error}")) },
    })
}

/// Why a row is none.
pub const ONCE_IS_FOR_CALLS: &str = "its body comes in once, which is for a call of a client, whose caller brings it: \
                                     give bytes, a path or an open file";

struct Columns(Vec<(String, String)>);

impl RowFields for Columns {
    fn field(&self, name: &str) -> Result<&str, String> {
        let found = self.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str()).ok_or_else(|| format!("no member `{name}`"))
    }
}

fn from_mapping(item: &Bound<'_, PyAny>) -> PyResult<(RowRequest, Columns)> {
    let mapping = item.cast::<PyMapping>().map_err(|_| {
        let name = item.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
        pyo3::exceptions::PyTypeError::new_err(format!("expected a URL, a unisono.Request or a mapping, found {name}"))
    })?;
    let mut row = RowRequest::default();
    let own = PyDict::new(item.py());
    let mut columns = Vec::new();
    let (mut given, mut json, mut worded) = (Given::default(), None, Vec::new());
    for pair in mapping.items()?.iter() {
        let (name, value): (String, Bound<'_, PyAny>) = pair.extract()?;
        match name.as_str() {
            "headers" => row.headers = pairs(Some(&value))?,
            "params" => row.params = params(Some(&value))?,
            // What is missing is JSON as well: `null`.
            "json" => json = Some(value),
            _ if value.is_none() => {}
            "content" | "body" => given.content = Some(value),
            "data" => given.data = Some(value),
            "files" => given.files = Some(value),
            name if ROW_BODIES.contains(&name) => worded.push((name.to_owned(), value)),
            // As a column as well, where it has a text.
            name if ROW_OPTIONS.contains(&name) => {
                own.set_item(name, &value)?;
                columns.push((name.to_owned(), value.str()?.to_string()));
            }
            _ => {
                let text = if name == "method" { text(&name, &value)? } else { value.str()?.to_string() };
                match name.as_str() {
                    "id" => row.id = Some(text.clone()),
                    "url" => row.url = Some(text.clone()),
                    "method" => row.method = Some(text.clone()),
                    _ => {}
                }
                columns.push((name, text));
            }
        }
    }
    given.json = json;
    let own_body = given.body(item.py())?;
    if let Some(((body, content_type), source)) = bodies::of_words(item.py(), own_body, &worded)? {
        if !source.fed.is_empty() {
            return Err(errors::usage(item.py(), ONCE_IS_FOR_CALLS));
        }
        (row.body, row.content_type) = (Some(body), content_type);
    }
    row.options = Keywords::new(&own)?.row_options()?;
    Ok((row, Columns(columns)))
}
