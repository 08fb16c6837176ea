//! The order of the experiment: build, noise floor, then every figure in turn, interleaved.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::build::{self, Build, BuildError};
use super::contestant::{Contestant, interleaved};
use super::machine::{Apart, Machine};
use super::report::{Comparison, Noise, Row, ServerReport, noise};
use super::runner::{Purpose, Run, RunError, Runner, Task};
use super::settings::{Settings, Stage};
use super::workspace::{Scratch, ScratchError, Workspace, WorkspaceError};
use crate::bench::BenchError;
use crate::bench::plan::clients_by_descriptors;
use crate::capacity::binding::{Binding, End, Resource};
use crate::capacity::hold_of;
use crate::capacity::search::{Range, Search, Step, Trial};
use crate::cert::{self, CertError, Existing};
use crate::measure::heaptrack::Heaptrack;
use crate::measure::kernel::{KernelError, available_memory};
use crate::observe::Observer;

/// Of the memory that is free, a step may plan on this share.
const MEMORY_SHARE_MAX: f64 = 0.8;
/// The load's own end of a connection, and the kernel's, if not yet measured; in bytes.
const CLIENT_BYTES: f64 = 16_384.0;

/// What a server of the user's own has to bear before anything is built.
const TRIAL: Stage = Stage {
    clients: 1,
    interval: Duration::from_millis(100),
    warmup: Duration::ZERO,
    measured: Duration::from_secs(1),
};
/// In which nothing is too slow.
const PATIENT: Duration = Duration::from_secs(60);

