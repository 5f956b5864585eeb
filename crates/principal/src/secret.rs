/// The one secret (32 bytes) that cookie, cursor and signing keys derive from (HKDF-SHA256, RFC 5869, a label each).
#[derive(Clone)]
pub struct RootSecret([u8; 32]);

impl RootSecret {
    pub fn generate() -> Self {
        todo!()
    }
    /// Reads base64url text as [`RootSecret::encode`] writes it.
    pub fn decode(_text: &str) -> anyhow::Result<Self> {
        todo!()
    }
    pub fn encode(&self) -> String {
        todo!()
    }
    /// The key for one purpose.
    pub fn derive(&self, _label: &str) -> [u8; 32] {
        let _ = &self.0;
        todo!()
    }
}
