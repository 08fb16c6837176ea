//! The life of a process that is part of a load: its loops do as the leading process says.

use std::io::{self, BufRead, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use super::loops::Loops;
use super::order::{self, Answer, Assignment, Request};
use crate::bench::BenchError;
use crate::bench::endpoint::Endpoint;
use crate::bench::plan::Prepared;
use crate::bench::tally::Tally;

/// How often it looks for connections that are due.
const CONNECT_TICK: Duration = Duration::from_millis(1);
/// The same while lost connections are to be opened again.
const RECONNECT_TICK: Duration = Duration::from_millis(20);
/// What it says, with a tally that it keeps.
type Said<'a> = Answer<&'a Tally>;

/// How long it sleeps at a time when none is.
const REST: Duration = Duration::from_secs(60);

/// Makes the part of a load that `input` assigns, and ends with it: the counterpart of
/// [`Plan::program`](crate::bench::Plan::program).
///
/// # Errors
/// When the part could not be made, which `output` was told too, or when the leading process is gone.
pub fn run_part(mut input: impl BufRead + Send + 'static, mut output: impl Write) -> Result<(), BenchError> {
    let lost =
        |error: io::Error| BenchError::Part { name: "the leading process".into(), why: error.to_string() };
    let served = match order::read::<Assignment>(&mut input).map_err(lost)? {
        None => return Err(lost(io::ErrorKind::UnexpectedEof.into())),
        Some(assignment) => begin(assignment),
    };
    let served = served.and_then(|loops| {
        order::write(&mut output, &Said::Ready).map_err(lost)?;
        serve(loops, &read_requests(input), &mut output, lost)
    });
    if let Err(error) = &served {
        // Who leads may be gone, too.
        let _ = order::write(&mut output, &Said::Failed(error.to_string()));
    }
    served
}

fn begin(Assignment { plan, share, sources }: Assignment) -> Result<Loops, BenchError> {
    webscale_sys::limits::raise_descriptors().map_err(BenchError::Raise)?;
    let prepared = Prepared { endpoint: Endpoint::new(&plan)?, sources, parts: None };
    Loops::new(&plan, &prepared, share)
}

fn serve(
    mut loops: Loops,
    requests: &Receiver<io::Result<Request>>,
    output: &mut impl Write,
    lost: impl Fn(io::Error) -> BenchError,
) -> Result<(), BenchError> {
    let mut tally = Tally::default();
    loop {
        loops.tend()?;
        let rest = if loops.is_connecting() {
            CONNECT_TICK
        } else if loops.is_reconnecting() {
            RECONNECT_TICK
        } else {
            REST
        };
        let request = match requests.recv_timeout(rest) {
            Ok(request) => request.map_err(&lost)?,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return Err(lost(io::ErrorKind::UnexpectedEof.into())),
        };
        let answer = match request {
            Request::Order(order) => {
                loops.obey(order);
                continue;
            }
            Request::Census => Said::Census(loops.census()),
            Request::Tally => {
                tally.reset();
                loops.collect(&mut tally);
                Said::Tally(&tally)
            }
            Request::Close => {
                tally.reset();
                loops.close(&mut tally)?;
                return order::write(output, &Said::Tally(&tally)).map_err(lost);
            }
        };
        order::write(output, &answer).map_err(&lost)?;
    }
}

fn read_requests(mut input: impl BufRead + Send + 'static) -> Receiver<io::Result<Request>> {
    let (sender, requests) = sync_channel(16);
    thread::spawn(move || {
        while let Some(request) = order::read(&mut input).transpose() {
            if sender.send(request).is_err() {
                return;
            }
        }
    });
    requests
}
