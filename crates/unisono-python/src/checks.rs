//! What the Python half asks of the runner beside runs: text that is safe to show, and files that must not be the same.

use std::path::PathBuf;

use pyo3::prelude::*;
use unisono_runner::{Named, Template};

use crate::errors;

/// Text on one line, with everything escaped that a terminal would act on.
#[pyfunction]
pub fn printable(text: &str) -> String {
    unisono_core::printable(text).into_owned()
}

/// Refuses a results file that is one of the files that are read, or the one that bodies are saved to.
///
/// # Errors
/// `UsageError` when it is.
#[pyfunction]
#[pyo3(signature = (out, reads, save=None))]
pub fn refuse_same(
    py: Python<'_>,
    out: PathBuf,
    reads: Vec<(String, PathBuf)>,
    save: Option<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let reads: Vec<Named> = reads.into_iter().map(|(what, path)| Named::new(what, path)).collect();
    let mut writes = Named::results("out", &out);
    // What is no text or no template is refused where it is used.
    let save: Option<String> = save.and_then(|text| text.extract().ok());
    let constant = save.and_then(|text| Template::file_path(&text).ok()?.constant());
    writes.extend(constant.map(|path| Named::new("save", path)));
    unisono_runner::refuse_same(&reads, &writes).map_err(|error| errors::run_failed(py, &error))
}
