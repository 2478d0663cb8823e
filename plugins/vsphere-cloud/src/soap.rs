//! Calls of the vSphere API (SOAP, `urn:vim25`): an envelope out, an answer or a fault back.
//!
//! Knows the wire and the session, not what is asked. Answers are hostile input: their reader is
//! iterative, and what is copied out of one is bounded in depth.

use std::sync::Mutex;

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};
use imagefactory_toolkit_http::{HttpClient, HttpOptions, Method, Request, Url};
use roxmltree::{Document, Node};

use crate::element::Xml;
use crate::provider::{Account, Provider};

const ENVELOPE: &str = "http://schemas.xmlsoap.org/soap/envelope/";
const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";
const XSD: &str = "http://www.w3.org/2001/XMLSchema";

/// Deeper than any import specification; what goes deeper is no answer of vCenter's.
const DEPTH_MAX: usize = 64;

/// A managed object: `VirtualMachine`, `vm-42`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Its type.
    pub(crate) kind: String,
    /// Its id.
    pub(crate) id: String,
}

impl Reference {
    /// Of a type and an id.
    pub(crate) fn new(kind: &str, id: &str) -> Reference {
        Reference { kind: kind.to_owned(), id: id.to_owned() }
    }

    /// An element that holds one.
    pub(crate) fn read(node: Node<'_, '_>) -> Option<Reference> {
        // Beside it may stand xsi:type, which says that it is a reference.
        let kind = node.attributes().find(|at| at.name() == "type" && at.namespace().is_none())?;
        Some(Reference::new(kind.value(), node.text()?.trim()))
    }

    /// As an element of this name.
    pub(crate) fn xml(&self, name: &str) -> Xml {
        Xml::text(name, &self.id).with("type", &self.kind)
    }
}

/// What a call answered, as text; [`Answer::parse`] reads it.
pub(crate) struct Answer(String);

impl Answer {
    /// The document.
    pub(crate) fn parse(&self) -> Result<Document<'_>> {
        Document::parse(&self.0).map_err(|error| {
            let message = format!("vSphere answered no XML: {error}");
            PluginError::new(ErrorCode::Io, message).hint("is api-url the address of its /sdk?")
        })
    }

    /// The reference in the first element of this name.
    pub(crate) fn reference(&self, name: &str) -> Result<Reference> {
        let document = self.parse()?;
        let node = document.descendants().find(|node| node.tag_name().name() == name);
        node.and_then(Reference::read).ok_or_else(|| incomplete(name))
    }
}

/// An answer lacks what the API promises.
pub(crate) fn incomplete(what: &str) -> PluginError {
    PluginError::new(ErrorCode::Io, format!("vSphere's answer has no {what}"))
}

/// A session with a vCenter or an ESXi host.
pub(crate) struct Vim {
    /// Also for the disk's upload.
    pub(crate) http: HttpClient,
    url: Url,
    cookie: Mutex<Option<String>>,
    services: Vec<(String, Reference)>,
    /// What answers: `VMware vCenter Server 8.0.2`.
    pub(crate) product: String,
}

impl Vim {
    /// Connects and logs in.
    pub(crate) fn open(host: &Host, provider: &Provider, account: &Account) -> Result<Vim> {
        let mut options = HttpOptions::from_host(host)?;
        options.ca_pem = provider.ca_certificate.clone();
        options.insecure = provider.insecure;
        let url = api_url(&provider.api_url)?;
        let mut vim = Vim {
            http: HttpClient::new(host, options)?,
            url,
            cookie: Mutex::default(),
            services: Vec::new(),
            product: String::new(),
        };
        let root = Reference::new("ServiceInstance", "ServiceInstance");
        let answer = vim.read("RetrieveServiceContent", &root, [])?;
        let document = answer.parse()?;
        for node in document.descendants() {
            if let Some(reference) = Reference::read(node) {
                vim.services.push((node.tag_name().name().to_owned(), reference));
            }
            if node.tag_name().name() == "fullName" {
                vim.product = node.text().unwrap_or_default().to_owned();
            }
        }
        let credentials =
            [Xml::text("userName", &account.username), Xml::text("password", &account.password)];
        let secrets = [account.password.as_str()];
        vim.call("Login", &vim.service("sessionManager")?, credentials, (true, &secrets))?;
        Ok(vim)
    }

