//! A results file with any bytes in it: it is resumed or refused, and what is kept of it is what was there. One that
//! was cut off anywhere, as by a kill, has all that was whole.

use std::{collections::HashSet, fs, path::Path};

use unisono_core::{Effect, OutcomeKind};
use unisono_journal::{
    Fields, Finish, Head, Identity, Journal, Mode, Next, Open, Record, Recovered, RowKey, respelled, scan,
};

pub(crate) fn body(bytes: &[u8]) {
    was_cut_off(bytes);
    let read = Recovered::of_bytes(bytes, Mode::Resume, Identity::Row).map(|recovered| recovered.counts().total());
    // Files are dear: a few system calls each, and syncs. What can be known without, decides before.
    let Ok(kept) = read else {
        // Most inputs are refused, all in the same few ways.
        if bytes.len().is_multiple_of(8) {
            is_left_alone(bytes);
        }
        return;
    };
    kept_what_is_there(bytes, kept);
    with_file(bytes, |path| {
        // One that is open and has no notes beside it is refused; a user who knows better may take it.
        let open = Open { mode: Mode::Resume, adopt: true, ..Open::default() };
        let (journal, recovered) = Journal::open(path, open).expect("what is read in memory is read from a file");
        // Whether a row was tried again after a line that allows it is not known without the notes.
        let values: Vec<_> = bytes.split(|byte| *byte == b'\n').flat_map(values).collect();
        let in_doubt = values
            .iter()
            .filter_map(|value| scan(value))
            .filter(|head| !head.repeatable && head.effect == Effect::None)
            .count() as u64;
        let total = recovered.counts().total();
        assert!(total <= kept && total + in_doubt >= kept, "{total} of {kept}, {in_doubt} in doubt");
        drop(journal.close_blocking(Finish::default()));
        let left = fs::read(path).expect("it is still there");
        // Where it is not known whether something was started, the file without an outcome stays open.
        let is_begun = left.starts_with(b"{\"run\":\"") && left.ends_with(b"\",\"open\":1,");
        assert!(left.is_empty() || left.ends_with(b"\n") || is_begun && kept == 0, "no line is left half");
        let again = Recovered::of_bytes(&left, Mode::Resume, Identity::Row).expect("what we left is read again");
        // A torn line puts in doubt what has an older one. That stays, and the doubt is in the run file.
        let (is_torn, total) = (!bytes.ends_with(b"\n"), again.counts().total());
        assert!(total == kept || is_torn && total == kept + 1, "and nothing is lost of it: {total} of {kept}");
    });
}

/// Each line whose row does not run again is kept, but for the last if it was torn; and no row is there twice.
fn kept_what_is_there(bytes: &[u8], kept: u64) {
    let (mut lines, mut keys) = (0, HashSet::new());
    let values: Vec<_> = bytes.split(|byte| *byte == b'\n').flat_map(values).collect();
    let heads: Vec<_> = values.iter().filter_map(|value| scan(value)).collect();
    let is_torn = !bytes.is_empty() && !bytes.ends_with(b"\n");
    // What had not gone well may have been tried again: then the later line counts.
    let is_replaced = |(at, head): &(usize, &Head<'_>)| {
        !matches!(head.outcome, OutcomeKind::Ok | OutcomeKind::Skipped)
            && heads[at + 1..].iter().any(|other| other.key == head.key)
    };
    let counting = heads.iter().enumerate().filter(|line| !is_replaced(line)).map(|(_, head)| head);
    for head in counting.filter(|head| !Mode::Resume.repeats(head)) {
        lines += 1;
        let is_new = keys.insert(head.key);
        assert!(is_new || is_torn || head.key.page > 0, "{:?} has two outcomes", head.key);
    }
    assert!(kept == lines || kept + 1 == lines && is_torn, "{kept} outcomes in {lines} lines");
}

/// The values in a line, as we spell them: one, unless the shape of the file was changed. What is no JSON,
/// which is text, comes last, as it is.
fn values(line: &[u8]) -> Vec<Vec<u8>> {
    let (mut values, mut rest) = (Vec::new(), line.trim_ascii());
    while !rest.is_empty() {
        let mut found = serde_json::Deserializer::from_slice(rest).into_iter::<serde::de::IgnoredAny>();
        let is_value = matches!(found.next(), Some(Ok(_))) && std::str::from_utf8(&rest[..found.byte_offset()]).is_ok();
        let end = if is_value { found.byte_offset() } else { rest.len() };
        let value = &rest[..end];
        let text = std::str::from_utf8(value).ok().filter(|_| scan(value).is_none());
        values.push(text.and_then(respelled).unwrap_or_else(|| value.to_vec()));
        rest = rest[end..].trim_ascii();
    }
    values
}

fn is_left_alone(bytes: &[u8]) {
    with_file(bytes, |path| {
        let open = Open { mode: Mode::Resume, ..Open::default() };
        let error = Journal::open(path, open).expect_err("what is refused in memory is refused as a file");
        assert!(!error.to_string().is_empty());
        assert_eq!(fs::read(path).expect("it is still there"), bytes, "what is refused is left as it is");
    });
}

fn with_file(bytes: &[u8], check: impl FnOnce(&Path)) {
    // In memory where that is to be had: each run syncs its files a few times.
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = tempfile::tempdir_in(parent).expect("a folder for temporary files");
    let path = folder.path().join("r.jsonl");
    fs::write(&path, bytes).expect("the folder takes a file");
    check(&path);
}

/// Rows made of these bytes, cut off at a place of their choice.
fn was_cut_off(bytes: &[u8]) {
    let Some(([low, high], bytes)) = bytes.split_first_chunk() else { return };
    let (mut file, mut ends) = (Vec::new(), Vec::new());
    for (row, text) in (0..).zip(bytes.chunks(24).take(16)) {
        let mut fields = Fields::default();
        fields.members().bytes("value", text);
        file.extend(line(row, &String::from_utf8_lossy(text), &fields));
        ends.push(file.len());
    }
    let cut = usize::from(u16::from_le_bytes([*low, *high])) % (file.len() + 1);
    // The last may lack nothing but its line feed.
    let whole = ends.iter().filter(|end| **end <= cut + 1).count() as u64;
    for identity in [Identity::Row, Identity::Content] {
        let recovered =
            Recovered::of_bytes(&file[..cut], Mode::Resume, identity).expect("a kill leaves what can be read");
        assert_eq!(recovered.counts().total(), whole, "cut at {cut} of {}", file.len());
    }
    // No row has two outcomes, wherever the second stands.
    if let [first, .., last] = *ends.as_slice() {
        let twice = [&file[..], if low % 2 == 0 { &file[..first] } else { &file[ends[ends.len() - 2]..last] }].concat();
        assert!(Recovered::of_bytes(&twice, Mode::Resume, Identity::Row).is_err(), "a row is there twice");
    }
    // What is missing further in is no kill's doing.
    if let [.., _, end, _] = *ends.as_slice() {
        file.remove(end - 2);
        assert!(Recovered::of_bytes(&file, Mode::Resume, Identity::Row).is_err(), "a line lacks its brace");
    }
}

fn line(row: u64, id: &str, fields: &Fields) -> Vec<u8> {
    let record = Record {
        key: RowKey { row, page: 0 },
        id,
        fingerprint: row,
        outcome: OutcomeKind::Ok,
        effect: Effect::Done,
        repeatable: false,
        idempotency_key: None,
        next: Next::Unknown,
        begun_to: 0,
        fields,
        body: &Fields::default(),
    };
    record.line()
}
