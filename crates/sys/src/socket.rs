//! Non-blocking TCP sockets: socket(7), tcp(7).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZero;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::net::{
    self, AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrAny, SocketFlags, SocketType, ipproto,
    sockopt,
};

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

fn tcp_socket(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    Ok(net::socket_with(family, SocketType::STREAM, FLAGS, Some(ipproto::TCP))?)
}

/// What the kernel is told of a TCP socket beyond its defaults: tcp(7).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TcpOptions {
    /// TCP_NOTSENT_LOWAT, in bytes: while more wait in the kernel that it has not sent, it takes no further ones. `None`: up to
    /// its send buffer (`net.ipv4.tcp_wmem`, megabytes as a rule).
    pub notsent_lowat: Option<u32>,
    /// TCP_USER_TIMEOUT (RFC 5482): how long what was sent may stay unacknowledged, or unsent as the peer takes nothing; then
    /// the connection fails with ETIMEDOUT. In milliseconds. `None`: until the retransmissions are used up
    /// (`net.ipv4.tcp_retries2`, some 15 minutes).
    pub user_timeout: Option<NonZero<u32>>,
}

impl TcpOptions {
    fn set(self, fd: &OwnedFd) -> io::Result<()> {
        if let Some(bytes) = self.notsent_lowat {
            set_option(fd, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, bytes)?;
        }
        if let Some(millis) = self.user_timeout {
            sockopt::set_tcp_user_timeout(fd, millis.get())?;
        }
        Ok(())
    }
}

/// A listening socket. Several may listen on one address (SO_REUSEPORT), so that each event loop has its own.
pub struct Listener {
    fd: OwnedFd,
}

impl Listener {
    /// Binds and listens. `shared` sets SO_REUSEPORT: the kernel then spreads connections over all listeners of
    /// this address that set it and belong to the same user. Accepted sockets inherit TCP_NODELAY.
    ///
    /// # Errors
    /// EADDRINUSE when another socket has the address, EACCES for a port below 1024, EADDRNOTAVAIL when no
    /// interface has it.
    pub fn bind(address: SocketAddr, backlog: u16, shared: bool) -> io::Result<Self> {
        let fd = tcp_socket(address)?;
        sockopt::set_socket_reuseaddr(&fd, true)?;
        if shared {
            sockopt::set_socket_reuseport(&fd, true)?;
        }
        sockopt::set_tcp_nodelay(&fd, true)?;
        net::bind(&fd, &address)?;
        net::listen(&fd, backlog.into())?;
        Ok(Self { fd })
    }

    /// Sets options that accepted sockets inherit, so that they cost no system call for each of them.
    ///
    /// # Errors
    /// EINVAL for a value that the kernel does not take.
    pub fn set_options(&self, options: TcpOptions) -> io::Result<()> {
        options.set(&self.fd)
    }

    /// Lets others listen on this address too, from now on: as [`Listener::bind`] with `shared`, but by then nobody else
    /// has it. The kernel spreads connections over this one and those that follow.
    ///
    /// # Errors
    /// None that a listening socket can bring about.
    pub fn share(&self) -> io::Result<()> {
        Ok(sockopt::set_socket_reuseport(&self.fd, true)?)
    }