    /// A service of the API by its name in ServiceContent.
    pub(crate) fn service(&self, name: &str) -> Result<Reference> {
        let found = self.services.iter().find(|(known, _)| known == name);
        found.map(|(_, reference)| reference.clone()).ok_or_else(|| {
            let message = format!("{} offers no {name}", self.product);
            PluginError::new(ErrorCode::Unsupported, message)
        })
    }

    /// Host and port that are spoken to: what an upload's `*` stands for.
    pub(crate) fn authority(&self) -> (String, Option<u16>) {
        (self.url.host_str().unwrap_or_default().to_owned(), self.url.port())
    }

    /// A call that changes nothing: repeated where the connection fails.
    pub(crate) fn read(
        &self,
        operation: &str,
        this: &Reference,
        arguments: impl IntoIterator<Item = Xml>,
    ) -> Result<Answer> {
        self.call(operation, this, arguments, (true, &[]))
    }

    /// A call that changes something: sent once.
    pub(crate) fn write(
        &self,
        operation: &str,
        this: &Reference,
        arguments: impl IntoIterator<Item = Xml>,
    ) -> Result<Answer> {
        self.call(operation, this, arguments, (false, &[]))
    }

    fn call(
        &self,
        operation: &str,
        this: &Reference,
        arguments: impl IntoIterator<Item = Xml>,
        (repeatable, secrets): (bool, &[&str]),
    ) -> Result<Answer> {
        let body = Xml::new(operation)
            .with("xmlns", "urn:vim25")
            .child(this.xml("_this"))
            .children(arguments);
        let envelope = Xml::new("soapenv:Envelope")
            .with("xmlns:soapenv", ENVELOPE)
            .with("xmlns:xsi", XSI)
            .with("xmlns:xsd", XSD)
            .child(Xml::new("soapenv:Body").child(body));
        let text = envelope.document().map_err(|error| {
            let message = format!("the request {operation} cannot be written: {error}");
            PluginError::new(ErrorCode::Internal, message)
        })?;
        let mut request = Request::to(Method::POST, self.url.clone())
            .header("content-type", "text/xml; charset=utf-8")
            .header("soapaction", "urn:vim25/6.5")
            .body(text);
        if repeatable {
            request = request.repeatable();
        }
        for secret in secrets {
            request = request.secret(secret);
        }
        let cookie = self.cookie.lock().unwrap_or_else(|poison| poison.into_inner()).clone();
        if let Some(cookie) = &cookie {
            request = request.secret_header("cookie", cookie);
        }
        let response = self.http.send(&request)?;
        if let Some(cookie) = response.header("set-cookie") {
            let pair = cookie.split(';').next().unwrap_or_default().trim().to_owned();
            *self.cookie.lock().unwrap_or_else(|poison| poison.into_inner()) = Some(pair);
        }
        let what = format!("vSphere refused {operation}");
        // Faults come with status 500.
        if !response.is_success() && response.status() != 500 {
            return Err(response.error(&what));
        }
        let answer = Answer(response.text());
        match fault(&answer) {
            Some(error) => Err(error.while_doing(what)),
            None if response.is_success() => Ok(answer),
            None => Err(response.error(&what)),
        }
    }
}

impl Drop for Vim {
    /// A session left open counts against the server's limit for half an hour.
    fn drop(&mut self) {
        if let Ok(manager) = self.service("sessionManager") {
            // It would end by itself: nobody needs to hear that this failed.
            self.write("Logout", &manager, []).ok();
        }
    }
}

/// The error that a SOAP fault is.
fn fault(answer: &Answer) -> Option<PluginError> {
    let document = answer.parse().ok()?;
    let named = |name: &str| document.descendants().find(|node| node.tag_name().name() == name);
    named("Fault")?;
    let said = named("faultstring").and_then(|node| node.text()).unwrap_or_default().trim();
    let detail = named("detail").and_then(|node| node.children().find(Node::is_element));
    let kind = detail.map(|node| node.tag_name().name().trim_end_matches("Fault"));
    Some(fault_of(kind.unwrap_or_default(), said))
}

