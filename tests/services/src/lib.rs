//! Private database servers for tests and benches: on free ports of 127.0.0.1, in temporary folders,
//! gone when whoever started them is gone, in whatever way.
//!
//! | file | holds |
//! |---|---|
//! | [`Server`] (`server.rs`) | one server, or the servers of one cluster: start, crash, start again |
//! | `postgres.rs`, `redis.rs`, `mongodb.rs` | how each is started, and how one knows that it is ready |
//! | [`Pooler`] (`pooler.rs`) | `PgBouncer` before a PostgreSQL server |
//! | `op_msg.rs` | as much of MongoDB's protocol as it takes to make a replica set |
//! | [`Program`] (`program.rs`) | a program with settings of its user's own |
//! | `keeper.rs` | the process that owns a server, and outlives us for long enough to end it |
//! | `ports.rs` | free ports |
//! | `folders.rs` | where their files are: in memory, where nothing is to survive and there is room |
//! | [`cpu`] | how much processor time a server has used |
//! | [`programs`] | where the programs are |
//! | [`install`] | getting those that are missing |

pub mod cpu;
mod failure;
mod folders;
pub mod install;
mod keeper;
mod kind;
mod mongodb;
mod op_msg;
mod pooler;
mod ports;
mod postgres;
mod program;
pub mod programs;
mod ready;
mod redis;
mod server;

pub use failure::Failure;
pub use folders::in_memory;
pub use kind::{Durability, Kind};
pub use pooler::Pooler;
pub use ports::free_ports;
pub use postgres::PostgresSettings;
pub use program::Program;
pub use server::Server;