    /// The address in force; its port is the kernel's choice where 0 was asked for.
    ///
    /// # Errors
    /// None that a listening socket can bring about.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        address_of(net::getsockname(&self.fd)?)
    }

    /// Takes one connection from the backlog.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when there is none; EMFILE or ENFILE when there is no descriptor for it;
    /// errors of the connection itself, such as ECONNABORTED (accept(2)).
    pub fn accept(&self) -> io::Result<(TcpSocket, SocketAddr)> {
        let (fd, address) = net::acceptfrom_with(&self.fd, FLAGS)?;
        let address = address.ok_or(io::ErrorKind::ConnectionAborted)?;
        Ok((TcpSocket { fd }, address_of(address)?))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn address_of(address: SocketAddrAny) -> io::Result<SocketAddr> {
    Ok(SocketAddr::try_from(address)?)
}

/// A connected or connecting socket that never blocks.
pub struct TcpSocket {
    fd: OwnedFd,
}

impl TcpSocket {
    /// Starts to connect to `address`, from `source` where one is given; the port is chosen at connect time
    /// (IP_BIND_ADDRESS_NO_PORT), so that each pair of addresses has the whole port range. When the socket becomes
    /// writable, [`TcpSocket::take_error`] tells how it went.
    ///
    /// # Errors
    /// EADDRNOTAVAIL when the ports are used up or `source` is not an address of this machine; EMFILE; ENETUNREACH;
    /// ECONNREFUSED where the kernel knows at once.
    pub fn connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<Self> {
        let fd = tcp_socket(address)?;
        sockopt::set_tcp_nodelay(&fd, true)?;
        if let Some(source) = source {
            bind_address_no_port(&fd)?;
            net::bind(&fd, &SocketAddr::new(source, 0))?;
        }
        match net::connect(&fd, &address) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(Self { fd }),
            Err(error) => Err(error.into()),
        }
    }

    /// Sets options.
    ///
    /// # Errors
    /// EINVAL for a value that the kernel does not take.
    pub fn set_options(&self, options: TcpOptions) -> io::Result<()> {
        options.set(&self.fd)
    }

    /// The error that a connect or an asynchronous event left on the socket (SO_ERROR), once.
    ///
    /// # Errors
    /// None that a live socket can bring about.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(sockopt::socket_error(&self.fd)?.err().map(Into::into))
    }

    /// Reads what has arrived into `buffer`; 0 is the end of the stream.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when nothing has, ECONNRESET and the like when the connection is gone.
    #[inline]
    pub fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let (_, received) = net::recv(&self.fd, buffer, RecvFlags::empty())?;
        Ok(received)
    }

    /// Writes as much of `bytes` as the socket takes.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] when it takes nothing; EPIPE (no signal), ECONNRESET and the like when the
    /// connection is gone.
    #[inline]
    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(net::send(&self.fd, bytes, SendFlags::NOSIGNAL)?)
    }

    /// Ends our direction: the peer reads end of stream behind what was sent.
    ///
    /// # Errors
    /// ENOTCONN when the connection is gone already.
    pub fn shutdown_write(&self) -> io::Result<()> {
        Ok(net::shutdown(&self.fd, Shutdown::Write)?)
    }

    /// Ends the connection with a reset, now.
    pub fn reset(self) {
        self.reset_when_closed();
    }

    /// When the socket is closed, the connection ends with a reset: what is unsent is dropped, and no TIME_WAIT keeps the
    /// port (SO_LINGER of zero).
    pub fn reset_when_closed(&self) {
        // Fails for no socket; it is closed in any case.
        let _ = sockopt::set_socket_linger(&self.fd, Some(std::time::Duration::ZERO));
    }

    /// The peer's address.
    ///
    /// # Errors
    /// ENOTCONN when the connection is gone already.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        address_of(net::getpeername(&self.fd)?.ok_or(io::ErrorKind::NotConnected)?)
    }

    /// Our own address.
    ///
    /// # Errors
    /// None that a connected socket can bring about.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        address_of(net::getsockname(&self.fd)?)
    }
}

