//! What the lines of an earlier run say beside what resume asks of them: which files they have saved, and which rows
//! that stay did not end well.
//!
//! It is taken in while the results file is opened, line by line.

use std::{collections::HashMap, ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use unisono_journal::{Fate, Head, Identity, RerunMode, RowKey, unescape};

/// What was read of the lines of earlier runs.
#[derive(Debug, Default)]
pub(crate) struct Earlier {
    pub(super) saved: Vec<SavedLine>,
    /// Of the lines of a row, or of a content, that stay and are not `ok`: what they take to run again.
    unwell: HashMap<u64, Vec<RerunMode>>,
    identity: Identity,
}

/// What rows have saved that run again, by what their lines are the lines of.
pub(crate) type SavedBefore = HashMap<RowKey, Vec<(usize, PathBuf)>>;

#[derive(Debug)]
pub(super) struct SavedLine {
    pub(super) key: RowKey,
    pub(super) fingerprint: u64,
    pub(super) id: Box<str>,
    /// Each with its place among the names that the row asked for.
    pub(super) names: Vec<(usize, PathBuf)>,
    pub(super) fate: Fate,
}

#[derive(Deserialize)]
struct SavedMembers {
    saved: Option<String>,
    saved_base64: Option<String>,
    saved_stderr: Option<String>,
    saved_stderr_base64: Option<String>,
}

impl Earlier {
    pub(crate) fn new(identity: Identity) -> Self {
        Self { identity, ..Self::default() }
    }

    /// What the next row like this that is kept takes to run again, if it did not end well.
    pub(crate) fn take_unwell(&mut self, row: u64, fingerprint: u64) -> Option<RerunMode> {
        if self.unwell.is_empty() {
            return None;
        }
        self.unwell.get_mut(&self.key(row, fingerprint))?.pop()
    }

    /// What the lines of rows that run again have saved, each with its place among the names that its row asked for.
    pub(crate) fn saved_before(&self) -> SavedBefore {
        let again = self.saved.iter().filter(|line| line.fate == Fate::RunsAgain);
        again.map(|line| (line.key, line.names.clone())).collect()
    }

    /// Takes in the next line of the results file that is being opened.
    pub(crate) fn take(&mut self, head: &Head<'_>, line: &[u8], fate: Fate) {
        if let Some(again) = RerunMode::of_line(head).filter(|_| fate == Fate::Stays) {
            self.unwell.entry(self.key(head.key.row, head.fingerprint)).or_default().push(again);
        }
        // Most lines have saved nothing, and theirs may be long.
        if memchr::memmem::find(line, b"\"saved").is_none() {
            return;
        }
        let Ok(members) = serde_json::from_slice::<SavedMembers>(line) else { return };
        let output = name(members.saved, members.saved_base64).map(|name| (0, name));
        let stderr = name(members.saved_stderr, members.saved_stderr_base64).map(|name| (1, name));
        let names: Vec<_> = output.into_iter().chain(stderr).collect();
        if !names.is_empty() {
            let id = unescape(head.id).unwrap_or_default().into();
            let (key, fingerprint) = (head.key, head.fingerprint);
            self.saved.push(SavedLine { key, fingerprint, id, names, fate });
        }
    }

    fn key(&self, row: u64, fingerprint: u64) -> u64 {
        match self.identity {
            Identity::Row | Identity::Id => row,
            Identity::Content => fingerprint,
        }
    }
}

fn name(text: Option<String>, coded: Option<String>) -> Option<PathBuf> {
    let bytes = match (text, coded) {
        (Some(text), _) => text.into_bytes(),
        (None, coded) => BASE64_STANDARD.decode(coded?).ok()?,
    };
    Some(OsString::from_vec(bytes).into())
}
