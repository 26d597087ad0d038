//! The command as its users run it: the real binary, on stores of its own.
#![cfg(test)]

mod import;
mod jobs;
mod moving;
mod place;
mod serve;
mod store;
