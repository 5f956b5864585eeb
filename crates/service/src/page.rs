/// One page of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Where the next page starts; None on the last.
    pub next: Option<String>,
}

/// Makes page tokens opaque and tamper-evident: base64url of (position, HMAC over position and the list's parameters). A token of another
/// list or other parameters is refused.
#[derive(Clone)]
pub struct PageToken(());

impl PageToken {
    /// `list` names the list and its parameters: `products?category=tea`.
    pub fn encode(&self, _list: &str, _position: &str) -> String {
        todo!()
    }
    /// None for an empty token (the first page). A bad token is the violation `page_token`.
    pub fn decode(&self, _list: &str, _token: &str) -> Result<Option<String>, crate::Violations> {
        todo!()
    }
    /// 0 means 20; over 100 means 100; below 0 is a violation of `page_size`.
    pub fn size(_page_size: i32) -> Result<usize, crate::Violations> {
        todo!()
    }
}
