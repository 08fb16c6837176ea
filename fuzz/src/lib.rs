//! What the fuzz targets do with their bytes. The targets on the codec stand here, and
//! `crates/proto/tests/corpus.rs` runs the same functions over the corpus; the one on connections is the library's
//! own (`webscale/src/connection/tests/play.rs`), as it needs its inside.

pub mod decoder;
pub mod deflate;
pub mod proxy;
pub mod upgrade;

#[path = "../../crates/proto/tests/protocol/oracle.rs"]
mod oracle;
#[path = "../../crates/proto/tests/protocol/support.rs"]
#[expect(dead_code, reason = "the tests of the codec use more of it")]
mod support;
