//! Lines of a results file: any bytes are a line or not, and text that was escaped reads back, by us and by a JSON parser.

use unisono_journal::{push_json_string, scan, unescape};

pub(crate) fn body(bytes: &[u8]) {
    if let Some(head) = scan(bytes) {
        // Whatever stands for a name is text or is not; what is said of a line must not depend on what follows its head.
        let _ = unescape(head.id);
        let mut longer = bytes[..bytes.len() - 1].to_vec();
        longer.extend_from_slice(b",\"more\":1}");
        let again = scan(&longer).expect("another member does not make it another line");
        assert_eq!((again.key, again.outcome, again.effect), (head.key, head.outcome, head.effect));
    }
    let text = String::from_utf8_lossy(bytes);
    let mut written = Vec::new();
    push_json_string(&text, &mut written);
    let read: String = serde_json::from_slice(&written).expect("what was escaped is JSON");
    assert_eq!(read, text);
    assert_eq!(unescape(&written[1..written.len() - 1]).as_deref(), Some(&*text));
}
