//! The figures of a search: of each step, and of the memory that a client takes.

use serde::Serialize;

use super::binding::Binding;
use super::search::Step;
use crate::bench::outcome::Outcome;
use crate::bench::timeline::busiest_thread;
use crate::compare::figures::{Line, Spread};

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
            rate: outcome.messages.sent as f64 / outcome.measured_seconds,
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
            Some(binding) => format!("not held: {}", binding.sentence()),
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
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct ClientMemory {
    /// Slope of the server's PSS over the clients, under load, in bytes.
    pub server_bytes: f64,
    /// The kernel's part for the server's end, in bytes: buffers, and socket structures where root may read them.
    pub kernel_bytes: f64,
    /// PSS of the server without clients, by the same line, in bytes.
    pub base_bytes: f64,
    /// How much of the spread the line explains: 1.0 is all.
    pub r_squared: f64,
}

/// How many clients a machine of another size would hold by memory alone.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Projection {
    /// The memory that was asked for, in bytes.
    pub budget_bytes: u64,
    /// Projected, not measured.
    pub clients: u64,
}

impl ClientMemory {
    /// From the steps that were held; `both_ends` says whether the kernel's figures are of both ends. None where there
    /// are not two different numbers of clients, or the server's process was not measured.
    pub(super) fn of(held: &[Outcome], both_ends: bool) -> Option<ClientMemory> {
        let point = |outcome: &Outcome| {
            let pss = outcome.server.as_ref()?.memory_loaded.pss_bytes;
            Some((f64::from(outcome.connections.opened), pss as f64))
        };
        let line = Line::through(&held.iter().filter_map(point).collect::<Vec<_>>())?;
        let ends = if both_ends { 2.0 } else { 1.0 };
        let kernel = held.iter().map(|outcome| {
            let grown =
                outcome.kernel.loaded.total_bytes().saturating_sub(outcome.kernel.idle.total_bytes()) as f64;
            grown / ends / f64::from(outcome.connections.opened.max(1))
        });
        Some(ClientMemory {
            server_bytes: line.slope.max(0.0),
            kernel_bytes: Spread::of(kernel)?.median,
            base_bytes: line.intercept.max(0.0),
            r_squared: line.r_squared,
        })
    }

    pub(super) fn project(&self, budget_bytes: u64) -> Projection {
        let each = (self.server_bytes + self.kernel_bytes).max(1.0);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and a float's range"
        )]
        let clients = ((budget_bytes as f64 - self.base_bytes).max(0.0) / each) as u64;
        Projection { budget_bytes, clients }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_divided_among_clients() {
        let memory =
            ClientMemory { server_bytes: 4_000.0, kernel_bytes: 6_000.0, base_bytes: 1e7, r_squared: 1.0 };
        assert_eq!(memory.project(4_010_000_000).clients, 400_000);
        assert_eq!(memory.project(1_000_000).clients, 0);
    }
}
