//! What a body is taken for.

use super::{FORM, WELL, gateway, keyed, messages, plain, says, topic};

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_pairs_a_message_lines_or_elements() {
    let gateway = gateway();
    let topic = topic();
    let json = r#"{"a": "x=1&y=2"}"#;
    let mut expected = Vec::new();
    for (kind, query, body, found) in [
        (
            FORM,
            "",
            "hello=a&b+c=%C3%A9",
            vec![keyed("hello", "a"), keyed("b c", "é")],
        ),
        ("", "", "k=v", vec![keyed("k", "v")]),
        (FORM, "", json, vec![plain(json)]),
        ("", "", " [1, 2]", vec![plain(" [1, 2]")]),
        (FORM, "", "a=1&word", vec![plain("a=1&word")]),
        ("application/json", "", "a=1", vec![plain("a=1")]),
        ("text/plain; charset=utf-8", "", "a=1", vec![plain("a=1")]),
        (
            "application/x-ndjson",
            "",
            "1\r\n\n2\n",
            vec![plain("1"), plain("2")],
        ),
        (
            "application/json",
            "?split=array",
            r#"[{"a": 1}, "b"]"#,
            vec![plain(r#"{"a": 1}"#), plain(r#""b""#)],
        ),
    ] {
        let path = format!("/sync/{topic}{query}");
        let reply = gateway.post(&path, kind, body).await;
        let entries = vec![r#"{"ok":true}"#; found.len()].join(",");
        says(&reply, 200, &format!("[{entries}]"));
        expected.extend(found);
    }
    assert_eq!(messages(&topic, expected.len()).await, expected);

    // Any bytes.
    let path = format!("/async/{topic}");
    let reply = gateway.post(&path, "application/octet-stream", [0xff, 0, b'&']);
    says(&reply.await, 200, WELL);
    let reply = gateway.post(&format!("{path}?split=array"), "", "{}").await;
    assert_eq!(reply.status, 400);
    assert!(reply.text().contains("split=array"), "{}", reply.text());
    gateway.stop().await;
}
