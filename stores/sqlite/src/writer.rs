//! The one thread that writes: it takes what has queued up, runs it in one transaction, and answers
//! when that is on the disk.
//!
//! Waiting for the disk is what a commit costs, so what queues up while one commit waits goes into the
//! next together (group commit: `DeWitt` et al., SIGMOD 1984). Each request has a savepoint of its own: one
//! that fails rolls back alone. Nobody is answered before the commit.

use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use unified_scheduler_core::id::IdSource;
use unified_scheduler_core::{Error, Result};

use crate::error::{Step, again};
use crate::hints::Hints;
use crate::session::Session;

/// The most requests in one transaction.
const GROUP: usize = 64;

/// How often parsed definitions are dropped, at most, when another process writes.
const DISTRUST: Duration = Duration::from_secs(2);

/// A request: what it does, and how it is answered.
pub(crate) trait Task: Send {
    /// Does it; the answer is held back until the transaction has ended.
    fn run(self: Box<Self>, session: &mut Session) -> Answer;
    /// Answers without doing it.
    fn refuse(self: Box<Self>, error: &Error);
}

/// The answer of a request that ran.
pub(crate) struct Answer {
    failed: bool,
    send: Reply,
}

/// Sends an answer: what came out, or this error where the transaction was undone.
type Reply = Box<dyn FnOnce(Option<&Error>)>;

struct Request<F, T> {
    step: F,
    asker: oneshot::Sender<Result<T>>,
}

impl<T, F> Task for Request<F, T>
where
    T: Send + 'static,
    F: FnOnce(&mut Session) -> Step<T> + Send,
{
    fn run(self: Box<Self>, session: &mut Session) -> Answer {
        let result = (self.step)(session).map_err(Error::from);
        let failed = result.is_err();
        let asker = self.asker;
        let send = Box::new(move |undone: Option<&Error>| {
            let result = match undone {
                Some(error) if result.is_ok() => Err(again(error)),
                _ => result,
            };
            // Whoever asked may have gone; what was written stays.
            drop(asker.send(result));
        });
        Answer { failed, send }
    }

    fn refuse(self: Box<Self>, error: &Error) {
        drop(self.asker.send(Err(again(error))));
    }
}

/// A request as a task, and where its answer will come.
pub(crate) fn task<T: Send + 'static>(
    step: impl FnOnce(&mut Session) -> Step<T> + Send + 'static,
) -> (Box<dyn Task>, oneshot::Receiver<Result<T>>) {
    let (asker, answer) = oneshot::channel();
    (Box::new(Request { step, asker }), answer)
}

/// The writer's own state.
pub(crate) struct Writer {
    pub(crate) session: Session,
    pub(crate) hints: Hints,
    pub(crate) busy_timeout: Duration,
    pub(crate) jitter: IdSource,
    data_version: i64,
    trusted_at: Instant,
}

impl Writer {
    pub(crate) fn new(session: Session, hints: Hints, busy_timeout: Duration) -> Self {
        Self {
            session,
            hints,
            busy_timeout,
            jitter: IdSource::new(),
            data_version: 0,
            trusted_at: Instant::now(),
        }
    }

    /// Serves requests until everybody who could ask has gone, and all that they asked for is done.
    pub(crate) fn serve(mut self, queue: &Receiver<Box<dyn Task>>) {
        while let Ok(first) = queue.recv() {
            let mut group = vec![first];
            group.extend(queue.try_iter().take(GROUP - 1));
            self.commit_together(group);
        }
    }

    fn commit_together(&mut self, group: Vec<Box<dyn Task>>) {
        if let Err(error) = self.begin() {
            let error = Error::from(error);
            for task in group {
                task.refuse(&error);
            }
            return;
        }
        // One request alone needs no savepoint, which would cost a copy of every page it changes.
        let alone = group.len() == 1;
        let mut answers = Vec::with_capacity(group.len());
        let mut hint = false;
        for task in group {
            if self.session.conn.is_autocommit() {
                task.refuse(&undone());
                continue;
            }
            self.session.hint = false;
            answers.push(if alone { task.run(&mut self.session) } else { self.run(task) });
            hint |= self.session.hint;
        }
        if alone && answers.iter().any(|answer| answer.failed) {
            // Fails too when SQLite has rolled back by itself.
            drop(self.session.execute("ROLLBACK", []));
            for answer in answers {
                (answer.send)(None);
            }
            return;
        }
        match self.commit(hint) {
            Ok(changes) => {
                if let Some(changes) = changes {
                    self.hints.changed_here(changes);
                }
                for answer in answers {
                    answer.send();
                }
            }
            Err(error) => {
                // Fails too when SQLite has rolled back by itself.
                drop(self.session.execute("ROLLBACK", []));
                // What was parsed may have been written in the transaction that is undone.
                self.session.jobs.clear();
                self.session.calendars = None;
                let error = Error::from(error);
                for answer in answers {
                    (answer.send)(Some(&error));
                }
            }
        }
    }

