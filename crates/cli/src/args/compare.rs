//! `compare`: what can be typed, and the settings that it makes.

use webscale_load::compare::contestant::{Contestant, Extra};
use webscale_load::compare::settings::Settings;

use super::OutputArgs;
use crate::exit::Usage;

/// Build several servers, load them in turn, and print their figures side by side.
///
/// The experiment: clients over TLS that each send 10 kB of JSON a second, which the server deserialises. The servers
/// are an epoll loop with a pool of threads (skeleton), tokio with its libraries' defaults (tokio) and with a small
/// read buffer (tokio-4k), and this project's own as shipped (webscale), parsing into a struct that borrows, and into the
/// struct of the others (webscale-serde). All have the same certificate, flags, load and processor. Runs are interleaved, each with a fresh
/// process; a run in which the load generator could not keep up is rejected.
///
/// Needs a checkout of the project and cargo. Run it on a machine that does nothing else. The full comparison takes
/// between two and three hours after the builds, --quick less than five minutes.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  webscale compare --quick
  webscale compare --quick --extra 'node=node server.js {port} {cert} {key}'
  webscale compare --servers tokio,webscale --json compare.json --html compare.html

Exit code 1 when a server could not be built or measured, or after Ctrl-C; the table has what was measured.")]
pub(crate) struct CompareArgs {
    /// Everything in under five minutes after the builds; the table says what was shortened
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only these, separated by commas: skeleton, tokio, tokio-4k, webscale, webscale-serde
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = contestant)]
    pub(crate) servers: Vec<Contestant>,
    /// One more server, of your own: a command of the shell in which {port}, {cert} and {key} are filled in. It has to speak
    /// wss:// on 127.0.0.1 within 20 s, answer pings and read what is sent; what it starts is measured and ended with it;
    /// may be repeated
    #[arg(long, value_name = "NAME=COMMAND", value_parser = extra)]
    pub(crate) extra: Vec<&'static Extra>,
    /// Use the servers that an earlier comparison built; compile times are those measured then
    #[arg(long)]
    pub(crate) reuse_builds: bool,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Reads `NAME=COMMAND`.
fn extra(text: &str) -> Result<&'static Extra, String> {
    let Some((name, command)) =
        text.split_once('=').filter(|(name, command)| !name.is_empty() && !command.is_empty())
    else {
        return Err("wanted NAME=COMMAND".into());
    };
    if Contestant::from_name(name).is_some() {
        return Err(format!("{name} is a server of the comparison already: choose another name"));
    }
    let places = [
        ("{port}", "the server has to listen where it is looked for"),
        ("{cert}", "clients trust the certificate in that file alone"),
        ("{key}", "it is the file with the certificate's key"),
    ];
    if let Some((place, why)) = places.into_iter().find(|(place, _)| !command.contains(place)) {
        return Err(format!("the command has no {place}: {why}"));
    }
    Ok(Extra::new(name, command))
}

fn contestant(name: &str) -> Result<Contestant, String> {
    Contestant::from_name(name).ok_or_else(|| {
        let names = Contestant::ALL.map(Contestant::name).join(", ");
        format!("no such server: choose among {names}")
    })
}

impl CompareArgs {
    /// What is to be done.
    pub(crate) fn settings(&self) -> anyhow::Result<Settings> {
        let mut names: Vec<&str> = self.extra.iter().map(|extra| extra.name()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Usage(format!("two servers of --extra are called {}", twice[0])).into());
        }
        let chosen = |contestant: &Contestant| self.servers.is_empty() || self.servers.contains(contestant);
        let extras = self.extra.iter().copied().map(Contestant::Extra);
        let servers = Contestant::ALL.into_iter().filter(chosen).chain(extras).collect();
        let settings = if self.quick { Settings::quick(servers) } else { Settings::full(servers) };
        Ok(Settings { reuse_builds: self.reuse_builds, ..settings })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_extras(servers: &[Contestant], extras: &[&str]) -> anyhow::Result<Settings> {
        CompareArgs {
            quick: true,
            servers: servers.to_vec(),
            extra: extras.iter().map(|text| extra(text).unwrap()).collect(),
            reuse_builds: false,
            output: OutputArgs { json: None, html: None },
        }
        .settings()
    }

    fn settings(servers: &[Contestant]) -> Settings {
        with_extras(servers, &[]).unwrap()
    }

    #[test]
    fn extras_stand_behind_and_have_names_of_their_own() {
        let command = "a {port} {cert} {key}";
        let [one, other] = ["one", "other"].map(|name| format!("{name}={command}"));
        let names =
            |settings: Settings| settings.servers.into_iter().map(Contestant::name).collect::<Vec<_>>();
        let both = with_extras(&[Contestant::Tokio], &[&other, &one]).unwrap();
        assert_eq!(names(both), ["tokio", "other", "one"]);
        let error = with_extras(&[], &[&one, &other, &one]).unwrap_err();
        assert!(error.is::<Usage>() && error.to_string().ends_with("called one"), "{error}");
    }

    #[test]
    fn servers_keep_the_tables_order() {
        let chosen = [Contestant::Webscale, Contestant::Tokio, Contestant::Tokio];
        assert_eq!(settings(&chosen).servers, [Contestant::Tokio, Contestant::Webscale]);
        assert_eq!(settings(&[]).servers, Contestant::ALL);
    }

    #[test]
    fn an_extra_needs_a_name_and_a_port() {
        assert!(extra("node=node ws.js {port} {cert} {key}").is_ok());
        for (text, why) in [
            ("node", "NAME=COMMAND"),
            ("=x {port} {cert} {key}", "NAME=COMMAND"),
            ("node=", "NAME=COMMAND"),
            ("tokio=x {port} {cert} {key}", "another name"),
            ("node=node ws.js", "no {port}"),
            ("node=node ws.js {port} {crt} {key}", "no {cert}"),
            ("node=node ws.js {port} {cert}", "no {key}"),
        ] {
            assert!(extra(text).unwrap_err().contains(why), "{text}");
        }
    }

    #[test]
    fn unknown_servers_are_told_the_known_ones() {
        assert!(contestant("node").unwrap_err().contains("tokio-4k"));
    }
}
