//! Produce: records up, results down.

use super::stream::{End, encode, frames, start};
use super::{Caller, Gateway};
use crate::errors;
use crate::reply::{Body, Written};
use crate::request::Checked;
use crate::server::told;
use crate::v1::{self, ProduceRequest, ProduceResponse, ProduceResult};
use barnabas_engine::{
    Action, Delivery, DeliverySink, Destination, Error, ErrorCode, KafkaError, Proxy, Record,
    RequestTrace, Sending, Span, Undelivered,
};
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tonic::{Status, Streaming};

/// Records whose results the client has not been sent yet. A frame is taken
/// as long as there are fewer.
const MAX_RECORDS: usize = 16_384;

/// The same by the bytes of their keys and values.
const MAX_BYTES: u64 = 16 << 20;

/// Records in one frame.
const MAX_FRAME: usize = 16_384;

/// Results in one frame: with the longest texts far below what clients take.
const MAX_RESULTS: usize = 8_192;

pub(super) async fn produce(
    gateway: &Arc<Gateway>,
    request: Request<Checked<Incoming>>,
    deadline: Option<Instant>,
    (trace, span): (RequestTrace, &mut Option<Span>),
) -> Response<Body> {
    let (head, body) = request.into_parts();
    // Who is nobody is told so before the first record; what he may do,
    // with each.
    let caller = Caller::new(&gateway.access, &head.headers);
    if let Err(status) = caller.identify() {
        return Body::of(status.into_http());
    }
    if gateway.proxies.is_stopping() {
        return Body::of(errors::shutting_down().into_http());
    }
    let results = Arc::new(Results {
        header_bytes: trace.header_bytes(),
        ..Results::default()
    });
    let producing = Producing {
        gateway: Arc::clone(gateway),
        headers: head.headers,
        sink: Arc::<Results>::clone(&results),
        results,
        unanswered: 0,
        target: None,
        trace,
        sending: None,
    };
    start(deadline, span.take(), |sender| {
        producing.run(frames(body), sender)
    })
}

/// What has become of records, from the delivery thread to the stream.
#[derive(Default)]
struct Results {
    done: Mutex<Vec<ProduceResult>>,
    /// There are results again.
    news: Notify,
    /// Bytes of records that Kafka has not answered yet.
    bytes: AtomicU64,
    /// What each record gets of the stream's trace.
    header_bytes: u64,
}

impl Results {
    fn add(&self, result: ProduceResult) {
        let is_first = {
            let mut done = self.done.lock();
            done.push(result);
            done.len() == 1
        };
        if is_first {
            self.news.notify_one();
        }
    }

    fn refuse(&self, number: u64, error: v1::Error) {
        self.add(ProduceResult {
            number,
            error: Some(error),
            ..ProduceResult::default()
        });
    }

    fn has_any(&self) -> bool {
        !self.done.lock().is_empty()
    }

    /// The oldest ones.
    fn take(&self) -> Vec<ProduceResult> {
        let mut done = self.done.lock();
        if done.len() <= MAX_RESULTS {
            return std::mem::take(&mut done);
        }
        let rest = done.split_off(MAX_RESULTS);
        std::mem::replace(&mut done, rest)
    }
}

impl DeliverySink for Results {
    fn settled(&self, number: u64, bytes: u64, result: Result<Delivery, Undelivered<'_>>) {
        let bytes = bytes + self.header_bytes;
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
        match result {
            Ok(delivery) => self.add(ProduceResult {
                number,
                partition: delivery.partition,
                offset: delivery.offset,
                timestamp: delivery.timestamp,
                error: None,
            }),
            Err(undelivered) => {
                let error = errors::v1::of_producing(&undelivered.error.into());
                self.refuse(number, error);
            }
        }
    }
}

/// Where the last record went; the next one most likely goes there, too.
struct Target {
    cluster: String,
    topic: String,
    proxy: Arc<Proxy>,
    destination: Arc<Destination>,
}

/// A stream that runs.
struct Producing {
    gateway: Arc<Gateway>,
    headers: HeaderMap,
    results: Arc<Results>,
    /// The same.
    sink: Arc<dyn DeliverySink>,
    /// Records whose results have not been sent.
    unanswered: usize,
    target: Option<Target>,
    trace: RequestTrace,
    /// What carries it on: of a frame, and of one topic after the other.
    sending: Option<(String, Sending)>,
}

impl Producing {
    async fn run(
        mut self,
        mut requests: Streaming<ProduceRequest>,
        sender: mpsc::Sender<Written>,
    ) -> End {
        let gateway = Arc::clone(&self.gateway);
        let mut stop = gateway.stopping.clone();
        let stopping = gateway.proxies.stopping();
        tokio::pin!(stopping);
        let mut is_closed = false;
        let mut is_ending = false;
        loop {
            if self.unanswered == 0 && is_ending {
                return End::of(errors::shutting_down());
            }
            if self.unanswered == 0 && is_closed {
                return End::of(Status::ok(""));
            }
            let has_results = self.results.has_any();
            let has_room = self.unanswered < MAX_RECORDS
                && self.results.bytes.load(Ordering::Acquire) < MAX_BYTES;
            tokio::select! {
                permit = sender.reserve(), if has_results => match permit {
                    Ok(permit) => {
                        let results = self.results.take();
                        self.unanswered = self.unanswered.saturating_sub(results.len());
                        let frame = encode(&ProduceResponse { results });
                        permit.send(Written::from(None, frame));
                    }
                    Err(_) => return End::of(Status::cancelled("the client has gone")),
                },
                () = self.results.news.notified(), if !has_results => {}
                frame = requests.message(), if has_room && !is_closed => match frame {
                    Ok(Some(frame)) => if let Err(status) = self.take(frame).await {
                        return End::of(status);
                    },
                    Ok(None) => is_closed = true,
                    Err(status) => return End::of(status),
                },
                () = &mut stopping, if !is_ending => is_ending = true,
                () = told(&mut stop) => return End::of(errors::shutting_down()),
                () = sender.closed() => return End::of(Status::cancelled("the client has gone")),
            }
        }
    }

