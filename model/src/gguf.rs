//! The GGUF container, version 3: named values, named tensors, then the tensors' bytes.
//!
//! `read.rs` reads it and `write.rs` writes it. Source: ggml's `gguf.h`.

mod read;
mod write;

use std::ops::Range;

use crate::block::Format;

pub use write::{NewTensor, write};

/// The first four bytes.
const MAGIC: &[u8; 4] = b"GGUF";
/// The version that is written; version 2 has the same layout and is read too.
const VERSION: u32 = 3;
/// Where a tensor starts, unless `general.alignment` says otherwise.
const ALIGNMENT: usize = 32;

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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::Error;

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
    fn a_format_that_is_not_read_is_named() {
        let mut bytes = sample();
        let at = bytes.windows(3).position(|window| window == b"two").unwrap() + 3 + 4 + 16;
        bytes[at..at + 4].copy_from_slice(&12u32.to_le_bytes());
        let message = Gguf::parse(&bytes).unwrap_err().to_string();
        assert!(message.contains("two is stored as Q4_K (number 12)") && message.contains("Q6_K"), "{message}");
    }

    #[test]
    fn counts_beyond_the_file_allocate_nothing() {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(u64::MAX.to_le_bytes());
        bytes.extend(u64::MAX.to_le_bytes());
        assert!(Gguf::parse(&bytes).unwrap_err().to_string().contains("cut short"));
    }
}
