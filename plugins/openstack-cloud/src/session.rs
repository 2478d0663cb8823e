//! A session with one cloud: Keystone's token and its catalogue of services.
//!
//! Whoever asks a service goes through [`Session::ask`], which adds the token and has it renewed
//! once where the service refuses it.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result, Stage};
use imagefactory_toolkit_http::{HttpClient, HttpOptions, Method, Request, Response};
use serde::Deserialize;

use crate::credentials::Login;
use crate::place::{Place, cloud_name};

/// A token that was had so short a time ago is not renewed before an upload.
const FRESH: Duration = Duration::from_secs(60);

/// Where a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// Glance.
    Image,
    /// Nova.
    Compute,
}

/// What Keystone answered.
struct Token {
    text: String,
    since: Instant,
    project: Option<String>,
    catalogue: Vec<CatalogueEntry>,
}

#[derive(Deserialize)]
struct Answer {
    token: AnsweredToken,
}

#[derive(Deserialize)]
struct AnsweredToken {
    #[serde(default)]
    project: Option<Project>,
    #[serde(default)]
    catalog: Vec<CatalogueEntry>,
}

#[derive(Deserialize)]
struct Project {
    id: String,
}

#[derive(Clone, Deserialize)]
struct CatalogueEntry {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    endpoints: Vec<Endpoint>,
}

#[derive(Clone, Deserialize)]
struct Endpoint {
    interface: String,
    url: String,
    #[serde(default)]
    region: Option<String>,
}

/// One login.
pub(crate) struct Session {
    /// For requests that carry no token, or are not to be repeated.
    pub(crate) client: HttpClient,
    place: Place,
    login: Login,
    token: Mutex<Token>,
}

impl Session {
    /// Logs in with the stage's credentials, at its provider.
    pub(crate) fn open(host: &Host, stage: &Stage<'_>) -> Result<Session> {
        let cloud = cloud_name(stage.provider());
        let login = Login::read(&host.credentials(stage)?, cloud.as_deref())?;
        let place = Place::of(stage.provider(), &login.beside)?;
        let mut options = HttpOptions::from_host(host)?;
        options.ca_pem = place.ca_pem.clone();
        options.insecure = place.insecure;
        if let Some(limit) = stage.number_parameter("upload_bytes_per_s")? {
            let configured = options.upload_bytes_per_s.unwrap_or(u64::MAX);
            options.upload_bytes_per_s = Some(limit.clamp(1, configured));
        }
        let client = HttpClient::new(host, options)?;
        let token = Mutex::new(log_in(&client, &place, &login)?);
        Ok(Session { client, place, login, token })
    }

    /// The project that everything belongs to.
    pub(crate) fn project(&self) -> Option<String> {
        self.lock().project.clone()
    }

    /// Takes a new token, unless the present one is new or cannot be had again.
    pub(crate) fn refresh(&self) -> Result<()> {
        if self.lock().since.elapsed() < FRESH { Ok(()) } else { self.renew() }
    }

    /// Takes a new token where that is possible.
    pub(crate) fn renew(&self) -> Result<()> {
        if self.login.renewable {
            let token = log_in(&self.client, &self.place, &self.login)?;
            *self.lock() = token;
        }
        Ok(())
    }

    /// A request to a service, with the token. `path` begins with `/`.
    pub(crate) fn request(&self, service: Service, method: Method, path: &str) -> Result<Request> {
        let token = self.lock();
        let root = self.endpoint(service, &token.catalogue)?;
        let request = Request::new(method, &format!("{root}{path}"))?;
        let request = request.secret_header("x-auth-token", &token.text);
        Ok(self.login.secrets.iter().fold(request, |request, secret| request.secret(secret)))
    }

    /// Asks a service. `with` adds body and headers.
    pub(crate) fn ask(
        &self,
        service: Service,
        method: Method,
        path: &str,
        with: impl Fn(Request) -> Request,
    ) -> Result<Response> {
        let ask = || self.client.send(&with(self.request(service, method.clone(), path)?));
        let response = ask()?;
        if response.status() == 401 && self.login.renewable {
            self.renew()?;
            return ask();
        }
        Ok(response)
    }

    /// Is there such a service?
    pub(crate) fn has(&self, service: Service) -> bool {
        let token = self.lock();
        self.endpoint(service, &token.catalogue).is_ok()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Token> {
        self.token.lock().unwrap_or_else(|poison| poison.into_inner())
    }

    /// Its address, without a slash at the end and without Glance's version.
    fn endpoint(&self, service: Service, catalogue: &[CatalogueEntry]) -> Result<String> {
        let (kind, name, given) = match service {
            Service::Image => ("image", "Glance", &self.place.image_endpoint),
            Service::Compute => ("compute", "Nova", &self.place.compute_endpoint),
        };
        let of_kind = || catalogue.iter().filter(|entry| entry.kind == kind);
        let endpoints = || of_kind().flat_map(|entry| &entry.endpoints);
        let fits = |endpoint: &&Endpoint| {
            endpoint.interface == self.place.interface
                && self.place.region.as_ref().is_none_or(|it| endpoint.region.as_ref() == Some(it))
        };
        let found = given.as_ref().or_else(|| endpoints().find(fits).map(|found| &found.url));
        let Some(address) = found else {
            let regions: BTreeSet<&str> =
                endpoints().filter_map(|endpoint| endpoint.region.as_deref()).collect();
            let regions = regions.into_iter().collect::<Vec<_>>().join(", ");
            let place = match &self.place.region {
                Some(region) => format!("in the region {region:?}"),
                None => "in any region".to_owned(),
            };
            let interface = &self.place.interface;
            let message = format!(
                "the catalogue of {} has no {interface} address of {name} {place}",
                self.place.auth_url
            );
            let hint = if regions.is_empty() {
                format!(
                    "name it in the provider's definition: {{\"{kind}_endpoint\": \"https://…\"}}"
                )
            } else {
                format!("it has {name} in {regions}; check region and interface")
            };
            return Err(PluginError::new(ErrorCode::NotFound, message).by_user().hint(hint));
        };
        let address = address.trim_end_matches('/');
        let root = if service == Service::Image { address.strip_suffix("/v2") } else { None };
        Ok(root.unwrap_or(address).to_owned())
    }
}

fn log_in(client: &HttpClient, place: &Place, login: &Login) -> Result<Token> {
    let url = format!("{}/auth/tokens", place.auth_url);
    let mut request = Request::new(Method::POST, &url)?.json(&login.body()).repeatable();
    for secret in &login.secrets {
        request = request.secret(secret);
    }
    let response = client.send(&request)?;
    if response.status() == 401 && !login.renewable {
        let error = response.error("the token was refused");
        return Err(error.hint("it has expired or is of another cloud: get a new one"));
    }
    let response = response.expect_success("no token from Keystone")?;
    let text = response.header("x-subject-token").map(str::to_owned).ok_or_else(|| {
        let message = format!("{url} answered without a token");
        PluginError::new(ErrorCode::Io, message).hint("is that the address of Keystone v3?")
    })?;
    let Answer { token } = response.json()?;
    let project = token.project.map(|project| project.id);
    Ok(Token { text, since: Instant::now(), project, catalogue: token.catalog })
}
