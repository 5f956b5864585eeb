//! Where in a text the next byte stands that a JSON string can't hold as it is.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x8080_8080_8080_8080;

/// How many bytes come before a quote, a backslash or a control character, or before the end. Eight are looked at at once:
/// what is subtracted borrows from a byte's highest bit where the byte is too small.
#[inline]
pub fn len(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(chunk) = text[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*chunk);
        let found =
            below(word, 0x20) | below(word ^ (ONES * u64::from(b'"')), 1) | below(word ^ (ONES * u64::from(b'\\')), 1);
        if found != 0 {
            // A borrow may make the bytes above the first one found look like it, never those below.
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    at + text[at..].iter().take_while(|byte| **byte >= 0x20 && **byte != b'"' && **byte != b'\\').count()
}

fn below(word: u64, limit: u64) -> u64 {
    word.wrapping_sub(ONES * limit) & !word & HIGH
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_first_byte_that_is_not_plain_ends_it() {
        for byte in 0..=255_u8 {
            let is_plain = byte >= 0x20 && byte != b'"' && byte != b'\\';
            for before in 0..20 {
                let mut text = vec![b'a'; before];
                text.push(byte);
                text.extend_from_slice(&b"\x80\xff\"\\\x01\x1f and more"[before % 8..]);
                let expected = if is_plain { text.iter().rposition(|_| true) } else { None };
                let found = super::len(&text);
                match expected {
                    None => assert_eq!(found, before, "{byte}"),
                    Some(_) => assert!(found > before, "{byte}"),
                }
            }
            assert_eq!(super::len(&[b'a'; 37]), 37);
        }
    }
}
