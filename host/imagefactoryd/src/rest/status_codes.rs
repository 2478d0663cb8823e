//! Which HTTP status each failure of the engine is. Every variant stands here by name, so that a
//! new one is decided and not guessed.

use hyper::http::StatusCode;
use imagefactory_dispatch::DispatchError;
use imagefactory_store::StoreError;
use serde_json::json;

use super::problems::Problem;

impl From<DispatchError> for Problem {
    fn from(error: DispatchError) -> Problem {
        let detail = error.to_string();
        match error {
            DispatchError::UnknownTarget { .. }
            | DispatchError::TargetMismatch { .. }
            | DispatchError::CredentialsMissing { .. }
            | DispatchError::BadDiskImage(_)
            | DispatchError::UnknownCredentials(_) => Problem::bad_request(detail),
            DispatchError::Unfit { findings, .. } => {
                let errors = findings.into_iter().map(|finding| json!({"detail": finding}));
                Problem::bad_request(detail).with_errors(errors.collect())
            }
            DispatchError::NoSuchImage(_) | DispatchError::WrongKind { .. } => {
                Problem::not_found(detail)
            }
            DispatchError::InUse { .. } => Problem::conflict(detail)
                .with_hint("wait until it is finished, or cancel it, then delete again"),
            DispatchError::PluginGone { .. } | DispatchError::NothingToCancel { .. } => {
                Problem::conflict(detail)
            }
            DispatchError::IdempotencyMismatch(_) => {
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
            }
            DispatchError::ShuttingDown => Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail),
            DispatchError::NoSpace(cause) => {
                tracing::error!("nothing is accepted: {}", crate::error::chain(&cause));
                Problem::new(StatusCode::INSUFFICIENT_STORAGE, detail)
            }
            // Only at the start, where there are no requests.
            error @ DispatchError::NotContained { .. } => Problem::internal(&error),
            DispatchError::Supervisor(cause) => Problem::internal(&cause),
            DispatchError::Store(cause) => cause.into(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        match error {
            StoreError::NoSuchImage(id) => Problem::not_found(format!("there is no image {id}")),
            StoreError::Transition { .. } => Problem::conflict(error.to_string()),
            StoreError::IdempotencyMismatch(_) => {
                Problem::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
            }
            StoreError::NoSpace { .. } => {
                tracing::error!("{}", crate::error::chain(&error));
                let detail = "there is no room left in the factory's store";
                Problem::new(StatusCode::INSUFFICIENT_STORAGE, detail)
            }
            StoreError::Closed => {
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the factory is shutting down")
            }
            StoreError::Database(_) | StoreError::File { .. } if error.is_no_space() => {
                tracing::error!("{}", crate::error::chain(&error));
                let detail = "there is no room left in the factory's store";
                Problem::new(StatusCode::INSUFFICIENT_STORAGE, detail)
            }
            // A disk that fails or is read-only: what was asked for may work later.
            StoreError::Database(_) | StoreError::File { .. } => {
                tracing::error!("{}", crate::error::chain(&error));
                let detail = "the factory's store cannot be used at the moment; its log says why, \
                              under this request's id";
                Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            }
            StoreError::Damaged { .. }
            | StoreError::NewerSchema { .. }
            | StoreError::InUse { .. } => Problem::internal(&error),
        }
    }
}
