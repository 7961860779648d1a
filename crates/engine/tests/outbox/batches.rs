//! Batches: when they leave, how they are cut, what they are made into.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_leaves_when_it_is_full_or_old() {
    // Longer than the first of them take to be buffered.
    const OLD: Duration = Duration::from_secs(5);
    let name = new_topic("batches", 1);
    let (outbox, log) = outbox(OutboxSettings {
        max_batch_messages: 3.into(),
        batch_ttl: OLD.into(),
        ..OutboxSettings::default()
    });
    let topic = ready(&outbox, &name).await;
    let started = Instant::now();
    let mut lengths = Vec::new();
    for value in ["0", "1", "2", "3"] {
        let buffered = topic.produce_sync_batched(value).remove(0).unwrap();
        assert_eq!(buffered.partition, Some(0));
        lengths.push(buffered.length);
    }
    assert_eq!(lengths, [1, 2, 3, 1]);
    eventually("a full batch and an old one", || {
        (log.flushes() == [3, 1]).then_some(())
    })
    .await;
    assert!(started.elapsed() >= OLD);
    flush(&outbox).await;
    let replied = eventually("answers to both", || {
        let replied = log.find(|what| match what {
            Happening::FlushedReplied {
                messages,
                failed,
                unanswered,
                ..
            } => Some((*messages, *failed, *unanswered)),
            _ => None,
        });
        (replied.len() == 2).then_some(replied)
    })
    .await;
    // The first answer may come after the second batch has left.
    assert_eq!((replied[0].0, replied[0].1), (3, 0));
    assert_eq!(replied[1], (1, 0, 0));
    let values: Vec<String> = testkit::shared()
        .read_all(&name)
        .unwrap()
        .iter()
        .map(testkit::Record::value_text)
        .collect();
    assert_eq!(values, ["0", "1", "2", "3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_overfills_is_cut_into_full_batches() {
    let name = new_topic("cut", 1);
    let (outbox, log) = outbox(OutboxSettings {
        max_batch_messages: 3.into(),
        ..OutboxSettings::default()
    });
    let topic = ready(&outbox, &name).await;
    let values = numbers(0..8);
    let list: Payload<'_> = values.iter().map(String::as_str).collect();
    assert_eq!(topic.produce_async_batched(list).all().unwrap(), 8);
    assert_eq!(topic.info().batched, 2);
    // What is sent at once does not overtake the batch.
    assert_eq!(topic.produce_async("8").all().unwrap(), 1);
    assert_eq!(topic.info().batched, 0);
    flush(&outbox).await;
    eventually("the events", || (log.flushes().len() == 3).then_some(())).await;
    assert_eq!(log.flushes(), [3, 3, 2]);
    let records = testkit::shared().read_all(&name).unwrap();
    let values: Vec<String> = records.iter().map(testkit::Record::value_text).collect();
    assert_eq!(values, numbers(0..9));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_becomes_one_record_and_is_halved_until_it_fits() {
    let name = new_topic("massage", 1);
    let mut settings = OutboxSettings {
        massage: PerTopic::all(Some(Arc::new(OneLarge::Ndjson) as Arc<dyn MassageBuffer>)),
        max_batch_messages: 4.into(),
        batch_ttl: Duration::from_millis(20).into(),
        ..OutboxSettings::default()
    };
    settings.librdkafka.set("message.max.bytes", "2000");
    let (outbox, _) = outbox(settings);
    let topic = ready(&outbox, &name).await;
    let large = "x".repeat(600);
    let list: Payload<'_> = ["a", "b", "c", "d"].into_iter().collect();
    let (answers, all) = Answers::new(4);
    let admission = topic.produce(Mode::AsyncBatched, list, Some((answers, 0)));
    assert_eq!(admission.all().unwrap(), 4);
    let outcomes = all.all().await.unwrap();
    let offsets: Vec<i64> = outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap().offset)
        .collect();
    assert_eq!(offsets, [0; 4], "they are one record");
    let list: Payload<'_> = [&*large; 4].into_iter().collect();
    assert_eq!(topic.produce_async_batched(list).all().unwrap(), 4);
    // A payload that waits for its answer is a list of one.
    let outcome = topic.produce_sync("alone").await.remove(0);
    assert!(outcome.is_ok(), "{outcome:?}");
    flush(&outbox).await;
    let mut values: Vec<String> = testkit::shared()
        .read_all(&name)
        .unwrap()
        .iter()
        .map(testkit::Record::value_text)
        .collect();
    // Those who wait have a client of their own, hence no order with others.
    values.sort();
    let halves = format!("{large}\n{large}\n");
    assert_eq!(values, ["a\nb\nc\nd\n", "alone\n", &halves, &halves]);
    assert_eq!(outbox.info().bytes, 0, "all room is back");
}

struct Twice;

impl MassageBuffer for Twice {
    fn massage(&self, _: &str, _: i32, records: &[NewRecord<'_>]) -> Vec<Massaged> {
        let copy = |record: &NewRecord<'_>| Massaged {
            key: Some(b"copy".to_vec()),
            value: record.value.map(<[u8]>::to_vec),
        };
        records.iter().chain(records).map(copy).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_massage_may_make_many_records() {
    let name = new_topic("twice", 1);
    let (outbox, _) = outbox(OutboxSettings {
        massage: PerTopic::all(Some(Arc::new(Twice) as Arc<dyn MassageBuffer>)),
        ..OutboxSettings::default()
    });
    let topic = ready(&outbox, &name).await;
    let list: Payload<'_> = ["a", "b"].into_iter().collect();
    let outcomes = topic.produce_sync(list).await;
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let records = testkit::shared().read_all(&name).unwrap();
    let values: Vec<String> = records.iter().map(testkit::Record::value_text).collect();
    assert_eq!(values, ["a", "b", "a", "b"]);
    assert!(records.iter().all(|record| record.key_text() == "copy"));
}
