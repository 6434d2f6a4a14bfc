//! `Link` headers: read or refused; what is whole stays what it is, and what was quoted is one value.

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
    // Any bytes as the title of a link, and those before the first `>` as the target of another.
    let title: Vec<u8> = bytes
        .iter()
        .flat_map(|byte| if matches!(byte, b'"' | b'\\') { vec![b'\\', *byte] } else { vec![*byte] })
        .collect();
    let target = bytes.split(|byte| *byte == b'>').next().unwrap_or_default();
    let header = [b"</a>; title=\"".as_slice(), &title, b"\"; rel=\"last next\",<", target, b">;rel=next;"].concat();
    assert_eq!(next_targets(&header), (vec![b"/a".to_vec(), target.to_vec()], None));
}
