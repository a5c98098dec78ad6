//! Named tensors in safetensors files. Reading maps the files and hands out one tensor at a time, so that a damaged file costs
//! nothing and a large one is never held twice; writing holds one tensor at a time.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fs::{self, File},
    io::{BufWriter, Write},
    ops::Range,
    path::{Path, PathBuf},
};

use half::{bf16, f16};
use memmap2::Mmap;
#[cfg(unix)]
use memmap2::UncheckedAdvice;
use safetensors::{
    Dtype, SafeTensors,
    tensor::{Metadata, TensorInfo},
};
use serde::Deserialize;

use crate::{Error, error::file};

/// A folder's weights in one file.
pub(crate) const WEIGHTS: &str = "model.safetensors";
/// Which of several files each of a folder's weights is in.
const INDEX: &str = "model.safetensors.index.json";

/// Open files of tensors.
#[derive(Debug)]
pub(crate) struct TensorFiles {
    /// The file, or the folder of several.
    path: PathBuf,
    files: Vec<Mmap>,
    tensors: HashMap<String, Place>,
    /// What is wrong with the files taken together.
    pub(crate) faults: Vec<String>,
}

/// Where a tensor is.
#[derive(Debug)]
struct Place {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    range: Range<usize>,
}

/// One tensor as it is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stored<'a> {
    pub(crate) dtype: Dtype,
    pub(crate) shape: &'a [usize],
    pub(crate) bytes: &'a [u8],
}

/// The file that says where tensors are.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl TensorFiles {
    /// Open one file and check that its header and its length agree.
    pub(crate) fn open(path: &Path) -> Result<TensorFiles, Error> {
        let mut files = TensorFiles { path: path.to_owned(), files: Vec::new(), tensors: HashMap::new(), faults: Vec::new() };
        files.add(path)?;
        Ok(files)
    }

    /// Open the weights of a Hugging Face folder, which are in one file or in several that an index lists.
    pub(crate) fn open_folder(folder: &Path) -> Result<TensorFiles, Error> {
        let index_path = folder.join(INDEX);
        if folder.join(WEIGHTS).exists() || !index_path.exists() {
            return TensorFiles::open(&folder.join(WEIGHTS));
        }
        let text = fs::read_to_string(&index_path).map_err(file("read", &index_path))?;
        let refuse = |found: String| Error::Checkpoint { path: index_path.clone(), found };
        let index: Index = serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
        let names: BTreeSet<&String> = index.weight_map.values().collect();
        if let Some(name) = names.iter().find(|name| Path::new(name).file_name().is_none_or(|last| last != name.as_str())) {
            return Err(refuse(format!("it names {name:?}; files of the same folder were needed")));
        }
        let mut files = TensorFiles { path: folder.to_owned(), files: Vec::new(), tensors: HashMap::new(), faults: Vec::new() };
        for name in &names {
            files.add(&folder.join(name))?;
        }
        let names: Vec<&String> = names.into_iter().collect();
        for (tensor, named) in &index.weight_map {
            let place = files.tensors.get(tensor);
            if place.is_none_or(|place| names[place.file] != named) {
                files.faults.push(format!("{tensor} is not in {named}, where {INDEX} says that it is"));
            }
        }
        Ok(files)
    }

    fn add(&mut self, path: &Path) -> Result<(), Error> {
        let opened = File::open(path).map_err(file("read", path))?;
        // SAFETY: a checkpoint's files are written under another name and renamed, and never changed after that. A file that
        // someone cuts short while it is being read ends the program, as it does for every program that maps files.
        let bytes = unsafe { Mmap::map(&opened) }.map_err(file("read", path))?;
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| Error::Checkpoint {
            path: path.to_owned(),
            found: format!("it is damaged or cut off at {} bytes ({error})", bytes.len()),
        })?;
        let start = size_of::<u64>() + header;
        for (name, TensorInfo { dtype, shape, data_offsets: (from, to) }) in metadata.tensors() {
            let place = Place { file: self.files.len(), dtype: *dtype, shape: shape.clone(), range: start + from..start + to };
            if self.tensors.insert(name.clone(), place).is_some() {
                self.faults.push(format!("{name} is in two files"));
            }
        }
        self.files.push(bytes);
        Ok(())
    }

    /// Every tensor's name, in order.
    pub(crate) fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.tensors.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// A tensor, if it is there.
    pub(crate) fn get(&self, name: &str) -> Option<Stored<'_>> {
        let place = self.tensors.get(name)?;
        Some(Stored { dtype: place.dtype, shape: &place.shape, bytes: &self.files[place.file][place.range.clone()] })
    }

    /// Say that a tensor will not be read again soon, so that its pages need not stay in memory.
    pub(crate) fn release(&self, name: &str) {
        // SAFETY: the map is of a file and read-only, so that a page which is looked at again is the file's once more.
        #[cfg(unix)]
        if let Some(place) = self.tensors.get(name) {
            let advised =
                unsafe { self.files[place.file].unchecked_advise_range(UncheckedAdvice::DontNeed, place.range.start, place.range.len()) };
            // Where this fails, the pages merely stay.
            let _ = advised;
        }
        #[cfg(not(unix))]
        let _ = name;
    }

    /// Whether the file holds exactly these tensors as floats; every fault is named in one error.
    pub(crate) fn check<'a>(&self, expected: impl IntoIterator<Item = (String, &'a [usize])>) -> Result<(), Error> {
        let mut faults = self.faults.clone();
        let mut known = HashSet::new();
        for (name, shape) in expected {
            faults.extend(self.float_fault(&name, shape));
            known.insert(name);
        }
        let extra = self.names().into_iter().filter(|name| !known.contains(*name));
        faults.extend(extra.map(extra_fault));
        self.refuse(faults)
    }

    /// What keeps a tensor from being floats of this shape.
    pub(crate) fn float_fault(&self, name: &str, shape: &[usize]) -> Option<String> {
        match self.get(name) {
            None => Some(format!("{name} is missing")),
            Some(stored) if stored.shape != shape => Some(format!("{name} has the shape {:?}, {shape:?} was needed", stored.shape)),
            Some(stored) if !stored.is_float() => Some(format!("{name} is stored as {}, F32, F16 or BF16 was needed", stored.dtype)),
            Some(_) => None,
        }
    }

    /// All faults in one error, if there are any.
    pub(crate) fn refuse(&self, faults: Vec<String>) -> Result<(), Error> {
        if faults.is_empty() { Ok(()) } else { Err(Error::Checkpoint { path: self.path.clone(), found: faults.join("; ") }) }
    }

    /// The values of a tensor.
    ///
    /// # Panics
    /// If [`TensorFiles::check`] did not find it.
    pub(crate) fn values(&self, name: &str) -> Vec<f32> {
        self.get(name).expect("the tensor was checked").values()
    }
}

