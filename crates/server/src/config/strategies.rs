//! The keys of a cluster that say how the partitions of each topic are picked.
//!
//! Contract: `producer-engine.md`, sections 2 and 4.

use super::read::{DEFAULT, Document};
use crate::script::LuaPicker;
use barnabas_engine::{PartitionPicker, PerTopic, Strategy, TopicStrategy};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

const STRATEGY: &str = "produce.strategy";
const STICKY: &str = "produce.sticky_picks";
/// The paths of scripts.
pub(crate) const PICKER: &str = "produce.picker";
/// All of them; they count at once when they change.
pub(crate) const KEYS: [&str; 3] = [STRATEGY, STICKY, PICKER];

/// As ekaf has it.
const STICKY_PICKS: u64 = 1_000;

type Topics = PerTopic<Option<TopicStrategy>>;

/// The strategies, if there are any, and the texts of their scripts.
pub(super) fn read(
    document: &Document,
    at: &impl Fn(&str) -> String,
    problems: &mut Vec<String>,
) -> (Option<Topics>, BTreeMap<String, String>) {
    let names: BTreeMap<&str, &str> = document.topics(&at(STRATEGY)).into_iter().collect();
    let sticky: BTreeMap<&str, &str> = document.topics(&at(STICKY)).into_iter().collect();
    let paths: BTreeMap<&str, &str> = document.topics(&at(PICKER)).into_iter().collect();
    if names.contains_key(DEFAULT) && document.has(&at("produce.partitioner")) {
        problems.push(format!(
            "{}: it says for all topics what {} says, too",
            at(STRATEGY),
            at("produce.partitioner")
        ));
    }
    let name_of = |topic: &str| names.get(topic).or_else(|| names.get(DEFAULT)).copied();
    for (key, topics) in [(STICKY, &sticky), (PICKER, &paths)] {
        for topic in topics.keys() {
            let is_custom = |name: &&str| *name == "custom";
            let is_used = match (key, *topic) {
                (STICKY, DEFAULT) => !names.is_empty(),
                (STICKY, topic) => name_of(topic).is_some(),
                (_, DEFAULT) => names.values().any(is_custom),
                (_, topic) => name_of(topic).as_ref().is_some_and(is_custom),
            };
            if !is_used {
                let wanted = match key {
                    PICKER => ", custom",
                    _ => "",
                };
                problems.push(format!(
                    "{}: that of {topic} needs {}{wanted}",
                    at(key),
                    at(STRATEGY)
                ));
            }
        }
    }
    let mut texts = BTreeMap::new();
    let mut scripts: BTreeMap<&str, Arc<dyn PartitionPicker>> = BTreeMap::new();
    for path in paths.values().copied().collect::<BTreeSet<_>>() {
        match LuaPicker::load(Path::new(path)) {
            Ok(picker) => {
                let text = std::fs::read_to_string(path).unwrap_or_default();
                texts.insert(path.to_owned(), text);
                scripts.insert(path, Arc::new(picker));
            }
            Err(error) => problems.push(format!("{}: {error:#}", at(PICKER))),
        }
    }
    let of = |topic: &str| -> Option<TopicStrategy> {
        let path = paths.get(topic).or_else(|| paths.get(DEFAULT));
        let script = path.and_then(|path| scripts.get(path));
        let strategy = match (Strategy::named(name_of(topic)?)?, script) {
            (Strategy::Phash2, Some(script)) => Strategy::Custom(Arc::clone(script)),
            (named, _) => named,
        };
        let picks = sticky.get(topic).or_else(|| sticky.get(DEFAULT));
        let picks = picks.and_then(|text| text.parse().ok());
        Some(TopicStrategy {
            strategy,
            sticky_picks: picks.unwrap_or(STICKY_PICKS),
        })
    };
    if names.is_empty() {
        return (None, texts);
    }
    let topics: BTreeSet<&str> = [&names, &sticky, &paths]
        .into_iter()
        .flat_map(BTreeMap::keys)
        .filter(|topic| **topic != DEFAULT)
        .copied()
        .collect();
    let all = PerTopic::all(of(DEFAULT));
    let all = topics.into_iter().fold(all, |all, topic| {
        let own = of(topic);
        all.with(topic, own)
    });
    (Some(all), texts)
}

/// The scripts' files, of all clusters.
pub(super) fn pickers(document: &Document) -> impl Iterator<Item = &str> {
    let clusters = document.clusters();
    clusters.flat_map(|name| {
        let topics = document.topics(&format!("clusters.{name}.{PICKER}"));
        topics.into_iter().map(|(_, path)| path)
    })
}

