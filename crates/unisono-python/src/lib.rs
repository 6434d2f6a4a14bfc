//! The Python module: the only crate that sees pyo3.
