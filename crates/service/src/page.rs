//! Lists in pages.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::Violations;

const DEFAULT_SIZE: usize = 20;
const MAX_SIZE: usize = 100;
/// The longest token that is looked at, in characters.
const MAX_TOKEN: usize = 2048;
const TAG: usize = 32;

/// One page of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Where the next page starts; None on the last.
    pub next: Option<String>,
}

/// Makes page tokens opaque and tamper-evident: base64url of an HMAC-SHA256 over list and position, and the position. A
/// token of another list or other parameters is refused. The position is not encrypted: it is what the client has read.
#[derive(Clone)]
pub struct PageToken(hmac::Key);

impl PageToken {
    pub fn new(key: [u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, &key))
    }

    /// `list` names the list and its parameters: `products?category=tea`.
    pub fn encode(&self, list: &str, position: &str) -> String {
        let mut token = hmac::sign(&self.0, &signed(list, position)).as_ref().to_vec();
        token.extend_from_slice(position.as_bytes());
        URL_SAFE_NO_PAD.encode(token)
    }

    /// None for an empty token (the first page).
    ///
    /// # Errors
    /// The violation `page_token` for one that this list didn't give out.
    pub fn decode(&self, list: &str, token: &str) -> Result<Option<String>, Violations> {
        if token.is_empty() {
            return Ok(None);
        }
        self.position(list, token)
            .map(Some)
            .ok_or_else(|| Violations::of("page_token", "is not one that this list with these parameters gave out"))
    }

    /// The number of items of a page: 0 means 20; over 100 means 100.
    ///
    /// # Errors
    /// The violation `page_size` below 0.
    pub fn size(page_size: i32) -> Result<usize, Violations> {
        match usize::try_from(page_size) {
            Ok(0) => Ok(DEFAULT_SIZE),
            Ok(size) => Ok(size.min(MAX_SIZE)),
            Err(_) => Err(Violations::of("page_size", "must not be negative")),
        }
    }

    fn position(&self, list: &str, token: &str) -> Option<String> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let token = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (tag, position) = token.split_at_checked(TAG)?;
        let position = std::str::from_utf8(position).ok()?;
        hmac::verify(&self.0, &signed(list, position), tag).ok()?;
        Some(position.to_owned())
    }
}

/// The length goes first, so that no list and position read like another pair.
fn signed(list: &str, position: &str) -> Vec<u8> {
    [&list.len().to_be_bytes(), list.as_bytes(), position.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_to_the_list_that_gave_it_out() {
        let tokens = PageToken::new([1; 32]);
        let token = tokens.encode("products?category=tea", "Teapot\0teapot");
        assert_eq!(tokens.decode("products?category=tea", &token), Ok(Some("Teapot\0teapot".to_owned())));
        assert_eq!(tokens.decode("products?category=tea", ""), Ok(None));
    }

    #[test]
    fn what_the_list_did_not_give_out_is_refused() {
        let tokens = PageToken::new([1; 32]);
        let token = tokens.encode("products?category=tea", "x");
        assert!(tokens.decode("products?category=te", &token).is_err());
        assert!(tokens.decode("products?category=teax", &tokens.encode("products?category=tea", "")).is_err());
        assert!(PageToken::new([2; 32]).decode("products?category=tea", &token).is_err());
        for end in 1..token.len() {
            assert!(tokens.decode("products?category=tea", &token[..end]).is_err());
        }
        for bad in ["!", "AAAA", &"A".repeat(1 << 20)] {
            assert!(tokens.decode("products?category=tea", bad).is_err());
        }
    }

    #[test]
    fn sizes_have_a_default_and_bounds() {
        assert_eq!(PageToken::size(0), Ok(20));
        assert_eq!(PageToken::size(1), Ok(1));
        assert_eq!(PageToken::size(i32::MAX), Ok(100));
        assert!(PageToken::size(-1).is_err());
    }
}
