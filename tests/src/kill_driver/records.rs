//! What the store says: read from its files by a reader of our own, beside the running daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{LazyLock, Mutex};

use imagefactory_model::status::Status;
use imagefactory_store::sparse;
use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{Connection, Row, SqliteConnection};

use crate::ledger::Ledger;

/// An image as it is recorded.
#[derive(Debug)]
pub(super) struct RecordedImage {
    pub(super) id: String,
    kind: String,
    pub(super) status: Status,
    parameters: Value,
    identifier_on_provider: Option<String>,
    body: Option<(u64, String)>,
}

/// All records, at one moment.
#[derive(Debug)]
pub(super) struct Records {
    images: BTreeMap<String, RecordedImage>,
    pub(super) open_orders: i64,
    /// Lines that must be gone when nothing is to be done, with what they are.
    pending: Vec<(&'static str, i64)>,
    integrity: String,
}

impl Records {
    /// Reads the records of a store.
    pub(super) async fn read(storage: &Path) -> Records {
        let file = storage.join("imagefactory.sqlite");
        let options = SqliteConnectOptions::new().filename(file).read_only(true);
        let mut connection = SqliteConnection::connect_with(&options).await.expect("records");
        // One transaction, one moment.
        let mut moment = connection.begin().await.expect("a transaction");
        let rows = sqlx::query("SELECT * FROM images ORDER BY seq").fetch_all(&mut *moment).await;
        let images =
            rows.expect("images").iter().map(image_of).map(|i| (i.id.clone(), i)).collect();
        let open_orders = count(&mut moment, "SELECT COUNT(*) FROM orders WHERE open = 1").await;
        let mut pending = Vec::new();
        for (what, sql) in [
            ("open orders", "SELECT COUNT(*) FROM orders WHERE open = 1"),
            ("callbacks", "SELECT COUNT(*) FROM callbacks"),
            ("reservations", "SELECT COUNT(*) FROM reservations"),
            ("running stages", "SELECT COUNT(*) FROM stages WHERE state = 'running'"),
            (
                "stages of no order",
                "SELECT COUNT(*) FROM stages WHERE order_id NOT IN \
                 (SELECT id FROM orders)",
            ),
        ] {
            pending.push((what, count(&mut moment, sql).await));
        }
        let check = sqlx::query("PRAGMA integrity_check").fetch_one(&mut *moment).await;
        let integrity = check.and_then(|row| row.try_get(0)).expect("a check");
        moment.commit().await.expect("nothing was written");
        connection.close().await.expect("it closes");
        Records { images, open_orders, pending, integrity }
    }

    /// Is there nothing to do any more?
    pub(super) fn is_at_rest(&self) -> bool {
        self.pending.iter().all(|(_, count)| *count == 0)
    }

    /// All images, in no order.
    pub(super) fn images(&self) -> impl Iterator<Item = &RecordedImage> {
        self.images.values()
    }

    /// The image of an id.
    pub(super) fn image(&self, id: &str) -> Option<&RecordedImage> {
        self.images.get(id)
    }

    /// Is there such an image?
    pub(super) fn knows(&self, id: &str) -> bool {
        self.images.contains_key(id)
    }

    /// Is there such an image, and has it a body?
    pub(super) fn has_body(&self, id: &str) -> bool {
        self.images.get(id).is_some_and(|image| image.body.is_some())
    }

    /// Images of this kind (`base_image`) that an order with this tag made.
    pub(super) fn made_by(&self, tag: &str, kind: &str) -> Vec<String> {
        let of_kind = self.images.values().filter(|image| image.kind == kind);
        let made = of_kind.filter(|image| image.callback_tags().iter().any(|own| own == tag));
        made.map(|image| image.id.clone()).collect()
    }

    /// How many images there are, for the summary.
    pub(super) fn census(&self) -> BTreeMap<String, u32> {
        let mut census = BTreeMap::new();
        for image in self.images.values() {
            *census.entry(format!("{} {}", image.kind, image.status)).or_default() += 1;
        }
        census
    }

    /// What is wrong with the records and their files, when nothing is to be done.
    pub(super) fn violations(&self, storage: &Path) -> Vec<String> {
        let pending = self.pending.iter().filter(|(_, count)| *count != 0);
        let mut wrong: Vec<String> =
            pending.map(|(what, count)| format!("{count} {what} are left")).collect();
        if self.integrity != "ok" {
            wrong.push(format!("the database is damaged: {}", self.integrity));
        }
        for image in self.images.values() {
            let id = &image.id;
            if !image.status.is_final() || image.status == Status::Deleted {
                wrong.push(format!("{} {id} is {}", image.kind, image.status));
            }
            wrong.extend(meta_violation(storage, image));
            let is_disk = image.kind != "provider_image";
            match (&image.body, image.status) {
                (None, Status::Complete) if is_disk => wrong.push(format!("{id} has no body")),
                (Some((bytes, sha256)), Status::Complete) => {
                    wrong.extend(body_violation(
                        &storage.join(format!("{id}.body")),
                        *bytes,
                        sha256,
                    ));
                }
                _ => {}
            }
        }
        wrong
    }

