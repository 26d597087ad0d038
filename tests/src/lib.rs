//! The deterministic simulation: whole clusters on one thread, drawn from a seed, under faults.
//!
//! A [`world::World`] is a few schedulers over one store in memory and one clock. Every call of a node
//! goes through a [`faulty::FaultyStore`], which may fail it, lose its reply, delay it, let it hang,
//! repeat it, or kill the node around it. Every call that does commit goes through the
//! [`witness::Witness`], which keeps a model of its own and says what must not have happened. Handlers
//! write to an effect log that no store sees.
//!
//! | file | holds |
//! |---|---|
//! | [`random`] | the numbers that everything is drawn from |
//! | [`shape`] | how large a world is and which faults it has; what a failing seed is shrunk by |
//! | [`faults`] | the faults, and how often each has struck |
//! | [`clock`] | a node's own view of the clock: skewed, stepping, drifting, paused |
//! | [`faulty`] | the store as a node sees it |
//! | [`witness`] | the model of what was committed, and its rules |
//! | [`edits`] | what people do to jobs |
//! | `chaos` | what happens from outside: strikes, steps, edits |
//! | `commit` | the verbs, each with what must hold of it |
//! | [`reference`](mod@reference) | what a plan and a retry must be, written a second time |
//! | [`jobs`] | the jobs of a world |
//! | [`effects`] | handlers and what they did |
//! | [`world`] | nodes, chaos, edits, healing |
//! | [`verdict`] | what must hold when all has healed |
//!
//! Sources: the way of testing is that of `FoundationDB` (Zhou et al., SIGMOD 2021, section 4) and of
//! slatedb `slatedb-dst`.

mod chaos;
pub mod clock;
mod commit;
pub mod edits;
pub mod effects;
pub mod faults;
pub mod faulty;
pub mod jobs;
pub mod random;
pub mod reference;
pub mod shape;
pub mod verdict;
pub mod witness;
pub mod world;
