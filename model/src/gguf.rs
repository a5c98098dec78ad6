//! The GGUF container, version 3: named values, named tensors, then the tensors' bytes.
//!
//! The reader trusts nothing: every length is checked against the bytes that are there before anything is allocated, every
//! tensor must lie whole inside the file, and no two may overlap. Source: ggml's `gguf.h`.

use std::{fs, io::Write, ops::Range, path::Path};

use crate::{Error, block::Format};

/// The first four bytes.
const MAGIC: &[u8; 4] = b"GGUF";
/// The version that is written; version 2 has the same layout and is read too.
const VERSION: u32 = 3;
/// Where a tensor starts, unless `general.alignment` says otherwise.
const ALIGNMENT: usize = 32;
/// No tensor has more dimensions.
const MAX_DIMENSIONS: u32 = 4;

/// A value of the file's metadata.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Unsigned, 8 bits.
    U8(u8),
    /// Signed, 8 bits.
    I8(i8),
    /// Unsigned, 16 bits.
    U16(u16),
    /// Signed, 16 bits.
    I16(i16),
    /// Unsigned, 32 bits.
    U32(u32),
    /// Signed, 32 bits.
    I32(i32),
    /// Unsigned, 64 bits.
    U64(u64),
    /// Signed, 64 bits.
    I64(i64),
    /// Float, 32 bits.
    F32(f32),
    /// Float, 64 bits.
    F64(f64),
    /// One byte, 0 or 1.
    Bool(bool),
    /// UTF-8 text.
    String(String),
    /// Texts.
    Strings(Vec<String>),
    /// Integers of any width.
    Integers(Vec<i64>),
    /// Floats of either width.
    Floats(Vec<f32>),
    /// Truth values.
    Bools(Vec<bool>),
}

/// One tensor of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Row-major: outputs before inputs, the reverse of the order in the file.
    pub shape: Vec<usize>,
    /// How its weights are stored.
    pub format: Format,
    /// Where its bytes are in the file.
    pub range: Range<usize>,
}

/// A file's metadata and where its tensors are.
#[derive(Clone, Debug, PartialEq)]
pub struct Gguf {
    /// In the order of the file.
    pub metadata: Vec<(String, Value)>,
    /// In the order of the file.
    pub tensors: Vec<Tensor>,
}

impl Gguf {
    /// Read the head of a file and check that its tensors are all there.
    pub fn parse(bytes: &[u8]) -> Result<Gguf, Error> {
        let mut cursor = Cursor { bytes, at: 0 };
        let magic = cursor.take(4, "the magic")?;
        if magic != MAGIC {
            return Err(invalid(format!("it starts with {magic:?}, a GGUF file starts with {MAGIC:?}")));
        }
        let version = cursor.u32("the version")?;
        if !(2..=VERSION).contains(&version) {
            return Err(invalid(format!("it has version {version}, versions 2 and 3 are known")));
        }
        let tensor_count = cursor.u64("the number of tensors")?;
        let value_count = cursor.u64("the number of values")?;

        let mut metadata: Vec<(String, Value)> = Vec::new();
        let mut keys = std::collections::HashSet::new();
        for _ in 0..value_count {
            let key = cursor.string("a key")?;
            let value = cursor.value(&key)?;
            if !keys.insert(key.clone()) {
                return Err(invalid(format!("the key {key} stands in it twice")));
            }
            metadata.push((key, value));
        }
        let alignment = match metadata.iter().find(|(key, _)| key == "general.alignment") {
            None => ALIGNMENT,
            Some((_, Value::U32(value))) if value.is_power_of_two() && *value <= 1 << 20 => *value as usize,
            Some((_, value)) => return Err(invalid(format!("general.alignment is {value:?}, a power of two up to 2^20 was needed"))),
        };

        let mut heads = Vec::new();
        for _ in 0..tensor_count {
            heads.push(cursor.tensor()?);
        }
        let data = cursor.at.next_multiple_of(alignment);
        let tensors = heads.into_iter().map(|head| place(head, data, alignment, bytes.len())).collect::<Result<Vec<_>, _>>()?;
        check_apart(&tensors)?;
        Ok(Gguf { metadata, tensors })
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The tensor of a name.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }
}

