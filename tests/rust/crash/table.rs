//! The table "Crash points" of docs/protocol.md and the source name the same points.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

fn sources(dir: &Path, each: &mut impl FnMut(&Path, String)) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, each);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("src/crash_point.rs") {
            each(&path, std::fs::read_to_string(&path).unwrap());
        }
    }
}

/// Every `crash_point!` of the source, and the files that it stands in.
pub fn points() -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut points = BTreeMap::<String, BTreeSet<String>>::new();
    sources(&root, &mut |path, text| {
        for rest in text.split("crash_point!(\"").skip(1) {
            let name = rest.split('"').next().unwrap().to_string();
            let file = path.strip_prefix(&root).unwrap().display().to_string();
            points.entry(name).or_default().insert(file);
        }
    });
    assert!(points.len() > 40);
    points
}

#[test]
fn the_table_of_crash_points_in_the_docs_names_those_of_the_source() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/protocol.md");
    let docs = std::fs::read_to_string(docs).unwrap();
    let read_section = docs.split("\n## Crash points\n").nth(1).expect("a section").split("\n## ").next().unwrap();
    let mut table = BTreeMap::new();
    for line in read_section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 4, "{line}");
        assert!(cells.iter().all(|cell| !cell.is_empty()), "{line}");
        let files = cells[1].split(", ").map(|file| file.trim_matches('`').to_string()).collect();
        let again = table.insert(cells[0].trim_matches('`').to_string(), files);
        assert_eq!(again, None, "{} stands twice", cells[0]);
    }
    assert_eq!(table, points(), "left the docs, right the source");
}
