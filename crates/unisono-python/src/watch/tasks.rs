//! `TaskLook`: one look at the tasks of a program, for `unisono.dump()`.

use pyo3::{prelude::*, types::PyDict};
use unisono_watch::tasks::{report::Report, with_blocks::Instructions};

use super::{
    look::{Asked, snapshot},
    stacks::Files,
};
use crate::ffi::looking::look;

/// What one look has seen.
#[pyclass(module = "unisono._native")]
pub struct TaskLook(Report);

#[pymethods]
impl TaskLook {
    /// Looks at all tasks and threads; `frames` is what `sys._current_frames()` returns. The caller is a function whose
    /// first local variable is `frames`, by which it is tried whether such can be read.
    #[new]
    fn new(
        py: Python<'_>,
        frames: &Bound<'_, PyDict>,
        thread: i64,
        framework: Vec<String>,
        here: String,
        has_signal_handlers: bool,
        instructions: (u8, u8),
    ) -> Self {
        let (push, with) = instructions;
        let files = Files { framework, here, instructions: Instructions { push, with } };
        let version = py.version_info();
        let python = format!("{}.{}.{}", version.major, version.minor, version.patch);
        let seen = look(py, |look| {
            let frames = look.at(frames.as_any());
            let caller = frames.entries().into_iter().find(|(ident, _)| ident.whole() == Some(thread));
            if let Some((_, caller)) = caller {
                look.try_locals(caller, frames, (version.major, version.minor));
            }
            let asked = Asked { frames, thread, python, has_signal_handlers };
            snapshot(look, &asked, &files)
        });
        // What follows from it needs no interpreter.
        Self(py.detach(|| Report::new(seen)))
    }

    /// Whether a second look could take something back.
    fn is_to_be_confirmed(&self) -> bool {
        self.0.is_to_be_confirmed()
    }

    /// Keeps what an earlier look has found as well.
    fn confirm(&mut self, earlier: &Self) {
        self.0.confirm(&earlier.0);
    }

    fn text(&self, py: Python<'_>) -> String {
        py.detach(|| self.0.text())
    }

    fn json(&self, py: Python<'_>) -> String {
        py.detach(|| self.0.json())
    }
}
