//! Bodies as Python gives them: `json`, `content`, `data` and `files`, and the words of rows.

use bytes::Bytes;
use pyo3::{
    prelude::*,
    types::{PyBytes, PyDict, PyList, PyMapping, PyString, PyTuple},
};
use unisono_http::{Body, FORM, Part, encode_form};
use unisono_runner::{RowBody, body_of_words};

use crate::{
    errors::usage,
    numbers::shown,
    values::{params, path_of, text},
};

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
    pub fn body(self, py: Python<'py>) -> PyResult<Option<RowBody>> {
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
            return Ok(Some((encode_json(&json)?.into(), Some("application/json"))));
        }
        if let Some(content) = self.content {
            return Ok(Some((content_of("content", &content)?, None)));
        }
        match (self.data, self.files) {
            (None, None) => Ok(None),
            (Some(data), None) if is_pairs(&data) => Ok(Some((encode_form(params(Some(&data))?).into(), Some(FORM)))),
            (Some(data), None) => Ok(Some((content_of("data", &data)?, None))),
            (data, Some(files)) => multipart(data.as_ref(), &files).map(|body| Some((body, None))),
        }
    }
}

/// The body of a row that has words for one beside what was found already; each is read as in a row of JSON.
pub fn of_words(
    py: Python<'_>,
    found: Option<RowBody>,
    words: &[(String, Bound<'_, PyAny>)],
) -> PyResult<Option<RowBody>> {
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
    body_of_words(&words).map_err(|why| usage(py, why))
}

/// A mapping, or a list of pairs: what is neither is a body as it is.
fn is_pairs(data: &Bound<'_, PyAny>) -> bool {
    data.cast::<PyMapping>().is_ok() || data.is_instance_of::<PyList>() || data.is_instance_of::<PyTuple>()
}

/// A form with files: the fields of `data` first, as browsers send them in the order of the form.
fn multipart(data: Option<&Bound<'_, PyAny>>, files: &Bound<'_, PyAny>) -> PyResult<Body> {
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
    let mut parts: Vec<Part> = fields.collect();
    let items = match files.cast::<PyMapping>() {
        Ok(mapping) => mapping.items()?.into_any(),
        Err(_) => files.clone(),
    };
    let wrong = |_| usage(py, format!("files= must be a mapping or a list of pairs, not {}", shown(files)));
    for pair in items.try_iter().map_err(wrong)? {
        let (name, value): (String, Bound<'_, PyAny>) = pair?.extract().map_err(wrong)?;
        match value.cast::<PyList>() {
            Ok(several) => several.iter().try_for_each(|one| {
                parts.push(file_part(&name, &one)?);
                PyResult::Ok(())
            })?,
            Err(_) if value.is_none() => {}
            Err(_) => parts.push(file_part(&name, &value)?),
        }
    }
    Body::multipart(parts).map_err(|error| usage(py, format!("files: {}", error.chain())))
}

/// A path, bytes, or a name with either and perhaps a media type.
fn file_part(field: &str, value: &Bound<'_, PyAny>) -> PyResult<Part> {
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
    let content = content_of(&what, &content)?;
    Ok(Part { name: field.to_owned(), file_name: Some(name), content_type: Some(content_type), content })
}

/// The last part of a path's name.
fn base_name(content: &Bound<'_, PyAny>) -> Option<String> {
    let path = match content.is_instance_of::<PyBytes>() {
        true => return None,
        false => path_of(content).ok()?,
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

/// What is sent as it is: text as UTF-8, bytes, or what is in a file.
fn content_of(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Body> {
    let py = value.py();
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(Bytes::copy_from_slice(text.to_str()?.as_bytes()).into());
    }
    if let Ok(bytes) = value.cast::<PyBytes>() {
        return Ok(Bytes::copy_from_slice(bytes.as_bytes()).into());
    }
    if value.hasattr("__fspath__")? {
        return Body::file(&path_of(value)?).map_err(|error| usage(py, format!("{name}: {}", error.chain())));
    }
    if value.hasattr("read")? {
        let read = value.call_method0("read")?;
        let bytes =
            read.cast::<PyBytes>().map_err(|_| usage(py, format!("{name}: open the file in binary mode (\"rb\")")))?;
        return Ok(Bytes::copy_from_slice(bytes.as_bytes()).into());
    }
    let wrong = |_| usage(py, format!("{name} must be text, bytes, a path or an open file, not {}", shown(value)));
    value.extract::<Vec<u8>>().map(Body::from).map_err(wrong)
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
