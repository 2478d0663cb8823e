//! An output that counts and hashes what goes through it, so that no format's writer and no caller
//! has to read the result again. Called by the writers of formats that are written front to back.

use std::io::{self, Write};

use crate::sha256::RunningHash;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// How much.
    pub bytes: u64,
    /// Of it, lower-case hex.
    pub sha256: String,
}

/// The output, seen by a writer.
pub(crate) struct Output<'o, O> {
    to: &'o mut O,
    hash: RunningHash,
}

impl<'o, O: Write> Output<'o, O> {
    pub(crate) fn new(to: &'o mut O) -> Output<'o, O> {
        Output { to, hash: RunningHash::new() }
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)?;
        self.hash.update(bytes);
        Ok(())
    }

    /// Bytes so far.
    pub(crate) fn position(&self) -> u64 {
        self.hash.position
    }

    pub(crate) fn finish(self) -> io::Result<Written> {
        self.to.flush()?;
        Ok(Written { bytes: self.hash.position, sha256: self.hash.finish() })
    }
}
