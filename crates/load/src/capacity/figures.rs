//! The figures of a search: of each step, and of the memory that a client takes.

use serde::Serialize;

use super::binding::Binding;
use super::search::Step;
use crate::bench::outcome::Outcome;
use crate::bench::timeline::busiest_thread;
use crate::compare::figures::{Line, Spread};
use crate::doctor::KERNEL_BYTES;

/// One step of a search.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StepReport {
    /// What was tried: clients, or messages a second.
    pub value: u32,
    /// Held as long as the result has to be; steps on the way are shorter.
    pub whole: bool,
    /// Whether it was held.
    pub held: bool,
    /// What stopped it.
    pub binding: Option<Binding>,
    /// Clients asked for.
    pub clients: u32,
    /// Clients that were open at the same time, at most.
    pub peak_open: u32,
    /// Messages sent a second.
    pub rate: f64,
    /// Length of the measured part, in seconds.
    pub measured_seconds: f64,
    /// Corrected latency, p50 in µs.
    pub p50_us: Option<f64>,
    /// Corrected latency, p99 in µs.
    pub p99_us: Option<f64>,
    /// The server's CPU, in processors.
    pub server_cpu: Option<f64>,
    /// Its busiest thread, as a share of one processor.
    pub server_busiest_thread: Option<f64>,
    /// Its memory at the end of the load, in bytes.
    pub server_pss_bytes: Option<u64>,
    /// The load's busiest thread, as a share of one processor.
    pub load_busiest_thread: f64,
}

impl StepReport {
    pub(crate) fn new(step: Step, outcome: &Outcome, binding: Option<Binding>) -> StepReport {
        let latency = outcome.latency_us.map(|latency| latency.corrected);
        let server = outcome.server.as_ref();
        StepReport {
            value: step.value,
            whole: step.whole,
            held: binding.is_none(),
            binding,
            clients: outcome.connections.clients,
            peak_open: outcome.connections.peak_open,
            rate: outcome.sent_rates().0,
            measured_seconds: outcome.measured_seconds,
            p50_us: latency.map(|latency| latency.p50),
            p99_us: latency.map(|latency| latency.p99),
            server_cpu: server.map(|server| server.cpu_share),
            server_busiest_thread: busiest_thread(&outcome.timeline).map(|thread| thread.share),
            server_pss_bytes: server.map(|server| server.memory_loaded.pss_bytes),
            load_busiest_thread: outcome.generator.busiest_thread,
        }
    }

    /// What became of it, in one line.
    pub(super) fn summary(&self) -> String {
        let mut text = match &self.binding {
            None => "held".to_owned(),
            Some(binding) => format!("not held: {}", binding.brief()),
        };
        if let Some(us) = self.p99_us {
            text += &format!(", p99 {:.1} ms", us / 1e3);
        }
        if let Some(share) = self.server_cpu {
            text += &format!(", server CPU {:.0} %", share * 100.0);
        }
        text
    }
}

/// What a client takes, measured over steps with different numbers of clients.
///
/// A server's allocator keeps what it has once had, so that a step says nothing of its own clients after a larger one: only
/// those count that had more clients than all before.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClientMemory {
    /// Slope of the server's PSS over the clients, under load, in bytes.
    pub server_bytes: f64,
    /// With 95 % the slope is no further away than this, in bytes; none with two steps, of which it cannot be told.
    pub server_bytes_error: Option<f64>,
    /// The kernel's part for the server's end, in bytes.
    pub kernel_bytes: f64,
    /// The least of all steps.
    pub kernel_bytes_least: f64,
    /// The most of all steps.
    pub kernel_bytes_most: f64,
    /// It was measured. Else it is what an idle connection has taken elsewhere: the kernel tells root alone, and of the whole
    /// machine, on which other programs may have had sockets.
    pub kernel_measured: bool,
    /// PSS of the server without clients, by the same line, in bytes.
    pub base_bytes: f64,
    /// How much of the spread the line explains: 1.0 is all.
    pub r_squared: f64,
    /// Steps that the line goes through.
    pub steps: usize,
    /// The fewest clients of these.
    pub clients_least: u32,
    /// The most clients of these.
    pub clients_most: u32,
}

