//! `capacity` against servers of which one resource is made to run out.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use webscale::{Accept, Close, Handler, Message, Peer, Reject, Request, Server};

mod common;
use common::{Directory, assert_fails};

/// What the server of [`server_process`] does, in its environment.
const BEHAVIOUR: &str = "WEBSCALE_TEST_SERVER";

/// A server that misbehaves in one way.
#[derive(Clone, Copy)]
enum Behaviour {
    Well,
    /// Takes a megabyte for each client.
    Fat,
    /// Sleeps 10 ms over each message.
    Slow,
    /// Computes for 10 ms over each message.
    Busy,
}

impl Handler for Behaviour {
    type Session = Vec<u8>;

    fn open(&self, _: &Request<'_>) -> Result<Accept<Vec<u8>>, Reject> {
        let memory = if matches!(self, Behaviour::Fat) { vec![1; 1 << 20] } else { Vec::new() };
        Ok(memory.into())
    }

    fn message(&self, _: &mut Peer<'_, Vec<u8>>, _: Message<'_>) {
        const EACH: Duration = Duration::from_millis(10);
        match self {
            Behaviour::Slow => std::thread::sleep(EACH),
            Behaviour::Busy => {
                let begun = Instant::now();
                while begun.elapsed() < EACH {
                    std::hint::spin_loop();
                }
            }
            Behaviour::Well | Behaviour::Fat => {}
        }
    }

    fn close(&self, _: Vec<u8>, _: Close) {}
}

/// Not a test: the process that the tests below start, this very program.
#[test]
fn server_process() {
    let behaviour = match std::env::var(BEHAVIOUR).as_deref() {
        Ok("well") => Behaviour::Well,
        Ok("fat") => Behaviour::Fat,
        Ok("slow") => Behaviour::Slow,
        Ok("busy") => Behaviour::Busy,
        _ => return,
    };
    let server = Server::builder().listen("127.0.0.1:0").threads(1).build(behaviour).unwrap();
    println!("\nlistening on ws://{}", server.local_addr());
    server.run().unwrap();
}

/// A server of the test's, in a process of its own; killed when dropped.
struct Victim {
    child: Child,
    url: String,
}

impl Victim {
    /// `limit` is a flag of prlimit(1).
    fn start(behaviour: &str, limit: &str) -> Victim {
        Victim::start_by(&["prlimit", limit], behaviour)
    }

    /// Started by the command `wrapper`.
    fn start_by(wrapper: &[&str], behaviour: &str) -> Victim {
        let mut child = Command::new(wrapper[0])
            .args(&wrapper[1..])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "server_process", "--nocapture"])
            .env(BEHAVIOUR, behaviour)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url =
            lines.find_map(|line| line.unwrap().strip_prefix("listening on ").map(str::to_owned)).unwrap();
        Victim { child, url }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A control group of the test's own; removed when dropped, once nobody is in it.
struct Group(PathBuf);

impl Group {
    /// One in which `controller` allows so much, by a file of version 1 or of version 2; none where none can be made.
    fn new(controller: &str, one: (&str, &str), two: (&str, &str)) -> Option<Group> {
        let mounted = Path::new("/sys/fs/cgroup");
        let name =
            format!("webscale-test-{controller}-{}-{:?}", std::process::id(), std::thread::current().id());
        let (above, (file, value)) = match mounted.join(controller) {
            alone if alone.is_dir() => (alone, one),
            _ => {
                std::fs::write(mounted.join("cgroup.subtree_control"), format!("+{controller}")).ok()?;
                (mounted.to_owned(), two)
            }
        };
        let group = Group(above.join(name));
        std::fs::create_dir(&group.0).ok()?;
        std::fs::write(group.0.join(file), value).ok()?;
        Some(group)
    }

    /// The command that starts another one in the group.
    fn starter(&self) -> [String; 5] {
        const ENTER: &str = "echo $$ > \"$1\" && shift && exec \"$@\"";
        let members = self.0.join("cgroup.procs").to_str().unwrap().to_owned();
        ["sh", "-c", ENTER, "sh", &members].map(str::to_owned)
    }

