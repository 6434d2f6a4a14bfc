//! What proxies answer, to CONNECT and by SOCKS 5: taken or refused, and of what is taken not one byte more or less
//! than the answer has; what comes behind it is another's.

use unisono_net::{read_connect_answer, read_socks_answers};

pub(crate) fn body(bytes: &[u8]) {
    let (answer, taken) = read_connect_answer(bytes);
    assert!(taken <= bytes.len());
    match answer {
        Err(why) => assert!(!why.chars().any(char::is_control), "{why:?} reaches a terminal"),
        Ok(status) => {
            assert!((200..1000).contains(&status) || status == 101);
            let head = &bytes[..taken];
            assert!(head.ends_with(b"\n\n") || head.ends_with(b"\n\r\n"), "an answer ends with an empty line");
            assert_eq!(read_connect_answer(head), (Ok(status), taken), "and with nothing else");
        }
    }
    // Any bytes as a reason, and behind the answer.
    let status = 200 + bytes.iter().fold(0, |sum, byte| sum ^ u16::from(*byte)) * 3;
    let reason: Vec<u8> = bytes.iter().copied().filter(|byte| *byte != b'\n').take(1000).collect();
    let rest: &[u8] = if bytes.len().is_multiple_of(2) { b"\r\nVia: x\r\n\r\n" } else { b"\nVia: x\n\n" };
    let head = [format!("HTTP/1.1 {status} ").as_bytes(), &reason, rest].concat();
    let (answer, taken) = read_connect_answer(&[&head, bytes].concat());
    assert_eq!((answer, taken), (Ok(status), head.len()));

    for with_password in [false, true] {
        let (answer, taken) = read_socks_answers(bytes, with_password);
        assert!(taken <= bytes.len());
        if answer.is_ok() {
            let after = if with_password && bytes[1] == 2 { &bytes[4..] } else { &bytes[2..] };
            let address = match after[3] {
                1 => 4,
                3 => 1 + usize::from(after[4]),
                _ => 16,
            };
            assert_eq!(taken, bytes.len() - after.len() + 4 + address + 2, "an address and a port end it");
        }
    }
}
