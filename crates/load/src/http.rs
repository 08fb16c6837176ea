//! One request of HTTP/1.1 (RFC 9112) over a connection of its own: enough to ask a server what it counted.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The first line, or what stands in its place.
    pub(crate) status_line: String,
    pub(crate) body: String,
}

/// A connection on which neither reading nor writing takes longer than `patience`.
pub(crate) fn connect(address: SocketAddr, patience: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    Ok(stream)
}

/// GET of a path, over a connection to `host` that is used for nothing else.
pub(crate) fn get(mut stream: impl Read + Write, host: &str, path: &str) -> io::Result<Answer> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status_line = head.lines().next().unwrap_or_default().to_owned();
    Ok(Answer { status_line, body: body.to_owned() })
}

impl Answer {
    /// # Errors
    /// [`ErrorKind::InvalidData`], if it is no HTTP.
    pub(crate) fn status(&self) -> io::Result<u16> {
        let status = self.status_line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        status.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "no answer in HTTP/1.1"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers so, whatever it is asked.
    struct Peer<'a> {
        asked: Vec<u8>,
        answer: &'a [u8],
    }

    impl Read for Peer<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.answer.read(buffer)
        }
    }

    impl Write for Peer<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.asked.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn answer_of(answer: &str) -> Answer {
        let mut peer = Peer { asked: Vec::new(), answer: answer.as_bytes() };
        let answer = get(&mut peer, "h:1", "/metrics").unwrap();
        assert_eq!(peer.asked, b"GET /metrics HTTP/1.1\r\nHost: h:1\r\nConnection: close\r\n\r\n");
        answer
    }

    #[test]
    fn status_and_body_are_told_apart() {
        let answer = answer_of("HTTP/1.1 503 Service Unavailable\r\nA: b\r\n\r\nstuck\r\n\r\nfor long");
        assert_eq!((answer.status().unwrap(), answer.body.as_str()), (503, "stuck\r\n\r\nfor long"));
        assert_eq!(answer.status_line, "HTTP/1.1 503 Service Unavailable");
    }

    #[test]
    fn what_is_no_http_has_no_status() {
        for text in ["", "220 mail.example ESMTP\r\n", "HTTP/1.1 20"] {
            let answer = answer_of(text);
            assert_eq!(answer.status().unwrap_err().kind(), ErrorKind::InvalidData, "{text}");
            assert_eq!(answer.status_line, text.trim_end());
        }
    }
}