/// How many clients a machine of another size would hold by memory alone: projected, not measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Projection {
    /// The memory that was asked for, in bytes.
    pub budget_bytes: u64,
    /// How many; none where there is no line, or none to project by.
    pub clients: Option<u64>,
    /// So many at least, with 95 %; none where that cannot be told.
    pub clients_least: Option<u64>,
    /// So many at most, with 95 %; none where that cannot be told.
    pub clients_most: Option<u64>,
}

impl Projection {
    /// Where there was nothing to project from.
    pub(super) fn unknown(budget_bytes: u64) -> Projection {
        Projection { budget_bytes, clients: None, clients_least: None, clients_most: None }
    }
}

/// A client takes no more than this times of what it takes with fewer of them.
const KERNEL_SPREAD_MAX: f64 = 4.0;

/// Student's t for 95 %, by degrees of freedom from one on; later ones are close to the last.
const STUDENT_T: [f64; 10] = [12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23];

impl ClientMemory {
    /// From the steps that were held; `both_ends` says whether the kernel's figures are of both ends. None where there
    /// are not two different numbers of clients, or the server's process was not measured.
    pub(super) fn of(held: &[Outcome], both_ends: bool) -> Option<ClientMemory> {
        let point = |outcome: &&Outcome| {
            let pss = outcome.server.as_ref()?.memory_loaded.pss_bytes;
            Some((f64::from(outcome.connections.opened), pss as f64))
        };
        let points: Vec<(f64, f64)> = held.iter().filter_map(|outcome| point(&outcome)).collect();
        let line = Line::through(&points)?;
        let measured = held.iter().filter_map(|outcome| kernel_bytes(outcome, both_ends));
        // It is of the whole machine: where other programs had sockets meanwhile, it says nothing.
        let measured = Spread::of(measured)
            .filter(|spread| spread.min > 0.0 && spread.max <= spread.min * KERNEL_SPREAD_MAX);
        let kernel = measured.unwrap_or(Spread {
            median: KERNEL_BYTES as f64,
            min: KERNEL_BYTES as f64,
            max: KERNEL_BYTES as f64,
            runs: 0,
        });
        let clients = || held.iter().map(|outcome| outcome.connections.opened);
        Some(ClientMemory {
            server_bytes: line.slope,
            server_bytes_error: slope_error(&line, points.len()),
            kernel_bytes: kernel.median,
            kernel_bytes_least: kernel.min,
            kernel_bytes_most: kernel.max,
            kernel_measured: measured.is_some(),
            base_bytes: line.intercept.max(0.0),
            r_squared: line.r_squared,
            steps: points.len(),
            clients_least: clients().min().unwrap_or(0),
            clients_most: clients().max().unwrap_or(0),
        })
    }

    pub(super) fn project(&self, budget_bytes: u64) -> Projection {
        let room = (budget_bytes as f64 - self.base_bytes).max(0.0);
        let clients = |server_bytes: f64, kernel_bytes: f64| {
            (server_bytes > 0.0).then(|| whole(room / (server_bytes + kernel_bytes)))
        };
        let error = self.server_bytes_error;
        Projection {
            budget_bytes,
            clients: clients(self.server_bytes, self.kernel_bytes),
            clients_least: error.and_then(|error| clients(self.server_bytes + error, self.kernel_bytes_most)),
            clients_most: error.and_then(|error| clients(self.server_bytes - error, self.kernel_bytes_least)),
        }
    }
}

/// What the kernel took a client of this load for one end; none where it shows only a part of that.
fn kernel_bytes(outcome: &Outcome, both_ends: bool) -> Option<f64> {
    let (idle, loaded) = (&outcome.kernel.idle, &outcome.kernel.loaded);
    loaded.slab_bytes?;
    let grown = loaded.total_bytes().saturating_sub(idle.total_bytes()) as f64;
    let ends = if both_ends { 2.0 } else { 1.0 };
    Some(grown / ends / f64::from(outcome.connections.opened.max(1)))
}