impl Value {
    /// A non-negative integer of any width.
    pub fn as_usize(&self) -> Option<usize> {
        match *self {
            Value::U8(x) => Some(x.into()),
            Value::U16(x) => Some(x.into()),
            Value::U32(x) => usize::try_from(x).ok(),
            Value::U64(x) => usize::try_from(x).ok(),
            Value::I8(x) => usize::try_from(x).ok(),
            Value::I16(x) => usize::try_from(x).ok(),
            Value::I32(x) => usize::try_from(x).ok(),
            Value::I64(x) => usize::try_from(x).ok(),
            _ => None,
        }
    }

    /// A float of either width.
    pub fn as_f32(&self) -> Option<f32> {
        match *self {
            Value::F32(x) => Some(x),
            Value::F64(x) => Some(x as f32),
            _ => None,
        }
    }

    /// A text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// A truth value.
    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Value::Bool(x) => Some(x),
            _ => None,
        }
    }
}

/// A tensor's head before its place is known.
struct Head {
    name: String,
    shape: Vec<usize>,
    format: Format,
    bytes: usize,
    offset: u64,
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: u64, what: &str) -> Result<&'a [u8], Error> {
        let left = self.bytes.len() - self.at;
        match usize::try_from(count) {
            Ok(count) if count <= left => {
                self.at += count;
                Ok(&self.bytes[self.at - count..self.at])
            }
            _ => {
                let found =
                    format!("the file ends at byte {} within {what}, which needs {count} bytes from byte {}", self.bytes.len(), self.at);
                Err(invalid(format!("{found}; it is cut short or damaged, fetch or export it again")))
            }
        }
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], Error> {
        Ok(self.take(N as u64, what)?.try_into().expect("as many bytes as were asked for"))
    }

    fn u32(&mut self, what: &str) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    fn u64(&mut self, what: &str) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    fn string(&mut self, what: &str) -> Result<String, Error> {
        let length = self.u64(what)?;
        let start = self.at;
        let bytes = self.take(length, what)?;
        String::from_utf8(bytes.to_vec()).map_err(|_| invalid(format!("{what} at byte {start} is not UTF-8")))
    }

    fn bool(&mut self, key: &str) -> Result<bool, Error> {
        match self.array::<1>(key)? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(invalid(format!("{key} holds {other} where 0 or 1 was needed"))),
        }
    }

    fn value(&mut self, key: &str) -> Result<Value, Error> {
        let kind = self.u32(key)?;
        Ok(match kind {
            0 => Value::U8(u8::from_le_bytes(self.array(key)?)),
            1 => Value::I8(i8::from_le_bytes(self.array(key)?)),
            2 => Value::U16(u16::from_le_bytes(self.array(key)?)),
            3 => Value::I16(i16::from_le_bytes(self.array(key)?)),
            4 => Value::U32(u32::from_le_bytes(self.array(key)?)),
            5 => Value::I32(i32::from_le_bytes(self.array(key)?)),
            6 => Value::F32(f32::from_le_bytes(self.array(key)?)),
            7 => Value::Bool(self.bool(key)?),
            8 => Value::String(self.string(key)?),
            9 => self.list(key)?,
            10 => Value::U64(u64::from_le_bytes(self.array(key)?)),
            11 => Value::I64(i64::from_le_bytes(self.array(key)?)),
            12 => Value::F64(f64::from_le_bytes(self.array(key)?)),
            other => return Err(invalid(format!("{key} has type {other}, types 0 to 12 are known"))),
        })
    }

    fn list(&mut self, key: &str) -> Result<Value, Error> {
        let kind = self.u32(key)?;
        let count = self.u64(key)?;
        // No element is smaller than a byte, so that a count beyond the file is refused before anything is allocated.
        let left = self.bytes.len() - self.at;
        if count > left as u64 {
            return Err(invalid(format!("{key} declares {count} elements, the file has {left} bytes left; it is cut short or damaged")));
        }
        macro_rules! list {
            ($variant:ident, $type:ty) => {{
                let bytes = self.take(count * size_of::<$type>() as u64, key)?;
                let read = |chunk: &[u8]| <$type>::from_le_bytes(chunk.try_into().expect("a chunk of the type's size"));
                Value::$variant(bytes.chunks_exact(size_of::<$type>()).map(|chunk| read(chunk) as _).collect())
            }};
        }
        Ok(match kind {
            0 => list!(Integers, u8),
            1 => list!(Integers, i8),
            2 => list!(Integers, u16),
            3 => list!(Integers, i16),
            4 => list!(Integers, u32),
            5 => list!(Integers, i32),
            6 => list!(Floats, f32),
            7 => Value::Bools((0..count).map(|_| self.bool(key)).collect::<Result<_, _>>()?),
            8 => Value::Strings((0..count).map(|_| self.string(key)).collect::<Result<_, _>>()?),
            11 => list!(Integers, i64),
            12 => list!(Floats, f64),
            other => return Err(invalid(format!("{key} is a list of type {other}, which is not supported"))),
        })
    }

    fn tensor(&mut self) -> Result<Head, Error> {
        let name = self.string("a tensor's name")?;
        let dimensions = self.u32(&name)?;
        if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
            return Err(invalid(format!("{name} has {dimensions} dimensions, 1 to {MAX_DIMENSIONS} were needed")));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            let size = self.u64(&name)?;
            shape.push(usize::try_from(size).map_err(|_| invalid(format!("{name} has a dimension of {size}")))?);
        }
        shape.reverse();
        let id = self.u32(&name)?;
        let known = || Format::ALL.map(Format::name).join(", ");
        let format = Format::from_id(id)
            .ok_or_else(|| invalid(format!("{name} is stored in ggml format {id}, these are known: {}; convert the file", known())))?;
        let columns = *shape.last().expect("at least one dimension");
        let row_bytes = format.row_bytes(columns).ok_or_else(|| {
            invalid(format!("{name} has rows of {columns} weights, {} stores them in blocks of {}", format.name(), format.block().0))
        })?;
        let rows = shape[..shape.len() - 1].iter().try_fold(1usize, |product, size| product.checked_mul(*size));
        let bytes = rows
            .and_then(|rows| rows.checked_mul(row_bytes))
            .ok_or_else(|| invalid(format!("{name} has the impossible shape {shape:?}")))?;
        let offset = self.u64(&name)?;
        Ok(Head { name, shape, format, bytes, offset })
    }
}

