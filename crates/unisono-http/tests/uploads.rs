//! Bodies that are read as they are sent: files, and what comes in once.

mod support;

use std::{fs::File, io::Write, path::Path, sync::Arc};

use http::Method;
use support::*;
use unisono_core::{Effect, ErrorKind, OutcomeKind};
use unisono_http::{Body, BodyFeed, Part, Request};
use unisono_testkit::{Server, answer, h2};

fn put(url: impl AsRef<str>, body: Body) -> Request {
    let mut request = get(url);
    request.method = Method::PUT;
    request.body = body;
    request
}

/// A file of so many bytes, of which no two neighbours are alike.
fn file(folder: &Path, bytes: usize) -> std::path::PathBuf {
    let path = folder.join("file");
    let content: Vec<u8> = (0..bytes).map(|at| (at % 251) as u8).collect();
    File::create(&path).unwrap().write_all(&content).unwrap();
    path
}

/// A feed that has these pieces, and then ends so.
fn fed(pieces: Vec<&'static str>, end: Result<(), String>) -> Body {
    let feed = Arc::new(BodyFeed::new(None));
    let (ours, (sender, wanted)) = (feed.clone(), std::sync::mpsc::channel());
    feed.on_want(move || _ = sender.send(()));
    std::thread::spawn(move || {
        let mut pieces = pieces.into_iter();
        while wanted.recv().is_ok() {
            match pieces.next() {
                Some(piece) if ours.take_want() => ours.put(piece.into()),
                Some(_) => unreachable!("it was just wanted"),
                None => return ours.end(end),
            }
        }
    });
    Body::fed(feed)
}

#[tokio::test]
async fn a_file_is_sent_with_its_length_and_again_in_each_attempt_and_to_another_address() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), 300_000);
    let server = Server::answering(|seen| match seen.target.as_str() {
        "/there" => answer(200, &[], b""),
        _ => answer(307, &["Location: /there"], b""),
    })
    .await;
    let out = one(put(server.url("/"), Body::file(&path).unwrap())).await;
    assert!(out.is_ok(), "{}", out.message);
    let content = std::fs::read(&path).unwrap();
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    for one in seen {
        assert_eq!((one.header("content-length"), one.body == content), (Some("300000"), true), "{}", one.target);
    }
}

#[tokio::test]
async fn an_open_file_is_sent_from_where_it_stands_and_a_form_has_the_length_of_all_its_parts() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), 1000);
    let server = Server::answering(|_| answer(200, &[], b"")).await;
    let rest = Body::open_file(&path, File::open(&path).unwrap(), 400).unwrap();
    assert!(one(put(server.url("/"), rest)).await.is_ok());
    let part = |name: &str, content| Part { name: name.into(), file_name: None, content_type: None, content };
    let form = vec![part("a", "text".into()), part("f", Body::file(&path).unwrap()), part("e", Body::default())];
    assert!(one(put(server.url("/"), Body::multipart(form).unwrap())).await.is_ok());
    let (content, seen) = (std::fs::read(&path).unwrap(), server.seen());
    assert_eq!(seen[0].body, content[400..]);
    let boundary = seen[1].header("content-type").unwrap().split_once("boundary=").unwrap().1.to_owned();
    let head = |name: &str| format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
    let whole = [
        format!("{}text\r\n{}", head("a"), head("f")).into_bytes(),
        content,
        format!("\r\n{}\r\n--{boundary}--\r\n", head("e")).into_bytes(),
    ];
    assert_eq!(seen[1].body, whole.concat());
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_sent_is_no_body_that_a_server_takes_for_whole() {
    for change in [
        |file: &File| file.set_len(100),
        |file: &File| file.set_len(80 << 20),
        |file: &File| file.set_modified(std::time::SystemTime::UNIX_EPOCH),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sparse");
        // Longer than all buffers on the way.
        File::create(&path).unwrap().set_len(64 << 20).unwrap();
        let changing = path.clone();
        let server = Server::start(move |mut connection| {
            let path = changing.clone();
            async move {
                let head = connection.bytes(1000).await;
                assert!(head.is_some());
                change(&File::options().write(true).open(path).unwrap()).unwrap();
                let mut taken = 1000;
                while connection.bytes(1000).await.is_some() {
                    taken += 1000;
                }
                assert!(taken < 64 << 20);
            }
        })
        .await;
        let mut request = put(server.url("/"), Body::file(&path).unwrap());
        request.method = Method::POST;
        let out = one(request).await;
        assert_eq!((out.error, out.effect, out.attempts), (Some(ErrorKind::Changed), Effect::Maybe, 1), "{out:?}");
        assert!(out.message.contains("has changed since the request was made"), "{}", out.message);
    }
}

#[tokio::test]
async fn a_file_that_is_another_one_before_it_is_sent_is_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), 1000);
    let server = Server::answering(|_| answer(200, &[], b"")).await;
    let request = put(server.url("/"), Body::file(&path).unwrap());
    file(folder.path(), 999);
    assert_eq!(one(request).await.error, Some(ErrorKind::Changed));
    assert_eq!(server.seen().len(), 0);
    for (path, said) in [(folder.path().to_owned(), "it is a folder"), (folder.path().join("none"), "No such file")] {
        assert!(Body::file(&path).unwrap_err().chain().contains(said));
    }
}

