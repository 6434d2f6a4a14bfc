//! Text that may hold a password, made fit to be shown; for what Python itself says.

use pyo3::prelude::*;

/// The text without what might be a user name or password of an address in it.
#[pyfunction]
pub fn redacted(text: &str) -> String {
    unisono_core::redacted(text).into_owned()
}

/// The value of a header of an answer, without cookies and the passwords of addresses.
#[pyfunction]
pub fn shown_header(name: &str, value: &str) -> String {
    match http::HeaderName::from_bytes(name.as_bytes()) {
        Ok(name) => unisono_http::shown_header(&name, value.as_bytes()).into_owned(),
        Err(_) => value.to_owned(),
    }
}
