//! The article's experiment: the servers built, loaded in turn, and set side by side.

pub mod build;
pub mod contestant;
mod experiment;
pub mod figures;
pub mod html;
mod job;
pub mod machine;
pub mod report;
pub mod runner;
pub mod server;
pub mod settings;
pub mod table;
pub mod workspace;

pub use experiment::{CompareError, run};