    /// Hands over the records of a frame.
    async fn take(&mut self, frame: ProduceRequest) -> Result<(), Status> {
        if frame.records.len() > MAX_FRAME {
            return Err(super::too_many("records", frame.records.len(), MAX_FRAME));
        }
        // Whatever becomes of its records, the cluster must be there.
        let proxies = &self.gateway.proxies;
        proxies
            .get(&frame.cluster)
            .map_err(errors::unknown_cluster)?;
        self.unanswered += frame.records.len();
        for record in &frame.records {
            if let Err(error) = self.submit(&frame.cluster, record).await {
                if let Some((_, sending)) = &self.sending {
                    sending.failed_as("refused", || error.text.clone());
                }
                self.results.refuse(record.number, error);
            }
        }
        self.sending = None;
        Ok(())
    }

    async fn submit(&mut self, cluster: &str, record: &v1::Record) -> Result<(), v1::Error> {
        let gateway = Arc::clone(&self.gateway);
        if gateway.proxies.is_stopping() {
            return Err(errors::v1::shutting_down());
        }
        self.send_to(&record.topic);
        let target = self.target(cluster, &record.topic)?;
        let proxy = Arc::clone(&target.proxy);
        let mut headers: Vec<(&str, Option<&[u8]>)> = record
            .headers
            .iter()
            .map(|header| (&*header.name, header.value.as_deref()))
            .collect();
        if !headers.is_empty() && !proxy.options.has_headers {
            return Err(errors::v1::headers_unsupported());
        }
        // librdkafka would choose one.
        if record.partition.is_some_and(|partition| partition < 0) {
            let unknown = KafkaError::from_code(ErrorCode::UnknownPartition);
            return Err(errors::v1::of_producing(&unknown.into()));
        }
        let payload = Record {
            key: record.key.as_deref(),
            value: record.value.as_deref(),
        };
        let failed = |error: Error| errors::v1::of_producing(&error);
        proxy.check_size(payload, &headers).map_err(failed)?;
        let sending = self.sending.take();
        if let Some((_, sending)) = &sending {
            sending.add_where_it_fits(&proxy, payload, &mut headers);
        }
        let bytes = record.key.as_ref().map_or(0, bytes::Bytes::len)
            + record.value.as_ref().map_or(0, bytes::Bytes::len);
        let bytes = bytes as u64 + self.results.header_bytes;
        // Before the answer can take it off.
        self.results.bytes.fetch_add(bytes, Ordering::AcqRel);
        let Some(target) = &self.target else {
            return Err(errors::v1::shutting_down());
        };
        let submitted = proxy
            .with_room(&gateway.proxies, || {
                proxy.producer.submit_for(
                    &target.destination,
                    record.partition,
                    payload,
                    &headers,
                    record.timestamp,
                    (&self.sink, record.number),
                )
            })
            .await;
        drop(headers);
        self.sending = sending;
        submitted.map_err(|error| {
            self.results.bytes.fetch_sub(bytes, Ordering::AcqRel);
            // Its absence may be remembered by what is kept of the topic.
            self.target = None;
            failed(error)
        })
    }

    /// Begins to tell of a topic, unless there is nothing to tell.
    fn send_to(&mut self, topic: &str) {
        if self.results.header_bytes == 0 && !self.trace.is_recorded() {
            return;
        }
        if self.sending.as_ref().is_none_or(|(own, _)| own != topic) {
            self.sending = Some((topic.to_owned(), self.trace.sending(topic)));
        }
    }

    /// Where a record goes.
    fn target(&mut self, cluster: &str, topic: &str) -> Result<&Target, v1::Error> {
        let is_same = self
            .target
            .as_ref()
            .is_some_and(|target| target.topic == topic && target.cluster == cluster);
        if !is_same {
            let caller = Caller::new(&self.gateway.access, &self.headers);
            let proxy = caller
                .proxy(&self.gateway.proxies, cluster, Action::Produce, Some(topic))
                .map_err(|status| errors::v1::forbidden(status.message().to_owned()))?;
            // A stream's results are Kafka's, also where there is a journal.
            if !proxy.is_reachable() {
                let error = KafkaError::from_code(ErrorCode::AllBrokersDown);
                return Err(errors::v1::of_producing(&error.into()));
            }
            let destination = proxy.producer.destination(topic);
            self.target = Some(Target {
                cluster: cluster.to_owned(),
                topic: topic.to_owned(),
                destination: destination.map_err(|error| errors::v1::of_producing(&error))?,
                proxy: Arc::clone(proxy),
            });
        }
        self.target.as_ref().ok_or_else(errors::v1::shutting_down)
    }
}
