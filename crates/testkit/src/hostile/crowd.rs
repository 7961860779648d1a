//! Many connections, driven by one thread.

use super::ear::{Ear, Speech};
use super::frames::{FRAME, pong};
use super::{FrontEnd, Seen, Strike};
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What one connection sends before it is the next one's turn.
const TURN: usize = 256 << 10;
/// A listener's queue may be full.
const CONNECT: Duration = Duration::from_secs(20);
/// Who is finished waits so long for the server's next word.
const LAST_WORD: Duration = Duration::from_secs(20);

/// What a connection sends.
#[derive(Clone)]
pub(super) struct Script {
    speech: Speech,
    head: Arc<[u8]>,
    then: Then,
    reads: bool,
    /// Stays when everything has been sent.
    waits: bool,
    /// Sends no more than an HTTP/2 connection's window allows.
    has_window: bool,
}

#[derive(Clone)]
enum Then {
    /// Waits for the server to end it.
    Wait,
    /// Hangs up when so many answers have come.
    Leave(u64),
    /// Sends this now and then.
    Drip(Arc<[u8]>, Duration),
    /// Sends this in single bytes, and waits then.
    Spell(Arc<[u8]>, Duration),
    /// Sends this again and again, so many times.
    Repeat(Arc<[u8]>, u64),
    /// Sends what is made for each turn, so many times.
    Make(fn(u64) -> Vec<u8>, u64),
}

impl Script {
    /// Sends this and waits until the server ends the connection.
    pub(super) fn new(speech: Speech, head: impl Into<Arc<[u8]>>) -> Self {
        Self {
            speech,
            head: head.into(),
            then: Then::Wait,
            reads: true,
            waits: false,
            has_window: false,
        }
    }

    /// Hangs up once everything has been sent and so much was answered.
    pub(super) fn leaving(self, answers: u64) -> Self {
        Self {
            then: Then::Leave(answers),
            ..self
        }
    }

    /// Stays when everything has been sent.
    pub(super) fn waiting(self) -> Self {
        Self {
            waits: true,
            ..self
        }
    }

    pub(super) fn drip(self, unit: impl Into<Arc<[u8]>>, every: Duration) -> Self {
        Self {
            then: Then::Drip(unit.into(), every),
            ..self
        }
    }

    pub(super) fn spell(self, text: impl Into<Arc<[u8]>>, every: Duration) -> Self {
        Self {
            then: Then::Spell(text.into(), every),
            ..self
        }
    }

    pub(super) fn repeat(self, unit: impl Into<Arc<[u8]>>, times: u64) -> Self {
        Self {
            then: Then::Repeat(unit.into(), times),
            ..self
        }
    }

    pub(super) fn make(self, make: fn(u64) -> Vec<u8>, times: u64) -> Self {
        Self {
            then: Then::Make(make, times),
            ..self
        }
    }

    /// Sends no more than the connection's window allows: who sends more is told
    /// to go.
    pub(super) fn within_window(self) -> Self {
        Self {
            has_window: true,
            ..self
        }
    }

    /// Reads nothing.
    pub(super) fn deaf(self) -> Self {
        Self {
            reads: false,
            ..self
        }
    }
}

struct Member {
    socket: Option<TcpStream>,
    script: Script,
    ear: Ear,
    /// What is being sent, and how much of it has been.
    sending: Arc<[u8]>,
    sent: usize,
    turns: u64,
    next: Instant,
    /// Since when there has been nothing left to send, and nothing was heard.
    done: Option<Instant>,
}

enum Step {
    Moved,
    Still,
    /// The server has ended it.
    Ended,
    /// Nothing more is to be done.
    Left,
}

impl Member {
    fn new(socket: TcpStream, script: Script) -> Self {
        Self {
            socket: Some(socket),
            ear: Ear::new(script.speech),
            sending: Arc::clone(&script.head),
            script,
            sent: 0,
            turns: 0,
            next: Instant::now(),
            done: None,
        }
    }

    fn step(&mut self, seen: &mut Seen, buffer: &mut [u8]) -> Step {
        let written = self.write(seen);
        let read = if self.script.reads {
            self.read(seen, buffer)
        } else {
            Step::Still
        };
        if let (Some(since), Step::Moved) = (&mut self.done, &read) {
            *since = Instant::now();
        }
        match (written, read) {
            // What was said before the end is heard first.
            (_, Step::Ended) | (Step::Ended, Step::Still) => Step::Ended,
            (Step::Left, _) | (_, Step::Left) => Step::Left,
            (Step::Still, Step::Still) => Step::Still,
            _ => Step::Moved,
        }
    }

