//! Files: paths or manifests in, digests out.
//!
//! Paths are bytes to the system and text to Python, which keeps what is not UTF-8 in surrogates; both ways are
//! `os.fsencode` and `os.fsdecode`, done by the interpreter itself.

pub mod walk;

use std::sync::Arc;

use pyo3::{
    prelude::*,
    types::{PyDict, PyString},
};
use unisono_core::{Limits, RetryPolicy};
use unisono_runner::{
    DigestResult, Feed, FileCall, GivenPath, Identity, Outlet, Outputs, Row, RowOrigin, RowOutcome, Settings, SumPlan,
    VerifyOptions,
    file_tools::{FilesOptions, Hidden, WalkOptions},
    hash::Algorithm,
    path_rows, sum, sum_settings, verify_rows,
};

use crate::{
    errors,
    events::EventLog,
    files::walk::Found,
    options::{Keywords, ResultsOptions},
    outcomes::FileOutcome,
    run::{Checked, EngineEnds, Face, Run},
    values::path_of,
};

/// Paths; a folder stands for all that is in it.
struct FileFace;

impl Face for FileFace {
    type Asked = GivenPath;
    type Done = DigestResult;

    fn row(&self, item: &Bound<'_, PyAny>, line: u64) -> PyResult<Row<GivenPath>> {
        // What a walk of ours has come upon was not named by the caller.
        let is_named = !item.is_instance_of::<Found>();
        let path = errors::blame(item.py(), path_of(item))?;
        let call = path.map(|path| GivenPath { path, is_named }).map_err(|error| format!("not a path: {error}"));
        Ok(Row { id: None, origin: RowOrigin::of_item(line), call })
    }

    fn outcome<'py>(
        &self,
        py: Python<'py>,
        ended: RowOutcome<DigestResult>,
        item: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        Ok(FileOutcome::object(py, ended, item)?.into_any())
    }

    /// What is in a folder has the folder as its item.
    fn may_have_more(&self, ended: &RowOutcome<DigestResult>) -> bool {
        ended.done.shares_line
    }
}

/// Refuses keywords of `digest` that are not what they should be, before anything is started.
#[pyfunction(signature = (**keywords))]
pub fn check_digest(py: Python<'_>, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<()> {
    ReadOptions::of(py, keywords).map(drop)
}

/// Refuses keywords of `verify` that are not what they should be, before anything is started.
#[pyfunction(signature = (*, extra, **keywords))]
pub fn check_verify(
    py: Python<'_>,
    extra: Vec<Bound<'_, PyAny>>,
    keywords: Option<&Bound<'_, PyDict>>,
) -> PyResult<()> {
    CheckOptions::of(py, extra, keywords).map(drop)
}

/// Starts to digest files.
#[pyfunction(signature = (*, keep_outcomes, **keywords))]
pub fn digest(py: Python<'_>, keep_outcomes: bool, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Run> {
    let ReadOptions { settings, results, files, walk, algorithms } = ReadOptions::of(py, keywords)?;
    let outputs = outputs(&results);
    let run = Run::start(py, FileFace, &settings, keep_outcomes, async move |ends| {
        let EngineEnds { intake, outlet, cancel, monitor, gauge, log } = ends;
        let rows = path_rows(intake, walk, algorithms, outputs)?;
        sum(plan(results, Box::new(rows), settings, files, outlet, &log), cancel, monitor, gauge).await
    })?;
    Ok(run.with_threads(settings.limits.limit.get()))
}

/// Starts to check the files of manifests.
#[pyfunction(signature = (manifests, *, extra, keep_outcomes, **keywords))]
pub fn verify(
    py: Python<'_>,
    manifests: Vec<Bound<'_, PyAny>>,
    extra: Vec<Bound<'_, PyAny>>,
    keep_outcomes: bool,
    keywords: Option<&Bound<'_, PyDict>>,
) -> PyResult<Run> {
    let CheckOptions { settings, results, files, strict, options } = CheckOptions::of(py, extra, keywords)?;
    let ignores_missing = options.ignore_missing;
    let paths = manifests.iter().map(path_of).collect::<PyResult<Vec<_>>>()?;
    let (rows, manifests) = verify_rows(&paths, options).map_err(|error| errors::run_failed(py, &error))?;
    let run = Run::start(py, FileFace, &settings, keep_outcomes, async move |ends| {
        // The rows come from the manifests: the program has nothing to give, and its end says so once this is gone.
        let EngineEnds { intake, outlet, cancel, monitor, gauge, log } = ends;
        drop(intake);
        sum(plan(results, Box::new(rows), settings, files, outlet, &log), cancel, monitor, gauge).await
    })?;
    Ok(run.with_threads(settings.limits.limit.get()).with_manifests(Checked {
        manifests,
        is_strict: strict,
        ignores_missing,
    }))
}