#[tokio::test]
async fn an_answer_that_says_no_while_a_body_goes_out_is_read_and_ends_the_upload() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse");
    File::create(&path).unwrap().set_len(64 << 20).unwrap();
    let server = Server::start(|mut connection| async move {
        connection.bytes(1000).await;
        connection.send(answer(413, &[], b"too much")).await;
        let mut taken = 0;
        while connection.bytes(1000).await.is_some() {
            taken += 1000;
        }
        assert!(taken < 32 << 20);
    })
    .await;
    let out = one(put(server.url("/"), Body::file(&path).unwrap())).await;
    assert_eq!((out.status, &out.body[..], out.effect), (Some(413), &b"too much"[..], Effect::None), "{out:?}");
}

#[tokio::test]
async fn what_comes_in_once_is_sent_in_chunks_as_it_comes() {
    let server = Server::start(|mut connection| async move {
        let mut raw = Vec::new();
        while !raw.ends_with(b"0\r\n\r\n") {
            raw.extend(connection.bytes(1).await.unwrap());
        }
        let (head, body) = String::from_utf8(raw)
            .map(|raw| raw.split_once("\r\n\r\n").map(|(a, b)| (a.to_ascii_lowercase(), b.to_owned())))
            .unwrap()
            .unwrap();
        assert!(head.contains("transfer-encoding: chunked") && !head.contains("content-length"), "{head}");
        connection.send(answer(200, &[], body)).await;
    })
    .await;
    let out = one(put(server.url("/"), fed(vec!["one ", "two"], Ok(())))).await;
    assert_eq!(out.body, "4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n", "{out:?}");
}

#[tokio::test]
async fn what_comes_in_once_is_not_sent_again_once_it_was_begun() {
    // A PUT would be repeated if there were something to repeat it with.
    let closing = Server::start(|mut connection| async move { _ = connection.bytes(100).await }).await;
    let out = one(put(closing.url("/"), fed(vec!["one"], Ok(())))).await;
    assert_eq!((out.kind, out.effect, out.attempts), (OutcomeKind::Ambiguous, Effect::Maybe, 1), "{out:?}");
    for (status, header) in [(429, "Retry-After: 0"), (503, "Retry-After: 0"), (307, "Location: /there")] {
        let server = Server::start(move |mut connection| async move {
            let mut raw = Vec::new();
            while !raw.ends_with(b"0\r\n\r\n") {
                raw.extend(connection.bytes(1).await.expect("one request on each connection"));
            }
            connection.send(answer(status, &[header], b"")).await;
            connection.silence().await;
        })
        .await;
        let out = one(put(server.url("/"), fed(vec!["one"], Ok(())))).await;
        let expected = (OutcomeKind::Failed, Effect::None, 1, 1);
        assert_eq!((out.kind, out.effect, out.attempts, server.connections()), expected, "{out:?}");
    }
}

#[tokio::test]
async fn what_comes_in_once_is_not_begun_before_there_is_a_connection() {
    let feed = Arc::new(BodyFeed::new(None));
    let out = once(put("http://127.0.0.1:1/", Body::fed(feed.clone()))).await;
    assert_eq!((out.error, out.effect, feed.is_begun()), (Some(ErrorKind::Connect), Effect::None, false), "{out:?}");
}

#[tokio::test]
async fn a_body_that_cannot_be_brought_ends_with_that_cause_and_never_as_a_shorter_one() {
    let server = Server::start(|mut connection| async move {
        let mut raw = Vec::new();
        while let Some(byte) = connection.bytes(1).await {
            raw.extend(byte);
        }
        assert!(!raw.ends_with(b"0\r\n\r\n"));
    })
    .await;
    let out = one(put(server.url("/"), fed(vec!["one"], Err("ValueError: no two".to_owned())))).await;
    assert_eq!((out.error, out.effect, out.attempts), (Some(ErrorKind::Raised), Effect::Maybe, 1), "{out:?}");
    assert!(out.message.ends_with("could not be brought: ValueError: no two"), "{}", out.message);
}

/// Takes all that a stream brings, with room for more each time; answers with how much it was.
async fn counting_h2() -> Server {
    server_h2(&[], |mut connection| async move {
        let mut taken = 0u64;
        while let Some(frame) = h2::next(&mut connection).await {
            if frame.kind == h2::DATA {
                taken += frame.payload.len() as u64;
                let room = u32::try_from(frame.payload.len()).unwrap().to_be_bytes();
                if frame.flags & 1 == 0 {
                    for stream in [0, frame.stream] {
                        h2::send(&mut connection, 8, 0, stream, &room).await;
                    }
                }
                if frame.flags & 1 == 1 {
                    h2::answer(&mut connection, frame.stream, taken.to_string().as_bytes()).await;
                }
            }
        }
    })
    .await
}

#[tokio::test]
async fn over_http2_a_body_goes_out_as_fast_as_the_peer_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), 300_000);
    let server = counting_h2().await;
    let bodies = vec![
        put(server.url("/"), Body::file(&path).unwrap()),
        put(server.url("/"), fed(vec!["one ", "two"], Ok(()))),
        put(server.url("/"), fed(vec![], Ok(()))),
    ];
    let outs = run(bodies, http2(), settings()).await;
    let sent: Vec<&[u8]> = outs.iter().map(|out| &out.body[..]).collect();
    assert_eq!(sent, [&b"300000"[..], b"7", b"0"], "{outs:?}");
    let broken = put(server.url("/"), fed(vec!["one"], Err("gone".to_owned())));
    let out = run(vec![broken], http2(), settings()).await.remove(0);
    assert_eq!((out.error, out.effect), (Some(ErrorKind::Raised), Effect::Maybe), "{out:?}");
}
