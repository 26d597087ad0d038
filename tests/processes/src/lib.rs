//! Many processes on one real store, under real faults: killed, stopped and woken nodes, a database that
//! crashes, connections that break, wrong clocks. Afterwards what the handlers really did is joined with
//! what the store says.
//!
//! | file | holds |
//! |---|---|
//! | [`targets`] | the table of stores, and what each run of one consists of |
//! | [`arena`] | one run: its server, proxies, nodes and jobs |
//! | [`drill`] | what is done to them, and when |
//! | [`way`] | how nodes reach their store |
//! | [`health`] | whether a cluster is well |
//! | [`account`] | what must hold afterwards |
//! | [`node`] | a node's process, as the drill sees it |
//! | [`proxy`] | the network between a node and its store |
//! | [`effect_log`] | what handlers did, in files that no store sees |
//! | [`skew`] | a clock that is wrong |
//! | [`sim`] | the simulation on real stores |
//! | [`tally`] | how often each fault has struck |
//!
//! `src/bin/chaos_node.rs` is the program that the nodes run.

pub mod account;
pub mod arena;
pub mod drill;
pub mod effect_log;
pub mod health;
pub mod node;
pub mod proxy;
pub mod sim;
pub mod skew;
pub mod tally;
pub mod targets;
pub mod way;

/// What went wrong with the test itself, and not with what it tests.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
