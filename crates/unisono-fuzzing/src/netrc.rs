//! netrc files: read or refused, whatever is in them; what was quoted is read back, and no password is shown.

use unisono_runner::Netrc;

pub(crate) fn body(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let quoted: String = text.chars().map(escaped).collect();
    let netrc = Netrc::parse(&format!("machine host login me password \"{quoted}\" machine next login you"))
        .expect("a quoted word may be anything");
    let (name, password) = netrc.get("host", None).expect("it has an entry");
    assert_eq!((name.as_str(), password.reveal()), ("me", text));
    assert_eq!(netrc.get("next", None).expect("so has it").0, "you");

    let Ok(netrc) = Netrc::parse(text) else { return };
    for user in [None, Some("me")] {
        let _ = netrc.get("host", user);
    }
    let secret = "hunter2-is-the-password";
    let text = format!("machine host login me password {secret}\n{text}");
    if let Ok(netrc) = Netrc::parse(&text) {
        assert!(!format!("{netrc:?}").contains(secret));
        let (_, password) = netrc.get("host", None).expect("it has an entry");
        assert_eq!(password.reveal(), secret, "the first entry counts");
    }
}

fn escaped(c: char) -> String {
    match c {
        '\n' => "\\n".into(),
        '\r' => "\\r".into(),
        '"' | '\\' => format!("\\{c}"),
        c => c.into(),
    }
}
