//! The most that a server holds: clients, or messages a second of a number of clients.
//!
//! Each step is a load of its own with fresh connections, so that nothing of an overloaded step is carried into the
//! next: on loopback from other source addresses, because ports of the last step are still in TIME_WAIT. Steps on the
//! way are shorter than the result's; the result was held twice, the second time for the whole time.

pub mod binding;
mod figures;
pub mod html;
pub mod search;
mod text;
mod traffic;
pub(crate) mod witness;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::bench::outcome::Outcome;
use crate::bench::payload::Kind;
use crate::bench::plan::CLIENTS_PER_SOURCE;
use crate::bench::provenance::Provenance;
use crate::bench::{self, BenchError, Plan, Probe};
use crate::doctor::{self, Diagnosis, Need, Root, Verdict};
use crate::measure::group;
use crate::measure::kernel::{KernelError, Limits, Sockets};
use crate::measure::process::ProcessError;
use crate::observe::Observer;
use crate::report::redact;
use crate::report::unit::Unit;
use binding::{Binding, End, Resource, judge};
pub use figures::{ClientMemory, Projection, StepReport};
use search::{Range, Search, Step, Trial};
pub use text::text;
use witness::{InAll, Witness, Witnessed};

/// Steps on the way are held for this part of the whole time.
const SHORT_PART: u32 = 4;
/// But for so long at least, if the whole time is longer.
const SHORT_LEAST: Duration = Duration::from_secs(4);
/// Ports in TIME_WAIT are free again after this time.
const TIME_WAIT: Duration = Duration::from_secs(61);

/// What is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Find {
    /// The most clients, each sending at its interval.
    Clients,
    /// The most messages a second of all clients, whose number stands in the plan.
    Rate,
}

impl Find {
    /// What is counted, for people.
    pub fn unit(self) -> &'static str {
        match self {
            Find::Clients => "clients",
            Find::Rate => "messages/s",
        }
    }
}

/// A search.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The load, of which the search changes the clients or the interval, the duration and the source addresses.
    pub plan: Plan,
    /// What is looked for.
    pub find: Find,
    /// Where it begins and how far it goes.
    pub range: Range,
    /// The result is held for this time.
    pub hold: Duration,
    /// The search narrows no further when this time is almost over, so that the result is confirmed within it.
    pub within: Option<Duration>,
    /// A machine with so much memory, in bytes: how many clients would it hold?
    pub memory: Option<u64>,
}

/// What was found.
#[derive(Debug, Clone, Serialize)]
pub struct Capacity {
    /// The endpoint.
    pub url: String,
    /// What was looked for.
    pub find: Find,
    /// What every client did.
    pub load: Load,
    /// The most that was held; none if nothing was.
    pub found: Option<u32>,
    /// It was held twice, the second time for the whole time.
    pub confirmed: bool,
    /// The server may hold more: what stopped the search was the load's, or shared with it, or --most.
    pub at_least: bool,
    /// What stopped more.
    pub binding: Option<Binding>,
    /// What the server and the kernel took a client, where it could be measured.
    pub memory: Option<ClientMemory>,
    /// The clients of a machine with the memory that was asked for: projected from `memory`, not measured.
    pub projection: Option<Projection>,
    /// Corrected p99 above this is not held, in seconds.
    pub latency_limit_seconds: f64,
    /// How long the result was held, in seconds.
    pub hold_seconds: f64,
    /// The result may be below the boundary by this share.
    pub resolution: f64,
    /// Every step, in order.
    pub steps: Vec<StepReport>,
    /// It narrowed no further, as the time for it was almost over.
    pub hurried: bool,
    /// The user ended it early.
    pub interrupted: bool,
    /// What made the load, when, and where.
    pub provenance: Provenance,
}

/// The load of every step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Load {
    /// Length of a message, at most, in bytes.
    pub message_bytes: usize,
    /// Text or binary.
    pub message_kind: Kind,
    /// Where clients are looked for, the time between two messages of one, in seconds.
    pub interval_seconds: Option<f64>,
    /// Where the rate is looked for, how many clients there are.
    pub clients: Option<u32>,
    /// How latency was learnt. In JSON the fields `probe` (`ping`, `echo`, `ack`, `sink` or `idle`) and `ack_every`.
    #[serde(flatten, serialize_with = "Probe::serialize_fields")]
    pub probe: Probe,
}