    fn memory(bytes: &str) -> Option<Group> {
        Group::new("memory", ("memory.limit_in_bytes", bytes), ("memory.max", bytes))
    }

    /// A share of one processor in percent.
    fn processor(percent: u32) -> Option<Group> {
        let quota = (percent * 1000).to_string();
        Group::new("cpu", ("cpu.cfs_quota_us", &quota), ("cpu.max", &format!("{quota} 100000")))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Who was killed leaves a moment later.
        let mut tries = 0..1_000_000;
        tries.any(|_| {
            std::fs::remove_dir(&self.0).is_ok() || {
                std::thread::yield_now();
                false
            }
        });
    }
}

/// What could not be tried, and why.
fn skipped(why: &str) {
    eprintln!("SKIPPED: {why}: it takes root");
}

/// A search of seconds.
const SHORT: [&str; 9] =
    ["--hold", "400ms", "--warmup", "0s", "--interval", "100ms", "--resolution", "0.5", "--json"];
/// Messages that cost nothing.
const SMALL: [&str; 2] = ["--size", "100"];
/// Messages of which the unread ones are more than the kernel leaves uncounted, up to 1 MiB a processor.
const LARGE: [&str; 2] = ["--size", "60000"];

/// A limit that a busy machine keeps.
const PATIENT: [&str; 2] = ["--latency-limit", "60s"];
/// A limit that only a server misses that is far too slow.
const IMPATIENT: [&str; 2] = ["--latency-limit", "1s"];

