//! The documents: their links lead somewhere, and nobody has to look for one.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// The files that a document links to.
fn links(document: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(document).unwrap();
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files = targets.filter(|target| !target.contains("://") && !target.starts_with('#'));
    let file = |target: &str| target.split('#').next().unwrap_or(target).to_owned();
    files.map(|target| document.parent().unwrap().join(file(target))).collect()
}

/// The document, and what can be reached from it.
fn reach(document: &Path, reached: &mut BTreeSet<PathBuf>) {
    if document.extension().is_none_or(|it| it != "md") || !reached.insert(document.to_owned()) {
        return;
    }
    for link in links(document) {
        let found = link.canonicalize();
        let found = found.unwrap_or_else(|error| panic!("{}: {link:?}: {error}", document.display()));
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
