//! The SQLite file: one writer that commits in groups, a few readers.
//!
//! All writes of a process go through one task. It takes what waits, runs each job in a savepoint
//! of one transaction, and commits once: eight orders that arrive together cost one fsync. A job is
//! answered only after the commit. [`Durability::Promised`] jobs are on the platter by then
//! (`synchronous=FULL`); [`Durability::Progress`] ones survive a killed process but perhaps not a
//! power cut. Knows nothing of images; the record files of this crate write the SQL.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection, SqlitePool};
use tokio::sync::{mpsc, oneshot};

use crate::error::StoreError;
use crate::opening;

/// How much a write is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Answered, journalled, fenced: must survive a power cut.
    Promised,
    /// Progress: must survive `kill -9`.
    Progress,
}

/// Jobs in one commit. More would make the first one wait for the last; 64 small writes take less
/// time than the fsync they share.
const GROUP_MAX: usize = 64;

/// Jobs that may wait. Beyond it, writers wait for a place: the edge then answers slowly, which is
/// the right thing for a disk that cannot keep up.
const QUEUE_MAX: usize = 1024;

/// Readers. Reads take microseconds; four keep two cores busy.
const READERS_MAX: u32 = 4;

/// A second process (command line beside the daemon) writes in the same file: how long one waits
/// for the other's commit.
const BUSY: Duration = Duration::from_secs(30);

type Work = Box<
    dyn for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<(), StoreError>> + Send,
>;

struct Job {
    work: Work,
    durability: Durability,
    done: oneshot::Sender<Result<(), StoreError>>,
}

/// The open database of one process.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    readers: SqlitePool,
    writer: mpsc::Sender<Job>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job").field("durability", &self.durability).finish_non_exhaustive()
    }
}

impl Database {
    /// Opens (or makes) the database in `dir` and brings its schema up to date.
    pub(crate) async fn open(dir: &Path) -> Result<Database, StoreError> {
        let file = dir.join("imagefactory.sqlite");
        make_private(&file)?;
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY)
            .disable_statement_logging();
        let mut connection = SqliteConnection::connect_with(&options).await?;
        let lock = opening::lock(dir).await?;
        migrate(&mut connection, dir).await?;
        drop(lock);
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS_MAX)
            .min_connections(1)
            .connect_with(options.read_only(true).create_if_missing(false))
            .await?;
        let (writer, jobs) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(write_jobs(connection, jobs));
        Ok(Database { readers, writer })
    }

    /// The readers.
    pub(crate) fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// Runs one write and returns when it is committed. `work` runs at most once; its error rolls
    /// back its own changes only.
    pub(crate) async fn write<T, F>(&self, durability: Durability, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, StoreError>>
            + Send
            + 'static,
    {
        let answer = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&answer);
        let boxed: Work = Box::new(move |connection| {
            Box::pin(async move {
                let value = work(connection).await?;
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
                Ok(())
            })
        });
        let (done, committed) = oneshot::channel();
        let job = Job { work: boxed, durability, done };
        self.writer.send(job).await.map_err(|_| StoreError::Closed)?;
        committed.await.map_err(|_| StoreError::Closed)??;
        let value = answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        value.ok_or(StoreError::Closed)
    }

    /// Ends the readers; the writer ends when the last clone of this is gone.
    pub(crate) async fn close(&self) {
        self.readers.close().await;
    }
}

/// Templates hold root passwords: the file is its owner's alone. SQLite gives its WAL and its index
/// the same mode (https://sqlite.org/wal.html). A file that is there keeps the mode that it has.
fn make_private(file: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(file)
        .map(|_| ())
        .map_err(|cause| StoreError::file("write", file, cause))
}

