//! The telemetry message as text, made from a seed.

mod json;

use crate::random::Random;
use json::Json;

/// Length of every message, in bytes.
pub const PAYLOAD_BYTES: usize = 10_240;

/// The readings take three quarters of the message.
const READINGS: u64 = 48;

/// Room for the longest event and for what follows the events.
const EVENT_BYTES_MAX: usize = 200;

/// 2026-01-01T00:00:00Z.
const EPOCH_MS: u64 = 1_767_225_600_000;

const SENSORS: [(&str, &str, f64, f64); 12] = [
    ("air.temperature", "°C", -20.0, 40.0),
    ("air.humidity", "%", 5.0, 95.0),
    ("air.pressure", "hPa", 960.0, 1050.0),
    ("air.particles", "µg/m³", 0.0, 80.0),
    ("wind.speed", "m/s", 0.0, 30.0),
    ("rain.rate", "mm/h", 0.0, 12.0),
    ("soil.moisture", "%", 0.0, 60.0),
    ("light.level", "lx", 0.0, 90_000.0),
    ("motor.vibration", "mm/s", 0.0, 9.0),
    ("motor.temperature", "°C", 10.0, 95.0),
    ("tank.level", "m", 0.0, 6.0),
    ("supply.voltage", "V", 11.0, 29.0),
];

const LOCATIONS: [&str; 6] =
    ["pump-house/2", "roof/north-east", "hall-4/line-1", "tank-farm/7", "gate/west", "cellar"];

/// As they stand in the message: escapes are JSON's.
const EVENTS: [(&str, &str, &str); 10] = [
    ("info", "modem", "connected to the network after 2 attempts"),
    ("debug", "scheduler", "task \\\"uplink\\\" took longer than its slot"),
    ("info", "storage", "wrote 64 records to /var/lib/telemetry/queue"),
    ("warn", "sensor", "value jumped by more than 10 % between two samples"),
    ("error", "sensor", "no answer on bus 2\\nretry in 500 ms\\nretry in 1000 ms"),
    ("info", "update", "checked for firmware: nothing new on this channel"),
    ("debug", "power", "charger switched to trickle mode at 27.4 V"),
    ("warn", "clock", "drift of 38 ms corrected against the time server"),
    ("info", "door", "case opened with key card, closed again after 41 s"),
    ("info", "modem", "signal changed from fair to good"),
];

const NOTE: &str = "Mounted on the north wall above the pump house. Access by the ladder behind the gate, \
    key at the site office. Replace the desiccant at every inspection and wipe the panel. ";

/// The message of the device with number `seed`: valid JSON, always the same for the same seed, exactly
/// [`PAYLOAD_BYTES`] long, and a [`Telemetry`](crate::telemetry::Telemetry) in every field.
#[must_use]
pub fn payload(seed: u64) -> String {
    let mut random = Random::new(seed);
    let time_ms = EPOCH_MS + random.below(31_536_000_000);
    let mut json = Json::with_capacity(PAYLOAD_BYTES);
    json.number("schema", 3);
    json.number("sequence", random.below(9_000_000));
    json.number("time_ms", time_ms);
    json.number("uptime_s", random.below(8_000_000));
    json.object("device", |json| device(json, &mut random, time_ms));
    json.object("position", |json| position(json, &mut random));
    json.object("power", |json| power(json, &mut random));
    json.object("network", |json| network(json, &mut random));
    json.object("flags", |json| flags(json, &mut random));
    json.array("readings", |json| {
        for index in 0..READINGS {
            json.element(|json| reading(json, &mut random, index, time_ms));
        }
    });
    json.array("alarms", |json| {
        for _ in 0..random.below(3) {
            json.element(|json| alarm(json, &mut random, time_ms));
        }
    });
    json.array("events", |json| events(json, &mut random, time_ms));
    let room = PAYLOAD_BYTES - json.finished_len("note");
    json.text("note", &NOTE.chars().cycle().take(room).collect::<String>());
    let message = json.finish();
    assert_eq!(message.len(), PAYLOAD_BYTES, "the note fills what the other fields leave");
    message
}

fn device(json: &mut Json, random: &mut Random, time_ms: u64) {
    let (high, low) = (random.draw(), random.draw());
    let id = format!(
        "{:08x}-{:04x}-4{:03x}-a{:03x}-{:012x}",
        high >> 32,
        high & 0xffff,
        (high >> 16) & 0xfff,
        low >> 52,
        low & 0xffff_ffff_ffff
    );
    json.text("id", &id);
    json.text("model", random.choose(&["TX-200", "TX-210 outdoor", "TX-400 gateway"]));
    json.text("serial", &format!("SN{:010}", random.below(10_000_000_000)));
    json.object("firmware", |json| {
        json.text("version", &format!("{}.{}.{}", 2 + random.below(4), random.below(20), random.below(10)));
        json.number("build", 10_000 + random.below(90_000));
        json.text("channel", random.choose(&["stable", "beta", "long-term"]));
        json.number("installed_ms", time_ms - random.below(10_000_000_000));
    });
    json.array("tags", |json| {
        for tag in ["site:north", "owner:utilities", "tier-2"] {
            json.text_element(tag);
        }
    });
}