/// How far the slope may be off with 95 %, by what the line through so many points does not explain.
fn slope_error(line: &Line, points: usize) -> Option<f64> {
    let freedom = points.checked_sub(2).filter(|freedom| *freedom > 0)?;
    let t = STUDENT_T[(freedom - 1).min(STUDENT_T.len() - 1)];
    let unexplained = (1.0 / line.r_squared.max(f64::MIN_POSITIVE) - 1.0).max(0.0);
    Some(t * line.slope.abs() * (unexplained / freedom as f64).sqrt())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "not negative, and a float's range"
)]
fn whole(number: f64) -> u64 {
    number as u64
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) const MEMORY: ClientMemory = ClientMemory {
        server_bytes: 4_000.0,
        server_bytes_error: Some(1_000.0),
        kernel_bytes: 6_000.0,
        kernel_bytes_least: 5_000.0,
        kernel_bytes_most: 7_000.0,
        kernel_measured: true,
        base_bytes: 1e7,
        r_squared: 1.0,
        steps: 3,
        clients_least: 1_000,
        clients_most: 4_000,
    };

    #[test]
    fn a_budget_is_divided_among_clients() {
        let projection = MEMORY.project(4_010_000_000);
        let Projection { clients, clients_least, clients_most, .. } = projection;
        assert_eq!((clients, clients_least, clients_most), (Some(400_000), Some(333_333), Some(500_000)));
        assert_eq!(MEMORY.project(1_000_000).clients, Some(0));
        let two = ClientMemory { server_bytes_error: None, ..MEMORY }.project(4_010_000_000);
        assert_eq!((two.clients, two.clients_least, two.clients_most), (Some(400_000), None, None));
    }

    #[test]
    fn what_does_not_grow_is_no_basis() {
        let shrinking = ClientMemory { server_bytes: -10.0, ..MEMORY }.project(4_010_000_000);
        assert_eq!((shrinking.clients, shrinking.clients_most), (None, None));
        let vague = ClientMemory { server_bytes_error: Some(5_000.0), ..MEMORY }.project(4_010_000_000);
        assert_eq!((vague.clients_least, vague.clients_most), (Some(250_000), None));
    }

    #[test]
    fn the_error_of_a_slope_is_that_of_the_text_books() {
        // Residuals -0.2, 0.4, -0.2 over x of 1, 2, 3: the standard error is sqrt(0.24 / 2).
        let line = Line::through(&[(1.0, 1.0), (2.0, 2.6), (3.0, 3.0)]).unwrap();
        let error = slope_error(&line, 3).unwrap();
        assert!((error - 12.71 * 0.12_f64.sqrt()).abs() < 1e-6, "{error}");
        assert_eq!(slope_error(&line, 2), None);
        let straight = Line::through(&[(1.0, 1.0), (2.0, 2.0), (3.0, 3.0)]).unwrap();
        assert!(slope_error(&straight, 3).unwrap() < 1e-6);
    }

    #[test]
    fn memory_is_by_slope() {
        use crate::bench::outcome::tests::good;
        let step = |clients: u32, kernel: Option<u64>| {
            let mut outcome = good();
            outcome.connections.opened = clients;
            outcome.kernel.loaded.slab_bytes = kernel.map(|each| each * u64::from(clients) * 2);
            outcome.kernel.idle.slab_bytes = kernel.map(|_| 0);
            outcome.server = Some(super::super::binding::tests::server(0.5));
            let memory = &mut outcome.server.as_mut().unwrap().memory_loaded;
            memory.pss_bytes = 1_000_000 + 4_000 * u64::from(clients);
            outcome
        };
        let memory = ClientMemory::of(&[step(100, Some(3_000)), step(300, Some(3_000))], true).unwrap();
        assert!((memory.server_bytes - 4_000.0).abs() < 1e-6 && (memory.base_bytes - 1e6).abs() < 1e-3);
        assert_eq!((memory.kernel_bytes, memory.kernel_measured, memory.steps), (3_000.0, true, 2));
        assert_eq!((memory.clients_least, memory.clients_most), (100, 300));
        let hidden = ClientMemory::of(&[step(100, None), step(300, None)], true).unwrap();
        assert_eq!((hidden.kernel_bytes, hidden.kernel_measured), (KERNEL_BYTES as f64, false));
        let disturbed = ClientMemory::of(&[step(100, Some(3_000)), step(300, Some(90_000))], true).unwrap();
        assert_eq!((disturbed.kernel_bytes, disturbed.kernel_measured), (KERNEL_BYTES as f64, false));
        assert_eq!(ClientMemory::of(&[step(100, None)], true), None);
    }
}
