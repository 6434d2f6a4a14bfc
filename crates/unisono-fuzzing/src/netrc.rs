//! netrc files: read or refused, whatever is in them; and no password is shown.

use unisono_runner::Netrc;

pub(crate) fn body(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(netrc) = Netrc::parse(text) else { return };
    let _ = netrc.get("host", None);
    let secret = "hunter2-is-the-password";
    let text = format!("machine host login me password {secret}\n{text}");
    if let Ok(netrc) = Netrc::parse(&text) {
        assert!(!format!("{netrc:?}").contains(secret));
        let (_, password) = netrc.get("host", None).expect("it has an entry");
        assert_eq!(password.reveal(), secret, "the first entry counts");
    }
}
