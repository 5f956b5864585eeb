//! What a route does with a request that passed the pipeline. One file an action.
//!
//! transcode.rs  JSON ↔ gRPC, unary and server streaming      aggregate.rs  several calls, one answer
//! proxy.rs      HTTP, WebSocket, SSE, gRPC passed through    session.rs    log in, who am I, log out
