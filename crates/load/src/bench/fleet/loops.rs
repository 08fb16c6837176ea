//! The clients that this process holds, on its event loops.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use webscale::{Client, ConnectError, Limits, SlowConsumer};

use super::{Census, Share};
use crate::bench::BenchError;
use crate::bench::client::{Clients, Session, Shared};
use crate::bench::plan::{Plan, Prepared};
use crate::bench::tally::{Counts, Tally};
use crate::schedule::Ramp;

/// Handshakes of a load under way at the same time, at most, unless a rate was asked for: a server's backlog is finite.
const CONNECTING_MAX: u32 = 256;
/// Messages larger than this get room of their own in the limits.
const USUAL_MESSAGE_BYTES: usize = 1024 * 1024;

/// One event loop and what its clients count.
struct EventLoop {
    client: Client<Clients>,
    clients: Clients,
}

/// The event loops of this process.
pub(super) struct Loops {
    shared: Arc<Shared>,
    loops: Vec<EventLoop>,
    prepared: Prepared,
    share: Share,
    /// Of the whole load.
    clients: u32,
    ramp: Ramp,
    /// When connecting began.
    begun: Option<Instant>,
    /// Of this share's clients, the next one to connect.
    next: u32,
}

impl Loops {
    /// Starts the event loops; nothing is connected yet.
    pub(super) fn new(plan: &Plan, prepared: Prepared, share: Share) -> Result<Loops, BenchError> {
        let shared = Arc::new(Shared {
            pace: plan.pace(),
            payload: plan.payload.clone(),
            probe: plan.probe,
            one_probed_in: plan.one_probed_in(),
            measured_from: plan.warmup,
            until: plan.until(),
            start: OnceLock::new(),
            ended: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            open: AtomicU32::new(0),
            peak_open: AtomicU32::new(0),
            settled: AtomicU32::new(0),
        });
        let loops = plan.loops.iter().map(|cpu| start_loop(&shared, *cpu)).collect::<Result<_, _>>()?;
        let (clients, ramp) = (plan.clients, plan.ramp);
        Ok(Loops { shared, loops, prepared, share, clients, ramp, begun: None, next: 0 })
    }

    pub(super) fn connect(&mut self, begun: Instant) {
        self.begun = Some(begun);
    }

    /// Begins the connections that are due.
    pub(super) fn tend(&mut self) -> Result<(), BenchError> {
        let Some(begun) = self.begun else { return Ok(()) };
        let count = self.share.clients(self.clients);
        let at_once = match self.ramp {
            Ramp::Rate(_) => u32::MAX,
            _ => (CONNECTING_MAX / self.share.of).max(1),
        };
        while self.next < count {
            let index = self.share.index(self.next);
            let under_way = self.next - self.shared.settled.load(Ordering::Acquire);
            let due = self.ramp.connect_at(index, self.clients);
            if begun.elapsed() < due || under_way >= at_once {
                return Ok(());
            }
            // At a given rate the time counts from when the client was due to arrive, as with messages.
            let from = if matches!(self.ramp, Ramp::Rate(_)) { begun + due } else { Instant::now() };
            if !self.begin_connection(index, from)? {
                return Ok(());
            }
            self.next += 1;
        }
        Ok(())
    }

    /// Whether the loop had room for one more.
    fn begin_connection(&self, index: u32, from: Instant) -> Result<bool, BenchError> {
        let event_loop = &self.loops[self.next as usize % self.loops.len()];
        let source: Option<IpAddr> = match self.prepared.sources.len() {
            0 => None,
            sources => Some(self.prepared.sources[index as usize % sources]),
        };
        match event_loop.client.connect(
            &self.prepared.target,
            source,
            Session::new(index, from, &self.shared),
        ) {
            Ok(()) => Ok(true),
            Err(ConnectError::Busy(_)) => Ok(false),
            Err(error) => Err(BenchError::Loop(error.to_string())),
        }
    }

    pub(super) fn census(&self) -> Census {
        let mut counts = Counts::default();
        self.loops.iter().for_each(|event_loop| counts.add(&event_loop.clients.tally().counts()));
        let settled = self.shared.settled.load(Ordering::Acquire);
        let connecting = self.next.saturating_sub(settled);
        Census { open: self.shared.open.load(Ordering::Relaxed), connecting, settled, counts }
    }

    pub(super) fn peak_open(&self) -> u32 {
        self.shared.peak_open.load(Ordering::Relaxed)
    }

    /// Everything that was counted since this was last called.
    pub(super) fn collect(&self) -> Tally {
        let mut sum = Tally::default();
        self.loops.iter().for_each(|event_loop| sum.add(&event_loop.clients.take_tally()));
        sum
    }

    pub(super) fn start(&self, at: Instant) {
        self.shared.start.get_or_init(|| at.into());
    }

    pub(super) fn end(&self) {
        self.shared.ended.store(true, Ordering::Relaxed);
    }

    /// Closes all connections, and gives what was not yet collected.
    pub(super) fn close(&mut self) -> Result<Tally, BenchError> {
        self.shared.closing.store(true, Ordering::Relaxed);
        self.loops.iter().for_each(|event_loop| event_loop.client.handle().shutdown());
        let mut tally = Tally::default();
        for EventLoop { client, clients } in std::mem::take(&mut self.loops) {
            client.shutdown().map_err(|error| BenchError::Loop(error.to_string()))?;
            tally.add(&clients.take_tally());
        }
        Ok(tally)
    }
}

fn start_loop(shared: &Arc<Shared>, cpu: Option<usize>) -> Result<EventLoop, BenchError> {
    let message_bytes = USUAL_MESSAGE_BYTES.max(shared.payload.len_max());
    let limits = Limits {
        message_bytes,
        // Room for some messages of the largest kind. What does not fit is counted, and the client goes on.
        egress_bytes: 4 * message_bytes,
        slow_consumer: SlowConsumer::Drop,
        // A ping of the library's own would be a message that is not in the plan.
        ping_after: Duration::from_secs(24 * 60 * 60),
        ..Limits::default()
    };
    let clients = Clients::new(Arc::clone(shared));
    let builder = Client::builder().limits(limits);
    let builder = match cpu {
        Some(cpu) => builder.cpu(cpu),
        None => builder,
    };
    let client = builder.build(clients.clone()).map_err(|error| BenchError::Loop(error.to_string()))?;
    Ok(EventLoop { client, clients })
}
