//! The partitions that messages go to, topic by topic, through the front ends of
//! `barnabas serve`.

use crate::support::{PATIENCE, address, binary, curl, eventually, file, grpcurl, text};
use barnabas_testkit::{Gateway, Signal, shared, topic_name};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;

/// A gateway with HTTP, gRPC and Redis, whose cluster has these keys under
/// `produce`.
pub(crate) struct Started {
    pub(crate) gateway: Gateway,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

pub(crate) fn config(produce: &str, more: &str) -> String {
    format!(
        "clusters: {{default: {{properties: {{bootstrap.servers: '{}'}}, produce: \
         {produce}}}}}\nredis: {{listen: '127.0.0.1:0'}}\nhttp: {{listen: '127.0.0.1:0'}}\ngrpc: \
         {{listen: '127.0.0.1:0'}}\n{more}\n",
        shared().bootstrap_servers()
    )
}

pub(crate) fn start(produce: &str, more: &str) -> Started {
    let (folder, path) = file("barnabas.yaml", &config(produce, more));
    let gateway = Gateway::builder(binary())
        .args(["serve", "--config", text(&path)])
        .listeners(3)
        .spawn()
        .unwrap();
    Started {
        gateway,
        path,
        _folder: folder,
    }
}

fn topic(partitions: i32) -> String {
    let topic = topic_name("strategies");
    shared().create_topic(&topic, partitions).unwrap();
    topic
}

impl Started {
    /// Produces records as the native API reads them; their partitions.
    fn post(&self, topic: &str, records: &str) -> Vec<i64> {
        let url = format!(
            "http://{}/v1/topics/{topic}/records?as=records",
            address(&self.gateway, 1)
        );
        let (status, body) = curl(&["-H", "Content-Type: application/json", "-d", records, &url]);
        assert_eq!(status, 200, "{body}");
        let results: serde_json::Value = serde_json::from_str(&body).unwrap();
        let results = results.as_array().unwrap().iter();
        let partitions = results.map(|result| result["partition"].as_i64().unwrap());
        partitions.collect()
    }

