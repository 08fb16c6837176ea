#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| webscale_fuzz::proxy::run(data));
