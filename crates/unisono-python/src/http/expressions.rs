//! The process that evaluates a run's expressions: a fresh interpreter that loads this module and nothing else.
//!
//! No `site`, no folder of the user's, nothing of `__main__`: it finds the module by its file, in any virtual
//! environment.

use std::{env, ffi::OsString, path::PathBuf};

use pyo3::{exceptions::PyOSError, prelude::*};
use unisono_runner::EvaluatorCommand;

/// How to start it; `None` in a program that does not know its interpreter.
pub fn evaluator(py: Python<'_>) -> PyResult<Option<EvaluatorCommand>> {
    let executable: Option<PathBuf> = py.import("sys")?.getattr("executable")?.extract()?;
    let Some(executable) = executable.filter(|executable| executable.is_absolute()) else { return Ok(None) };
    let file: PathBuf = py.import("unisono._native")?.getattr("__file__")?.extract()?;
    let mut words = vec![executable.into_os_string()];
    words.extend(["-s", "-S", "-P", "-c", CODE].map(OsString::from));
    words.push(file.into_os_string());
    let environment = NEEDED.iter().filter_map(|name| {
        let value = env::var_os(name)?;
        Some([OsString::from(name), OsString::from("="), value].into_iter().collect())
    });
    Ok(Some(EvaluatorCommand { words, environment: environment.collect() }))
}

/// Evaluates expressions for the process that has started this one, until that one goes.
#[pyfunction]
pub fn serve_expressions(py: Python<'_>) -> PyResult<()> {
    py.detach(unisono_runner::serve_expressions).map_err(|error| PyOSError::new_err(error.to_string()))
}

/// Loads the module from its file.
const CODE: &str = "\
import sys, importlib.machinery as m, importlib.util as u
s = u.spec_from_loader('_native', m.ExtensionFileLoader('_native', sys.argv[1]))
n = u.module_from_spec(s)
s.loader.exec_module(n)
n.serve_expressions()
";
/// What an interpreter may need to find its own parts.
const NEEDED: [&str; 2] = ["LD_LIBRARY_PATH", "PYTHONHOME"];