/// Why there is no comparison at all.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// No sources.
    #[error(transparent)]
    Workspace(#[from] WorkspaceError),
    /// No place for its files.
    #[error(transparent)]
    Scratch(#[from] ScratchError),
    /// No certificate.
    #[error(transparent)]
    Cert(#[from] CertError),
    /// The machine could not be read.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A server of the user's own does not do what it has to.
    #[error("{name} cannot be compared: {why}")]
    Extra {
        /// Its name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// The user asked to stop.
    #[error("interrupted before anything was measured")]
    Interrupted,
    /// Not one of the servers was built; the observer was told why.
    #[error("none of the servers was built: there is nothing to compare")]
    NothingBuilt,
    /// There is no earlier build to be used again.
    #[error(transparent)]
    Reuse(#[from] BuildError),
    /// The limit of descriptors, or a processor, could not be set.
    #[error("setting up: {0}")]
    Setup(#[from] std::io::Error),
}

/// Makes the whole comparison. What fails is said in its row, and the rest goes on.
///
/// The calling thread, and with it the load, is pinned to the load's processor when the builds are done.
///
/// # Errors
/// When not even the builds could be begun, or nothing came of them.
pub fn run(settings: Settings, observer: &mut dyn Observer) -> Result<Comparison, CompareError> {
    let workspace = Workspace::find()?;
    let scratch = workspace.scratch()?;
    let descriptors = webscale_sys::limits::raise_descriptors()?.soft;
    let machine = Machine::read(workspace.root())?;
    let apart = Apart::choose();
    let certificate = cert::issue(&[])?.write(&scratch.path().join("tls"), Existing::Replace)?;
    let mut settings = settings;
    settings.limit_clients(clients_by_descriptors(descriptors));
    if apart.is_none() {
        observer.note("only one processor may be used: server and load share it, and disturb each other");
    }
    if !std::env::current_dir().is_ok_and(|here| here.starts_with(workspace.root())) {
        observer.note(&format!("the servers' source is that in {}", workspace.root().display()));
    }
    let (latency_limit, program) = (settings.latency_limit, settings.program.clone());
    let runner = Runner { certificate, apart, latency_limit, program };
    if settings.reuse_builds {
        let mut packages = settings.servers.iter().filter_map(|contestant| contestant.package());
        packages.try_for_each(|package| build::reuse(scratch.path(), package).map(drop))?;
    }
    try_extras(&runner, &settings, observer)?;
    let rows = build_all(&workspace, &scratch, &settings, observer);
    something_to_run(&rows, observer.stopped())?;
    if let Some(apart) = apart {
        webscale_sys::process::pin_thread(&[apart.load])?;
    }
    let mut experiment =
        Experiment { settings, runner, rows, runs: Vec::new(), descriptors, scratch, observer };
    experiment.run();
    Ok(experiment.finish(machine))
}

/// Has each of the user's own servers serve one client for a moment: better now than after the builds.
fn try_extras(runner: &Runner, settings: &Settings, observer: &mut dyn Observer) -> Result<(), CompareError> {
    let runner = Runner { latency_limit: PATIENT, ..runner.clone() };
    for contestant in settings.servers.iter().filter(|who| who.package().is_none()) {
        observer.note(&format!("trying {}", contestant.name()));
        let task = Task { contestant: *contestant, purpose: Purpose::Memory, round: 0, stage: TRIAL };
        let wrong = match runner.run(task, Path::new(""), Vec::new(), observer) {
            _ if observer.stopped() => return Ok(()),
            Ok(run) => run.outcome.verdict.problems.into_iter().next(),
            Err(error) => no_client(&error).or_else(|| Some(error.to_string())),
        };
        if let Some(why) = wrong {
            return Err(CompareError::Extra { name: contestant.name().to_owned(), why });
        }
    }
    Ok(())
}

/// Why no client came in: what helps is not what helps against it with other loads.
fn no_client(error: &RunError) -> Option<String> {
    let RunError::Bench(BenchError::NoClient { said, .. }) = error else { return None };
    Some(format!("no client could connect: {said}; it has to speak wss:// with the certificate {{cert}}"))
}

/// Builds every package once; several contestants may share one.
fn build_all(
    workspace: &Workspace,
    scratch: &Scratch,
    settings: &Settings,
    observer: &mut dyn Observer,
) -> Vec<Row> {
    let mut builds: BTreeMap<&str, Result<Build, String>> = BTreeMap::new();
    for contestant in &settings.servers {
        let Some(package) = contestant.package().filter(|package| !builds.contains_key(package)) else {
            continue;
        };
        let built = if observer.stopped() {
            Err(BuildError::Interrupted)
        } else if settings.reuse_builds {
            build::reuse(scratch.path(), package)
        } else {
            observer.note(&format!("building {package}"));
            build::build(workspace, scratch, package, &|| observer.stopped())
        };
        match &built {
            Ok(built) => observer.note(&format!(
                "{package}: {:.1} s, {} bytes, {} dependencies",
                built.compile_seconds, built.binary_bytes, built.dependencies
            )),
            Err(BuildError::Interrupted) => {}
            Err(error) => observer.note(&format!("{package} was not built: {error}")),
        }
        builds.insert(package, built.map_err(|error| error.to_string()));
    }
    let row = |contestant: &Contestant| {
        let built = contestant.package().map(|package| &builds[package]);
        Row {
            build: built.and_then(|built| built.as_ref().ok().cloned()),
            error: built.and_then(|built| Some(format!("not built: {}", built.as_ref().err()?))),
            ..Row::new(*contestant)
        }
    };
    settings.servers.iter().map(row).collect()
}

/// Without a server that was built there is no table.
fn something_to_run(rows: &[Row], stopped: bool) -> Result<(), CompareError> {
    match rows.iter().any(|row| row.build.is_some()) {
        true => Ok(()),
        false if stopped => Err(CompareError::Interrupted),
        false => Err(CompareError::NothingBuilt),
    }
}

struct Experiment<'a> {
    settings: Settings,
    runner: Runner,
    rows: Vec<Row>,
    runs: Vec<Run>,
    descriptors: u64,
    scratch: Scratch,
    observer: &'a mut dyn Observer,
}

impl Experiment<'_> {
    fn run(&mut self) {
        self.noise();
        let (load, echo, rounds) = (self.settings.load, self.settings.echo, self.settings.rounds);
        self.rounds(Purpose::Load, load, rounds);
        self.rounds(Purpose::Echo, echo, rounds);
        for stage in self.settings.memory.clone() {
            self.rounds(Purpose::Memory, stage, 1);
        }
        self.heap();
        for contestant in self.alive() {
            self.capacity(contestant);
        }
    }

    fn finish(self, machine: Machine) -> Comparison {
        let noise = self.noisy().and_then(|contestant| noise(&self.runs, contestant));
        let share = noise.as_ref().map(Noise::share);
        Comparison {
            servers: self.rows.iter().map(|row| ServerReport::new(row, &self.runs, share)).collect(),
            noise,
            shortened: self.settings.shortened(),
            interrupted: self.observer.stopped(),
            processors: self.runner.apart,
            machine,
            settings: self.settings,
            runs: self.runs,
        }
    }

    /// The contestants that were built and have not failed.
    fn alive(&self) -> Vec<Contestant> {
        self.rows.iter().filter(|row| row.error.is_none()).map(|row| row.contestant).collect()
    }

    /// The contestant that the noise floor is taken of: the fastest one shows the most of it.
    fn noisy(&self) -> Option<Contestant> {
        let built = || self.rows.iter().filter(|row| row.build.is_some()).map(|row| row.contestant);
        built().find(|contestant| *contestant == Contestant::Webscale).or_else(|| built().next())
    }

    /// The same server twice in a row.
    fn noise(&mut self) {
        if let Some(contestant) = self.noisy() {
            for round in 0..2 {
                self.one(Task { contestant, purpose: Purpose::Noise, round, stage: self.settings.load }, &[]);
            }
        }
    }

    fn rounds(&mut self, purpose: Purpose, stage: Stage, rounds: usize) {
        // The user's own servers consume messages, and are not asked to send them back.
        let takes_part = |who: &Contestant| purpose != Purpose::Echo || who.package().is_some();
        let alive: Vec<Contestant> = self.alive().into_iter().filter(takes_part).collect();
        for (round, contestant) in interleaved(&alive, rounds) {
            self.one(Task { contestant, purpose, round, stage }, &[]);
        }
    }

    /// One run, and in the full comparison a second one should the first be rejected. The run that counts, if any.
    fn one(&mut self, task: Task, environment: &[(&'static str, OsString)]) -> Option<&Run> {
        let tries = if self.settings.quick { 1 } else { 2 };
        for _ in 0..tries {
            let run = self.perform(task, environment.to_vec())?;
            if run.rejected.is_none() {
                return self.runs.last();
            }
        }
        None
    }

    /// Makes one run and keeps it. None when the user has stopped, or the contestant is out.
    fn perform(&mut self, task: Task, environment: Vec<(&'static str, OsString)>) -> Option<&Run> {
        let Task { contestant, purpose, .. } = task;
        let index = self.rows.iter().position(|row| row.contestant == contestant && row.error.is_none())?;
        let binary = self.rows[index].build.as_ref().map_or_else(PathBuf::new, |build| build.binary.clone());
        if self.observer.stopped() {
            return None;
        }
        self.observer.note(&announcement(&task));
        match self.runner.run(task, &binary, environment, self.observer) {
            Ok(run) => {
                if let (Some(why), false) = (&run.rejected, purpose == Purpose::Capacity) {
                    self.observer.note(&format!("  rejected: {why}"));
                }
                self.runs.push(run);
                self.runs.last()
            }
            Err(_) if self.observer.stopped() => None,
            Err(error) => {
                self.observer.note(&format!("  {}: {error}", contestant.name()));
                self.rows[index].error = Some(format!("{}: {error}", purpose.words()));
                None
            }
        }
    }

    /// The article's own figure: peak heap with 100 clients.
    fn heap(&mut self) {
        let Some(heaptrack) = Heaptrack::find() else {
            self.observer.note("heaptrack is not installed: peak memory is PSS, not heap");
            return;
        };
        for contestant in self.alive().into_iter().filter(|who| who.package().is_some()) {
            let record = self.scratch.path().join(format!("heaptrack-{}", contestant.name()));
            let environment = heaptrack.environment(&record);
            let task = Task { contestant, purpose: Purpose::Heap, round: 0, stage: self.settings.heap };
            let counts = self.one(task, &environment).is_some();
            let peak = counts.then(|| heaptrack.peak_bytes(&record));
            remove_record(&record);
            let Some(peak) = peak else { continue };
            match (peak, self.rows.iter_mut().find(|row| row.contestant == contestant)) {
                (Ok(bytes), Some(row)) => row.peak_heap_bytes = Some(bytes),
                (Err(error), _) => self.observer.note(&format!("  {}: {error}", contestant.name())),
                (Ok(_), None) => {}
            }
        }
    }

    fn capacity(&mut self, contestant: Contestant) {
        let so_far = self.report(contestant);
        let ceiling = self.ceiling(contestant, &so_far);
        let range = Range {
            first: first_step(so_far.cpu_seconds_per_million_messages, ceiling.at),
            most: ceiling.at,
            resolution: self.settings.capacity_resolution,
            steps: self.settings.capacity_steps,
        };
        let mut search = Search::new(range).knowing(self.held_in_load(contestant));
        while let Some(step) = search.next_step() {
            let Some(trial) = self.step(contestant, step) else { return };
            search.tried(step, trial);
        }
        let found = search.found();
        if let Some(row) = self.rows.iter_mut().find(|row| row.contestant == contestant) {
            row.max_clients = found.most;
            row.max_clients_confirmed = found.confirmed;
            let stopped_by = found.binding.or_else(|| (found.most == Some(ceiling.at)).then_some(ceiling));
            row.max_clients_at_least = stopped_by.as_ref().is_none_or(|binding| binding.end != End::Server);
            row.stopped_by = Some(match stopped_by {
                Some(binding) => binding.sentence(),
                None => "the end of the search (it may hold more)".into(),
            });
        }
    }

    /// One step towards the most clients; none when the user has stopped.
    fn step(&mut self, contestant: Contestant, step: Step) -> Option<Trial> {
        let measured = hold_of(step, self.settings.capacity.measured);
        let stage = Stage { clients: step.value, measured, ..self.settings.capacity };
        let task = Task { contestant, purpose: Purpose::Capacity, round: 0, stage };
        let stopped_by = self.perform(task, Vec::new()).map(|run| run.binding.clone());
        let trial = match stopped_by {
            Some(binding) => binding.map_or(Trial::Held, Trial::NotHeld),
            None if self.observer.stopped() => return None,
            // A server that dies does not hold. It lives on in the table: the next step has a fresh one.
            None => {
                let row = self.rows.iter_mut().find(|row| row.contestant == contestant);
                let why = row.and_then(|row| row.error.take()).unwrap_or_default();
                Trial::NotHeld(Binding::new(Resource::Death, step.value, why))
            }
        };
        self.observer.note(&match &trial {
            Trial::NotHeld(binding) => format!("  not held: {}", binding.sentence()),
            _ => "  held".to_owned(),
        });
        Some(trial)
    }

    fn report(&self, contestant: Contestant) -> ServerReport {
        let row = self.rows.iter().find(|row| row.contestant == contestant);
        ServerReport::new(row.unwrap_or(&Row::new(contestant)), &self.runs, None)
    }

    /// The most clients of a main load that was held within the limits.
    fn held_in_load(&self, contestant: Contestant) -> u32 {
        let held = self.runs.iter().filter(|run| {
            run.server == contestant
                && run.purpose == Purpose::Load
                && run.rejected.is_none()
                && run.outcome.verdict.held()
        });
        held.map(|run| run.outcome.connections.opened).max().unwrap_or(0)
    }

    /// What stops steps with more clients from being tried.
    fn ceiling(&self, contestant: Contestant, so_far: &ServerReport) -> Binding {
        let each = so_far.memory_bytes_per_client.unwrap_or(0.0).max(0.0)
            + so_far.kernel_bytes_per_client.unwrap_or(0.0).max(0.0)
            + CLIENT_BYTES;
        let free = available_memory().unwrap_or(u64::MAX) as f64 * MEMORY_SHARE_MAX;
        let text = format!("{:.1} GB are free", free / MEMORY_SHARE_MAX / 1e9);
        let memory = Binding { end: End::Both, ..Binding::new(Resource::Memory, whole(free / each), text) };
        let descriptors =
            [self.servers_descriptors(contestant), self.own_descriptors()].into_iter().flatten();
        descriptors.fold(memory, |least, other| if other.at < least.at { other } else { least })
    }

    /// As the last run of the server has shown.
    fn servers_descriptors(&self, contestant: Contestant) -> Option<Binding> {
        let descriptors = self.runs.iter().rfind(|run| run.server == contestant)?.descriptors?;
        Some(descriptors.binding(descriptors.most()))
    }

    /// Of the load, where it cannot start further processes.
    fn own_descriptors(&self) -> Option<Binding> {
        let most = clients_by_descriptors(self.descriptors);
        let text = format!("RLIMIT_NOFILE is {}", self.descriptors);
        self.runner.program.is_none().then(|| Binding::new(Resource::LoadDescriptors, most, text))
    }
}

/// What is about to run, for the user.
fn announcement(task: &Task) -> String {
    let Task { contestant, purpose, stage, .. } = *task;
    let Stage { clients, interval, measured, .. } = stage;
    let every = match interval.as_secs_f64() {
        1.0 => "each second".to_owned(),
        seconds => format!("each {:.0} ms", seconds * 1e3),
    };
    let (what, seconds) = (purpose.words(), measured.as_secs());
    format!("{}: {what}, {clients} clients, a message {every}, {seconds} s", contestant.name())
}

/// Where the CPU time of a message says that the server is almost full; the ceiling, if that is as far.
fn first_step(us_per_message: Option<f64>, ceiling: u32) -> u32 {
    const ALMOST: f64 = 0.9;
    let estimate = us_per_message.map_or(u32::MAX, |us| whole(ALMOST * 1e6 / us));
    if f64::from(estimate) >= ALMOST * f64::from(ceiling) { ceiling } else { estimate }
}

fn whole(number: f64) -> u32 {
    let bounded =
        if number.is_finite() { number.clamp(0.0, f64::from(u32::MAX)) } else { f64::from(u32::MAX) };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range")]
    let whole = bounded as u32;
    whole
}

/// Best effort: the next comparison writes over what stays.
fn remove_record(record: &Path) {
    let _ = std::fs::remove_file(record);
    let _ = std::fs::remove_file(record.with_extension("interpreted"));
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::net::SocketAddr;

    use webscale::{Accept, Handler, Message, Peer, Reject, Request, Tls};

    use super::*;
    use crate::compare::contestant::Extra;
    use crate::observe::Unobserved;

    struct Sink;

    impl Handler for Sink {
        type Session = ();

        fn open(&self, _: &Request<'_>) -> Result<Accept<()>, Reject> {
            Ok(().into())
        }

        fn message(&self, _: &mut Peer<'_, ()>, _: Message<'_>) {}
    }

    /// Not a test: a server of a user's own, this very program.
    #[test]
    fn own_server() {
        let [Ok(port), Ok(cert), Ok(key)] = ["OWN_PORT", "OWN_CERT", "OWN_KEY"].map(env::var) else { return };
        let address = SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap()));
        let tls = Tls::from_pem_files(cert, key).unwrap();
        webscale::Server::builder().listen(address).tls(tls).build(Sink).unwrap().run().unwrap();
    }

    /// Not a test: a server that ends every connection as it comes.
    #[test]
    fn deaf_server() {
        let Ok(port) = env::var("DEAF_PORT") else { return };
        let listener = std::net::TcpListener::bind(("127.0.0.1", port.parse().unwrap())).unwrap();
        listener.incoming().for_each(|stream| {
            let _ = std::io::Write::write_all(&mut stream.unwrap(), b"HTTP/1.1 400 Bad Request\r\n\r\n");
        });
    }

    /// What comes of trying the server that this command starts.
    fn tried(command: &str) -> Result<(), CompareError> {
        let directory = env::temp_dir().join(format!("webscale-extras-{}", std::process::id()));
        let certificate = cert::issue(&[]).unwrap().write(&directory, Existing::Replace).unwrap();
        let runner = Runner { certificate, apart: None, latency_limit: PATIENT, program: None };
        let settings =
            Settings::quick(vec![Contestant::Tokio, Contestant::Extra(Extra::new("mine", command))]);
        let result = try_extras(&runner, &settings, &mut Unobserved);
        std::fs::remove_dir_all(directory).unwrap();
        result
    }

    #[test]
    fn the_users_own_servers_are_tried_before_anything_is_built() {
        let own = env::current_exe().unwrap();
        let flags = "--exact compare::experiment::tests::own_server";
        let serve = format!("OWN_PORT={{port}} OWN_CERT={{cert}} OWN_KEY={{key}} {} {flags}", own.display());
        tried(&serve).unwrap();
        let error = tried(
            &format!("DEAF_PORT={{port}} {} {flags} # {{cert}} {{key}}", own.display())
                .replace("own_server", "deaf_server"),
        );
        let error = error.unwrap_err().to_string();
        assert!(error.ends_with("; it has to speak wss:// with the certificate {cert}"), "{error}");
        let error =
            tried("echo Error: no licence >&2; exit 7 # {port} {cert} {key}").unwrap_err().to_string();
        assert_eq!(error, "mine cannot be compared: the server ended (exit status: 7): Error: no licence");
    }

    #[test]
    fn without_a_server_there_is_no_comparison() {
        let build = Build { binary: "x".into(), compile_seconds: 1.0, binary_bytes: 1, dependencies: 1 };
        let built = Row { build: Some(build), ..Row::new(Contestant::Tokio) };
        let not_built = Row { error: Some("not built: no room".into()), ..Row::new(Contestant::Webscale) };
        let own = Row::new(Contestant::Extra(Extra::new("mine", "true")));
        let none = [not_built.clone(), own];
        assert!(matches!(something_to_run(&none, true), Err(CompareError::Interrupted)));
        assert!(matches!(something_to_run(&none, false), Err(CompareError::NothingBuilt)));
        assert!(something_to_run(&[not_built, built], true).is_ok());
    }

    #[test]
    fn announcements_say_what_runs() {
        let stage = Stage {
            clients: 200,
            interval: Duration::from_millis(50),
            warmup: Duration::ZERO,
            measured: Duration::from_secs(4),
        };
        let task = Task { contestant: Contestant::Tokio, purpose: Purpose::Echo, round: 0, stage };
        assert_eq!(announcement(&task), "tokio: 128-byte echo, 200 clients, a message each 50 ms, 4 s");
        let each_second = Task { stage: Stage { interval: Duration::from_secs(1), ..stage }, ..task };
        assert!(announcement(&each_second).contains("a message each second"));
    }

    #[test]
    fn the_first_step_is_close_to_what_the_cpu_says() {
        assert_eq!(first_step(Some(60.0), 19_936), 15_000);
        assert_eq!(first_step(Some(46.0), 19_936), 19_936);
        assert_eq!(first_step(None, 900), 900);
    }

    #[test]
    fn whole_numbers_stay_in_range() {
        assert_eq!(
            (whole(12.9), whole(-3.0), whole(f64::INFINITY), whole(1e12)),
            (12, 0, u32::MAX, u32::MAX)
        );
    }
}