fn place(head: Head, data: usize, alignment: usize, length: usize) -> Result<Tensor, Error> {
    let Head { name, shape, format, bytes, offset } = head;
    if offset % alignment as u64 != 0 {
        return Err(invalid(format!("{name} starts at offset {offset}, which is not a multiple of {alignment}")));
    }
    let start = usize::try_from(offset).ok().and_then(|offset| data.checked_add(offset));
    let end = start.and_then(|start| start.checked_add(bytes));
    match (start, end) {
        (Some(start), Some(end)) if end <= length => Ok(Tensor { name, shape, format, range: start..end }),
        _ => {
            let needed = format!("{name} needs {bytes} bytes from offset {offset} behind byte {data}, the file has {length} bytes");
            Err(invalid(format!("{needed}; it is cut short or damaged, fetch or export it again")))
        }
    }
}

fn check_apart(tensors: &[Tensor]) -> Result<(), Error> {
    let mut order: Vec<&Tensor> = tensors.iter().collect();
    order.sort_by_key(|tensor| (tensor.range.start, tensor.range.end));
    for pair in order.windows(2) {
        if pair[0].range.end > pair[1].range.start {
            return Err(invalid(format!("the tensors {} and {} overlap", pair[0].name, pair[1].name)));
        }
    }
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(invalid(format!("the tensor {} stands in it twice", pair[0]))),
        None => Ok(()),
    }
}

