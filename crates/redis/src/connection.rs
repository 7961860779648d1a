//! One client: reads commands, executes them in order, writes replies.

use crate::codec::{Frame, Limits, ParseError, Parser, Protocol, Reply};
use crate::commands::{self, Arguments, Context, Flow};
use crate::meter::Failure;
use crate::pending::{Pending, READ_BYTES};
use crate::registry::{Entry, order};
use crate::server::Place;
use crate::session::Session;
use crate::statistics::Statistics;
use crate::stream::Stream;
use barnabas_engine::Newcomer;
use bytes::{Buf as _, BytesMut};
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Replies are written at the latest when this many bytes have gathered.
const WRITE_BYTES: usize = 64 << 10;
/// Buffers that an I/O thread keeps for the next connection.
const POOLED: usize = 16;
/// How long a connection that is to end at once may take for it.
const KILL_WAIT: Duration = Duration::from_secs(1);
/// A wait this short is spent looking for input: to sleep and to be woken
/// takes as long.
const SPIN: Duration = Duration::from_micros(30);
/// Only who has sent the thread's last so many inputs is waited for that way.
const ALONE: u32 = 64;
/// Larger buffers go back to the allocator.
const POOLED_BYTES: usize = 256 << 10;

thread_local! {
    /// Buffers of connections that wait for input are lent to others, so
    /// that an idle connection has none.
    static POOL: RefCell<Vec<Buffers>> = const { RefCell::new(Vec::new()) };
    /// Whose inputs came last, and how many without another's between.
    static STREAK: Cell<(u64, u32)> = const { Cell::new((0, 0)) };
}

/// Counts an input; whether the connection has the thread to itself.
fn is_alone(id: u64) -> bool {
    let (last, count) = STREAK.get();
    let count = if last == id {
        count.saturating_add(1)
    } else {
        0
    };
    STREAK.set((id, count));
    count >= ALONE
}

/// What executing commands needs for a while.
#[derive(Default)]
struct Buffers {
    input: BytesMut,
    output: Vec<u8>,
    produced: commands::Pipeline,
}

impl Buffers {
    fn borrow() -> Self {
        POOL.with_borrow_mut(Vec::pop).unwrap_or_default()
    }

    fn give_back(mut self) {
        self.input.clear();
        self.output.clear();
        POOL.with_borrow_mut(|pool| {
            if pool.len() < POOLED
                && self.input.capacity() <= POOLED_BYTES
                && self.output.capacity() <= POOLED_BYTES
            {
                pool.push(self);
            }
        });
    }
}

/// Why a connection ends.
enum End {
    /// As the client or the protocol wants it.
    Regular,
    /// The client broke the framing; it has been told.
    Malformed(ParseError),
    /// There is no room for its command; it has been told.
    NoRoom,
    Io(std::io::Error),
}

/// Resolves then, if ever.
async fn until(late: Option<tokio::time::Instant>) {
    match late {
        Some(late) => tokio::time::sleep_until(late).await,
        None => std::future::pending().await,
    }
}

/// Serves a client until it leaves, breaks the protocol or is asked to go.
pub(crate) async fn serve(place: Place, stream: Stream, peer: String, newcomer: &Newcomer) {
    let entry = place.shared.registry.enter(peer, stream.descriptor());
    // Declared after the stream, hence dropped before it: others look at the
    // socket as long as the session is registered.
    let mut stream = stream;
    let mut connection = Connection {
        session: Session::new(Arc::clone(&place.shared), entry),
        parser: Parser::default(),
        protocol: Protocol::default(),
        newcomer,
        executed: 0,
    };
    let entry = Arc::clone(&connection.session.entry);
    let end = tokio::select! {
        biased;
        end = connection.run(&mut stream) => end,
        () = killed_in_vain(&entry) => End::Regular,
        () = newcomer.sent_away() => {
            place.shared.meter.failed(Failure::Full as usize);
            End::Regular
        }
    };
    let id = connection.session.id().to_owned();
    // Before the client sees the end: whoever reconnects at once finds the
    // name and the place free.
    let meter = Arc::clone(&place.shared.meter);
    drop(connection);
    drop(place);
    stream.shutdown().await;
    meter.sent(stream.take_sent());
    match end {
        End::Regular => tracing::debug!(component = format!("client-{id}"), "closed"),
        End::NoRoom => {
            meter.failed(Failure::Full as usize);
            tracing::warn!(
                component = format!("client-{id}"),
                "closed: no room for its command"
            );
        }
        End::Malformed(error) => {
            meter.failed(Failure::Protocol as usize);
            tracing::warn!(component = format!("client-{id}"), "closed: {error}");
        }
        End::Io(error) => {
            meter.failed(Failure::Connection as usize);
            tracing::info!(component = format!("client-{id}"), "closed: {error}");
        }
    }
}

