//! From the bytes of a manifest to a [`Manifest`], with everything odd on the way.
//!
//! Reads downwards: the document, then each of its objects. Problems (wrong types, wrong forms,
//! contradictions) refuse the manifest, all of them at once; warnings (unknown keys, missing
//! descriptions, rows that can never match) come back beside it. The rule of thumb, held by a test:
//! a document is valid by the closed JSON schema if and only if it parses without a single finding.

use serde_json::Value;

use super::embedded_schema;
use super::field_rules::{self as rules, is_plugin_id};
use super::finding::Report;
use super::object_reader::{shown, sort_of, text_of, ObjectReader};
use super::{
    document, Abi, JsonFinding, Library, Limits, Maintainer, Manifest, ManifestError, PluginKind,
    Requires, Sandbox, SandboxProfile, SchemaVersion, Sdk, Target, PRIORITY_DEFAULT,
    SCHEMA_VERSION,
};
use crate::payload::nearest::nearest;

/// A manifest that names no ABI is taken at the oldest one; negotiation settles it at load.
const ABI_REQ_DEFAULT: &str = "^1.0";

/// Priorities above this are not more important, only confusing.
const PRIORITY_MAX: u64 = 1000;

/// One week: no image build takes longer, and a bound keeps arithmetic on deadlines safe.
const TIMEOUT_S_MAX: u64 = 7 * 24 * 3600;

/// Longest name of an OS, version, architecture or cloud in bytes.
const TARGET_FIELD_BYTES_MAX: usize = 128;

impl Manifest {
    /// Reads a manifest. `file_stem` is its file's name without the extension, which must be its
    /// id.
    pub fn parse(
        text: &[u8],
        file_stem: &str,
    ) -> Result<(Manifest, Vec<JsonFinding>), ManifestError> {
        let document = document::read(text)?;
        let mut report = Report::default();
        let manifest = read_manifest(&document, file_stem, &mut report);
        let warnings = report.finish()?;
        match manifest {
            Some(manifest) => Ok((manifest, warnings)),
            // Not reached: each None above is reported as a problem. Said again, not asserted.
            None => Err(ManifestError::Invalid {
                problems: vec![JsonFinding::new("", "is not a manifest")],
            }),
        }
    }
}

fn read_manifest(document: &Value, file_stem: &str, report: &mut Report) -> Option<Manifest> {
    let mut fields = ObjectReader::open(document, "", report)?;
    let schema_version = read_schema_version(&mut fields, report)?;
    let id = read_id(&mut fields, file_stem, report);
    let kind = read_kind(&mut fields, report);
    let name = fields.text("name", report).filter(|name| !name.is_empty()).map(str::to_owned);
    let targets = read_targets(&mut fields, kind, report);
    let description = fields.expected_text("description", report);
    let maintainer = read_maintainer(&mut fields, report);
    let version = read_version(&mut fields, report);
    let license = fields.expected_text("license", report);
    let library = read_library(&mut fields, report);
    let abi = read_abi(&mut fields, library.is_some(), report);
    let sdk = read_sdk(&mut fields, report);
    let capabilities = read_capabilities(&mut fields, kind, library.is_some(), report);
    let parameters_schema =
        read_schema(&mut fields, "parameters_schema", embedded_schema::check_parameters, report);
    let provider_schema =
        read_schema(&mut fields, "provider_schema", embedded_schema::check, report);
    let credentials_schema =
        read_schema(&mut fields, "credentials_schema", embedded_schema::check, report);
    let manifest = Manifest {
        schema_version,
        name: name.unwrap_or_else(|| id.clone()),
        kind: kind.unwrap_or(PluginKind::Os),
        targets,
        description,
        maintainer,
        version,
        license,
        library,
        abi,
        sdk,
        capabilities,
        parameters_schema,
        provider_schema,
        credentials_schema,
        requires: read_requires(&mut fields, report),
        sandbox: read_sandbox(&mut fields, report),
        limits: read_limits(&mut fields, report),
        priority: read_priority(&mut fields, report).unwrap_or(PRIORITY_DEFAULT),
        conflicts: read_other_ids(&mut fields, "conflicts", &id, report),
        replaces: read_other_ids(&mut fields, "replaces", &id, report),
        homepage: fields.text_by("homepage", rules::WEB_ADDRESS, report).map(str::to_owned),
        documentation: fields
            .text_by("documentation", rules::WEB_ADDRESS, report)
            .map(str::to_owned),
        needs_credentials: fields.flag("needs_credentials", report).unwrap_or(false),
        extensions: fields.extensions(),
        id,
    };
    if schema_version <= SCHEMA_VERSION {
        fields.finish_open(report);
    }
    // Keys that a later minor added are not unknown keys: nothing to warn of.
    Some(manifest)
}

