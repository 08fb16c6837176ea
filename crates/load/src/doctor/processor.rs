//! What makes the processor slower than it looks.

use super::Need;
use super::check::{Check, Mend};
use super::root::Root;
use crate::measure::host::cpuinfo_value;
use crate::measure::kernel::parse_machine_cpu;

/// Stolen time above this share is felt in p99.
const STEAL_MAX: f64 = 0.02;

/// For a shell.
const ALL_GOVERNORS: &str = "sys/devices/system/cpu/cpu*/cpufreq/scaling_governor";

pub(super) fn checks(root: &Root, need: &Need) -> Vec<Check> {
    let mut checks = Vec::new();
    if need.secure {
        checks.push(encryption(root));
    }
    checks.extend([governor(root), steal(root)]);
    checks
}

fn encryption(root: &Root) -> Check {
    let cpuinfo = root.text("proc/cpuinfo").unwrap_or_default();
    let flags = cpuinfo_value(&cpuinfo, "flags").or_else(|| cpuinfo_value(&cpuinfo, "Features"));
    let has = |flag: &str| flags.is_some_and(|flags| flags.split_ascii_whitespace().any(|word| word == flag));
    let known = ["aes", "vaes", "avx2", "avx512f"].into_iter().filter(|flag| has(flag));
    let known: Vec<&str> = known.collect();
    let now = if known.is_empty() { "none".to_owned() } else { known.join(" ") };
    Check::word("processor: AES, AVX", flags.map(|_| now), has("aes"))
        .note("without AES instructions TLS takes several times the CPU")
        .mend([Mend::Words(
            "another machine, or AES made visible to this virtual one (host-passthrough)".into(),
        )])
}

fn governor(root: &Root) -> Check {
    let governor = root.text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    let governor = governor.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let is_good = governor.as_deref() == Some("performance");
    Check::word("processor: governor", governor, is_good)
        .note("others change the clock during a run; not shown to most virtual machines")
        .mend([root.by_root(&format!("sh -c 'echo performance | tee /{ALL_GOVERNORS}'"))])
}

fn steal(root: &Root) -> Check {
    let cpu = root.text("proc/stat").and_then(|text| parse_machine_cpu(&text));
    let share = cpu.map(|cpu| cpu.stolen_ticks as f64 / cpu.total_ticks.max(1) as f64);
    let now = share.map(|share| format!("{:.1} %", share * 100.0));
    Check::word("processor: stolen", now, share.is_some_and(|share| share <= STEAL_MAX))
        .note("taken by the host for others, since the machine started")
        .mend([Mend::Words("a machine with processors of its own".into())])
}
