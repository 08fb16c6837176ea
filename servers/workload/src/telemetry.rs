//! The telemetry message as a struct.
//!
//! There is one definition for both forms, generic over the text type, so that neither can come to parse less
//! than the other. Every field of the message is covered and an unknown one is an error.

use std::{borrow::Cow, ops::Deref};

use serde::{Deserialize, Serialize};

/// The message with all its text copied out: it outlives the bytes that it was parsed from.
pub type Owned = Telemetry<String>;

/// The message with its text borrowed from the bytes that it was parsed from, except for text with escapes.
pub type Borrowed<'a> = Telemetry<Text<'a>>;

/// Text that is borrowed where it stands in the input as it is, and owned where an escape had to be resolved.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// One report of one device.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry<S> {
    /// Version of the message's layout.
    pub schema: u32,
    /// Counts the device's reports since it was made.
    pub sequence: u64,
    /// When the report was made, in ms since 1970-01-01T00:00:00Z.
    pub time_ms: u64,
    /// Since the device started, in seconds.
    pub uptime_s: u64,
    /// Who reports.
    pub device: Device<S>,
    /// Where the device is.
    pub position: Position<S>,
    /// What feeds the device.
    pub power: Power<S>,
    /// How the device is connected.
    pub network: Network<S>,
    /// Switches and states.
    pub flags: Flags,
    /// One element a sensor.
    pub readings: Vec<Reading<S>>,
    /// Limits that are exceeded at the moment.
    pub alarms: Vec<Alarm<S>>,
    /// What happened since the last report, oldest first.
    pub events: Vec<Event<S>>,
    /// Free text of the operator.
    pub note: S,
}

/// Who reports.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Device<S> {
    /// A UUID.
    pub id: S,
    /// Product name.
    pub model: S,
    /// Serial number as printed on the case.
    pub serial: S,
    /// The running firmware.
    pub firmware: Firmware<S>,
    /// Labels that the operator has given.
    pub tags: Vec<S>,
}

/// The running firmware.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Firmware<S> {
    /// Major, minor and patch number.
    pub version: S,
    /// Number of the build.
    pub build: u32,
    /// Which updates the device takes.
    pub channel: S,
    /// When it was installed, in ms since 1970-01-01T00:00:00Z.
    pub installed_ms: u64,
}

/// A position on the WGS 84 ellipsoid.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Position<S> {
    /// In degrees, north is positive.
    pub latitude: f64,
    /// In degrees, east is positive.
    pub longitude: f64,
    /// Above the ellipsoid, in metres.
    pub altitude_m: f64,
    /// Radius of the 68 % circle, in metres.
    pub accuracy_m: f64,
    /// Over ground, in metres a second.
    pub speed_m_s: f64,
    /// Clockwise from north, in degrees; none while the device stands.
    pub heading_deg: Option<f64>,
    /// `none`, `2d` or `3d`.
    pub fix: S,
    /// Satellites in use.
    pub satellites: u8,
}

/// What feeds the device.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Power<S> {
    /// `mains`, `solar` or `battery`.
    pub source: S,
    /// At the input, in volts.
    pub voltage_v: f64,
    /// Into the device, in amperes.
    pub current_a: f64,
    /// State of charge, 0 to 1.
    pub charge: f64,
    /// Whether the battery is being charged.
    pub charging: bool,
    /// Charge cycles of the battery.
    pub cycles: u32,
}

/// How the device is connected.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Network<S> {
    /// `ethernet`, `wifi` or `lte`.
    pub kind: S,
    /// Name of the network.
    pub operator: S,
    /// The device's own address.
    pub address: S,
    /// Received power, in dBm.
    pub rssi_dbm: i32,
    /// Whether the network is a foreign one.
    pub roaming: bool,
    /// Since the device started.
    pub bytes_sent: u64,
    /// Since the device started.
    pub bytes_received: u64,
    /// The radio cell; none where there is no radio.
    pub cell: Option<Cell>,
}

/// A radio cell.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// Mobile country code.
    pub mcc: u16,
    /// Mobile network code.
    pub mnc: u16,
    /// Cell identity.
    pub id: u32,
}

/// Switches and states.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Flags {
    /// The case is closed.
    pub case_closed: bool,
    /// The clock is synchronised.
    pub clock_synced: bool,
    /// Someone works on the device.
    pub maintenance: bool,
    /// A restart is needed to finish an update.
    pub restart_pending: bool,
    /// The local storage is nearly full.
    pub storage_low: bool,
}

/// What one sensor measured since the last report.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Reading<S> {
    /// Name of the sensor.
    pub sensor: S,
    /// Unit of the values.
    pub unit: S,
    /// The newest value.
    pub value: f64,
    /// The least value.
    pub min: f64,
    /// The greatest value.
    pub max: f64,
    /// Where in the plant the sensor is.
    pub location: S,
    /// When the newest value was measured, as RFC 3339 has it.
    pub time: S,
    /// `ok`, `drift`, `stale` or `fault`.
    pub status: S,
}

/// A limit that is exceeded.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Alarm<S> {
    /// Name of the sensor.
    pub sensor: S,
    /// `warning` or `critical`.
    pub severity: S,
    /// The limit, in the sensor's unit.
    pub threshold: f64,
    /// Since when, in ms since 1970-01-01T00:00:00Z.
    pub since_ms: u64,
    /// Whether an operator has seen it.
    pub acknowledged: bool,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Event<S> {
    /// When, in ms since 1970-01-01T00:00:00Z.
    pub time_ms: u64,
    /// `debug`, `info`, `warn` or `error`.
    pub level: S,
    /// Which part of the device tells.
    pub source: S,
    /// What happened.
    pub text: S,
}