/// None only when the major is unknown: then nothing else of the document can be judged.
fn read_schema_version(
    fields: &mut ObjectReader<'_>,
    report: &mut Report,
) -> Option<SchemaVersion> {
    let pointer = fields.pointer_to("schema_version");
    let value = match fields.value("schema_version") {
        Some(value) => value,
        None => {
            report
                .warning(pointer, format!("is missing; read as {:?}", SCHEMA_VERSION.to_string()));
            return Some(SCHEMA_VERSION);
        }
    };
    let text = text_of(value, &pointer, report)?;
    let parts: Vec<Option<u32>> = text.split('.').map(plain_number).collect();
    match parts[..] {
        [Some(major), Some(minor)] if major == SCHEMA_VERSION.major => {
            Some(SchemaVersion { major, minor })
        }
        [Some(_), Some(_)] => {
            let message = format!(
                "{} is a format this factory does not know; it reads {}.x: update the factory or \
                 install a plugin made for it",
                text, SCHEMA_VERSION.major
            );
            report.problem(pointer, message);
            None
        }
        _ => {
            report.problem(
                pointer,
                format!("must be MAJOR.MINOR, such as \"1.0\", not {}", shown(text)),
            );
            None
        }
    }
}

/// Digits only: `u32::from_str` would take "+1".
fn plain_number(text: &str) -> Option<u32> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

fn read_id(fields: &mut ObjectReader<'_>, file_stem: &str, report: &mut Report) -> String {
    let pointer = fields.pointer_to("id");
    if !is_plugin_id(file_stem) {
        let message = format!(
            "the file's name {} cannot be a plugin's id: {}",
            shown(file_stem),
            rules::PLUGIN_ID.wanted
        );
        report.problem(pointer, message);
        return file_stem.to_owned();
    }
    match fields.value("id") {
        None => report.warning(pointer, format!("is missing; read as {:?}", file_stem)),
        Some(_) => {
            let id = fields.text_by("id", rules::PLUGIN_ID, report);
            if let Some(id) = id.filter(|id| *id != file_stem) {
                let message = format!(
                    "is {:?}, but the file is called {:?}; one name everywhere: rename one of them",
                    id, file_stem
                );
                report.problem(pointer, message);
            }
        }
    }
    file_stem.to_owned()
}

fn read_kind(fields: &mut ObjectReader<'_>, report: &mut Report) -> Option<PluginKind> {
    let pointer = fields.pointer_to("type");
    let value = match fields.value("type") {
        Some(value) => value,
        None => {
            report.problem(pointer, "is missing; must be \"os\" or \"cloud\"");
            return None;
        }
    };
    let text = text_of(value, &pointer, report)?;
    match text.to_ascii_lowercase().as_str() {
        "os" => Some(PluginKind::Os),
        "cloud" => Some(PluginKind::Cloud),
        _ => {
            report.problem(pointer, format!("must be \"os\" or \"cloud\", not {}", shown(text)));
            None
        }
    }
}

fn read_targets(
    fields: &mut ObjectReader<'_>,
    kind: Option<PluginKind>,
    report: &mut Report,
) -> Vec<Target> {
    let pointer = fields.pointer_to("targets");
    if fields.value("targets").is_none() {
        report.problem(pointer, "is missing: the plugin would serve nothing");
        return Vec::new();
    }
    let mut targets: Vec<Target> = Vec::new();
    for (pointer, item) in fields.items("targets", report) {
        let target = match item {
            Value::String(text) => {
                let message =
                    format!("a bare text is never found by a lookup; write [{}]", shown(text));
                report.warning(pointer.clone(), message);
                text_of(item, &pointer, report).map(|text| Target::Text(text.to_owned()))
            }
            Value::Array(row) => read_target_row(row, kind, &pointer, report),
            other => {
                report.problem(pointer.clone(), format!("must be a list, not {}", sort_of(other)));
                None
            }
        };
        if let Some(target) = target {
            if targets.contains(&target) {
                report.warning(pointer, format!("{} stands twice", target));
            } else {
                targets.push(target);
            }
        }
    }
    targets
}

