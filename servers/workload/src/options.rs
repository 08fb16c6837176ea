//! The command line that the servers share, and how they end.

use std::{
    ffi::OsString,
    fmt,
    io::{self, Write},
    net::{SocketAddr, ToSocketAddrs},
    num::NonZero,
    path::PathBuf,
    process::ExitCode,
    thread,
};

use lexopt::{Arg, Parser, ValueExt};

const USAGE: &str = "  --listen ADDR       address and port to listen on; port 0 lets the kernel choose
  --mode ingest|echo  ingest: deserialise each message and count it; echo: send it back
  --cert FILE         the certificate chain, PEM
  --key FILE          its private key, PEM
  --plain             ws:// without TLS, in place of --cert and --key
  --help              print this text
  --threads N         threads that serve, by default";

/// What a server does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Deserialise it and count it.
    Ingest,
    /// Send it back.
    Echo,
}

impl Mode {
    /// The longest message that a client may send, in bytes: 1 MiB, and 16 MiB where it is only sent back.
    #[must_use]
    pub const fn message_bytes_max(self) -> usize {
        match self {
            Self::Ingest => 1 << 20,
            Self::Echo => 16 << 20,
        }
    }

    /// What was done with a message, as the report says it.
    #[must_use]
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Ingest => "parsed",
            Self::Echo => "echoed",
        }
    }

    fn from_name(name: &str) -> Result<Self, String> {
        match name {
            "ingest" => Ok(Self::Ingest),
            "echo" => Ok(Self::Echo),
            _ => Err(format!("--mode is ingest or echo, not {name:?}")),
        }
    }
}

/// How clients reach the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// `ws://`
    Plain,
    /// `wss://`
    Tls {
        /// PEM file with the certificate chain, the server's own first.
        cert: PathBuf,
        /// PEM file with the private key.
        key: PathBuf,
    },
}

/// What the user typed, checked. `E` is what one server takes in addition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options<E = ()> {
    /// Where to listen.
    pub listen: SocketAddr,
    /// What to do with a message.
    pub mode: Mode,
    /// With TLS or without.
    pub transport: Transport,
    /// `--threads`; none where it was not given.
    pub threads: Option<NonZero<usize>>,
    /// The server's own options.
    pub extra: E,
}

impl<E> Options<E> {
    /// `--threads`, or else the parallelism that the machine has.
    #[must_use]
    pub fn threads_or_available(&self) -> NonZero<usize> {
        self.threads.or_else(|| thread::available_parallelism().ok()).unwrap_or(NonZero::<usize>::MIN)
    }
}

/// Options that only one server has.
pub trait Extra: Default {
    /// Lines for `--help`, in the shape of the shared ones.
    const USAGE: &'static str;
    /// How many threads serve where `--threads` is not given, for `--help`.
    const THREADS: &'static str = "as many as the machine runs at once";

    /// Takes the long option `--name`, with `value` to fetch what follows it. False: there is no such option.
    ///
    /// # Errors
    /// The value is missing or wrong: a sentence for the user.
    fn take(&mut self, name: &str, value: &mut Value<'_>) -> Result<bool, String>;
}

impl Extra for () {
    const USAGE: &'static str = "";

    fn take(&mut self, _: &str, _: &mut Value<'_>) -> Result<bool, String> {
        Ok(false)
    }
}

/// Fetches the value of an option.
pub struct Value<'a> {
    name: &'a str,
    parser: &'a mut Parser,
}

impl Value<'_> {
    /// As text.
    ///
    /// # Errors
    /// It is missing or not UTF-8.
    pub fn text(&mut self) -> Result<String, String> {
        self.raw()?.string().map_err(|error| format!("--{}: {error}", self.name))
    }

    /// As a number of at least 1.
    ///
    /// # Errors
    /// It is missing or no such number.
    pub fn count(&mut self) -> Result<NonZero<usize>, String> {
        let text = self.text()?;
        text.parse().map_err(|_| format!("--{} wants a number of 1 or more, not {text:?}", self.name))
    }

    fn raw(&mut self) -> Result<OsString, String> {
        self.parser.value().map_err(|_| format!("--{} wants a value behind it", self.name))
    }
}

/// Why a server ends without having served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// What was typed, or a file that was named, is wrong: exit code 2.
    Usage(String),
    /// The machine refused: exit code 1.
    Run(String),
}

impl Failure {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Run(_) => ExitCode::from(1),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Usage(sentence) | Self::Run(sentence)) = self;
        f.write_str(sentence)
    }
}

impl std::error::Error for Failure {}