async fn migrate(connection: &mut SqliteConnection, dir: &Path) -> Result<(), StoreError> {
    static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");
    let known = MIGRATOR.iter().map(|migration| migration.version).max().unwrap_or(0);
    match MIGRATOR.run(connection).await {
        Ok(()) => Ok(()),
        Err(
            sqlx::migrate::MigrateError::VersionMissing(found)
            | sqlx::migrate::MigrateError::VersionTooNew(found, _),
        ) => Err(StoreError::NewerSchema { dir: dir.to_owned(), found, known }),
        Err(
            sqlx::migrate::MigrateError::Execute(cause)
            | sqlx::migrate::MigrateError::ExecuteMigration(cause, _),
        ) => Err(StoreError::Database(cause)),
        Err(other) => Err(StoreError::damaged("the schema", other)),
    }
}

/// The writer task: groups, commits, answers; ends when nobody can send any more.
async fn write_jobs(mut connection: SqliteConnection, mut jobs: mpsc::Receiver<Job>) {
    let mut group = Vec::with_capacity(GROUP_MAX);
    while jobs.recv_many(&mut group, GROUP_MAX).await > 0 {
        let durability = if group.iter().any(|job| job.durability == Durability::Promised) {
            Durability::Promised
        } else {
            Durability::Progress
        };
        let mut answers = Vec::with_capacity(group.len());
        let outcome = commit_group(&mut connection, durability, &mut group, &mut answers).await;
        if outcome.is_err() {
            // Whatever state it is in, the next group must not run inside this transaction.
            // An error means that no transaction is open, which is what is wanted.
            sqlx::query("ROLLBACK").execute(&mut connection).await.ok();
        }
        answer(outcome, answers, &mut group);
    }
    if let Err(cause) = connection.close().await {
        tracing::warn!("closing the store's database: {cause}");
    }
}

type Answer = (oneshot::Sender<Result<(), StoreError>>, Result<(), StoreError>);

async fn commit_group(
    connection: &mut SqliteConnection,
    durability: Durability,
    group: &mut Vec<Job>,
    answers: &mut Vec<Answer>,
) -> Result<(), sqlx::Error> {
    let synchronous = match durability {
        Durability::Promised => "PRAGMA synchronous = FULL",
        Durability::Progress => "PRAGMA synchronous = NORMAL",
    };
    sqlx::query(synchronous).execute(&mut *connection).await?;
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    for job in group.drain(..) {
        // A client that went away while its job waited still gets it done: it may ask again.
        sqlx::query("SAVEPOINT job").execute(&mut *connection).await?;
        let done = (job.work)(connection).await;
        if done.is_err() {
            sqlx::query("ROLLBACK TO job").execute(&mut *connection).await?;
        }
        sqlx::query("RELEASE job").execute(&mut *connection).await?;
        answers.push((job.done, done));
    }
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    Ok(())
}

/// Tells everybody. When the commit failed, nobody's write happened, whatever its own outcome was.
fn answer(outcome: Result<(), sqlx::Error>, answers: Vec<Answer>, unstarted: &mut Vec<Job>) {
    let failure = outcome.err().map(Arc::new);
    for (done, result) in answers {
        let result = match &failure {
            None => result,
            Some(cause) => Err(StoreError::Database(copy_of(cause))),
        };
        // A receiver that is gone no longer wants to know.
        done.send(result).ok();
    }
    for job in unstarted.drain(..) {
        let cause = failure.as_ref().map_or(sqlx::Error::PoolClosed, |cause| copy_of(cause));
        // As above.
        job.done.send(Err(StoreError::Database(cause))).ok();
    }
}

/// `sqlx::Error` cannot be cloned, and every job of a failed group gets one.
fn copy_of(cause: &sqlx::Error) -> sqlx::Error {
    match cause {
        sqlx::Error::Database(database) => {
            let full = database.code().is_some_and(|code| code == "13");
            let kind =
                if full { std::io::ErrorKind::StorageFull } else { std::io::ErrorKind::Other };
            sqlx::Error::Io(std::io::Error::new(kind, database.message().to_owned()))
        }
        other => sqlx::Error::Io(std::io::Error::other(other.to_string())),
    }
}
