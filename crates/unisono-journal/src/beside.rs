//! The files that stand beside a results file while it is used, by name, so that none of them is read as an input and
//! overwritten.

use std::path::{Path, PathBuf};

use crate::runfile::run_path;

/// The run file. What takes the place of the results when lines go has a name that nothing had before.
pub fn beside(results: &Path) -> Vec<PathBuf> {
    vec![run_path(results)]
}