/// Says that `address` cannot be listened on, and what to do about it.
#[must_use]
pub fn cannot_listen(address: SocketAddr, error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::AddrInUse {
        return format!(
            "cannot listen on {address}: another program has this port; choose another one or end it"
        );
    }
    format!("cannot listen on {address}: {error}")
}

/// The whole of a server's `main`: parses the command line, answers `--help`, serves, and turns a failure into
/// one sentence on stderr and an exit code.
pub fn main<E: Extra>(server: &str, serve: impl FnOnce(&Options<E>) -> Result<(), Failure>) -> ExitCode {
    let outcome = match parse(std::env::args_os().skip(1)) {
        Ok(Some(options)) => serve(&options),
        Ok(None) => {
            // A reader who wanted the first lines only is no failure.
            let _ = writeln!(io::stdout(), "{}", help::<E>(server));
            Ok(())
        }
        Err(sentence) => Err(Failure::Usage(format!("{sentence} (see {server} --help)"))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "{server}: {failure}");
            failure.exit_code()
        }
    }
}

fn help<E: Extra>(server: &str) -> String {
    let extra = E::USAGE.trim_end();
    let separator = if extra.is_empty() { "" } else { "\n" };
    format!(
        "{server} --listen ADDR --mode ingest|echo (--cert FILE --key FILE | --plain) [--threads N]\n\n\
         {USAGE} {}{separator}{extra}\n\n\
         SIGUSR1 prints the counts, SIGTERM and SIGINT print them and end the server.\n\
         Exit codes: 0 ended by a signal, 1 the machine refused, 2 wrong options, certificate or key.",
        E::THREADS
    )
}

/// What was typed, before it is checked as a whole.
#[derive(Default)]
struct Typed<E> {
    listen: Option<SocketAddr>,
    mode: Option<Mode>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    plain: bool,
    threads: Option<NonZero<usize>>,
    extra: E,
}

/// Parses the arguments behind the program's name. None: the user asks for help.
///
/// # Errors
/// One sentence that says which argument is wrong and what would be right.
pub fn parse<E: Extra>(
    arguments: impl IntoIterator<Item = impl Into<OsString>, IntoIter: 'static>,
) -> Result<Option<Options<E>>, String> {
    let mut parser = Parser::from_args(arguments);
    let mut typed = Typed::<E>::default();
    while let Some(argument) = parser.next().map_err(|error| error.to_string())? {
        let name = match argument {
            Arg::Long("help") | Arg::Short('h') => return Ok(None),
            Arg::Long(name) => name.to_owned(),
            other => return Err(other.unexpected().to_string()),
        };
        typed.take(&name, &mut Value { name: &name, parser: &mut parser })?;
    }
    typed.check().map(Some)
}

impl<E: Extra> Typed<E> {
    fn take(&mut self, name: &str, value: &mut Value<'_>) -> Result<(), String> {
        match name {
            "listen" => self.listen = Some(address(&value.text()?)?),
            "mode" => self.mode = Some(Mode::from_name(&value.text()?)?),
            "cert" => self.cert = Some(value.raw()?.into()),
            "key" => self.key = Some(value.raw()?.into()),
            "plain" => self.plain = true,
            "threads" => self.threads = Some(value.count()?),
            _ if self.extra.take(name, value)? => {}
            _ => return Err(format!("there is no option --{name}")),
        }
        Ok(())
    }

    fn check(self) -> Result<Options<E>, String> {
        let transport = match (self.plain, self.cert, self.key) {
            (true, None, None) => Transport::Plain,
            (true, _, _) => return Err("--plain is without TLS: leave out --cert and --key".into()),
            (false, Some(cert), Some(key)) => Transport::Tls { cert, key },
            (false, None, _) => return Err("TLS needs --cert FILE (or say --plain)".into()),
            (false, _, None) => return Err("TLS needs --key FILE (or say --plain)".into()),
        };
        Ok(Options {
            listen: self.listen.ok_or("--listen ADDR is needed, such as --listen 127.0.0.1:9001")?,
            mode: self.mode.ok_or("--mode ingest or --mode echo is needed")?,
            transport,
            threads: self.threads,
            extra: self.extra,
        })
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let mut addresses = text.to_socket_addrs().map_err(|error| {
        format!("--listen wants an address and a port, such as 127.0.0.1:9001, not {text:?}: {error}")
    })?;
    addresses.next().ok_or_else(|| format!("--listen: {text:?} has no address"))
}

#[cfg(test)]
#[path = "options/tests.rs"]
mod tests;
