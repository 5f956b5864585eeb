//! What tests share: real servers as child processes, a network that fails, and waiting for a condition with a bound.
//!
//! A missing program fails the test with the line that installs it; nothing is skipped.

#![expect(clippy::panic, clippy::expect_used, reason = "a test fails by panicking")]

mod browser;
mod eventually;
mod faults;
mod mosquitto;
mod openapi;
mod port;
mod postgres;
mod random;
mod redis;
mod told;
pub mod wire;

pub use browser::{Browser, browser};
pub use eventually::eventually;
pub use faults::{Fault, FaultProxy, Way};
pub use mosquitto::{Mosquitto, MosquittoOptions, mosquitto};
pub use openapi::{check_asyncapi, check_openapi, openapi_tool};
pub use port::free_port;
pub use postgres::{Postgres, postgres};
pub use random::Random;
pub use redis::{Aof, Certificates, PRIMARY, Redis, RedisCluster, RedisOptions, RedisSentinels, Tls, redis};
pub use told::{Told, told};
