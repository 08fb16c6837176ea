//! A pool of threads for handlers that block or compute.
//!
//! A message leaves its loop together with its session, so that the messages of one connection stay in order and a session
//! is never shared; both come back with what the handler sent. The queue is bounded: when it is full, the message stays with
//! its connection, which is not read meanwhile.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use webscale_proto::{Chunk, CloseCode, Data, Message, Role};

use crate::backlog::Backlog;
use crate::deflate::Compression;
use crate::handler::Handler;
use crate::health::Stuck;
use crate::limits::Limits;
use crate::mailbox::Mailbox;
use crate::panics::{self, Panicked, caught};
use crate::peer::{ConnectionId, Outgoing, Peer, Sent, TimerRequest};
use crate::pulse::Crew;
use crate::sender::{Command, OwnedMessage};

/// Where the results of one loop's jobs go.
pub(crate) type DoneMailbox<S> = Arc<Mailbox<Done<S>>>;

/// What a handler is given of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    Whole,
    Chunk { is_first: bool, is_last: bool },
}

impl Part {
    pub(crate) fn ends_message(self) -> bool {
        matches!(self, Self::Whole | Self::Chunk { is_last: true, .. })
    }

    pub(crate) fn give<H: Handler>(self, handler: &H, peer: &mut Peer<'_, H::Session>, data: Message<'_>) {
        match self {
            Self::Whole => handler.message(peer, data),
            Self::Chunk { is_first, is_last } => handler.chunk(peer, Chunk { data, is_first, is_last }),
        }
    }
}

/// The same, on its way to a worker.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) data: OwnedMessage,
    pub(crate) part: Part,
}

/// One message for a worker, with all that its handler may touch.
pub(crate) struct Job<S> {
    pub(crate) id: ConnectionId,
    pub(crate) session: S,
    pub(crate) delivery: Delivery,
    /// Bytes that may be sent.
    pub(crate) room: usize,
    /// Empty; where the connection drops older messages for newer ones.
    pub(crate) backlog: Option<Box<Backlog>>,
    pub(crate) compression: Compression,
    /// The connection's message in fragments.
    pub(crate) unfinished: Option<Data>,
    pub(crate) commands: Arc<Mailbox<Command>>,
    pub(crate) reply_to: DoneMailbox<S>,
}

/// What became of a job.
pub(crate) struct Done<S> {
    pub(crate) id: ConnectionId,
    pub(crate) session: S,
    /// Bytes of the message.
    pub(crate) bytes: usize,
    /// An error where more panicked than the handler.
    pub(crate) work: Result<Work, Panicked>,
}

/// What a handler did on a worker.
pub(crate) struct Work {
    pub(crate) frames: Vec<u8>,
    pub(crate) compression: Compression,
    pub(crate) unfinished: Option<Data>,
    pub(crate) sent: Sent,
    pub(crate) close: Option<(CloseCode, String)>,
    pub(crate) timer: Option<TimerRequest>,
    pub(crate) overflowed: bool,
    pub(crate) panicked: bool,
    /// The codec did.
    pub(crate) failed: bool,
}

struct Queue<S> {
    jobs: VecDeque<Job<S>>,
    closed: bool,
    /// Threads that have not ended.
    workers: usize,
}

struct Shared<S> {
    queue: Mutex<Queue<S>>,
    available: Condvar,
    /// A worker has ended.
    ended: Condvar,
    capacity: usize,
    crew: Arc<Crew>,
}

impl<S> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, Queue<S>> {
        // Handlers run without it.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Job<S>> {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                if queue.jobs.len() <= self.capacity / 2 {
                    self.crew.queue_has_room();
                }
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            queue = self.available.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The loop's end of the pool: hands jobs in.
pub(crate) struct Pool<S> {
    shared: Arc<Shared<S>>,
    done: DoneMailbox<S>,
}

impl<S> Pool<S> {
    /// Hands in a job; it comes back when the queue is full.
    pub(crate) fn submit(&self, job: Job<S>) -> Result<(), Job<S>> {
        let mut queue = self.shared.lock();
        if queue.jobs.len() >= self.shared.capacity {
            self.shared.crew.queue_is_full();
            return Err(job);
        }
        queue.jobs.push_back(job);
        drop(queue);
        self.shared.available.notify_one();
        Ok(())
    }

