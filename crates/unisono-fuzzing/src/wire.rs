//! What comes from another machine of a cluster: read or refused.

use unisono_http::{decode_options, encode_options};

pub(crate) fn body(bytes: &[u8]) {
    if let Ok(options) = decode_options(bytes.to_vec().into()) {
        let again = encode_options(&options).expect("what was read can be written");
        let once_more = decode_options(again.clone().into()).expect("what was written reads back");
        assert_eq!(encode_options(&once_more).expect("as before"), again);
    }
}
