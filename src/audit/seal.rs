//! Sealing: a checkpoint is signed without the writer's lock, and written after the lines that came meanwhile.

use super::line::{Checkpoint, Line, LineContent, MAX_LATE, Note};
use super::log::{AuditError, AuditLog};
use crate::domain::{ChainHead, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

impl AuditLog {
    /// Seals what is written: a checkpoint is signed and written, unless nothing is new. Lines may be written while it
    /// is being signed, so that a slow backend delays no exchange.
    ///
    /// # Errors
    /// As [`AuditLog::append`].
    pub async fn seal(&self, now: Timestamp) -> Result<(), AuditError> {
        let _sealing = self.sealing.lock().await;
        self.checkpoint(now).await
    }

    /// Does what [`AuditLog::seal`] does, for a caller that holds its lock.
    pub(super) async fn checkpoint(&self, now: Timestamp) -> Result<(), AuditError> {
        let head = {
            let mut writer = self.writer();
            self.write_counted(&mut writer)?;
            // After a write that failed, a checkpoint tries whether the next one succeeds.
            if writer.head.next <= writer.sealed.1 && !self.is_failing() {
                return Ok(());
            }
            writer.head.clone()
        };
        let checkpoint = Checkpoint { replica: self.replica.clone(), head: head.to_string(), time: now.seconds() };
        let signed = (self.seal)(checkpoint, now).await.ok_or(AuditError::Unsealed("no key can sign it"))?;
        let mut writer = self.writer();
        let late = writer.head.next - head.next;
        if late > MAX_LATE {
            return Err(AuditError::Unsealed("it was signed too late"));
        }
        self.note(&mut writer, &Note::Checkpoint(signed), now)?;
        writer.sealed = (now, if late == 0 { writer.head.next } else { head.next });
        Ok(())
    }
}

/// Returns true if `line` is a checkpoint that covers the line before it, so that nothing is left to seal. The broker
/// wrote it: its signature is not needed for this.
pub(super) fn is_sealed(line: &Line) -> bool {
    let LineContent::Note(Note::Checkpoint(signed), _) = &line.content else { return false };
    let payload = signed.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok());
    let checkpoint = payload.and_then(|payload| serde_json::from_slice::<Checkpoint>(&payload).ok());
    let before = ChainHead { next: line.sequence, hash: line.previous.clone() };
    checkpoint.is_some_and(|checkpoint| checkpoint.head == before.to_string())
}