    /// Whether [`Pool::submit`] would take a job now.
    pub(crate) fn has_room(&self) -> bool {
        self.shared.lock().jobs.len() < self.shared.capacity
    }

    /// Takes back the jobs of one loop that no worker has begun.
    pub(crate) fn withdraw(&self, event_loop: u32) -> VecDeque<Job<S>> {
        let mut queue = self.shared.lock();
        let (withdrawn, rest) =
            std::mem::take(&mut queue.jobs).into_iter().partition(|job| job.id.event_loop == event_loop);
        queue.jobs = rest;
        withdrawn
    }

    /// The workers that have a session of this loop and are stuck.
    pub(crate) fn stuck(&self, event_loop: u32) -> Vec<Stuck> {
        self.shared.crew.stuck_for(event_loop)
    }

    pub(crate) fn reply_to(&self) -> DoneMailbox<S> {
        self.done.clone()
    }
}

/// How often the end of the pool is looked at while handlers run.
const LOOK: Duration = Duration::from_millis(100);

/// The threads. Dropping this waits until the jobs handed in are done, or those that are not are stuck.
pub(crate) struct Workers<S> {
    shared: Arc<Shared<S>>,
    threads: Vec<JoinHandle<()>>,
}

impl<S: Send + 'static> Workers<S> {
    pub(crate) fn start<H: Handler<Session = S>>(
        threads: usize,
        role: Role,
        limits: &Limits,
        handler: &Arc<H>,
    ) -> io::Result<Self> {
        let (capacity, egress) = (limits.worker_queue, limits.egress_bytes);
        let queue = Mutex::new(Queue { jobs: VecDeque::new(), closed: false, workers: 0 });
        let crew = Arc::new(Crew::new(threads, limits.stuck_after));
        let shared =
            Arc::new(Shared { queue, available: Condvar::new(), ended: Condvar::new(), capacity, crew });
        let mut workers = Self { shared, threads: Vec::with_capacity(threads) };
        for index in 0..threads {
            let (shared, handler) = (workers.shared.clone(), handler.clone());
            let work = move || work(index, &shared, &*handler, Outgoing::new(role, egress));
            workers.threads.push(thread::Builder::new().name(format!("worker-{index}")).spawn(work)?);
            workers.shared.lock().workers += 1;
        }
        Ok(workers)
    }

    /// A worker's part, played by a test: runs one job, if there is one.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn run_one<H: Handler<Session = S>>(&self, handler: &H, role: Role, limits: &Limits) -> bool {
        let job = self.begin();
        let found = job.is_some();
        if let Some(job) = job {
            run(job, handler, &mut Outgoing::new(role, limits.egress_bytes));
        }
        found
    }

    /// The first half of it: takes a job, which `run` ends.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn begin(&self) -> Option<Job<S>> {
        self.shared.lock().jobs.pop_front()
    }

    pub(crate) fn crew(&self) -> Arc<Crew> {
        self.shared.crew.clone()
    }

    pub(crate) fn pool(&self, done: DoneMailbox<S>) -> Pool<S> {
        Pool { shared: self.shared.clone(), done }
    }
}

impl<S> Workers<S> {
    /// Waits until the jobs handed in are done, or those that are not are stuck: these come back, and their threads are
    /// left behind.
    pub(crate) fn end(mut self) -> Vec<Stuck> {
        self.close()
    }

    fn close(&mut self) -> Vec<Stuck> {
        let mut queue = self.shared.lock();
        queue.closed = true;
        self.shared.available.notify_all();
        let mut stuck = Vec::new();
        while queue.workers > stuck.len() {
            let waited = self.shared.ended.wait_timeout(queue, LOOK);
            queue = waited.unwrap_or_else(PoisonError::into_inner).0;
            stuck = self.shared.crew.stuck();
        }
        drop(queue);
        for thread in self.threads.drain(..).filter(|thread| stuck.is_empty() || thread.is_finished()) {
            // A worker catches its handlers' panics.
            let _ = thread.join();
        }
        stuck
    }
}

impl<S> Drop for Workers<S> {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.close();
        }
    }
}

/// Says that a worker has ended, whatever ended it.
struct Ending<'a, S>(&'a Shared<S>);

