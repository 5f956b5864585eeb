//! Any bytes as a response's head: the same however they are cut; what is accepted is unambiguous and is what another
//! parser reads too.
#![no_main]

use http::Method;
use http1::{field, response::Parser};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((input, pieces)) = fuzz::pieces(data) else { return };
    let limits = field::Limits::default();
    let method = if data[0] & 1 == 0 { Method::GET } else { Method::HEAD };
    let (mut whole, mut cut) = (Parser::default(), Parser::default());
    let (once, left) = fuzz::feed(std::iter::once(input), |buffer| whole.parse(buffer, &method, &limits));
    let (piecewise, left_too) = fuzz::feed(pieces, |buffer| cut.parse(buffer, &method, &limits));
    assert_eq!(format!("{once:?}"), format!("{piecewise:?}"), "it matters how the bytes were cut");
    let Ok(Some(ours)) = once else { return };
    assert_eq!(left, left_too);

    let head = &input[..input.len() - left.len()];
    assert!(fuzz::is_unambiguous(head), "{:?}", String::from_utf8_lossy(head));
    let mut fields = [httparse::EMPTY_HEADER; 256];
    let mut theirs = httparse::Response::new(&mut fields);
    let read = theirs.parse(head).unwrap_or_else(|error| panic!("httparse refuses it: {error}"));
    assert_eq!(read, httparse::Status::Complete(head.len()));
    assert_eq!(theirs.code, Some(ours.status.as_u16()));
    let headers: Vec<_> = ours.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    for field in theirs.headers.iter() {
        let name = field.name.to_ascii_lowercase();
        assert!(headers.contains(&(&name, field.value.trim_ascii())), "{name} is missing");
    }
    assert_eq!(headers.len(), theirs.headers.len());
});
