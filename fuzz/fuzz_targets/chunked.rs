//! Any bytes as a chunked body: the same however they are cut, and the same again when what was read is written anew.
#![no_main]

use bytes::BytesMut;
use http::HeaderMap;
use http1::{
    Error,
    chunked::{self, Decoder, Step},
    field,
};
use libfuzzer_sys::fuzz_target;

const LIMITS: field::Limits = field::Limits { total: 1024, count: 8, one: 512 };

#[derive(Debug, PartialEq)]
struct Body {
    data: Vec<u8>,
    trailers: HeaderMap,
    end: Result<bool, Error>,
}

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Body, Vec<u8>) {
    let mut decoder = Decoder::default();
    let mut body = Body { data: Vec::new(), trailers: HeaderMap::new(), end: Ok(false) };
    let (_, left) = fuzz::feed(pieces, |buffer| {
        loop {
            match decoder.decode(buffer, &LIMITS) {
                Ok(Step::Data(data)) => {
                    assert!(!data.is_empty());
                    body.data.extend_from_slice(&data);
                }
                Ok(Step::Trailers(trailers)) => body.trailers = trailers,
                Ok(Step::More) => return Ok(None),
                Ok(Step::End) => {
                    assert!(decoder.is_end());
                    body.end = Ok(true);
                    return Ok(Some(()));
                }
                Err(error) => {
                    body.end = Err(error.clone());
                    return Err(error);
                }
            }
        }
    });
    (body, left)
}

fuzz_target!(|data: &[u8]| {
    let Some((input, pieces)) = fuzz::pieces(data) else { return };
    let (whole, left) = read(std::iter::once(input));
    let (cut, left_too) = read(pieces);
    assert_eq!(whole, cut, "it matters how the bytes were cut");
    if whole.end != Ok(true) {
        return;
    }
    assert_eq!(left, left_too);
    let mut out = Vec::new();
    if !whole.data.is_empty() {
        chunked::write_size(&mut out, whole.data.len());
        out.extend_from_slice(&whole.data);
        out.extend_from_slice(chunked::CHUNK_END);
    }
    chunked::write_last(&mut out, &whole.trailers);
    let (again, left) = read(std::iter::once(&BytesMut::from(&out[..])[..]));
    assert_eq!(again, whole);
    assert!(left.is_empty());
});
