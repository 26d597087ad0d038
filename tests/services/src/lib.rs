//! Private database servers for tests and benches: on free ports of 127.0.0.1, in temporary folders,
//! gone when whoever started them is gone, in whatever way.
//!
//! | file | holds |
//! |---|---|
//! | [`Server`] (`server.rs`) | one server, or the servers of one cluster: start, crash, start again |
//! | `postgres.rs`, `redis.rs`, `mongodb.rs` | how each is started, and how one knows that it is ready |
//! | `op_msg.rs` | as much of MongoDB's protocol as it takes to make a replica set |
//! | [`Program`] (`program.rs`) | a program with settings of its user's own |
//! | `keeper.rs` | the process that owns a server, and outlives us for long enough to end it |
//! | `ports.rs` | free ports |
//! | [`programs`] | where the programs are |
//! | [`install`] | getting those that are missing |

mod failure;
pub mod install;
mod keeper;
mod kind;
mod mongodb;
mod op_msg;
mod ports;
mod postgres;
mod program;
pub mod programs;
mod ready;
mod redis;
mod server;

pub use failure::Failure;
pub use kind::{Durability, Kind};
pub use ports::free_ports;
pub use program::Program;
pub use server::Server;
