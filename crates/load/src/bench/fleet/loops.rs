//! The clients that this process holds, on its event loops.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use webscale::{Client, ConnectError, Handle, Limits, SlowConsumer};

use super::order::Order;
use super::{Census, Share};
use crate::bench::BenchError;
use crate::bench::client::{Clients, Session, Shared};
use crate::bench::endpoint::Endpoint;
use crate::bench::plan::{Plan, Prepared};
use crate::bench::reconnect::Comebacks;
use crate::bench::tally::{Counts, Tally};
use crate::bench::waiting::Patience;
use crate::schedule::Ramp;

/// Handshakes of a load under way at the same time, at most, unless a rate was asked for: a server's backlog is finite.
const CONNECTING_MAX: u32 = 256;
/// Messages larger than this get room of their own in the limits.
const USUAL_MESSAGE_BYTES: usize = 1024 * 1024;

/// One event loop and what its clients count.
struct EventLoop {
    client: Client<Clients>,
    clients: Clients,
    /// Empty between two collections.
    spare: Tally,
}

/// The event loops of this process.
pub(super) struct Loops {
    shared: Arc<Shared>,
    loops: Vec<EventLoop>,
    endpoint: Endpoint,
    sources: Vec<IpAddr>,
    share: Share,
    /// Of the whole load.
    clients: u32,
    ramp: Ramp,
    /// When connecting began.
    begun: Option<Instant>,
    /// Of this share's clients, the next one to connect.
    next: u32,
    /// Those that are to connect again, where that is wanted.
    comebacks: Option<Comebacks>,
}

impl Loops {
    /// Starts the event loops; nothing is connected yet.
    pub(super) fn new(plan: &Plan, prepared: &Prepared, share: Share) -> Result<Loops, BenchError> {
        let (lost, comebacks) = plan.reconnect.then(Comebacks::new).unzip();
        let shared = Arc::new(Shared {
            lost,
            pace: plan.pace(),
            payload: plan.payload.clone(),
            probe: plan.probe,
            one_probed_in: plan.one_probed_in(),
            measured_from: plan.warmup,
            until: plan.until(),
            start: OnceLock::new(),
            ended: OnceLock::new(),
            patience: Patience::for_each(plan.clients, plan.latency_limit),
            start_poll: plan.start_poll(),
            closing: AtomicBool::new(false),
            open: AtomicU32::new(0),
            peak_open: AtomicU32::new(0),
            settled: AtomicU32::new(0),
        });
        let loops = plan.loops.iter().map(|cpu| start_loop(&shared, *cpu)).collect::<Result<_, _>>()?;
        let (clients, ramp) = (plan.clients, plan.ramp);
        let (endpoint, sources) = (prepared.endpoint.clone(), prepared.sources.clone());
        let begun = None;
        Ok(Loops { shared, loops, endpoint, sources, share, clients, ramp, begun, next: 0, comebacks })
    }

    pub(super) fn obey(&mut self, order: Order) {
        match order {
            Order::Connect(begun) => self.begun = Some(begun.into()),
            Order::Start(at) => _ = self.shared.start.get_or_init(|| Instant::from(at).into()),
            Order::End(usual) => _ = self.shared.ended.get_or_init(|| usual),
        }
    }

    /// Whether connections are still to be begun.
    pub(super) fn is_connecting(&self) -> bool {
        self.begun.is_some() && self.next < self.share.clients(self.clients)
    }

    /// Whether lost connections are opened again.
    pub(super) fn is_reconnecting(&self) -> bool {
        self.comebacks.is_some()
    }

    /// Begins the connections that are due.
    ///
    /// # Errors
    /// When an event loop has ended by itself.
    pub(super) fn tend(&mut self) -> Result<(), BenchError> {
        if let Some(dead) = self.loops.iter().position(|event_loop| !event_loop.client.is_running()) {
            let ended = self.loops.swap_remove(dead).client.shutdown();
            return Err(BenchError::Loop(
                ended.map_or_else(|error| error.to_string(), |()| "it has ended".into()),
            ));
        }
        self.reconnect()?;
        self.connect()
    }

