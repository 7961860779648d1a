//! Clients that mean no good: what a server on the open network has to bear.
//!
//! An [`Attack`] is carried out by this process against the front ends of one gateway, over plain
//! sockets that it fills byte by byte: no client library would send such things. What the server
//! did about it is in [`Seen`]. `crowd` moves the bytes of many connections, `ear` understands
//! what comes back, `frames` writes HTTP/2; the attacks themselves are in `connections`,
//! `payloads` and `floods`.

mod connections;
mod crowd;
mod ear;
mod floods;
mod frames;
mod payloads;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Whom an attack is against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontEnd {
    /// RESP.
    Redis,
    /// HTTP/1.1 and HTTP/2 on one port.
    Http,
    /// HTTP/2 only.
    Grpc,
}

/// Where the front ends of a gateway are, and a topic that exists.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its Redis port.
    pub redis: SocketAddr,
    /// Its HTTP port.
    pub http: SocketAddr,
    /// Its gRPC port.
    pub grpc: SocketAddr,
    /// What messages are sent to, where an attack sends any.
    pub topic: String,
}

impl Target {
    fn address(&self, front_end: FrontEnd) -> SocketAddr {
        match front_end {
            FrontEnd::Redis => self.redis,
            FrontEnd::Http => self.http,
            FrontEnd::Grpc => self.grpc,
        }
    }
}

/// How much of it.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Connections of attacks that are about their number.
    pub connections: usize,
    /// Bytes of one body.
    pub body_bytes: u64,
    /// Commands, requests or frames of one connection that floods.
    pub requests: u64,
    /// Between two bytes of who is slow.
    pub pause: Duration,
    /// Attackers come again, and who only waits does so, until then.
    pub length: Duration,
    /// And so much longer for what has been begun by then.
    pub finish: Duration,
}

impl Size {
    /// What an attacker with one machine can do.
    pub fn large(length: Duration) -> Self {
        Self {
            connections: 10_000,
            body_bytes: 1 << 30,
            requests: 1_000_000,
            pause: Duration::from_secs(1),
            length,
            finish: Duration::from_secs(5),
        }
    }

    /// The same in a test; it is over when the server has ended it, or after `length`.
    pub fn small(length: Duration) -> Self {
        Self {
            connections: 200,
            body_bytes: 64 << 20,
            requests: 20_000,
            pause: Duration::from_millis(500),
            length,
            finish: Duration::from_secs(120),
        }
    }
}

/// A kind of attack.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// Its name on command lines.
    pub name: &'static str,
    /// What it does, in half a sentence.
    pub about: &'static str,
    run: fn(&mut Strike<'_>) -> io::Result<()>,
}

