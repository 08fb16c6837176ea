//! Over a made-up machine: files below a temporary directory.

use super::machine::Machine;
use super::*;
use crate::report::documented::assert_documented;
use crate::table::Look;

/// As a stock server with 16 GB: each line is a file and its text.
const STOCK: [(&str, &str); 23] = [
    ("proc/self/status", "Name:\tshell\nUid:\t0\t0\t0\t0\nCapBnd:\t000001ffffffffff\n"),
    (
        "proc/self/limits",
        "Max open files            1024                 1048576              files     \n\
         Max address space         unlimited            unlimited            bytes     \n",
    ),
    ("proc/sys/fs/nr_open", "1073741816\n"),
    ("proc/sys/fs/file-max", "9223372036854775807\n"),
    ("proc/sys/fs/file-nr", "1504\t0\t9223372036854775807\n"),
    ("proc/sys/net/core/somaxconn", "4096\n"),
    ("proc/sys/net/ipv4/tcp_max_syn_backlog", "4096\n"),
    ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
    ("proc/sys/net/ipv4/tcp_mem", "188319\t251094\t376638\n"),
    ("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n"),
    ("proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t4194304\n"),
    ("proc/net/sockstat", "sockets: used 300\nTCP: inuse 7 orphan 0 tw 3 alloc 9 mem 12\n"),
    ("proc/meminfo", "MemTotal: 16384000 kB\nMemAvailable: 12000000 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n"),
    ("proc/self/cgroup", "0::/user.slice/session-1.scope\n"),
    ("sys/fs/cgroup/user.slice/memory.max", "max\n"),
    ("sys/fs/cgroup/user.slice/memory.current", "123456\n"),
    ("sys/fs/cgroup/user.slice/pids.max", "37000\n"),
    ("sys/fs/cgroup/user.slice/pids.current", "120\n"),
    ("proc/sys/kernel/threads-max", "127000\n"),
    ("proc/sys/kernel/pid_max", "4194304\n"),
    ("proc/sys/vm/max_map_count", "65530\n"),
    ("proc/sys/fs/epoll/max_user_watches", "3500000\n"),
    ("proc/stat", "cpu  100 0 100 700 50 10 30 10 0 0\ncpu0 1 2 3\n"),
];

impl Machine {
    fn stock(name: &str) -> Machine {
        let machine = Machine::new(&format!("doctor-{name}"), &STOCK);
        machine.write("proc/cpuinfo", "processor\t: 0\nflags\t\t: fpu pclmulqdq aes avx2\n");
        machine.write("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n");
        machine
    }

    fn without(self, file: &str) -> Machine {
        self.remove(file);
        self
    }

    fn with(self, file: &str, text: &str) -> Machine {
        self.write(file, text);
        self
    }

    fn examine(&self, need: &Need) -> Diagnosis {
        examine(&self.root(), need)
    }

    fn check(&self, name: &str, need: &Need) -> Check {
        self.examine(need).checks.into_iter().find(|check| check.name == name).unwrap()
    }
}

const LIMITS: &str = "proc/self/limits";

#[test]
fn a_stock_machine_holds_a_thousand_clients() {
    let machine = Machine::stock("stock");
    let diagnosis = machine.examine(&Need::of(900));
    assert!(diagnosis.fits, "{:?}", diagnosis.with(Verdict::Short).collect::<Vec<_>>());
    assert_eq!(diagnosis.with(Verdict::Unknown).count(), 0);
    assert!(diagnosis.checks.iter().all(|check| check.mend.is_empty() || check.verdict == Verdict::Tight));
}

#[test]
fn every_row_has_a_note_and_every_bad_one_a_mend() {
    let machine = Machine::stock("notes");
    let server = Need { server: vec![7], ..Need::of(1_000_000) };
    machine.write("proc/7/limits", STOCK[1].1);
    let load = Need { loopback: false, role: Role::Load, ..Need::of(1_000_000) };
    for need in [Need::of(1_000_000), server, load] {
        for check in machine.examine(&need).checks {
            assert!(!check.note.is_empty(), "{check:?}");
            let bad = matches!(check.verdict, Verdict::Short | Verdict::Tight);
            assert_eq!(bad, !check.mend.is_empty(), "{check:?}");
        }
    }
}

