//! Lines of a results file: any bytes are a line or not, and whatever an outcome holds is read back, by us and by a
//! JSON parser.

use serde_json::Value;
use unisono_core::{Effect, OutcomeKind};
use unisono_journal::{Fields, Json, Next, Record, RowKey, scan, unescape};

pub(crate) fn body(bytes: &[u8]) {
    if let Some(head) = scan(bytes) {
        // Whatever stands for a name is text or is not; what is said of a line must not depend on what follows its
        // head.
        let _ = unescape(head.id);
        let mut longer = bytes[..bytes.len() - 1].to_vec();
        longer.extend_from_slice(b",\"more\":1}");
        let again = scan(&longer).expect("another member does not make it another line");
        assert_eq!((again.key, again.outcome, again.effect), (head.key, head.outcome, head.effect));
    }
    // An object with a member of this name is read as another value by serde_json's `Value`, by which we check below.
    if memchr::memmem::find(bytes, b"$serde_json::private::RawValue").is_some() {
        return;
    }
    let number = bytes.iter().fold(0, |number: u64, byte| number.rotate_left(7) ^ u64::from(*byte));
    let text = String::from_utf8_lossy(bytes);
    let (mut fields, mut body) = (Fields::default(), Fields::default());
    let mut members = fields.members();
    members.text("text", &text);
    members.bytes("bytes", bytes);
    members.number("number", number);
    members.object("object", |inner| inner.list(&text, |list| list.text(&text)));
    let json = Json::check(bytes).ok();
    if let Some(json) = json {
        body.members().json("json", json);
    }
    let record = Record {
        key: RowKey { row: number, page: u32::from(bytes.len() % 2 == 1) },
        id: &text,
        fingerprint: number,
        outcome: OutcomeKind::ALL[bytes.len() % 6],
        effect: Effect::ALL[bytes.len() % 3],
        repeatable: bytes.len().is_multiple_of(5),
        idempotency_key: bytes.len().is_multiple_of(7).then_some(&*text),
        next: Next::Page(&text),
        begun_to: 0,
        fields: &fields,
        body: &body,
    };
    let line = record.line();
    let inside = line.strip_suffix(b"\n").expect("a line ends with its line feed");
    assert!(!inside.contains(&b'\n') && !inside.contains(&b'\r'));
    if json.is_none() {
        let breaks = ['\u{85}', '\u{2028}', '\u{2029}'];
        let line = std::str::from_utf8(inside).expect("a line is text");
        assert!(!line.contains(breaks), "it is one line to whatever reads it");
    }
    let value: Value = serde_json::from_slice(inside).expect("a line is JSON whatever is in it");
    assert_eq!((value["id"].as_str(), value["text"].as_str()), (Some(&*text), Some(&*text)));
    if let Some(json) = json {
        let sent: Value = serde_json::from_str(json.as_str()).expect("what was looked through is JSON");
        assert_eq!(value["json"], sent, "what was sent is passed on");
    }
    let head = scan(inside).expect("what was written is scanned");
    assert_eq!((head.key, head.fingerprint, head.outcome), (record.key, number, record.outcome));
    assert_eq!((head.effect, head.repeatable), (record.effect, record.repeatable));
    assert_eq!(unescape(head.id).as_deref(), Some(&*text));
    assert_eq!(head.next.is_some(), record.key.page > 0);
}
