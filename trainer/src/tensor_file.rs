//! Named f32 tensors in a safetensors file. Reading maps the file and hands out one tensor at a time, so that a damaged file costs
//! nothing and a large one is never held twice.

use std::{
    collections::HashSet,
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::{
    Dtype, SafeTensors,
    tensor::{Metadata, TensorInfo},
};

use crate::{Error, error::file};

/// An open file of tensors.
#[derive(Debug)]
pub(crate) struct TensorFile {
    path: PathBuf,
    bytes: Mmap,
    metadata: Metadata,
    /// Where the first tensor's bytes are.
    start: usize,
}

impl TensorFile {
    /// Open a file and check that its header and its length agree.
    pub(crate) fn open(path: &Path) -> Result<TensorFile, Error> {
        let opened = File::open(path).map_err(file("read", path))?;
        // SAFETY: a checkpoint's files are written under another name and renamed, and never changed after that. A file that
        // someone cuts short while it is being read ends the program, as it does for every program that maps files.
        let bytes = unsafe { Mmap::map(&opened) }.map_err(file("read", path))?;
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| Error::Checkpoint {
            path: path.to_owned(),
            found: format!("it is damaged or cut off at {} bytes ({error})", bytes.len()),
        })?;
        Ok(TensorFile { path: path.to_owned(), start: size_of::<u64>() + header, bytes, metadata })
    }

    /// Whether the file holds exactly these tensors; every fault is named in one error.
    pub(crate) fn check<'a>(&self, expected: impl IntoIterator<Item = (String, &'a [usize])>) -> Result<(), Error> {
        let mut faults = Vec::new();
        let mut known = HashSet::new();
        for (name, shape) in expected {
            match self.metadata.info(&name) {
                None => faults.push(format!("{name} is missing")),
                Some(info) if info.shape != shape => faults.push(format!("{name} has the shape {:?}, {shape:?} was needed", info.shape)),
                Some(TensorInfo { dtype: Dtype::F32 | Dtype::F16 | Dtype::BF16, .. }) => (),
                Some(info) => faults.push(format!("{name} is stored as {}, F32, F16 or BF16 was needed", info.dtype)),
            }
            known.insert(name);
        }
        let extra = self.metadata.offset_keys().into_iter().filter(|name| !known.contains(name));
        faults.extend(extra.map(|name| format!("{name} is no tensor of this student")));
        if faults.is_empty() { Ok(()) } else { Err(Error::Checkpoint { path: self.path.clone(), found: faults.join("; ") }) }
    }

    /// The values of a tensor.
    ///
    /// # Panics
    /// If [`TensorFile::check`] did not find it.
    pub(crate) fn values(&self, name: &str) -> Vec<f32> {
        let info = self.metadata.info(name).expect("the tensor was checked");
        let (from, to) = info.data_offsets;
        let bytes = &self.bytes[self.start + from..self.start + to];
        match info.dtype {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            Dtype::F16 => bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect(),
            Dtype::BF16 => bytes.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect(),
            other => unreachable!("{name} was checked, and is stored as {other}"),
        }
    }
}

/// Write tensors, each with its name, shape and values, in this order, and wait until the disk has them.
pub(crate) fn write(path: &Path, tensors: &[(String, &[usize], &[f32])]) -> Result<(), Error> {
    let mut end = 0;
    let describe = |(name, shape, values): &(String, &[usize], &[f32])| {
        let from = end;
        end += size_of_val(*values);
        (name.clone(), TensorInfo { dtype: Dtype::F32, shape: shape.to_vec(), data_offsets: (from, end) })
    };
    let metadata = Metadata::new(None, tensors.iter().map(describe).collect()).expect("tensors follow each other without gaps");
    let mut header = serde_json::to_vec(&metadata).expect("a header can be written");
    // Readers map the file and want the tensors aligned.
    header.resize(header.len().next_multiple_of(size_of::<u64>()), b' ');

    let created = File::create(path).map_err(file("create", path))?;
    let mut out = BufWriter::with_capacity(1 << 20, created);
    let mut write_all = || {
        out.write_all(&(header.len() as u64).to_le_bytes())?;
        out.write_all(&header)?;
        for value in tensors.iter().flat_map(|(_, _, values)| *values) {
            out.write_all(&value.to_le_bytes())?;
        }
        out.flush()?;
        out.get_ref().sync_all()
    };
    write_all().map_err(file("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(path: &Path) -> [(&'static str, [usize; 2], Vec<f32>); 2] {
        let tensors = [("b", [2, 3], vec![0.0, -0.0, f32::MIN_POSITIVE, 1.5, f32::MAX, -1e-40]), ("a", [1, 1], vec![f32::EPSILON])];
        let borrowed: Vec<_> = tensors.iter().map(|(name, shape, values)| (name.to_string(), &shape[..], &values[..])).collect();
        write(path, &borrowed).unwrap();
        tensors
    }

    #[test]
    fn what_is_written_is_read_to_the_last_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        let tensors = example(&path);
        let file = TensorFile::open(&path).unwrap();
        file.check(tensors.iter().map(|(name, shape, _)| (name.to_string(), &shape[..]))).unwrap();
        for (name, _, values) in tensors {
            let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
            assert_eq!(bits(&file.values(name)), bits(&values));
        }
        let bytes = std::fs::read(&path).unwrap();
        example(&path);
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }

    #[test]
    fn every_fault_is_named_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        example(&path);
        let file = TensorFile::open(&path).unwrap();
        let message = file.check([("a".into(), &[1usize, 2][..]), ("c".into(), &[1][..])]).unwrap_err().to_string();
        for part in ["x.safetensors: ", "a has the shape [1, 1], [1, 2] was needed", "c is missing", "b is no tensor of this student"] {
            assert!(message.contains(part), "{message}");
        }
    }

    #[test]
    fn a_damaged_or_cut_file_is_a_sentence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.safetensors");
        example(&path);
        let whole = std::fs::read(&path).unwrap();
        for len in 0..whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            let message = TensorFile::open(&path).unwrap_err().to_string();
            assert!(message.contains("x.safetensors: it is damaged or cut off at"), "{len}: {message}");
        }
        let header = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
        for at in 0..8 + header {
            let mut damaged = whole.clone();
            damaged[at] ^= 1 << (at % 7);
            std::fs::write(&path, &damaged).unwrap();
            // Some damage only changes a name, which the check finds.
            if let Ok(file) = TensorFile::open(&path) {
                let _ = file.check([("b".into(), &[2usize, 3][..])]);
            }
        }
    }
}
