//! When producing is answered, by topic.

use std::collections::HashMap;

/// What has happened to a record when its caller is told "yes".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// It is in memory, on its way. It is lost if the process dies before
    /// Kafka has it.
    #[default]
    Memory,
    /// It is in the journal, on disk, and will be sent: again after a crash.
    Journal,
    /// Kafka has acknowledged it.
    Kafka,
}

impl Durability {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Journal, Self::Kafka];

    /// As configurations and requests write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Journal => "journal",
            Self::Kafka => "kafka",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }
}

/// The durability of each topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Durabilities {
    /// Of topics that are not named.
    pub default: Durability,
    /// Of those that are.
    pub topics: HashMap<String, Durability>,
}

impl Durabilities {
    /// That of a topic.
    pub fn of(&self, topic: &str) -> Durability {
        if self.topics.is_empty() {
            return self.default;
        }
        self.topics.get(topic).copied().unwrap_or(self.default)
    }

    /// Whether any topic may have it.
    pub fn has(&self, durability: Durability) -> bool {
        self.default == durability || self.topics.values().any(|one| *one == durability)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_its_own_or_the_default() {
        let all = Durabilities {
            default: Durability::Memory,
            topics: HashMap::from([("clicks".to_owned(), Durability::Journal)]),
        };
        assert_eq!(all.of("clicks"), Durability::Journal);
        assert_eq!(all.of("click"), Durability::Memory);
        assert!(all.has(Durability::Journal) && !all.has(Durability::Kafka));
        for one in Durability::ALL {
            assert_eq!(Durability::from_name(one.name()), Some(one));
        }
        assert_eq!(Durability::from_name("disk"), None);
    }
}
