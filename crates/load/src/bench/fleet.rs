//! All clients of a load, wherever they are.

mod loops;
mod member;
mod order;
mod part;

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::BenchError;
use super::plan::{Plan, Prepared, Program};
use super::tally::{Counts, Tally};
use loops::Loops;
pub use member::run_part;
use order::{Assignment, Order, Request};
use part::Part;

/// Which clients of a load one process holds: every `of`-th, beginning with number `first`. So all processes connect and
/// send side by side, as the event loops of one do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Share {
    first: u32,
    of: u32,
}

impl Share {
    /// All clients.
    pub(crate) const WHOLE: Share = Share { first: 0, of: 1 };

    /// One of `of` shares that together are all clients.
    fn each(of: u32) -> impl Iterator<Item = Share> {
        (0..of).map(move |first| Share { first, of })
    }

    /// How many clients that is, of `clients` in all.
    fn clients(self, clients: u32) -> u32 {
        clients.saturating_sub(self.first).div_ceil(self.of)
    }

    /// The load's number of this share's client `nth`.
    fn index(self, nth: u32) -> u32 {
        self.first + nth * self.of
    }
}

/// How clients stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Census {
    /// Connections that are open.
    pub(crate) open: u32,
    /// The most that were open at the same time.
    pub(crate) peak_open: u32,
    /// Connections that are being opened.
    pub(crate) connecting: u32,
    /// Connections that were opened or failed.
    pub(crate) settled: u32,
    /// What is not yet collected.
    pub(crate) counts: Counts,
}

/// Some clients of a load, and where they are.
enum Group {
    Here(Box<Loops>),
    Elsewhere(Part),
}

impl Group {
    fn tell(&mut self, order: Order) -> Result<(), BenchError> {
        match self {
            Group::Here(loops) => {
                loops.obey(order);
                Ok(())
            }
            Group::Elsewhere(part) => part.send(Request::Order(order)),
        }
    }

    /// Asks before the answer is needed, so that all processes answer at the same time.
    fn ask(&mut self, request: Request) -> Result<(), BenchError> {
        match self {
            Group::Here(_) => Ok(()),
            Group::Elsewhere(part) => part.send(request),
        }
    }

    fn census(&mut self) -> Result<Census, BenchError> {
        match self {
            Group::Here(loops) => Ok(loops.census()),
            Group::Elsewhere(part) => part.census(),
        }
    }

    fn collect(&mut self, sum: &mut Tally) -> Result<(), BenchError> {
        match self {
            Group::Here(loops) => loops.collect(sum),
            Group::Elsewhere(part) => sum.add(&part.tally()?),
        }
        Ok(())
    }

    fn close(&mut self, sum: &mut Tally) -> Result<(), BenchError> {
        match self {
            Group::Here(loops) => loops.close(sum)?,
            Group::Elsewhere(part) => sum.add(&part.tally()?),
        }
        Ok(())
    }
}

/// All clients of a load.
pub(crate) struct Fleet {
    /// Those that can be reached.
    groups: Vec<Group>,
    /// How many there were.
    count: usize,
    /// Why the first one could not be reached any more.
    lost: Option<BenchError>,
    peak_open: u32,
    notice: Duration,
}

impl Fleet {
    /// Starts the event loops, in this process or in as many as the plan needs; nothing is connected yet.
    pub(crate) fn new(plan: &Plan, prepared: &Prepared) -> Result<Fleet, BenchError> {
        let groups = match &prepared.parts {
            None => vec![Group::Here(Box::new(Loops::new(plan, prepared, Share::WHOLE)?))],
            Some((count, program)) => start_parts(plan, prepared, *count, program)?,
        };
        let (count, notice) = (groups.len(), 2 * plan.start_poll());
        Ok(Fleet { groups, count, lost: None, peak_open: 0, notice })
    }