impl<S> Drop for Ending<'_, S> {
    fn drop(&mut self) {
        self.0.lock().workers -= 1;
        self.0.ended.notify_all();
    }
}

fn work<H: Handler>(index: usize, shared: &Shared<H::Session>, handler: &H, mut outgoing: Outgoing) {
    panics::enrol();
    let _ending = Ending(shared);
    while let Some(job) = shared.next() {
        shared.crew.work(index, job.id);
        run(job, handler, &mut outgoing);
        shared.crew.rest(index);
    }
}

pub(crate) fn run<H: Handler>(job: Job<H::Session>, handler: &H, outgoing: &mut Outgoing) {
    let Job { id, mut session, delivery, room, backlog, compression, unfinished, commands, reply_to } = job;
    let work = caught(|| {
        outgoing.begin(false);
        outgoing.backlog = backlog;
        outgoing.set_room(room);
        (outgoing.compression, outgoing.unfinished) = (compression, unfinished);
        let data = delivery.data.borrowed();
        let given = caught(|| {
            let mut peer = Peer { session: &mut session, outgoing, id, commands: &commands };
            delivery.part.give(handler, &mut peer, data);
        });
        Work::of(outgoing, given.is_err())
    });
    if work.is_err() {
        outgoing.renew();
    }
    // A loop does not end before it has back what it lent.
    drop(reply_to.push_unbounded(Done { id, session, bytes: delivery.data.borrowed().len(), work }));
}

impl Work {
    fn of(outgoing: &mut Outgoing, panicked: bool) -> Self {
        Self {
            frames: outgoing.hand_over(),
            compression: std::mem::take(&mut outgoing.compression),
            unfinished: outgoing.unfinished.take(),
            sent: outgoing.sent,
            close: outgoing.close.take(),
            timer: outgoing.timer.take(),
            overflowed: outgoing.overflowed,
            panicked,
            failed: outgoing.failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use webscale_sys::Waker;

    use super::*;
    use crate::slots::Token;

    /// Panics with a value whose destructor panics.
    struct Malicious;

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("as the test asked, once more"));
        }
    }

    impl Handler for Malicious {
        type Session = u8;

        fn message(&self, peer: &mut Peer<'_, u8>, _: Message<'_>) {
            *peer.session() += 1;
            std::panic::resume_unwind(Box::new(Bomb));
        }
    }

    fn job(done: &DoneMailbox<u8>) -> Job<u8> {
        let delivery = Delivery { data: OwnedMessage::Text("hello".into()), part: Part::Whole };
        let waker = Arc::new(Waker::new().expect("a descriptor"));
        Job {
            id: ConnectionId { event_loop: 0, token: Token::from_u64(1) },
            session: 7,
            delivery,
            room: 100,
            backlog: None,
            compression: Compression::Off,
            unfinished: None,
            commands: Arc::new(Mailbox::new(waker, 1, 1)),
            reply_to: done.clone(),
        }
    }

    /// What becomes of a job on a worker with this `outgoing`.
    fn outcome(outgoing: &mut Outgoing) -> Done<u8> {
        let waker = Arc::new(Waker::new().expect("a descriptor"));
        let done = Arc::new(Mailbox::new(waker, usize::MAX, usize::MAX));
        run(job(&done), &Malicious, outgoing);
        let mut list = VecDeque::new();
        done.take(&mut list);
        list.pop_front().expect("an answer")
    }

    #[test]
    fn a_handler_that_throws_what_panics_again_costs_no_more_than_another_panic() {
        let done = outcome(&mut Outgoing::new(Role::Server, 1000));
        assert_eq!((done.session, done.bytes), (8, 5));
        assert!(done.work.is_ok_and(|work| work.panicked && !work.failed));
    }

    #[test]
    fn a_panic_outside_of_the_handler_gives_the_session_back_and_leaves_nothing_behind() {
        let mut outgoing = Outgoing::new(Role::Server, 1000);
        // A worker's is empty between two jobs: it says so.
        outgoing.frames.push(0);
        let done = outcome(&mut outgoing);
        assert_eq!((done.session, done.bytes), (7, 5), "the handler was not reached");
        assert!(matches!(done.work, Err(Panicked)));
        assert!(outgoing.frames.is_empty());
        assert!(outcome(&mut outgoing).work.is_ok());
    }
}