#[cfg(test)]
mod tests {
    use crate::clusters::Plan;
    use crate::config::{parse, tests::problems};

    fn plan(produce: &str, variables: &[(&str, &str)]) -> Plan {
        let variables = variables.iter();
        let variables = variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let text = format!("clusters: {{default: {{produce: {produce}}}}}\n");
        parse(&text, variables).unwrap().clusters.remove(0)
    }

    fn of(plan: &Plan, topic: &str) -> Option<(String, u64)> {
        let own = plan.strategies.as_ref().unwrap().of(topic).as_ref()?;
        Some((format!("{:?}", own.strategy), own.sticky_picks))
    }

    fn is(name: &str, picks: u64) -> Option<(String, u64)> {
        Some((name.to_owned(), picks))
    }

    #[test]
    fn strategies_are_one_or_one_for_each_topic() {
        assert!(plan("{}", &[]).strategies.is_none());
        let one = plan("{strategy: strict_round_robin}", &[]);
        assert_eq!(of(&one, "t"), is("strict_round_robin", 1_000));
        let each = plan(
            "{strategy: {orders.eu: murmur2, clicks: sticky_round_robin}, sticky_picks: {clicks: \
             7}, partitioner: random}",
            &[],
        );
        assert_eq!(of(&each, "orders.eu"), is("murmur2", 1_000));
        assert_eq!(of(&each, "clicks"), is("sticky_round_robin", 7));
        assert_eq!(of(&each, "t"), None, "as the partitioner says");
        let variables = [
            (
                "BARNABAS_CLUSTERS__DEFAULT__PRODUCE__STRATEGY__MY_TOPIC",
                "crc32",
            ),
            (
                "BARNABAS_CLUSTERS__DEFAULT__PRODUCE__STRATEGY__DEFAULT",
                "random",
            ),
            ("BARNABAS_CLUSTERS__DEFAULT__PRODUCE__STICKY_PICKS", "5"),
        ];
        let variable = plan("{}", &variables);
        assert_eq!(of(&variable, "my_topic"), is("crc32", 5));
        assert_eq!(of(&variable, "t"), is("random", 5));
    }

    #[test]
    fn a_picker_is_a_script() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picker.lua");
        std::fs::write(&path, "function pick(topic, key) return 0 end").unwrap();
        let shown = path.display();
        let some = plan(
            &format!("{{strategy: {{a: custom, b: custom}}, picker: {{a: {shown}}}}}"),
            &[],
        );
        assert_eq!(of(&some, "a"), is("custom (own picker)", 1_000));
        assert_eq!(of(&some, "b"), is("custom", 1_000), "by phash2");
        assert_eq!(some.scripts.len(), 1);
        let all = plan(&format!("{{strategy: custom, picker: {shown}}}"), &[]);
        assert_eq!(of(&all, "t"), is("custom (own picker)", 1_000));
    }

    #[test]
    fn what_cannot_be_is_said_with_its_key() {
        for (produce, expected) in [
            (
                "{strategy: ketama}",
                "clusters.c.produce.strategy: \"ketama\" must be one of random, \
                 strict_round_robin, sticky_round_robin, ordered_round_robin, custom, murmur2, \
                 crc32, fnv1a, or names with one of them each",
            ),
            ("{strategy: {t: ketama}}", "clusters.c.produce.strategy: "),
            (
                "{strategy: random, partitioner: hash}",
                "clusters.c.produce.strategy: it says for all topics what \
                 clusters.c.produce.partitioner says, too",
            ),
            (
                "{strategy: random, sticky_picks: {t: 0}}",
                "clusters.c.produce.sticky_picks: a map must be a whole number of at least 1, or \
                 names with one each",
            ),
            (
                "{sticky_picks: 5}",
                "clusters.c.produce.sticky_picks: that of default needs \
                 clusters.c.produce.strategy",
            ),
            (
                "{strategy: {t: custom, u: random}, picker: {u: /nonexistent.lua}}",
                "clusters.c.produce.picker: that of u needs clusters.c.produce.strategy, custom",
            ),
            (
                "{strategy: custom, picker: /nonexistent.lua}",
                "clusters.c.produce.picker: cannot read /nonexistent.lua: No such file",
            ),
        ] {
            let text = format!("clusters: {{c: {{produce: {produce}}}}}\nredis: {{cluster: c}}\n");
            let said = problems(&text, &[]);
            assert!(said.contains(expected), "{produce}: {said}");
        }
    }
}