#[test]
fn nothing_readable_is_unknown_and_never_ok() {
    let diagnosis = examine(&Root::new("/nonexistent"), &Need::of(10));
    assert!(diagnosis.checks.iter().all(|check| check.verdict == Verdict::Unknown), "{diagnosis:?}");
    assert!(diagnosis.fits, "nothing is known to be short");
}

#[test]
fn descriptors_soft_hard_and_shared() {
    let machine = Machine::stock("descriptors");
    let soft = machine.check("RLIMIT_NOFILE, soft", &Need::of(10_000));
    assert_eq!((soft.verdict, soft.needed), (Verdict::Tight, Some(Value::Count(10_064))));
    assert_eq!(soft.mend[0], Mend::Command("ulimit -n 11070".into()));
    let load = Need { role: Role::Load, ..Need::of(10_000) };
    assert_eq!(machine.check("RLIMIT_NOFILE, soft", &load).verdict, Verdict::Ok);
    let few = "Max open files 20000 20000 files\nMax address space unlimited unlimited bytes\n";
    let machine = machine.with(LIMITS, few);
    let hard = machine.check("RLIMIT_NOFILE, hard", &Need::of(38_000));
    assert_eq!(hard.verdict, Verdict::Short);
    assert_eq!(
        texts(&hard),
        [
            "prlimit --pid $$ --nofile=41870:41870",
            "LimitNOFILE=41870 in [Service] of the systemd unit",
            "webscale serve --processes 3",
        ]
    );
    // `ulimit` would be refused.
    assert_eq!(texts(&machine.check("RLIMIT_NOFILE, soft", &Need::of(38_000)))[0], texts(&hard)[0]);
    let shared = Need { processes: 3, ..Need::of(38_000) };
    assert_eq!(machine.check("RLIMIT_NOFILE, hard", &shared).verdict, Verdict::Ok);
    // The load shares them out by itself.
    let load = Need { role: Role::Load, ..Need::of(38_000) };
    for name in ["RLIMIT_NOFILE, hard", "RLIMIT_NOFILE, soft", "fs.nr_open"] {
        assert_eq!(machine.check(name, &load).verdict, Verdict::Ok);
    }
}

fn texts(check: &Check) -> Vec<String> {
    check.mend.iter().map(Mend::to_string).collect()
}

#[test]
fn what_is_to_be_typed_is_for_who_types_it() {
    let few = "Max open files 1000 1000 files\nMax address space unlimited unlimited bytes\n";
    let machine = Machine::stock("typed").with(LIMITS, few).with("proc/sys/fs/nr_open", "20000\n");
    let first = |machine: &Machine, name| texts(&machine.check(name, &Need::of(30_000)))[0].clone();
    const HARD: &str = "RLIMIT_NOFILE, hard";
    // Beyond fs.nr_open no hard limit can be set.
    let both = "sh -c \"sysctl -w fs.nr_open=33070 && prlimit --pid $$ --nofile=33070:33070\"";
    assert_eq!(first(&machine, HARD), both);
    let machine = machine.with("proc/self/status", "Uid:\t1000\t1000\t1000\t1000\n");
    assert_eq!(first(&machine, HARD), format!("sudo {both}"));
    assert_eq!(first(&machine, "fs.nr_open"), "sudo sysctl -w fs.nr_open=33070");
    let machine = machine.with("proc/self/status", "Uid:\t0\t0\t0\t0\nCapBnd:\t000001fffeffffff\n");
    assert!(first(&machine, HARD).contains("container by --ulimit nofile=33070"));
}

