//! The command as its users run it: the real binary, on stores of its own.
#![cfg(test)]

mod common;
mod import;
mod jobs;
mod serve;
mod store;
