//! Manifests by digest and tag, checked against the blobs there are, and what refers to them.

use serde_json::{Value, json};

use super::{Answer, Asked, Behaviour, Holdings, State, StoredManifest, digest_of, lock};

pub(super) fn manifest(
    asked: &Asked,
    (repository, reference): (&str, &str),
    body: Vec<u8>,
    state: &State,
) -> Answer {
    let behaviour = lock(&state.behaviour).clone();
    let mut holdings = lock(&state.holdings);
    let by_tag = format!("{repository}:{reference}");
    let digest = match reference.starts_with("sha256:") {
        true => Some(reference.to_owned()),
        false => holdings.tags.get(&by_tag).cloned(),
    };
    let key = digest.map(|digest| format!("{repository}@{digest}"));
    match asked.method.as_str() {
        "GET" | "HEAD" => match key.and_then(|key| holdings.manifests.get(&key)) {
            Some(manifest) => Answer::new(200)
                .with("content-type", &manifest.media_type)
                .with("docker-content-digest", digest_of(&manifest.text))
                .body(manifest.text.clone()),
            None => Answer::error(404, "MANIFEST_UNKNOWN"),
        },
        "DELETE" if behaviour.no_deletes => Answer::error(405, "UNSUPPORTED"),
        "DELETE" => match key.filter(|key| holdings.manifests.remove(key).is_some()) {
            Some(_) => {
                holdings.tags.retain(|_, digest| digest != reference);
                Answer::new(202)
            }
            None => Answer::error(404, "MANIFEST_UNKNOWN"),
        },
        _ => put_manifest(asked, (repository, reference), body, &behaviour, &mut holdings),
    }
}

fn put_manifest(
    asked: &Asked,
    (repository, reference): (&str, &str),
    body: Vec<u8>,
    behaviour: &Behaviour,
    holdings: &mut Holdings,
) -> Answer {
    let digest = digest_of(&body);
    let Ok(content) = serde_json::from_slice::<Value>(&body) else {
        return Answer::error(400, "MANIFEST_INVALID");
    };
    let media_type = asked.headers.get("content-type").cloned().unwrap_or_default();
    let layers = content["layers"].as_array().cloned().unwrap_or_default();
    let named = layers.iter().chain(content.get("config"));
    for blob in named {
        let name = blob["digest"].as_str().unwrap_or_default();
        let there = holdings.blobs.get(&format!("{repository}@{name}")).map(Vec::len);
        if there.map(|bytes| bytes as u64) != blob["size"].as_u64() {
            return Answer::error(404, "MANIFEST_BLOB_UNKNOWN");
        }
    }
    if content["mediaType"].as_str().is_some_and(|own| own != media_type)
        || (reference.starts_with("sha256:") && reference != digest)
    {
        return Answer::error(400, "MANIFEST_INVALID");
    }
    if !reference.starts_with("sha256:") {
        holdings.tags.insert(format!("{repository}:{reference}"), digest.clone());
    }
    holdings
        .manifests
        .insert(format!("{repository}@{digest}"), StoredManifest { text: body, media_type });
    let answer = Answer::new(201).with("docker-content-digest", &digest).with("location", "/");
    match content["subject"]["digest"].as_str() {
        Some(subject) if behaviour.referrers => answer.with("oci-subject", subject),
        _ => answer,
    }
}

pub(super) fn referrers(repository: &str, subject: &str, state: &State) -> Answer {
    if !lock(&state.behaviour).referrers {
        return Answer::error(404, "NOT_FOUND");
    }
    let holdings = lock(&state.holdings);
    let prefix = format!("{repository}@");
    let all = holdings.manifests.iter().filter_map(|(key, manifest)| {
        let digest = key.strip_prefix(&prefix)?;
        let content: Value = serde_json::from_slice(&manifest.text).ok()?;
        (content["subject"]["digest"] == subject).then(|| {
            json!({"mediaType": manifest.media_type, "digest": digest,
                "size": manifest.text.len(), "artifactType": content["artifactType"]})
        })
    });
    let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": all.collect::<Vec<_>>()});
    Answer::new(200).body(index.to_string().into_bytes())
}