impl Load {
    fn of(settings: &Settings) -> Load {
        let Settings { plan, find, .. } = settings;
        let by_clients = *find == Find::Clients;
        Load {
            message_bytes: plan.payload.len_max(),
            message_kind: plan.payload.kind(),
            interval_seconds: by_clients.then_some(plan.interval.as_secs_f64()),
            clients: (!by_clients).then_some(plan.clients),
            probe: plan.probe,
        }
    }
}

/// Looks for the most that the server of `settings` holds.
///
/// # Errors
/// When not even the first step could be made for a reason that is not its size.
pub fn run(settings: &Settings, observer: &mut dyn Observer) -> Result<Capacity, BenchError> {
    let mut hunt = Hunt::new(settings, observer)?;
    let mut search = Search::new(settings.range);
    while let Some(step) = search.next_step() {
        let begun = Instant::now();
        let Some(trial) = hunt.step(step)? else { break };
        search.tried(step, trial);
        if hunt.is_late(begun.elapsed().saturating_sub(hold_of(step, settings.hold))) {
            search.hurry();
        }
    }
    Ok(hunt.report(&search))
}

/// How long a step is held.
pub(crate) fn hold_of(step: Step, hold: Duration) -> Duration {
    if step.whole { hold } else { (hold / SHORT_PART).max(hold.min(SHORT_LEAST)) }
}

struct Hunt<'a> {
    begun: Instant,
    /// What a step took at most beside the time for which it was held.
    beside: Duration,
    settings: &'a Settings,
    observer: &'a mut dyn Observer,
    address: IpAddr,
    limits: Limits,
    /// Source addresses of 127/8 that were used.
    used: u32,
    steps: Vec<StepReport>,
    /// The most clients that were open in a step.
    most_open: u32,
    /// Of the steps that were held, those with more clients than any before.
    grown: Vec<Outcome>,
    /// Address space of the server after each load that was held, with its clients.
    growth: Vec<(f64, f64)>,
    /// What the server holds and may hold without clients, as far as it was seen.
    descriptors: Option<InAll>,
    /// The rows of the machine's examination that are tight, as far as they were told.
    told: BTreeSet<&'static str>,
    is_near: bool,
    provenance: Provenance,
}

