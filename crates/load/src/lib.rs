//! Load generation for WebSocket servers, and measurement of the servers from outside.
//!
//! - [`mod@bench`]: a load on any endpoint.
//! - [`schedule`]: when each client is due to send (the open model).
//! - [`histogram`]: latency from the intended time and from the time of sending.
//! - [`measure`]: a server's process and the kernel below it, read from `/proc`.
//! - [`observe`]: who watches a run, and may end it.
//! - [`capacity`]: the most that a server holds, and what stops it.
//! - [`doctor`]: this machine's limits against a number of clients.
//! - [`faults`]: what a server survives, attack by attack.
//! - [`report`]: HTML and CSV of what a load found.
//! - [`cert`]: certificates for tests.
//! - [`compare`]: the article's experiment over several servers.
//! - [`table`]: how tables are drawn.

pub mod bench;
pub mod capacity;
pub mod cert;
pub mod compare;
mod date;
pub mod doctor;
pub mod faults;
pub mod histogram;
mod http;
pub mod measure;
pub mod observe;
pub mod report;
pub mod schedule;
pub mod table;
