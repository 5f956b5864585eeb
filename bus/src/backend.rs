#[async_trait::async_trait]
pub trait Backend: Send + Sync {}
