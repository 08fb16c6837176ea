//! A page that opens anywhere: one file, without anything from elsewhere.
//!
//! Text goes in as it is, and is escaped here; nothing that comes from outside can become markup.

use std::fmt::Write;

use super::bars::{Meter, meters};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Figures that stand in one row on a wide page.
const FIGURES_MAX: usize = 6;

/// A row whose name is longer needs some room for it on a telephone.
const NAME_LONG: usize = 16;

/// How a verdict is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// All is well.
    Good,
    /// Something failed.
    Bad,
    /// The figures have to be read with care, or do not count.
    Warning,
    /// Nothing is said.
    Silent,
}

impl Tone {
    /// Its class, and the sign by which it is known without colours.
    fn class_and_sign(self) -> (&'static str, &'static str) {
        match self {
            Tone::Good => ("good", "✓"),
            Tone::Bad => ("bad", "✕"),
            Tone::Warning => ("warn", "!"),
            Tone::Silent => ("silent", "–"),
        }
    }
}

/// A part of the page that can be folded away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fold {
    /// How its verdict is meant.
    pub tone: Tone,
    /// Its verdict, in one word.
    pub word: String,
    /// What it is.
    pub heading: String,
    /// What a reader should know of it while it is folded; may be empty.
    pub note: String,
    /// It is not folded at first.
    pub open: bool,
}

/// A figure that a reader sees first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figure {
    /// What it is.
    pub name: String,
    /// It, with its unit.
    pub value: String,
    /// What it has to be read with; may be empty.
    pub note: String,
}

impl Figure {
    /// A figure.
    pub fn new(name: impl Into<String>, value: impl Into<String>, note: impl Into<String>) -> Figure {
        Figure { name: name.into(), value: value.into(), note: note.into() }
    }
}

/// Rows under columns; the first cell of each row names it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// What it shows; may be empty.
    pub caption: String,
    /// The columns' names.
    pub columns: Vec<String>,
    /// As many cells each as there are columns.
    pub rows: Vec<Vec<String>>,
}

/// A page that is being written.
#[derive(Debug)]
pub struct Page {
    title: String,
    body: String,
}

impl Page {
    /// A page with a title, and what stands above and below it.
    pub fn new(above: &str, title: &str, below: &str) -> Page {
        let (over, heading, under) = (escape(above), escape(title), escape(below));
        let body = format!(
            "<header><p class=\"over\">{over}</p><h1>{heading}</h1><p class=\"note\">{under}</p></header>\n"
        );
        Page { title: title.to_owned(), body }
    }

    /// What it comes to, in a sentence, and why.
    pub fn verdict(&mut self, tone: Tone, sentence: &str, reasons: &[String]) {
        let (class, sign) = tone.class_and_sign();
        let reasons = list(reasons);
        self.push(&format!(
            "<section class=\"verdict {class}\" aria-label=\"Verdict\"><strong><span aria-hidden=\"true\">{sign}</span> \
             {}</strong>{reasons}</section>\n",
            escape(sentence)
        ));
    }

    /// The figures that matter most, side by side.
    pub fn figures(&mut self, figures: &[Figure]) {
        let one = |figure: &Figure| {
            let [name, value, note] = [&figure.name, &figure.value, &figure.note].map(|text| escape(text));
            format!("<li><span>{name}</span><b>{value}</b><span>{note}</span></li>")
        };
        let all: String = figures.iter().map(one).collect();
        // More than fit beside each other stand in two rows.
        let columns = if figures.len() > FIGURES_MAX { figures.len().div_ceil(2) } else { figures.len() };
        self.push(&format!("<ul class=\"figures\" style=\"--n:{columns}\">{all}</ul>\n"));
    }

    /// A heading, and a sentence or two below it.
    pub fn section(&mut self, heading: &str, text: &str) {
        self.push(&format!("<h2>{}</h2>\n", escape(heading)));
        if !text.is_empty() {
            self.note(text);
        }
    }

    /// Plots side by side where there is room.
    pub fn plots(&mut self, plots: &[String]) {
        self.push(&format!("<div class=\"plots\">{}</div>\n", plots.concat()));
    }

    /// A table.
    pub fn table(&mut self, table: &Table) {
        let class = if table.columns.len() < 3 { "card narrow" } else { "card" };
        self.push(&format!("<div class=\"{class}\">{}</div>\n", table.html(|_| String::new())));
    }

    /// Tables beside each other where there is room.
    pub fn tables(&mut self, tables: &[Table]) {
        self.push("<div class=\"tables\">");
        tables.iter().for_each(|table| self.table(table));
        self.push("</div>\n");
    }

