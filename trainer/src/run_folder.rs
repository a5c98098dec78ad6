//! The folder of a run: its checkpoints `step-00000100`, and a lock so that two processes never train in it at once.
//!
//! A checkpoint is written under another name and renamed when the disk has it, so a folder of that name is whole, whenever the
//! process was killed.

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use crate::{Error, error::file};

const PREFIX: &str = "step-";
/// What a folder is called while it is written or taken away.
const PARTIAL: &str = ".partial-";
const LOCK: &str = "train.lock";

/// A run's folder, held by this process alone.
#[derive(Debug)]
pub(crate) struct RunFolder {
    path: PathBuf,
    /// The system frees the lock when the process ends, however it ends.
    _lock: File,
}

/// The whole checkpoints of a run, each with its step, the last one last. A folder that does not exist has none.
pub fn checkpoints(run: &Path) -> Result<Vec<(u64, PathBuf)>, Error> {
    let entries = match fs::read_dir(run) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(file("read", run))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(file("read", run))?;
        let step = entry.file_name().to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|step| step.parse().ok());
        found.extend(step.map(|step| (step, entry.path())));
    }
    found.sort();
    Ok(found)
}

/// Where the checkpoint of a step is or would be.
pub(crate) fn checkpoint(run: &Path, step: u64) -> PathBuf {
    run.join(format!("{PREFIX}{step:08}"))
}

/// The last whole checkpoint of a run.
pub fn latest(run: &Path) -> Result<Option<(u64, PathBuf)>, Error> {
    Ok(checkpoints(run)?.pop())
}

impl RunFolder {
    /// Make the folder where it is not there, take its lock, and clear away what a killed process left half written.
    pub(crate) fn open(path: &Path) -> Result<RunFolder, Error> {
        fs::create_dir_all(path).map_err(file("create", path))?;
        let lock_path = path.join(LOCK);
        let lock = File::create(&lock_path).map_err(file("create", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => (),
            Err(TryLockError::WouldBlock) => return Err(Error::Locked(path.to_owned())),
            Err(TryLockError::Error(error)) => return Err(file("lock", &lock_path)(error)),
        }
        for entry in fs::read_dir(path).map_err(file("read", path))? {
            let entry = entry.map_err(file("read", path))?;
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(PARTIAL)) {
                fs::remove_dir_all(entry.path()).map_err(file("remove", &entry.path()))?;
            }
        }
        Ok(RunFolder { path: path.to_owned(), _lock: lock })
    }

    /// Add a checkpoint, whose files `write` puts into the folder that it is given. Nothing is left of it if that fails.
    pub(crate) fn add(&self, step: u64, write: impl FnOnce(&Path) -> Result<(), Error>) -> Result<PathBuf, Error> {
        let whole = checkpoint(&self.path, step);
        write_folder_by(&whole, &self.path.join(format!("{PARTIAL}{step:08}")), write)?;
        Ok(whole)
    }

    /// Take away all but the last `keep` checkpoints and the `best` ones.
    pub(crate) fn prune(&self, keep: usize, best: &[u64]) -> Result<(), Error> {
        let all = checkpoints(&self.path)?;
        let old = &all[..all.len().saturating_sub(keep)];
        for (step, folder) in old.iter().filter(|(step, _)| !best.contains(step)) {
            // Renamed first, so that a checkpoint is never half there under its own name.
            let partial = self.path.join(format!("{PARTIAL}{step:08}"));
            fs::rename(folder, &partial).map_err(file("remove", folder))?;
            fs::remove_dir_all(&partial).map_err(file("remove", &partial))?;
        }
        Ok(())
    }
}

/// Write a folder, whose files `write` puts into the folder that it is given; the whole one appears at once. Nothing is left of it if
/// that fails.
pub(crate) fn write_folder(path: &Path, write: impl FnOnce(&Path) -> Result<(), Error>) -> Result<(), Error> {
    let mut name = std::ffi::OsString::from(PARTIAL);
    name.push(path.file_name().unwrap_or_default());
    write_folder_by(path, &path.with_file_name(name), write)
}

fn write_folder_by(whole: &Path, partial: &Path, write: impl FnOnce(&Path) -> Result<(), Error>) -> Result<(), Error> {
    let parent = whole.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let added = fs::create_dir_all(parent).and_then(|()| fs::create_dir(partial)).map_err(file("create", partial)).and_then(|()| {
        write(partial)?;
        sync_folder(partial)?;
        fs::rename(partial, whole).map_err(file("create", whole))?;
        sync_folder(parent)
    });
    if added.is_err() {
        // Give the space back. If that fails too, the next start clears it away; the first error is the one to tell.
        let _ = fs::remove_dir_all(partial);
    }
    added
}

/// Wait until the disk has the names in a folder.
fn sync_folder(path: &Path) -> Result<(), Error> {
    // Only Unix opens folders as files; elsewhere the rename alone has to do.
    if cfg!(unix) { File::open(path).and_then(|folder| folder.sync_all()).map_err(file("write", path)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(folder: &Path) -> Result<(), Error> {
        let path = folder.join("note");
        fs::write(&path, "whole").map_err(file("write", &path))
    }

    fn steps(path: &Path) -> Vec<u64> {
        checkpoints(path).unwrap().into_iter().map(|(step, _)| step).collect()
    }

    #[test]
    fn checkpoints_are_listed_in_order_and_pruned_from_the_front() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::open(&folder.path().join("run")).unwrap();
        for step in [90, 100, 20, 5, 30] {
            run.add(step, note).unwrap();
        }
        fs::write(run.path.join("step-notes.txt"), "not a checkpoint").unwrap();
        assert_eq!(steps(&run.path), [5, 20, 30, 90, 100]);
        run.prune(2, &[20]).unwrap();
        assert_eq!(steps(&run.path), [20, 90, 100]);
        run.prune(2, &[]).unwrap();
        assert_eq!(steps(&run.path), [90, 100]);
        assert_eq!(latest(&run.path).unwrap().unwrap().1, run.path.join("step-00000100"));
    }

    #[test]
    fn a_folder_that_does_not_exist_has_no_checkpoints() {
        assert_eq!(latest(Path::new("/nowhere/at/all")).unwrap(), None);
    }

    #[test]
    fn what_was_not_finished_is_never_taken_for_whole() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunFolder::open(folder.path()).unwrap();
        run.add(1, note).unwrap();
        let failed = run.add(2, |partial| {
            note(partial)?;
            assert_eq!(steps(folder.path()), [1], "it shows while it is being written");
            Err(Error::Rows("the writer fails".into()))
        });
        assert!(failed.is_err());
        assert_eq!(steps(folder.path()), [1]);
        assert!(!folder.path().join(".partial-00000002").exists());
        // What a killed process leaves.
        fs::create_dir(folder.path().join(".partial-00000003")).unwrap();
        note(&folder.path().join(".partial-00000003")).unwrap();
        drop(run);
        RunFolder::open(folder.path()).unwrap();
        assert_eq!(steps(folder.path()), [1]);
        assert!(!folder.path().join(".partial-00000003").exists());
    }

    #[test]
    fn a_run_is_trained_by_one_process() {
        let folder = tempfile::tempdir().unwrap();
        let first = RunFolder::open(folder.path()).unwrap();
        assert!(matches!(RunFolder::open(folder.path()), Err(Error::Locked(_))));
        drop(first);
        RunFolder::open(folder.path()).unwrap();
    }
}
