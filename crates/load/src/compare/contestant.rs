//! Who takes part: the servers of the comparison, and what the article found of two of them.

use std::path::Path;

use serde::{Serialize, Serializer};

/// One row of the comparison: a server package with the arguments that make it this contestant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Contestant {
    /// The article's own loop: epoll, a pool of threads, tungstenite.
    Skeleton,
    /// tokio and tokio-tungstenite as they come.
    Tokio,
    /// The same with a read buffer of 4 KiB a connection instead of 128 KiB.
    TokioSmallBuffer,
    /// This project's library as shipped.
    Webscale,
    /// This project's library with the struct of the others, which copies its text: what is left is the engine.
    WebscaleSerde,
    /// A server of the user's own.
    Extra(&'static Extra),
}

/// A server of the user's own, which is started by a command and consumes the messages.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extra {
    name: String,
    command: String,
}

impl Extra {
    /// A server that `command` starts, with `{port}`, `{cert}` and `{key}` filled in. It lives as long as the program, as
    /// the other contestants do.
    pub fn new(name: impl Into<String>, command: impl Into<String>) -> &'static Extra {
        Box::leak(Box::new(Extra { name: name.into(), command: command.into() }))
    }

    /// Its name in the table.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The command with the places filled in that it names, each one word of the shell.
    pub(crate) fn command(&self, port: u16, cert: &Path, key: &Path) -> String {
        let filled = self.command.replace("{port}", &port.to_string());
        filled.replace("{cert}", &word(cert)).replace("{key}", &word(key))
    }
}

/// The path as one word of the shell, in quotes where that takes them.
fn word(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=:@%,".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

impl Contestant {
    /// All that are built here, in the table's order.
    pub const ALL: [Contestant; 5] = [
        Contestant::Skeleton,
        Contestant::Tokio,
        Contestant::TokioSmallBuffer,
        Contestant::Webscale,
        Contestant::WebscaleSerde,
    ];

    /// The name on the command line, in the table and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Contestant::Skeleton => "skeleton",
            Contestant::Tokio => "tokio",
            Contestant::TokioSmallBuffer => "tokio-4k",
            Contestant::Webscale => "webscale",
            Contestant::WebscaleSerde => "webscale-serde",
            Contestant::Extra(extra) => &extra.name,
        }
    }

    /// What distinguishes it, in a few words.
    pub fn description(self) -> &'static str {
        match self {
            Contestant::Skeleton => "epoll, 10 threads, tungstenite; serde_json, owned",
            Contestant::Tokio => "tokio-tungstenite, default buffers; serde_json, owned",
            Contestant::TokioSmallBuffer => "tokio-tungstenite, 4 KiB read buffer; serde_json, owned",
            Contestant::Webscale => "webscale as shipped; serde_json, borrowed",
            Contestant::WebscaleSerde => "webscale; serde_json, owned, as in the others",
            Contestant::Extra(extra) => &extra.command,
        }
    }

    /// The contestant with this name.
    pub fn from_name(name: &str) -> Option<Contestant> {
        Contestant::ALL.into_iter().find(|contestant| contestant.name() == name)
    }

    /// The package, which is also the binary's name; none for a server that is not built here.
    pub(crate) fn package(self) -> Option<&'static str> {
        match self {
            Contestant::Skeleton => Some("server-skeleton"),
            Contestant::Tokio | Contestant::TokioSmallBuffer => Some("server-tokio"),
            Contestant::Webscale | Contestant::WebscaleSerde => Some("server-webscale"),
            Contestant::Extra(_) => None,
        }
    }

    /// Arguments beside those that all servers take.
    pub fn arguments(self) -> &'static [&'static str] {
        match self {
            Contestant::TokioSmallBuffer => &["--read-buffer", "4096"],
            Contestant::WebscaleSerde => &["--json", "owned"],
            Contestant::Skeleton | Contestant::Tokio | Contestant::Webscale | Contestant::Extra(_) => &[],
        }
    }

    /// What the article measured of this server, on a Raspberry Pi 4.
    pub fn article(self) -> Option<ArticleFigures> {
        match self {
            Contestant::Skeleton => {
                Some(ArticleFigures { peak_memory_bytes: 4_000_000, max_clients: 25_000 })
            }
            Contestant::Tokio => Some(ArticleFigures { peak_memory_bytes: 5_200_000, max_clients: 25_000 }),
            _ => None,
        }
    }
}

impl Serialize for Contestant {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_str(self.name())
    }
}

/// The article's figures that can be set beside ours. Both of its servers stopped *near* 25,000 clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ArticleFigures {
    /// heaptrack's peak heap with 100 clients that send 10 kB each second.
    pub peak_memory_bytes: u64,
    /// Clients held.
    pub max_clients: u32,
}

/// The order in which rounds run: forwards, backwards, backwards, forwards, … so that slow drift of the machine falls
/// on all alike (A B B A). Each item comes with the number of its round.
pub fn interleaved<T: Copy>(items: &[T], rounds: usize) -> Vec<(usize, T)> {
    let mut order = Vec::with_capacity(items.len() * rounds);
    for round in 0..rounds {
        let numbered = items.iter().map(|item| (round, *item));
        if matches!(round % 4, 0 | 3) {
            order.extend(numbered);
        } else {
            order.extend(numbered.rev());
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for contestant in Contestant::ALL {
            assert_eq!(Contestant::from_name(contestant.name()), Some(contestant));
        }
        assert_eq!(Contestant::from_name("node"), None);
    }

    #[test]
    fn a_command_has_its_places_filled_in() {
        let extra = Extra::new("node", "node ws.js {port} {cert} {key} {port}");
        let command = extra.command(9001, Path::new("/c.pem"), Path::new("/k.pem"));
        assert_eq!(command, "node ws.js 9001 /c.pem /k.pem 9001");
        let command = extra.command(1, Path::new("/my files/c.pem"), Path::new("/it's/k.pem"));
        assert_eq!(command, r"node ws.js 1 '/my files/c.pem' '/it'\''s/k.pem' 1");
        assert_eq!((Contestant::Extra(extra).name(), Contestant::Extra(extra).package()), ("node", None));
    }

    #[test]
    fn rounds_go_there_and_back() {
        let names = |rounds| interleaved(&['a', 'b', 'c'], rounds).into_iter().map(|(_, name)| name);
        assert_eq!(names(4).collect::<String>(), "abccbacbaabc");
        assert_eq!(interleaved(&['a', 'b'], 2), [(0, 'a'), (0, 'b'), (1, 'b'), (1, 'a')]);
        assert_eq!(interleaved::<char>(&[], 3), []);
    }
}
