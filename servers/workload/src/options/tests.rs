use super::*;

fn parsed(line: &str) -> Result<Option<Options>, String> {
    parse(line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
}

fn options(line: &str) -> Options {
    parsed(line).expect("the line is right").expect("no help is asked for")
}

#[derive(Debug, Default, PartialEq)]
struct Buffers {
    read: Option<NonZero<usize>>,
}

impl Extra for Buffers {
    const USAGE: &'static str = "  --read-buffer BYTES  to read into";

    fn take(&mut self, name: &str, value: &mut Value<'_>) -> Result<bool, String> {
        if name == "read-buffer" {
            self.read = Some(value.count()?);
        }
        Ok(name == "read-buffer")
    }
}

#[test]
fn a_plain_server() {
    let options = options("--listen 127.0.0.1:0 --mode echo --plain");
    assert_eq!(options.listen, "127.0.0.1:0".parse().unwrap());
    assert_eq!(options.mode, Mode::Echo);
    assert_eq!(options.transport, Transport::Plain);
    assert_eq!(options.threads, None);
    assert!(options.threads_or_available().get() >= 1);
}

#[test]
fn a_tls_server() {
    let options = options("--key=k.pem --cert=c.pem --mode=ingest --listen=[::1]:9001 --threads 3");
    assert_eq!(options.listen, "[::1]:9001".parse().unwrap());
    assert_eq!(options.mode, Mode::Ingest);
    assert_eq!(options.transport, Transport::Tls { cert: "c.pem".into(), key: "k.pem".into() });
    assert_eq!(options.threads_or_available().get(), 3);
}

#[test]
fn what_is_wrong_is_named() {
    for (line, part) in [
        ("--mode echo --plain", "--listen ADDR is needed"),
        ("--listen 127.0.0.1:0 --plain", "--mode ingest or --mode echo is needed"),
        ("--listen 127.0.0.1:0 --mode echo", "--cert FILE"),
        ("--listen 127.0.0.1:0 --mode echo --key k", "--cert FILE"),
        ("--listen 127.0.0.1:0 --mode echo --cert c", "--key FILE"),
        ("--listen 127.0.0.1:0 --mode echo --plain --cert c --key k", "leave out --cert and --key"),
        ("--listen 127.0.0.1 --mode echo --plain", "an address and a port"),
        ("--listen", "--listen wants a value"),
        ("--mode send", "ingest or echo, not \"send\""),
        ("--threads 0", "--threads wants a number of 1 or more"),
        ("--threads many", "not \"many\""),
        ("--plain=yes", "--plain"),
        ("--turbo", "no option --turbo"),
        ("-x", "-x"),
        ("now", "now"),
    ] {
        let sentence = parsed(line).expect_err(line);
        assert!(sentence.contains(part), "{line}: {sentence}");
        assert!(!sentence.contains('\n'), "{line}: {sentence}");
    }
}

#[test]
fn help_is_asked_for() {
    assert_eq!(parsed("--help"), Ok(None));
    assert_eq!(parsed("--mode echo -h"), Ok(None));
    let text = help::<Buffers>("server-x");
    for part in
        ["server-x --listen ADDR", "\n  --listen ", "\n  --threads N", "\n  --read-buffer BYTES", "\nSIGUSR1"]
    {
        assert!(text.contains(part), "{part}");
    }
}

#[test]
fn a_server_has_its_own_options() {
    let line = ["--read-buffer", "4096", "--listen", "127.0.0.1:0", "--mode", "echo", "--plain"];
    let options = parse::<Buffers>(line).unwrap().unwrap();
    assert_eq!(options.extra.read.map(NonZero::get), Some(4096));
    assert!(parse::<Buffers>(["--read-buffer"]).unwrap_err().contains("--read-buffer wants a value"));
    assert!(parse::<Buffers>(["--write-buffer", "1"]).unwrap_err().contains("no option --write-buffer"));
}

#[test]
fn failures_have_their_exit_codes() {
    assert_eq!(Failure::Usage("wrong".into()).exit_code(), ExitCode::from(2));
    assert_eq!(Failure::Run("refused".into()).exit_code(), ExitCode::from(1));
}
