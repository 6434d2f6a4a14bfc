//! Bodies that are not what they should be are kept without loss, and noted.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::Value;
use support::frame;
use unisono_core::CancelToken;
use unisono_runner::{
    Defaults, Destination, FetchPlan, Gauge, Input, Monitor, Open, Settings, Template, fetch,
    http_client::ClientOptions,
};
use unisono_testkit::{Server, answer};

mod support;

async fn lines(bodies: &'static [&'static [u8]]) -> Vec<Value> {
    let server = Server::answering(|seen| {
        let number: usize = seen.target.trim_start_matches('/').parse().unwrap();
        answer(200, &["Content-Type: application/json"], bodies[number])
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.jsonl");
    let address = Template::address(&server.url(&format!("/{{0..{}}}", bodies.len() - 1))).unwrap();
    let makers = vec![Defaults { address: Some(address), ..Defaults::default() }];
    let plan = FetchPlan {
        frame: frame(
            Input::arguments(makers).start().unwrap(),
            Settings::default(),
            Destination::File { path: path.clone(), open: Open::default() },
        ),
        http: ClientOptions::default(),
        remote: None,
        select: None,
        paginate: None,
        evaluator: None,
        idempotency_keys: false,
        saving: None,
    };
    let report = fetch(plan, CancelToken::new(), Monitor::new(), Gauge::default()).await.unwrap();
    assert_eq!(report.exit_code(), 0, "HTTP went well: {report:?}");
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn a_body_that_is_not_json_is_noted_and_kept_without_loss() {
    const BODIES: &[&[u8]] =
        &[b"<html>no</html>", b"\xff\xfe\x00", b"\xef\xbb\xbf{\"a\":1}", b"[NaN]", b"{\"a\":1,\"a\":2}", b""];
    let lines = lines(BODIES).await;
    for (line, body) in lines.iter().zip(BODIES) {
        assert_eq!(line["outcome"], "ok");
        let kept = match (&line["body"], line["body_base64"].as_str()) {
            (_, Some(coded)) => BASE64_STANDARD.decode(coded).unwrap(),
            (Value::String(text), None) => text.clone().into_bytes(),
            (Value::Null, None) => Vec::new(),
            (json, None) => {
                // A byte order mark is no part of the JSON; of two members of one name a reader takes the last.
                assert_eq!(json["a"], if body.starts_with(b"\xef\xbb\xbf") { 1 } else { 2 });
                continue;
            }
        };
        assert_eq!(kept, *body);
        assert_eq!(line["json_error"].is_string(), !body.is_empty(), "{line}");
    }
}