/// All of them.
pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "half-open-redis",
        about: "connections that never say a word",
        run: |strike| connections::half_open(strike, FrontEnd::Redis),
    },
    Attack {
        name: "half-open-http",
        about: "the same",
        run: |strike| connections::half_open(strike, FrontEnd::Http),
    },
    Attack {
        name: "half-open-grpc",
        about: "the same",
        run: |strike| connections::half_open(strike, FrontEnd::Grpc),
    },
    Attack {
        name: "slow-loris-redis",
        about: "commands that come byte by byte and never end",
        run: |strike| connections::slow_loris(strike, FrontEnd::Redis),
    },
    Attack {
        name: "slow-loris-http",
        about: "heads of requests that come byte by byte and never end",
        run: |strike| connections::slow_loris(strike, FrontEnd::Http),
    },
    Attack {
        name: "slow-loris-grpc",
        about: "HTTP/2 connections that begin byte by byte and never ask anything",
        run: |strike| connections::slow_loris(strike, FrontEnd::Grpc),
    },
    Attack {
        name: "slow-bodies-redis",
        about: "a message of 1 MB that comes byte by byte",
        run: |strike| connections::slow_bodies(strike, FrontEnd::Redis),
    },
    Attack {
        name: "slow-bodies-http",
        about: "a body of 1 MB that comes byte by byte",
        run: |strike| connections::slow_bodies(strike, FrontEnd::Http),
    },
    Attack {
        name: "slow-bodies-grpc",
        about: "a message of 1 MB in frames of one byte",
        run: |strike| connections::slow_bodies(strike, FrontEnd::Grpc),
    },
    Attack {
        name: "never-reading-redis",
        about: "commands without end whose replies nobody reads",
        run: |strike| connections::never_reading(strike, FrontEnd::Redis),
    },
    Attack {
        name: "never-reading-http",
        about: "requests without end whose replies nobody reads",
        run: |strike| connections::never_reading(strike, FrontEnd::Http),
    },
    Attack {
        name: "never-reading-grpc",
        about: "calls without end whose replies nobody has a window for",
        run: |strike| connections::never_reading(strike, FrontEnd::Grpc),
    },
    Attack {
        name: "one-byte-writes",
        about: "good requests in segments of one byte, at every front end",
        run: payloads::one_byte_writes,
    },
    Attack {
        name: "huge-bodies",
        about: "bodies of 1 GB, announced and not, at every front end",
        run: payloads::huge_bodies,
    },
    Attack {
        name: "unfinished-redis",
        about: "commands of 30 MB whose last byte never comes",
        run: |strike| payloads::unfinished(strike, FrontEnd::Redis),
    },
    Attack {
        name: "unfinished-http",
        about: "bodies of 15 MB whose last byte never comes",
        run: |strike| payloads::unfinished(strike, FrontEnd::Http),
    },
    Attack {
        name: "unfinished-grpc",
        about: "messages of 1 MB, 100 on each connection, whose last byte never comes",
        run: |strike| payloads::unfinished(strike, FrontEnd::Grpc),
    },
    Attack {
        name: "deep-json",
        about: "JSON a million levels deep, at every front end that reads some",
        run: payloads::deep_json,
    },
    Attack {
        name: "bombs",
        about: "compressed bodies of 1 GB, gzip and zstd, and a compressed gRPC message",
        run: payloads::bombs,
    },
    Attack {
        name: "header-flood",
        about: "100,000 headers, a header without end, over HTTP/1, HTTP/2 and gRPC",
        run: floods::headers,
    },
    Attack {
        name: "rapid-reset",
        about: "HTTP/2 requests that are reset at once, over HTTP and gRPC",
        run: floods::rapid_reset,
    },
    Attack {
        name: "continuation-flood",
        about: "HTTP/2 headers continued without end, over HTTP and gRPC",
        run: floods::continuations,
    },
    Attack {
        name: "control-flood",
        about: "HTTP/2 settings and pings without end, whose answers nobody reads",
        run: floods::control_frames,
    },
    Attack {
        name: "pipeline",
        about: "a million commands or requests in one go, over Redis and HTTP",
        run: floods::pipeline,
    },
];

impl Attack {
    /// Finds one by its name.
    pub fn named(name: &str) -> Option<&'static Self> {
        ATTACKS.iter().find(|attack| attack.name == name)
    }

    /// Carries it out, and says what came of it.
    ///
    /// # Errors
    /// Nothing could be connected to.
    pub fn run(&self, target: &Target, size: Size) -> io::Result<Seen> {
        let mut strike = Strike {
            target,
            size,
            until: Instant::now() + size.length,
            seen: Seen::default(),
        };
        (self.run)(&mut strike)?;
        Ok(strike.seen)
    }
}

/// What attackers have seen of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Connections that were opened.
    pub opened: u64,
    /// Those that the server has ended.
    pub ended: u64,
    /// Bytes that it has taken.
    pub sent: u64,
    /// Bytes of its answers that were read.
    pub received: u64,
    /// Its answers: error and other first lines of Redis, status lines of HTTP, and of HTTP/2 the
    /// kinds of frames with their error codes.
    pub answers: BTreeMap<String, u64>,
}

impl Seen {
    /// How many answers begin so.
    pub fn answers(&self, beginning: &str) -> u64 {
        let answers = self.answers.iter();
        let fitting = answers.filter(|(answer, _)| answer.starts_with(beginning));
        fitting.map(|(_, count)| count).sum()
    }

    /// For another process.
    pub fn to_json(&self) -> Value {
        json!({
            "opened": self.opened,
            "ended": self.ended,
            "sent": self.sent,
            "received": self.received,
            "answers": self.answers,
        })
    }
}

/// An attack under way.
struct Strike<'a> {
    target: &'a Target,
    size: Size,
    until: Instant,
    seen: Seen,
}

impl Strike<'_> {
    fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }

    /// Does it once, and again as long as there is time for another.
    fn again(&mut self, mut once: impl FnMut(&mut Self) -> io::Result<()>) -> io::Result<()> {
        let until = self.until;
        loop {
            self.until = until.max(Instant::now()) + self.size.finish;
            let done = once(self);
            self.until = until;
            done?;
            if self.is_over() {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attack_has_a_name_of_its_own() {
        let mut names: Vec<&str> = ATTACKS.iter().map(|attack| attack.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ATTACKS.len());
        assert!(Attack::named("pipeline").is_some());
        assert!(Attack::named("kindness").is_none());
    }
}
