//! What an operation of a probe is given: the texts of `imgf_stage`, made from the scenario.
//!
//! [`StageTexts`] can be changed text by text before they are laid into an [`Arena`]; that is how
//! the fault rules make absent, empty, malformed and huge ones. The ids are the same in every run,
//! because rule 309 runs a stage again.

use imagefactory_model::stage::{JournalEntry, JournalEvent, Operation};
use imagefactory_plugin_sdk::abi::{imgf_stage, imgf_str};
use serde_json::{Map, Value, json};

use super::arena::Arena;
use super::bench::{Bench, RunFolders};

/// The texts of `imgf_stage`, in its order.
pub(super) const TEXT_NAMES: [&str; 10] = [
    "stage_id",
    "image_id",
    "target",
    "provider",
    "template_xml",
    "template_json",
    "parameters_json",
    "images_json",
    "resources_json",
    "credential_name",
];

/// Ids of the one stage that all probes run.
const STAGE_ID: &str = "6f9619ff-8b86-4d01-b42d-00cf4fc964f1";
const IMAGE_ID: &str = "6f9619ff-8b86-4d01-b42d-00cf4fc964f2";
/// The image that `image_get` knows: the input's.
pub(super) const BASE_IMAGE_ID: &str = "6f9619ff-8b86-4d01-b42d-00cf4fc964f3";
/// The only name that `secret_get` grants.
pub(super) const CREDENTIAL_NAME: &str = "credentials";

/// What one call is given.
#[derive(Debug, Clone)]
pub(super) struct StageTexts {
    texts: [Option<Vec<u8>>; TEXT_NAMES.len()],
    pub(super) deadline_unix_ms: u64,
    pub(super) attempt: u32,
    journal: Option<Vec<u8>>,
}

impl StageTexts {
    /// As the scenario has it.
    pub(super) fn new(bench: &Bench, folders: &RunFolders, operation: Operation) -> StageTexts {
        StageTexts::with_parameters(
            bench,
            folders,
            operation,
            bench.order.scenario.parameters.clone(),
        )
    }

    /// With the parameters that make the operation last.
    pub(super) fn slow(bench: &Bench, folders: &RunFolders, operation: Operation) -> StageTexts {
        let mut parameters = bench.order.scenario.parameters.clone();
        parameters.extend(bench.order.scenario.slow_parameters.clone());
        StageTexts::with_parameters(bench, folders, operation, parameters)
    }

    /// With these parameters.
    pub(super) fn with_parameters(
        bench: &Bench,
        folders: &RunFolders,
        operation: Operation,
        parameters: Map<String, Value>,
    ) -> StageTexts {
        let scenario = &bench.order.scenario;
        let parameters = Bench::filled_value(&Value::Object(parameters), folders);
        let of_cloud = !matches!(
            operation,
            Operation::CreateBaseImage | Operation::ResolveInputs | Operation::VerifyImage
        );
        let of_provider = matches!(
            operation,
            Operation::PushImageToProvider
                | Operation::SnapshotImageOnProvider
                | Operation::DeleteFromProvider
                | Operation::Cleanup
        );
        let templated = operation != Operation::DeleteFromProvider;
        let provider = scenario.provider.as_ref().filter(|_| of_provider);
        let texts: [(&str, Option<String>); TEXT_NAMES.len()] = [
            ("stage_id", Some(STAGE_ID.into())),
            ("image_id", Some(IMAGE_ID.into())),
            ("target", scenario.target.clone().filter(|_| of_cloud)),
            ("provider", provider.map(|text| bench.with_endpoint(&Bench::filled(text, folders)))),
            ("template_xml", templated.then(|| scenario.template_xml.clone())),
            ("template_json", templated.then(|| scenario.template_json.clone())),
            ("parameters_json", Some(bench.with_endpoint(&parameters.to_string()))),
            ("images_json", Some(images(bench, folders, operation).to_string())),
            ("resources_json", Some(json!({"cpus": 1, "memory_bytes": 1u64 << 30}).to_string())),
            ("credential_name", scenario.credentials.as_ref().map(|_| CREDENTIAL_NAME.into())),
        ];
        StageTexts {
            texts: texts.map(|(_, text)| text.map(String::into_bytes)),
            deadline_unix_ms: 0,
            attempt: 1,
            journal: None,
        }
    }

    /// Puts another text, or none, in the place of `name`. An unknown name changes nothing.
    pub(super) fn set(&mut self, name: &str, text: Option<Vec<u8>>) {
        if let Some(at) = TEXT_NAMES.iter().position(|known| *known == name) {
            self.texts[at] = text;
        }
    }

    /// The text in the place of `name`.
    pub(super) fn get(&self, name: &str) -> Option<&[u8]> {
        let at = TEXT_NAMES.iter().position(|known| *known == name)?;
        self.texts[at].as_deref()
    }

    /// Says which provider image is meant.
    pub(super) fn identify(&mut self, identifier: &str) {
        let text = self.get("images_json").unwrap_or_default();
        let Ok(mut images) = serde_json::from_slice::<Value>(text) else { return };
        for key in ["self", "provider"] {
            if let Some(image) = images.get_mut(key) {
                image["identifier_on_provider"] = identifier.into();
            }
        }
        self.set("images_json", Some(images.to_string().into_bytes()));
    }