fn invalid(message: String) -> Error {
    Error::Packed(message)
}

/// A tensor that is about to be written.
pub struct NewTensor {
    /// Its name.
    pub name: String,
    /// Row-major.
    pub shape: Vec<usize>,
    /// How its weights are stored.
    pub format: Format,
}

/// Write a file: to a temporary name in the same folder, then renamed. `bytes_of` gives the bytes of each tensor in turn, so that
/// only one is held at a time. Returns the file's length in bytes.
pub fn write<E: From<Error>>(
    path: &Path,
    metadata: &[(String, Value)],
    tensors: &[NewTensor],
    mut bytes_of: impl FnMut(usize) -> Result<Vec<u8>, E>,
) -> Result<u64, E> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |source| E::from(Error::File { doing: "write", path: path.to_owned(), source });
    fs::create_dir_all(folder).map_err(failed)?;
    let file = for_all_readers().tempfile_in(folder).map_err(failed)?;
    let mut out = std::io::BufWriter::with_capacity(1 << 20, file);

    let head = head(metadata, tensors);
    let mut written = head.len();
    out.write_all(&head).map_err(failed)?;
    for (index, tensor) in tensors.iter().enumerate() {
        let bytes = bytes_of(index)?;
        assert_eq!(bytes.len(), tensor_bytes(tensor), "{} has another number of bytes than its shape says", tensor.name);
        out.write_all(&bytes).map_err(failed)?;
        let padding = bytes.len().next_multiple_of(ALIGNMENT) - bytes.len();
        out.write_all(&[0; ALIGNMENT][..padding]).map_err(failed)?;
        written += bytes.len() + padding;
    }
    let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(written as u64)
}

/// A temporary file is its owner's alone unless one asks; the permissions asked for are those of any new file, less the umask.
fn for_all_readers() -> tempfile::Builder<'static, 'static> {
    #[cfg_attr(not(unix), expect(unused_mut, reason = "only there are permissions to set"))]
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder
}

fn tensor_bytes(tensor: &NewTensor) -> usize {
    let (columns, rows) = tensor.shape.split_last().expect("a tensor has a dimension");
    rows.iter().product::<usize>() * tensor.format.row_bytes(*columns).expect("whole blocks")
}

