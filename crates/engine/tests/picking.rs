//! Producers that many share, and pickers of the user's.

use crate::support::{new_topic, send_all, settle, values};
use barnabas_engine::{
    CallerLimits, Cluster, ClusterConfig, PartitionPicker, PerTopic, Pick, Properties, Record,
    Strategies, Strategy, TopicStrategy, TopicView,
};
use barnabas_testkit::shared;
use std::sync::Arc;

/// Refuses what has a key of this kind.
struct NotBad;

impl PartitionPicker for NotBad {
    fn pick(&self, _: &TopicView<'_>, key: Option<&[u8]>, _: Option<&[u8]>) -> Pick {
        match key {
            Some(b"bad") => Pick::Refused("a bad key".to_owned()),
            _ => Pick::Partition(1),
        }
    }
}

/// What a picker refuses says nothing about the topic: others go on.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_a_picker_refuses_harms_no_other() {
    let mut config = ClusterConfig::default();
    let brokers = shared().bootstrap_servers();
    config.common.set("bootstrap.servers", brokers);
    config.strategies = Strategies::new(PerTopic::all(Some(TopicStrategy {
        strategy: Strategy::Custom(Arc::new(NotBad)),
        sticky_picks: 1,
    })));
    let producer = Cluster::open(config)
        .unwrap()
        .producer(&Properties::new())
        .unwrap();
    let name = new_topic("picked", 2);
    let [mut good, mut bad] = [(); 2].map(|()| producer.caller(CallerLimits::default()));
    let topic = good.topic(name.as_bytes()).unwrap();
    let poison = Record {
        key: Some(b"bad"),
        value: Some(b"x"),
    };
    // The first waits for its topic, and is refused by its report.
    assert_eq!(bad.send(&topic, [poison].into_iter()).accepted, 1);
    settle(&bad).await;
    assert_eq!(bad.report().failed, 1);
    send_all(&mut good, &topic, values(&["a".to_owned()]));
    settle(&good).await;
    for number in 0..20 {
        // The topic is known: the others are refused at once.
        let sent = bad.send(&topic, [poison].into_iter());
        let errors: Vec<String> = sent.refused.iter().map(|(_, e)| e.to_string()).collect();
        assert_eq!(errors, ["Local: Unknown partition"], "{number}");
        assert!(topic.is_known());
        send_all(&mut good, &topic, values(&[number.to_string()]));
    }
    settle(&good).await;
    let report = good.report();
    assert_eq!((report.delivered, report.failed), (21, 0), "{report:?}");
    assert_eq!(shared().end_offsets(&name).unwrap()[&1], 21);
}