#[test]
fn a_server_that_runs_has_limits_of_its_own() {
    const NAME: &str = "RLIMIT_NOFILE, server";
    let machine = Machine::stock("server")
        .with(
            "proc/7/limits",
            "Max open files 1000 5000 files\nMax address space unlimited unlimited bytes\n",
        )
        .with(
            "proc/8/limits",
            "Max open files 9000 9000 files\nMax address space unlimited unlimited bytes\n",
        );
    (0..20).for_each(|number| machine.write(&format!("proc/7/fd/{number}"), ""));
    let need = |clients, server: &[u32]| Need { server: server.to_vec(), ..Need::of(clients) };
    let check = machine.check(NAME, &need(900, &[7]));
    assert_eq!(
        (check.verdict, check.now, check.needed),
        (Verdict::Tight, Some(Value::Count(1000)), Some(Value::Count(984)))
    );
    assert_eq!(machine.check(NAME, &need(800, &[7])).verdict, Verdict::Ok);
    let check = machine.check(NAME, &need(4000, &[7, 8]));
    assert_eq!((check.verdict, check.needed.clone()), (Verdict::Short, Some(Value::Count(2_284))));
    assert_eq!(texts(&check), ["prlimit --pid 7 --nofile=2512:; prlimit --pid 8 --nofile=2512:"]);
    let check = machine.check(NAME, &need(6000, &[7]));
    assert_eq!(texts(&check), ["prlimit --pid 7 --nofile=6692:6692"]);
    assert_eq!(machine.check(NAME, &need(6000, &[9])).verdict, Verdict::Unknown);
    // The shell's are the load's then, which takes as many processes as it needs.
    assert_eq!(machine.check("RLIMIT_NOFILE, soft", &need(4000, &[7])).verdict, Verdict::Ok);
}

#[test]
fn a_server_in_a_group_of_its_own_takes_its_memory_there() {
    let machine = Machine::stock("server-group")
        .with("proc/7/cgroup", "0::/server\n")
        .with("sys/fs/cgroup/server/memory.max", "50000000\n")
        .with("sys/fs/cgroup/server/memory.current", "10000000\n");
    let need = Need { server: vec![7], ..Need::of(10_000) };
    let check = machine.check("cgroup: server's memory", &need);
    assert_eq!((check.verdict, check.needed.clone()), (Verdict::Short, Some(Value::Bytes(10_000 * 8_700))));
    assert!(
        texts(&check)[0].starts_with("sh -c 'echo ") && texts(&check)[0].ends_with("/server/memory.max'")
    );
    assert!(
        machine
            .examine(&Need { server: vec![8], ..need })
            .checks
            .iter()
            .all(|check| check.name != "cgroup: server's memory")
    );
}

#[test]
fn who_has_started_another_leaves_the_connections_to_it() {
    let machine = Machine::stock("parents");
    for (pid, parent) in [(7, 1), (8, 7), (9, 7), (10, 1)] {
        let stat = format!("{pid} (s) S {parent} 7 7 0 -1 0 0 0 0 0 7 5 0 0 20 0 1 0 99 1");
        machine.write(&format!("proc/{pid}/stat"), &stat);
    }
    assert_eq!(without_parents(&machine.root(), &[7, 8, 9]), [8, 9]);
    assert_eq!(without_parents(&machine.root(), &[7, 10]), [7, 10]);
}

#[test]
fn ports_bind_only_away_from_loopback() {
    let machine = Machine::stock("ports");
    const NAME: &str = "ip_local_port_range";
    assert_eq!(machine.check(NAME, &Need::of(100_000)).verdict, Verdict::Ok);
    let remote = Need { loopback: false, role: Role::Load, ..Need::of(30_000) };
    let check = machine.check(NAME, &remote);
    assert_eq!((check.verdict, check.now.clone()), (Verdict::Short, Some(Value::Count(28_232))));
    assert_eq!(
        texts(&check),
        [
            "sysctl -w net.ipv4.ip_local_port_range='1024 65535'",
            "2 addresses of this machine for the load, each by --source ADDR",
        ]
    );
    assert_eq!(machine.check(NAME, &Need { sources: 2, ..remote.clone() }).verdict, Verdict::Ok);
    // No range has so many.
    let check = machine.check(NAME, &Need { clients: 100_000, ..remote });
    assert_eq!(texts(&check), ["4 addresses of this machine for the load, each by --source ADDR"]);
}

