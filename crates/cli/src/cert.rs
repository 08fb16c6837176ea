//! `webscale cert`: a CA and a leaf certificate in files.

use webscale_load::cert::{self, CertError, Existing, VALID_DAYS};

use crate::args::CertArgs;
use crate::exit::Usage;
use crate::output;

pub(crate) fn run(args: &CertArgs) -> anyhow::Result<()> {
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    let issued = cert::issue(&args.name).map_err(|error| match error {
        CertError::Name { .. } => anyhow::Error::new(Usage(error.to_string())),
        _ => error.into(),
    })?;
    let files = issued.write(&args.directory, existing)?;
    output::print(&format!(
        "certificate  {cert}\nits key      {key}\nCA to trust  {ca}\nthe CA's key {ca_key}\nvalid for {VALID_DAYS} days\n",
        cert = files.cert.display(),
        key = files.key.display(),
        ca = files.ca_cert.display(),
        ca_key = files.ca_key.display(),
    ))?;
    Ok(())
}
