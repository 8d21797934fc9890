//! Opens an input, and undoes its compression. What it is compressed with is told by its first bytes.

use std::fs::File;
use std::io::{self, BufReader, Chain, Cursor, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// An open input.
pub(crate) struct Input {
    /// Its uncompressed bytes.
    pub(crate) reader: Box<dyn Read + Send>,
    /// How it is called in messages.
    pub(crate) name: String,
    /// Bytes of the file as it lies there; unknown for a pipe.
    pub(crate) size: Option<u64>,
    /// How many of them were read so far.
    pub(crate) consumed: Arc<AtomicU64>,
}

/// Opens a file, or stdin when it is called `-`.
pub(crate) fn open(path: &Path) -> io::Result<Input> {
    let consumed = Arc::new(AtomicU64::new(0));
    let (raw, name, size): (Box<dyn Read + Send>, _, _) = if path == Path::new("-") {
        (Box::new(io::stdin()), "stdin".to_owned(), None)
    } else {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        let size = metadata.is_file().then_some(metadata.len());
        (Box::new(file), path.display().to_string(), size)
    };
    let counted = Counted {
        inner: raw,
        consumed: consumed.clone(),
    };
    Ok(Input {
        reader: uncompressed(counted)?,
        name,
        size,
        consumed,
    })
}

fn uncompressed(mut raw: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let mut start = Vec::with_capacity(4);
    raw.by_ref().take(4).read_to_end(&mut start)?;
    let whole: Chain<Cursor<Vec<u8>>, _> = Cursor::new(start.clone()).chain(raw);
    let whole = BufReader::with_capacity(256 << 10, whole);
    Ok(if start.starts_with(&GZIP) {
        // A log rotated by appending is several gzip members in one file.
        Box::new(MultiGzDecoder::new(whole))
    } else if start.starts_with(&ZSTD) {
        Box::new(zstd::Decoder::with_buffer(whole)?)
    } else {
        Box::new(whole)
    })
}

struct Counted<R> {
    inner: R,
    consumed: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.consumed.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn read(bytes: Vec<u8>) -> String {
        let mut text = String::new();
        uncompressed(Cursor::new(bytes))
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        text
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(text.as_bytes()).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn compression_is_told_by_the_first_bytes() {
        assert_eq!(read(b"plain".to_vec()), "plain");
        assert_eq!(read(Vec::new()), "");
        assert_eq!(read(b"x".to_vec()), "x");
        assert_eq!(read(gzip("zipped")), "zipped");
        assert_eq!(read(zstd::encode_all(&b"packed"[..], 1).unwrap()), "packed");
    }

    #[test]
    fn every_member_of_an_input_is_read() {
        let two = [gzip("one\n"), gzip("two\n")].concat();
        assert_eq!(read(two), "one\ntwo\n");
        let frames = [
            zstd::encode_all(&b"one\n"[..], 1).unwrap(),
            zstd::encode_all(&b"two\n"[..], 1).unwrap(),
        ];
        assert_eq!(read(frames.concat()), "one\ntwo\n");
    }

    #[test]
    fn a_cut_input_is_an_error_not_an_end() {
        let mut cut = gzip("some text that is long enough to be cut somewhere");
        cut.truncate(cut.len() - 9);
        let mut text = String::new();
        assert!(
            uncompressed(Cursor::new(cut))
                .unwrap()
                .read_to_string(&mut text)
                .is_err()
        );
    }
}
