//! What a server uses, measured from outside: its process, the kernel below it, and its heap.

pub mod family;
pub mod group;
pub mod heaptrack;
pub mod host;
pub mod kernel;
pub mod listener;
pub mod process;
