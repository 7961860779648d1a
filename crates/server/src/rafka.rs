//! `barnabas rafka`: the old program's flags, file, log and exit codes
//! (contract, section 9).

use crate::cli::RafkaOptions;
use crate::clusters::Plan;
use crate::config::{self, LogFormat, Resolved};
use crate::dev::config_address;
use crate::{gateway, logging};
use anyhow::{Context as _, Result, anyhow, bail};
use barnabas_engine::{ClusterConfig, Properties};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::path::Path;

/// rafka's file. Unknown top-level keys are free for other programs.
#[derive(Debug, Deserialize)]
struct File {
    #[serde(default)]
    general: Section,
    #[serde(default)]
    consumer: Section,
    #[serde(default)]
    producer: Section,
    #[serde(default)]
    redis: serde_norway::Value,
    #[serde(default)]
    metrics: serde_norway::Value,
    #[serde(default)]
    statsd: serde_norway::Value,
}

/// Property names and values as JSON has them.
#[derive(Debug, Default, Deserialize)]
#[serde(transparent)]
struct Section(BTreeMap<String, Box<RawValue>>);

pub(crate) fn run(options: &RafkaOptions) -> Result<()> {
    logging::start(LogFormat::Rafka, "info")?;
    let path = options.kafka.as_ref().unwrap_or(&options.config);
    if options.kafka.is_some() {
        tracing::info!(component = "server", "--kafka is now called --config");
    }
    let mut resolved = load(path)?;
    if let Some(seconds) = options.commit_intvl {
        tracing::info!(
            component = "server",
            "--commit-intvl is now the property auto.commit.interval.ms of the consumer"
        );
        let milliseconds = u64::from(seconds) * 1000;
        for plan in &mut resolved.clusters {
            let consumer = &mut plan.config.consumer;
            consumer.set("auto.commit.interval.ms", milliseconds.to_string());
        }
    }
    for plan in &resolved.clusters {
        gateway::check(&plan.config).with_context(|| path.display().to_string())?;
    }
    if options.check {
        resolved
            .redis
            .check()
            .with_context(|| path.display().to_string())?;
        println!("{}: nothing is wrong", path.display());
        return Ok(());
    }
    resolved.redis_listen = vec![config_address(&options.host, options.port)];
    // As little as possible besides what rafka has.
    resolved.has_stream_groups = false;
    gateway::serve(resolved, |_| {})
}

pub(crate) fn load(path: &Path) -> Result<Resolved> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
    parse(&text).with_context(|| shown.to_string())
}

fn parse(text: &str) -> Result<Resolved> {
    if !text.trim_start().starts_with('{') {
        bail!("this is no JSON object");
    }
    let file: File = serde_json::from_str(text)?;
    let mut cluster = ClusterConfig {
        name: "kafka".to_owned(),
        common: file.general.properties("general")?,
        producer: file.producer.properties("producer")?,
        consumer: file.consumer.properties("consumer")?,
        ..ClusterConfig::default()
    };
    // As librdkafka has it, so that a group can be moved from rafka member
    // by member: cooperative and eager members do not mix.
    let strategy = "partition.assignment.strategy";
    if cluster.common.get(strategy).is_none() {
        cluster.consumer.set_default(strategy, "range,roundrobin");
    }
    Ok(Resolved {
        redis: config::redis_section(&file.redis)?,
        metrics: config::metrics_sections(&file.metrics, &file.statsd)?,
        ..Resolved::of(Plan::new(cluster))
    })
}

impl Section {
    fn properties(self, section: &str) -> Result<Properties> {
        let mut properties = Properties::new();
        for (name, value) in self.0 {
            if barnabas_redis::is_rafkas_own(&name) {
                tracing::debug!(component = "server", "{section}: ignored: {name}");
                continue;
            }
            let bare = name.strip_prefix("{topic}.").unwrap_or(&name);
            let text = barnabas_redis::property_text(&name, &value)
                .map_err(|reason| anyhow!("{section}: {reason}"))?;
            properties.set(bare, text);
        }
        Ok(properties)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_file_is_read_as_it_is() {
        let resolved = parse(
            r#"{
                "general": {"bootstrap.servers": "a:1", "client.id": "rafka"},
                "consumer": {"{topic}.auto.offset.reset": "earliest",
                             "enable.auto.commit": true,
                             "go.application.rebalance.enable": true},
                "producer": {"linger.ms": 5},
                "redis": {"reply": "pair"},
                "other": {"ours": false}
            }"#,
        )
        .unwrap();
        let get = |properties: &Properties, name: &str| properties.get(name).map(str::to_owned);
        assert_eq!(
            get(&resolved.clusters[0].config.consumer, "auto.offset.reset").as_deref(),
            Some("earliest")
        );
        assert_eq!(
            get(&resolved.clusters[0].config.consumer, "enable.auto.commit").as_deref(),
            Some("true")
        );
        assert_eq!(
            get(&resolved.clusters[0].config.producer, "linger.ms").as_deref(),
            Some("5")
        );
        assert_eq!(
            get(
                &resolved.clusters[0].config.consumer,
                "go.application.rebalance.enable"
            ),
            None
        );
        assert_eq!(resolved.redis.reply, barnabas_redis::ReplyForm::Pair);
    }

    #[test]
    fn numbers_stay_as_they_are_written() {
        let resolved = parse(r#"{"producer": {"linger.ms": 1.50, "batch.size": 1e3}}"#).unwrap();
        assert_eq!(
            resolved.clusters[0].config.producer.get("linger.ms"),
            Some("1.50")
        );
        assert_eq!(
            resolved.clusters[0].config.producer.get("batch.size"),
            Some("1e3")
        );
    }

    #[test]
    fn only_the_old_clients_own_settings_are_ignored() {
        let resolved = parse(r#"{"producer": {"go.nonsense": 1}}"#).unwrap();
        assert_eq!(resolved.clusters[0].config.problems().len(), 1);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["[]", "", "[{}]", "null", "3"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_missing_section_counts_as_empty() {
        let resolved = parse("{}").unwrap();
        assert_eq!(resolved.clusters[0].config.common, Properties::new());
        assert!(parse(r#"{"general": {"a": [1]}}"#).is_err());
        assert!(parse(r#"{"redis": {"replay": "pair"}}"#).is_err());
    }
}
