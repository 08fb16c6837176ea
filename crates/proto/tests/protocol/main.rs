//! The protocol from outside: bytes in, events out. One binary, because each links the whole tree.

mod close_codes;
mod differential;
mod faults;
mod limits;
mod oracle;
mod properties;
mod splits;
mod streaming;
mod support;
mod text;
mod vectors;
