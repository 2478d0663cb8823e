//! What clients ask for, what they were answered, and what must therefore be true.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use imagefactory_model::status::Status;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use super::random::Random;
use super::records::Records;
use crate::callback_listener::CallbackListener;
use crate::factory::TDL_MOCK;

/// Images below which nothing is deleted, so that there is always something to build on.
const IMAGES_MIN: usize = 6;

/// A request of a client.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    kind: &'static str,
    method: Method,
    path: String,
    body: Value,
    /// The order's own callback URL ends with it; also its `Idempotency-Key`, where it has one.
    tag: String,
    with_key: bool,
    /// The image that exists already, for deletions and cancels.
    image: Option<String>,
    /// A disk image that is sent beside the body, as a form.
    disk: Option<String>,
}

/// What became of a request.
#[derive(Debug)]
pub(super) struct Answered {
    asked: Asked,
    /// `None` = the daemon died before it answered.
    answer: Option<(StatusCode, String)>,
}

impl Asked {
    /// Sends it and waits for the answer.
    pub(super) async fn send(self, client: &Client, url: &str) -> Answered {
        let mut request = client.request(self.method.clone(), format!("{url}{}", self.path));
        if self.with_key {
            request = request.header("Idempotency-Key", &self.tag);
        }
        let request = match &self.disk {
            Some(disk) => request
                .header("Content-Type", "multipart/form-data; boundary=b")
                .body(form(&self.body, disk)),
            None => request.json(&self.body),
        };
        let sent = request.send().await;
        let answer = match sent {
            Err(_) => None,
            Ok(response) => {
                let status = response.status();
                // A broken body is no answer either.
                response.text().await.ok().map(|text| (status, text))
            }
        };
        Answered { asked: self, answer }
    }
}

impl Answered {
    /// For the summary.
    pub(super) fn in_words(&self) -> String {
        match &self.answer {
            None => format!("{}: no answer", self.asked.kind),
            Some((status, _)) => format!("{}: {}", self.asked.kind, status.as_u16()),
        }
    }
}

/// An image that somebody may rely on.
#[derive(Debug, Default)]
struct Promised {
    /// Its deletion was answered 204.
    deleted: bool,
    /// Its deletion was asked for, and perhaps taken.
    perhaps_deleted: bool,
}

/// Everything that was asked for and answered.
pub(super) struct Orders {
    ledger: PathBuf,
    count: u64,
    promised: BTreeMap<String, Promised>,
    unanswered: Vec<Asked>,
    /// Tags of orders with a key that were answered; kind and id of the image of the answer.
    keyed: BTreeMap<String, (String, String)>,
    /// Tags of deletions.
    deletions: BTreeSet<String>,
    /// Candidates by collection: image and status, as the store knew them lately.
    known: BTreeMap<&'static str, Vec<(String, Status)>>,
    wrong: Vec<String>,
}

impl Orders {
    /// Nothing yet. `ledger` is the folder of the provider's ledger.
    pub(super) fn new(ledger: PathBuf) -> Orders {
        Orders {
            ledger,
            count: 0,
            promised: BTreeMap::new(),
            unanswered: Vec::new(),
            keyed: BTreeMap::new(),
            deletions: BTreeSet::new(),
            known: BTreeMap::new(),
            wrong: Vec::new(),
        }
    }

    /// Images that are recorded must stay, whether their order was answered or not; and new
    /// requests are about them.
    pub(super) fn learn(&mut self, records: &Records) {
        self.known.clear();
        for image in records.images() {
            self.promised.entry(image.id.clone()).or_default();
            let known = self.known.entry(image.collection()).or_default();
            known.push((image.id.clone(), image.status));
        }
    }

    /// One to four requests. Those that will hardly be answered can be repeated by their key.
    pub(super) fn draw(
        &mut self,
        random: &mut Random,
        listener: &CallbackListener,
        in_flight: bool,
    ) -> Vec<Asked> {
        let count = random.of(1..5);
        (0..count)
            .map(|_| {
                let mut asked = self.draw_one(random, listener);
                asked.with_key = asked.image.is_none() && (in_flight || random.percent(30));
                asked
            })
            .collect()
    }

