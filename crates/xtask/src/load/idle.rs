//! What an idle connection takes: each has produced one message, and is silent.

use super::{BYTES, Binary, Options, PARTITIONS, kafka, kilobytes, settled};
use crate::clients::{Answer, Client, FRONT_ENDS, Wait, message, name};
use crate::report::Report;
use crate::served::{self, Served};
use anyhow::{Result, bail};
use barnabas_testkit::hostile::{FrontEnd, Target};
use serde_json::json;
use tokio::task::JoinSet;

/// Resident memory that one may take.
const MOST: f64 = 20_000.0;
/// Connections that are opened at the same time.
const TOGETHER: usize = 100;
/// Descriptors that may have gone meanwhile for other reasons.
const SPARE: usize = 5;

pub(super) fn run(binary: &Binary, options: &Options, report: &mut Report) -> Result<()> {
    let kafka = kafka()?;
    let topic = "idle";
    kafka.create_topic(topic, PARTITIONS)?;
    for front_end in FRONT_ENDS {
        // A process of its own, so that none finds memory that another has left.
        let served = Served::start(binary, &kafka, topic, &LIMITS)?;
        let runtime = served::runtime()?;
        // Threads and buffers that the first requests need are none of connections.
        let first = runtime.block_on(open(&served.target, front_end, TOGETHER))?;
        let gateway = &served.gateway;
        let before = (settled(gateway)?, gateway.threads()?.len());
        let descriptors_before = gateway.descriptors()?;
        let crowd = runtime.block_on(open(&served.target, front_end, options.connections))?;
        let after = (settled(gateway)?, gateway.threads()?.len());
        let descriptors = gateway.descriptors()?;
        let each = after.0.saturating_sub(before.0) as f64 / crowd.len() as f64;
        drop((first, crowd));
        let opened = descriptors.saturating_sub(descriptors_before);
        // One or the other is for Kafka.
        if opened + SPARE < options.connections {
            bail!("of the connections only {opened} are there");
        }
        report.add(
            format!(
                "{} idle connections of {}, each",
                options.connections,
                name(front_end)
            ),
            format!("≤ {}", kilobytes(MOST)),
            format!(
                "{} ({:.0} → {:.0} MB), {} → {} threads",
                kilobytes(each),
                before.0 as f64 / 1e6,
                after.0 as f64 / 1e6,
                before.1,
                after.1
            ),
            options.judge(each <= MOST && after.1 <= before.1),
            json!({"each": each, "before": before, "after": after, "descriptors": descriptors}),
        );
    }
    Ok(())
}

/// Nobody is sent away for being one too many, or silent for too long.
pub(super) const LIMITS: [(&str, &str); 4] = [
    ("REDIS__MAX_CONNECTIONS", "100000"),
    ("HTTP__MAX_CONNECTIONS", "100000"),
    ("GRPC__MAX_CONNECTIONS", "100000"),
    ("HTTP__CLIENT_TIMEOUT", "600s"),
];

/// Opens connections; each produces a message.
pub(super) async fn open(
    target: &Target,
    front_end: FrontEnd,
    count: usize,
) -> Result<Vec<Client>> {
    let mut clients = Vec::with_capacity(count);
    while clients.len() < count {
        let mut opening = JoinSet::new();
        for _ in 0..TOGETHER.min(count - clients.len()) {
            let target = target.clone();
            opening.spawn(async move {
                let mut client = Client::connect(&target, front_end).await?;
                let answer = client
                    .produce(&target.topic, message(BYTES), Wait::Kafka)
                    .await?;
                match answer {
                    Answer::Taken => Ok(client),
                    Answer::Refused(why) => bail!(why),
                }
            });
        }
        while let Some(opened) = opening.join_next().await {
            clients.push(opened??);
        }
    }
    Ok(clients)
}