    fn reconnect(&mut self) -> Result<(), BenchError> {
        while let Some(lost) =
            self.comebacks.as_mut().and_then(|comebacks| comebacks.next_due(Instant::now()))
        {
            let session = Session::again(&lost, &self.shared);
            if !self.begin_connection(lost.client, session)?
                && let Some(comebacks) = &mut self.comebacks
            {
                comebacks.put_back(lost);
                return Ok(());
            }
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<(), BenchError> {
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
            if !self.begin_connection(index, Session::new(index, from, &self.shared))? {
                return Ok(());
            }
            self.next += 1;
        }
        Ok(())
    }

    /// Whether the loop had room for one more.
    fn begin_connection(&mut self, index: u32, session: Session) -> Result<bool, BenchError> {
        let event_loop = &self.loops[(index / self.share.of) as usize % self.loops.len()];
        let source: Option<IpAddr> = match self.sources.len() {
            0 => None,
            sources => Some(self.sources[index as usize % sources]),
        };
        match event_loop.client.connect(&self.endpoint.target(index), source, session) {
            Ok(()) => Ok(true),
            Err(ConnectError::Busy(_)) => Ok(false),
            Err(error) => Err(BenchError::Loop(error.to_string())),
        }
    }

    pub(super) fn census(&self) -> Census {
        let mut counts = Counts::default();
        self.loops.iter().for_each(|event_loop| counts.add(&event_loop.clients.tally().counts()));
        let settled = self.shared.settled.load(Ordering::Acquire);
        Census {
            open: self.shared.open.load(Ordering::Relaxed),
            peak_open: self.shared.peak_open.load(Ordering::Relaxed),
            connecting: self.next.saturating_sub(settled),
            settled,
            counts,
        }
    }

    /// Adds everything that was counted since this was last called to `sum`.
    pub(super) fn collect(&mut self, sum: &mut Tally) {
        for EventLoop { clients, spare, .. } in &mut self.loops {
            clients.exchange_tally(spare);
            sum.add(spare);
            spare.reset();
        }
    }

    /// Closes all connections, and adds what was not yet collected to `sum`.
    pub(super) fn close(&mut self, sum: &mut Tally) -> Result<(), BenchError> {
        self.shared.closing.store(true, Ordering::Relaxed);
        let handles: Vec<_> = self.loops.iter().map(|event_loop| event_loop.client.handle()).collect();
        handles.iter().for_each(Handle::shutdown);
        for EventLoop { client, clients, .. } in std::mem::take(&mut self.loops) {
            client.shutdown().map_err(|error| BenchError::Loop(error.to_string()))?;
            sum.add(&clients.tally());
        }
        for metrics in handles.iter().map(Handle::metrics) {
            sum.resumed += metrics.resumed;
            sum.compressed.add((&metrics).into());
        }
        Ok(())
    }
}

fn start_loop(shared: &Arc<Shared>, cpu: Option<usize>) -> Result<EventLoop, BenchError> {
    let message_bytes = USUAL_MESSAGE_BYTES.max(shared.payload.len_max());
    let limits = Limits {
        message_bytes,
        // Room for some messages of the largest kind. What does not fit is counted, and the client goes on.
        egress_bytes: 4 * message_bytes,
        // A server that is behind does not read while its answers are not: this end has to.
        egress_high_water: usize::MAX,
        slow_consumer: SlowConsumer::DropNewest,
        // A ping of the library's own would be a message that is not in the plan.
        ping_after: Duration::from_secs(24 * 60 * 60),
        // A server that stands still is measured, not left.
        user_timeout: Duration::MAX,
        ..Limits::default()
    };
    let clients = Clients::new(Arc::clone(shared));
    let builder = Client::builder().limits(limits);
    let builder = match cpu {
        Some(cpu) => builder.cpu(cpu),
        None => builder,
    };
    let client = builder.build(clients.clone()).map_err(|error| BenchError::Loop(error.to_string()))?;
    Ok(EventLoop { client, clients, spare: Tally::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_loops_counted_is_collected_once() {
        let plan = Plan { loops: vec![None, None], ..Plan::new("ws://127.0.0.1:9") };
        let mut loops = Loops::new(&plan, &plan.prepare().unwrap(), Share::WHOLE).unwrap();
        let count = |loops: &Loops| {
            for event_loop in &loops.loops {
                let mut tally = event_loop.clients.tally();
                tally.opened += 1;
                tally.handshakes.record(Duration::from_millis(3));
                tally.measured.counts.sent += 10;
            }
        };
        let mut sum = Tally::default();
        let told = |sum: &Tally| (sum.opened, sum.handshakes.count(), sum.measured.counts.sent);
        // Each of both tallies of a loop has its turn, more than once.
        for round in 1..=5 {
            count(&loops);
            assert_eq!(loops.census().counts.sent, 20);
            loops.collect(&mut sum);
            assert_eq!(
                (told(&sum), loops.census().counts.sent),
                ((2 * round, 2 * u64::from(round), 20 * u64::from(round)), 0)
            );
        }
        count(&loops);
        loops.close(&mut sum).unwrap();
        assert_eq!(told(&sum), (12, 12, 120));
    }

    #[test]
    fn an_event_loop_that_ended_by_itself_is_noticed() {
        let plan = Plan { loops: vec![None, None], ..Plan::new("ws://127.0.0.1:9") };
        let mut loops = Loops::new(&plan, &plan.prepare().unwrap(), Share::WHOLE).unwrap();
        loops.tend().unwrap();
        loops.loops[1].client.handle().abort();
        while loops.loops[1].client.is_running() {
            std::thread::yield_now();
        }
        let error = loops.tend().unwrap_err().to_string();
        assert!(error.contains("event loop") && error.contains("ended"), "{error}");
    }
}
