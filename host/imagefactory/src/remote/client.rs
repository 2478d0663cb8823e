//! HTTP to a daemon: addresses, TLS, OAuth signatures, and what answers mean. Knows no image.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use imagefactory_oauth::base_string::SignatureMethod;
use imagefactory_oauth::signer::{Consumer, Unsigned, nonce};
pub(super) use reqwest::Method;
use reqwest::header::{AUTHORIZATION, WARNING};
use reqwest::multipart::{Form, Part};
use reqwest::{Certificate, RequestBuilder, Response, Url};
use serde_json::Value;

use crate::cli::DaemonFlags;
use crate::factory::Import;

/// A daemon accepts connections at once, and answers before it builds anything.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Largest answer that is read: a log with its rotated part is the largest there is.
const ANSWER_BYTES_MAX: usize = 32 << 20;

/// Why the daemon did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoteError {
    /// `--url` is no address.
    #[error("--url {0}: an address such as https://factory.example:8075 is needed")]
    Address(String),
    /// A file that a flag names.
    #[error("cannot read the {what} {path}")]
    File {
        /// What it holds.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// No secret to sign with.
    #[error("no secret for the OAuth key: give --oauth-secret-file, or run this on a terminal")]
    NoSecret(#[source] std::io::Error),
    /// The client cannot be made.
    #[error("the certificate cannot be used")]
    Certificate(#[source] reqwest::Error),
    /// No answer.
    #[error("no answer from {url}")]
    NoAnswer {
        /// Scheme, host and port.
        url: String,
        /// Why.
        #[source]
        cause: reqwest::Error,
    },
    /// The daemon said no.
    #[error("the daemon refused ({status}): {why}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// Its sentence.
        why: String,
    },
    /// It said something else than expected.
    #[error("the daemon's answer is not understood: {0}")]
    NotUnderstood(String),
}

/// Speaks to one daemon.
pub(super) struct Client {
    base: Url,
    http: reqwest::Client,
    consumer: Option<Consumer>,
}

/// An answer without an end of its own.
pub(super) struct Stream {
    response: Response,
    url: String,
}

/// What came back.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    pub(super) warnings: Vec<String>,
}

impl Client {
    /// Reads certificate and secret. Nothing is sent yet.
    pub(super) fn new(flags: &DaemonFlags) -> Result<Client, RemoteError> {
        let base = base_address(flags.url.as_deref().unwrap_or_default())?;
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("imagefactory/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = &flags.cacert {
            let pem = read(path, "certificate")?;
            let certificates =
                Certificate::from_pem_bundle(&pem).map_err(RemoteError::Certificate)?;
            builder = builder.tls_certs_merge(certificates);
        }
        if flags.insecure {
            builder = builder.tls_danger_accept_invalid_certs(true);
        }
        let http = builder.build().map_err(RemoteError::Certificate)?;
        Ok(Client { base, http, consumer: consumer(flags)? })
    }

    /// One request below `/imagefactory/`; any status is an answer.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, RemoteError> {
        let mut request = self.request(method, path)?.timeout(ANSWER_TIMEOUT);
        if let Some(body) = body {
            request = request.json(body);
        }
        self.send(request).await
    }

    /// An answer that comes for as long as something happens.
    pub(super) async fn stream(&self, path: &str) -> Result<Stream, RemoteError> {
        let request = self.request(Method::GET, path)?;
        let response = request.send().await.map_err(|cause| self.no_answer(cause))?;
        if !response.status().is_success() {
            return Err(self.read(response).await?.refusal());
        }
        Ok(Stream { response, url: self.base.origin().ascii_serialization() })
    }

    /// Uploads a disk image.
    pub(super) async fn import(&self, import: &Import) -> Result<Answer, RemoteError> {
        let unreadable =
            |cause| RemoteError::File { what: "disk image", path: import.file.clone(), cause };
        let file = tokio::fs::File::open(&import.file).await.map_err(unreadable)?;
        let bytes = file.metadata().await.map_err(unreadable)?.len();
        let part = Part::stream_with_length(file, bytes).file_name(super::file_name(&import.file));
        let mut form = Form::new();
        let parameters =
            import.parameters.as_ref().map(|all| Value::Object(all.clone()).to_string());
        let texts = [
            ("template", import.template.clone()),
            ("format", import.format.clone()),
            ("parameters", parameters),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                form = form.text(name, text);
            }
        }
        let form = form.part("image_body", part);
        self.send(self.request(Method::POST, "base_images")?.multipart(form)).await
    }

    fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, RemoteError> {
        let url = self.base.join(path).map_err(|_| RemoteError::Address(self.base.to_string()))?;
        let request = self.http.request(method.clone(), url.clone());
        Ok(match &self.consumer {
            Some(consumer) => request.header(AUTHORIZATION, signature(consumer, &method, &url)),
            None => request,
        })
    }

    async fn send(&self, request: RequestBuilder) -> Result<Answer, RemoteError> {
        let response = request.send().await.map_err(|cause| self.no_answer(cause))?;
        self.read(response).await
    }

    async fn read(&self, mut response: Response) -> Result<Answer, RemoteError> {
        let status = response.status().as_u16();
        let warnings = response
            .headers()
            .get_all(WARNING)
            .iter()
            .filter_map(|value| value.to_str().ok().map(warning_text))
            .collect();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|cause| self.no_answer(cause))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                let what = format!("it has more than {ANSWER_BYTES_MAX} bytes");
                return Err(RemoteError::NotUnderstood(what));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, body, warnings })
    }

    fn no_answer(&self, cause: reqwest::Error) -> RemoteError {
        let url = self.base.origin().ascii_serialization();
        RemoteError::NoAnswer { url, cause: cause.without_url() }
    }
}

