//! A file as a stream of bytes, unpacked where it is packed: gzip and zstd are recognised by their first bytes, whatever the name says.

use std::fs::File;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Bytes that are read from the disk, and unpacked, at once.
const BUFFER_BYTES: usize = 1 << 18;

/// The bytes of a file, unpacked.
pub(super) type Stream = Box<dyn BufRead + Send>;

/// Opens a file; `read_bytes` counts what has been read of it, as it lies on the disk.
pub(super) fn open(path: &Path, read_bytes: &Arc<AtomicU64>) -> Result<Stream, Error> {
    let file = Counting { inner: File::open(path)?, count: Arc::clone(read_bytes) };
    let mut raw = BufReader::with_capacity(BUFFER_BYTES, file);
    Ok(match raw.fill_buf()? {
        [0x1f, 0x8b, ..] => Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(raw))),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Box::new(BufReader::with_capacity(BUFFER_BYTES, Frames::new(raw))),
        _ => Box::new(raw),
    })
}

struct Counting<R> {
    inner: R,
    count: Arc<AtomicU64>,
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// All frames of a zstd file. The library's own stream ends with the first one, and parallel packers write many.
struct Frames<R> {
    raw: R,
    frame: FrameDecoder,
    is_open: bool,
}

impl<R: BufRead> Frames<R> {
    fn new(raw: R) -> Self {
        Self { raw, frame: FrameDecoder::new(), is_open: false }
    }

    /// Goes on to the next frame; false at the end of the file.
    fn open_next(&mut self) -> Result<bool, Error> {
        while !self.raw.fill_buf()?.is_empty() {
            match self.frame.init(&mut self.raw) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    std::io::copy(&mut (&mut self.raw).take(u64::from(length)), &mut std::io::sink())?;
                }
                Err(error) => return Err(invalid(error.to_string())),
            }
        }
        Ok(false)
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while !buffer.is_empty() {
            if !self.is_open {
                self.is_open = self.open_next()?;
                if !self.is_open {
                    return Ok(0);
                }
            }
            while self.frame.can_collect() < buffer.len() && !self.frame.is_finished() {
                let wanted = BlockDecodingStrategy::UptoBytes(buffer.len() - self.frame.can_collect());
                self.frame.decode_blocks(&mut self.raw, wanted).map_err(|error| invalid(error.to_string()))?;
            }
            let count = self.frame.read(buffer)?;
            if count > 0 {
                return Ok(count);
            }
            let stated = self.frame.get_checksum_from_data();
            if stated.is_some() && stated != self.frame.get_calculated_checksum() {
                return Err(invalid("a checksum in it is wrong".to_owned()));
            }
            self.is_open = false;
        }
        Ok(0)
    }
}

fn invalid(why: String) -> Error {
    Error::new(ErrorKind::InvalidData, format!("the zstd stream cannot be unpacked: {why}"))
}
