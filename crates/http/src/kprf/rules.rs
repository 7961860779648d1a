//! What may change while requests are served (contract, `producer-engine.md`,
//! section 2: "ours also on reload"). A request keeps to the rules that it has
//! begun with.

use super::clients::Clients;
use super::limiter::Limiter;
use super::reply::ReplyShape;
use super::state::KprfOptions;
use barnabas_engine::Durability;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use wildmatch::WildMatch;

/// Where records go that fail when nobody waits for them any more (contract,
/// section 9).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterTopics {
    /// Of topics that are not named; `None`: nowhere.
    pub default: Option<String>,
    /// Of those that are; an empty name: nowhere.
    pub topics: HashMap<String, String>,
}

impl DeadLetterTopics {
    /// That of a topic.
    fn of(&self, topic: &str) -> Option<&str> {
        let found = match self.topics.get(topic) {
            Some(own) => own,
            None => self.default.as_ref()?,
        };
        Some(found.as_str()).filter(|found| !found.is_empty() && *found != topic)
    }
}

/// The part of the options that can be reloaded.
pub(super) struct Rules {
    pub(super) durability: Durability,
    pub(super) reply_shape: ReplyShape,
    pub(super) is_strict: bool,
    pub(super) slow_request: Duration,
    pub(super) limiter: Limiter,
    /// Records of one client per minute; 0 is no limit.
    pub(super) client_limit: u64,
    pub(super) max_clients: usize,
    pub(super) counts_refused: bool,
    pub(super) clients: Arc<Clients>,
    allowed: Vec<WildMatch>,
    denied: Vec<WildMatch>,
    dead_letters: DeadLetterTopics,
}

impl Rules {
    pub(super) fn new(options: &KprfOptions) -> Self {
        let limiter = Limiter::new(&options.rules, options.counts_refused);
        Self::with(options, limiter, Arc::default())
    }

    /// Others in the place of these: what is counted stays counted.
    pub(super) fn reloaded(&self, options: &KprfOptions) -> Self {
        let limiter = self
            .limiter
            .reloaded(&options.rules, options.counts_refused);
        Self::with(options, limiter, Arc::clone(&self.clients))
    }

    fn with(options: &KprfOptions, limiter: Limiter, clients: Arc<Clients>) -> Self {
        let globs = |globs: &[String]| globs.iter().map(|glob| WildMatch::new(glob)).collect();
        Self {
            durability: options.durability,
            reply_shape: options.reply_shape,
            is_strict: options.is_strict,
            slow_request: options.slow_request,
            limiter,
            client_limit: u64::from(options.client_limit),
            max_clients: options.max_clients,
            counts_refused: options.counts_refused,
            clients,
            allowed: globs(&options.allowed_topics),
            denied: globs(&options.denied_topics),
            dead_letters: options.dead_letters.clone(),
        }
    }

    /// Whether a topic may be used.
    pub(super) fn allows(&self, topic: &str) -> bool {
        let is_in = |globs: &[WildMatch]| globs.iter().any(|glob| glob.matches(topic));
        (self.allowed.is_empty() || is_in(&self.allowed)) && !is_in(&self.denied)
    }

    /// Where the topic's failed records go, if anywhere.
    pub(super) fn dead_letter_topic(&self, topic: &str) -> Option<&str> {
        self.dead_letters.of(topic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_its_own_dead_letters_or_the_default() {
        let topics = [("a", "a-failed"), ("b", ""), ("c", "c")];
        let letters = DeadLetterTopics {
            default: Some("failed".to_owned()),
            topics: topics
                .map(|(topic, own)| (topic.to_owned(), own.to_owned()))
                .into(),
        };
        let found = ["a", "b", "c", "d", "failed"].map(|topic| letters.of(topic));
        assert_eq!(found, [Some("a-failed"), None, None, Some("failed"), None]);
        assert_eq!(DeadLetterTopics::default().of("a"), None);
    }
}
