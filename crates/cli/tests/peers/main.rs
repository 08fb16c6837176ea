//! WebSocket implementations of other makes: Node's `ws`, Python's `websockets` and headless Chromium as clients of our
//! server, the first two as servers for our client and for `webscale bench`.
//!
//! `scripts/peers` installs them and runs these tests, which are ignored otherwise.

#[path = "../common/mod.rs"]
mod common;

mod clients;
mod guest;
mod host;
mod load;
mod message;
mod parameters;
mod puppet;
mod servers;

/// The tests of a module, each a function that takes a peer, for one peer or several.
macro_rules! tests {
    ($($module:ident: $peer:expr),+ => $tests:tt) => {
        $(crate::tests!(@of $module, $peer, $tests);)+
    };
    (@of $module:ident, $peer:expr, [$($test:ident),+]) => {
        mod $module {
            use crate::puppet::Peer;
            $(
                #[test]
                #[ignore = "scripts/peers installs what it needs"]
                fn $test() {
                    super::$test($peer);
                }
            )+
        }
    };
}
use tests;
