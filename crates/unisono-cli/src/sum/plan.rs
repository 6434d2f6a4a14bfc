//! What the words of `unisono sum` mean together: the files, what is known of them, and where digests go.

use std::{path::Path, sync::Arc};

use tokio::sync::mpsc;
use unisono_core::{Limits, RetryPolicy, Span};
use unisono_runner::{
    Destination, FileCall, Identity, ManifestOut, Manifests, Named, Open, Outputs, RowBatch, Settings, VerifyOptions,
    Way,
    file_tools::{Hidden, WalkOptions, manifest::Layout},
    hash::{Algorithm, Kernel},
    refuse_same, resolved, results_of, sum_settings, tree_rows, verify_rows, way_to_write,
};

use super::args::{ListingArgs, ListingFormat, SumArgs, SumLimitArgs, WalkArgs, YesNo};
use crate::{
    args::{OutputArgs, times},
    failure::Failure,
};

impl SumArgs {
    /// What the parser cannot know.
    pub fn check_words(&self) -> Result<(), Failure> {
        self.output.check(false)?;
        if self.paths.is_empty() && self.from.is_none() {
            let failure = Failure::usage(if self.check.check { "no manifest to check" } else { "no files" });
            return Err(failure.hint(match self.check.check {
                true => "name the manifests; `-` is standard input",
                false => "name files or folders, or a file of names with --from FILE (`-` is standard input)",
            }));
        }
        if self.check.check && self.from.is_some() {
            return Err(Failure::usage("--from names files to digest, and --check has them from its manifests")
                .hint("name the manifest without --from: `unisono sum --check FILE`"));
        }
        if !self.check.check && self.paths.iter().any(|path| path.as_os_str() == "-") {
            return Err(Failure::usage("`-` is no file to digest")
                .hint("`--from -` reads names from standard input; to digest the data itself, use sha256sum"));
        }
        if self.check.check && self.algorithm.len() > 1 {
            return Err(Failure::usage(
                "--check takes one algorithm at most, for digests that do not say what they are",
            ));
        }
        let is_text = self.listing.format == ListingFormat::Check;
        if self.algorithm.len() > 1 && is_text && !self.listing.tag {
            return Err(
                Failure::usage("lines of several algorithms must name them").hint("add --tag or --format jsonl")
            );
        }
        Ok(())
    }

    /// What is read must not be what is written. Standard output may be among files to digest, as with sha256sum.
    pub fn refuse_own_input(&self) -> Result<(), Failure> {
        let mut reads: Vec<Named> = self.from.iter().map(|path| Named::input("--from", path)).collect();
        let what = if self.check.check { "the manifest" } else { "the file" };
        let paths = self.paths.iter().map(|path| Named::input(what, path));
        let Some(out) = &self.output.out else {
            reads.extend(paths.filter(|_| self.check.check));
            return Ok(refuse_same(&reads, &[Named::output()])?);
        };
        reads.extend(paths);
        let is_text = self.listing.format == ListingFormat::Check && !self.check.check;
        let mut writes = Named::results("--out", out);
        if is_text {
            writes.truncate(1);
            writes.extend(Named::results("the results of --out", &results_of(out)));
        }
        Ok(refuse_same(&reads, &writes)?)
    }

    /// How a text manifest is written; `None` when there is none.
    pub fn way(&self) -> Result<Option<Way>, Failure> {
        let is_text = self.listing.format == ListingFormat::Check && !self.check.check;
        let Some(path) = self.output.out.as_ref().filter(|_| is_text) else { return Ok(None) };
        let way = way_to_write(path)
            .map_err(|error| Failure::usage(format!("cannot write `{}`: {error}", path.display())))?;
        let goes_on = self.output.resume || self.output.retry_failed || self.output.retry_ambiguous;
        if way == Way::Stream && goes_on {
            return Err(Failure::usage(format!(
                "`{}` is no regular file, so nothing is kept beside it",
                path.display()
            ))
            .hint("leave --resume out, or name a file"));
        }
        Ok(Some(way))
    }