impl AsFd for TcpSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// ip(7): without it, bind(2) to port 0 takes a port for good, whatever the destination.
fn bind_address_no_port(fd: &OwnedFd) -> io::Result<()> {
    set_option(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
}

/// setsockopt(2) of an option that is an int, for those that rustix does not have.
fn set_option(fd: &OwnedFd, level: libc::c_int, name: libc::c_int, value: u32) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of_val(&value)).expect("an int's size fits");
    // SAFETY: `value` outlives the call, and `size` is its size; the kernel reads it and keeps nothing.
    let result = unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), size) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Events, Interest, Poller};
    use std::io::ErrorKind;

    fn wait_for(socket: &impl AsFd, interest: Interest) {
        let poller = Poller::new().unwrap();
        poller.add(socket, 0, interest).unwrap();
        poller.wait(&mut Events::with_capacity(1), None).unwrap();
    }

    fn pair(source: Option<IpAddr>) -> (TcpSocket, TcpSocket, SocketAddr) {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), 16, false).unwrap();
        let client = TcpSocket::connect(listener.local_addr().unwrap(), source).unwrap();
        wait_for(&listener, Interest::READ);
        let (server, from) = listener.accept().unwrap();
        wait_for(&client, Interest::WRITE);
        assert!(client.take_error().unwrap().is_none());
        (server, client, from)
    }

    #[test]
    fn bytes_pass_both_ways_and_the_end_is_seen() {
        let (server, client, from) = pair(None);
        assert_eq!(from, client.local_addr().unwrap());
        assert_eq!(server.peer_addr().unwrap(), from);
        let mut buffer = [0; 16];
        assert_eq!(server.recv(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(client.send(b"ping").unwrap(), 4);
        wait_for(&server, Interest::READ);
        assert_eq!(server.recv(&mut buffer).unwrap(), 4);
        server.shutdown_write().unwrap();
        wait_for(&client, Interest::READ);
        assert_eq!(client.recv(&mut buffer).unwrap(), 0);
    }

    #[test]
    fn a_reset_is_no_end_of_stream() {
        let (server, client, _) = pair(None);
        client.reset();
        wait_for(&server, Interest::READ);
        assert_eq!(server.recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }

    #[test]
    fn accepted_sockets_inherit_nodelay() {
        let (server, client, _) = pair(None);
        assert!(sockopt::tcp_nodelay(&server.fd).unwrap());
        assert!(sockopt::tcp_nodelay(&client.fd).unwrap());
    }

    /// getsockopt(2) of an option that is an int.
    fn option(fd: &OwnedFd, name: libc::c_int) -> u32 {
        let (mut value, mut size) = (0_u32, 4);
        // SAFETY: `value` has room for the `size` bytes that the kernel writes at most.
        let result = unsafe {
            libc::getsockopt(fd.as_raw_fd(), libc::IPPROTO_TCP, name, (&raw mut value).cast(), &raw mut size)
        };
        assert_eq!((result, size), (0, 4));
        value
    }

    #[test]
    fn accepted_sockets_inherit_what_their_listener_was_told() {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), 16, false).unwrap();
        let options = TcpOptions { notsent_lowat: Some(54_321), user_timeout: NonZero::new(12_345) };
        listener.set_options(options).unwrap();
        let client = TcpSocket::connect(listener.local_addr().unwrap(), None).unwrap();
        wait_for(&listener, Interest::READ);
        let (server, _) = listener.accept().unwrap();
        assert_eq!(option(&server.fd, libc::TCP_NOTSENT_LOWAT), 54_321);
        assert_eq!(option(&server.fd, libc::TCP_USER_TIMEOUT), 12_345);
        assert_eq!(option(&client.fd, libc::TCP_USER_TIMEOUT), 0);
        client.set_options(options).unwrap();
        assert_eq!(option(&client.fd, libc::TCP_USER_TIMEOUT), 12_345);
        assert_eq!(option(&client.fd, libc::TCP_NOTSENT_LOWAT), 54_321);
    }

    /// What the kernel takes of an endless stream to a peer that reads nothing, in bytes.
    fn taken(options: TcpOptions) -> usize {
        let (server, _client, _) = pair(None);
        server.set_options(options).unwrap();
        let (bytes, mut taken) = (vec![7; 64 * 1024], 0);
        while let Ok(count) = server.send(&bytes) {
            taken += count;
        }
        taken
    }

    #[test]
    fn the_kernel_holds_less_for_a_peer_that_does_not_read() {
        let low = taken(TcpOptions { notsent_lowat: Some(16 * 1024), ..TcpOptions::default() });
        let usual = taken(TcpOptions::default());
        assert!(2 * low < usual, "{low} and {usual} bytes");
    }

    #[test]
    fn a_source_address_is_used() {
        let (_server, _client, from) = pair(Some("127.9.8.7".parse().unwrap()));
        assert_eq!(from.ip(), "127.9.8.7".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn a_refused_connect_is_told() {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), 1, false).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = match TcpSocket::connect(address, None) {
            Err(error) => error,
            Ok(socket) => {
                wait_for(&socket, Interest::WRITE);
                socket.take_error().unwrap().unwrap()
            }
        };
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_listener_that_is_shared_later_has_its_part_of_the_connections() {
        let first = Listener::bind("127.0.0.1:0".parse().unwrap(), 128, false).unwrap();
        let address = first.local_addr().unwrap();
        assert!(Listener::bind(address, 128, true).is_err(), "not shared yet");
        first.share().unwrap();
        let second = Listener::bind(address, 128, true).unwrap();
        assert!(Listener::bind(address, 128, false).is_err(), "who does not share gets no part");
        let clients: Vec<_> = (0..64).map(|_| TcpSocket::connect(address, None).unwrap()).collect();
        clients.iter().for_each(|client| wait_for(client, Interest::WRITE));
        let (mut at_first, mut at_second) = (0, 0);
        while at_first + at_second < clients.len() {
            at_first += usize::from(first.accept().is_ok());
            at_second += usize::from(second.accept().is_ok());
        }
        assert!(at_first > 0 && at_second > 0, "{at_first} {at_second}");
    }

    #[test]
    fn only_shared_listeners_share() {
        let first = Listener::bind("127.0.0.1:0".parse().unwrap(), 16, true).unwrap();
        let address = first.local_addr().unwrap();
        Listener::bind(address, 16, true).unwrap();
        let error = Listener::bind(address, 16, false).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    }
}
