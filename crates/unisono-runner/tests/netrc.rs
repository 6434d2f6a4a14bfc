//! A netrc file is read as the curl of this machine reads it.
//!
//! Left out is where versions of curl differ: a `#` that begins a value, and parts of different entries, which they put
//! together until that was found to give away passwords.

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    process::Command,
    thread,
};

use unisono_http::basic_authorization;
use unisono_runner::Netrc;

/// What curl sends for this file, to a server of ours: the value of `Authorization`.
fn of_curl(text: &str, user: &str) -> Option<String> {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
        let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        head.iter().find_map(|line| line.strip_prefix("Authorization: ").map(str::to_owned))
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("netrc");
    std::fs::write(&file, text).unwrap();
    // Without a configuration or proxy of this machine.
    let status = Command::new("curl")
        .args(["-q", "--silent", "--noproxy", "*", "--netrc-file"])
        .arg(file)
        .arg(format!("http://{user}{address}/"))
        .status()
        .unwrap();
    assert!(status.success(), "{text:?}");
    server.join().unwrap()
}

#[test]
fn a_netrc_file_means_what_it_means_to_curl() {
    if Command::new("curl").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "there is no curl to compare with");
        eprintln!("skipped: there is no curl to compare with");
        return;
    }
    for (text, user) in [
        ("machine 127.0.0.1 login me password pw", ""),
        ("machine 127.0.0.1 login me password pw#x # c", ""),
        ("machine 127.0.0.1 login me password \"#hash\"", ""),
        ("machine 127.0.0.1 login me # password pw\npassword q", ""),
        ("# machine 127.0.0.1 login a password b\nmachine 127.0.0.1 login me password pw", ""),
        ("machine 127.0.0.1 login \"m e\" password \"p\\\"w\\\\\\n\\t\"", ""),
        ("machine 127.0.0.1 login me password p\"w\"", ""),
        ("machine 127.0.0.1 login me password p\\\"w\\\\", ""),
        ("machine 127.0.0.1 login me password \"p\" password q", ""),
        ("macdef init\nmachine 127.0.0.1 login bad password bad\n\nmachine 127.0.0.1 login me password pw", ""),
        (
            "machine x login y password z macdef init\nmachine 127.0.0.1 login bad password bad\n\nmachine 127.0.0.1 login me password pw",
            "",
        ),
        ("macdef init\nfoo\n \nmachine 127.0.0.1 login me password pw\n\nmachine 127.0.0.1 login b password c", ""),
        ("machine x\nlogin a\npassword b\nmachine\n127.0.0.1\nlogin\nme\npassword\npw", ""),
        ("default login d password e", ""),
        ("default login d password e\nmachine 127.0.0.1 login me password pw", ""),
        ("machine 127.0.0.1 login me password pw\ndefault login d password e", ""),
        ("machine 127.0.0.1 login me\ndefault login d password e", ""),
        ("machine 127.0.0.1 password pw", ""),
        ("machine 127.0.0.1 login me", ""),
        ("machine 127.0.0.1", ""),
        ("machine other login me password pw", ""),
        ("machine 127.0.0.1 login me\nmachine 127.0.0.1 login you password pw", ""),
        ("machine 127.0.0.1 account acc login me password pw", ""),
        ("MACHINE 127.0.0.1 LOGIN me PASSWORD pw", ""),
        ("machine 127.0.0.1 login me password pw login you password pw2", ""),
        ("machine 127.0.0.1 login me login you password pw2", ""),
        ("machine 127.0.0.1 password pw login me", ""),
        ("machine 127.0.0.1 login me password \"\"", ""),
        ("machine 127.0.0.1 login \"\" password pw", ""),
        ("machine 127.0.0.1 login machine password pw", ""),
        ("machine 127.0.0.1 login login password password", ""),
        ("\r\nmachine 127.0.0.1 login me password pw\r\n", ""),
        ("machine 127.0.0.1 login me password p\u{e9}", ""),
        ("machine 127.0.0.1 login me password pw", "me@"),
        ("machine 127.0.0.1 login you password no\nmachine 127.0.0.1 login me password pw", "me@"),
    ] {
        let user_name = user.strip_suffix('@');
        let ours = Netrc::parse(text).unwrap().get("127.0.0.1", user_name);
        let ours = ours.map(|(name, password)| basic_authorization(&name, &password).to_str().unwrap().to_owned());
        assert_eq!(ours, of_curl(text, user), "{text:?} {user}");
    }
}