    /// The provider must have exactly the images that are recorded as complete.
    pub(super) fn ledger_violations(&self, ledger: &Ledger) -> Vec<String> {
        let standing = ledger.standing();
        let recorded: BTreeMap<&str, &RecordedImage> = self
            .images
            .values()
            .filter_map(|image| Some((image.identifier_on_provider.as_deref()?, image)))
            .collect();
        let mut wrong: Vec<String> =
            ledger.doubled().iter().map(|token| format!("{token} was created twice")).collect();
        for (identifier, token) in &standing {
            let is_ours = recorded.get(identifier).is_some_and(|image| {
                matches!(image.status, Status::Complete | Status::DeleteFailed)
            });
            if !is_ours {
                wrong.push(format!("{identifier} (token {token}) is left on the provider"));
            }
        }
        let complete = recorded.iter().filter(|(_, image)| image.status == Status::Complete);
        for (identifier, image) in complete.filter(|(id, _)| !standing.contains_key(**id)) {
            wrong
                .push(format!("{} is COMPLETE, and {identifier} is not on its provider", image.id));
        }
        wrong
    }
}

impl RecordedImage {
    /// Where it is found over REST.
    pub(super) fn collection(&self) -> &'static str {
        match self.kind.as_str() {
            "base_image" => "base_images",
            "target_image" => "target_images",
            _ => "provider_images",
        }
    }

    /// Last parts of the URLs that hear of its build.
    pub(super) fn callback_tags(&self) -> Vec<String> {
        let urls = self.parameters["callbacks"].as_array().cloned().unwrap_or_default();
        let tag = |url: &Value| Some(url.as_str()?.rsplit('/').next()?.to_owned());
        urls.iter().filter_map(tag).collect()
    }
}

fn meta_violation(storage: &Path, image: &RecordedImage) -> Option<String> {
    let text = match std::fs::read_to_string(storage.join(format!("{}.meta", image.id))) {
        Ok(text) => text,
        Err(error) => return Some(format!("{} has no .meta: {error}", image.id)),
    };
    let meta: Value = serde_json::from_str(&text).expect("a .meta file is JSON");
    let status = meta["status"].as_str().map(str::to_owned);
    (status.as_deref() != Some(image.status.name()))
        .then(|| format!("{} is {}, and its .meta says {status:?}", image.id, image.status))
}

/// Bodies are never written again, so each is read once in a run.
fn body_violation(path: &Path, bytes: u64, sha256: &str) -> Option<String> {
    static GOOD: LazyLock<Mutex<BTreeSet<std::path::PathBuf>>> = LazyLock::new(Mutex::default);
    let mut good = GOOD.lock().expect("no reader panics");
    let failed = |why: String| Some(format!("{}: {why}", path.display()));
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) => return failed(error.to_string()),
    };
    if good.contains(path) {
        return None;
    }
    let found = sparse::sha256(&file).expect("a body can be read");
    let length = file.metadata().expect("it is open").len();
    if (length, found.as_str()) != (bytes, sha256) {
        return failed(format!("{length} bytes {found}, recorded are {bytes} bytes {sha256}"));
    }
    good.insert(path.to_owned());
    None
}

async fn count(connection: &mut SqliteConnection, sql: &'static str) -> i64 {
    let row = sqlx::query(sql).fetch_one(connection).await.expect("a count");
    row.try_get(0).expect("a number")
}

fn image_of(row: &SqliteRow) -> RecordedImage {
    let text = |column: &str| row.try_get::<Option<String>, _>(column).expect("a column of images");
    let bytes: Option<i64> = row.try_get("body_bytes").expect("a column of images");
    let bytes = bytes.map(|bytes| u64::try_from(bytes).expect("a size"));
    let parameters = text("parameters").unwrap_or_default();
    RecordedImage {
        id: text("id").expect("an id"),
        kind: text("kind").expect("a kind"),
        status: text("status").expect("a status").parse().expect("a known status"),
        parameters: serde_json::from_str(&parameters).unwrap_or_default(),
        identifier_on_provider: text("identifier_on_provider"),
        body: bytes.zip(text("body_sha256")),
    }
}
