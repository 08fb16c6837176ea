//! The documents: their links lead somewhere, and nobody has to look for one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The files that a document links to, and the places in them that it names behind a `#`.
fn links(document: &Path) -> Vec<(PathBuf, Option<String>)> {
    let text = fs::read_to_string(document).unwrap();
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let here = document.file_name().unwrap().to_str().unwrap();
    let link = |target: &str| {
        let (file, place) =
            target.split_once('#').map_or((target, None), |(file, place)| (file, Some(place)));
        let file = if file.is_empty() { here } else { file };
        (document.parent().unwrap().join(file), place.map(str::to_owned))
    };
    targets.filter(|target| !target.contains("://")).map(link).collect()
}

/// The names that the headings of a document get as places.
fn places(document: &Path) -> Vec<String> {
    let text = fs::read_to_string(document).unwrap();
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let place = |heading: &str| {
        let kept = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
        heading.trim_start_matches('#').trim().to_lowercase().chars().filter(kept).collect::<String>()
    };
    headings.map(|heading| place(heading).replace(' ', "-")).collect()
}

/// The document, and what can be reached from it.
fn reach(document: &Path, reached: &mut BTreeSet<PathBuf>) {
    if document.extension().is_none_or(|it| it != "md") || !reached.insert(document.to_owned()) {
        return;
    }
    for (link, place) in links(document) {
        let found = link.canonicalize();
        let found = found.unwrap_or_else(|error| panic!("{}: {link:?}: {error}", document.display()));
        assert!(
            place.as_ref().is_none_or(|place| places(&found).contains(place)),
            "{}: {link:?} has no heading for {place:?}",
            document.display()
        );
        reach(&found, reached);
    }
}

#[test]
fn all_documents_can_be_reached_from_the_readme() {
    let root = Path::new(ROOT).canonicalize().unwrap();
    let mut reached = BTreeSet::new();
    reach(&root.join("README.md"), &mut reached);
    let documents = ["", "docs"].into_iter().flat_map(|below| fs::read_dir(root.join(below)).unwrap());
    let documents = documents.map(|entry| entry.unwrap().path());
    let lost: Vec<PathBuf> = documents
        .filter(|path| path.extension().is_some_and(|it| it == "md") && !reached.contains(path))
        .collect();
    assert!(lost.is_empty(), "no link leads to {lost:?}");
    assert!(reached.len() > 10, "{reached:?}");
}