fn read_target_row(
    row: &[Value],
    kind: Option<PluginKind>,
    pointer: &str,
    report: &mut Report,
) -> Option<Target> {
    let kind = kind?;
    if row.len() != kind.target_arity() {
        let shape = match kind {
            PluginKind::Os => "[name, version or null, arch or null]",
            PluginKind::Cloud => "[target]",
        };
        let message = format!("has {} fields; a plugin of type {} has {}", row.len(), kind, shape);
        report.problem(pointer, message);
        return None;
    }
    let mut fields = Vec::with_capacity(row.len());
    for (index, field) in row.iter().enumerate() {
        let here = format!("{}/{}", pointer, index);
        match field {
            Value::Null => fields.push(None),
            Value::String(text) if text.is_empty() || text.len() > TARGET_FIELD_BYTES_MAX => {
                let message = format!("must have 1 to {} bytes", TARGET_FIELD_BYTES_MAX);
                report.problem(here, message);
                return None;
            }
            other => fields.push(Some(text_of(other, &here, report)?.to_owned())),
        }
    }
    let target = Target::Row(fields);
    if !target.can_match() {
        let message = format!(
            "{} is never found: lookups replace fields by null from the last one on",
            target
        );
        report.warning(pointer, message);
    }
    Some(target)
}

fn read_maintainer(fields: &mut ObjectReader<'_>, report: &mut Report) -> Maintainer {
    if fields.value("maintainer").is_none() {
        report.warning(fields.pointer_to("maintainer"), "is missing");
    }
    let mut inner = match fields.object("maintainer", report) {
        Some(inner) => inner,
        None => return Maintainer::default(),
    };
    let maintainer = Maintainer {
        name: inner.expected_text("name", report),
        email: inner.text("email", report).unwrap_or_default().to_owned(),
        url: inner.text("url", report).unwrap_or_default().to_owned(),
    };
    inner.finish(report);
    maintainer
}

fn read_version(fields: &mut ObjectReader<'_>, report: &mut Report) -> String {
    if fields.value("version").is_none() {
        report.problem(fields.pointer_to("version"), "is missing; write it as \"1.0.0\"");
    }
    fields.text_by("version", rules::VERSION_TEXT, report).unwrap_or_default().to_owned()
}

fn read_library(fields: &mut ObjectReader<'_>, report: &mut Report) -> Option<Library> {
    if fields.value("library").is_none() {
        report.warning(fields.pointer_to("library"), "is missing: there is nothing to load");
    }
    let mut inner = fields.object("library", report)?;
    if inner.value("path").is_none() {
        report.problem(inner.pointer_to("path"), "is missing: there is nothing to load");
    }
    let path = inner.text_by("path", rules::LIBRARY_PATH, report).unwrap_or_default();
    let sha256 = inner.text_by("sha256", rules::SHA256, report);
    let arch = inner.text_by("arch", rules::ARCH, report);
    if inner.value("signature").is_some() {
        let message = "is reserved for later and not checked by this factory";
        report.warning(inner.pointer_to("signature"), message);
    }
    inner.finish(report);
    Some(Library {
        path: path.to_owned(),
        sha256: sha256.map(str::to_owned),
        arch: arch.map(str::to_owned),
    })
}

fn read_abi(fields: &mut ObjectReader<'_>, has_library: bool, report: &mut Report) -> Abi {
    let mut req = None;
    if let Some(mut inner) = fields.object("abi", report) {
        req = inner.text_by("req", rules::VERSION_REQUIREMENT, report);
        inner.finish(report);
    }
    if req.is_none() && has_library {
        report.warning("/abi/req", format!("is missing; read as {:?}", ABI_REQ_DEFAULT));
    }
    Abi { req: req.unwrap_or(ABI_REQ_DEFAULT).to_owned() }
}

fn read_sdk(fields: &mut ObjectReader<'_>, report: &mut Report) -> Option<Sdk> {
    let mut inner = fields.object("sdk", report)?;
    let sdk = Sdk {
        name: inner.text("name", report).unwrap_or_default().to_owned(),
        version: inner.text("version", report).unwrap_or_default().to_owned(),
        language: inner.text("language", report).unwrap_or_default().to_owned(),
    };
    inner.finish(report);
    Some(sdk)
}