impl<'a> Hunt<'a> {
    fn new(settings: &'a Settings, observer: &'a mut dyn Observer) -> Result<Hunt<'a>, BenchError> {
        Ok(Hunt {
            begun: Instant::now(),
            beside: Duration::ZERO,
            provenance: Provenance::now(),
            address: settings.plan.address()?,
            is_near: settings.plan.is_near(),
            limits: Limits::read()?,
            settings,
            observer,
            used: 0,
            steps: Vec::new(),
            most_open: 0,
            grown: Vec::new(),
            growth: Vec::new(),
            descriptors: None,
            told: BTreeSet::new(),
        })
    }

    /// Whether another short step would leave no time to confirm the result, after one that took `beside` what it was held.
    fn is_late(&mut self, beside: Duration) -> bool {
        self.beside = self.beside.max(beside);
        let hold = self.settings.hold;
        let short = hold_of(Step { value: 0, whole: false }, hold);
        let still_takes = short + hold + self.beside * 2;
        self.settings.within.is_some_and(|within| self.begun.elapsed() + still_takes > within)
    }

    /// Makes one step; none when the user has stopped.
    fn step(&mut self, step: Step) -> Result<Option<Trial>, BenchError> {
        let plan = self.plan(step);
        if let Some((refusal, clients)) = self.beyond_machine(&plan, step.value) {
            // Another rate does not mend what is too little for the clients.
            let most = if self.settings.find == Find::Clients { clients } else { 0 };
            return Ok(Some(self.refuse(step, refusal, most)));
        }
        self.wait_for_ports(&plan)?;
        if self.observer.stopped() {
            return Ok(None);
        }
        let witness = Witness::new(Root::default(), &plan.pids, &self.growth, self.is_near);
        if let Some((refusal, most)) = self.beyond_descriptors(step, &witness) {
            return Ok(Some(self.refuse(step, refusal, most)));
        }
        let mut watched = Witnessed { witness, observer: &mut *self.observer };
        let outcome = bench::run(&plan, &mut watched);
        let mut witness = watched.witness;
        witness.look();
        match outcome {
            Ok(outcome) if outcome.verdict.interrupted => Ok(None),
            Ok(outcome) => {
                let connections = &outcome.connections;
                let stayed = connections.disconnected_count() == 0 && self.steps.is_empty();
                if stayed && !witness.may_hold(connections.peak_open) {
                    let which = group::names(&plan.pids);
                    return Err(ProcessError::Stranger { which }.into());
                }
                Ok(Some(self.judged(step, outcome, &witness)))
            }
            Err(error) => self.refused(step, error, &witness).map(Some),
        }
    }

    /// What this machine says against a load of this size, if anything, and about how many clients it has room for.
    fn beyond_machine(&mut self, plan: &Plan, at: u32) -> Option<(Binding, u32)> {
        let diagnosis = doctor::before_load(&Root::default(), &Need::of_plan(plan).ok()?);
        for tight in diagnosis.with(Verdict::Tight) {
            if self.told.insert(tight.name) {
                self.observer.note(&format!("tight: {}", tight.sentence()));
            }
        }
        let end = if self.is_near { End::Both } else { End::Load };
        too_large(&diagnosis, plan.clients, at, end)
    }

    /// Refuses a step without making the clients that are too many wait for their handshakes.
    fn beyond_descriptors(&mut self, step: Step, witness: &Witness) -> Option<(Binding, u32)> {
        let now = witness.descriptors_in_all()?;
        // Clients of the last step may not be gone yet; what was held least is without any.
        let roomiest = self.descriptors.into_iter().chain([now]).max_by_key(InAll::free)?;
        self.descriptors = Some(roomiest);
        roomiest.refuse(step.value).filter(|_| self.settings.find == Find::Clients)
    }

    fn refuse(&mut self, step: Step, refusal: Binding, most: u32) -> Trial {
        self.note(step, &format!("not tried: {}", refusal.evidence.join("; ")));
        Trial::Refused(refusal, most)
    }

    /// The load of one step.
    fn plan(&mut self, step: Step) -> Plan {
        let mut plan = self.settings.plan.clone();
        match self.settings.find {
            Find::Clients => plan.clients = step.value,
            Find::Rate => {
                plan.interval = Duration::from_secs_f64(f64::from(plan.clients) / f64::from(step.value));
            }
        }
        plan.duration = hold_of(step, self.settings.hold);
        if plan.sources.is_empty() && self.is_loopback() {
            plan.sources = self.fresh_sources(plan.clients);
        }
        plan
    }

    fn is_loopback(&self) -> bool {
        self.address.is_loopback() && self.address.is_ipv4()
    }

    /// Addresses of 127/8 that no step has used; from the beginning again after sixteen million.
    fn fresh_sources(&mut self, clients: u32) -> Vec<IpAddr> {
        const LAST: u32 = 0x00FF_FFFE - 2;
        let ports = u32::try_from(self.limits.ports()).unwrap_or(u32::MAX).max(1);
        let count = clients.div_ceil(CLIENTS_PER_SOURCE.min(ports));
        let first = self.used % LAST;
        self.used = first + count;
        let base = u32::from(Ipv4Addr::new(127, 0, 0, 2));
        (0..count).map(|nth| Ipv4Addr::from(base + (first + nth) % LAST).into()).collect()
    }

    /// Where source addresses cannot be changed, waits until the ports of the last step are free again.
    fn wait_for_ports(&mut self, plan: &Plan) -> Result<(), KernelError> {
        const LOOK_EVERY: Duration = Duration::from_millis(200);
        if self.is_loopback() {
            return Ok(());
        }
        let ports = self.limits.ports() * plan.sources.len().max(1) as u64;
        // No waiting makes them more: the load will say so.
        if u64::from(plan.clients) > ports {
            return Ok(());
        }
        let until = Instant::now() + TIME_WAIT;
        let mut told = false;
        while Sockets::read()?.tcp_time_wait + u64::from(plan.clients) > ports
            && Instant::now() < until
            && !self.observer.stopped()
        {
            if !std::mem::replace(&mut told, true) {
                self.observer.note("  waiting for ports in TIME_WAIT, up to 60 s");
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn judged(&mut self, step: Step, outcome: Outcome, witness: &Witness) -> Trial {
        let held = outcome.verdict.held();
        let binding = (!held).then(|| judge(&outcome, witness, step.value));
        let report = StepReport::new(step, &outcome, binding.clone());
        self.note(step, &report.summary());
        self.steps.push(report);
        let open = outcome.connections.peak_open;
        if held {
            self.growth.push((open.into(), witness.address_space()));
        }
        if held && open > self.most_open {
            self.grown.push(outcome);
        }
        self.most_open = self.most_open.max(open);
        match binding {
            None => Trial::Held,
            Some(binding) if witness.is_gone() => Trial::Over(binding),
            Some(binding) => Trial::NotHeld(binding),
        }
    }

    /// A step that could not be made at all. That ends a search that has begun, but not what it has found.
    fn refused(&mut self, step: Step, error: BenchError, witness: &Witness) -> Result<Trial, BenchError> {
        let text = error.to_string();
        let most = |most: u64| u32::try_from(most).unwrap_or(u32::MAX);
        let trial = match error {
            BenchError::Descriptors { most: fit, .. } => {
                Trial::Refused(Binding::new(Resource::LoadDescriptors, step.value, text), most(fit))
            }
            BenchError::Ports { sources, ports, .. } => {
                Trial::Refused(Binding::new(Resource::Ports, step.value, text), most(sources as u64 * ports))
            }
            // The server that ended was there at the step before.
            BenchError::NoClient { .. } if witness.is_gone() && !self.steps.is_empty() => {
                Trial::Over(Binding::new(Resource::Death, step.value, text))
            }
            BenchError::NoClient { .. } if !self.steps.is_empty() => {
                Trial::NotHeld(Binding::new(Resource::Connections, step.value, text))
            }
            BenchError::Process(_) if witness.is_gone() && !self.steps.is_empty() => {
                Trial::Over(Binding::new(Resource::Death, step.value, text))
            }
            _ if !self.steps.is_empty() => Trial::Over(Binding::new(Resource::Generator, step.value, text)),
            error => return Err(error),
        };
        if let Some(binding) = trial.binding() {
            self.note(step, &format!("not tried: {}", binding.sentence()));
        }
        Ok(trial)
    }

    fn note(&mut self, step: Step, text: &str) {
        let hold = Unit::Seconds.format(hold_of(step, self.settings.hold).as_secs_f64());
        let (value, unit) = (step.value, self.settings.find.unit());
        self.observer.note(&format!("{value} {unit}, {hold}: {text}"));
    }

    fn report(self, search: &Search) -> Capacity {
        let (settings, found) = (self.settings, search.found());
        let memory = ClientMemory::of(&self.grown, self.is_near);
        let projection = settings.memory.map(|budget| match memory {
            Some(memory) => memory.project(budget),
            None => Projection::unknown(budget),
        });
        let at_least = found.binding.as_ref().is_none_or(|binding| binding.end != End::Server);
        Capacity {
            url: redact::url(&settings.plan.url),
            find: settings.find,
            load: Load::of(settings),
            found: found.most,
            confirmed: found.confirmed,
            at_least,
            binding: found.binding,
            memory,
            projection,
            latency_limit_seconds: settings.plan.latency_limit.as_secs_f64(),
            hold_seconds: settings.hold.as_secs_f64(),
            resolution: found.resolution.unwrap_or(0.0).max(settings.range.resolution),
            steps: self.steps,
            hurried: search.hurries(),
            interrupted: self.observer.stopped(),
            provenance: self.provenance,
        }
    }
}

/// What the machine has too little of for so many clients, if anything, and about how many it has room for.
fn too_large(diagnosis: &Diagnosis, clients: u32, at: u32, end: End) -> Option<(Binding, u32)> {
    let short = diagnosis.with(Verdict::Short).next()?;
    let resource = match short.name {
        doctor::TCP_MEMORY => Resource::TcpMemory,
        doctor::CONNECTION_TRACKING => Resource::ConnectionTracking,
        doctor::SYSTEM_FILES | doctor::EPOLL_WATCHES => Resource::LoadDescriptors,
        _ => Resource::Memory,
    };
    let fits = short.fitting(clients).min(clients.saturating_sub(1));
    Some((Binding { end, ..Binding::new(resource, at, short.sentence()) }, fits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::machine::Machine;

    #[test]
    fn what_does_not_fit_on_the_machine_is_not_the_servers_end() {
        let machine = Machine::new("capacity-large", &[("proc/meminfo", "MemAvailable: 10000 kB\n")]);
        let diagnosis = doctor::before_load(&machine.root(), &Need::of(1_000));
        let (binding, fits) = too_large(&diagnosis, 1_000, 1_000, End::Both).unwrap();
        assert_eq!((binding.resource, binding.end), (Resource::Memory, End::Both));
        assert!(
            binding.sentence().contains("MemAvailable") && (500..600).contains(&fits),
            "{binding:?} {fits}"
        );
        let diagnosis = doctor::before_load(&machine.root(), &Need::of(10));
        assert_eq!(too_large(&diagnosis, 10, 10, End::Both), None);
    }
}
