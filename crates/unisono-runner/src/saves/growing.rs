//! A body on its way that may break off: what has come of it is gone on with, by the next attempt of its row or by a
//! later run.
//!
//! Between two attempts a part without a name waits at its target. Once it is worth that, and its run has a results
//! file by which the next one knows it again, it has a name instead and a note of which version it is of (`part.rs`),
//! and whatever ends the attempt, the row or the process leaves it there. An attempt may end at any moment, also while
//! a thread writes for it; so all of this is done where a [`Growing`] is let go of.
//!
//! What cannot be gone on with is let go of for good: where nothing tells its version for certain, where the disk is
//! full, where the body is not wanted as it is.

use std::io;

use unisono_core::reactor::spawn_blocking;
use unisono_http::BodyVersion;

use super::{
    part::Part,
    paths::is_there,
    target::{Target, Waiting},
};

/// What has come of a body.
#[derive(Debug)]
pub(crate) struct Growing {
    target: Target,
    /// `None` as long as nothing has come.
    part: Option<Part>,
    /// `None` where it cannot be gone on with.
    version: Option<BodyVersion>,
}

impl Target {
    /// A body that begins to come.
    pub(crate) fn begin(&self, version: Option<BodyVersion>) -> Growing {
        Growing { target: self.clone(), part: None, version }
    }

    /// What an attempt before, or a run before, has left of a body, if it can be gone on with.
    pub(crate) async fn begun(&self) -> io::Result<Option<Growing>> {
        let waits = self.waiting().take();
        let found = match (waits, self.part_path().filter(|_| self.may_be_left())) {
            (Some(Waiting { part, version, .. }), _) => Some((part, version)),
            (None, Some(path)) if is_there(&path)? => spawn_blocking(move || Part::left(&path)).await?,
            (None, _) => None,
        };
        Ok(found.map(|(part, version)| Growing { target: self.clone(), part: Some(part), version: Some(version) }))
    }
}

impl Growing {
    /// Of which version it is; `None` where it cannot be gone on with.
    pub(crate) fn version(&self) -> Option<&BodyVersion> {
        self.version.as_ref()
    }

    /// How many bytes are there.
    pub(crate) fn length(&self) -> u64 {
        self.part.as_ref().map_or(0, |part| part.length)
    }

    /// Adds what came next, on a thread that may wait. Where that fails, it is not gone on with.
    pub(crate) async fn push(mut self, bytes: Vec<u8>) -> io::Result<Self> {
        let work = move || match self.add(&bytes) {
            Ok(()) => Ok(self),
            Err(error) => {
                self.forget();
                Err(error)
            }
        };
        spawn_blocking(work).await.flatten()
    }

    /// It is whole, and is to have its name.
    pub(crate) async fn whole(mut self) -> io::Result<Part> {
        match self.part.take() {
            Some(part) => Ok(part),
            None => {
                let target = self.target.clone();
                spawn_blocking(move || target.new_part()).await.flatten()
            }
        }
    }

    /// It is not gone on with.
    pub(crate) async fn discard(mut self) -> io::Result<()> {
        spawn_blocking(move || self.forget()).await
    }

    fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        let part = match &mut self.part {
            Some(part) => part,
            none => none.insert(self.target.new_part()?),
        };
        let before = part.length;
        part.push(bytes)?;
        let is_enough = (before..part.length).contains(&WORTH_NOTING_BYTES.saturating_sub(1));
        if let (Some(version), Some(path), true) = (&self.version, self.target.part_path(), is_enough)
            // Where it cannot be noted, a later run begins anew, and this one goes on as well as ever.
            && part.note(&path, version).is_ok()
        {
            self.target.is_left_now();
        }
        Ok(())
    }

    fn forget(&mut self) {
        self.version = None;
        self.part.iter_mut().for_each(Part::unnote);
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        let (Some(part), Some(version)) = (self.part.take(), self.version.take()) else { return };
        // One that is noted is found by its name, and no descriptor is held for it while its row waits.
        if part.length > 0
            && !part.is_noted()
            && let Some(place) = self.target.place_to_wait()
        {
            *self.target.waiting() = Some(Waiting { part, version, place });
        }
    }
}

/// What is shorter is asked for again by a later run, which takes less time than to note each of many small files.
const WORTH_NOTING_BYTES: u64 = 1 << 20;
