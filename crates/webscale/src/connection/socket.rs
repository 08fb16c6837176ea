//! The socket below a connection.

use std::io;
use std::net::{IpAddr, SocketAddr};

use webscale_sys::{TcpOptions, TcpSocket};

/// What a connection needs of its socket: the real one, or a test's.
pub(crate) trait Socket: Sized {
    /// Begins to connect.
    fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<Self>;
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize>;
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize>;
    fn shutdown_write(&mut self) -> io::Result<()>;
    fn take_error(&mut self) -> io::Result<Option<io::Error>>;
    fn set_options(&mut self, options: TcpOptions) -> io::Result<()>;
    /// What is not sent when it is closed is dropped, and the peer sees a reset.
    fn reset_when_closed(&mut self);
}

impl Socket for TcpSocket {
    fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<Self> {
        Self::connect(address, source)
    }

    #[inline]
    fn recv(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Self::recv(self, buffer)
    }

    #[inline]
    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::send(self, bytes)
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        Self::shutdown_write(self)
    }

    fn take_error(&mut self) -> io::Result<Option<io::Error>> {
        Self::take_error(self)
    }

    fn set_options(&mut self, options: TcpOptions) -> io::Result<()> {
        Self::set_options(self, options)
    }

    fn reset_when_closed(&mut self) {
        Self::reset_when_closed(self);
    }
}
