//! Bodies as Python gives them: `json`, `content`, `data` and `files`, and the words of rows.
//!
//! Paths and regular files that are open are read as they are sent, on threads beside the engine, and can be sent
//! again. Iterators and what has a `read` alone are drawn from by the caller that waits for the call, on its own thread
//! or event loop, once; so they are for calls of clients. So is what has a `read` alone within `files=`.

use std::{fs::File, path::PathBuf, sync::Arc};

use bytes::Bytes;
use pyo3::{
    PyTraverseError, PyVisit,
    prelude::*,
    types::{PyBytes, PyDict, PyList, PyMapping, PyString, PyTuple},
};
use unisono_http::{Body, BodyFeed, FORM, Part, encode_form};
use unisono_runner::{RowBody, body_of_words};

use crate::{
    errors::usage,
    numbers::shown,
    values::{params, path_of, text},
};

/// What was given for a body, beside the body that it became.
#[derive(Debug, Default)]
pub struct Source {
    /// As it was given, where it was not bytes or text. Each request has a reference of its own, since the garbage
    /// collector counts those that it comes upon.
    pub given: Option<Py<PyAny>>,
    /// What comes in once of it, in the order in which it is sent.
    pub fed: Vec<Fed>,
}

/// What comes in once: what the caller that waits brings the pieces from, and where it puts them.
#[derive(Debug)]
pub struct Fed {
    /// A reference of its own, as with [`Source`].
    pub given: Py<PyAny>,
    pub feed: Arc<BodyFeed>,
}

impl Clone for Source {
    fn clone(&self) -> Self {
        Python::attach(|py| Self {
            given: self.given.as_ref().map(|given| given.clone_ref(py)),
            fed: self.fed.iter().map(|one| one.clone_ref(py)).collect(),
        })
    }
}

impl Source {
    pub fn traverse(&self, visit: &PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.given)?;
        self.fed.iter().try_for_each(|one| visit.call(&one.given))
    }
}

impl Fed {
    /// Such a body, and its feed.
    fn new(given: &Bound<'_, PyAny>) -> (Body, Self) {
        let feed = Arc::new(BodyFeed::new(None));
        (Body::fed(feed.clone()), Self { given: given.clone().unbind(), feed })
    }

    /// The same, with another reference.
    pub fn clone_ref(&self, py: Python<'_>) -> Self {
        Self { given: self.given.clone_ref(py), feed: self.feed.clone() }
    }
}

/// What may be given for a body.
#[derive(Default)]
pub struct Given<'py> {
    pub json: Option<Bound<'py, PyAny>>,
    pub content: Option<Bound<'py, PyAny>>,
    pub data: Option<Bound<'py, PyAny>>,
    pub files: Option<Bound<'py, PyAny>>,
}

impl<'py> Given<'py> {
    /// The body; `None` where nothing was given.
    ///
    /// # Errors
    /// When it cannot be one, or there are two.
    pub fn body(self, py: Python<'py>) -> PyResult<Option<(RowBody, Source)>> {
        let all = [
            ("json=", self.json.is_some()),
            ("content=", self.content.is_some()),
            ("data= or files=", self.data.is_some() || self.files.is_some()),
        ];
        let given: Vec<&str> = all.iter().filter(|(_, is_given)| *is_given).map(|(name, _)| *name).collect();
        if given.len() > 1 {
            return Err(usage(py, format!("a request has one body: either {}, not both", given.join(" or "))));
        }
        if let Some(json) = self.json {
            return in_memory(encode_json(&json)?.into(), Some("application/json"));
        }
        if let Some(content) = self.content {
            return content_or_stream("content", &content);
        }
        match (self.data, self.files) {
            (None, None) => Ok(None),
            (Some(data), None) if is_pairs(&data) => in_memory(encode_form(params(Some(&data))?).into(), Some(FORM)),
            (Some(data), None) => content_or_stream("data", &data),
            (data, Some(files)) => {
                let (body, fed) = multipart(data.as_ref(), &files)?;
                Ok(Some(((body, None), Source { given: None, fed })))
            }
        }
    }
}

