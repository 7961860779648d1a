//! Who may do what: bearer tokens and their grants (contract,
//! `consume-and-ack.md`, section 13, B6).

use arc_swap::ArcSwapOption;
use std::collections::HashMap;

/// What a request does, as grants name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Producing records.
    Produce,
    /// Consuming and acknowledging them.
    Consume,
    /// Reading what there is: topics, partitions, groups, offsets.
    Describe,
    /// Changing it: offsets of groups, topics, groups.
    Manage,
}

impl Action {
    /// `produce`, `consume`, `describe`, `manage`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "produce" => Some(Self::Produce),
            "consume" => Some(Self::Consume),
            "describe" => Some(Self::Describe),
            "manage" => Some(Self::Manage),
            _ => None,
        }
    }
}

/// What a token may do. An empty list allows nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Names of clusters; `*` at the end stands for any rest.
    pub clusters: Vec<String>,
    /// Names of topics; `*` at the end stands for any rest.
    pub topics: Vec<String>,
    /// What may be done with them.
    pub actions: Vec<Action>,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It has no token, or one that nobody knows: HTTP 401, gRPC 16.
    #[error("a valid bearer token is required")]
    Unauthenticated,
    /// Its token does not allow this: HTTP 403, gRPC 7.
    #[error("the token does not allow this")]
    Forbidden,
}

/// Whom requests are served for. All who share it see what
/// [`replace`](Self::replace) changes, from their next request on.
#[derive(Default)]
pub struct Access {
    /// `None`: everybody. Found by a hash with a secret key: how long a
    /// look-up takes tells nothing about the tokens there are.
    tokens: ArcSwapOption<HashMap<Box<str>, Vec<Grant>>>,
}

impl Access {
    /// Everybody may do everything; also the default.
    pub fn open() -> Self {
        Self::default()
    }

    /// Only requests with one of these tokens are served; without any, none.
    pub fn only(tokens: impl IntoIterator<Item = (String, Vec<Grant>)>) -> Self {
        let tokens = tokens
            .into_iter()
            .map(|(token, grants)| (token.into_boxed_str(), grants))
            .collect();
        Self {
            tokens: ArcSwapOption::from_pointee(Some(tokens)),
        }
    }

    /// What `other` allows is allowed from now on, and nothing else.
    pub fn replace(&self, other: &Self) {
        self.tokens.store(other.tokens.load_full());
    }

    /// Whether everybody may do everything.
    pub fn is_open(&self) -> bool {
        self.tokens.load().is_none()
    }

    /// Whether a request with this token may act on a topic of a cluster.
    /// Without a topic (lists of topics, clusters) any grant of the action on
    /// the cluster is enough; what is listed is then asked for one by one
    /// ([`is_allowed`](Self::is_allowed)).
    ///
    /// # Errors
    /// [`Denied`]
    pub fn check(
        &self,
        token: Option<&str>,
        action: Action,
        cluster: &str,
        topic: Option<&str>,
    ) -> Result<(), Denied> {
        let loaded = self.tokens.load();
        let Some(tokens) = &*loaded else {
            return Ok(());
        };
        let grants = token
            .and_then(|token| tokens.get(token))
            .ok_or(Denied::Unauthenticated)?;
        let allows = |grant: &Grant| {
            grant.actions.contains(&action)
                && any_matches(&grant.clusters, cluster)
                && topic.is_none_or(|topic| any_matches(&grant.topics, topic))
        };
        match grants.iter().any(allows) {
            true => Ok(()),
            false => Err(Denied::Forbidden),
        }
    }

    /// [`check`](Self::check), for lists that show only what is allowed.
    pub fn is_allowed(
        &self,
        token: Option<&str>,
        action: Action,
        cluster: &str,
        topic: &str,
    ) -> bool {
        self.check(token, action, cluster, Some(topic)).is_ok()
    }
}

/// The token of an `Authorization` header (RFC 6750, section 2.1); the scheme
/// knows no case.
pub fn bearer_token(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

fn any_matches(patterns: &[String], name: &str) -> bool {
    patterns
        .iter()
        .any(|pattern| match pattern.strip_suffix('*') {
            Some(start) => name.starts_with(start),
            None => pattern == name,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn access() -> Access {
        let grant = |clusters: &[&str], topics: &[&str], actions: &[Action]| Grant {
            clusters: clusters.iter().map(ToString::to_string).collect(),
            topics: topics.iter().map(ToString::to_string).collect(),
            actions: actions.to_vec(),
        };
        Access::only([
            (
                "shop".to_owned(),
                vec![
                    grant(&["main"], &["orders.*"], &[Action::Produce]),
                    grant(&["*"], &["news"], &[Action::Consume, Action::Describe]),
                ],
            ),
            ("idle".to_owned(), Vec::new()),
        ])
    }

    #[test]
    fn grants_are_of_clusters_topics_and_actions() {
        let access = access();
        let check = |action, cluster, topic| access.check(Some("shop"), action, cluster, topic);
        assert_eq!(check(Action::Produce, "main", Some("orders.new")), Ok(()));
        assert_eq!(check(Action::Consume, "other", Some("news")), Ok(()));
        assert_eq!(check(Action::Describe, "other", None), Ok(()));
        for (action, cluster, topic) in [
            (Action::Produce, "other", Some("orders.new")),
            (Action::Produce, "main", Some("orders")),
            (Action::Consume, "main", Some("orders.new")),
            (Action::Consume, "main", Some("news.de")),
            (Action::Manage, "main", None),
        ] {
            assert_eq!(check(action, cluster, topic), Err(Denied::Forbidden));
        }
    }

    #[test]
    fn nobody_is_served_without_a_token_unless_everybody_is() {
        let ask = |access: &Access, token| access.check(token, Action::Produce, "main", Some("t"));
        assert_eq!(ask(&access(), None), Err(Denied::Unauthenticated));
        assert_eq!(ask(&access(), Some("sho")), Err(Denied::Unauthenticated));
        assert_eq!(ask(&access(), Some("idle")), Err(Denied::Forbidden));
        assert_eq!(ask(&Access::open(), None), Ok(()));
        assert_eq!(ask(&Access::default(), None), Ok(()));
        let nobody = Access::only([]);
        assert!(!nobody.is_open());
        assert_eq!(ask(&nobody, None), Err(Denied::Unauthenticated));
    }

    #[test]
    fn what_is_replaced_counts_from_then_on() {
        let shared = Arc::new(access());
        let seen = Arc::clone(&shared);
        let ask = |token| seen.check(Some(token), Action::Consume, "main", Some("news"));
        assert_eq!(
            (ask("shop"), ask("new")),
            (Ok(()), Err(Denied::Unauthenticated))
        );
        let grant = Grant {
            clusters: vec!["*".to_owned()],
            topics: vec!["*".to_owned()],
            actions: vec![Action::Consume],
        };
        shared.replace(&Access::only([("new".to_owned(), vec![grant])]));
        assert_eq!(
            (ask("shop"), ask("new")),
            (Err(Denied::Unauthenticated), Ok(()))
        );
    }

    #[test]
    fn tokens_come_behind_their_scheme() {
        assert_eq!(bearer_token("Bearer abc"), Some("abc"));
        assert_eq!(bearer_token("bearer  abc "), Some("abc"));
        for none in ["", "abc", "Basic abc", "Bearer", "Bearer "] {
            assert_eq!(bearer_token(none), None, "{none}");
        }
    }
}
