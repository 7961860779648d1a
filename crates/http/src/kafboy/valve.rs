//! The valve before `/safe` (contract, section 8,
//! `safetyvalve.queues.kafboy_q`): a bucket of tokens, and a bounded queue of
//! requests that wait for theirs.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a request may wait; kafboy's clients give up by then.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValveOptions {
    /// How often tokens are added (`hz`, milliseconds).
    pub interval: Duration,
    /// How many each time (`rate`).
    pub rate: u64,
    /// How many may be left over (`token_limit`).
    pub token_limit: u64,
    /// Requests that may wait (`size`).
    pub size: usize,
    /// Requests that may run (`concurrency`).
    pub concurrency: usize,
}

impl Default for ValveOptions {
    /// Those of kafboy's example.
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(50),
            rate: 1_000,
            token_limit: 10_000,
            size: 300_000,
            concurrency: 300_000,
        }
    }
}

/// Why a request may not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shut {
    /// Too many wait.
    QueueFull,
    /// It has waited for too long.
    Overload,
}

impl Shut {
    /// kafboy's words.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::QueueFull => "system queue full",
            Self::Overload => "system overload",
        }
    }
}

pub(super) struct Valve {
    options: ValveOptions,
    bucket: Mutex<Bucket>,
    waiting: AtomicUsize,
    running: Arc<Semaphore>,
    /// The first of those who wait for a token; the others stand behind it.
    turn: tokio::sync::Mutex<()>,
}

struct Bucket {
    tokens: u64,
    filled: Instant,
}

/// A request that runs.
pub(super) struct Passage(#[expect(dead_code, reason = "it is given back")] OwnedSemaphorePermit);

/// A request that waits.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Valve {
    pub(super) fn new(options: ValveOptions) -> Self {
        let options = ValveOptions {
            interval: options.interval.max(Duration::from_millis(1)),
            ..options
        };
        let places = options.concurrency.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            bucket: Mutex::new(Bucket {
                tokens: options.rate.min(options.token_limit),
                filled: Instant::now(),
            }),
            waiting: AtomicUsize::new(0),
            running: Arc::new(Semaphore::new(places)),
            turn: tokio::sync::Mutex::new(()),
            options,
        }
    }

    /// Requests that wait, and those that run.
    pub(super) fn levels(&self) -> (usize, usize) {
        let places = self.options.concurrency.clamp(1, Semaphore::MAX_PERMITS);
        let running = places.saturating_sub(self.running.available_permits());
        (self.waiting.load(Ordering::Relaxed), running)
    }

    /// Passes, at once or after others.
    pub(super) async fn enter(&self) -> Result<Passage, Shut> {
        if let Ok(_turn) = self.turn.try_lock()
            && let Ok(place) = Arc::clone(&self.running).try_acquire_owned()
            && self.take(Instant::now()).is_ok()
        {
            return Ok(Passage(place));
        }
        let waiting = self.waiting.fetch_add(1, Ordering::AcqRel);
        let _waiting = Waiting(&self.waiting);
        if waiting >= self.options.size {
            return Err(Shut::QueueFull);
        }
        let passed = tokio::time::timeout(LONGEST_WAIT, self.wait());
        passed.await.unwrap_or(Err(Shut::Overload))
    }

    async fn wait(&self) -> Result<Passage, Shut> {
        let _turn = self.turn.lock().await;
        let place = Arc::clone(&self.running).acquire_owned().await;
        // It is never closed.
        let place = place.map_err(|_| Shut::Overload)?;
        while let Err(next) = self.take(Instant::now()) {
            tokio::time::sleep_until(next.into()).await;
        }
        Ok(Passage(place))
    }

    /// A token, or when there may be one.
    fn take(&self, now: Instant) -> Result<(), Instant> {
        let mut bucket = self.bucket.lock();
        let ValveOptions {
            interval,
            rate,
            token_limit,
            ..
        } = self.options;
        let passed = now.saturating_duration_since(bucket.filled).as_nanos();
        let times = u64::try_from(passed / interval.as_nanos()).unwrap_or(u64::MAX);
        if times > 0 {
            let tokens = bucket.tokens.saturating_add(rate.saturating_mul(times));
            bucket.tokens = tokens.min(token_limit);
            // On the beat, unless that was long ago.
            let beats = u32::try_from(times).ok();
            let beats = beats.and_then(|times| interval.checked_mul(times));
            let filled = beats.and_then(|time| bucket.filled.checked_add(time));
            bucket.filled = filled.unwrap_or(now);
        }
        match bucket.tokens.checked_sub(1) {
            Some(left) => {
                bucket.tokens = left;
                Ok(())
            }
            None => Err(bucket.filled + interval),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(size: usize, concurrency: usize) -> ValveOptions {
        ValveOptions {
            interval: Duration::from_secs(3_600),
            rate: 2,
            token_limit: 3,
            size,
            concurrency,
        }
    }

    #[test]
    fn tokens_come_on_the_beat_up_to_a_limit() {
        let valve = Valve::new(options(0, 1));
        let begin = valve.bucket.lock().filled;
        let hours = |hours: u64| begin + Duration::from_secs(3_600 * hours);
        assert_eq!(valve.take(begin), Ok(()));
        assert_eq!(valve.take(begin), Ok(()));
        assert_eq!(valve.take(begin), Err(hours(1)));
        // Ten beats later there are three, not twenty.
        for _ in 0..3 {
            assert_eq!(valve.take(hours(10)), Ok(()));
        }
        assert_eq!(valve.take(hours(10)), Err(hours(11)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_no_token_waits_and_the_queue_is_bounded() {
        let valve = Arc::new(Valve::new(options(1, 9)));
        let passages = [valve.enter().await.unwrap(), valve.enter().await.unwrap()];
        let own = Arc::clone(&valve);
        let waiting = tokio::spawn(async move { own.enter().await.map(drop) });
        while valve.waiting.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(valve.enter().await.map(drop), Err(Shut::QueueFull));
        // The paused clock goes on when nobody can run.
        assert_eq!(waiting.await.unwrap(), Err(Shut::Overload));
        assert_eq!(valve.waiting.load(Ordering::Acquire), 0);
        drop(passages);
    }

    #[tokio::test]
    async fn so_many_run_at_the_same_time() {
        let valve = Arc::new(Valve::new(ValveOptions {
            rate: 1_000,
            token_limit: 1_000,
            ..options(5, 1)
        }));
        let first = valve.enter().await.unwrap();
        let own = Arc::clone(&valve);
        let second = tokio::spawn(async move { own.enter().await.map(drop) });
        while valve.waiting.load(Ordering::Acquire) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!second.is_finished());
        assert_eq!(valve.levels().1, 1);
        drop(first);
        assert_eq!(second.await.unwrap(), Ok(()));
    }
}
