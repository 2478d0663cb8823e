//! A factory behind a daemon: the REST interface, as a client sees it.
//!
//! - [`client`]: addresses, TLS, signatures, and what answers mean
//! - here: which request each wish of a command is
//!
//! Nothing is kept here but which kind an image is, and logs that are being followed; the daemon is
//! asked again each time.

mod client;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
pub(crate) use client::RemoteError;
use client::{Client, Method, Stream};
use imagefactory_dispatch::requests::{CredentialsGiven, MadeFrom};
use imagefactory_model::image::ImageKind;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::cli::DaemonFlags;
use crate::commands::Judgement;
use crate::error::CommandError;
use crate::factory::{BuildOrder, Factory, Import, LogPosition, Product, Removal, Taken};
use crate::fetch_spec::FetchSpec;
use crate::image_view::ImageView;

/// The daemon is asked so often while a command waits: a person sees no more.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// The daemon at an address.
pub(crate) struct RemoteFactory {
    client: Client,
    kinds: Mutex<HashMap<Uuid, ImageKind>>,
    /// Logs that are followed; `None` = it ended.
    logs: tokio::sync::Mutex<HashMap<Uuid, Option<Stream>>>,
}

impl RemoteFactory {
    /// Nothing is sent yet.
    pub(crate) fn connect(flags: &DaemonFlags) -> Result<RemoteFactory, CommandError> {
        Ok(RemoteFactory {
            client: Client::new(flags)?,
            kinds: Mutex::default(),
            logs: Default::default(),
        })
    }

    /// Judges a template as the daemon would.
    pub(crate) async fn judge(&self, template: &str) -> Result<Judgement, CommandError> {
        let body = json!({ "template": template });
        let path = "templates/validate";
        let answer = self.client.ask(Method::POST, path, Some(&body)).await?;
        let refused = answer.status == 422;
        if !refused && !answer.is_success() {
            return Err(answer.refusal().into());
        }
        let document = answer.json()?;
        Ok(Judgement::from_wire(&document, refused))
    }

    fn view(&self, answer: &Value) -> Result<ImageView, CommandError> {
        let view = ImageView::from_wire(answer)
            .ok_or_else(|| RemoteError::NotUnderstood("an image was expected".to_owned()))?;
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        kinds.insert(view.id, view.kind);
        Ok(view)
    }

    fn known_kind(&self, id: Uuid) -> Option<ImageKind> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }

    /// `base_images/UUID`, for an image of any kind. `None`: there is no such image.
    async fn path_of(&self, id: Uuid) -> Result<Option<String>, CommandError> {
        if self.known_kind(id).is_none() && self.image(id).await?.is_none() {
            return Ok(None);
        }
        Ok(self.known_kind(id).map(|kind| format!("{}/{id}", kind.collection())))
    }

    async fn existing_path(&self, id: Uuid) -> Result<String, CommandError> {
        self.path_of(id).await?.ok_or(CommandError::NoSuchImage(id))
    }

    /// What came of the followed log since; empty after a moment without anything, and at its end.
    async fn followed_log(&self, id: Uuid) -> Result<Vec<u8>, CommandError> {
        let mut streams = self.logs.lock().await;
        let stream = match streams.entry(id) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let path = format!("{}/log?follow=true", self.existing_path(id).await?);
                unknown.insert(Some(self.client.stream(&path).await?))
            }
        };
        let Some(open) = stream else { return Ok(Vec::new()) };
        match tokio::time::timeout(LOOK_AGAIN, open.next()).await {
            Ok(Ok(Some(bytes))) => Ok(bytes),
            Ok(Ok(None)) => {
                *stream = None;
                Ok(Vec::new())
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Ok(Vec::new()),
        }
    }

    async fn list(&self, kind: ImageKind, spec: &FetchSpec) -> Result<Vec<Uuid>, CommandError> {
        let mut path = kind.collection().to_owned();
        if let Some(status) = spec.status() {
            path.push_str(&format!("?status={status}"));
        }
        let listed = self.client.ask(Method::GET, &path, None).await?.success()?.json()?;
        let entries = listed[kind.collection()].as_array().cloned().unwrap_or_default();
        let id = |entry: &Value| {
            let image = entry.get(kind.name()).unwrap_or(entry);
            image["id"].as_str().and_then(|id| id.parse().ok())
        };
        Ok(entries.iter().filter_map(id).collect())
    }
}

fn credentials_text(credentials: CredentialsGiven) -> Option<String> {
    match credentials {
        CredentialsGiven::Absent => None,
        CredentialsGiven::Named(text) | CredentialsGiven::Inline(text) => Some(text),
    }
}

/// The fields of an order, `None` ones left out.
fn fields(pairs: Vec<(&str, Option<Value>)>) -> Map<String, Value> {
    let given = pairs.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
    given.collect()
}

fn source(from: MadeFrom, id_key: &'static str) -> (&'static str, Option<Value>) {
    match from {
        MadeFrom::Image(id) => (id_key, Some(id.to_string().into())),
        MadeFrom::Template(template) => ("template", Some(template.into())),
    }
}