#[test]
fn time_wait_takes_ports_away() {
    let machine = Machine::stock("time-wait")
        .with("proc/net/sockstat", "TCP: inuse 7 orphan 0 tw 28000 alloc 9 mem 12\n");
    let remote = Need { loopback: false, role: Role::Load, ..Need::of(1000) };
    assert_eq!(machine.check("TIME_WAIT left", &remote).verdict, Verdict::Tight);
    assert_eq!(machine.check("TIME_WAIT left", &Need::of(1000)).verdict, Verdict::Ok);
    let machine = machine.with("proc/sys/net/ipv4/tcp_tw_reuse", "1\n");
    assert_eq!(machine.check("TIME_WAIT left", &remote).verdict, Verdict::Ok);
}

#[test]
fn memory_is_arithmetic_that_is_shown() {
    let machine = Machine::stock("memory");
    let check = machine.check("MemAvailable", &Need::of(1000));
    assert_eq!(check.needed, Some(Value::Bytes(1000 * (4_100 + 5_000 + 2 * 4_600))));
    assert_eq!(check.note, "1000 clients × (4.1 server + 5.0 load + 2 × 4.6 kernel) kB");
    let server = Need { role: Role::Server, server_bytes: 150_000, ..Need::of(100_000) };
    let check = machine.check("MemAvailable", &server);
    assert_eq!(check.verdict, Verdict::Short);
    assert_eq!(texts(&check), ["at most 79482 clients on this machine, or one with more memory"]);
}

