//! Files that are whole or not there: written to a temporary name, then renamed.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::Error;
use crate::error::file_error;

/// Write a file and the folders above it.
pub(crate) fn write_file(path: &Path, write: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>) -> Result<(), Error> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let whole = || -> io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let mut file = for_all_readers().tempfile_in(folder)?;
        let mut writer = BufWriter::new(file.as_file_mut());
        write(&mut writer)?;
        writer.flush()?;
        drop(writer);
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    whole().map_err(file_error("write", path))
}

/// A temporary file is its owner's alone unless one asks; the permissions asked for here are those of any new file, less the umask.
fn for_all_readers() -> tempfile::Builder<'static, 'static> {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "only there are permissions to set"))]
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/file");
        write_file(&path, |out| out.write_all(b"whole")).unwrap();
        let failed = write_file(&path, |out| out.write_all(b"ha").and(Err(io::Error::other("no more"))));
        assert!(failed.unwrap_err().to_string().starts_with("cannot write "));
        assert_eq!(std::fs::read(&path).unwrap(), b"whole");
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn it_can_be_read_by_whom_any_new_file_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let [ours, usual] = ["ours", "usual"].map(|name| folder.path().join(name));
        write_file(&ours, |out| out.write_all(b"1")).unwrap();
        std::fs::write(&usual, b"1").unwrap();
        assert_eq!(ours.metadata().unwrap().permissions(), usual.metadata().unwrap().permissions());
    }
}
