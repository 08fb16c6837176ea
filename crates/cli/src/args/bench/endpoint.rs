//! Where the clients connect to, and what they say there.

use std::path::PathBuf;

use clap::ValueEnum;
use webscale_load::bench::endpoint::{Compression, Handshake, Header, TlsOptions, TlsVersion, is_token};
use webscale_load::bench::{Plan, Trust};

use super::given;
use crate::args::units;
use crate::exit::Usage;

#[derive(Debug, clap::Args)]
pub(crate) struct EndpointArgs {
    /// ws:// or wss:// address of the server; {client} in its path is the client's number
    pub(crate) url: String,
    #[command(flatten)]
    pub(crate) handshake: HandshakeArgs,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Opening handshake")]
pub(crate) struct HandshakeArgs {
    /// Send this header field; {client} in the value is the client's number; may be repeated
    #[arg(long, value_name = "NAME: VALUE")]
    pub(crate) header: Vec<String>,
    /// Offer this subprotocol; may be repeated, the preferred first
    #[arg(long, value_name = "NAME")]
    pub(crate) subprotocol: Vec<String>,
    /// Send this Origin
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) origin: Option<String>,
    /// Authenticate as USER:PASSWORD; @FILE and env:NAME keep it out of the list of processes
    #[arg(long, value_name = "USER:PASSWORD", conflicts_with = "bearer")]
    pub(crate) basic: Option<String>,
    /// Authenticate with this token; @FILE and env:NAME keep it out of the list of processes
    #[arg(long, value_name = "TOKEN")]
    pub(crate) bearer: Option<String>,
    /// Offer permessage-deflate, with any of: level=1-9, threshold=BYTES, takeover, client_takeover, server_takeover,
    /// client_max_window_bits=9-15, server_max_window_bits=9-15; separated by commas
    #[arg(long, value_name = "PARAMETERS", num_args = 0..=1, require_equals = true, default_missing_value = "",
          value_parser = compression)]
    pub(crate) deflate: Option<Compression>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "TLS")]
pub(crate) struct TlsArgs {
    /// Accept any certificate, as without --ca and --system-roots
    #[arg(long, conflicts_with_all = ["ca", "system_roots"])]
    pub(crate) insecure: bool,
    /// Accept only certificates below those in this PEM file
    #[arg(long, value_name = "FILE", conflicts_with = "system_roots")]
    pub(crate) ca: Option<PathBuf>,
    /// Accept only certificates below the system's roots
    #[arg(long)]
    pub(crate) system_roots: bool,
    /// Show this certificate chain, PEM, where the server asks for one
    #[arg(long, value_name = "FILE", requires = "client_key")]
    pub(crate) client_cert: Option<PathBuf>,
    /// Its private key, PEM
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    pub(crate) client_key: Option<PathBuf>,
    /// Ask for the certificate of this name (SNI) in place of the URL's host
    #[arg(long, value_name = "NAME")]
    pub(crate) sni: Option<String>,
    /// Speak this version of TLS alone [default: 1.3, or else 1.2]
    #[arg(long, value_name = "VERSION", value_enum)]
    pub(crate) tls_version: Option<VersionArg>,
    /// Share of the handshakes that resume an earlier session, as 80% or 0.8; the report says how many did.
    /// Those that begin before the server's first tickets have come cannot: spread them by --ramp
    #[arg(long, value_name = "SHARE", value_parser = units::share, default_value = "0%")]
    pub(crate) resume: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum VersionArg {
    #[value(name = "1.2")]
    Tls12,
    #[value(name = "1.3")]
    Tls13,
}

impl EndpointArgs {
    /// The plan of a load on this endpoint, all else by default.
    pub(crate) fn plan(&self) -> anyhow::Result<Plan> {
        let plan = Plan {
            trust: self.tls.trust(),
            tls: self.tls.options(),
            handshake: self.handshake.handshake()?,
            ..Plan::new(self.url.clone())
        };
        let asks_for_tls = plan.trust != Trust::Any || plan.tls != TlsOptions::default();
        if asks_for_tls && !plan.is_secure() {
            return Err(Usage(format!("{} is not TLS: the flags of TLS need a wss:// URL", self.url)).into());
        }
        Ok(plan)
    }
}

impl HandshakeArgs {
    fn handshake(&self) -> anyhow::Result<Handshake> {
        if let Some(other) = self.subprotocol.iter().find(|name| !is_token(name)) {
            return Err(Usage(format!("--subprotocol {other:?}: that is no name of a subprotocol")).into());
        }
        let mut headers = Vec::new();
        for text in &self.header {
            // Its value may be a secret: the name alone is said.
            let name = text.split(':').next().unwrap_or_default();
            headers.push(Header::parse(text).map_err(|error| Usage(format!("--header {name:?}: {error}")))?);
        }
        if let Some(origin) = &self.origin {
            headers.push(Header::origin(origin).map_err(|error| Usage(format!("--origin: {error}")))?);
        }
        headers.extend(self.authorization()?);
        for name in ["Origin", "Authorization"] {
            if headers.iter().filter(|header| header.name().eq_ignore_ascii_case(name)).count() > 1 {
                return Err(Usage(format!("{name} is given twice")).into());
            }
        }
        Ok(Handshake { headers, subprotocols: self.subprotocol.clone(), compression: self.deflate })
    }

