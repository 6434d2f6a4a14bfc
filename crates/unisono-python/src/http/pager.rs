//! Where the next page of an answer is, and what an expression makes of it: for clients, which ask page by page.
//!
//! It is the engine's own rule (`Paginate`), evaluated on the thread that asks. Expressions are of the plain part of
//! jq, whose cost is bounded: nothing waits for a process.

use pyo3::{exceptions::PyValueError, prelude::*};
use unisono_http::Request;
use unisono_runner::{Filter, Paginate};

use crate::{
    errors::usage,
    outcomes::{Response, loads},
};

/// How an API says that there is more.
#[pyclass(frozen, module = "unisono._native")]
pub struct Pager {
    paginate: Paginate,
}

#[pymethods]
impl Pager {
    #[new]
    fn new(py: Python<'_>, how: &str, max_pages: u32) -> PyResult<Self> {
        let paginate = Paginate::parse(how, max_pages).map_err(|why| usage(py, why))?;
        if let Some(filter) = paginate.filter() {
            refuse_beyond_plain(py, filter, how)?;
        }
        Ok(Self { paginate })
    }

    /// The address of the page after the one that was asked for by this address; `None` after the last.
    ///
    /// Raises `ValueError` when there is none to be found, or it is at another origin.
    fn next(&self, py: Python<'_>, url: &str, response: &Bound<'_, Response>) -> PyResult<Option<String>> {
        let response = response.get().inner();
        py.detach(|| {
            let request = Request::get(url).map_err(|error| error.chain())?;
            let Some(next) = self.paginate.next_here(&request, response)? else { return Ok(None) };
            if !next.url.is_same_origin(&request.url) {
                return Err(format!(
                    "the next page is at {}, and what a client sends along is not for that: ask for it by a call of \
                     its own",
                    next.url.origin()
                ));
            }
            Ok(Some(next.url.to_string()))
        })
        .map_err(PyValueError::new_err)
    }
}

/// An expression that is evaluated on the thread that asks.
#[pyclass(frozen, module = "unisono._native")]
pub struct PlainExpression {
    filter: Filter,
}

#[pymethods]
impl PlainExpression {
    #[new]
    fn new(py: Python<'_>, text: &str) -> PyResult<Self> {
        let filter = Filter::new(text).map_err(|why| usage(py, why))?;
        refuse_beyond_plain(py, &filter, text)?;
        Ok(Self { filter })
    }

    /// All outputs for the body of an answer.
    ///
    /// Raises `ValueError` when it is not JSON, or the expression fails on it.
    fn run<'py>(&self, py: Python<'py>, response: &Bound<'_, Response>) -> PyResult<Bound<'py, PyAny>> {
        let response = response.get().inner();
        let outputs = py.detach(|| self.filter.run_here(&response.body)).map_err(PyValueError::new_err)?;
        let (text, _) = outputs.parts();
        loads(py, &[b"[", text, b"]"].concat())
    }
}

fn refuse_beyond_plain(py: Python<'_>, filter: &Filter, text: &str) -> PyResult<()> {
    if filter.is_plain() {
        return Ok(());
    }
    Err(usage(
        py,
        format!(
            "`{text}` is not of the plain part of jq (docs/expressions.md), which is what a client evaluates: \
             unisono.fetch takes all of it, or find it in Python"
        ),
    ))
}
