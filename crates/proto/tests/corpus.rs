//! What the fuzz targets have found worth keeping, run again: the same functions, over `fuzz/corpus`.

#![expect(clippy::disallowed_methods, reason = "a corpus is files")]

use std::path::Path;

#[path = "../../../fuzz/src/decoder.rs"]
pub mod decoder;
#[path = "../../../fuzz/src/deflate.rs"]
pub mod deflate;
#[path = "protocol/oracle.rs"]
mod oracle;
#[path = "../../../fuzz/src/proxy.rs"]
pub mod proxy;
#[path = "protocol/support.rs"]
#[expect(dead_code, reason = "the tests of the codec use more of it")]
mod support;
#[path = "../../../fuzz/src/upgrade.rs"]
pub mod upgrade;

fn replay(target: &str, run: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut count = 0;
    for entry in std::fs::read_dir(corpus).expect("the corpus is part of the repository") {
        run(&std::fs::read(entry.expect("an entry").path()).expect("a file"));
        count += 1;
    }
    assert!(count > 0, "the corpus of {target} is empty");
}

#[test]
fn corpus_of_decoder() {
    replay("decoder", decoder::run);
}

#[test]
fn corpus_of_deflate() {
    replay("deflate", deflate::run);
}

#[test]
fn corpus_of_proxy() {
    replay("proxy", proxy::run);
}

#[test]
fn corpus_of_upgrade() {
    replay("upgrade", upgrade::run);
}