    fn draw_one(&mut self, random: &mut Random, listener: &CallbackListener) -> Asked {
        self.count += 1;
        let tag = format!("order-{}", self.count);
        let callbacks = json!([listener.url(&tag)]);
        let new = |kind, path: &str, root: &str, fields: Value| Asked {
            kind,
            method: Method::POST,
            path: format!("/imagefactory/{path}"),
            body: json!({root: fields}),
            tag: tag.clone(),
            with_key: false,
            image: None,
            disk: None,
        };
        let parameters = parameters(random, callbacks.clone());
        let credentials = match random.percent(50) {
            true => json!("@mock"),
            false => json!("<secret>canary-of-the-kill-test</secret>"),
        };
        let provider = json!({"ledger": self.ledger});
        match random.weighted(&[22, 10, 10, 22, 8, 10, 14, 8, 8]) {
            1 => new(
                "target image by template",
                "target_images",
                "target_image",
                json!({
                    "target": "mock", "template": TDL_MOCK, "parameters": parameters,
                }),
            ),
            2 if let Some(base) = self.any(random, "base_images", is_usable) => new(
                "target image by base image",
                "target_images",
                "target_image",
                json!({
                    "target": "mock", "base_image_id": base, "parameters": parameters,
                }),
            ),
            3 => new(
                "provider image by template",
                "provider_images",
                "provider_image",
                json!({
                    "target": "mock", "provider": provider, "credentials": credentials,
                    "template": TDL_MOCK, "parameters": parameters,
                }),
            ),
            4 if let Some(target) = self.any(random, "target_images", is_usable) => new(
                "provider image by target image",
                "provider_images",
                "provider_image",
                json!({
                    "target": "mock", "provider": provider, "credentials": credentials,
                    "target_image_id": target, "parameters": parameters,
                }),
            ),
            5 => {
                let mut parameters = parameters;
                parameters["snapshot"] = true.into();
                new(
                    "snapshot",
                    "provider_images",
                    "provider_image",
                    json!({
                        "target": "mock", "provider": provider, "credentials": credentials,
                        "template": TDL_MOCK, "parameters": parameters,
                    }),
                )
            }
            6 if let Some((collection, id)) = self.victim(random) => {
                let root = collection.trim_end_matches('s');
                let fields = json!({
                    "credentials": credentials, "parameters": {"callbacks": callbacks},
                });
                Asked {
                    method: Method::DELETE,
                    image: Some(id.clone()),
                    ..new("deletion", &format!("{collection}/{id}"), root, fields)
                }
            }
            7 if let Some((collection, id)) = self.open_image(random) => Asked {
                image: Some(id.clone()),
                ..new("cancel", &format!("{collection}/{id}/cancel"), "cancel", json!({}))
            },
            8 => Asked {
                // Large enough that kills find it half sent, half hashed.
                disk: Some(tag.repeat(1 << random.of(0..17))),
                ..new("import", "base_images", "base_image", json!({"parameters": parameters}))
            },
            _ => new(
                "base image",
                "base_images",
                "base_image",
                json!({
                    "template": TDL_MOCK, "parameters": parameters,
                }),
            ),
        }
    }

    fn any(
        &self,
        random: &mut Random,
        collection: &'static str,
        fits: fn(Status) -> bool,
    ) -> Option<String> {
        let known = self.known.get(collection)?;
        let fitting: Vec<&String> =
            known.iter().filter(|(_, status)| fits(*status)).map(|(id, _)| id).collect();
        random.pick(&fitting).map(ToString::to_string)
    }

    fn victim(&self, random: &mut Random) -> Option<(&'static str, String)> {
        let all: usize = self.known.values().map(Vec::len).sum();
        let collection = random.pick(&COLLECTIONS).copied()?;
        (all > IMAGES_MIN)
            .then(|| self.any(random, collection, |_| true))?
            .map(|id| (collection, id))
    }

    fn open_image(&self, random: &mut Random) -> Option<(&'static str, String)> {
        let collection = random.pick(&COLLECTIONS).copied()?;
        self.any(random, collection, |status| !status.is_final()).map(|id| (collection, id))
    }

    /// Keeps what was answered.
    pub(super) fn note(&mut self, answered: Answered) {
        let Answered { asked, answer } = answered;
        let Some((status, text)) = answer else {
            if asked.kind == "deletion" {
                let image = asked.image.clone().unwrap_or_default();
                self.promised.entry(image).or_default().perhaps_deleted = true;
                self.deletions.insert(asked.tag.clone());
            }
            if asked.with_key {
                self.unanswered.push(asked);
            }
            return;
        };
        match (asked.kind, status) {
            ("deletion", StatusCode::NO_CONTENT) => {
                let image = asked.image.unwrap_or_default();
                self.promised.entry(image).or_default().deleted = true;
                self.deletions.insert(asked.tag);
            }
            // Finished, gone or in use meanwhile: clients live with that.
            ("deletion" | "cancel", StatusCode::NOT_FOUND | StatusCode::CONFLICT)
            | ("cancel", StatusCode::ACCEPTED) => {}
            // What it was to be made from went away.
            (_, StatusCode::NOT_FOUND) => {}
            (_, StatusCode::ACCEPTED) => {
                let document: Value = serde_json::from_str(&text).expect("JSON");
                let (kind, image) =
                    document.as_object().and_then(|root| root.iter().next()).expect("a root key");
                let id = image["id"].as_str().expect("an id").to_owned();
                self.promised.entry(id.clone()).or_default();
                if asked.with_key {
                    self.keyed.insert(asked.tag, (kind.clone(), id));
                }
            }
            // It was told to stop.
            (_, StatusCode::SERVICE_UNAVAILABLE) => {}
            _ => self.wrong.push(format!("{asked:?} was answered {status}: {text}")),
        }
    }

