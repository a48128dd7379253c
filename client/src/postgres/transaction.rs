//! BEGIN, COMMIT and what belongs to them. There are no transactions: each statement is committed by itself. Drivers begin and end them
//! all the time, so they are accepted; who takes something back that was written is warned that it stays.

use pgwire::messages::response::TransactionStatus;

use super::error::{Refusal, state};
use super::statement::Statement;

/// What a statement says about transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Begin,
    Commit,
    Rollback,
    Savepoint,
    Release,
    RollbackTo,
}

/// Where a connection is between BEGIN and its end.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    status: Status,
    /// Whether something was written since BEGIN.
    wrote: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Status {
    #[default]
    Idle,
    Begun,
    Failed,
}

/// The completion of a step, and what the client is warned of.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stepped {
    pub(super) tag: &'static str,
    pub(super) warning: Option<Refusal>,
}

impl Step {
    /// The step that a statement is, if it is one.
    pub(super) fn of(statement: &Statement) -> Option<Self> {
        let to = |index| statement.word(index) == "TO";
        match statement.word(0).as_str() {
            "BEGIN" => Some(Self::Begin),
            "START" if statement.word(1) == "TRANSACTION" => Some(Self::Begin),
            "COMMIT" | "END" => Some(Self::Commit),
            "ROLLBACK" if to(1) || to(2) => Some(Self::RollbackTo),
            "ROLLBACK" | "ABORT" => Some(Self::Rollback),
            "SAVEPOINT" => Some(Self::Savepoint),
            "RELEASE" => Some(Self::Release),
            _ => None,
        }
    }
}

impl Transaction {
    /// What the client is told with each ReadyForQuery.
    pub(super) fn status(&self) -> TransactionStatus {
        match self.status {
            Status::Idle => TransactionStatus::Idle,
            Status::Begun => TransactionStatus::Transaction,
            Status::Failed => TransactionStatus::Error,
        }
    }

    /// A statement failed.
    pub(super) fn fail(&mut self) {
        if self.status == Status::Begun {
            self.status = Status::Failed;
        }
    }

    /// A statement changed something.
    pub(super) fn write(&mut self) {
        self.wrote |= self.status != Status::Idle;
    }

    /// Refuses statements other than steps after one failed, as clients count on.
    pub(super) fn admit(&self) -> Result<(), Refusal> {
        if self.status != Status::Failed {
            return Ok(());
        }
        let message = "current transaction is aborted, commands ignored until end of transaction block";
        Err(Refusal::new(state::FAILED_TRANSACTION, message))
    }

    /// Goes a step.
    pub(super) fn step(&mut self, step: Step) -> Result<Stepped, Refusal> {
        let none = || Refusal::new(state::NO_TRANSACTION, "there is no transaction in progress");
        let stays = || {
            Refusal::new(state::WARNING, "what this transaction wrote stays")
                .with_hint("each statement is committed by itself; there are no transactions that could be rolled back")
        };
        let (tag, warning) = match (step, self.status) {
            (Step::Begin, Status::Idle) => ("BEGIN", None),
            (Step::Begin, Status::Begun) => {
                ("BEGIN", Some(Refusal::new(state::ALREADY_IN_TRANSACTION, "there is already a transaction in progress")))
            }
            (Step::Begin | Step::Savepoint | Step::Release, Status::Failed) => {
                return self.admit().map(|()| Stepped { tag: "", warning: None });
            }
            (Step::Commit, Status::Idle) => ("COMMIT", Some(none())),
            (Step::Commit, Status::Begun) => ("COMMIT", None),
            (Step::Rollback, Status::Idle) => ("ROLLBACK", Some(none())),
            (Step::Commit | Step::Rollback | Step::RollbackTo, _) if self.wrote => ("ROLLBACK", Some(stays())),
            (Step::Commit | Step::Rollback, _) | (Step::RollbackTo, Status::Begun | Status::Failed) => ("ROLLBACK", None),
            (Step::Savepoint, Status::Begun) => ("SAVEPOINT", None),
            (Step::Release, Status::Begun) => ("RELEASE", None),
            (Step::Savepoint | Step::Release | Step::RollbackTo, Status::Idle) => {
                return Err(Refusal::new(state::NO_TRANSACTION, "savepoints can only be used in transaction blocks"));
            }
        };
        match step {
            Step::Begin | Step::RollbackTo => self.status = Status::Begun,
            Step::Commit | Step::Rollback => *self = Self::default(),
            Step::Savepoint | Step::Release => {}
        }
        Ok(Stepped { tag, warning })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(transaction: &mut Transaction, step: Step) -> (&'static str, Option<&'static str>) {
        let stepped = transaction.step(step).unwrap();
        (stepped.tag, stepped.warning.map(|warning| warning.state))
    }

    #[test]
    fn what_was_written_is_not_silently_kept() {
        let mut transaction = Transaction::default();
        transaction.write();
        assert_eq!(told(&mut transaction, Step::Rollback), ("ROLLBACK", Some("25P01")));
        assert_eq!(told(&mut transaction, Step::Begin), ("BEGIN", None));
        assert_eq!(told(&mut transaction, Step::Rollback), ("ROLLBACK", None));
        told(&mut transaction, Step::Begin);
        transaction.write();
        assert_eq!(told(&mut transaction, Step::Rollback), ("ROLLBACK", Some("01000")));
        assert_eq!(transaction.status(), TransactionStatus::Idle);
        told(&mut transaction, Step::Begin);
        transaction.write();
        assert_eq!(told(&mut transaction, Step::Commit), ("COMMIT", None));
    }

    #[test]
    fn after_a_failure_only_the_end_is_admitted() {
        let mut transaction = Transaction::default();
        transaction.fail();
        assert!(transaction.admit().is_ok());
        told(&mut transaction, Step::Begin);
        transaction.fail();
        assert_eq!(transaction.status(), TransactionStatus::Error);
        assert_eq!(transaction.admit().unwrap_err().state, "25P02");
        assert!(transaction.step(Step::Savepoint).is_err());
        assert_eq!(told(&mut transaction, Step::Commit), ("ROLLBACK", None));
        assert!(transaction.admit().is_ok());
        told(&mut transaction, Step::Begin);
        told(&mut transaction, Step::Savepoint);
        transaction.fail();
        assert_eq!(told(&mut transaction, Step::RollbackTo), ("ROLLBACK", None));
        assert_eq!(transaction.status(), TransactionStatus::Transaction);
    }
}
