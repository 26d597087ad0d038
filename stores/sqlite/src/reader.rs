//! Threads that read, each on a connection of its own, beside the writer.
//!
//! A read is one short transaction, so that what it answers is one state and the write-ahead log is
//! never held back for long.

use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, PoisonError};

use crate::session::Session;
use crate::writer::Task;
use unified_scheduler_core::Error;

/// How many threads read.
pub(crate) const READERS: usize = 2;

/// Serves reads until everybody who could ask has gone.
pub(crate) fn serve(mut session: Session, queue: &Arc<Mutex<Receiver<Box<dyn Task>>>>) {
    loop {
        let task = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(task) = task else { return };
        if let Err(error) = session.execute("BEGIN", []) {
            task.refuse(&Error::from(error));
            continue;
        }
        let answer = task.run(&mut session);
        // A read that failed may have left no transaction to end.
        drop(session.execute("ROLLBACK", []));
        answer.send();
    }
}
