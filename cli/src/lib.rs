//! The parts of the `unified-scheduler` command that other programs can use too.

pub mod crontab;