    /// Names and what belongs to them. What is called a command can be copied.
    pub(crate) fn facts(&mut self, facts: &[(String, String)]) {
        let row = |(name, value): &(String, String)| {
            let value = if name == "command" { command(value) } else { escape(value) };
            format!("<tr><th scope=\"row\">{}</th><td>{value}</td></tr>", escape(name))
        };
        let rows: String = facts.iter().map(row).collect();
        self.push(&format!(
            "<div class=\"card\"><table class=\"facts\"><tbody>{rows}</tbody></table></div>\n"
        ));
    }

    /// A paragraph of what has to be read with the rest.
    pub fn note(&mut self, text: &str) {
        self.push(&format!("<p class=\"note\">{}</p>\n", escape(text)));
    }

    /// Sentences, one below the other.
    pub fn list(&mut self, items: &[String]) {
        self.push(&list(items));
    }

    /// Figures and what they are held against.
    pub(crate) fn meters(&mut self, figures: &[Meter]) {
        self.push(&format!("<div class=\"card\">{}</div>\n", meters(figures)));
    }

    /// What `inside` writes, behind a line that unfolds it.
    pub fn fold(&mut self, fold: &Fold, inside: impl FnOnce(&mut Page)) {
        let (class, sign) = fold.tone.class_and_sign();
        let open = if fold.open { " open" } else { "" };
        let [word, heading, note] = [&fold.word, &fold.heading, &fold.note].map(|text| escape(text));
        self.push(&format!(
            "<details class=\"fold {class}\"{open}><summary><span class=\"badge\"><span aria-hidden=\"true\">{sign}</span> \
             {word}</span> <b>{heading}</b> <span class=\"note\">{note}</span></summary>\n"
        ));
        inside(self);
        self.push("</details>\n");
    }

    fn push(&mut self, html: &str) {
        self.body.push_str(html);
    }

    /// The whole file.
    pub fn finish(self) -> String {
        let (title, body) = (escape(&self.title), self.body);
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; \
             script-src 'unsafe-inline'\">\n\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}</main>\n\
             <script>\n{SCRIPT}</script>\n</body>\n</html>\n"
        )
    }
}