    fn write(&mut self, seen: &mut Seen) -> Step {
        let mut budget = TURN;
        while budget > 0 {
            if self.sent == self.sending.len() && !self.refill() {
                break;
            }
            let rest = self.sending.get(self.sent..).unwrap_or_default();
            let part = rest.get(..budget).unwrap_or(rest);
            let Some(socket) = &mut self.socket else {
                return Step::Ended;
            };
            match socket.write(part) {
                Ok(count) => {
                    self.sent += count;
                    seen.sent += count as u64;
                    budget -= count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return Step::Ended,
            }
        }
        match self.done {
            Some(since) if !self.script.waits && since.elapsed() > LAST_WORD => Step::Left,
            _ if budget < TURN => Step::Moved,
            _ => Step::Still,
        }
    }

    /// The next that is to be sent, if it is time.
    fn refill(&mut self) -> bool {
        if let Some(ping) = self.ear.next_ping() {
            (self.sending, self.sent) = (pong(ping).into(), 0);
            return true;
        }
        if self.script.has_window && !self.ear.takes(FRAME) {
            return false;
        }
        let turn = self.turns;
        let next = match &self.script.then {
            Then::Wait | Then::Leave(_) => None,
            Then::Drip(unit, every) => {
                let now = Instant::now();
                if now < self.next {
                    return false;
                }
                self.next = now + *every;
                Some(Arc::clone(unit))
            }
            Then::Spell(text, every) => {
                let now = Instant::now();
                if now < self.next {
                    return false;
                }
                self.next = now + *every;
                let turn = usize::try_from(turn).unwrap_or(usize::MAX);
                text.get(turn).map(|byte| Arc::from([*byte]))
            }
            Then::Repeat(unit, times) if turn < *times => Some(Arc::clone(unit)),
            Then::Make(make, times) if turn < *times => Some(make(turn).into()),
            Then::Repeat(..) | Then::Make(..) => {
                self.done.get_or_insert_with(Instant::now);
                None
            }
        };
        let Some(next) = next else {
            return false;
        };
        self.turns += 1;
        (self.sending, self.sent) = (next, 0);
        true
    }

    fn read(&mut self, seen: &mut Seen, buffer: &mut [u8]) -> Step {
        let Some(socket) = &mut self.socket else {
            return Step::Ended;
        };
        match socket.read(buffer) {
            Ok(0) => Step::Ended,
            Ok(count) => {
                seen.received += count as u64;
                let bytes = buffer.get(..count).unwrap_or_default();
                self.ear.hear(bytes, &mut seen.answers);
                let is_said = self.sent == self.sending.len();
                match &self.script.then {
                    Then::Leave(most) if is_said && self.ear.answers() >= *most => Step::Left,
                    Then::Spell(text, _)
                        if self.turns >= text.len() as u64 && self.ear.answers() > 0 =>
                    {
                        Step::Left
                    }
                    _ => Step::Moved,
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Step::Still,
            Err(_) => Step::Ended,
        }
    }
}

/// Connects without waiting for ever.
pub(super) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, CONNECT)?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

impl Strike<'_> {
    /// Opens the connections, one with each script, and drives them until all have ended or the
    /// strike is over.
    pub(super) fn crowd(
        &mut self,
        front_end: FrontEnd,
        scripts: impl IntoIterator<Item = Script>,
    ) -> io::Result<()> {
        let address = self.target.address(front_end);
        let mut members = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        let mut failed = None;
        for script in scripts {
            match connect(address) {
                Ok(socket) => {
                    socket.set_nonblocking(true)?;
                    self.seen.opened += 1;
                    members.push(Member::new(socket, script));
                }
                // What there is attacks all the same.
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        if let Some(error) = failed.filter(|_| members.is_empty()) {
            return Err(error);
        }
        let pause = Duration::from_millis(2) + Duration::from_micros(20) * count(members.len());
        while !members.is_empty() {
            let mut has_moved = false;
            let seen = &mut self.seen;
            members.retain_mut(|member| match member.step(seen, &mut buffer) {
                Step::Moved => {
                    has_moved = true;
                    true
                }
                Step::Still => true,
                Step::Ended => {
                    seen.ended += 1;
                    false
                }
                Step::Left => false,
            });
            if self.is_over() {
                break;
            }
            if !has_moved {
                std::thread::sleep(pause);
            }
        }
        Ok(())
    }
}

fn count(members: usize) -> u32 {
    u32::try_from(members).unwrap_or(u32::MAX)
}