    /// The processes beside this one that hold clients.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let pid = |group: &Group| match group {
            Group::Here(_) => None,
            Group::Elsewhere(part) => Some(part.pid()),
        };
        self.groups.iter().filter_map(pid).collect()
    }

    /// How many processes hold clients, or held some.
    pub(crate) fn processes(&self) -> usize {
        self.count
    }

    /// Why some of the clients could not be reached any more, if so. What they had counted until then stands in what was
    /// collected.
    pub(crate) fn lost(&self) -> Option<&BenchError> {
        self.lost.as_ref()
    }

    /// For who has no use for a part of the clients.
    ///
    /// # Errors
    /// What [`Fleet::lost`] says, once.
    pub(crate) fn whole(&mut self) -> Result<(), BenchError> {
        self.lost.take().map_or(Ok(()), Err)
    }

    /// Begins to open all connections over the ramp, which counts from `begun`.
    pub(crate) fn connect(&mut self, begun: Instant) {
        self.tell(Order::Connect(begun.into()));
    }

    /// Does what has become due. To be called often while connections are being opened.
    pub(crate) fn tend(&mut self) {
        self.each(|group| match group {
            Group::Here(loops) => loops.tend(),
            Group::Elsewhere(_) => Ok(()),
        });
    }

    /// How often it is worth to look at the clients while something is awaited: another process costs more to ask.
    pub(crate) fn tick(&self) -> Duration {
        match self.groups.as_slice() {
            [Group::Here(_)] => Duration::from_millis(1),
            _ => Duration::from_millis(20),
        }
    }

    /// How the clients stand now.
    pub(crate) fn census(&mut self) -> Census {
        self.ask(Request::Census);
        let mut sum = Census::default();
        for one in self.each(Group::census) {
            sum.open += one.open;
            sum.connecting += one.connecting;
            sum.settled += one.settled;
            sum.counts.add(&one.counts);
            sum.peak_open = sum.peak_open.max(one.peak_open);
        }
        // The peaks of several processes may have been at different times: what is open now is certain.
        self.peak_open = self.peak_open.max(sum.peak_open).max(sum.open);
        Census { peak_open: self.peak_open, ..sum }
    }

    /// The most connections that were seen open at the same time.
    pub(crate) fn peak_open(&self) -> u32 {
        self.peak_open
    }

    /// Adds everything that was counted since this was last called to `sum`.
    pub(crate) fn collect(&mut self, sum: &mut Tally) {
        self.ask(Request::Tally);
        self.each(|group| group.collect(sum));
    }

    /// Has the schedule begin a little later than now, so that every client learns of it in time; says when.
    pub(crate) fn start(&mut self) -> Instant {
        let at = Instant::now() + self.notice;
        self.tell(Order::Start(at.into()));
        at
    }

    /// No further message is sent. What is never answered is timed if it has waited for so long as is `usual`.
    pub(crate) fn end(&mut self, usual: Duration) {
        self.tell(Order::End(usual));
    }

    /// Closes all connections, and adds what was not yet collected to `sum`.
    pub(crate) fn close(&mut self, sum: &mut Tally) {
        self.ask(Request::Close);
        self.each(|group| group.close(sum));
    }

    fn tell(&mut self, order: Order) {
        self.each(|group| group.tell(order));
    }

    fn ask(&mut self, request: Request) {
        self.each(|group| group.ask(request));
    }

    /// What `act` gives of every group. One of which it fails is lost with its clients; the others go on until they are told
    /// to end.
    fn each<T>(&mut self, mut act: impl FnMut(&mut Group) -> Result<T, BenchError>) -> Vec<T> {
        let mut given = Vec::with_capacity(self.groups.len());
        let lost = &mut self.lost;
        self.groups.retain_mut(|group| match act(group) {
            Ok(one) => {
                given.push(one);
                true
            }
            Err(error) => {
                lost.get_or_insert(error);
                false
            }
        });
        given
    }
}

/// Starts `count` processes, and waits until all are ready to connect.
fn start_parts(
    plan: &Plan,
    prepared: &Prepared,
    count: u32,
    program: &Program,
) -> Result<Vec<Group>, BenchError> {
    let start = |share: Share| {
        let plan = Plan { loops: loops_of(&plan.loops, share), ..plan.clone() };
        Part::start(program, &Assignment { plan, share, sources: prepared.sources.clone() })
    };
    let mut parts = Share::each(count).map(start).collect::<Result<Vec<_>, _>>()?;
    parts.iter_mut().try_for_each(Part::ready)?;
    Ok(parts.into_iter().map(Group::Elsewhere).collect())
}

/// The loops of one share: where there are fewer loops than processes, several have the same processor.
fn loops_of(loops: &[Option<usize>], share: Share) -> Vec<Option<usize>> {
    let (first, of) = (share.first as usize, share.of as usize);
    match loops.len() {
        0 => Vec::new(),
        count if count < of => vec![loops[first % count]],
        _ => loops.iter().copied().skip(first).step_by(of).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_disjoint_and_whole() {
        for (clients, of) in [(1, 1), (10, 3), (9, 3), (2, 5), (100_000, 6)] {
            let shares = (0..of).map(|first| Share { first, of });
            let mut all: Vec<u32> = shares
                .flat_map(|share| (0..share.clients(clients)).map(move |nth| share.index(nth)))
                .collect();
            all.sort_unstable();
            assert_eq!(all, (0..clients).collect::<Vec<_>>(), "{clients} in {of}");
        }
    }

    #[test]
    fn loops_are_spread_over_the_processes() {
        let loops = |list: &[usize], of| -> Vec<Vec<usize>> {
            let list: Vec<_> = list.iter().copied().map(Some).collect();
            Share::each(of).map(|share| loops_of(&list, share).into_iter().flatten().collect()).collect()
        };
        assert_eq!(loops(&[4, 5, 6], 2), [vec![4, 6], vec![5]]);
        assert_eq!(loops(&[4, 5], 3), [[4], [5], [4]]);
    }
}
