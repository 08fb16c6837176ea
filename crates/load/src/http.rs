//! One request of HTTP/1.1 (RFC 9112) over a connection of its own: enough to ask a server what it counted.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 8 << 20;

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
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let (head, body) = end.map_or((&answer[..], &[][..]), |end| (&answer[..end], &answer[end + 4..]));
    let head = String::from_utf8_lossy(head);
    let body = if is_chunked(&head) { dechunked(body) } else { body.to_vec() };
    let status_line = head.lines().next().unwrap_or_default().to_owned();
    Ok(Answer { status_line, body: String::from_utf8_lossy(&body).into_owned() })
}

fn is_chunked(head: &str) -> bool {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut codings = fields.filter(|(name, _)| name.trim().eq_ignore_ascii_case("transfer-encoding"));
    codings.any(|(_, coding)| coding.trim().eq_ignore_ascii_case("chunked"))
}

/// What the chunks hold (RFC 9112 §7.1), as far as they are whole.
fn dechunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let Some(line_end) = rest.windows(2).position(|bytes| bytes == b"\r\n") else { return body };
        let line = String::from_utf8_lossy(&rest[..line_end]);
        let digits = line.split(';').next().unwrap_or_default().trim();
        let length = usize::from_str_radix(digits, 16).unwrap_or(0);
        let Some(chunk) = rest[line_end + 2..].get(..length).filter(|chunk| !chunk.is_empty()) else {
            return body;
        };
        body.extend_from_slice(chunk);
        rest = rest[line_end + 2 + length..].strip_prefix(b"\r\n").unwrap_or_default();
    }
}

impl Answer {
    /// # Errors
    /// [`ErrorKind::InvalidData`], if it is no HTTP.
    pub(crate) fn status(&self) -> io::Result<u16> {
        let rest =
            ["HTTP/1.1 ", "HTTP/1.0 "].iter().find_map(|version| self.status_line.strip_prefix(version));
        let status = rest.and_then(|rest| rest.get(..3)?.parse().ok());
        status.ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "no answer in HTTP/1"))
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
    fn chunks_are_put_together_as_far_as_they_go() {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n";
        let body = |chunks: &str| answer_of(&format!("{head}{chunks}")).body;
        assert_eq!(body("5\r\na\r\n b\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n"), "a\r\n b0123456789");
        assert_eq!(body("2\r\nab\r\n5\r\ncut"), "ab");
        assert_eq!((body(""), body("zz\r\n"), body("ffffffffffffffff\r\nx")), Default::default());
        assert_eq!(answer_of("HTTP/1.0 200 OK\r\n\r\nold").status().unwrap(), 200);
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