    /// Gives cleanup the entries that are still open.
    pub(super) fn undo(&mut self, journal: &[JournalEntry]) {
        let entries: Vec<Value> = open_entries(journal)
            .iter()
            .map(|entry| {
                json!({
                    "event": entry.event,
                    "scratch": entry.scratch,
                    "token": entry.token,
                    "kind": entry.kind,
                    "resource_id": entry.resource_id,
                    "details": entry.details,
                })
            })
            .collect();
        self.journal = Some(Value::Array(entries).to_string().into_bytes());
    }

    /// Lays everything into memory of its own.
    pub(super) fn in_arena(&self) -> StageInArena {
        let arena = Arena::default();
        let place = |text: &Option<Vec<u8>>| match text {
            None => imgf_str::ABSENT,
            Some(bytes) => {
                let mut ended = bytes.clone();
                ended.push(0);
                match arena.place(&ended, 1) {
                    Some(ptr) => imgf_str { ptr, len: bytes.len() },
                    None => imgf_str::ABSENT,
                }
            }
        };
        let [
            stage_id,
            image_id,
            target,
            provider,
            xml,
            json,
            parameters,
            images,
            resources,
            credential,
        ] = self.texts.each_ref().map(place);
        let journal = place(&self.journal);
        let stage = imgf_stage {
            struct_size: size_of::<imgf_stage>() as u32,
            flags: 0,
            deadline_unix_ms: self.deadline_unix_ms,
            attempt: self.attempt,
            reserved0: 0,
            stage_id,
            image_id,
            target,
            provider,
            template_xml: xml,
            template_json: json,
            parameters_json: parameters,
            images_json: images,
            resources_json: resources,
            credential_name: credential,
        };
        // SAFETY: imgf_stage has no padding (asserted in the SDK), so all its bytes are set.
        let bytes = unsafe {
            std::slice::from_raw_parts((&raw const stage).cast::<u8>(), size_of::<imgf_stage>())
        };
        let stage = arena
            .place(bytes, align_of::<imgf_stage>())
            .map_or(std::ptr::null(), <*const u8>::cast);
        StageInArena { arena, stage, journal }
    }
}

/// A stage as the plugin sees it.
pub(super) struct StageInArena {
    arena: Arena,
    stage: *const imgf_stage,
    journal: imgf_str,
}

impl StageInArena {
    pub(super) fn stage(&self) -> *const imgf_stage {
        self.stage
    }

    pub(super) fn journal(&self) -> imgf_str {
        self.journal
    }

    /// From now on every use of these texts faults.
    pub(super) fn take_away(self) {
        self.arena.take_away();
        self.arena.leak();
    }

    /// A plugin that kept a pointer is judged by rule 311 alone.
    pub(super) fn keep_until_the_process_ends(self) {
        self.arena.leak();
    }
}

/// The last entry of each token that is not yet REMOVED, in the order of recording.
pub(super) fn open_entries(journal: &[JournalEntry]) -> Vec<JournalEntry> {
    let mut open: Vec<JournalEntry> = Vec::new();
    for entry in journal {
        let at = open.iter().position(|known| known.token == entry.token);
        match (at, entry.event) {
            (Some(at), JournalEvent::Removed) => drop(open.remove(at)),
            (Some(at), _) => open[at] = entry.clone(),
            (None, JournalEvent::Removed) => {}
            (None, _) => open.push(entry.clone()),
        }
    }
    open
}

/// `images_json` as stage.h describes it.
fn images(bench: &Bench, folders: &RunFolders, operation: Operation) -> Value {
    let kind = match operation {
        Operation::CreateBaseImage | Operation::ResolveInputs | Operation::VerifyImage => "base",
        Operation::PushImageToProvider
        | Operation::SnapshotImageOnProvider
        | Operation::DeleteFromProvider
        | Operation::Cleanup => "provider",
        _ => "target",
    };
    let mut images = Map::new();
    let mut own = json!({"id": IMAGE_ID, "kind": kind, "parameters": {}, "properties": {}});
    if operation == Operation::DeleteFromProvider {
        let identifier = bench.order.scenario.delete_identifier.as_deref();
        own["identifier_on_provider"] = identifier.unwrap_or("no-such-image").into();
    }
    images.insert("self".into(), own);
    if operation.input_image() {
        let key = if kind == "provider" { "target" } else { "base" };
        images.insert(
            key.into(),
            json!({
                "id": BASE_IMAGE_ID, "kind": key, "format": "raw",
                "size": bench.order.scenario.input_image_bytes,
                "path": folders.input_image, "icicle": Value::Null,
                "parameters": {}, "properties": {},
            }),
        );
    }
    Value::Object(images)
}

/// Which operations start from an image (host.h, IMGF_PATH_INPUT_IMAGE).
pub(super) trait InputImage {
    fn input_image(self) -> bool;
}

impl InputImage for Operation {
    fn input_image(self) -> bool {
        matches!(
            self,
            Operation::CreateTargetImage
                | Operation::BuilderDidCreateTargetImage
                | Operation::VerifyImage
                | Operation::PushImageToProvider
        )
    }
}
