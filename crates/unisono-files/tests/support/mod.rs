//! Files that are digested as a run has it done, without a run.

use std::path::Path;

use unisono_batch::Context;
use unisono_files::{DigestRequest, Digested, Error, Files, FilesOptions, Known};
use unisono_hash::Algorithm;

pub fn options(threads: usize) -> FilesOptions {
    FilesOptions { threads, ..FilesOptions::default() }
}

pub fn request(path: &Path, algorithms: &[Algorithm], known: Known) -> DigestRequest {
    DigestRequest { path: path.into(), algorithms: algorithms.into(), known }
}

/// What becomes of a request.
pub async fn digested(files: &Files, request: DigestRequest) -> Result<Digested, Error> {
    let context = Context::detached();
    tokio::select! {
        biased;
        () = files.deliver() => unreachable!("delivery has no end"),
        digested = files.digest(request, &context) => digested,
    }
}
