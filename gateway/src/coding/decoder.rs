//! Reading a coding, step by step, within bounds: a few bytes can be made to stand for very many.

use std::io::{self, Write};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use zstd::{
    stream::{raw, zio},
    zstd_safe::DParameter,
};

use super::Coding;

/// How many times its size a body may become.
pub const RATIO: u64 = 100;
/// RFC 9659: a reader need not keep more than 8 MiB.
const ZSTD_WINDOW_LOG: u32 = 23;
const BUFFER: usize = 4096;

/// Why a body can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is not in that coding, or ends too early.
    Malformed,
    /// It becomes larger than it may.
    TooLarge,
    /// It becomes more than [`RATIO`] times as large.
    Ratio,
}

pub struct Decoder {
    inner: Inner,
    read: u64,
    limit: u64,
}

enum Inner {
    Br { decoder: Box<brotli::DecompressorWriter<Sink>>, begun: bool },
    Zstd(Box<zio::Writer<Sink, raw::Decoder<'static>>>),
    Gzip(Box<MultiGzDecoder<Sink>>),
}

/// Where the result goes: never more than is allowed.
#[derive(Default)]
struct Sink {
    output: Vec<u8>,
    written: u64,
    allowed: u64,
    beyond: bool,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.written + bytes.len() as u64 > self.allowed {
            self.beyond = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.written += bytes.len() as u64;
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Decoder {
    /// For a body of at most `limit` bytes.
    ///
    /// # Errors
    /// If there is no memory.
    pub fn new(coding: Coding, limit: u64) -> io::Result<Self> {
        let sink = Sink::default();
        let inner = match coding {
            Coding::Br => Inner::Br { decoder: Box::new(brotli::DecompressorWriter::new(sink, BUFFER)), begun: false },
            Coding::Zstd => {
                let mut decoder = raw::Decoder::new()?;
                decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW_LOG))?;
                Inner::Zstd(Box::new(zio::Writer::new(sink, decoder)))
            }
            Coding::Gzip => Inner::Gzip(Box::new(MultiGzDecoder::new(sink))),
        };
        Ok(Self { inner, read: 0, limit })
    }

    /// # Errors
    /// See [`Fault`]; nothing can be read from then on.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        self.read += bytes.len() as u64;
        let allowed = self.limit.min(self.read.saturating_mul(RATIO));
        self.sink().allowed = allowed;
        let result = match &mut self.inner {
            Inner::Br { decoder, begun } => {
                if let (false, Some(first)) = (*begun, bytes.first()) {
                    *begun = true;
                    // Windows of up to 1 GiB, which RFC 7932 doesn't know and the decoder does.
                    if first & 0x7f == 0x11 {
                        return Err(Fault::Malformed);
                    }
                }
                decoder.write_all(bytes)
            }
            Inner::Zstd(decoder) => decoder.write_all(bytes),
            Inner::Gzip(decoder) => decoder.write_all(bytes),
        };
        // So that what is in the decoder yet comes out too: its bound must be this write's.
        let result = result.and_then(|()| match &mut self.inner {
            Inner::Br { .. } => Ok(()),
            Inner::Zstd(decoder) => decoder.flush(),
            Inner::Gzip(decoder) => decoder.flush(),
        });
        result.map_err(|_| self.fault())
    }

    /// The end of the input.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn finish(&mut self) -> Result<(), Fault> {
        let result = match &mut self.inner {
            Inner::Br { decoder, .. } => decoder.close(),
            Inner::Zstd(decoder) => decoder.finish(),
            Inner::Gzip(decoder) => decoder.try_finish(),
        };
        result.map_err(|_| self.fault())
    }

    pub fn ready(&mut self) -> usize {
        self.sink().output.len()
    }

    /// What has come out since it was taken last.
    pub fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.sink().output).into()
    }

    fn fault(&mut self) -> Fault {
        let limit = self.limit;
        match self.sink() {
            Sink { beyond: false, .. } => Fault::Malformed,
            Sink { allowed, .. } if *allowed == limit => Fault::TooLarge,
            _ => Fault::Ratio,
        }
    }

    fn sink(&mut self) -> &mut Sink {
        match &mut self.inner {
            Inner::Br { decoder, .. } => decoder.get_mut(),
            Inner::Zstd(decoder) => decoder.writer_mut(),
            Inner::Gzip(decoder) => decoder.get_mut(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::Level, *};
    use crate::coding::encoder::Encoder;

    const LEVELS: [Level; 3] = [
        Level { coding: Coding::Br, level: 4 },
        Level { coding: Coding::Zstd, level: 3 },
        Level { coding: Coding::Gzip, level: 5 },
    ];

    fn encoded<'a>(level: Level, pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let mut encoder = Encoder::new(level).unwrap();
        let mut output = Vec::new();
        for piece in pieces {
            encoder.write(piece).unwrap();
            encoder.flush().unwrap();
            output.extend_from_slice(&encoder.take());
        }
        output.extend_from_slice(&encoder.finish().unwrap());
        output
    }

    fn decoded(coding: Coding, limit: u64, bytes: &[u8], step: usize) -> Result<Vec<u8>, Fault> {
        let mut decoder = Decoder::new(coding, limit).unwrap();
        let mut output = Vec::new();
        for piece in bytes.chunks(step) {
            decoder.write(piece)?;
            output.extend_from_slice(&decoder.take());
        }
        decoder.finish()?;
        output.extend_from_slice(&decoder.take());
        Ok(output)
    }

    proptest! {
        #[test]
        fn whatever_is_encoded_can_be_read_back(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..6),
            step in 1usize..500,
        ) {
            let whole = pieces.concat();
            for level in LEVELS {
                let bytes = encoded(level, pieces.iter().map(Vec::as_slice));
                prop_assert_eq!(decoded(level.coding, 1 << 20, &bytes, step), Ok(whole.clone()));
            }
        }

        #[test]
        fn no_bytes_make_a_decoder_panic_or_go_beyond_its_bounds(
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
            step in 1usize..500,
        ) {
            for level in LEVELS {
                if let Ok(output) = decoded(level.coding, 1 << 16, &bytes, step) {
                    prop_assert!(output.len() as u64 <= (bytes.len() as u64 * RATIO).min(1 << 16));
                }
            }
        }
    }

    #[test]
    fn a_body_that_ends_early_is_malformed() {
        for level in LEVELS {
            let bytes = encoded(level, [&b"a body that is long enough to be cut somewhere"[..]]);
            for end in 1..bytes.len() {
                let read = decoded(level.coding, 1 << 20, &bytes[..end], 7);
                assert_eq!(read, Err(Fault::Malformed), "{level:?} {end} of {}", bytes.len());
            }
        }
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        let zeros = vec![0; 4 << 20];
        for level in LEVELS {
            let bytes = encoded(level, [zeros.as_slice()]);
            assert_eq!(decoded(level.coding, 100 << 20, &bytes, 4096), Err(Fault::Ratio), "{level:?}");
            assert_eq!(decoded(level.coding, 1 << 10, &bytes, 4096), Err(Fault::TooLarge), "{level:?}");
        }
    }

    #[test]
    fn brotli_with_windows_that_only_an_extension_has_is_malformed() {
        assert_eq!(decoded(Coding::Br, 1 << 20, &[0x11, 0x1e, 0, 0, 0, 0], 1), Err(Fault::Malformed));
    }
}
