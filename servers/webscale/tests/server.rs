//! The binary over real sockets.

mod one_loop {
    workload::server_checks!(env!("CARGO_BIN_EXE_server-webscale"), ["--threads", "1"]);
}

mod a_loop_each {
    workload::server_checks!(env!("CARGO_BIN_EXE_server-webscale"), ["--threads", "3"]);
}

mod workers {
    workload::server_checks!(env!("CARGO_BIN_EXE_server-webscale"), ["--threads", "1", "--workers", "3"]);
}

mod owned {
    workload::server_checks!(env!("CARGO_BIN_EXE_server-webscale"), ["--threads", "1", "--json", "owned"]);
}