fn head(metadata: &[(String, Value)], tensors: &[NewTensor]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(MAGIC);
    out.extend(VERSION.to_le_bytes());
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        put_string(&mut out, key);
        put_value(&mut out, value);
    }
    let mut offset = 0u64;
    for tensor in tensors {
        put_string(&mut out, &tensor.name);
        out.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|size| out.extend((*size as u64).to_le_bytes()));
        out.extend(tensor.format.id().to_le_bytes());
        out.extend(offset.to_le_bytes());
        offset += tensor_bytes(tensor).next_multiple_of(ALIGNMENT) as u64;
    }
    out.resize(out.len().next_multiple_of(ALIGNMENT), 0);
    out
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    let kind = |out: &mut Vec<u8>, kind: u32| out.extend(kind.to_le_bytes());
    let list = |out: &mut Vec<u8>, element: u32, count: usize| {
        out.extend(9u32.to_le_bytes());
        out.extend(element.to_le_bytes());
        out.extend((count as u64).to_le_bytes());
    };
    macro_rules! put {
        ($kind:expr, $x:expr) => {{
            kind(out, $kind);
            out.extend($x.to_le_bytes());
        }};
    }
    match value {
        Value::U8(x) => put!(0, x),
        Value::I8(x) => put!(1, x),
        Value::U16(x) => put!(2, x),
        Value::I16(x) => put!(3, x),
        Value::U32(x) => put!(4, x),
        Value::I32(x) => put!(5, x),
        Value::F32(x) => put!(6, x),
        Value::Bool(x) => put!(7, u8::from(*x)),
        Value::U64(x) => put!(10, x),
        Value::I64(x) => put!(11, x),
        Value::F64(x) => put!(12, x),
        Value::String(text) => {
            kind(out, 8);
            put_string(out, text);
        }
        Value::Strings(texts) => {
            list(out, 8, texts.len());
            texts.iter().for_each(|text| put_string(out, text));
        }
        // Token types are the only integers that are written as a list, and readers want 32 bits there.
        Value::Integers(numbers) if numbers.iter().all(|x| i32::try_from(*x).is_ok()) => {
            list(out, 5, numbers.len());
            numbers.iter().for_each(|x| out.extend((*x as i32).to_le_bytes()));
        }
        Value::Integers(numbers) => {
            list(out, 11, numbers.len());
            numbers.iter().for_each(|x| out.extend(x.to_le_bytes()));
        }
        Value::Floats(numbers) => {
            list(out, 6, numbers.len());
            numbers.iter().for_each(|x| out.extend(x.to_le_bytes()));
        }
        Value::Bools(values) => {
            list(out, 7, values.len());
            out.extend(values.iter().map(|x| u8::from(*x)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sample.gguf");
        let metadata = vec![
            ("general.architecture".to_owned(), Value::String("bitnet".into())),
            ("a".into(), Value::U32(7)),
            ("b".into(), Value::Strings(vec!["x".into(), "".into(), "long text".into()])),
            ("c".into(), Value::Integers(vec![1, -2])),
            ("d".into(), Value::Floats(vec![0.5])),
            ("e".into(), Value::Bool(true)),
            ("f".into(), Value::F32(1e-5)),
        ];
        let tensors = [
            NewTensor { name: "one".into(), shape: vec![3, 2], format: Format::F32 },
            NewTensor { name: "two".into(), shape: vec![5, 256], format: Format::Tq2_0 },
        ];
        let written = write::<Error>(&path, &metadata, &tensors, |index| Ok(vec![index as u8; [24, 330][index]])).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, written);
        let gguf = Gguf::parse(&bytes).unwrap();
        assert_eq!(gguf.metadata, metadata);
        bytes
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = sample();
        let gguf = Gguf::parse(&bytes).unwrap();
        let two = gguf.tensor("two").unwrap();
        assert_eq!((two.shape.as_slice(), two.format), ([5, 256].as_slice(), Format::Tq2_0));
        assert!(two.range.start.is_multiple_of(32) && bytes[two.range.clone()].iter().all(|byte| *byte == 1));
        assert_eq!(gguf.get("a").and_then(Value::as_usize), Some(7));
    }

    #[test]
    fn every_truncation_is_refused() {
        let bytes = sample();
        let end = Gguf::parse(&bytes).unwrap().tensors[1].range.end;
        for length in 0..end {
            let error = Gguf::parse(&bytes[..length]).unwrap_err().to_string();
            assert!(error.starts_with("cannot read the packed file: "), "{length}: {error}");
        }
    }

    #[test]
    fn every_changed_byte_is_read_or_refused() {
        let bytes = sample();
        for at in 0..bytes.len() {
            for change in [1, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= change;
                if let Ok(gguf) = Gguf::parse(&changed) {
                    assert!(gguf.tensors.iter().all(|tensor| tensor.range.end <= changed.len()));
                }
            }
        }
    }

    #[test]
    fn counts_beyond_the_file_allocate_nothing() {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(u64::MAX.to_le_bytes());
        bytes.extend(u64::MAX.to_le_bytes());
        assert!(Gguf::parse(&bytes).unwrap_err().to_string().contains("cut short"));
    }
}