    /// Takes the write lock. Waits outside SQLite, whose own waiting is unfair.
    fn begin(&mut self) -> Step<()> {
        let mut waited = Duration::ZERO;
        loop {
            match self.session.execute("BEGIN IMMEDIATE", []) {
                Ok(_) => break,
                Err(error) if error.is_busy() && waited < self.busy_timeout => {
                    // From 0.5 ms on, longer with each try, up to 10 ms; at random between half and all.
                    let most = (waited / 4).clamp(Duration::from_micros(500), Duration::from_millis(10));
                    let pause = most.mul_f64(1.0 - self.jitter.fraction() / 2.0);
                    thread::sleep(pause);
                    waited += pause;
                }
                Err(error) => return Err(error),
            }
        }
        let seen = self.session.first("PRAGMA data_version", [], |row| row.get(0))?.unwrap_or_default();
        if seen != self.data_version && self.trusted_at.elapsed() >= DISTRUST {
            self.data_version = seen;
            self.trusted_at = Instant::now();
            self.session.jobs.clear();
            self.session.calendars = None;
        }
        Ok(())
    }

    fn run(&mut self, task: Box<dyn Task>) -> Answer {
        if let Err(error) = self.session.execute("SAVEPOINT request", []) {
            let error = Error::from(error);
            return Answer { failed: true, send: Box::new(move |_| task.refuse(&error)) };
        }
        let answer = task.run(&mut self.session);
        if answer.failed {
            self.session.hint = false;
            // These fail where SQLite has undone the whole transaction by itself (a full disk): then
            // `commit` finds that, and nobody is told of a success.
            drop(self.session.execute("ROLLBACK TO request", []));
        }
        drop(self.session.execute("RELEASE request", []));
        answer
    }

    fn commit(&mut self, hint: bool) -> Step<Option<i64>> {
        if self.session.conn.is_autocommit() {
            return Err(undone().into());
        }
        let changes = if hint {
            let sql = "UPDATE @meta SET value = value + 1 WHERE key = 'changes' RETURNING value";
            self.session.first(sql, [], |row| row.get(0))?
        } else {
            None
        };
        self.session.execute("COMMIT", [])?;
        Ok(changes)
    }
}

fn undone() -> Error {
    Error::unavailable("the disk is full or failed, and the database has undone the whole transaction")
}

impl Answer {
    /// Answers what came out.
    pub(crate) fn send(self) {
        (self.send)(None);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rusqlite::Connection;
    use unified_scheduler_core::ErrorKind;
    use unified_scheduler_core::clock::SystemClock;

    use super::*;

    fn writer() -> Writer {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE x_t (v); CREATE TABLE x_meta (key, value);").unwrap();
        connection.execute_batch("INSERT INTO x_meta VALUES ('changes', 0)").unwrap();
        let session = Session::new(connection, "x_".into(), Arc::new(SystemClock::new()), 0);
        Writer::new(session, Hints::new(), Duration::ZERO)
    }

    fn insert(value: i64, fails: bool) -> (Box<dyn Task>, oneshot::Receiver<Result<i64>>) {
        task(move |session: &mut Session| {
            session.execute("INSERT INTO @t VALUES (?1)", [value])?;
            session.hint = true;
            if fails { Err(Error::conflict("on purpose").into()) } else { Ok(value) }
        })
    }

    #[test]
    fn one_failing_request_rolls_back_alone() {
        let mut writer = writer();
        let (group, answers): (Vec<_>, Vec<_>) = (0..5).map(|v| insert(v, v == 2)).unzip();
        let hints = writer.hints.subscribe();
        writer.commit_together(group);
        let answers: Vec<_> = answers.into_iter().map(|a| a.blocking_recv().unwrap()).collect();
        assert_eq!(answers[2].as_ref().unwrap_err().kind(), ErrorKind::Conflict);
        assert!(answers.iter().enumerate().all(|(i, a)| a.is_ok() == (i != 2)));
        let stored = writer.session.all("SELECT v FROM @t ORDER BY v", [], |row| Ok(row.get::<_, i64>(0)?));
        assert_eq!(stored.unwrap(), [0, 1, 3, 4]);
        assert!(hints.has_changed().unwrap());
    }

    #[test]
    fn nobody_is_told_of_a_success_that_the_database_has_undone() {
        let mut writer = writer();
        let (first, first_answer) = insert(1, false);
        // What SQLite does by itself when the disk is full.
        let (undoing, _) = task(|session: &mut Session| {
            session.execute("ROLLBACK", [])?;
            Err::<(), _>(Error::unavailable("the disk is full").into())
        });
        let (last, last_answer) = insert(3, false);
        writer.commit_together(vec![first, undoing, last]);
        for answer in [first_answer, last_answer] {
            assert_eq!(answer.blocking_recv().unwrap().unwrap_err().kind(), ErrorKind::Unavailable);
        }
        let stored = writer.session.first("SELECT count(*) FROM @t", [], |row| row.get::<_, i64>(0));
        assert_eq!(stored.unwrap(), Some(0));
    }
}
