//! A server's binary as a test sees it, and the checks that every server has to pass, over real sockets.
//!
//! [`server_checks!`](crate::server_checks) makes a test of each check. A check that hangs ends by [`TIMEOUT`] with
//! a failure; none is measured by the clock. Nothing here returns an error: a test fails by a panic.

pub mod checks;
mod files;
mod process;
mod socket;

use std::time::Duration;

pub use files::{Certificate, Directory};
pub use process::{Server, refusal};
pub use socket::{Client, Connect};

/// How long a client waits for a server that says nothing.
pub const TIMEOUT: Duration = Duration::from_secs(60);

/// One test for each check, of the binary whose path is given, with further arguments for it:
/// `server_checks!(env!("CARGO_BIN_EXE_server-x"), ["--threads", "2"]);`
#[macro_export]
macro_rules! server_checks {
    ($binary:expr, $arguments:expr) => {
        $crate::server_checks! { @ $binary, $arguments;
            messages_are_echoed
            the_longest_message_is_echoed
            a_burst_comes_back_in_order
            many_clients_are_served_at_once
            a_ping_is_answered
            messages_are_parsed_and_counted
            a_message_that_does_not_fit_is_refused
            a_message_that_is_too_long_is_not_taken
            handshakes_may_come_in_pieces
            tls_12_and_alpn
            a_bad_client_ends_alone
            a_lack_of_descriptors_passes
            both_signals_end_it
            what_is_wrong_is_said_in_one_sentence
            help_is_given
        }
    };
    (@ $binary:expr, $arguments:expr; $($check:ident)*) => {
        $(
            #[test]
            fn $check() {
                let arguments: &[&str] = &$arguments;
                $crate::testing::checks::$check($binary, arguments);
            }
        )*
    };
}
