//! Topics and offsets.

use crate::support::{eventually, open};
use barnabas_engine::{Error, ErrorCode};
use barnabas_testkit::{shared, topic_name};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_described_and_deleted() {
    let admin = open(&shared().bootstrap_servers()).admin().unwrap();
    let name = topic_name("admin");
    admin.create_topic(&name, 3, 1).await.unwrap();
    let found = eventually("the topic", || {
        let topics = admin.topics(TIMEOUT).unwrap();
        assert!(topics.is_sorted_by_key(|topic| topic.name.clone()));
        topics.into_iter().find(|topic| topic.name == name)
    })
    .await;
    assert_eq!(found.partitions, [0, 1, 2]);

    let again = admin.create_topic(&name, 3, 1).await.unwrap_err();
    assert_eq!(again.to_string(), "Broker: Topic already exists");
    let Error::Kafka { error } = again else {
        panic!("{again:?}");
    };
    assert!(error.is(ErrorCode::TopicAlreadyExists));
    assert_eq!(error.number(), 36);

    for value in ["a", "b", "c"] {
        shared()
            .produce(&name, Some(1), None, Some(value.as_bytes()))
            .unwrap();
    }
    assert_eq!(admin.watermarks(&name, 1, TIMEOUT).unwrap(), (0, 3));
    assert_eq!(admin.watermarks(&name, 2, TIMEOUT).unwrap(), (0, 0));
    admin.watermarks(&name, 9, TIMEOUT).unwrap_err();

    admin.delete_topic(&name).await.unwrap();
    eventually("the topic's end", || {
        let topics = admin.topics(TIMEOUT).unwrap();
        topics.iter().all(|topic| topic.name != name).then_some(())
    })
    .await;
    let gone = admin.delete_topic(&name).await.unwrap_err();
    assert!(gone.to_string().contains("Unknown topic"), "{gone}");
}
