//! `Link` headers: read or refused, and what is read is read in one piece as in several headers.

use unisono_runner::next_targets;

pub(crate) fn body(bytes: &[u8]) {
    let (targets, wrong) = next_targets(bytes);
    assert!(targets.iter().all(|target| target.len() <= bytes.len()));
    if wrong.is_none() {
        // What is whole stays what it is when a link without our relation comes behind it.
        let mut longer = bytes.to_vec();
        longer.extend_from_slice(b", </other>; rel=prev");
        assert_eq!(next_targets(&longer), (targets, None));
    }
}
