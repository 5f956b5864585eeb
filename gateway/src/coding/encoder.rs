//! Writing in a coding, step by step.

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use zstd::{stream::write::Encoder as ZstdEncoder, zstd_safe::CParameter};

use super::{Coding, Level};

/// Windows of 256 KiB: what larger ones gain is little, for bodies as APIs have them, and each is memory.
const WINDOW_LOG: u32 = 18;
const BUFFER: usize = 4096;

pub struct Encoder(Inner);

enum Inner {
    Br(Box<brotli::CompressorWriter<Vec<u8>>>),
    Zstd(ZstdEncoder<'static, Vec<u8>>),
    Gzip(GzEncoder<Vec<u8>>),
}

impl Encoder {
    /// # Errors
    /// If there is no memory.
    pub fn new(Level { coding, level }: Level) -> io::Result<Self> {
        Ok(Self(match coding {
            Coding::Br => Inner::Br(Box::new(brotli::CompressorWriter::new(Vec::new(), BUFFER, level, WINDOW_LOG))),
            Coding::Zstd => {
                let mut encoder = ZstdEncoder::new(Vec::new(), i32::try_from(level).unwrap_or(i32::MAX))?;
                encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
                Inner::Zstd(encoder)
            }
            Coding::Gzip => Inner::Gzip(GzEncoder::new(Vec::new(), Compression::new(level))),
        }))
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.0 {
            Inner::Br(encoder) => encoder.write_all(bytes),
            Inner::Zstd(encoder) => encoder.write_all(bytes),
            Inner::Gzip(encoder) => encoder.write_all(bytes),
        }
    }

    /// Has all that was written come out.
    pub fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Inner::Br(encoder) => encoder.flush(),
            Inner::Zstd(encoder) => encoder.flush(),
            Inner::Gzip(encoder) => encoder.flush(),
        }
    }

    /// How many bytes have come out since they were taken last.
    pub fn ready(&mut self) -> usize {
        self.output().len()
    }

    pub fn take(&mut self) -> Bytes {
        std::mem::take(self.output()).into()
    }

    /// The rest.
    pub fn finish(self) -> io::Result<Bytes> {
        Ok(match self.0 {
            Inner::Br(encoder) => encoder.into_inner(),
            Inner::Zstd(encoder) => encoder.finish()?,
            Inner::Gzip(encoder) => encoder.finish()?,
        }
        .into())
    }

    fn output(&mut self) -> &mut Vec<u8> {
        match &mut self.0 {
            Inner::Br(encoder) => encoder.get_mut(),
            Inner::Zstd(encoder) => encoder.get_mut(),
            Inner::Gzip(encoder) => encoder.get_mut(),
        }
    }
}
