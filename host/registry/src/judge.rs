//! Judges one manifest file by itself: can the plugin it describes be used here?
//!
//! Everything that depends on other plugins (shadowing, conflicts, who serves a target) comes
//! later, in `contest.rs`. The order of the checks is the order in which an operator would ask: is
//! it readable, is it a manifest, is it switched off, does it fit this factory, is its library
//! there.

use std::path::PathBuf;

use imagefactory_plugin_sdk::payload::manifest::{
    JsonFinding, Manifest, ManifestDropIn, ManifestError,
};

use crate::library::{LibraryFile, locate};
use crate::manifest_file::{Content, DropInFile, ManifestFile};
use crate::reason::Reason;
use crate::schemas::Schemas;
use crate::trust::Trust;
use crate::versions;

/// A manifest file and what is to be thought of it.
#[derive(Debug)]
pub(crate) struct Judged {
    pub(crate) id: String,
    pub(crate) path: PathBuf,
    pub(crate) rank: usize,
    pub(crate) is_legacy: bool,
    /// With the drop-ins laid over it; None where there is none to speak of.
    pub(crate) manifest: Option<Manifest>,
    pub(crate) warnings: Vec<JsonFinding>,
    /// Those that count, in order.
    pub(crate) drop_ins: Vec<PathBuf>,
    pub(crate) schemas: Schemas,
    pub(crate) library: Option<LibraryFile>,
    pub(crate) verdict: Verdict,
}

/// The judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing against it.
    Fit,
    /// A sound plugin that is not for here.
    Inactive(Reason),
    /// Something is broken.
    Error(Reason),
    /// The file hides the id.
    Mask,
}

/// Judges a file with the drop-ins for its id.
pub(crate) fn judge(file: ManifestFile, drop_ins: &[DropInFile], trust: Trust) -> Judged {
    let mut judged = Judged {
        id: file.stem.clone(),
        path: file.path.clone(),
        rank: file.rank,
        is_legacy: file.is_legacy,
        manifest: None,
        warnings: Vec::new(),
        drop_ins: Vec::new(),
        schemas: Schemas::default(),
        library: None,
        verdict: Verdict::Fit,
    };
    judged.verdict = match inspect(&file, drop_ins, trust, &mut judged) {
        Ok(()) => Verdict::Fit,
        Err(verdict) => verdict,
    };
    judged
}

fn inspect(
    file: &ManifestFile,
    drop_ins: &[DropInFile],
    trust: Trust,
    judged: &mut Judged,
) -> Result<(), Verdict> {
    let text = match &file.content {
        Content::Text(text) => text,
        Content::Mask => return Err(Verdict::Mask),
        Content::Refused(reason) => return Err(Verdict::Error(reason.clone())),
    };
    let (mut manifest, warnings) = Manifest::parse(text, &file.stem)
        .map_err(|error| Verdict::Error(of_manifest(&error).at(&file.path)))?;
    judged.warnings = warnings;
    let enabled = lay_over(drop_ins, &mut manifest, &mut judged.drop_ins);
    let manifest = judged.manifest.insert(manifest);
    if !enabled.map_err(Verdict::Error)? {
        let last = judged.drop_ins.last().unwrap_or(&file.path);
        return Err(Verdict::Inactive(Reason::new("switched off by a drop-in").at(last)));
    }
    let Some(library) = &manifest.library else {
        return Err(without_library(file));
    };
    if !versions::is_semver(&manifest.version) {
        let message = format!("{:?} is not MAJOR.MINOR.PATCH", manifest.version);
        judged.warnings.push(JsonFinding::new("/version", message));
    }
    versions::check_abi(manifest).map_err(|reason| Verdict::Error(reason.at(&file.path)))?;
    versions::check_host(manifest).map_err(|reason| Verdict::Inactive(reason.at(&file.path)))?;
    versions::check_arch(manifest).map_err(|reason| Verdict::Inactive(reason.at(&file.path)))?;
    judged.schemas = Schemas::compile(manifest)
        .map_err(|findings| Verdict::Error(of_findings(&findings).at(&file.path)))?;
    judged.library = Some(locate(library, &file.folder, trust).map_err(Verdict::Error)?);
    Ok(())
}

/// Lays the drop-ins over the manifest, in their order. Ok(false): switched off. A broken drop-in
/// makes the plugin unusable: it may be the one that takes a right away.
fn lay_over(
    drop_ins: &[DropInFile],
    manifest: &mut Manifest,
    counted: &mut Vec<PathBuf>,
) -> Result<bool, Reason> {
    let mut enabled = true;
    for (path, text) in drop_ins {
        counted.push(path.clone());
        let text = text.as_ref().map_err(|reason| {
            let mut reason = reason.clone();
            reason.message = format!("a drop-in is unusable: {}", reason.message);
            reason
        })?;
        let drop_in = ManifestDropIn::parse(text).map_err(|error| {
            let message = format!("a drop-in is unusable: {}", of_manifest(&error).message);
            Reason::new(message).at(path).hint("mend or remove it")
        })?;
        drop_in.apply(manifest);
        enabled = drop_in.enabled.unwrap_or(enabled);
    }
    Ok(enabled)
}

fn without_library(file: &ManifestFile) -> Verdict {
    if file.is_legacy {
        let reason = Reason::new(
            "unsupported: a plugin of the Python factory; it is listed and never executed",
        );
        return Verdict::Inactive(
            reason
                .at(&file.path)
                .hint("install the plugin of this factory that serves its targets"),
        );
    }
    Verdict::Error(Reason::new("/library is missing: there is nothing to load").at(&file.path))
}

fn of_manifest(error: &ManifestError) -> Reason {
    match error {
        ManifestError::Invalid { problems } => of_findings(problems),
        other => Reason::new(other.to_string()),
    }
}

/// The first few findings; a reason is a line, not a report.
fn of_findings(findings: &[JsonFinding]) -> Reason {
    const SHOWN_MAX: usize = 3;
    let shown: Vec<String> = findings.iter().take(SHOWN_MAX).map(JsonFinding::to_string).collect();
    let mut message = shown.join("; ");
    if findings.len() > SHOWN_MAX {
        message += &format!("; and {} more", findings.len() - SHOWN_MAX);
    }
    Reason::new(message)
}
