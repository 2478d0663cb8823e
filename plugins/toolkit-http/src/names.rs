//! Names of hosts to addresses, by the system's resolver, with an error that says which name.

use std::fmt;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// A name that has no address, or none that could be found out.
#[derive(Debug)]
pub(crate) struct NameError {
    /// The name.
    pub(crate) name: String,
    cause: std::io::Error,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name, self.cause)
    }
}

impl std::error::Error for NameError {}

/// The system's resolver.
#[derive(Debug)]
pub(crate) struct SystemNames;

impl Resolve for SystemNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let name = name.as_str().to_owned();
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            let found = found.map(|found| found.collect::<Vec<_>>().into_iter());
            match found {
                Ok(found) => Ok(Box::new(found) as Addrs),
                Err(cause) => Err(NameError { name, cause }.into()),
            }
        })
    }
}