    pub fn rows(&self) -> Result<(mpsc::Receiver<RowBatch<FileCall>>, Option<Manifests>), Failure> {
        let options = self.walk.options(self.output.out.is_some());
        if self.check.check {
            let options = VerifyOptions {
                algorithm: self.algorithm.first().copied(),
                zero: self.listing.zero,
                ignore_missing: self.check.ignore_missing,
                extra: self.check.extra.clone(),
                walk: options,
                outputs: self.written(),
            };
            let (rows, manifests) = verify_rows(&self.paths, options)?;
            return Ok((rows, Some(manifests)));
        }
        let algorithms: Arc<[Algorithm]> = match self.algorithm.is_empty() {
            true => Arc::new([Algorithm::Sha256]),
            false => self.algorithm.clone().into(),
        };
        let mut roots = self.paths.clone();
        if !self.listing.unordered {
            roots.sort();
        }
        let list = self.from.as_deref().map(|path| (path, if self.null { 0 } else { b'\n' }));
        Ok((tree_rows(roots, list, options, algorithms, self.written())?, None))
    }

    /// What this run writes, which is no part of what it digests: where its output goes, by whatever way.
    pub fn written(&self) -> Outputs {
        let mut outputs = Outputs::default();
        if let Some(path) = &self.output.out {
            let add = if self.check.check { Outputs::add_results } else { Outputs::add_manifest };
            add(&mut outputs, path);
            outputs.add_results(path);
        }
        for standard in ["/proc/self/fd/1", "/proc/self/fd/2"] {
            // What is no file has no path, and is in no tree.
            if let Ok(path) = std::fs::read_link(standard)
                && path.is_absolute()
            {
                outputs.add_file(&path);
            }
        }
        outputs
    }

    /// Where results are kept, and the manifest that is made of them.
    pub fn outputs(&self, way: Option<Way>) -> Result<(Destination, Option<ManifestOut>), Failure> {
        let open = Open { identity: Identity::Content, ..Open::default() };
        match (&self.output.out, way) {
            // Its lines are written as they come, and nothing is kept beside it.
            (Some(_), Some(Way::Stream)) => Ok((Destination::Nothing, None)),
            (Some(path), Some(Way::Replaced)) => {
                let fail = |error| Failure::usage(format!("cannot write `{}`: {error}", path.display()));
                // Beside what a link leads to, so that there is one list of what has been done, whatever its name.
                let results = results_of(&resolved(path).map_err(fail)?);
                let manifest =
                    ManifestOut { path: path.clone(), results: results.clone(), layout: self.listing.layout() };
                refuse_to_replace(path, &results, &self.output)?;
                Ok((self.output.output_to(&results, open), Some(manifest)))
            }
            (Some(path), None) => Ok((self.output.output_to(path, open), None)),
            (None, _) if self.listing.format == ListingFormat::Jsonl => Ok((self.output.output(open)?, None)),
            (None, _) => Ok((Destination::Nothing, None)),
        }
    }
}

/// A manifest that is there is replaced only if it is ours to replace.
fn refuse_to_replace(path: &Path, results: &Path, output: &OutputArgs) -> Result<(), Failure> {
    let is_ours = results.exists()
        && (output.resume || output.retry_failed || output.retry_ambiguous || output.adopt || output.rebind);
    if is_ours || output.overwrite || !path.exists() {
        return Ok(());
    }
    Err(Failure::usage(format!("`{}` is there already", path.display()))
        .hint("--resume goes on with a list of ours, --overwrite replaces it"))
}

impl WalkArgs {
    pub fn options(&self, with_stat: bool) -> WalkOptions {
        WalkOptions {
            globs: self.glob.clone(),
            excludes: self.exclude.clone(),
            hidden: if self.hidden == YesNo::Yes { Hidden::Include } else { Hidden::Skip },
            ignore_files: self.ignore_files,
            max_depth: self.max_depth,
            follow: self.follow,
            one_file_system: self.one_file_system,
            min_size: self.min_size,
            max_size: self.max_size,
            with_stat,
        }
    }
}

impl ListingArgs {
    pub fn layout(&self) -> Layout {
        Layout { tag: self.tag, zero: self.zero }
    }
}

impl SumLimitArgs {
    pub fn settings(&self) -> Settings {
        let mut limits = Limits::new(Some(self.limit.unwrap_or(sum_settings().limits.limit)), None);
        limits.rate = self.rate;
        let times = times(Span(None), self.deadline, self.stop_after, self.grace);
        let retry = RetryPolicy { repeats: self.retries, ..RetryPolicy::default() };
        Settings { limits, times, retry, ordered_by_key: false }
    }

    pub fn kernel(&self) -> Result<Kernel, Failure> {
        match self.kernel {
            None => Ok(Kernel::best()),
            Some(kernel) if kernel.is_available() => Ok(kernel),
            Some(kernel) => Err(Failure::usage(format!("this processor has no {kernel}"))),
        }
    }
}
