//! A look at how much there is to do, beside the run.

use std::{
    path::PathBuf,
    sync::mpsc::{RecvTimeoutError, Sender, TryRecvError, channel},
    thread,
    time::Duration,
};

use unisono_runner::{
    Gauge,
    file_tools::{EntryKind, WalkOptions, walk},
};

use super::SumArgs;
use crate::args::ProgressMode;

/// A look at what there is to do, so that progress can tell how much is left. It costs a second walk, so it is taken
/// only when the run has gone on for a while.
pub struct Survey {
    pub roots: Vec<PathBuf>,
    pub options: WalkOptions,
}

impl Survey {
    /// What can be looked at beforehand: folders that are given, not lists or manifests.
    pub fn of(args: &SumArgs) -> Option<Self> {
        let shown = !args.show.is_quiet() && args.show.progress != ProgressMode::None;
        (shown && !args.check.check && args.from.is_none())
            .then(|| Self { roots: args.paths.clone(), options: args.walk.options(true) })
    }

    /// Looks from a thread of its own, until the answer is dropped.
    pub fn start(self, gauge: Gauge) -> Sender<()> {
        let (stop, stopped) = channel::<()>();
        let look = move || {
            if stopped.recv_timeout(WORTH_A_SURVEY) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let Ok(found) = walk(&self.roots, &self.options) else { return };
            let (mut files, mut bytes) = (0, 0);
            for one in found {
                files += 1;
                bytes += if let EntryKind::File(Some(stat)) = one.kind { stat.size } else { 0 };
                if stopped.try_recv() == Err(TryRecvError::Disconnected) {
                    return;
                }
            }
            gauge.set_expected(files, bytes);
        };
        // Without a thread it is not known how much is left; the run is not the worse for it.
        let _ = thread::Builder::new().name("unisono-survey".into()).spawn(look);
        stop
    }
}

/// A run that is over by then needs no progress.
const WORTH_A_SURVEY: Duration = Duration::from_secs(1);
