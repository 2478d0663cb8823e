//! `images`: lists images. JSON is shaped as the original's: one image is the document itself,
//! several stand in a list, none is an empty object.

use serde_json::{Value, json};

use super::Context;
use crate::error::CommandError;
use crate::fetch_spec::FetchSpec;
use crate::image_view::ImageView;

/// `images FETCH_SPEC_JSON`.
pub(super) async fn images(context: &Context, fetch_spec: &str) -> Result<u8, CommandError> {
    let spec = FetchSpec::parse(fetch_spec)?;
    let images = context.factory.images(&spec).await?;
    if context.output.is_json() {
        context.output.document(&document(images))?;
    } else {
        let lines: String = images.iter().map(|image| line(image) + "\n").collect();
        context.output.text(&lines)?;
    }
    Ok(0)
}

fn document(images: Vec<ImageView>) -> Value {
    let mut documents: Vec<Value> = images.into_iter().map(|image| image.document).collect();
    match documents.len() {
        0 => json!({}),
        1 => documents.remove(0),
        _ => json!({ "images": documents }),
    }
}

/// `UUID  provider_image  COMPLETE  100%  ec2  ami-1`: columns that `awk` takes apart.
fn line(image: &ImageView) -> String {
    let rest = [image.target.as_deref(), image.identifier_on_provider.as_deref()];
    let rest: String = rest.into_iter().flatten().map(|text| format!("  {text}")).collect();
    format!(
        "{}  {:<14}  {:<12}  {:>3}%{rest}",
        image.id,
        image.kind.name(),
        image.status.name(),
        image.percent
    )
}
