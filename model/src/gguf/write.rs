//! Writing: to a temporary name, then renamed, one tensor in memory at a time.

use std::{fs, io::Write, path::Path};

use super::{ALIGNMENT, MAGIC, VERSION, Value};
use crate::{Error, block::Format};

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
    tensor.format.tensor_bytes(rows.iter().product(), *columns).expect("whole blocks")
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