    /// Requests that a client would send again.
    pub(super) fn unanswered_with_key(&mut self) -> Vec<Asked> {
        std::mem::take(&mut self.unanswered)
    }

    /// Promises that were broken.
    pub(super) fn violations(&mut self, records: &Records) -> Vec<String> {
        let mut wrong = std::mem::take(&mut self.wrong);
        for (id, promised) in &self.promised {
            match (records.image(id), promised) {
                (None, Promised { deleted: false, perhaps_deleted: false }) => {
                    wrong.push(format!("image {id} was promised and is not there"));
                }
                (Some(image), Promised { deleted: true, .. })
                    if image.status != Status::DeleteFailed =>
                {
                    wrong.push(format!("image {id} was deleted and is {}", image.status));
                }
                _ => {}
            }
        }
        // Gone for good: not looked at again.
        self.promised.retain(|id, _| records.image(id).is_some());
        for (tag, (kind, id)) in &self.keyed {
            let made = records.made_by(tag, kind);
            if made.iter().any(|other| other != id) {
                wrong.push(format!("{tag} was posted under one key and made {made:?}"));
            }
        }
        wrong
    }

    /// Callbacks that are missing, out of order, or untrue.
    pub(super) fn callback_violations(
        &self,
        records: &Records,
        listener: &CallbackListener,
    ) -> Vec<String> {
        let mut wrong = Vec::new();
        for (tag, id) in listener.subjects() {
            let heard = listener.statuses(&tag, &id);
            // A deletion's listener hears from the moment of its order on, whatever the image is
            // then.
            let mut before = match self.deletions.contains(&tag) {
                true => None,
                false => Some(Status::New),
            };
            for status in &heard {
                if before.is_some_and(|before: Status| !before.can_become(*status)) {
                    wrong.push(format!("{tag} heard of {id}: {heard:?}; {status} cannot follow"));
                }
                before = Some(*status);
            }
            let (last, now) = (heard.last().copied(), records.image(&id).map(|image| image.status));
            let is_told = match now {
                // A build's listener hears of its end, or that the image is being deleted.
                None => {
                    matches!(last, Some(status) if status.is_final() || status == Status::Deleting)
                }
                Some(Status::DeleteFailed) => true,
                Some(status) => last == Some(status),
            };
            if !is_told {
                wrong.push(format!("{tag} heard of {id}: {heard:?}, and it is {now:?}"));
            }
        }
        for image in records.images() {
            for tag in image.callback_tags() {
                if listener.statuses(&tag, &image.id).is_empty() {
                    wrong.push(format!(
                        "{tag} never heard of {}, which is {}",
                        image.id, image.status
                    ));
                }
            }
        }
        wrong
    }
}

/// A multipart form of the fields and the file.
fn form(body: &Value, disk: &str) -> String {
    let part = |name: &str, value: &str| {
        format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let fields = body.as_object().and_then(|root| root.values().next()?.as_object());
    let mut text = String::new();
    for (name, value) in fields.into_iter().flatten() {
        text.push_str(&part(name, &value.to_string()));
    }
    text + &part("image_body", disk) + "--b--\r\n"
}

const COLLECTIONS: [&str; 3] = ["base_images", "target_images", "provider_images"];

fn is_usable(status: Status) -> bool {
    !matches!(status, Status::Deleting | Status::Deleted | Status::DeleteFailed | Status::Failed)
}

/// How long the mock plugins work, in how many steps, and how they end.
fn parameters(random: &mut Random, callbacks: Value) -> Value {
    // Mostly shorter than a life: an order that dies five times in one stage is given up.
    let duration_ms = match random.percent(80) {
        true => random.of(0..300),
        false => random.of(300..1500),
    };
    let mut parameters = json!({
        "callbacks": callbacks,
        "mock_size_bytes": 512 << random.of(0..9),
        "mock_duration_ms": duration_ms,
        "mock_steps": random.of(1..25),
    });
    if random.percent(30) {
        // Equal orders share a body.
        parameters["mock_size_bytes"] = 65_536.into();
        parameters["mock_duration_ms"] = 100.into();
        parameters["mock_steps"] = 5.into();
    }
    if random.percent(30) {
        parameters["fresh"] = true.into();
    }
    match random.of(0..100) {
        0..6 => parameters["mock_fail"] = "as it was told to".into(),
        6..9 => parameters["mock_crash"] = true.into(),
        9..12 => parameters["mock_fail_retryable_times"] = 1.into(),
        12..20 => parameters["mock_did"] = "a last line".into(),
        20..25 => parameters["mock_should"] = "no".into(),
        _ => {}
    }
    parameters
}
