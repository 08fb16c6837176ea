//! A process that is part of a load, as the process that leads the load sees it.

use std::io::{self, BufReader};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use webscale_sys::process;

use super::order::{self, Answer, Assignment, Request};
use super::{Census, Share};
use crate::bench::BenchError;
use crate::bench::plan::Program;
use crate::bench::tally::Tally;

/// How long an answer may take: much longer than a busy machine needs, and not for ever.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// One process of a load. Dropped, it is killed.
pub(super) struct Part {
    name: String,
    child: Child,
    orders: ChildStdin,
    answers: Receiver<io::Result<Answer>>,
}

impl Part {
    /// Starts a process and gives it its share of the load. [`Part::ready`] waits for it.
    pub(super) fn start(program: &Program, assignment: &Assignment) -> Result<Part, BenchError> {
        let Share { first, of } = assignment.share;
        let name = format!("process {} of {of}", first + 1);
        let failed = |error: io::Error| BenchError::Part { name: name.clone(), why: error.to_string() };
        let mut command = Command::new(&program.path);
        command.args(&program.arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        // A process group of its own: Ctrl-C reaches it through us, in order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = process::spawn_bound(&mut command, &[]).map_err(failed)?;
        let missing = || failed(io::ErrorKind::BrokenPipe.into());
        let orders = child.stdin.take().ok_or_else(missing)?;
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let mut part = Part { answers: read_answers(stdout), name, child, orders };
        part.write(assignment)?;
        Ok(part)
    }

    /// Waits until its event loops run.
    pub(super) fn ready(&mut self) -> Result<(), BenchError> {
        match self.answer()? {
            Answer::Ready => Ok(()),
            other => Err(self.confused(&other)),
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn send(&mut self, request: Request) -> Result<(), BenchError> {
        self.write(&request)
    }

    /// The answer to [`Request::Census`].
    pub(super) fn census(&mut self) -> Result<Census, BenchError> {
        match self.answer()? {
            Answer::Census(census) => Ok(census),
            other => Err(self.confused(&other)),
        }
    }

    /// The answer to [`Request::Tally`] or [`Request::Close`].
    pub(super) fn tally(&mut self) -> Result<Tally, BenchError> {
        match self.answer()? {
            Answer::Tally(tally) => Ok(*tally),
            other => Err(self.confused(&other)),
        }
    }

    fn write(&mut self, message: &impl serde::Serialize) -> Result<(), BenchError> {
        match order::write(&mut self.orders, message) {
            Ok(()) => Ok(()),
            // It has ended, and may have said why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(self.ended()),
            Err(error) => Err(self.failed(error.to_string())),
        }
    }

    fn answer(&mut self) -> Result<Answer, BenchError> {
        match self.answers.recv_timeout(ANSWER_MAX) {
            Ok(Ok(Answer::Failed(why))) => Err(self.failed(why)),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.failed(error.to_string())),
            Err(RecvTimeoutError::Timeout) => {
                Err(self.failed(format!("no answer for {} s", ANSWER_MAX.as_secs())))
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.ended()),
        }
    }

    /// How it ended, in its own words if it left some.
    fn ended(&mut self) -> BenchError {
        let last = self.answers.iter().find_map(|answer| match answer {
            Ok(Answer::Failed(why)) => Some(why),
            _ => None,
        });
        let status = self.child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        self.failed(last.unwrap_or_else(|| format!("it ended with {status}")))
    }

    fn failed(&self, why: String) -> BenchError {
        BenchError::Part { name: format!("{} (pid {})", self.name, self.child.id()), why }
    }

    fn confused(&self, answer: &Answer) -> BenchError {
        self.failed(format!("an answer to another question: {answer:?}"))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // After a close it has ended, or will at the end of its input; else nobody needs its clients any more.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The answers, read as they come; the channel's end is the end of the process's output.
fn read_answers(stdout: ChildStdout) -> Receiver<io::Result<Answer>> {
    // Every question is asked after the answer to the one before: two never wait.
    let (sender, answers) = sync_channel(2);
    thread::spawn(move || {
        let mut input = BufReader::new(stdout);
        while let Some(answer) = order::read(&mut input).transpose() {
            let broken = answer.is_err();
            if sender.send(answer).is_err() || broken {
                return;
            }
        }
    });
    answers
}
