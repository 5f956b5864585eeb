//! What the targets share.

use bytes::BytesMut;

/// An input and the sizes of the pieces that it comes in: the first four bytes say them.
pub fn pieces(data: &[u8]) -> Option<(&[u8], impl Iterator<Item = &[u8]>)> {
    let (sizes, input) = data.split_first_chunk::<4>()?;
    let mut sizes = sizes.iter().cycle();
    let mut rest = input;
    let pieces = std::iter::from_fn(move || {
        let size = usize::from(*sizes.next()?) % 61 + 1;
        (!rest.is_empty()).then(|| rest.split_off(..size.min(rest.len()))).flatten()
    });
    Some((input, pieces))
}

/// Feeds pieces to a reader until it has what it reads or fails; also returns what it left, with all that would have come.
pub fn feed<'a, T, E>(
    pieces: impl Iterator<Item = &'a [u8]>,
    mut read: impl FnMut(&mut BytesMut) -> Result<Option<T>, E>,
) -> (Result<Option<T>, E>, Vec<u8>) {
    let mut pieces = pieces;
    let mut buffer = BytesMut::new();
    let mut result = Ok(None);
    for piece in &mut pieces {
        buffer.extend_from_slice(piece);
        result = read(&mut buffer);
        if !matches!(result, Ok(None)) {
            break;
        }
    }
    for piece in pieces {
        buffer.extend_from_slice(piece);
    }
    (result, buffer.to_vec())
}

/// What must hold of the bytes of any head that was accepted, told without the parser: lines end in CR LF and nothing else
/// controls, none is folded, and where the body ends is said once.
pub fn is_unambiguous(head: &[u8]) -> bool {
    let text = head.strip_suffix(b"\r\n\r\n").unwrap_or_else(|| panic!("a head ends with an empty line"));
    let lines: Vec<_> = text.split(|byte| *byte == b'\n').collect();
    let last = lines.len() - 1;
    let is_line = |(at, line): (usize, &&[u8])| {
        let line = if at == last { *line } else { line.strip_suffix(b"\r").unwrap_or(b"\0") };
        line.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control())
    };
    let mut framing = 0;
    for line in &lines[1..] {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default().to_ascii_lowercase();
        framing += usize::from(name == b"content-length" || name == b"transfer-encoding");
    }
    lines.iter().enumerate().all(is_line)
        && lines[1..].iter().all(|line| !line.starts_with(b" ") && !line.starts_with(b"\t"))
        && framing <= 1
}