impl Stream {
    /// The next piece; `None` = the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, RemoteError> {
        let chunk = self.response.chunk().await.map_err(|cause| RemoteError::NoAnswer {
            url: self.url.clone(),
            cause: cause.without_url(),
        })?;
        Ok(chunk.map(|bytes| bytes.to_vec()))
    }
}

impl Answer {
    /// 2xx.
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// Itself, or the daemon's refusal.
    pub(super) fn success(self) -> Result<Answer, RemoteError> {
        if self.is_success() { Ok(self) } else { Err(self.refusal()) }
    }

    /// The daemon's sentence: `detail` and `hint` of RFC 9457, or the text as it is.
    pub(super) fn refusal(&self) -> RemoteError {
        /// A sentence, not a page.
        const TEXT_CHARS_MAX: usize = 300;
        let problem: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let part = |key: &str| problem[key].as_str().map(str::to_owned);
        let why = match (part("detail").or_else(|| part("title")), part("hint")) {
            (Some(detail), Some(hint)) => format!("{detail}; {hint}"),
            (Some(detail), None) => detail,
            (None, _) => {
                String::from_utf8_lossy(&self.body).trim().chars().take(TEXT_CHARS_MAX).collect()
            }
        };
        RemoteError::Refused { status: self.status, why }
    }

    /// The body as JSON.
    pub(super) fn json(&self) -> Result<Value, RemoteError> {
        serde_json::from_slice(&self.body)
            .map_err(|error| RemoteError::NotUnderstood(format!("it is no JSON: {error}")))
    }
}

/// `https://host:8075`, with or without `/imagefactory`, becomes `https://host:8075/imagefactory/`.
fn base_address(text: &str) -> Result<Url, RemoteError> {
    let refused = || RemoteError::Address(text.to_owned());
    let mut url = Url::parse(text).map_err(|_| refused())?;
    let is_address = matches!(url.scheme(), "http" | "https") && url.has_host();
    // A password in the address would stand in the process list.
    if !is_address || !url.username().is_empty() || url.password().is_some() {
        return Err(refused());
    }
    url.set_query(None);
    url.set_fragment(None);
    let path = url.path().trim_end_matches('/').to_owned();
    let path = match path.ends_with("/imagefactory") {
        true => format!("{path}/"),
        false => format!("{path}/imagefactory/"),
    };
    url.set_path(&path);
    Ok(url)
}

fn signature(consumer: &Consumer, method: &Method, url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let authority = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let unsigned = Unsigned {
        method: method.as_str(),
        scheme: url.scheme(),
        authority: &authority,
        path: url.path(),
        query: url.query(),
        form: None,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    consumer.authorization(&unsigned, SignatureMethod::HmacSha256, now, &nonce())
}

/// Key and secret; the secret comes from the flag, the file, or the person at the terminal.
fn consumer(flags: &DaemonFlags) -> Result<Option<Consumer>, RemoteError> {
    let Some(key) = flags.oauth_key.clone() else { return Ok(None) };
    let secret = match (&flags.oauth_secret, &flags.oauth_secret_file) {
        (Some(secret), _) => secret.clone(),
        (None, Some(path)) => {
            let text = read(path, "OAuth secret")?;
            String::from_utf8_lossy(&text).trim_end_matches(['\r', '\n']).to_owned()
        }
        (None, None) => rpassword::prompt_password(format!("OAuth secret of {key}: "))
            .map_err(RemoteError::NoSecret)?,
    };
    Ok(Some(Consumer { key, secret }))
}

fn read(path: &Path, what: &'static str) -> Result<Vec<u8>, RemoteError> {
    use std::io::Read;
    /// Certificates and secrets are small.
    const BYTES_MAX: u64 = 1 << 20;
    let failed = |cause| RemoteError::File { what, path: path.to_owned(), cause };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(BYTES_MAX).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// `299 - "text"` is what the daemon says; the text is what a person wants.
fn warning_text(value: &str) -> String {
    let text = value.split_once('"').and_then(|(_, rest)| rest.rsplit_once('"'));
    text.map_or(value, |(text, _)| text).replace("\\\"", "\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_base(text: &str, wanted: Option<&str>) {
        let base = base_address(text).ok();
        assert_eq!(base.as_ref().map(Url::as_str), wanted, "{text}");
    }

    #[test]
    fn an_address_may_be_written_with_or_without_its_path() {
        check_base("https://h:8075", Some("https://h:8075/imagefactory/"));
        check_base("https://h:8075/", Some("https://h:8075/imagefactory/"));
        check_base("http://h/imagefactory/?x#y", Some("http://h/imagefactory/"));
        check_base("http://h/behind/a/proxy", Some("http://h/behind/a/proxy/imagefactory/"));
        check_base("h:8075", None);
        check_base("ftp://h", None);
        check_base("https://key:secret@h", None);
        check_base("", None);
    }

    #[test]
    fn warnings_are_told_without_their_frame() {
        assert_eq!(warning_text(r#"299 - "nobody reads \"x\"""#), r#"nobody reads "x""#);
        assert_eq!(warning_text("odd"), "odd");
    }
}
