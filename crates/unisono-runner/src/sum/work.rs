//! How a file is tried: it is digested, or compared with what a manifest says.

use unisono_batch::{Attempt, Context, Halt, Verdict};
use unisono_core::{ErrorKind, OutcomeKind, error_chain};
use unisono_files::{DigestRequest, Digested, Error as FileError, Files, Known};
use unisono_hash::Digest;

use super::call::{Bare, DigestResult, Expected, FileCall, FileTask};
use crate::{
    halt::halted,
    work::{Done, Item, Work},
};

pub(crate) struct SumWork {
    pub(crate) files: Files,
}

type FileAttempt = Attempt<Item<FileCall>, DigestResult>;

impl Work for SumWork {
    type Call = FileCall;

    async fn attempt(&self, item: &Item<FileCall>, context: &Context) -> FileAttempt {
        let call = &item.call;
        let known = match &call.task {
            FileTask::Skip(special) => return ended(OutcomeKind::Skipped, DigestResult::skipped(*special)),
            FileTask::Fail(error) => {
                return ended(
                    OutcomeKind::Failed,
                    DigestResult { error: Some(error.clone()), ..DigestResult::default() },
                );
            }
            FileTask::Digest { known } => *known,
            FileTask::Verify(expected) => return self.verify(call, expected, context).await,
        };
        let request = DigestRequest { path: call.path.clone(), algorithms: call.algorithms.clone(), known };
        match self.files.digest(request, context).await {
            Ok(digested) => ended(OutcomeKind::Ok, read(digested)),
            // It has become one since it was found.
            Err(error) => match error.as_special() {
                Some(special) => ended(OutcomeKind::Skipped, DigestResult::skipped(special)),
                None => failed(&error),
            },
        }
    }

    async fn background(&self) {
        self.files.deliver().await
    }

    fn halted(&self, _item: &Item<FileCall>, halt: Halt, _last: Option<DigestResult>) -> (Verdict, DigestResult) {
        // A file that was read is as it was.
        halted(&halt, true)
    }
}

impl SumWork {
    async fn verify(&self, call: &FileCall, expected: &Expected, context: &Context) -> FileAttempt {
        let mut tries = expected.bare.map_or(Vec::new(), |bare| expected.tally.order(bare.likely, bare.other).to_vec());
        let mut digests = expected.digests.clone();
        loop {
            if let Some(bare) = (!tries.is_empty()).then(|| tries.remove(0)) {
                digests = vec![bare];
            }
            let algorithms = digests.iter().map(|digest| digest.algorithm()).collect();
            let request = DigestRequest { path: call.path.clone(), algorithms, known: Known::Nothing };
            let digested = match self.files.digest(request, context).await {
                Ok(digested) => digested,
                Err(error) => return not_verified(&error, expected),
            };
            if expected.may_be_missing && !expected.was_there {
                // That there is one is what matters, so one that is counted for each try does no harm.
                expected.tally.count_present(true);
            }
            let fits = digested.digests == digests;
            match expected.bare {
                None => return compared(digested, &digests, expected.size),
                Some(Bare { likely, other }) if fits && expected.tally.accepts(likely, other, digests[0]) => {
                    return ended(OutcomeKind::Ok, read(digested));
                }
                Some(Bare { likely, other }) if tries.is_empty() => {
                    expected.tally.fits_neither(likely, other);
                    let (likely, other) = (likely.algorithm(), other.algorithm());
                    let why = match fits {
                        true => format!(
                            "it fits as {} alone, and other lines of its manifest do not",
                            digests[0].algorithm()
                        ),
                        false => format!("its {likely} is another one, and so is its {other}"),
                    };
                    return mismatch(digested, why);
                }
                Some(_) => {}
            }
        }
    }
}

fn ended(kind: OutcomeKind, hashed: DigestResult) -> FileAttempt {
    Attempt::new(Verdict::Final(kind), hashed)
}

fn read(Digested { digests, stat }: Digested) -> DigestResult {
    DigestResult { digests, stat: Some(stat), ..DigestResult::default() }
}

fn failed(error: &FileError) -> FileAttempt {
    let hashed = DigestResult::failed(error.kind(), error_chain(error));
    match error.is_retryable() {
        true => Attempt::new(Verdict::Retry { otherwise: OutcomeKind::Failed, not_before: None }, hashed),
        false => ended(OutcomeKind::Failed, hashed),
    }
}

fn not_verified(error: &FileError, expected: &Expected) -> FileAttempt {
    if error.kind() != ErrorKind::Missing || !expected.may_be_missing {
        return failed(error);
    }
    if expected.was_there {
        expected.tally.count_present(false);
    }
    ended(OutcomeKind::Skipped, DigestResult::failed(ErrorKind::Missing, error_chain(error)))
}

fn compared(digested: Digested, expected: &[Digest], size: Option<u64>) -> FileAttempt {
    let wrong = expected.iter().zip(&digested.digests).find(|(expected, found)| expected != found);
    match (wrong, size) {
        (Some((expected, _)), _) => mismatch(digested, format!("its {} is another one", expected.algorithm())),
        (None, Some(size)) if size != digested.stat.size => {
            let why = format!("it has {} bytes instead of {size}", digested.stat.size);
            mismatch(digested, why)
        }
        (None, _) => ended(OutcomeKind::Ok, read(digested)),
    }
}

fn mismatch(digested: Digested, why: String) -> FileAttempt {
    ended(OutcomeKind::Failed, DigestResult { error: Some(Box::new((ErrorKind::Mismatch, why))), ..read(digested) })
}