/// The body of a row that has words for one beside what was found already; each is read as in a row of JSON.
pub fn of_words(
    py: Python<'_>,
    found: Option<(RowBody, Source)>,
    words: &[(String, Bound<'_, PyAny>)],
) -> PyResult<Option<(RowBody, Source)>> {
    if words.is_empty() {
        return Ok(found);
    }
    if found.is_some() {
        return Err(usage(py, format!("`{}` beside another body: a request has one", words[0].0)));
    }
    let encode = |(name, value): &(String, Bound<'_, PyAny>)| {
        PyResult::Ok((name.clone(), String::from_utf8_lossy(&encode_json(value)?).into_owned()))
    };
    let words = words.iter().map(encode).collect::<PyResult<Vec<_>>>()?;
    let body = body_of_words(&words).map_err(|why| usage(py, why))?;
    Ok(body.map(|body| (body, Source::default())))
}

fn in_memory(body: Body, content_type: Option<&'static str>) -> PyResult<Option<(RowBody, Source)>> {
    Ok(Some(((body, content_type), Source::default())))
}

/// A mapping, or a list of pairs: what is neither is a body as it is.
fn is_pairs(data: &Bound<'_, PyAny>) -> bool {
    data.cast::<PyMapping>().is_ok() || data.is_instance_of::<PyList>() || data.is_instance_of::<PyTuple>()
}

/// A form with files: the fields of `data` first, as browsers send them in the order of the form; and what of it comes
/// in once.
fn multipart(data: Option<&Bound<'_, PyAny>>, files: &Bound<'_, PyAny>) -> PyResult<(Body, Vec<Fed>)> {
    let py = files.py();
    if let Some(data) = data.filter(|data| !is_pairs(data)) {
        let given = shown(data);
        return Err(usage(py, format!("data= beside files= must be a mapping or a list of pairs, not {given}")));
    }
    let fields = params(data)?.into_iter().map(|(name, value)| Part {
        name,
        file_name: None,
        content_type: None,
        content: value.into(),
    });
    let (mut parts, mut fed): (Vec<Part>, _) = (fields.collect(), Vec::new());
    let items = match files.cast::<PyMapping>() {
        Ok(mapping) => mapping.items()?.into_any(),
        Err(_) => files.clone(),
    };
    let wrong = |_| usage(py, format!("files= must be a mapping or a list of pairs, not {}", shown(files)));
    for pair in items.try_iter().map_err(wrong)? {
        let (name, value): (String, Bound<'_, PyAny>) = pair?.extract().map_err(wrong)?;
        match value.cast::<PyList>() {
            Ok(several) => several.iter().try_for_each(|one| {
                parts.push(file_part(&name, &one, &mut fed)?);
                PyResult::Ok(())
            })?,
            Err(_) if value.is_none() => {}
            Err(_) => parts.push(file_part(&name, &value, &mut fed)?),
        }
    }
    let body = Body::multipart(parts).map_err(|error| usage(py, format!("files: {}", error.chain())))?;
    Ok((body, fed))
}

/// A path, bytes, or a name with either and perhaps a media type. What comes in once goes to the others that do.
fn file_part(field: &str, value: &Bound<'_, PyAny>, fed: &mut Vec<Fed>) -> PyResult<Part> {
    let py = value.py();
    let what = format!("files: `{field}`");
    let (name, content, content_type) = match value.cast::<PyTuple>() {
        Err(_) => (None, value.clone(), None),
        Ok(tuple) => {
            let of = |place| tuple.get_item(place).ok().filter(|item| !item.is_none());
            let (Some(content), true) = (of(1), (2..=3).contains(&tuple.len())) else {
                let why = format!("{what}: expected (name, content) or (name, content, media type)");
                return Err(usage(py, why));
            };
            (of(0).map(|name| text(&what, &name)).transpose()?, content, of(2))
        }
    };
    if name.is_none() && content.is_instance_of::<PyString>() {
        let why = format!(
            "{what} is text, which may be meant as a path or as what is sent: give pathlib.Path(...), or (name, text)"
        );
        return Err(usage(py, why));
    }
    let name = match name {
        Some(name) => name,
        None => base_name(&content).unwrap_or_else(|| field.to_owned()),
    };
    let content_type = match content_type {
        Some(content_type) => text(&what, &content_type)?,
        None => guessed(py, &name)?,
    };
    let content = content_of(&what, &content, fed)?;
    Ok(Part { name: field.to_owned(), file_name: Some(name), content_type: Some(content_type), content })
}

/// The last part of the name of a path, or of a file that is open.
fn base_name(content: &Bound<'_, PyAny>) -> Option<String> {
    let path = match content.is_instance_of::<PyBytes>() {
        true => return None,
        false => path_of(content).ok().or_else(|| path_of(&content.getattr("name").ok()?).ok())?,
    };
    Some(path.file_name()?.to_string_lossy().into_owned())
}

/// The media type that a file's name suggests.
fn guessed(py: Python<'_>, name: &str) -> PyResult<String> {
    let guess: (Option<String>, Option<String>) =
        py.import("mimetypes")?.call_method1("guess_type", (name,))?.extract()?;
    Ok(match guess {
        // What is packed is not what is in it.
        (Some(media), None) => media,
        _ => "application/octet-stream".to_owned(),
    })
}

/// What is sent as it is, where it can be sent again: text as UTF-8, bytes, or what is in a file. `None` for what comes
/// in once.
fn content_again(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<Body>> {
    let py = value.py();
    let wrong = |error: unisono_http::Error| usage(py, format!("{name}: {}", error.chain()));
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Some(Bytes::copy_from_slice(text.to_str()?.as_bytes()).into()));
    }
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Some(Bytes::copy_from_slice(bytes.as_bytes()).into()));
    }
    if value.hasattr("__fspath__")? {
        return Body::file(&path_of(value)?).map(Some).map_err(wrong);
    }
    if value.get_type().is(py.import("io")?.getattr("BytesIO")?) {
        // From where it stands, as a file.
        let (all, from): (Vec<u8>, usize) =
            (value.call_method0("getvalue")?.extract()?, value.call_method0("tell")?.extract()?);
        return Ok(Some(all.get(from..).unwrap_or_default().to_vec().into()));
    }
    if value.hasattr("read")? {
        return match regular_file(value)? {
            Some((path, file, from)) => Body::open_file(&path, file, from).map(Some).map_err(wrong),
            None => Ok(None),
        };
    }
    Ok(value.extract::<Vec<u8>>().ok().map(Body::from))
}