/// What a command found; `wrapped` is what it is started by, if anything.
fn search(wrapped: &[&str], url: &str, more: &[&str]) -> serde_json::Value {
    let size = if more.contains(&LARGE[0]) { &[][..] } else { &SMALL };
    let words = [wrapped, &[env!("CARGO_BIN_EXE_webscale"), "capacity", url], &SHORT, size, more].concat();
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output().unwrap();
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{words:?}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// The same for a server that is too slow. A machine that is busy with other things may make the load late, which says
/// nothing of the server: then the search is made again.
fn search_slow_victim(start: impl Fn() -> Victim) -> serde_json::Value {
    search_slow_victim_by(&[], &SMALL, start)
}

/// The search is started by the command `wrapper`.
fn search_slow_victim_by(wrapper: &[&str], size: &[&str], start: impl Fn() -> Victim) -> serde_json::Value {
    const TRIES: u32 = 10;
    let mut capacity = serde_json::Value::Null;
    for _ in 0..TRIES {
        let victim = start();
        let pid = victim.child.id().to_string();
        let more = [&["--pid", &pid, "--from", "20"][..], &IMPATIENT, size].concat();
        capacity = search(wrapper, &victim.url, &more);
        if capacity["binding"]["resource"] != "generator" {
            break;
        }
    }
    capacity
}

/// The search on a server of ours, by its process.
fn search_victim(victim: &Victim, more: &[&str]) -> serde_json::Value {
    let pid = victim.child.id().to_string();
    search(&[], &victim.url, &[&["--pid", &pid], more].concat())
}

fn search_patiently(victim: &Victim, more: &[&str]) -> serde_json::Value {
    search_victim(victim, &[more, &PATIENT].concat())
}

#[test]
fn the_servers_descriptors() {
    let victim = Victim::start("well", "--nofile=100:100");
    let capacity = search_patiently(&victim, &["--from", "40"]);
    assert_eq!(capacity["binding"]["resource"], "server_descriptors", "{capacity:#}");
    assert_eq!(capacity["at_least"], false, "{capacity:#}");
    let found = capacity["found"].as_u64().unwrap();
    assert!((40..100).contains(&found), "{capacity:#}");
    // The step that was too large was not made.
    let steps = capacity["steps"].as_array().unwrap();
    assert!(steps.iter().all(|step| step["clients"].as_u64() < Some(100)), "{capacity:#}");
}

#[test]
fn our_own_descriptors() {
    let victim = Victim::start("well", "--nofile=4096");
    let pid = victim.child.id().to_string();
    let more = [&["--pid", &pid, "--from", "16", "--processes", "1"], &PATIENT[..]].concat();
    let capacity = search(&["prlimit", "--nofile=100:100"], &victim.url, &more);
    assert_eq!(capacity["binding"]["resource"], "load_descriptors", "{capacity:#}");
    assert_eq!((&capacity["found"], &capacity["at_least"]), (&36.into(), &true.into()), "{capacity:#}");
    assert_eq!(capacity["binding"]["end"], "load");
}

#[test]
fn a_token_in_the_url_is_nowhere_in_the_reports() {
    let victim = Victim::start("well", "--nofile=4096");
    let url = format!("{}/?token=hunter2", victim.url.trim_end_matches('/'));
    let directory = Directory::new("token");
    let (json, html) = (directory.file("capacity.json"), directory.file("capacity.html"));
    let output = Command::new("prlimit")
        .args(["--nofile=100:100", env!("CARGO_BIN_EXE_webscale"), "capacity", &url])
        .args(["--processes", "1", "--from", "16", "--html", &html])
        .args([&SMALL, &SHORT[..], &[&json], &PATIENT].concat())
        .output()
        .unwrap();
    let files = [&json, &html].map(|path| std::fs::read_to_string(path).unwrap());
    for report in [&files[0], &files[1], &String::from_utf8_lossy(&output.stdout).into_owned()] {
        assert!(report.contains("token=***") && !report.contains("hunter2"), "{report}");
    }
}

#[test]
fn memory() {
    let victim = Victim::start("fat", "--as=400000000");
    let capacity = search_patiently(&victim, &["--from", "50"]);
    assert_eq!(capacity["binding"]["resource"], "memory", "{capacity:#}");
    assert!(capacity["found"].as_u64().is_some_and(|found| found < 400), "{capacity:#}");
    // It cannot be tried again: the server is gone.
    assert_eq!(capacity["confirmed"], false);
}

#[test]
fn memory_of_a_control_group() {
    let Some(group) = Group::memory("100000000") else {
        return skipped("no control group can be made here");
    };
    let victim = Victim::start_by(&group.starter().each_ref().map(String::as_str), "fat");
    let capacity = search_patiently(&victim, &["--from", "30", "--most", "480"]);
    assert_eq!(capacity["binding"]["resource"], "memory", "{capacity:#}");
    assert_eq!((&capacity["binding"]["end"], &capacity["at_least"]), (&"server".into(), &false.into()));
    assert!(capacity["binding"]["evidence"].to_string().contains("of 100 MB"), "{capacity:#}");
    assert!(capacity["found"].as_u64().is_some_and(|found| (30..100).contains(&found)), "{capacity:#}");
}

#[test]
fn a_processor_of_which_a_control_group_allows_a_part() {
    let Some(group) = Group::processor(20) else { return skipped("no control group can be made here") };
    let starter = group.starter();
    let starter = starter.each_ref().map(String::as_str);
    let capacity = search_slow_victim(|| Victim::start_by(&starter, "busy"));
    assert_eq!(capacity["binding"]["resource"], "server_cpu", "{capacity:#}");
}

#[test]
fn a_load_that_has_too_little_of_a_processor() {
    let Some(group) = Group::processor(8) else { return skipped("no control group can be made here") };
    let victim = Victim::start("well", "--nofile=4096");
    let pid = victim.child.id().to_string();
    let starter = group.starter();
    let more = ["--pid", &pid, "--from", "100", "--most", "3200", IMPATIENT[0], IMPATIENT[1]];
    let capacity = search(&starter.each_ref().map(String::as_str), &victim.url, &more);
    assert_eq!(capacity["binding"]["resource"], "generator", "{capacity:#}");
    assert_eq!((&capacity["binding"]["end"], &capacity["at_least"]), (&"load".into(), &true.into()));
}

/// The kernel's own limit is one for the whole machine, so that it is not lowered: the search is shown a lower one. The
/// messages that lie unread are real.
#[test]
fn memory_for_tcp() {
    let directory = Directory::new("tcp-mem");
    let limits = directory.write("tcp_mem", b"1 2 4000000\n");
    const SHOW: &str = "mount --bind \"$1\" /proc/sys/net/ipv4/tcp_mem && shift && exec \"$@\"";
    let wrapper = ["unshare", "-m", "sh", "-c", SHOW, "sh", &limits];
    let possible = Command::new(wrapper[0]).args(&wrapper[1..]).arg("true").output();
    if !possible.is_ok_and(|output| output.status.success()) {
        return skipped("no file can be shown in place of another here (unshare -m, mount)");
    }
    let capacity = search_slow_victim_by(&wrapper, &LARGE, || Victim::start("slow", "--nofile=4096"));
    assert_eq!(capacity["binding"]["resource"], "tcp_memory", "{capacity:#}");
    assert_eq!((&capacity["binding"]["end"], &capacity["at_least"]), (&"both".into(), &true.into()));
    assert!(capacity["binding"]["evidence"].to_string().contains("pressure begins"), "{capacity:#}");
}

/// Two network namespaces, between which so much goes and no more. The server is on another machine, as far as the load can
/// see.
#[test]
fn a_network_that_is_too_slow() {
    let script = "
        set -e
        exec 3< <(unshare -n bash -c 'echo $$; exec sleep 600'); read -r there <&3
        trap 'kill $there $server 2>/dev/null' EXIT
        ip link set lo up
        ip link add here0 type veth peer name there0 netns $there
        ip address add 10.9.0.1/24 dev here0; ip link set here0 up
        nsenter -t $there -n ip address add 10.9.0.2/24 dev there0
        nsenter -t $there -n ip link set there0 up
        tc qdisc add dev here0 root tbf rate 4mbit burst 10kb latency 50ms
        exec 4< <(exec nsenter -t $there -n \"$1\" serve --plain --threads 1 --mode ingest --listen 10.9.0.2:0)
        server=$!
        read -r _ _ url <&4
        \"$1\" capacity $url --from 40 --most 160 --hold 2s --warmup 500ms --resolution 0.5 \
            --latency-limit 3s --json >&5";
    let directory = Directory::new("network");
    let json = directory.file("capacity.json");
    let script = format!("exec 5> '{json}'\n{script}");
    let output = Command::new("unshare")
        .args(["-n", "bash", "-c", &script, "bash", env!("CARGO_BIN_EXE_webscale")])
        .stdin(Stdio::null())
        .output();
    let said = output
        .map_or_else(|error| error.to_string(), |output| String::from_utf8_lossy(&output.stderr).into());
    if said.contains("not permitted") || said.contains("not found") || said.contains("No such file") {
        return skipped(&format!("no network can be made here (unshare, ip, tc): {said}"));
    }
    let json = std::fs::read_to_string(json).unwrap();
    let capacity: serde_json::Value = serde_json::from_str(&json).unwrap_or_else(|_| panic!("{said}"));
    assert_eq!(capacity["binding"]["resource"], "network", "{capacity:#}");
    assert_eq!((&capacity["binding"]["end"], &capacity["at_least"]), (&"load".into(), &true.into()));
    assert!(said.contains("the server is on another machine"), "{said}");
}

#[test]
fn a_server_that_waits_is_slow() {
    let capacity = search_slow_victim(|| Victim::start("slow", "--nofile=4096"));
    assert_eq!(capacity["binding"]["resource"], "latency", "{capacity:#}");
}

#[test]
fn a_server_that_computes_has_a_full_processor() {
    let capacity = search_slow_victim(|| Victim::start("busy", "--nofile=4096"));
    assert_eq!(capacity["binding"]["resource"], "server_cpu", "{capacity:#}");
}

#[test]
fn the_rate_of_a_busy_server() {
    let victim = Victim::start("busy", "--nofile=4096");
    let pid = victim.child.id().to_string();
    let words = [
        "capacity",
        &victim.url,
        "--find",
        "rate",
        "--clients",
        "10",
        "--from",
        "100",
        "--pid",
        &pid,
        "--hold",
        "400ms",
        "--warmup",
        "0s",
        "--resolution",
        "0.5",
        IMPATIENT[0],
        IMPATIENT[1],
        "--size",
        "100",
        "--json",
    ];
    let output = common::webscale(&words);
    let capacity: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!((&capacity["find"], &capacity["confirmed"]), (&"rate".into(), &true.into()));
    // It computes 100 messages a second, and may be 1 s behind after less than half a second.
    let found = capacity["found"].as_u64().unwrap();
    assert!((50..1000).contains(&found), "{capacity:#}");
}

/// A network namespace of our own has ports of our own; only root may make one.
#[test]
fn ports() {
    let allowed = Command::new("unshare").args(["-n", "ip", "link", "set", "lo", "up"]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        return skipped("no network namespace can be made here (unshare -n, ip)");
    }
    let script = "ip link set lo up && echo '40000 40039' > /proc/sys/net/ipv4/ip_local_port_range && \
                  exec 3< <(exec \"$1\" serve --plain --threads 1 --listen 127.0.0.1:9001) && server=$! && \
                  read -r _ _ url <&3; \"$1\" capacity $url \"${@:2}\"; status=$?; kill $server; exit $status";
    let more = [&["--from", "10", "--source", "127.0.0.1"], &PATIENT[..]].concat();
    let words =
        [&["-n", "bash", "-c", script, "bash", env!("CARGO_BIN_EXE_webscale")][..], &SMALL, &SHORT, &more]
            .concat();
    let output = Command::new("unshare").args(&words).stdin(Stdio::null()).output().unwrap();
    let capacity: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    assert_eq!(capacity["binding"]["resource"], "ports", "{capacity:#}");
    assert_eq!(capacity["at_least"], true, "{capacity:#}");
    assert!(capacity["found"].as_u64().is_some_and(|found| found <= 40), "{capacity:#}");
}

#[test]
fn a_load_for_which_there_is_no_memory_is_not_begun() {
    let Some(group) = Group::memory("40000000") else { return skipped("no control group can be made here") };
    let victim = Victim::start("well", "--nofile=4096");
    let starter = group.starter();
    let load = [env!("CARGO_BIN_EXE_webscale"), "bench", &victim.url, "--clients", "5000"];
    let words = [&starter.each_ref().map(String::as_str)[..], &load].concat();
    let output = Command::new(words[0]).args(&words[1..]).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in ["5000 clients do not fit", "cgroup: memory limit: ", "92 MB are needed", "echo "] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_process_that_is_not_the_server_is_said() {
    let (victim, other) = (Victim::start("well", "--nofile=4096"), Victim::start("well", "--nofile=4096"));
    let pid = other.child.id().to_string();
    let words =
        [&["capacity", &victim.url, "--from", "20", "--pid", &pid][..], &SMALL, &SHORT, &PATIENT].concat();
    assert_fails(&words, 1, &[&pid, "did not hold the clients", "--pid"]);
}

#[test]
fn what_cannot_be_done_is_said() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("ws://127.0.0.1:{port}");
    assert_fails(&["capacity", &url], 1, &["no client could connect", "refused"]);
    assert_fails(&["capacity", "http://127.0.0.1"], 2, &["ws://"]);
    assert_fails(&["capacity", &url, "--clients", "9"], 2, &["--find rate"]);
    assert_fails(&["capacity", &url, "--find", "rate", "--interval", "1s"], 2, &["--interval"]);
    assert_fails(&["capacity", &url, "--find", "rate", "--memory", "4GiB"], 2, &["--memory"]);
    assert_fails(&["capacity", &url, "--memory", "4GiB"], 2, &["--memory", "--pid"]);
    // An address of nobody (RFC 5737): nothing is asked of it.
    assert_fails(&["capacity", "ws://192.0.2.1:9", "--memory", "4GiB"], 2, &["--memory", "on its machine"]);
    assert_fails(&["capacity", &url, "--memory", "0"], 2, &["--memory", "above zero"]);
    assert_fails(&["capacity", &url, "--latency-limit", "0s"], 2, &["--latency-limit", "above zero"]);
    assert_fails(&["capacity", &url, "--from", "9", "--most", "8"], 2, &["--from", "--most"]);
    assert_fails(&["capacity", &url, "--hold", "0s"], 2, &["--hold", "above zero"]);
    assert_fails(&["capacity", &url, "--resolution", "60%"], 2, &["0.1% to 50%"]);
    let one = ["capacity", &url, "--memory", "4GiB", "--from", "9", "--most", "9"];
    assert_fails(&one, 2, &["--memory", "--from must be below --most"]);
}
