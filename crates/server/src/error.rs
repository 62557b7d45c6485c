//! The one error type of the server: every answer that is not 2xx is made here.
//!
//! The code, a sentence for a person and the request id go into the body; the cause goes to the log.

use crate::rate::Allowance;
use crate::store::StoreError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use landfall_protocol::{Epoch, ErrorBody, ErrorCode, ErrorEnvelope, Ledger};
use std::time::Duration;

/// Why a request as a whole was refused. A mutation that is refused is an outcome, not an error.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("{0}")]
    Malformed(String),
    #[error("this server speaks protocol {0}")]
    UnsupportedProtocol(u32),
    #[error("sign in first")]
    Unauthorized,
    #[error("the access token has expired")]
    TokenExpired,
    #[error("the request is for another user than the token")]
    WrongUser,
    #[error("{0}")]
    Forbidden(&'static str),
    #[error("there is nothing here")]
    NotFound,
    #[error("{0}")]
    TooLarge(String),
    #[error("the body must be plain or gzip")]
    UnsupportedEncoding,
    #[error("this client is not known here, or it is the copy of another one")]
    ClientFork,
    #[error("the replica must start again from the server's state")]
    ResetRequired { epoch: Epoch, ledger: Option<Box<Ledger>> },
    #[error("the request took too long to arrive")]
    Timeout,
    #[error("too many requests; wait before the next one")]
    RateLimited(Allowance),
    #[error("the server is busy")]
    Unavailable { retry_after: Duration },
    /// Asked for by a test through `/dev/faults`.
    #[error("a fault that was asked for")]
    Fault { status: u16, retry_after: Option<Duration> },
    #[error("the store failed")]
    Store(#[source] StoreError),
}

impl From<StoreError> for ServerError {
    fn from(error: StoreError) -> Self {
        match error {
            // Never the push's own fault: a client that counted it would give up what is in order.
            StoreError::Busy | StoreError::Closed | StoreError::NoSpace | StoreError::Disk => {
                Self::Unavailable { retry_after: Duration::from_secs(2) }
            }
            StoreError::Sqlite(_) | StoreError::Corrupt(_) | StoreError::Panicked => Self::Store(error),
        }
    }
}

impl ServerError {
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => ErrorCode::MALFORMED,
            Self::UnsupportedProtocol(_) => ErrorCode::UNSUPPORTED_PROTOCOL,
            Self::Unauthorized => ErrorCode::UNAUTHORIZED,
            Self::TokenExpired => ErrorCode::TOKEN_EXPIRED,
            Self::WrongUser => ErrorCode::WRONG_USER,
            Self::Forbidden(_) => ErrorCode::FORBIDDEN,
            Self::NotFound => ErrorCode::NOT_FOUND,
            Self::TooLarge(_) => ErrorCode::TOO_LARGE,
            Self::UnsupportedEncoding => ErrorCode::UNSUPPORTED_ENCODING,
            Self::ClientFork => ErrorCode::CLIENT_FORK,
            Self::ResetRequired { .. } => ErrorCode::RESET_REQUIRED,
            Self::Timeout => ErrorCode::TIMEOUT,
            Self::RateLimited(_) => ErrorCode::RATE_LIMITED,
            Self::Unavailable { .. } => ErrorCode::UNAVAILABLE,
            Self::Fault { status, .. } => fault_code(*status),
            Self::Store(_) => ErrorCode::INTERNAL,
        }
    }

    pub fn status(&self) -> StatusCode {
        let number = match self {
            Self::Fault { status, .. } => *status,
            _ => status_of(self.code()),
        };
        StatusCode::from_u16(number).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after } => Some(*retry_after),
            Self::RateLimited(allowance) => Some(allowance.reset),
            Self::Fault { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The answer with the id that its log lines carry.
    pub fn answer(&self, request_id: &str) -> Response {
        let mut body = ErrorBody {
            code: self.code().to_owned(),
            message: self.to_string(),
            retry_after_ms: self.retry_after().map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            request_id: request_id.to_owned(),
            ..ErrorBody::default()
        };
        if let Self::ResetRequired { epoch, ledger } = self {
            body.epoch = Some(epoch.clone());
            body.ledger = ledger.as_deref().cloned();
        }
        let mut response = (self.status(), axum::Json(ErrorEnvelope { error: body })).into_response();
        if let Some(wait) = self.retry_after() {
            let seconds = wait.as_millis().div_ceil(1000);
            if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
                response.headers_mut().insert(header::RETRY_AFTER, value);
            }
        }
        if let Self::RateLimited(allowance) = self {
            allowance.write(&mut response);
        }
        response
    }
}

/// The error travels to the outermost layer, which knows the request id, as an extension of an empty answer.
#[derive(Clone)]
pub struct Refusal(pub std::sync::Arc<ServerError>);

impl IntoResponse for ServerError {
    fn into_response(self) -> Response {
        let mut response = self.status().into_response();
        response.extensions_mut().insert(Refusal(std::sync::Arc::new(self)));
        response
    }
}

fn status_of(code: &str) -> u16 {
    ErrorCode::ALL.iter().find(|(name, _)| *name == code).map_or(500, |(_, status)| *status)
}

fn fault_code(status: u16) -> &'static str {
    match ErrorCode::ALL.iter().find(|(_, known)| *known == status) {
        Some((code, _)) => code,
        None if status >= 500 => ErrorCode::UNAVAILABLE,
        None => ErrorCode::MALFORMED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_the_status_of_the_protocol() {
        assert_eq!(ServerError::ClientFork.status(), StatusCode::CONFLICT);
        assert_eq!(ServerError::TokenExpired.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(ServerError::TooLarge(String::new()).status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(ServerError::UnsupportedProtocol(1).status(), StatusCode::UPGRADE_REQUIRED);
        assert_eq!(ServerError::Fault { status: 429, retry_after: None }.code(), ErrorCode::RATE_LIMITED);
        assert_eq!(ServerError::Fault { status: 502, retry_after: None }.code(), ErrorCode::UNAVAILABLE);
    }

    #[test]
    fn s7_a_full_store_asks_for_patience() {
        let error = ServerError::from(StoreError::Busy);
        let response = error.answer("r1");
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
    }
}
