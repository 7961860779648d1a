//! A question to Kafka that many have at the same time.

use std::time::Instant;
use tokio::sync::Mutex;

/// Lets all who come while it is asked share the next answer: the one under
/// way may be older than what they know.
#[derive(Default)]
pub(super) struct Question {
    /// When the last one that was answered, or given up, was asked.
    last: Mutex<Option<Instant>>,
}

impl Question {
    /// Asks by `asking`, which notes the answer, unless somebody else has
    /// asked since this was called. Waits for two answers at most.
    pub(super) async fn ask(&self, asking: impl Future<Output = ()>) {
        let came = Instant::now();
        let mut last = self.last.lock().await;
        if last.is_some_and(|asked| asked >= came) {
            return;
        }
        let asked = Instant::now();
        asking.await;
        *last = Some(asked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use tokio::sync::Notify;

    #[tokio::test]
    async fn those_who_come_meanwhile_share_the_next_answer() {
        let question = Question::default();
        let (asked, answer) = (Cell::new(0), Notify::new());
        let first = question.ask(async {
            asked.set(asked.get() + 1);
            answer.notified().await;
        });
        let later = || {
            question.ask(async {
                asked.set(asked.get() + 1);
            })
        };
        let answering = async {
            assert_eq!(asked.get(), 1, "one at a time");
            answer.notify_one();
        };
        tokio::join!(biased; first, later(), later(), later(), answering);
        assert_eq!(asked.get(), 2, "the first one's answer may be too old");
        later().await;
        assert_eq!(asked.get(), 3);
    }

    #[tokio::test]
    async fn who_goes_away_has_not_asked() {
        let question = Question::default();
        let asked = Cell::new(false);
        {
            let gone = std::pin::pin!(question.ask(std::future::pending()));
            let waits = std::pin::pin!(question.ask(async { asked.set(true) }));
            tokio::select! {
                biased;
                () = gone => {}
                () = waits => {}
                () = std::future::ready(()) => {}
            }
        }
        assert!(!asked.get());
        question.ask(async { asked.set(true) }).await;
        assert!(asked.get());
    }
}
