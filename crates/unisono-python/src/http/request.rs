//! Requests as Python gives them: an address, a `Request`, or a mapping.

use bytes::Bytes;
use pyo3::{
    prelude::*,
    types::{PyBytes, PyDict, PyMapping, PyString},
};
use unisono_core::redacted;
use unisono_runner::{Defaults, FetchCall, NoFields, Row, RowFields, RowOrigin, RowRequest};

use crate::{
    errors,
    values::{pairs, text},
};

/// One request: an address and what goes with it.
#[pyclass(frozen, name = "Request", module = "unisono", from_py_object)]
#[derive(Debug, Clone)]
pub struct GivenRequest {
    #[pyo3(get)]
    url: String,
    #[pyo3(get)]
    method: Option<String>,
    #[pyo3(get)]
    id: Option<String>,
    headers: Vec<(String, String)>,
    params: Vec<(String, String)>,
    body: Option<Bytes>,
    is_json: bool,
}

#[pymethods]
impl GivenRequest {
    #[new]
    #[pyo3(signature = (url, *, method=None, headers=None, params=None, json=None, content=None, id=None))]
    #[allow(clippy::too_many_arguments, reason = "these are keywords")]
    fn new(
        url: String,
        method: Option<String>,
        headers: Option<&Bound<'_, PyAny>>,
        params: Option<&Bound<'_, PyAny>>,
        json: Option<&Bound<'_, PyAny>>,
        content: Option<&Bound<'_, PyAny>>,
        id: Option<String>,
    ) -> PyResult<Self> {
        let is_json = json.is_some();
        let body = match (json, content) {
            (Some(_), Some(_)) => {
                return Err(pyo3::exceptions::PyTypeError::new_err("either json or content, not both"));
            }
            (Some(json), None) => Some(encode_json(json)?),
            (None, Some(content)) => Some(encode_content(content)?),
            (None, None) => None,
        };
        Ok(Self { url, method, id, headers: pairs(headers)?, params: pairs(params)?, body, is_json })
    }

    /// The headers, in the order given.
    #[getter]
    fn headers(&self) -> Vec<(String, String)> {
        self.headers.clone()
    }

    /// The body, if there is one.
    #[getter]
    fn content<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.body.as_ref().map(|body| PyBytes::new(py, body))
    }

    fn __repr__(&self) -> String {
        let method = self.method.as_deref().unwrap_or(if self.body.is_some() { "POST" } else { "GET" });
        unisono_core::printable(&format!("<Request {method} {}>", shown(&self.url))).into_owned()
    }
}

impl GivenRequest {
    pub fn row_request(&self) -> RowRequest {
        RowRequest {
            id: self.id.clone(),
            url: Some(self.url.clone()),
            method: self.method.clone(),
            headers: self.headers.clone(),
            params: self.params.clone(),
            body: self.body.clone(),
            is_json: self.is_json,
        }
    }
}

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
    let mut columns = Vec::new();
    for pair in mapping.items()?.iter() {
        let (name, value): (String, Bound<'_, PyAny>) = pair.extract()?;
        match name.as_str() {
            "headers" => row.headers = pairs(Some(&value))?,
            "params" => row.params = pairs(Some(&value))?,
            "json" => (row.body, row.is_json) = (Some(encode_json(&value)?), true),
            "content" | "body" => row.body = Some(encode_content(&value)?),
            _ if value.is_none() => {}
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
    Ok((row, Columns(columns)))
}

pub fn encode_json(value: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    let py = value.py();
    let arguments = PyDict::new(py);
    arguments.set_item("ensure_ascii", false)?;
    arguments.set_item("allow_nan", false)?;
    arguments.set_item("separators", (",", ":"))?;
    let text: String = py.import("json")?.call_method("dumps", (value,), Some(&arguments))?.extract()?;
    Ok(text.into())
}

pub fn encode_content(value: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    match value.cast::<PyString>() {
        Ok(text) => Ok(Bytes::copy_from_slice(text.to_str()?.as_bytes())),
        Err(_) => Ok(Bytes::from(value.extract::<Vec<u8>>()?)),
    }
}
