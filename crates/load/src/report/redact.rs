//! What was typed, without what is secret: reports are passed on.

/// What stands for a secret.
const HIDDEN: &str = "***";
/// Flags whose value, or a part of it, is secret.
const SECRET_FLAGS: [&str; 5] = ["--bearer", "--basic", "--header", "--cookie", "--subprotocol"];

/// A URL without its user, its password and the values of its query, where tokens stand.
pub fn url(url: &str) -> String {
    let (rest, query) = url.split_once('?').map_or((url, None), |(rest, query)| (rest, Some(query)));
    let (scheme, rest) = rest.split_once("://").map_or(("", rest), |(scheme, rest)| (scheme, rest));
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let mut text = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
    match host.rsplit_once('@') {
        Some((_, host)) => text += &format!("{HIDDEN}@{host}"),
        None => text += host,
    }
    text += path;
    if let Some(query) = query {
        let pairs: Vec<String> = query.split('&').map(pair).collect();
        text += &format!("?{}", pairs.join("&"));
    }
    text
}

fn pair(pair: &str) -> String {
    pair.split_once('=').map_or_else(|| HIDDEN.to_owned(), |(name, _)| format!("{name}={HIDDEN}"))
}

/// A command line as it could be typed again, but for its secrets: the values of `--bearer`, `--basic` and `--cookie`, of
/// headers, of subprotocols (where browsers put tokens), and in URLs.
pub(crate) fn command_line(arguments: impl IntoIterator<Item = String>) -> String {
    let mut words = Vec::new();
    let mut secret_of: Option<String> = None;
    for (at, argument) in arguments.into_iter().enumerate() {
        let word = match secret_of.take() {
            Some(flag) => secret(&flag, &argument),
            None if at == 0 => argument.rsplit('/').next().unwrap_or_default().to_owned(),
            None => match argument.split_once('=') {
                Some((flag, value)) if is_secret(flag) => format!("{flag}={}", secret(flag, value)),
                _ if argument.contains("://") => url(&argument),
                _ => argument,
            },
        };
        if is_secret(&word) {
            secret_of = Some(word.clone());
        }
        words.push(quoted(&word));
    }
    words.join(" ")
}

fn is_secret(flag: &str) -> bool {
    SECRET_FLAGS.contains(&flag)
}

/// Of a header, the name may be shown.
fn secret(flag: &str, value: &str) -> String {
    match value.split_once(':') {
        Some((name, _)) if flag == "--header" => format!("{name}: {HIDDEN}"),
        _ => HIDDEN.to_owned(),
    }
}

fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,*[]".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_lose_credentials() {
        assert_eq!(url("wss://me:secret@host:9/a/b?token=x&y"), "wss://***@host:9/a/b?token=***&***");
        assert_eq!(url("ws://127.0.0.1:9001"), "ws://127.0.0.1:9001");
        assert_eq!(url("ws://host/a@b"), "ws://host/a@b");
        assert_eq!(url("nonsense"), "nonsense");
    }

    #[test]
    fn command_lines_lose_secrets() {
        let line = |words: &[&str]| command_line(words.iter().map(ToString::to_string));
        assert_eq!(
            line(&["/usr/bin/webscale", "bench", "wss://a:b@h/?k=v", "--bearer", "s3cret", "-c", "5"]),
            "webscale bench 'wss://***@h/?k=***' --bearer *** -c 5"
        );
        assert_eq!(
            line(&["webscale", "--header", "Authorization: Basic abc", "--basic=me:pw"]),
            "webscale --header 'Authorization: ***' --basic=***"
        );
        assert_eq!(line(&["webscale", "--subprotocol", "s3cret"]), "webscale --subprotocol ***");
        assert_eq!(line(&["webscale", "--size", "it's"]), "webscale --size 'it'\\''s'");
    }
}
