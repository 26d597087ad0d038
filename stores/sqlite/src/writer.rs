//! The one thread that writes: it takes what has queued up, runs it in one transaction, and answers
//! when that is on the disk.
//!
//! Waiting for the disk is what a commit costs, so what queues up while one commit waits goes into the
//! next together (group commit: `DeWitt` et al., SIGMOD 1984). Each request has a savepoint of its own: one
//! that fails rolls back alone. Nobody is answered before the commit.

use std::sync::mpsc::{Receiver, TryRecvError};
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
    send: Box<dyn FnOnce(Option<&Error>)>,
}

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

/// A message to the writer.
pub(crate) enum Message {
    Run(Box<dyn Task>),
    /// The last one: what came before is written, then the thread ends.
    Stop(oneshot::Sender<()>),
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

    /// Serves requests until it is told to stop, or everybody who could ask has gone.
    pub(crate) fn serve(mut self, queue: &Receiver<Message>) {
        while let Ok(message) = queue.recv() {
            let mut next = Some(message);
            let mut group = Vec::new();
            let mut stop = None;
            while let Some(message) = next.take() {
                match message {
                    Message::Run(task) => group.push(task),
                    Message::Stop(done) => stop = Some(done),
                }
                if stop.is_some() || group.len() == GROUP {
                    break;
                }
                next = match queue.try_recv() {
                    Ok(message) => Some(message),
                    Err(TryRecvError::Empty | TryRecvError::Disconnected) => None,
                };
            }
            if !group.is_empty() {
                self.commit_together(group);
            }
            if let Some(done) = stop {
                drop(self);
                // Whoever closes may have gone.
                let _ = done.send(());
                return;
            }
        }
    }

    fn commit_together(&mut self, group: Vec<Box<dyn Task>>) {
        if let Err(error) = self.begin() {
            let error = Error::from(error);
            group.into_iter().for_each(|task| task.refuse(&error));
            return;
        }
        let mut answers = Vec::with_capacity(group.len());
        let mut hint = false;
        for task in group {
            if self.session.conn.is_autocommit() {
                task.refuse(&undone());
                continue;
            }
            self.session.hint = false;
            answers.push(self.run(task));
            hint |= self.session.hint;
        }
        match self.commit(hint) {
            Ok(changes) => {
                if let Some(changes) = changes {
                    self.hints.changed_here(changes);
                }
                answers.into_iter().for_each(|answer| (answer.send)(None));
            }
            Err(error) => {
                // Fails too when SQLite has rolled back by itself.
                drop(self.session.execute("ROLLBACK", []));
                let error = Error::from(error);
                answers.into_iter().for_each(|answer| (answer.send)(Some(&error)));
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
