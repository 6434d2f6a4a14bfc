//! Runs that the tests make, and what they find of them.

use std::{fs, path::Path, sync::LazyLock};

use tempfile::TempDir;
use unisono_core::{Effect, OutcomeKind};
use unisono_journal::{
    Closed, Disposition, Fields, Finish, Identity, Journal, Mode, Next, Open, Record, Recovered, Repeat, RowKey,
};

static URL: LazyLock<Fields> = LazyLock::new(|| {
    let mut fields = Fields::default();
    fields.members().text("url", "http://localhost/");
    fields
});
static BODY: LazyLock<Fields> = LazyLock::new(|| {
    let mut fields = Fields::default();
    fields.members().object("body", |body| body.list("a", |list| list.text("x")));
    fields
});
pub static RATE_LIMITED: LazyLock<Fields> = LazyLock::new(|| {
    let mut fields = Fields::default();
    fields.members().object("error", |error| error.text("kind", "rate_limited"));
    fields
});

pub fn record(row: u64, outcome: OutcomeKind) -> Record<'static> {
    Record {
        key: RowKey { row, page: 0 },
        id: "an id",
        fingerprint: fingerprint(row),
        outcome,
        effect: Effect::Maybe,
        repeatable: true,
        idempotency_key: None,
        next: Next::Unknown,
        begun_to: 0,
        fields: &URL,
        body: &BODY,
    }
}

pub fn interrupted(row: u64) -> Disposition {
    let otherwise = Box::new(Disposition::Run);
    Disposition::Interrupted {
        key: RowKey { row, page: 0 },
        repeat: Repeat::Never,
        found: None,
        later: Vec::new(),
        otherwise,
    }
}

pub fn fingerprint(row: u64) -> u64 {
    row.wrapping_mul(0x1234_5678_9abc_def1)
}

pub fn write(path: &Path, rows: impl IntoIterator<Item = u64>) -> Closed {
    let (journal, _) = Journal::open(path, Open { mode: Mode::Resume, ..Open::default() }).unwrap();
    for row in rows {
        journal.append(&record(row, OutcomeKind::Ok));
    }
    journal.close_blocking(Finish::default())
}

pub fn resume(path: &Path) -> Recovered {
    Journal::open(path, Open { mode: Mode::Resume, ..Open::default() }).unwrap().1
}

pub const RESUME: Open =
    Open { mode: Mode::Resume, overwrite: false, adopt: false, identity: Identity::Row, version: 1 };

pub fn names(folder: &TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}