/// Resolves when a connection should long have ended: one whose client does
/// not read would otherwise take the whole limit for writing.
async fn killed_in_vain(entry: &Entry) {
    entry.ordered(order::KILL).await;
    tokio::time::sleep(KILL_WAIT).await;
}

struct Connection<'a> {
    session: Session,
    parser: Parser,
    protocol: Protocol,
    newcomer: &'a Newcomer,
    /// Commands so far.
    executed: u64,
}

impl Connection<'_> {
    async fn run(&mut self, stream: &mut Stream) -> End {
        let mut pending = Pending::new(self.session.shared.input.keep_nothing());
        let pause = self.session.shared.config.client_timeout;
        let mut spins = false;
        loop {
            let since = Instant::now();
            let has_adds = !self.session.adds.is_empty();
            match self.wait_for_input(stream, spins, pending.late()).await {
                Ok(Waited::Readable | Waited::Nothing) => {}
                Ok(Waited::Ordered) => return self.last_words(stream).await,
                Err(error) => return End::Io(error),
            }
            if has_adds {
                pending.restart();
            }
            spins = is_alone(self.session.entry.id) && since.elapsed() < SPIN;
            let mut buffers = Buffers::borrow();
            pending.give_to(&mut buffers.input);
            let executed = self.executed;
            let Buffers {
                mut input,
                output,
                mut produced,
            } = buffers;
            let mut reply = Reply {
                bytes: output,
                protocol: self.protocol,
                ..Reply::default()
            };
            let Some(most) = pending.grow(&mut input, self.parser.wanted()) else {
                return self.no_room(stream).await;
            };
            let orders = orders_to_end(&self.session);
            let read = if stream.is_tls() {
                // What is readable may be less than a record.
                tokio::select! {
                    read = stream.read(&mut input, most) => read,
                    () = self.session.entry.ordered(orders) => Ok(0),
                }
            } else {
                stream.read(&mut input, most).await
            };
            let mut is_flood = false;
            let end = match read {
                Ok(0) => Some(End::Regular),
                Ok(bytes) => {
                    self.session.shared.meter.received(bytes);
                    is_flood = bytes >= READ_BYTES / 2;
                    self.process(&mut input, &mut produced, &mut reply, stream)
                        .await
                }
                Err(error) => Some(End::Io(error)),
            };
            self.protocol = reply.protocol;
            if let Some(end) = end {
                // What a broken socket has not taken would begin anew.
                if !matches!(end, End::Io(_)) {
                    let _ = stream.write(&mut reply.bytes).await;
                }
                return end;
            }
            if let Err(error) = stream.write(&mut reply.bytes).await {
                return End::Io(error);
            }
            self.session.shared.meter.sent(stream.take_sent());
            if input.is_empty() {
                self.parser.rest();
            }
            if !pending.keep(&mut input, self.executed > executed, pause) {
                return self.no_room(stream).await;
            }
            stream.has_executed();
            Buffers {
                input,
                output: reply.bytes,
                produced,
            }
            .give_back();
            if self.must_end() {
                return self.last_words(stream).await;
            }
            if is_flood {
                // The others of this thread get their turn.
                tokio::task::yield_now().await;
            }
        }
    }

    async fn no_room(&self, stream: &mut Stream) -> End {
        let mut reply = Reply {
            protocol: self.protocol,
            ..Reply::default()
        };
        reply.error("ERR the commands of other clients take all the room");
        let _ = stream.write(&mut reply.bytes).await;
        End::NoRoom
    }

    /// Answers the XADDs under way before the connection ends in good order.
    async fn last_words(&mut self, stream: &mut Stream) -> End {
        let mut reply = Reply {
            protocol: self.protocol,
            ..Reply::default()
        };
        let settled = async {
            commands::settle(&mut self.session, &mut reply, stream).await?;
            stream.write(&mut reply.bytes).await
        };
        match settled.await {
            Ok(()) => End::Regular,
            Err(error) => End::Io(error),
        }
    }

    /// Waits for input; meanwhile answers the XADDs under way as Kafka does.
    /// While there are too many of them no input is waited for.
    async fn wait_with_adds(&mut self, stream: &mut Stream) -> std::io::Result<Waited> {
        let entry = Arc::clone(&self.session.entry);
        let orders = orders_to_end(&self.session);
        let mut buffers = Buffers::borrow();
        let mut reply = Reply {
            bytes: std::mem::take(&mut buffers.output),
            protocol: self.protocol,
            ..Reply::default()
        };
        let waited = loop {
            let adds = &mut self.session.adds;
            if adds.is_empty() {
                break Ok(None);
            }
            let has_room = adds.has_room();
            let client = async {
                if has_room {
                    return stream.readable().await.map(|()| Some(Waited::Readable));
                }
                stream.hung_up().await;
                entry.give_order(order::KILL);
                Ok(Some(Waited::Ordered))
            };
            tokio::select! {
                biased;
                () = adds.progress(&mut reply) => {}
                waited = client => break waited,
                () = entry.ordered(orders) => break Ok(Some(Waited::Ordered)),
            }
            if let Err(error) = stream.write(&mut reply.bytes).await {
                break Err(error);
            }
        };
        buffers.output = reply.bytes;
        buffers.give_back();
        match waited? {
            Some(waited) => Ok(waited),
            None => Ok(Waited::Nothing),
        }
    }

    /// Waits for input; meanwhile shows a watcher its lines.
    async fn wait_for_input(
        &mut self,
        stream: &mut Stream,
        spins: bool,
        mut late: Option<tokio::time::Instant>,
    ) -> std::io::Result<Waited> {
        if !self.session.adds.is_empty() {
            match self.wait_with_adds(stream).await? {
                Waited::Nothing => {}
                waited => return Ok(waited),
            }
            // Meanwhile it may have been this side that did not read.
            let pause = self.session.shared.config.client_timeout;
            let anew = tokio::time::Instant::now() + pause;
            late = late.map(|late| late.max(anew));
        }
        if spins && self.session.watched.is_none() {
            let since = Instant::now();
            while since.elapsed() < SPIN {
                tokio::select! {
                    biased;
                    ready = stream.readable() => return ready.map(|()| Waited::Readable),
                    // The others get their turn, and the sockets are asked.
                    () = tokio::task::yield_now() => {}
                }
            }
        }
        loop {
            let session = &mut self.session;
            let orders = orders_to_end(session);
            let mut lines = Vec::new();
            match &mut session.watched {
                None => tokio::select! {
                    biased;
                    ready = stream.readable() => return ready.map(|()| Waited::Readable),
                    () = session.entry.ordered(orders) => return Ok(Waited::Ordered),
                    () = until(late) => return Err(too_late()),
                },
                Some(watched) => {
                    tokio::select! {
                        ready = stream.readable() => return ready.map(|()| Waited::Readable),
                        () = session.entry.ordered(orders) => return Ok(Waited::Ordered),
                        () = until(late) => return Err(too_late()),
                        line = watched.recv() => match line {
                            Some(line) => lines.push(line),
                            None => return Ok(Waited::Ordered),
                        },
                    }
                    while let Some(line) = watched.try_recv() {
                        lines.push(line);
                    }
                }
            }
            let mut reply = Reply {
                protocol: self.protocol,
                ..Reply::default()
            };
            for line in lines {
                reply.simple(&line);
            }
            stream.write(&mut reply.bytes).await?;
        }
    }

    fn must_end(&self) -> bool {
        self.session.entry.orders() & orders_to_end(&self.session) != 0
    }

    fn limits(&self) -> Limits {
        if self.session.is_logged_in {
            Limits::FULL
        } else {
            Limits::BEFORE_LOGIN
        }
    }

    /// Executes every complete command of the input and leaves the rest.
    async fn process(
        &mut self,
        input: &mut BytesMut,
        produced: &mut commands::Pipeline,
        reply: &mut Reply,
        stream: &mut Stream,
    ) -> Option<End> {
        let mut start = 0;
        let mut executed = 0;
        self.session.room_deadline = None;
        let end = loop {
            let frame = self.parser.next(input, start, self.limits());
            let end = match frame {
                Ok(Frame::Command { end }) => end,
                Ok(Frame::Incomplete) => {
                    start = self.parser.start();
                    break produced
                        .finish(&mut self.session, input, reply, stream)
                        .await
                        .map(End::Io);
                }
                Err(error) => {
                    if let Err(error) = commands::settle(&mut self.session, reply, stream).await {
                        break Some(End::Io(error));
                    }
                    if let Some(error) = produced
                        .finish(&mut self.session, input, reply, stream)
                        .await
                    {
                        break Some(End::Io(error));
                    }
                    if error != ParseError::CrossProtocol {
                        reply.error(&error.to_string());
                    }
                    break Some(End::Malformed(error));
                }
            };
            start = end;
            executed += 1;
            if executed == 1 && self.session.is_logged_in {
                // Before it waits for something, maybe for long.
                self.newcomer.has_asked();
            }
            let arguments = Arguments::new(&self.parser, input);
            // Nobody is answered before those who asked earlier.
            if !self.session.adds.is_empty()
                && !arguments.is(0, "xadd")
                && let Err(error) = commands::settle(&mut self.session, reply, stream).await
            {
                break Some(End::Io(error));
            }
            // Consecutive messages to one topic go to Kafka in one call.
            if produced.take(&mut self.session, &arguments, input) {
                continue;
            }
            if let Some(error) = produced
                .finish(&mut self.session, input, reply, stream)
                .await
            {
                break Some(End::Io(error));
            }
            if produced.take(&mut self.session, &arguments, input) {
                continue;
            }
            let mut context = Context {
                session: &mut self.session,
                reply,
                stream,
                may_wait: true,
            };
            match commands::execute(&mut context, &arguments).await {
                Flow::Continue => {}
                Flow::Close => break Some(End::Regular),
                Flow::Broken(error) => break Some(End::Io(error)),
            }
            if self.must_end() {
                break Some(End::Regular);
            }
            if reply.bytes.len() >= WRITE_BYTES {
                if let Err(error) = stream.write(&mut reply.bytes).await {
                    break Some(End::Io(error));
                }
                // A short command may have a long reply, and many of them come
                // at once.
                tokio::task::yield_now().await;
            }
        };
        self.executed += executed;
        if executed > 0 && self.session.is_logged_in {
            self.newcomer.has_asked();
        }
        input.advance(start.min(input.len()));
        self.parser.rebase(start);
        Statistics::add(&self.session.shared.statistics.commands, executed);
        self.session.entry.touch();
        end
    }
}

fn too_late() -> std::io::Error {
    let text = "the rest of a command has not come in time";
    std::io::Error::new(std::io::ErrorKind::TimedOut, text)
}

/// The orders that end a connection: while the server stops, those without
/// a consumer may go on producing.
fn orders_to_end(session: &Session) -> u8 {
    let consuming = match session.consumer {
        Some(_) => order::STOP_CONSUMING,
        None => 0,
    };
    order::KILL | order::CLOSE | consuming
}

enum Waited {
    Readable,
    Ordered,
    /// What else there was to be waited for is over.
    Nothing,
}
