//! Keeping one connection alive: opened once for all who ask, dropped when lost, opened again by the next call.

use std::cell::RefCell;
use std::rc::Rc;

use landfall_storage::{OpenError, ReadError, StorageFault};

use super::open::{ConnectError, Connection, connect};
use super::wait::Wait;
use crate::task::spawn;

/// How often one call is tried when the connection is lost and nothing was committed for sure.
pub(super) const ATTEMPTS_MAX: u32 = 3;

/// A new connection on its way.
type Opening = Wait<Result<Rc<Connection>, ReadError>>;

/// The connection of one store, shared by its clones.
pub(super) struct Shared {
    name: String,
    open_timeout_ms: u32,
    current: RefCell<Option<Rc<Connection>>>,
    opening: RefCell<Option<Opening>>,
    /// Set once, when no new connection may be made.
    closed: RefCell<Option<ReadError>>,
}

impl Shared {
    /// Makes or upgrades the database and opens it.
    pub(super) async fn open(name: &str, open_timeout_ms: u32) -> Result<Rc<Self>, OpenError> {
        let message = "the database was not created".to_owned();
        let missing = OpenError::Failed { fault: StorageFault::Other, message };
        Self::connected(name, open_timeout_ms, true).await?.ok_or(missing)
    }

    /// Opens the database if there is one.
    pub(super) async fn open_existing(name: &str, open_timeout_ms: u32) -> Result<Option<Rc<Self>>, OpenError> {
        Self::connected(name, open_timeout_ms, false).await
    }

    async fn connected(name: &str, open_timeout_ms: u32, create: bool) -> Result<Option<Rc<Self>>, OpenError> {
        let mut attempt = 1;
        let connection = loop {
            let error = match connect(name, open_timeout_ms, create).await {
                Ok(connection) => break connection,
                Err(ConnectError::Missing) => return Ok(None),
                Err(ConnectError::Open(error)) => error,
            };
            let again = matches!(error, OpenError::Failed { fault: StorageFault::ConnectionLost, .. });
            if !again || attempt == ATTEMPTS_MAX {
                return Err(error);
            }
            attempt += 1;
        };
        Ok(Some(Rc::new(Self {
            name: name.to_owned(),
            open_timeout_ms,
            current: RefCell::new(Some(connection)),
            opening: RefCell::default(),
            closed: RefCell::default(),
        })))
    }

    /// The open connection, or a new one to the same database.
    pub(super) async fn connection(self: &Rc<Self>) -> Result<Rc<Connection>, ReadError> {
        if let Some(connection) = &*self.current.borrow() {
            if connection.is_version_change() {
                self.closed.borrow_mut().get_or_insert(version_change("another context changes the database"));
            } else if !connection.is_lost() {
                return Ok(Rc::clone(connection));
            }
        }
        if let Some(error) = &*self.closed.borrow() {
            return Err(error.clone());
        }
        let opening = self.opening.borrow().clone();
        let wait = match opening {
            Some(wait) => wait,
            None => self.reopen(),
        };
        wait.await
    }

    fn reopen(self: &Rc<Self>) -> Opening {
        let wait = Wait::new();
        self.opening.replace(Some(wait.clone()));
        let (shared, answer) = (Rc::clone(self), wait.clone());
        spawn(async move {
            let result = connect(&shared.name, shared.open_timeout_ms, false).await;
            shared.opening.replace(None);
            answer.deliver(shared.reopened(result));
        });
        wait
    }

    fn reopened(&self, result: Result<Rc<Connection>, ConnectError>) -> Result<Rc<Connection>, ReadError> {
        if let Some(error) = &*self.closed.borrow() {
            return Err(error.clone());
        }
        match result {
            Ok(connection) => {
                self.current.replace(Some(Rc::clone(&connection)));
                Ok(connection)
            }
            Err(ConnectError::Open(OpenError::Failed { fault, message })) => Err(ReadError { fault, message }),
            Err(ConnectError::Open(OpenError::NewerSchema { .. })) => {
                Err(self.close_for_good("a later version of the app upgraded the database"))
            }
            // An empty database in its place would look like "nothing was ever written".
            Err(ConnectError::Missing) => Err(self.close_for_good("the database was deleted")),
            Err(ConnectError::Open(OpenError::Blocked)) => Err(ReadError {
                fault: StorageFault::Other,
                message: "opening is blocked by another context".to_owned(),
            }),
            Err(ConnectError::Open(OpenError::Unavailable { message })) => {
                Err(ReadError { fault: StorageFault::Other, message })
            }
        }
    }

    fn close_for_good(&self, why: &str) -> ReadError {
        self.closed.borrow_mut().get_or_insert(version_change(why)).clone()
    }

    /// Lets go of a connection that failed; a newer one stays.
    pub(super) fn discard(&self, connection: &Rc<Connection>) {
        if connection.is_version_change() {
            return;
        }
        connection.lose();
        let is_current = self.current.borrow().as_ref().is_some_and(|current| Rc::ptr_eq(current, connection));
        if is_current {
            self.current.replace(None);
        }
    }

    /// Closes once and for all; running transactions end by themselves.
    pub(super) fn close(&self) {
        let error = ReadError { fault: StorageFault::Other, message: "the store is closed".to_owned() };
        self.closed.borrow_mut().get_or_insert(error);
        drop(self.current.take());
    }

    pub(super) fn is_closed(&self) -> bool {
        let version_change = self.current.borrow().as_ref().is_some_and(|connection| connection.is_version_change());
        version_change || self.closed.borrow().is_some()
    }
}

fn version_change(message: &str) -> ReadError {
    ReadError { fault: StorageFault::VersionChange, message: message.to_owned() }
}