/// What is said of a tensor that no one asked for.
pub(crate) fn extra_fault(name: &str) -> String {
    format!("{name} is no tensor of this student")
}

impl Stored<'_> {
    /// Whether it is stored in a float type that is read.
    pub(crate) fn is_float(&self) -> bool {
        matches!(self.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
    }

    /// Its values.
    ///
    /// # Panics
    /// If it is not stored as floats.
    pub(crate) fn values(&self) -> Vec<f32> {
        match self.dtype {
            Dtype::F32 => self.bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            Dtype::F16 => self.bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect(),
            Dtype::BF16 => self.bytes.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect(),
            other => unreachable!("a tensor was checked to be floats, and is stored as {other}"),
        }
    }
}

/// A tensor that is about to be written.
pub(crate) struct NewTensor {
    pub(crate) name: String,
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
}

impl NewTensor {
    /// A tensor of f32.
    pub(crate) fn f32(name: String, shape: &[usize]) -> NewTensor {
        NewTensor { name, dtype: Dtype::F32, shape: shape.to_vec() }
    }

    fn len_bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// Write tensors in this order, of which `bytes_of` gives one after the other, and wait until the disk has them.
///
/// # Panics
/// If a tensor has another number of bytes than its shape says.
pub(crate) fn write(path: &Path, tensors: &[NewTensor], mut bytes_of: impl FnMut(usize) -> Result<Vec<u8>, Error>) -> Result<(), Error> {
    let mut end = 0;
    let describe = |tensor: &NewTensor| {
        let from = end;
        end += tensor.len_bytes();
        (tensor.name.clone(), TensorInfo { dtype: tensor.dtype, shape: tensor.shape.clone(), data_offsets: (from, end) })
    };
    // Other tools refuse a file that does not say which framework's layout its tensors have.
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let metadata = Metadata::new(Some(format), tensors.iter().map(describe).collect()).expect("tensors follow each other without gaps");
    let mut header = serde_json::to_vec(&metadata).expect("a header can be written");
    // Readers map the file and want the tensors aligned.
    header.resize(header.len().next_multiple_of(size_of::<u64>()), b' ');

    let created = File::create(path).map_err(file("create", path))?;
    let mut out = BufWriter::with_capacity(1 << 20, created);
    let mut put = |bytes: &[u8]| out.write_all(bytes).map_err(file("write", path));
    put(&(header.len() as u64).to_le_bytes())?;
    put(&header)?;
    for (index, tensor) in tensors.iter().enumerate() {
        let bytes = bytes_of(index)?;
        assert_eq!(bytes.len(), tensor.len_bytes(), "the bytes of {}", tensor.name);
        put(&bytes)?;
    }
    out.flush().and_then(|()| out.get_ref().sync_all()).map_err(file("write", path))
}

/// Values as the bytes of f32.
pub(crate) fn f32_bytes(values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; size_of_val(values)];
    bytes.as_chunks_mut().0.iter_mut().zip(values).for_each(|(bytes, value)| *bytes = value.to_le_bytes());
    bytes
}

#[cfg(test)]
mod tests;
