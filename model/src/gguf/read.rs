//! Reading: every length is checked against the bytes that are there before anything is allocated, every tensor must lie whole
//! inside the file, and no two may overlap.

use super::{ALIGNMENT, Gguf, MAGIC, Tensor, VERSION, Value};
use crate::{Error, block::Format};

/// No tensor has more dimensions.
const MAX_DIMENSIONS: u32 = 4;

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
            let order = if version.swap_bytes() < 16 { ", or it is big-endian, which is not read" } else { "" };
            return Err(invalid(format!("it has version {version}, versions 2 and 3 are known{order}")));
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
        let format = Format::from_id(id).ok_or_else(|| invalid(format!("{name} is stored as {}", unknown(id))))?;
        let columns = *shape.last().expect("at least one dimension");
        if format.row_bytes(columns).is_none() {
            let (block, format) = (format.block().0, format.name());
            return Err(invalid(format!("{name} has rows of {columns} weights, {format} stores them in blocks of {block}")));
        }
        let rows = shape[..shape.len() - 1].iter().try_fold(1usize, |product, size| product.checked_mul(*size));
        let bytes = rows
            .and_then(|rows| format.tensor_bytes(rows, columns))
            .ok_or_else(|| invalid(format!("{name} has the impossible shape {shape:?}")))?;
        let offset = self.u64(&name)?;
        Ok(Head { name, shape, format, bytes, offset })
    }
}

/// What to say of a format that is not read. Numbers of ggml, llama.cpp's forks by bitnet.cpp (TL1), ik_llama.cpp and PrismML.
fn unknown(id: u32) -> String {
    let name = match id {
        3 => "Q4_1",
        6 => "Q5_0",
        7 => "Q5_1",
        10 => "Q2_K",
        11 => "Q3_K",
        12 => "Q4_K",
        13 => "Q5_K",
        16..=23 | 29 => "an IQ format",
        38 => "TL1",
        39 => "MXFP4 or TL2",
        40 => "NVFP4",
        41 => "Q1_0",
        134 => "IQ1_BN",
        135 | 335 => "IQ2_BN",
        142 => "PQ2_0",
        143 => "PTQ1_0",
        _ => "an unknown format",
    };
    let mut known = Format::ALL.map(Format::name).to_vec();
    known.dedup();
    format!("{name} (number {id}), which is not read; make the file again with one of {}", known.join(", "))
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
