//! A Parquet file as rows: slices of it are loaded by polars, and a row becomes a JSON object only where it is looked at.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use polars::prelude::*;
use serde_json::{Map, Number, Value};

/// About so many bytes are loaded at once.
const SLICE_BYTES: usize = 64 << 20;

/// A Parquet file that is being read.
pub(super) struct Table {
    file: File,
    metadata: polars::io::parquet::metadata::FileMetadataRef,
    columns: Vec<String>,
    /// Columns of kinds that hold no text, number or list of them, with their kinds.
    pub passed_over: Vec<String>,
    slice_rows: usize,
    at: usize,
}

impl Table {
    pub fn open(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        let mut reader = ParquetReader::new(file.try_clone().map_err(|error| error.to_string())?);
        let (schema, metadata) = guarded(|| {
            let schema = reader.schema()?;
            Ok((schema, Arc::clone(reader.get_metadata()?)))
        })?;
        let (read, passed_over): (Vec<_>, Vec<_>) = schema.iter_values().partition(|field| is_read(field.dtype()));
        let columns = read.into_iter().map(|field| field.name.to_string()).collect();
        let passed_over = passed_over.into_iter().map(|field| format!("{} ({:?})", field.name, field.dtype())).collect();
        let bytes: usize = metadata.row_groups.iter().map(|group| group.total_byte_size()).sum();
        let slice_rows = (SLICE_BYTES / (bytes / metadata.num_rows.max(1)).max(1)).clamp(64, 1 << 16);
        Ok(Self { file, metadata, columns, passed_over, slice_rows, at: 0 })
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.metadata.num_rows
    }

    /// The number of rows that have been loaded.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The next slice; none at the end.
    pub fn next_slice(&mut self) -> Result<Option<Arc<DataFrame>>, String> {
        if self.at >= self.rows() {
            return Ok(None);
        }
        let count = self.slice_rows.min(self.rows() - self.at);
        let file = self.file.try_clone().map_err(|error| error.to_string())?;
        let mut reader = ParquetReader::new(file)
            .read_parallel(ParallelStrategy::None)
            .with_columns(Some(self.columns.clone()))
            .with_slice(Some((self.at, count)));
        reader.set_metadata(Arc::clone(&self.metadata));
        let frame = guarded(|| reader.finish()).map_err(|why| format!("after row {}: {why}", self.at))?;
        if frame.height() != count {
            return Err(format!(
                "after row {}: {count} rows are stated, {} are there; the file is not whole, get it again",
                self.at,
                frame.height()
            ));
        }
        self.at += count;
        Ok(Some(Arc::new(frame)))
    }
}

/// Damaged files make the library panic in places; to the one who gave the file that is an error like any other.
fn guarded<T>(work: impl FnOnce() -> PolarsResult<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result.map_err(|error| format!("it cannot be read as Parquet: {error}")),
        Err(_) => Err("it is a damaged Parquet file; get it again".to_owned()),
    }
}

/// What can be a field of a trace: texts, numbers, truth values, and lists and records of them.
fn is_read(kind: &ArrowDataType) -> bool {
    use ArrowDataType as Kind;
    match kind {
        Kind::Null | Kind::Boolean | Kind::Float32 | Kind::Float64 | Kind::Utf8 | Kind::LargeUtf8 | Kind::Utf8View => true,
        Kind::Int8 | Kind::Int16 | Kind::Int32 | Kind::Int64 | Kind::UInt8 | Kind::UInt16 | Kind::UInt32 | Kind::UInt64 => true,
        Kind::List(item) | Kind::LargeList(item) => is_read(item.dtype()),
        Kind::Struct(fields) => fields.iter().all(|field| is_read(field.dtype())),
        _ => false,
    }
}

/// One row of a slice.
pub(super) fn object(frame: &DataFrame, row: usize) -> Map<String, Value> {
    let value = |column: &Column| column.get(row).map_or(Value::Null, json);
    frame.columns().iter().map(|column| (column.name().to_string(), value(column))).collect()
}

fn json(value: AnyValue) -> Value {
    match value {
        AnyValue::Null => Value::Null,
        AnyValue::Boolean(truth) => Value::Bool(truth),
        AnyValue::String(text) => Value::String(text.to_owned()),
        AnyValue::List(items) => items.iter().map(json).collect(),
        AnyValue::Struct(..) => json(value.into_static()),
        AnyValue::StructOwned(parts) => {
            let (values, fields) = *parts;
            fields.into_iter().zip(values).map(|(field, value)| (field.name.to_string(), json(value))).collect()
        }
        AnyValue::Float32(_) | AnyValue::Float64(_) => value.extract::<f64>().and_then(Number::from_f64).map_or(Value::Null, Value::Number),
        AnyValue::UInt64(number) => Value::from(number),
        other => match (other.get_str(), other.extract::<i64>()) {
            (Some(text), _) => Value::String(text.to_owned()),
            (None, Some(number)) => Value::from(number),
            (None, None) => Value::Null,
        },
    }
}