fn read_capabilities(
    fields: &mut ObjectReader<'_>,
    kind: Option<PluginKind>,
    has_library: bool,
    report: &mut Report,
) -> Vec<String> {
    let pointer = fields.pointer_to("capabilities");
    if fields.value("capabilities").is_none() && has_library {
        report.warning(pointer.clone(), "is missing: the plugin is taken to offer nothing");
    }
    let capabilities = fields.texts_by("capabilities", rules::CAPABILITY, report);
    for capability in &capabilities {
        let known = match kind {
            Some(kind) if !kind.capabilities().contains(&capability.as_str()) => {
                kind.capabilities()
            }
            _ => continue,
        };
        let other_kind = super::OS_CAPABILITIES.iter().chain(super::CLOUD_CAPABILITIES.iter());
        if other_kind.clone().any(|name| name == capability) {
            let message = format!("{:?} is not an operation of this plugin's type", capability);
            report.problem(pointer.clone(), message);
            continue;
        }
        // A later ABI may have it: no reason to refuse.
        let message = match nearest(capability, known) {
            Some(name) => format!("unknown operation {:?}; did you mean {:?}?", capability, name),
            None => format!("unknown operation {:?}", capability),
        };
        report.warning(pointer.clone(), message);
    }
    capabilities
}

fn read_schema(
    fields: &mut ObjectReader<'_>,
    key: &'static str,
    check: fn(&Value, &str, &mut Report),
    report: &mut Report,
) -> Option<Value> {
    let schema = fields.value(key)?;
    check(schema, &fields.pointer_to(key), report);
    Some(schema.clone())
}

fn read_requires(fields: &mut ObjectReader<'_>, report: &mut Report) -> Requires {
    let mut inner = match fields.object("requires", report) {
        Some(inner) => inner,
        None => return Requires::default(),
    };
    let requires = Requires {
        tools: inner.texts_by("tools", rules::TOOL, report),
        devices: inner.texts_by("devices", rules::DEVICE, report),
        host: inner.text_by("host", rules::VERSION_REQUIREMENT, report).map(str::to_owned),
    };
    inner.finish(report);
    requires
}

pub(super) fn read_sandbox(fields: &mut ObjectReader<'_>, report: &mut Report) -> Sandbox {
    let mut inner = match fields.object("sandbox", report) {
        Some(inner) => inner,
        None => return Sandbox::default(),
    };
    let sandbox = Sandbox {
        profile: read_profile(&mut inner, report),
        network: inner.flag("network", report),
        capabilities: inner.texts_by("capabilities", rules::LINUX_CAPABILITY, report),
        // 16 MiB is less than any plugin with a TLS library needs; 16 TiB is more than any host
        // has.
        memory_max_mb: inner.number("memory_max_mb", 16, 16 << 20, report),
        read_only: inner.texts_by("read_only", rules::READ_ONLY_PATH, report),
    };
    inner.finish(report);
    sandbox
}

fn read_profile(fields: &mut ObjectReader<'_>, report: &mut Report) -> Option<SandboxProfile> {
    let text = fields.text("profile", report)?;
    let profile = SandboxProfile::ALL.iter().copied().find(|profile| profile.name() == text);
    if profile.is_none() {
        let names: Vec<&str> = SandboxProfile::ALL.iter().map(|profile| profile.name()).collect();
        let message = format!("must be one of {}, not {}", names.join(", "), shown(text));
        report.problem(fields.pointer_to("profile"), message);
    }
    profile
}

pub(super) fn read_limits(fields: &mut ObjectReader<'_>, report: &mut Report) -> Limits {
    let mut inner = match fields.object("limits", report) {
        Some(inner) => inner,
        None => return Limits::default(),
    };
    let limits = Limits {
        timeout_s: inner.number("timeout_s", 1, TIMEOUT_S_MAX, report),
        // Ten minutes: longer than any clean shutdown of a guest, short enough for a reboot.
        cancel_grace_s: inner.number("cancel_grace_s", 1, 600, report),
        // More stages than any one machine can hold at a time.
        max_concurrent: inner.number("max_concurrent", 1, 1000, report),
        // Half of the kernel's default pid space.
        processes_max: inner.number("processes_max", 1, 16384, report),
    };
    inner.finish(report);
    limits
}

pub(super) fn read_priority(fields: &mut ObjectReader<'_>, report: &mut Report) -> Option<u32> {
    // The bound makes the conversion exact.
    fields.number("priority", 0, PRIORITY_MAX, report).map(|priority| priority as u32)
}

fn read_other_ids(
    fields: &mut ObjectReader<'_>,
    key: &'static str,
    own_id: &str,
    report: &mut Report,
) -> Vec<String> {
    let mut ids = fields.texts_by(key, rules::PLUGIN_ID, report);
    if ids.iter().any(|id| id == own_id) {
        report.warning(fields.pointer_to(key), "names the plugin itself, which has no effect");
        ids.retain(|id| id != own_id);
    }
    ids
}