impl Table {
    /// A table without rows yet.
    pub fn new(caption: impl Into<String>, columns: &[&str]) -> Table {
        let columns = columns.iter().map(ToString::to_string).collect();
        Table { caption: caption.into(), columns, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// `attributes` says what stands in the tag of row `n`; it has to be markup.
    pub(super) fn html(&self, attributes: impl Fn(usize) -> String) -> String {
        let is_named =
            self.rows.iter().any(|row| row.first().is_some_and(|name| name.chars().count() > NAME_LONG));
        let mut html = String::from(if is_named { "<table class=\"named\">" } else { "<table>" });
        if !self.caption.is_empty() {
            let _ = write!(html, "<caption><span>{}</span></caption>", escape(&self.caption));
        }
        let heads: String =
            self.columns.iter().map(|name| format!("<th scope=\"col\">{}</th>", escape(name))).collect();
        let _ = write!(html, "<thead><tr>{heads}</tr></thead><tbody>");
        for (at, row) in self.rows.iter().enumerate() {
            let _ = write!(html, "<tr{}>", attributes(at));
            for (column, cell) in row.iter().enumerate() {
                let cell = escape(cell);
                let _ = match column {
                    0 => write!(html, "<th scope=\"row\">{cell}</th>"),
                    _ => write!(html, "<td>{cell}</td>"),
                };
            }
            html.push_str("</tr>");
        }
        html.push_str("</tbody></table>");
        html
    }
}

fn list(items: &[String]) -> String {
    let items: String = items.iter().map(|item| format!("<li>{}</li>", escape(item))).collect();
    if items.is_empty() { items } else { format!("<ul>{items}</ul>") }
}

/// Words that are not broken at the dashes of flags.
fn command(line: &str) -> String {
    let words: Vec<String> = line.split(' ').map(|word| format!("<span>{}</span>", escape(word))).collect();
    format!("<code>{}</code>", words.join(" "))
}

/// Text as it stands in HTML, also inside an attribute's quotes. Control characters, which HTML has no way to write,
/// become `�`.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() && !matches!(c, '\n' | '\t') => escaped.push('\u{FFFD}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVIL: &str = "</script><img src=x onerror=\"alert('1')\">&\0";

    #[test]
    fn nothing_from_outside_becomes_markup() {
        let mut page = Page::new(EVIL, EVIL, EVIL);
        page.verdict(Tone::Bad, EVIL, &[EVIL.into()]);
        page.figures(&[Figure::new(EVIL, EVIL, EVIL)]);
        page.section(EVIL, EVIL);
        let mut table = Table::new(EVIL, &[EVIL, EVIL]);
        table.row([EVIL.to_owned(), EVIL.to_owned()]);
        page.table(&table);
        page.facts(&[(EVIL.into(), EVIL.into())]);
        let evil = || EVIL.to_owned();
        let fold = Fold { tone: Tone::Silent, word: evil(), heading: evil(), note: evil(), open: true };
        page.fold(&fold, |page| page.list(&[evil()]));
        page.meters(&[Meter { name: evil(), value: evil(), bar: evil(), share: None, missed: true }]);
        let html = page.finish();
        assert!(!html.contains("<img") && !html.contains('\0'));
        assert_eq!(html.matches("</script>").count(), 1);
        assert_eq!(
            html.matches("&lt;img src=x onerror=&quot;alert(&#39;1&#39;)&quot;&gt;&amp;\u{FFFD}").count(),
            25
        );
    }

    #[test]
    fn a_page_needs_nothing_from_elsewhere() {
        let html = Page::new("", "Title", "").finish();
        assert!(html.starts_with("<!doctype html>") && html.contains("<title>Title</title>"));
        for outside in ["http:", "https:", "src=", "href=", "@import", "url("] {
            assert!(!html.contains(outside), "{outside}");
        }
        assert!(html.contains("prefers-color-scheme:dark") && html.contains("default-src 'none'"));
    }

    #[test]
    fn figures_fill_their_rows() {
        let columns = |count: usize| {
            let mut page = Page::new("", "", "");
            page.figures(&vec![Figure::new("", "", ""); count]);
            page.body.split("--n:").nth(1).unwrap()[..1].to_owned()
        };
        assert_eq!([1, 4, 6, 7, 8].map(columns).concat(), "14644");
    }

    #[test]
    fn a_command_breaks_between_its_words_alone() {
        let mut page = Page::new("", "", "");
        page.facts(&[("command".into(), "webscale bench --html '<a b>'".into())]);
        assert!(page.body.contains("<span>bench</span> <span>--html</span> <span>&#39;&lt;a</span>"));
    }

    /// Relative luminance of `#rrggbb` or `#rgb`, as WCAG 2 defines it.
    fn luminance(colour: &str) -> f64 {
        let each = if colour.len() == 4 { 1 } else { 2 };
        let part = |at: usize| {
            let digits = &colour[1 + at * each..1 + (at + 1) * each];
            let value = f64::from(u8::from_str_radix(&digits.repeat(3 - each), 16).unwrap()) / 255.0;
            if value <= 0.039_28 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * part(0) + 0.7152 * part(1) + 0.0722 * part(2)
    }

    #[test]
    fn colours_can_be_told_from_what_is_behind_them() {
        let schemes: Vec<&str> =
            STYLE.split(":root{").skip(1).map(|text| text.split('}').next().unwrap()).collect();
        assert_eq!(schemes.len(), 2);
        for scheme in schemes {
            let colour = |name: &str| {
                let of = scheme.split(&format!("--{name}:")).nth(1).unwrap_or_else(|| panic!("{name}"));
                luminance(of.split([';', '\n']).next().unwrap())
            };
            let contrast = |one: &str, other: &str| {
                let (one, other) = (colour(one), colour(other));
                (one.max(other) + 0.05) / (one.min(other) + 0.05)
            };
            // Of text 4.5, of lines 3.
            for (text, behind) in [
                ("ink", "bg"),
                ("ink2", "bg"),
                ("ink", "surface"),
                ("ink2", "surface"),
                ("good", "goodbg"),
                ("bad", "badbg"),
                ("warn", "warnbg"),
                ("ink2", "quiet"),
            ] {
                assert!(contrast(text, behind) >= 4.5, "{text} on {behind}: {}", contrast(text, behind));
            }
            for line in ["s1", "s2", "s3", "s4", "s5", "s6", "s7", "bad"] {
                assert!(contrast(line, "surface") >= 3.0, "{line}: {}", contrast(line, "surface"));
            }
        }
    }

    #[test]
    fn tables_have_heads_for_rows_and_columns() {
        let mut table = Table::new("", &["a", "b"]);
        table.row(["x".to_owned(), "1".to_owned()]);
        let expected = "<table><thead><tr><th scope=\"col\">a</th><th scope=\"col\">b</th></tr></thead>\
                        <tbody><tr><th scope=\"row\">x</th><td>1</td></tr></tbody></table>";
        assert_eq!(table.html(|_| String::new()), expected);
        table.row(["a name that is long".to_owned(), "2".to_owned()]);
        assert!(table.html(|_| String::new()).starts_with("<table class=\"named\">"));
    }
}
