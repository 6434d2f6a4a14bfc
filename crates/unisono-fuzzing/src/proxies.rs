//! What proxies answer, to CONNECT and by SOCKS 5: taken or refused, and no more bytes are taken than came.

use unisono_http::{read_connect_answer, read_socks_answers};

pub(crate) fn body(bytes: &[u8]) {
    let (answer, taken) = read_connect_answer(bytes);
    assert!(taken <= bytes.len());
    if let Err(why) = answer {
        assert!(!why.chars().any(char::is_control), "{why:?} reaches a terminal");
    }
    for with_password in [false, true] {
        let (answer, taken) = read_socks_answers(bytes, with_password);
        assert!(taken <= bytes.len());
        assert!(answer.is_err() || taken >= 2, "an answer of nothing");
    }
}
