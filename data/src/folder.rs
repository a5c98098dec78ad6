//! A dataset's folder appears whole or not at all: it is built under another name and renamed at the end. What was killed in
//! between is swept away by the next run.

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Error, manifest};

/// A folder that is being built.
pub(crate) struct Building {
    target: PathBuf,
    partial: PathBuf,
    /// The dataset that was there before, for the moment in which the new one takes its place.
    former: PathBuf,
}

impl Building {
    /// Begins anew. A folder at the target that is no dataset is not touched, and an error.
    pub fn start(target: &Path) -> Result<Self, Error> {
        let Some(name) = target.file_name() else {
            return Err(Error::dataset(target, "the path has no last part to name a folder with"));
        };
        if target.exists() && !is_ours(target)? {
            return Err(Error::dataset(target, "it exists, but holds no dataset; give another folder or remove this one"));
        }
        let sibling = |suffix: &str| {
            let mut name = name.to_owned();
            name.push(suffix);
            target.with_file_name(name)
        };
        let (partial, former) = (sibling(".partial"), sibling(".former"));
        remove(&partial)?;
        // One that was killed in that moment.
        if former.exists() && !target.exists() {
            fs::rename(&former, target).map_err(Error::file("create", target))?;
        }
        remove(&former)?;
        fs::create_dir_all(&partial).map_err(Error::file("create", &partial))?;
        Ok(Self { target: target.to_owned(), partial, former })
    }

    /// Where the files go.
    pub fn path(&self) -> &Path {
        &self.partial
    }

    /// Puts the whole folder in its place, instead of the dataset that was there.
    pub fn finish(self) -> Result<(), Error> {
        for entry in fs::read_dir(&self.partial).map_err(Error::file("read", &self.partial))? {
            let path = entry.map_err(Error::file("read", &self.partial))?.path();
            fs::File::open(&path).and_then(|file| file.sync_all()).map_err(Error::file("write", &path))?;
        }
        if self.target.exists() {
            fs::rename(&self.target, &self.former).map_err(Error::file("rename", &self.target))?;
        }
        fs::rename(&self.partial, &self.target).map_err(Error::file("create", &self.target))?;
        remove(&self.former)
    }
}

/// A dataset, or an empty folder.
fn is_ours(folder: &Path) -> Result<bool, Error> {
    if folder.join(manifest::FILE).is_file() {
        return Ok(true);
    }
    let mut entries = fs::read_dir(folder).map_err(Error::file("read", folder))?;
    Ok(entries.next().is_none())
}

fn remove(folder: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", folder)(error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_something_else_is_not_touched() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("thesis");
        fs::create_dir(&target).unwrap();
        fs::write(target.join("chapter"), "all of it").unwrap();
        let error = Building::start(&target).err().expect("it must be refused");
        assert!(error.to_string().contains("holds no dataset"), "{error}");
        assert!(target.join("chapter").exists());
    }

    #[test]
    fn what_was_not_finished_is_swept_away() {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("dataset");
        let building = Building::start(&target).unwrap();
        fs::write(building.path().join("half"), "").unwrap();
        std::mem::forget(building);
        assert!(!target.exists());
        let building = Building::start(&target).unwrap();
        fs::write(building.path().join(manifest::FILE), "{}").unwrap();
        building.finish().unwrap();
        assert!(target.join(manifest::FILE).exists() && !target.join("half").exists());
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
        // Killed when the old one was away and the new one not yet there.
        fs::rename(&target, parent.path().join("dataset.former")).unwrap();
        let building = Building::start(&target).unwrap();
        assert!(target.join(manifest::FILE).exists());
        building.finish().unwrap();
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }
}