fn position(json: &mut Json, random: &mut Random) {
    json.float("latitude", random.between(-60.0, 70.0), 6);
    json.float("longitude", random.between(-180.0, 180.0), 6);
    json.float("altitude_m", random.between(-10.0, 2400.0), 1);
    json.float("accuracy_m", random.between(0.8, 25.0), 1);
    if random.flag() {
        json.float("speed_m_s", random.between(0.5, 30.0), 2);
        json.float("heading_deg", random.between(0.0, 360.0), 1);
    } else {
        json.float("speed_m_s", 0.0, 1);
        json.null("heading_deg");
    }
    json.text("fix", random.choose(&["2d", "3d"]));
    json.number("satellites", 4 + random.below(14));
}

fn power(json: &mut Json, random: &mut Random) {
    json.text("source", random.choose(&["mains", "solar", "battery"]));
    json.float("voltage_v", random.between(11.0, 29.0), 2);
    json.float("current_a", random.between(0.05, 2.5), 3);
    json.float("charge", random.between(0.1, 1.0), 2);
    json.flag("charging", random.flag());
    json.number("cycles", random.below(1200));
}

fn network(json: &mut Json, random: &mut Random) {
    json.text("kind", random.choose(&["ethernet", "wifi", "lte"]));
    json.text("operator", random.choose(&["plant-backbone", "Field Net West", "city mesh"]));
    json.text(
        "address",
        &format!("10.{}.{}.{}", random.below(256), random.below(256), 1 + random.below(254)),
    );
    json.number("rssi_dbm", format_args!("-{}", 40 + random.below(70)));
    json.flag("roaming", random.flag());
    json.number("bytes_sent", random.below(90_000_000_000));
    json.number("bytes_received", random.below(9_000_000_000));
    if random.flag() {
        json.object("cell", |json| {
            json.number("mcc", 200 + random.below(500));
            json.number("mnc", random.below(100));
            json.number("id", random.below(1 << 28));
        });
    } else {
        json.null("cell");
    }
}

fn flags(json: &mut Json, random: &mut Random) {
    for name in ["case_closed", "clock_synced", "maintenance", "restart_pending", "storage_low"] {
        json.flag(name, random.flag());
    }
}

fn reading(json: &mut Json, random: &mut Random, index: u64, time_ms: u64) {
    let (sensor, unit, low, high) = random.choose(&SENSORS);
    let (min, max) = (random.between(low, high), random.between(low, high));
    let (min, max) = (min.min(max), min.max(max));
    json.text("sensor", &format!("{sensor}.{:02}", index + 1));
    json.text("unit", unit);
    json.float("value", random.between(min, max), 2);
    json.float("min", min, 2);
    json.float("max", max, 2);
    json.text("location", random.choose(&LOCATIONS));
    json.text("time", &timestamp(time_ms - random.below(60_000)));
    json.text("status", random.choose(&["ok", "ok", "ok", "ok", "drift", "stale", "fault"]));
}

/// `time_ms` since 1970 in the form of RFC 3339, for a time in 2026.
fn timestamp(time_ms: u64) -> String {
    const MONTHS: [u64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let since = time_ms.saturating_sub(EPOCH_MS);
    let (mut day, second) = (since / 86_400_000, since / 1000 % 86_400);
    let mut month = 0;
    while month < 11 && day >= MONTHS[month] {
        day -= MONTHS[month];
        month += 1;
    }
    let (hour, minute, second, milli) = (second / 3600, second / 60 % 60, second % 60, since % 1000);
    format!("2026-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z", month + 1, day + 1)
}

fn alarm(json: &mut Json, random: &mut Random, time_ms: u64) {
    let (sensor, _, low, high) = random.choose(&SENSORS);
    json.text("sensor", &format!("{sensor}.{:02}", 1 + random.below(READINGS)));
    json.text("severity", random.choose(&["warning", "critical"]));
    json.float("threshold", random.between(low, high), 1);
    json.number("since_ms", time_ms - random.below(86_400_000));
    json.flag("acknowledged", random.flag());
}

fn events(json: &mut Json, random: &mut Random, time_ms: u64) {
    let mut event_ms = time_ms - 900_000;
    while json.len() + EVENT_BYTES_MAX < PAYLOAD_BYTES {
        event_ms += 1 + random.below(25_000);
        let (level, source, text) = random.choose(&EVENTS);
        json.element(|json| {
            json.number("time_ms", event_ms);
            json.text("level", level);
            json.text("source", source);
            json.text("text", text);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_has_the_exact_length() {
        for seed in (0..2000).chain([u64::MAX, u64::MAX / 2]) {
            assert_eq!(payload(seed).len(), PAYLOAD_BYTES, "seed {seed}");
        }
    }

    #[test]
    fn timestamps_follow_the_calendar() {
        assert_eq!(timestamp(EPOCH_MS), "2026-01-01T00:00:00.000Z");
        assert_eq!(timestamp(EPOCH_MS + 59 * 86_400_000 - 1), "2026-02-28T23:59:59.999Z");
        assert_eq!(timestamp(EPOCH_MS + 59 * 86_400_000), "2026-03-01T00:00:00.000Z");
        assert_eq!(timestamp(EPOCH_MS + 365 * 86_400_000 - 1), "2026-12-31T23:59:59.999Z");
    }

    #[test]
    fn the_seed_alone_decides() {
        assert_eq!(payload(7), payload(7));
        assert_ne!(payload(7), payload(8));
    }

    #[test]
    fn the_note_is_a_small_part() {
        for seed in 0..2000 {
            let message = payload(seed);
            let note = message.rfind("\"note\":\"").expect("the last field");
            assert!(PAYLOAD_BYTES - note < 250, "seed {seed}: the note begins at {note}");
        }
    }
}