/// The same, where it may also come in once.
fn content_or_stream(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Option<(RowBody, Source)>> {
    let py = value.py();
    let given = value.clone().unbind();
    if let Some(body) = content_again(name, value)? {
        let is_plain = value.is_instance_of::<PyString>() || value.is_instance_of::<PyBytes>();
        return Ok(Some(((body, None), Source { given: (!is_plain).then_some(given), fed: Vec::new() })));
    }
    let has = |attribute| value.hasattr(attribute);
    if !(has("read")? || has("__iter__")? || has("__aiter__")?) || value.cast::<PyMapping>().is_ok() {
        let given = shown(value);
        let why = format!("{name} must be text, bytes, a path, an open file or an iterable of bytes, not {given}");
        return Err(usage(py, why));
    }
    let (body, fed) = Fed::new(value);
    Ok(Some(((body, None), Source { given: Some(given), fed: vec![fed] })))
}

/// What is in a part of a form.
fn content_of(name: &str, value: &Bound<'_, PyAny>, fed: &mut Vec<Fed>) -> PyResult<Body> {
    let py = value.py();
    if let Some(body) = content_again(name, value)? {
        return Ok(body);
    }
    if !value.hasattr("read")? {
        let given = shown(value);
        return Err(usage(py, format!("{name} must be text, bytes, a path or an open file, not {given}")));
    }
    if value.is_instance(&py.import("io")?.getattr("TextIOBase")?)? {
        return Err(usage(py, format!("{name}: open the file in binary mode (\"rb\")")));
    }
    let (body, one) = Fed::new(value);
    fed.push(one);
    Ok(body)
}

/// The name, a descriptor and the position of a regular file that is open in binary mode; `None` for anything else that
/// can be read, such as what unpacks a file: its descriptor has other bytes than it.
fn regular_file(value: &Bound<'_, PyAny>) -> PyResult<Option<(PathBuf, File, u64)>> {
    let py = value.py();
    let io = py.import("io")?;
    // What `tempfile` gives out stands before such a file.
    let inner = match value.get_type().name()?.to_str()? {
        "_TemporaryFileWrapper" => value.getattr("file")?,
        _ => value.clone(),
    };
    let raw = match inner.hasattr("raw")? {
        true => inner.getattr("raw")?,
        false => inner.clone(),
    };
    if raw.get_type().as_ptr() != io.getattr("FileIO")?.as_ptr() || !raw.call_method0("seekable")?.extract::<bool>()? {
        return Ok(None);
    }
    if inner.hasattr("flush")? {
        // What was written to it lies in its buffer yet.
        inner.call_method0("flush")?;
    }
    let from: u64 = inner.call_method0("tell")?.extract()?;
    let descriptor: i32 = raw.call_method0("fileno")?.extract()?;
    // Another opening of the same file, deleted or not: its position is ours.
    let Ok(file) = File::open(format!("/proc/self/fd/{descriptor}")) else { return Ok(None) };
    if !file.metadata().is_ok_and(|found| found.is_file()) {
        return Ok(None);
    }
    let named = raw.getattr("name").ok().and_then(|name| path_of(&name).ok());
    Ok(Some((named.unwrap_or_else(|| format!("descriptor {descriptor}").into()), file, from)))
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
