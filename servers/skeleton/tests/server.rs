//! The binary over real sockets.

mod pool_of_ten {
    workload::server_checks!(env!("CARGO_BIN_EXE_server-skeleton"), []);
}

mod pool_of_one {
    workload::server_checks!(env!("CARGO_BIN_EXE_server-skeleton"), ["--threads", "1"]);
}