    /// The partitions of so many records without a key, in one request.
    fn post_keyless(&self, topic: &str, count: usize) -> Vec<i64> {
        let records = vec![r#"{"value": "x"}"#; count].join(",");
        self.post(topic, &format!("[{records}]"))
    }

    /// The partitions of records with these keys, a request each.
    fn post_keys(&self, topic: &str, keys: &[&str]) -> Vec<i64> {
        let partitions = keys
            .iter()
            .flat_map(|key| self.post(topic, &format!(r#"[{{"key": "{key}", "value": "x"}}]"#)));
        partitions.collect()
    }

    /// Pushes the values "0", "1", … over one connection; the partition of each,
    /// as Kafka has them.
    fn push(&self, topic: &str, keys: &[&str]) -> Vec<i32> {
        let mut client = TcpStream::connect(address(&self.gateway, 0)).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        for (index, key) in keys.iter().enumerate() {
            let command = format!("RPUSHX topics:{topic}{key} {index}\r\n");
            client.write_all(command.as_bytes()).unwrap();
        }
        let mut replies = vec![0; keys.len() * 4];
        client.read_exact(&mut replies).unwrap();
        assert_eq!(replies, b":1\r\n".repeat(keys.len()));
        eventually("all of them are in Kafka", || {
            let records = shared().read_all(topic).unwrap();
            (records.len() == keys.len()).then(|| {
                let mut partitions = vec![-1; keys.len()];
                for record in records {
                    let index: usize = record.value_text().parse().unwrap();
                    partitions[index] = record.partition;
                }
                partitions
            })
        })
    }

    pub(crate) fn reload(&self, text: &str, line: &str) {
        std::fs::write(&self.path, text).unwrap();
        self.gateway.signal(Signal::Hangup).unwrap();
        self.hears(line);
    }

    pub(crate) fn hears(&self, line: &str) {
        let heard = self.gateway.wait_for_stderr(line, PATIENCE);
        heard.unwrap_or_else(|_| panic!("{line} is not in\n{}", self.gateway.stderr()));
    }
}

#[test]
fn each_strategy_has_its_sequence_over_http() {
    let [strict, sticky, hash, java, rdkafka, pixy, other] = [3, 3, 5, 4, 4, 4, 4].map(topic);
    let started = start(
        &format!(
            "{{strategy: {{{strict}: strict_round_robin, {sticky}: sticky_round_robin, {hash}: \
             custom, {java}: murmur2, {rdkafka}: crc32, {pixy}: fnv1a, default: random}}, \
             sticky_picks: {{{sticky}: 3, {java}: 2}}}}"
        ),
        "",
    );
    assert_eq!(started.post_keyless(&strict, 4), [0, 1, 2, 0]);
    // One connection after another, whatever the keys.
    assert_eq!(started.post_keys(&strict, &["a", "a", "a"]), [1, 2, 0]);
    // The request's own partition wins, and takes nobody's turn.
    let named = r#"[{"value": "x", "partition": 0}, {"value": "x"}, {"value": "x"}]"#;
    assert_eq!(started.post(&strict, named), [0, 1, 2]);

    assert_eq!(started.post_keyless(&sticky, 5), [0, 0, 0, 1, 1]);
    assert_eq!(started.post_keyless(&sticky, 5), [1, 2, 2, 2, 0]);

    let keys = ["user1", "user2", "user3", "hello", "topic"];
    assert_eq!(started.post_keys(&hash, &keys), [4, 0, 2, 3, 1]);
    assert_eq!(started.post_keyless(&hash, 6), [0, 1, 2, 3, 4, 0]);

    // Counted by Kafka's `Utils.murmur2`, zlib's crc32 and FNV-1a.
    assert_eq!(started.post_keys(&java, &keys), [2, 1, 3, 1, 2]);
    assert_eq!(started.post_keyless(&java, 5), [0, 0, 1, 1, 2]);
    assert_eq!(started.post_keys(&rdkafka, &keys), [1, 3, 1, 2, 3]);
    assert_eq!(started.post_keys(&pixy, &keys), [3, 0, 1, 3, 0]);

    // The default: anywhere, also what has one key.
    let mut partitions = started.post(
        &other,
        &format!("[{}]", vec![r#"{"value": "x", "key": "k"}"#; 200].join(",")),
    );
    partitions.sort_unstable();
    partitions.dedup();
    assert_eq!(partitions, [0, 1, 2, 3]);

    // The other API over gRPC takes the same turns.
    let produced = format!(r#"{{"topic": "{strict}", "message": "eA=="}}"#);
    let reply = grpcurl(&address(&started.gateway, 2), "Produce", &produced).unwrap();
    assert!(!reply.contains("partition"), "0 is not written: {reply}");
    assert_eq!(started.post_keyless(&strict, 1), [1]);
}

#[test]
fn each_strategy_has_its_sequence_over_redis() {
    let [strict, sticky, hash, other] = [3, 2, 5, 3].map(topic);
    let started = start(
        &format!(
            "{{strategy: {{{strict}: strict_round_robin, {sticky}: ordered_round_robin, {hash}: \
             custom}}, sticky_picks: 4, partitioner: roundrobin}}"
        ),
        "",
    );
    assert_eq!(started.push(&strict, &[""; 7]), [0, 1, 2, 0, 1, 2, 0]);
    let expected = [0, 0, 0, 0, 1, 1, 1, 1, 0];
    assert_eq!(started.push(&sticky, &[""; 9]), expected);
    let keys = [":user1", ":user2", "", ":user3", ":hello", ":topic", ""];
    assert_eq!(started.push(&hash, &keys), [4, 0, 0, 2, 3, 1, 1]);
    // Without a strategy: as the cluster's partitioner says.
    assert_eq!(started.push(&other, &[":k"; 4]), [0, 1, 2, 0]);
}

/// Also those that come before Kafka has told of the topic, in the journal, and
/// of a topic that is made by being produced to.
#[test]
fn the_journals_messages_take_their_turns() {
    let strict = topic(4);
    let journal = tempfile::tempdir().unwrap();
    let more = format!(
        "durability: journal\njournal: {{dir: '{}'}}\n",
        journal.path().display()
    );
    let started = start("{strategy: strict_round_robin}", &more);
    assert_eq!(started.push(&strict, &[""; 6]), [0, 1, 2, 3, 0, 1]);
}

#[test]
fn a_script_picks_and_refuses() {
    let (own, also) = (topic(4), topic(4));
    let script = |body: &str| format!("function pick(topic, key, value) {body} end\n");
    let body = "if key == 'bad' then return 'no ' .. key end
        if key and not value then return #key % #topic.partitions end";
    let (_folder, lua) = file("picker.lua", &script(body));
    let started = start(
        &format!(
            "{{strategy: {{{own}: custom, {also}: custom}}, picker: {{{own}: {}}}}}",
            text(&lua)
        ),
        "",
    );
    assert_eq!(
        started.post_keys(&own, &["a", "bb", "ccccc", "dddddd"]),
        [1, 2, 1, 2]
    );
    assert_eq!(started.post_keyless(&own, 5), [0, 1, 2, 3, 0]);
    // The built-in one of the strategy.
    assert_eq!(started.post_keyless(&also, 2), [0, 1]);
    let url = format!(
        "http://{}/v1/topics/{own}/records",
        address(&started.gateway, 1)
    );
    let (status, said) = curl(&["-H", "Kafka-Key: bad", "-d", "x", &url]);
    assert_eq!(status, 404, "{said}");
    assert!(said.contains("partition"), "{said}");
    started.hears("the partition picker refuses messages: no bad");

    // A script that has changed counts at once; the turns go on.
    std::fs::write(&lua, script("if key then return 3 end")).unwrap();
    started.hears("configuration reloaded: clusters.default.produce.picker");
    assert_eq!(started.post_keys(&own, &["a", "bad"]), [3, 3]);
    assert_eq!(started.post_keyless(&own, 2), [1, 2]);
}

#[test]
fn strategies_change_at_once() {
    let (first, second) = (topic(3), topic(3));
    let started = start(
        &format!("{{strategy: {{{first}: strict_round_robin}}}}"),
        "",
    );
    assert_eq!(started.post_keyless(&first, 2), [0, 1]);
    started.post_keyless(&second, 1);
    let changed = format!(
        "{{strategy: {{{first}: sticky_round_robin, {second}: strict_round_robin}}, sticky_picks: \
         2}}"
    );
    started.reload(
        &config(&changed, ""),
        "configuration reloaded: clusters.default.produce.strategy, \
         clusters.default.produce.sticky_picks",
    );
    assert_eq!(started.post_keyless(&first, 3), [2, 2, 0]);
    assert_eq!(started.post_keyless(&second, 4), [0, 1, 2, 0]);
    started.reload(
        &config("{strategy: ketama}", ""),
        "clusters.default.produce.strategy: \"ketama\" must be one of random",
    );
    assert_eq!(started.post_keyless(&first, 1), [0], "it stays as it was");
}

#[test]
fn strategies_begin_with_a_start() {
    let own = topic(3);
    let started = start("{partitioner: roundrobin}", "");
    let changed = format!("{{partitioner: roundrobin, strategy: {{{own}: random}}}}");
    started.reload(
        &config(&changed, ""),
        "needs a restart: clusters.default.produce.strategy (to begin with strategies)",
    );
    assert_eq!(started.post_keyless(&own, 4), [0, 1, 2, 0]);
}