/// What the keywords of `digest` say.
struct ReadOptions {
    settings: Settings,
    results: ResultsOptions,
    files: FilesOptions,
    walk: WalkOptions,
    algorithms: Arc<[Algorithm]>,
}

impl ReadOptions {
    fn of(py: Python<'_>, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let keywords = Keywords::new(keywords.unwrap_or(&PyDict::new(py)))?;
        let algorithms = keywords.algorithms()?.into();
        let (settings, results) = (keywords.file_settings()?, keywords.results(false)?);
        let (files, walk) = (keywords.files()?, keywords.walk(results.are_kept())?);
        keywords.finish()?;
        Ok(Self { settings, results, files, walk, algorithms })
    }
}

/// What the keywords of `verify` say.
struct CheckOptions {
    settings: Settings,
    results: ResultsOptions,
    files: FilesOptions,
    strict: bool,
    options: VerifyOptions,
}

impl CheckOptions {
    fn of(py: Python<'_>, extra: Vec<Bound<'_, PyAny>>, keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Self> {
        let keywords = Keywords::new(keywords.unwrap_or(&PyDict::new(py)))?;
        let (settings, results) = (keywords.file_settings()?, keywords.results(false)?);
        let (files, strict) = (keywords.files()?, keywords.flag("strict")?);
        let options = VerifyOptions {
            algorithm: keywords.parsed("algorithm", str::parse)?,
            zero: keywords.flag("zero")?,
            ignore_missing: keywords.flag("ignore_missing")?,
            extra: extra.iter().map(path_of).collect::<PyResult<_>>()?,
            walk: keywords.walk(results.are_kept())?,
            outputs: outputs(&results),
        };
        keywords.finish()?;
        Ok(Self { settings, results, files, strict, options })
    }
}

/// What a run writes, which is no part of any tree.
fn outputs(results: &ResultsOptions) -> Outputs {
    let mut outputs = Outputs::default();
    results.path().into_iter().for_each(|path| outputs.add_results(path));
    outputs
}

/// How many threads there are by default: one per core that this process may use.
#[pyfunction]
pub fn default_threads() -> u32 {
    sum_settings().limits.limit.get()
}

fn plan(
    results: ResultsOptions,
    rows: Box<dyn Feed<FileCall>>,
    settings: Settings,
    files: FilesOptions,
    outlet: Option<Outlet<DigestResult>>,
    log: &Arc<EventLog>,
) -> SumPlan {
    let frame = results.frame(rows, settings, (), outlet, log, |open| open.identity = Identity::Content);
    SumPlan { frame, files, listing: None, manifest: None }
}

/// Keywords that files have; the words and defaults are those of `unisono sum`.
impl Keywords<'_> {
    fn algorithms(&self) -> PyResult<Vec<Algorithm>> {
        let names = match self.take("algorithms")? {
            None => vec![Algorithm::Sha256.as_str().to_owned()],
            Some(one) if one.is_instance_of::<PyString>() => vec![one.extract()?],
            Some(several) => several.try_iter()?.map(|name| name?.extract()).collect::<PyResult<_>>()?,
        };
        if names.is_empty() {
            return Err(self.mistake("algorithms: there is none"));
        }
        let parse = |name: &String| name.parse().map_err(|error| self.mistake(format!("algorithms: {error}")));
        names.iter().map(parse).collect()
    }

    fn file_settings(&self) -> PyResult<Settings> {
        let defaults = sum_settings();
        let mut limits = Limits::new(Some(self.whole("limit")?.unwrap_or(defaults.limits.limit)), None);
        limits.rate = self.rate("rate")?;
        let repeats = self.whole("retries")?.unwrap_or(defaults.retry.repeats);
        let times = self.times(defaults.times)?;
        Ok(Settings { limits, times, retry: RetryPolicy { repeats, ..defaults.retry }, ..defaults })
    }

    fn files(&self) -> PyResult<FilesOptions> {
        Ok(FilesOptions { direct: self.flag("direct")?, ..FilesOptions::default() })
    }

    /// What is left out of folders.
    pub fn walk(&self, with_stat: bool) -> PyResult<WalkOptions> {
        Ok(WalkOptions {
            globs: self.texts("glob")?,
            excludes: self.texts("exclude")?,
            hidden: if self.get("hidden")?.unwrap_or(true) { Hidden::Include } else { Hidden::Skip },
            ignore_files: self.flag("ignore_files")?,
            max_depth: self.whole("max_depth")?,
            follow: self.flag("follow")?,
            one_file_system: self.flag("one_file_system")?,
            min_size: self.size("min_size")?,
            max_size: self.size("max_size")?,
            with_stat,
        })
    }

    /// A text, or several.
    fn texts(&self, name: &str) -> PyResult<Vec<String>> {
        match self.take(name)? {
            None => Ok(Vec::new()),
            Some(one) if one.is_instance_of::<PyString>() => Ok(vec![one.extract()?]),
            Some(several) => several.try_iter()?.map(|text| text?.extract()).collect(),
        }
    }
}