#[test]
fn the_tightest_control_group_counts_in_both_versions() {
    let second = Machine::stock("cgroup-2")
        .with("sys/fs/cgroup/user.slice/memory.max", "200000000\n")
        .with("sys/fs/cgroup/user.slice/memory.current", "150000000\n")
        .with("sys/fs/cgroup/user.slice/memory.stat", "anon 9\ninactive_file 40000000\n")
        .with("sys/fs/cgroup/user.slice/session-1.scope/memory.max", "max\n");
    let check = second.check("cgroup: memory limit", &Need::of(10_000));
    // What the page cache has is given back.
    assert_eq!((check.verdict, check.now.clone()), (Verdict::Short, Some(Value::Bytes(90_000_000))));
    assert!(texts(&check)[0].ends_with("> /sys/fs/cgroup/user.slice/memory.max'"), "{:?}", check.mend);
    // In a container the path of the host is not there, but the mount point is.
    let first = Machine::stock("cgroup-1")
        .with("proc/self/cgroup", "4:memory:/docker/abc\n8:pids:/docker/abc\n0::/\n")
        .with("sys/fs/cgroup/memory/memory.limit_in_bytes", "100000000\n")
        .with("sys/fs/cgroup/memory/memory.usage_in_bytes", "99000000\n")
        .with("sys/fs/cgroup/pids/pids.max", "100\n")
        .with("sys/fs/cgroup/pids/pids.current", "90\n");
    assert_eq!(first.check("cgroup: memory limit", &Need::of(1000)).verdict, Verdict::Short);
    assert_eq!(first.check("cgroup: pids.max", &Need::of(1000)).verdict, Verdict::Short);
    let first = first.with("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    let check = first.check("cgroup: memory limit", &Need::of(1000));
    assert_eq!((check.verdict, check.now), (Verdict::Ok, Some(Value::Text("none".into()))));
}

#[test]
fn tcp_memory_is_tight_where_all_messages_do_not_fit_and_short_where_a_tenth_does_not() {
    let machine = Machine::stock("tcp-mem");
    let check = |need: &Need| machine.check("tcp_mem, free", need);
    let verdict = |clients| check(&Need::of(clients)).verdict;
    assert_eq!(verdict(10_000), Verdict::Ok);
    assert_eq!(verdict(100_000), Verdict::Tight);
    assert_eq!(verdict(1_000_000), Verdict::Tight);
    assert_eq!(verdict(2_000_000), Verdict::Short);
    // 1.2 GB are 292,969 pages; with those that are taken and a fifth more, pressure begins above them.
    let mends = texts(&check(&Need::of(100_000)));
    assert_eq!(mends, ["sysctl -w net.ipv4.tcp_mem='175788 351577 585962'"]);
    // Who sends nothing has nothing unread.
    let idle = Need { message_bytes: 0, ..Need::of(2_000_000) };
    assert_eq!((check(&idle).verdict, check(&idle).needed), (Verdict::Ok, Some(Value::Bytes(0))));
}

#[test]
fn windows_are_enlarged_and_never_narrowed() {
    let machine = Machine::stock("windows");
    let large = Need { message_bytes: 1 << 20, ..Need::of(100) };
    let check = machine.check("tcp_rmem", &large);
    assert_eq!(check.verdict, Verdict::Tight);
    assert_eq!(texts(&check), ["sysctl -w net.ipv4.tcp_rmem='4096 1312920 6291456'"]);
    let larger = Need { message_bytes: 16 << 20, ..Need::of(100) };
    assert!(texts(&machine.check("tcp_wmem", &larger))[0].ends_with("'4096 20973720 20973720'"));
}

#[test]
fn what_mends_a_row_mends_it() {
    let few = "Max open files 1024 4096 files\nMax address space unlimited unlimited bytes\n";
    let machine = Machine::stock("mended").with(LIMITS, few);
    for name in ["kernel.threads-max", "kernel.pid_max", "vm.max_map_count"] {
        machine.write(&format!("proc/sys/{}", name.replace('.', "/")), "100\n");
    }
    machine.write("proc/sys/fs/file-max", "2000\n");
    machine.write("proc/sys/fs/nr_open", "4096\n");
    machine.write("proc/sys/net/core/somaxconn", "128\n");
    machine.write("proc/sys/net/ipv4/tcp_max_syn_backlog", "128\n");
    machine.write("proc/sys/fs/epoll/max_user_watches", "4096\n");
    machine.write("proc/sys/net/netfilter/nf_conntrack_max", "6553\n");
    machine.write("proc/sys/net/netfilter/nf_conntrack_count", "6000\n");
    let need = Need { message_bytes: 1 << 20, role: Role::Both, loopback: false, ..Need::of(29_000) };
    let mut mended = 0;
    for check in machine.examine(&need).checks {
        let Some(Mend::Command(command)) = check.mend.first() else { continue };
        let Some((name, value)) = command.strip_prefix("sysctl -w ").and_then(|set| set.split_once('='))
        else {
            continue;
        };
        machine.write(&format!("proc/sys/{}", name.replace('.', "/")), value.trim_matches('\''));
        assert_eq!(machine.check(check.name, &need).verdict, Verdict::Ok, "{command}");
        mended += 1;
    }
    assert!(mended >= 12, "{mended}");
}

#[test]
fn connection_tracking_counts_where_it_is_loaded() {
    const NAME: &str = "nf_conntrack, free";
    let machine = Machine::stock("conntrack");
    assert_eq!(machine.check(NAME, &Need::of(10)).now, Some(Value::Text("not loaded".into())));
    let machine = machine.with("proc/sys/net/netfilter/nf_conntrack_max", "65536\n");
    assert_eq!(machine.check(NAME, &Need::of(10)).verdict, Verdict::Unknown);
    let machine = machine.with("proc/sys/net/netfilter/nf_conntrack_count", "60000\n");
    let check = machine.check(NAME, &Need::of(10_000));
    assert_eq!((check.verdict, check.now.clone()), (Verdict::Short, Some(Value::Count(5_536))));
    assert_eq!(texts(&check), ["sysctl -w net.netfilter.nf_conntrack_max=80000"]);
}

#[test]
fn no_number_is_too_large() {
    let machine = Machine::stock("large")
        .with("sys/fs/cgroup/user.slice/memory.max", "200000000\n")
        .with("proc/sys/net/netfilter/nf_conntrack_max", "65536\n")
        .with("proc/sys/net/netfilter/nf_conntrack_count", "60000\n");
    let most = u64::from(u32::MAX);
    let need = Need { server_bytes: 1 << 53, message_bytes: 1 << 53, ..Need::of(most) };
    for need in [need.clone(), Need { processes: 65_535, ..need.clone() }, Need { server: vec![7], ..need }] {
        assert!(!machine.examine(&need).fits);
    }
}

#[test]
fn queues_and_processors_are_never_short() {
    let machine = Machine::stock("processor")
        .with("proc/sys/net/core/somaxconn", "128\n")
        .with("proc/sys/net/ipv4/tcp_max_syn_backlog", "128\n")
        .with("proc/cpuinfo", "flags\t\t: fpu\n")
        .with("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n")
        .with("proc/stat", "cpu  100 0 100 700 0 0 0 100 0 0\ncpu0 1\n");
    let diagnosis = machine.examine(&Need::of(900));
    let names: Vec<_> = diagnosis.with(Verdict::Tight).map(|check| check.name).collect();
    for name in [
        "somaxconn",
        "tcp_max_syn_backlog",
        "processor: AES, AVX",
        "processor: governor",
        "processor: stolen",
    ] {
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    assert!(diagnosis.fits);
    let machine = machine.with("proc/sys/net/ipv4/tcp_syncookies", "1\n");
    assert_eq!(machine.check("tcp_max_syn_backlog", &Need::of(900)).verdict, Verdict::Ok);
    let plain = machine.examine(&Need { secure: false, ..Need::of(900) });
    assert!(plain.checks.iter().all(|check| check.name != "processor: AES, AVX"));
}

#[test]
fn a_load_asks_only_what_it_does_not_find_out() {
    let machine = Machine::stock("before").without("proc/meminfo");
    let diagnosis = before_load(&machine.root(), &Need::of(3_000_000));
    for name in ["RLIMIT", "cgroup: pids", "kernel"] {
        assert!(diagnosis.checks.iter().all(|check| !check.name.starts_with(name)));
    }
    let watches =
        diagnosis.with(Verdict::Short).find(|check| check.name == "epoll max_user_watches").unwrap();
    let sentence = watches.sentence();
    assert!(sentence.contains("3500000 where 6000000 are needed"), "{sentence}");
    assert!(sentence.contains("sysctl -w fs.epoll.max_user_watches=12000000"), "{sentence}");
}

#[test]
fn the_table_fits_eighty_columns() {
    let machine = Machine::stock("table").with("proc/meminfo", "MemAvailable: 1000 kB\n");
    for look in [Look::Lines { columns: 80 }, Look::Plain] {
        let text = text(&machine.examine(&Need::of(1_000_000)), look);
        // A command is not to be broken.
        let lines = text.lines().filter(|line| !line.contains(" && "));
        let widest = lines.max_by_key(|line| line.chars().count()).unwrap();
        assert!(widest.chars().count() <= 80, "{widest}");
        assert!(text.contains("do not fit: ") && text.contains("sysctl -w"), "{text}");
    }
}

#[test]
fn the_servers_machine_is_asked_there() {
    let machine = Machine::stock("there");
    let text =
        text(&machine.examine(&Need { role: Role::Load, loopback: false, ..Need::of(30_000) }), Look::Plain);
    assert!(text.contains("\n    webscale doctor --role server --clients 30000\n"), "{text}");
    assert!(text.contains("What sysctl -w sets is lost"), "{text}");
}

#[test]
fn json_tells_numbers_from_words() {
    let machine = Machine::stock("json");
    let json = serde_json::to_value(machine.examine(&Need::of(10_000))).unwrap();
    let rows = json["checks"].as_array().unwrap();
    let row = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap();
    assert_eq!(row("RLIMIT_NOFILE, soft")["now"], 1024);
    assert_eq!(row("RLIMIT_NOFILE, soft")["mend"], serde_json::json!([{ "command": "ulimit -n 11070" }]));
    assert_eq!(row("processor: governor")["now"], "performance");
    assert_documented(include_str!("../../../../docs/doctor-json.md"), std::slice::from_ref(&json), &[]);
    assert_eq!((json["fits"].as_bool(), &json["need"]["role"]), (Some(true), &"both".into()));
}
