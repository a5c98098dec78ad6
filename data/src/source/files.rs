//! Which files a path stands for: itself, or all that a pattern such as `traces/*.jsonl.gz` matches, in the order of their names.

use std::path::{Path, PathBuf};

use crate::Error;

/// The files of a path, at least one. A file that is called like a pattern is itself.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let facts = std::fs::metadata(path);
    match (&facts, path.to_str()) {
        (Ok(facts), _) if facts.is_dir() => {
            Err(Error::source(path, format!("it is a folder; a pattern names the files in it, as {}", path.join("*.jsonl").display())))
        }
        (Err(_), Some(pattern)) if pattern.contains(['*', '?', '[']) => {
            let matches = glob::glob(pattern).map_err(|error| Error::source(path, format!("it is no pattern: {error}")))?;
            let mut files = Vec::new();
            for found in matches {
                let found = found.map_err(|error| Error::file("read", error.path())(std::io::Error::from(error.error().kind())))?;
                if found.is_file() {
                    files.push(found);
                }
            }
            files.sort();
            if files.is_empty() {
                return Err(Error::source(path, "no file matches this pattern"));
            }
            Ok(files)
        }
        _ => facts.map(|_| vec![path.to_owned()]).map_err(Error::file("read", path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_stands_for_its_files_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in ["b.jsonl", "a.jsonl", "a.txt", "odd[1].jsonl"] {
            std::fs::write(at(name), "").unwrap();
        }
        std::fs::create_dir(at("folder.jsonl")).unwrap();
        assert_eq!(files(&at("?.jsonl")).unwrap(), [at("a.jsonl"), at("b.jsonl")]);
        assert_eq!(files(&at("odd[1].jsonl")).unwrap(), [at("odd[1].jsonl")]);
        assert!(files(&at("*.parquet")).unwrap_err().to_string().ends_with("no file matches this pattern"));
        assert!(files(&at("none.jsonl")).unwrap_err().to_string().starts_with("cannot read "));
        assert!(files(folder.path()).unwrap_err().to_string().contains("it is a folder"));
    }
}
