//! Values as Python gives them: text, paths, and pairs of text.

use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

use pyo3::{
    prelude::*,
    sync::PyOnceLock,
    types::{PyBool, PyBytes, PyMapping, PyString},
};

use crate::{errors, numbers::shown};

/// Text.
pub fn text(name: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    value.extract().map_err(|_| {
        // A name of a file that is not UTF-8 is one of these, as `os.fsdecode` makes it.
        let what = if value.is_instance_of::<PyString>() { "text that can be encoded as UTF-8" } else { "text" };
        errors::usage(value.py(), format!("{name} must be {what}, not {}", shown(value)))
    })
}

/// A path: text, bytes, or what `os.fspath` makes either of.
///
/// # Errors
/// When it is none of them.
pub fn path_of(item: &Bound<'_, PyAny>) -> PyResult<PathBuf> {
    static FSPATH: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = item.py();
    let plain = match item.is_instance_of::<PyString>() {
        true => item.clone(),
        false => {
            let fspath = FSPATH.get_or_try_init(py, || py.import("os")?.getattr("fspath").map(Bound::unbind))?;
            fspath.bind(py).call1((item,))?
        }
    };
    match plain.cast::<PyBytes>() {
        Ok(bytes) => Ok(OsString::from_vec(bytes.as_bytes().to_vec()).into()),
        Err(_) => Ok(plain.extract::<OsString>()?.into()),
    }
}

/// Parameters: as pairs, without those whose value is missing.
pub fn params(value: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<(String, String)>> {
    collect_pairs(value, true)
}

/// Pairs of text from a mapping, or from an iterable of pairs. A value that is a list stands for several.
pub fn pairs(value: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<(String, String)>> {
    collect_pairs(value, false)
}

fn collect_pairs(value: Option<&Bound<'_, PyAny>>, leaves_out: bool) -> PyResult<Vec<(String, String)>> {
    let Some(value) = value.filter(|value| !value.is_none()) else { return Ok(Vec::new()) };
    let items = match value.cast::<PyMapping>() {
        Ok(mapping) => mapping.items()?.into_any(),
        Err(_) => value.clone(),
    };
    let mut pairs = Vec::new();
    for pair in items.try_iter()? {
        let (name, value): (String, Bound<'_, PyAny>) = pair?.extract()?;
        if leaves_out && value.is_none() {
            continue;
        }
        if value.is_instance_of::<pyo3::types::PyList>() || value.is_instance_of::<pyo3::types::PyTuple>() {
            for one in value.try_iter()? {
                let one = one?;
                if !(leaves_out && one.is_none()) {
                    pairs.push((name.clone(), value_of(&name, &one)?));
                }
            }
        } else {
            let value = value_of(&name, &value)?;
            pairs.push((name, value));
        }
    }
    Ok(pairs)
}

/// The text of a value: numbers and the like have one, truth is written as in JSON, what is missing has none, and bytes
/// are their characters.
fn value_of(name: &str, value: &Bound<'_, PyAny>) -> PyResult<String> {
    if value.is_none() {
        return Err(errors::usage(value.py(), format!("`{name}` has no value (None): leave it out, or give \"\"")));
    }
    if let Ok(bytes) = value.cast::<PyBytes>() {
        let text = std::str::from_utf8(bytes.as_bytes());
        let wrong = |_| errors::usage(value.py(), format!("`{name}`: the bytes are not UTF-8 text"));
        return text.map(str::to_owned).map_err(wrong);
    }
    if let Ok(is_true) = value.cast::<PyBool>() {
        return Ok(is_true.is_true().to_string());
    }
    Ok(value.str()?.to_string())
}