    fn authorization(&self) -> anyhow::Result<Option<Header>> {
        if let Some(typed) = &self.basic {
            let credentials = given::secret("--basic", typed)?;
            if !credentials.contains(':') {
                return Err(Usage("--basic: wanted USER:PASSWORD".into()).into());
            }
            return Ok(Some(Header::basic(&credentials)));
        }
        let Some(typed) = &self.bearer else { return Ok(None) };
        let token = given::secret("--bearer", typed)?;
        Ok(Some(Header::bearer(&token).map_err(|error| Usage(format!("--bearer: {error}")))?))
    }
}

impl TlsArgs {
    fn trust(&self) -> Trust {
        match (&self.ca, self.system_roots) {
            (Some(path), _) => Trust::CaFile(path.clone()),
            (None, true) => Trust::System,
            (None, false) => Trust::Any,
        }
    }

    fn options(&self) -> TlsOptions {
        let version = self.tls_version.map(|version| match version {
            VersionArg::Tls12 => TlsVersion::Tls12,
            VersionArg::Tls13 => TlsVersion::Tls13,
        });
        let identity = self.client_cert.clone().zip(self.client_key.clone());
        TlsOptions { server_name: self.sni.clone(), version, identity, resume: self.resume }
    }
}

/// Reads the parameters of permessage-deflate.
fn compression(text: &str) -> Result<Compression, String> {
    let mut wanted = Compression::default();
    for parameter in text.split(',').filter(|parameter| !parameter.is_empty()) {
        let (name, value) =
            parameter.split_once('=').map_or((parameter, None), |(name, value)| (name, Some(value)));
        match (name, value) {
            ("level", Some(value)) => wanted.level = within(name, value, 1, 9)?,
            ("threshold", Some(value)) => wanted.threshold = within(name, value, 0, u32::MAX)?,
            ("client_max_window_bits", Some(value)) => {
                wanted.client_window_bits = within(name, value, 9, 15)?;
            }
            ("server_max_window_bits", Some(value)) => {
                wanted.server_window_bits = within(name, value, 9, 15)?;
            }
            ("takeover", None) => (wanted.client_takeover, wanted.server_takeover) = (true, true),
            ("client_takeover", None) => wanted.client_takeover = true,
            ("server_takeover", None) => wanted.server_takeover = true,
            _ => return Err(format!("{parameter:?} is no parameter of it")),
        }
    }
    Ok(wanted)
}

fn within<T>(name: &str, value: &str, least: T, most: T) -> Result<T, String>
where
    T: Copy + std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let number = value.parse().ok().filter(|number| (&least..=&most).contains(&number));
    number.ok_or_else(|| format!("{name} must be {least} to {most}"))
}
