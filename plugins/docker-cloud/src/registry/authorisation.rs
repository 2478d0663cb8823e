//! Authorisation: Basic, a bearer token of the registry's token service, or none.
//!
//! The registry says with its first 401 what it wants. Tokens are short-lived; one that is about to
//! run out is replaced before it is used, because a large upload that is refused at its start has
//! often been sent by then.

use std::time::{Duration, Instant};

use imagefactory_plugin_sdk::author::{ErrorCode, PluginError, Result};
use imagefactory_toolkit_http::{Method, Request, Response};
use serde::Deserialize;

use super::Registry;
use crate::credentials::Login;

/// What the specification gives tokens that do not say it.
const LIFETIME_S_DEFAULT: u64 = 60;

/// A token is not used in this last part of its life.
const SPARE: Duration = Duration::from_secs(5);

/// Name that token services log.
const CLIENT_ID: &str = "imagefactory";

/// What a 401 asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password.
    Basic,
    /// A token of this service.
    Bearer {
        /// Its address.
        realm: String,
        /// The registry's name there.
        service: Option<String>,
    },
}

/// What authorises a request.
#[derive(Clone)]
pub(super) enum Token {
    /// User and password themselves.
    Basic,
    /// A token.
    Bearer {
        /// Itself.
        value: String,
        /// Where a new one comes from.
        from: Option<Challenge>,
        /// When it is replaced.
        until: Option<Instant>,
    },
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Challenge {
    /// Reads `WWW-Authenticate`.
    pub(super) fn parse(header: &str) -> Option<Challenge> {
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Challenge::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service) = (None, None);
        let mut left = rest.trim();
        while let Some((name, after)) = left.split_once('=') {
            let (value, after) = match after.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"')?,
                None => after.split_once(',').unwrap_or((after, "")),
            };
            match name.trim().trim_start_matches(',').trim() {
                "realm" => realm = Some(value.to_owned()),
                "service" => service = Some(value.to_owned()),
                _ => {}
            }
            left = after.trim_start_matches([',', ' ']);
        }
        Some(Challenge::Bearer { realm: realm?, service })
    }
}

impl Registry {
    /// Adds what the registry wanted last time; a token that runs out is replaced first.
    pub(super) fn authorise(&self, request: Request) -> Result<Request> {
        let known = self.known_token();
        if let Some(Token::Bearer { from: Some(from), until: Some(until), .. }) = &known
            && Instant::now() >= *until
        {
            self.obtain(from)?;
        }
        Ok(match (self.known_token(), &self.login) {
            (Some(Token::Bearer { value, .. }), _) => request.bearer_auth(&value),
            (Some(Token::Basic), Login::Password { user, password }) => {
                request.basic_auth(user, password)
            }
            (None, Login::Bearer(value)) => request.bearer_auth(value),
            _ => request,
        })
    }

    /// Gets what a challenge asks for.
    pub(super) fn obtain(&self, challenge: &Challenge) -> Result<()> {
        let token = match challenge {
            Challenge::Basic => Token::Basic,
            Challenge::Bearer { realm, service } => {
                let asked = Instant::now();
                let answer = self.ask_for_token(realm, service.as_deref())?;
                let lifetime = Duration::from_secs(answer.expires_in.unwrap_or(LIFETIME_S_DEFAULT));
                // Half of a life that is shorter than twice the spare time.
                let used_for = lifetime.saturating_sub(SPARE).max(lifetime / 2);
                let value = answer.token.or(answer.access_token).ok_or_else(|| {
                    PluginError::new(ErrorCode::Auth, "the token service answered without a token")
                })?;
                let (from, until) = (Some(challenge.clone()), Some(asked + used_for));
                Token::Bearer { value, from, until }
            }
        };
        *self.token.lock().unwrap_or_else(|poison| poison.into_inner()) = Some(token);
        Ok(())
    }

    fn known_token(&self) -> Option<Token> {
        self.token.lock().unwrap_or_else(|poison| poison.into_inner()).clone()
    }

    fn ask_for_token(&self, realm: &str, service: Option<&str>) -> Result<TokenAnswer> {
        let request = match &self.login {
            Login::Identity(token) => self.exchange(realm, service, token)?,
            login => {
                let mut url = Request::new(Method::GET, realm)?.url().clone();
                if let Some(service) = service {
                    url.query_pairs_mut().append_pair("service", service);
                }
                for scope in self.scopes() {
                    url.query_pairs_mut().append_pair("scope", &scope);
                }
                url.query_pairs_mut().append_pair("client_id", CLIENT_ID);
                let request = Request::to(Method::GET, url);
                match login {
                    Login::Password { user, password } => request.basic_auth(user, password),
                    _ => request,
                }
            }
        };
        let tls = self.provider.base.scheme() == "https";
        if tls && request.url().scheme() != "https" {
            let message = format!(
                "{} speaks TLS and sends us for tokens to a service without it",
                self.provider.registry
            );
            return Err(PluginError::new(ErrorCode::Permission, message)
                .hint("the password would be readable on the way; let its operator correct that"));
        }
        let answer = self.client.send(&request)?;
        match answer.status() {
            400 | 401 | 403 => Err(self.not_let_in(&answer)),
            _ => self.read_token(answer),
        }
    }

    fn read_token(&self, answer: Response) -> Result<TokenAnswer> {
        let registry = &self.provider.registry;
        let what = format!("the token service of {registry} gives no token");
        answer.expect_success(&what)?.json()
    }

    /// The OAuth 2 way, for those who have a refresh token instead of a password.
    fn exchange(&self, realm: &str, service: Option<&str>, token: &str) -> Result<Request> {
        let mut form = imagefactory_toolkit_http::Url::parse("http://form/")
            .map_err(|error| PluginError::new(ErrorCode::Internal, error.to_string()))?;
        form.query_pairs_mut()
            .append_pair("grant_type", "refresh_token")
            .append_pair("service", service.unwrap_or_default())
            .append_pair("client_id", CLIENT_ID)
            .append_pair("scope", &self.scopes().join(" "))
            .append_pair("refresh_token", token);
        let form = form.query().unwrap_or_default().to_owned();
        Ok(Request::new(Method::POST, realm)?
            .header("content-type", "application/x-www-form-urlencoded")
            .secret(token)
            .body(form)
            .repeatable())
    }

    fn scopes(&self) -> Vec<String> {
        let actions = if self.may_delete { "pull,push,delete" } else { "pull,push" };
        let own = format!("repository:{}:{actions}", self.repository);
        let mounts = self.provider.mount_from.iter();
        let mounts = mounts.map(|name| format!("repository:{name}:pull"));
        std::iter::once(own).chain(mounts).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_with_commas_in_quotes() {
        let header = "Bearer realm=\"https://auth.example/token?a=b\",service=\"r.example\",\
            scope=\"repository:a/b:pull,push\"";
        let expected = Challenge::Bearer {
            realm: "https://auth.example/token?a=b".to_owned(),
            service: Some("r.example".to_owned()),
        };
        assert_eq!(Challenge::parse(header), Some(expected));
        assert_eq!(Challenge::parse("Basic realm=\"x\""), Some(Challenge::Basic));
        assert_eq!(Challenge::parse("basic"), Some(Challenge::Basic));
        for other in ["Bearer", "Bearer service=\"x\"", "Negotiate", "Bearer realm=\"x"] {
            assert_eq!(Challenge::parse(other), None, "{other}");
        }
    }
}
