//! Any bytes as a request's head: the same however they are cut; what is accepted is unambiguous, is what another parser
//! reads too, and means the same when it is written again.
#![no_main]

use bytes::BytesMut;
use http1::{
    Length, encode, length,
    request::{Limits, Reader},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((input, pieces)) = fuzz::pieces(data) else { return };
    let limits = Limits::default();
    let (mut whole, mut cut) = (Reader::default(), Reader::default());
    let (once, left) = fuzz::feed(std::iter::once(input), |buffer| whole.next(buffer, &limits));
    let (piecewise, left_too) = fuzz::feed(pieces, |buffer| cut.next(buffer, &limits));
    assert_eq!(format!("{once:?}"), format!("{piecewise:?}"), "it matters how the bytes were cut");
    let Ok(Some(request)) = once else { return };
    assert_eq!(left, left_too);

    let head = &input[..input.len() - left.len()];
    let head = head.strip_prefix(b"\r\n").unwrap_or(head);
    let mut fields = [httparse::EMPTY_HEADER; 256];
    let mut theirs = httparse::Request::new(&mut fields);
    let read = theirs.parse(head).unwrap_or_else(|error| panic!("httparse refuses it: {error}"));
    assert_eq!(read, httparse::Status::Complete(head.len()));
    assert_eq!(theirs.method, Some(request.method().as_str()));
    let ours: Vec<_> = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    for field in theirs.headers.iter() {
        let name = field.name.to_ascii_lowercase();
        assert!(ours.contains(&(&name, field.value.trim_ascii())), "{name} is missing");
    }
    assert_eq!(ours.len(), theirs.headers.len());

    let Ok(length) = length::of_request(request.version(), request.headers()) else { return };
    assert!(fuzz::is_unambiguous(head), "{:?}", String::from_utf8_lossy(head));

    // As a proxy writes it: the codec's own words on the body, and all the rest.
    let mut out = Vec::new();
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let target = if target.starts_with('?') { format!("/{target}") } else { target.to_owned() };
    encode::request_line(&mut out, request.method(), &target);
    encode::fields(&mut out, request.headers());
    if length != Length::NONE {
        encode::length(&mut out, length);
    }
    out.extend_from_slice(b"\r\n");
    if request.method() == http::Method::CONNECT {
        return;
    }
    let again = Reader::default().next(&mut BytesMut::from(&out[..]), &Limits { target: usize::MAX, ..limits });
    let again = again.unwrap_or_else(|error| panic!("{error}: {:?}", String::from_utf8_lossy(&out)));
    let again = again.unwrap_or_else(|| panic!("not whole: {:?}", String::from_utf8_lossy(&out)));
    assert_eq!(again.method(), request.method());
    assert_eq!(again.uri().path(), request.uri().path());
    assert_eq!(again.uri().query(), request.uri().query());
    assert_eq!(length::of_request(again.version(), again.headers()), Ok(length));
});
