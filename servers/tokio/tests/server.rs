//! The binary over real sockets.

mod defaults {
    workload::server_checks!(env!("CARGO_BIN_EXE_server-tokio"), []);
}

mod small_read_buffer {
    workload::server_checks!(env!("CARGO_BIN_EXE_server-tokio"), ["--read-buffer", "4096", "--threads", "2"]);
}

mod current_thread {
    workload::server_checks!(env!("CARGO_BIN_EXE_server-tokio"), ["--current-thread"]);
}

#[test]
fn a_single_thread_is_not_several() {
    let line = ["--listen", "127.0.0.1:0", "--mode", "echo", "--plain", "--current-thread", "--threads", "2"];
    let (code, sentence) = workload::testing::refusal(env!("CARGO_BIN_EXE_server-tokio"), &line);
    assert_eq!(code, 2);
    assert!(sentence.contains("--threads"), "{sentence}");
}