/// The error of a fault's type and words.
pub(crate) fn fault_of(kind: &str, said: &str) -> PluginError {
    let (code, hint) = match kind {
        "InvalidLogin" | "NotAuthenticated" => {
            (ErrorCode::Auth, "check user name (with its domain: user@vsphere.local) and password")
        }
        "NoPermission" | "RestrictedVersion" => (
            ErrorCode::Permission,
            "the account needs vApp.Import, VirtualMachine.Provisioning and Datastore.AllocateSpace",
        ),
        "DuplicateName" => (ErrorCode::AlreadyExists, "give another ovf_name"),
        "ManagedObjectNotFound" | "NotFound" => (ErrorCode::NotFound, ""),
        "InsufficientStorageSpace"
        | "NoDiskSpace"
        | "InsufficientResourcesFault"
        | "OutOfBounds" => (ErrorCode::Quota, "make room on the datastore, or name another one"),
        "InvalidState" | "InvalidPowerState" | "TaskInProgress" => (ErrorCode::InvalidState, ""),
        "NotSupported" => (ErrorCode::Unsupported, ""),
        "HostCommunication" | "HostNotConnected" | "HostNotReachable" | "Timedout" => {
            (ErrorCode::Unavailable, "look at the host in the vSphere client")
        }
        _ => (ErrorCode::InvalidArgument, ""),
    };
    let words = match (kind, said) {
        ("", "") => "it gave no reason".to_owned(),
        (kind, "") => kind.to_owned(),
        ("", said) => said.to_owned(),
        (kind, said) => format!("{said} ({kind})"),
    };
    let mut error = PluginError::new(code, words).vendor_code(kind);
    if !hint.is_empty() {
        error = error.hint(hint);
    }
    match code {
        ErrorCode::Auth | ErrorCode::Permission => error.by_user(),
        ErrorCode::Unavailable => error.retryable(),
        _ => error,
    }
}

/// Copies a part of an answer into a request, under another name. Types (`xsi:type`) come along;
/// their prefixes become ours.
pub(crate) fn copied(node: Node<'_, '_>, name: &str) -> Result<Xml> {
    copied_within(node, name, DEPTH_MAX)
}

fn copied_within(node: Node<'_, '_>, name: &str, depth_left: usize) -> Result<Xml> {
    if depth_left == 0 {
        let message = format!("vSphere's answer is nested deeper than {DEPTH_MAX}");
        return Err(PluginError::new(ErrorCode::Io, message));
    }
    let mut copy = Xml::new(name);
    for attribute in node.attributes() {
        copy = match attribute.namespace() {
            Some(XSI) => {
                let value = qualified(node, attribute.value());
                copy.with(&format!("xsi:{}", attribute.name()), value)
            }
            _ => copy.with(attribute.name(), attribute.value()),
        };
    }
    let mut has_elements = false;
    for child in node.children().filter(Node::is_element) {
        has_elements = true;
        copy = copy.child(copied_within(child, child.tag_name().name(), depth_left - 1)?);
    }
    match node.text().filter(|_| !has_elements) {
        Some(text) => {
            copy.0.children.push(xmltree::XMLNode::Text(text.to_owned()));
            Ok(copy)
        }
        None => Ok(copy),
    }
}

/// A qualified name in our prefixes: those of XML Schema get `xsd`, the API's own none.
fn qualified(node: Node<'_, '_>, name: &str) -> String {
    match name.split_once(':') {
        Some((prefix, local)) if node.lookup_namespace_uri(Some(prefix)) == Some(XSD) => {
            format!("xsd:{local}")
        }
        Some((_, local)) => local.to_owned(),
        None => name.to_owned(),
    }
}

/// The address as a URL; without a path, `/sdk` is where every vCenter and ESXi host has its API.
fn api_url(text: &str) -> Result<Url> {
    let url = Url::parse(text).ok().filter(|url| matches!(url.scheme(), "https" | "http"));
    let mut url = url.filter(Url::has_host).ok_or_else(|| {
        PluginError::user_fault("api-url is no http(s) URL")
            .hint("write it as https://vcenter.example/sdk")
    })?;
    if url.path() == "/" {
        url.set_path("/sdk");
    }
    Ok(url)
}
