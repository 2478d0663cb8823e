//! A finished disk image from outside becomes a base image.
//!
//! The body comes first and the record after it: an import that is killed leaves a file that the
//! next start sweeps, never an image without a body.

use std::path::PathBuf;

use imagefactory_model::image::Image;
use imagefactory_model::order::{Order, OrderKind, Submission};
use imagefactory_model::status::Status;
use imagefactory_store::images::ImageStep;
use serde_json::{Map, Value};

use crate::dispatcher::Dispatcher;
use crate::error::DispatchError;

impl Dispatcher {
    /// Takes a finished disk image as a base image. `file` is copied; holes stay holes.
    pub async fn import_base_image(
        &self,
        file: PathBuf,
        format: String,
        template: Option<String>,
        parameters: Option<Map<String, Value>>,
    ) -> Result<Image, DispatchError> {
        let mut image = Image::new_base(String::new(), parameters);
        image.template = template;
        let (bodies, id) = (self.engine().bodies.clone(), image.id);
        let imported = tokio::task::spawn_blocking(move || bodies.import(&file, id, &format));
        let body = imported.await.map_err(|_| DispatchError::ShuttingDown)??;
        let order =
            Order { owner: Some(self.engine().owner.id()), ..Order::new(id, OrderKind::Build) };
        let closes = order.id;
        let submission = Submission { images: vec![image], orders: vec![order], idempotency: None };
        self.engine().store.submit(submission).await?;
        for status in [Status::Pending, Status::Building] {
            self.engine().progress.step(id, ImageStep::to(status)).await?;
        }
        let done = ImageStep {
            activity: Some("Base Image import complete".to_owned()),
            percent_complete: Some(100),
            body: Some(body),
            ..ImageStep::to(Status::Complete)
        };
        let image = self.engine().progress.step(id, done).await?;
        self.engine().store.close(closes).await?;
        Ok(image)
    }
}