#[async_trait]
impl Factory for RemoteFactory {
    async fn order(&self, order: BuildOrder) -> Result<Taken, CommandError> {
        let parameters = ("parameters", order.parameters.map(Value::Object));
        let (kind, fields) = match order.product {
            Product::Base { template } => {
                let template = ("template", Some(template.into()));
                (ImageKind::BaseImage, fields(vec![template, parameters]))
            }
            Product::Target { target, from } => {
                let target = ("target", Some(target.into()));
                let from = source(from, "base_image_id");
                (ImageKind::TargetImage, fields(vec![target, from, parameters]))
            }
            Product::Provider { target, provider, credentials, from } => {
                let target = ("target", Some(target.into()));
                let provider = ("provider", Some(provider));
                let credentials = ("credentials", credentials_text(credentials).map(Value::from));
                let from = source(from, "target_image_id");
                let all = vec![target, provider, credentials, from, parameters];
                (ImageKind::ProviderImage, fields(all))
            }
        };
        let body = json!({ kind.name(): fields });
        let answer = self.client.ask(Method::POST, kind.collection(), Some(&body)).await?;
        let answer = answer.success()?;
        let warnings = answer.warnings.clone();
        Ok(Taken { image: self.view(&answer.json()?)?, warnings })
    }

    async fn import(&self, import: Import) -> Result<Taken, CommandError> {
        let answer = self.client.import(&import).await?.success()?;
        let warnings = answer.warnings.clone();
        Ok(Taken { image: self.view(&answer.json()?)?, warnings })
    }

    async fn leftovers(&self) -> Result<Vec<Value>, CommandError> {
        let answer = self.client.ask(Method::GET, "leftovers", None).await?.success()?.json()?;
        Ok(answer["leftovers"].as_array().cloned().unwrap_or_default())
    }

    async fn drop_leftover(&self, id: Uuid) -> Result<(), CommandError> {
        let answer = self.client.ask(Method::DELETE, &format!("leftovers/{id}"), None).await?;
        match answer.status {
            404 => Err(CommandError::NoSuchLeftover(id)),
            _ => answer.success().map(|_| ()).map_err(CommandError::from),
        }
    }

    async fn image(&self, id: Uuid) -> Result<Option<ImageView>, CommandError> {
        let kinds = self.known_kind(id).map_or(ImageKind::ALL.to_vec(), |kind| vec![kind]);
        for kind in kinds {
            let path = format!("{}/{id}", kind.collection());
            let answer = self.client.ask(Method::GET, &path, None).await?;
            if answer.status == 404 {
                continue;
            }
            return self.view(&answer.success()?.json()?).map(Some);
        }
        Ok(None)
    }

    async fn images(&self, spec: &FetchSpec) -> Result<Vec<ImageView>, CommandError> {
        let mut ids = Vec::new();
        if let Some(id) = spec.id() {
            ids.push(id);
        } else {
            for kind in spec.kind().map_or(ImageKind::ALL.to_vec(), |kind| vec![kind]) {
                ids.extend(self.list(kind, spec).await?);
            }
        }
        let mut views = Vec::new();
        for id in ids {
            // Between the list and here it may have been deleted.
            views.extend(self.image(id).await?.filter(|view| spec.fits(&view.document)));
        }
        Ok(views)
    }

    async fn delete(&self, removal: Removal) -> Result<ImageView, CommandError> {
        let id = removal.id;
        let image = self.image(id).await?.ok_or(CommandError::NoSuchImage(id))?;
        let credentials = credentials_text(removal.credentials).map(Value::from);
        let fields = fields(vec![
            ("target", removal.target.map(Value::from)),
            ("provider", removal.provider),
            ("credentials", credentials),
            ("parameters", removal.parameters.map(Value::Object)),
        ]);
        let query = if removal.forget { "?forget=true" } else { "" };
        let path = format!("{}/{id}{query}", image.kind.collection());
        let body = (!fields.is_empty()).then(|| json!({ image.kind.name(): fields }));
        self.client.ask(Method::DELETE, &path, body.as_ref()).await?.success()?;
        Ok(image)
    }

    async fn cancel(&self, id: Uuid) -> Result<(), CommandError> {
        let path = format!("{}/cancel", self.existing_path(id).await?);
        self.client.ask(Method::POST, &path, None).await?.success()?;
        Ok(())
    }

    async fn plugins(&self) -> Result<Vec<Value>, CommandError> {
        let answer = self.client.ask(Method::GET, "plugins", None).await?.success()?.json()?;
        Ok(answer["plugins"].as_array().cloned().unwrap_or_default())
    }

    async fn log(&self, id: Uuid, position: &mut LogPosition) -> Result<Vec<u8>, CommandError> {
        let bytes = match position.follows {
            true => self.followed_log(id).await?,
            false => {
                let path = format!("{}/log", self.existing_path(id).await?);
                let answer = self.client.ask(Method::GET, &path, None).await?.success()?;
                let read = usize::try_from(position.bytes_read).unwrap_or(usize::MAX);
                answer.body.get(read..).unwrap_or_default().to_vec()
            }
        };
        position.bytes_read += bytes.len() as u64;
        Ok(bytes)
    }

    async fn next_change(&self) -> Option<ImageView> {
        tokio::time::sleep(LOOK_AGAIN).await;
        None
    }

    async fn close(&self) {}
}

/// The name under which a file is uploaded.
fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
