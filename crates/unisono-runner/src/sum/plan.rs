//! What a run over files is to do, parsed and checked.

use std::{path::PathBuf, time::Duration};

use unisono_batch::Settings;
use unisono_core::{Limits, RetryPolicy, Times};
use unisono_files::FilesOptions;

use super::{DigestResult, FileCall};
use crate::{Frame, Listing, run::cores};

/// Everything about a run, parsed and checked.
pub struct SumPlan {
    /// What every run has. Its limit is how many threads there are.
    pub frame: Frame<FileCall>,
    /// How files are read; the number of threads is the frame's limit.
    pub files: FilesOptions,
    /// Told of each outcome, in order if the frame says so.
    pub listing: Option<Listing<DigestResult>>,
    /// A manifest that is written from the results once all is done.
    pub manifest: Option<ManifestOut>,
}

/// A manifest that is written at the end.
#[derive(Debug)]
pub struct ManifestOut {
    /// Where it goes.
    pub path: PathBuf,
    /// The results that it is made of.
    pub results: PathBuf,
    /// How its lines look.
    pub layout: unisono_files::manifest::Layout,
}

/// The limits and times of files: a thread per core, an hour for a file, a second try for one that changed.
pub fn sum_settings() -> Settings {
    Settings {
        limits: Limits::new(Some(cores()), None),
        times: Times { timeout: None, deadline: Some(Duration::from_secs(60 * 60)), ..Times::default() },
        retry: RetryPolicy { repeats: 1, ..RetryPolicy::default() },
        ordered_by_key: false,
    }
}
