//! A socket that does as it is told.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use webscale_sys::TcpOptions;

use crate::connection::{Ready, Socket};

/// How the peer's direction ends, behind what arrived before.
#[derive(Clone, Copy, PartialEq, Eq, Debug, arbitrary::Arbitrary)]
pub(super) enum End {
    Eof,
    Reset,
}

/// What lies on the wire, and what the socket will do next.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) arriving: VecDeque<u8>,
    /// Bytes that one recv gives at most.
    pub(super) recv_max: usize,
    pub(super) end: Option<End>,
    pub(super) sent: Vec<u8>,
    /// Bytes that the socket still takes; then a send would block.
    pub(super) room: usize,
    /// Bytes that one send takes at most.
    pub(super) send_max: usize,
    pub(super) sends: usize,
    /// Our direction was ended.
    pub(super) shut: bool,
    /// SO_ERROR.
    pub(super) error: Option<ErrorKind>,
    pub(super) options: TcpOptions,
    /// It will be reset when it is closed.
    pub(super) resets: bool,
}

impl Line {
    fn new() -> Self {
        Self {
            arriving: VecDeque::new(),
            recv_max: usize::MAX,
            end: None,
            sent: Vec::new(),
            room: usize::MAX,
            send_max: usize::MAX,
            sends: 0,
            shut: false,
            error: None,
            options: TcpOptions::default(),
            resets: false,
        }
    }

    /// What epoll would report.
    pub(super) fn ready(&self) -> Ready {
        let reset = self.end == Some(End::Reset);
        Ready {
            readable: !self.arriving.is_empty() || self.end.is_some(),
            writable: self.room > 0 || reset || self.error.is_some(),
            hung_up: reset || (self.end.is_some() && self.shut) || self.error.is_some(),
        }
    }
}

#[derive(Clone)]
pub(super) struct FakeSocket(pub(super) Rc<RefCell<Line>>);

impl FakeSocket {
    pub(super) fn new() -> Self {
        Self(Rc::new(RefCell::new(Line::new())))
    }
}

impl Socket for FakeSocket {
    fn connect(_: SocketAddr, _: Option<IpAddr>) -> io::Result<Self> {
        Ok(Self::new())
    }

    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut line = self.0.borrow_mut();
        if line.arriving.is_empty() {
            if let Some(error) = line.error.take() {
                return Err(error.into());
            }
            return match line.end {
                None => Err(ErrorKind::WouldBlock.into()),
                Some(End::Eof) => Ok(0),
                Some(End::Reset) => Err(ErrorKind::ConnectionReset.into()),
            };
        }
        assert!(!buffer.is_empty(), "a recv into no room looks like the end of the stream");
        let count = buffer.len().min(line.recv_max).min(line.arriving.len());
        for (to, from) in buffer.iter_mut().zip(line.arriving.drain(..count)) {
            *to = from;
        }
        Ok(count)
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut line = self.0.borrow_mut();
        assert!(!line.shut, "nothing is sent behind a FIN");
        assert!(!bytes.is_empty(), "a send of nothing is a system call for nothing");
        line.sends += 1;
        if line.end == Some(End::Reset) {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let count = bytes.len().min(line.send_max).min(line.room);
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        line.sent.extend_from_slice(&bytes[..count]);
        line.room -= if line.room == usize::MAX { 0 } else { count };
        Ok(count)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut line = self.0.borrow_mut();
        if line.end == Some(End::Reset) {
            return Err(ErrorKind::NotConnected.into());
        }
        line.shut = true;
        Ok(())
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        let mut line = self.0.borrow_mut();
        let reset = (line.end == Some(End::Reset)).then_some(ErrorKind::ConnectionReset);
        Ok(line.error.take().or(reset).map(Into::into))
    }

    fn set_options(&mut self, options: TcpOptions) -> io::Result<()> {
        self.0.borrow_mut().options = options;
        Ok(())
    }

    fn reset_when_closed(&mut self) {
        self.0.borrow_mut().resets = true;
    }
}
