//! The shell around a service with one RPC, over real sockets.

mod shell;

mod announced;
mod calls;
mod drain;
mod inbox;
mod listener;
