//! A registry, by the OCI distribution protocol: requests with the right authorisation.
//!
//! What goes in which order is the push's business; here each request is sent until it is
//! authorised or refused. The rest of the protocol stands in the files below.

mod authorisation;
mod manifests;
mod session;
mod upload;

use std::sync::Mutex;

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};
use imagefactory_toolkit_http::{HttpClient, Method, Request, Response, Url};

use crate::credentials::Login;
use crate::provider::Provider;
use authorisation::{Challenge, Token};

pub(crate) use manifests::Removed;
pub(crate) use upload::{Blob, Sessions};

/// A repository of a registry, and who we are to it.
pub(crate) struct Registry {
    pub(crate) host: Host,
    client: HttpClient,
    provider: Provider,
    repository: String,
    login: Login,
    may_delete: bool,
    token: Mutex<Option<Token>>,
}

impl Registry {
    /// Nothing is sent yet.
    pub(crate) fn new(
        host: &Host,
        provider: &Provider,
        repository: &str,
        login: Login,
    ) -> Result<Registry> {
        Ok(Registry {
            host: host.clone(),
            client: HttpClient::new(host, provider.http_options(host)?)?,
            provider: provider.clone(),
            repository: repository.to_owned(),
            login,
            may_delete: false,
            token: Mutex::new(None),
        })
    }

    /// One whose tokens are also for deleting.
    pub(crate) fn for_deletion(self) -> Registry {
        Registry { may_delete: true, ..self }
    }

    /// `registry.example:5000/team/debian`.
    pub(crate) fn name(&self) -> String {
        format!("{}/{}", self.provider.registry, self.repository)
    }

    /// Is there a registry, and are we let in?
    pub(crate) fn check(&self) -> Result<()> {
        let url = self.url_of("v2/")?;
        let answer = self.send(Request::to(Method::GET, url))?;
        if answer.status() == 404 {
            let message =
                format!("{} is no registry: it does not know /v2/", self.provider.registry);
            return Err(PluginError::user_fault(message)
                .hint("is that the address of the registry itself, with its port?"));
        }
        answer.expect_success("the registry cannot be used").map(|_| ())
    }

    /// A path of this repository: `blobs/sha256:…`.
    fn url(&self, path: &str) -> Result<Url> {
        self.url_of(&format!("v2/{}/{path}", self.repository))
    }

    fn url_of(&self, path: &str) -> Result<Url> {
        self.provider
            .base
            .join(path)
            .map_err(|_| PluginError::new(ErrorCode::Internal, format!("{path} makes no address")))
    }

    /// An address that the registry has given us. One that leads elsewhere gets no login of ours.
    fn located(&self, answer: &Response) -> Result<Url> {
        let location = answer.header("location").and_then(|to| answer.url().join(to).ok());
        location.filter(|url| matches!(url.scheme(), "http" | "https")).ok_or_else(|| {
            let message = format!("{} did not say where to go on", self.provider.registry);
            PluginError::new(ErrorCode::Io, message)
                .hint("its answers lack the Location header; does a proxy remove it?")
        })
    }

    /// Sends a request with what authorises it; once more when that has run out.
    fn send(&self, request: Request) -> Result<Response> {
        if !self.is_ours(&request) {
            return self.client.send(&request);
        }
        let authorised = self.authorise(request.clone())?;
        let answer = self.client.send(&authorised)?;
        if answer.status() != 401 {
            return Ok(answer);
        }
        let challenge = answer.header("www-authenticate").and_then(Challenge::parse);
        let Some(challenge) = challenge else { return Err(self.not_let_in(&answer)) };
        self.obtain(&challenge)?;
        let answer = self.client.send(&self.authorise(request)?)?;
        match answer.status() {
            401 => Err(self.not_let_in(&answer)),
            _ => Ok(answer),
        }
    }

    /// Is it for the registry itself?
    fn is_ours(&self, request: &Request) -> bool {
        let (base, url) = (&self.provider.base, request.url());
        base.scheme() == url.scheme()
            && base.host_str() == url.host_str()
            && base.port_or_known_default() == url.port_or_known_default()
    }

    fn not_let_in(&self, answer: &Response) -> PluginError {
        let registry = &self.provider.registry;
        let who = match &self.login {
            Login::Anonymous => "without credentials".to_owned(),
            Login::Password { user, .. } => format!("the user {user:?}"),
            Login::Identity(_) | Login::Bearer(_) => "this token".to_owned(),
        };
        let said = answer.said();
        let said = if said.is_empty() { String::new() } else { format!(": {said}") };
        let message = format!("{registry} does not let in {who} for {}{said}", self.repository);
        PluginError::new(ErrorCode::Auth, message).by_user().vendor_code("401").hint(
            "check user and password, and that they may push to this repository; an access token \
             may have expired",
        )
    }
}
