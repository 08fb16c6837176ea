//! The article's experiment: the servers built, loaded in turn, and set side by side.

pub mod build;
pub mod contestant;
pub mod figures;
pub mod server;
pub mod workspace;
