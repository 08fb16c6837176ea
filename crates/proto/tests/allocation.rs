//! The hot path allocates nothing. A binary of its own, because the allocator counts for the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use webscale_proto::handshake::{HeadLimits, accept, parse_request};
use webscale_proto::{
    CloseCode, Data, Decoder, DecoderConfig, Deflater, Inflater, Message, Role, Step, encoder,
};

thread_local! {
    // Each thread counts its own: the test harness has threads that allocate.
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(bytes: usize) {
    BYTES.with(|all| all.set(all.get() + bytes));
    ALLOCATIONS.with(|allocations| allocations.set(allocations.get() + 1));
}

#[expect(unsafe_code, reason = "an allocator is an unsafe trait; this one only counts")]
// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: `at` came from `alloc` above, which is the system's.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.saturating_sub(layout.size()));
        // SAFETY: `at` came from `alloc` above, which is the system's.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// Allocations of this thread during `work`.
fn allocations_in(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

const KEY: Option<[u8; 4]> = Some([0x37, 0xfa, 0x21, 0x3d]);

/// Decodes everything in `input`; gives the number of steps.
fn drain(decoder: &mut Decoder, config: &DecoderConfig, mut input: &[u8], scratch: &mut Vec<u8>) -> usize {
    let mut steps = 0;
    loop {
        match decoder.decode(config, input, scratch) {
            Ok((_, Step::NeedMore)) => return steps,
            Ok((used, _)) => input = &input[used..],
            Err(error) => panic!("{error}"),
        }
        steps += 1;
    }
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations_in(|| drop(std::hint::black_box(vec![1u8]))), 1);
}

#[test]
fn whole_messages_allocate_nothing_once_scratch_has_grown() {
    let config = DecoderConfig::new(Role::Server);
    let text = "{\"temperature\":21.5}".repeat(512);
    let mut input = Vec::new();
    encoder::message(&mut input, Message::Text(&text), KEY);
    encoder::message(&mut input, Message::Binary(text.as_bytes()), KEY);
    encoder::ping(&mut input, &[7; 125], KEY).unwrap();
    encoder::pong(&mut input, b"", KEY).unwrap();

    let (mut decoder, mut scratch) = (Decoder::new(), Vec::new());
    assert_eq!(drain(&mut decoder, &config, &input, &mut scratch), 4);
    let allocated = allocations_in(|| {
        for _ in 0..100 {
            assert_eq!(drain(&mut decoder, &config, &input, &mut scratch), 4);
        }
    });
    assert_eq!(allocated, 0);
    // A second connection shares the thread's scratch.
    let mut other = Decoder::new();
    assert_eq!(allocations_in(|| assert_eq!(drain(&mut other, &config, &input, &mut scratch), 4)), 0);
}

#[test]
fn a_header_in_pieces_allocates_nothing() {
    let config = DecoderConfig::new(Role::Server);
    let mut input = Vec::new();
    encoder::message(&mut input, Message::Binary(&[1; 200]), KEY);
    let (mut decoder, mut scratch) = (Decoder::new(), Vec::with_capacity(200));
    let allocated = allocations_in(|| {
        for byte in &input[..7] {
            assert_eq!(drain(&mut decoder, &config, &[*byte], &mut scratch), 0);
        }
        assert_eq!(drain(&mut decoder, &config, &input[7..], &mut scratch), 1);
    });
    assert_eq!(allocated, 0);
}

#[test]
fn encoding_into_a_grown_buffer_allocates_nothing() {
    let payload = [7; 4096];
    let mut out = Vec::with_capacity(64 * 1024);
    let allocated = allocations_in(|| {
        encoder::message(&mut out, Message::Binary(&payload), KEY);
        encoder::message(&mut out, Message::Text("hello"), None);
        encoder::fragment(&mut out, Data::Text, false, &payload, None);
        encoder::ping(&mut out, b"ping", KEY).unwrap();
        encoder::close(&mut out, Some(CloseCode::NORMAL), "done", None);
    });
    assert_eq!(allocated, 0);
}

#[test]
fn encoding_into_an_empty_buffer_allocates_once() {
    for mask in [None, KEY] {
        let mut out = Vec::new();
        assert_eq!(allocations_in(|| encoder::message(&mut out, Message::Binary(&[7; 4096]), mask)), 1);
    }
}

#[test]
fn the_upgrade_allocates_nothing_but_the_answer() {
    let head = b"GET /chat HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let mut out = Vec::with_capacity(512);
    let allocated = allocations_in(|| {
        let request = parse_request(head, &HeadLimits::default()).unwrap();
        accept(&mut out, &request, None, None, &[]).unwrap();
    });
    assert_eq!(allocated, 0);
    assert!(out.ends_with(b"\r\n\r\n"));
}

/// Bytes of this thread allocated during `work`.
fn bytes_in<T>(work: impl FnOnce() -> T) -> usize {
    let before = BYTES.with(Cell::get);
    let made = work();
    let bytes = BYTES.with(Cell::get) - before;
    drop(made);
    bytes
}

#[test]
fn compressors_cost_what_their_documentation_says() {
    let deflater = |bits| bytes_in(|| Deflater::new(1, bits, true));
    let inflater = |bits| bytes_in(|| Inflater::new(bits, true));
    // 380, 250 and 50 kB.
    assert!((360_000..400_000).contains(&deflater(15)), "{}", deflater(15));
    assert!((230_000..270_000).contains(&deflater(9)), "{}", deflater(9));
    assert!((40_000..55_000).contains(&inflater(15)), "{}", inflater(15));
}

#[test]
fn compressing_and_inflating_allocate_nothing_once_the_buffers_have_grown() {
    let text = "{\"temperature\":21.5}".repeat(512);
    for takeover in [false, true] {
        let (mut deflater, mut inflater) = (Deflater::new(1, 15, takeover), Inflater::new(15, takeover));
        let (mut compressed, mut inflated) = (Vec::new(), Vec::new());
        let mut there_and_back = || {
            let payload = deflater.message(text.as_bytes(), &mut compressed).unwrap();
            let message = inflater.message(payload, true, 1 << 20, &mut inflated);
            assert_eq!(message, Ok(Message::Text(&text)));
        };
        there_and_back();
        assert_eq!(allocations_in(|| (0..100).for_each(|_| there_and_back())), 0);
    }
}
