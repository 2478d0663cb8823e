//! What the container is to be: the original's parameters and their shapes, and ours beside them.
//!
//! The original put `docker_cmd`, `docker_env` and `docker_label` into its JSON as they came, so
//! clients send JSON as text (`"[ \"/bin/bash\" ]"`, also `"null"`). That is read, and so is JSON
//! that is none in quotes.

use imagefactory_plugin_sdk::author::{PluginError, Result, Stage};
use imagefactory_plugin_sdk::payload::template::Template;
use serde_json::{Map, Value, json};

use crate::compression::Compression;
use crate::reference::{check_repository, check_tag, plain_repository};
use crate::selection::{Group, Selection};

/// What becomes of the disk itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DiskWish {
    /// It is not part of the target image.
    No,
    /// It is attached to the container, as a referrer.
    Referrer,
    /// It is an artefact by itself; there is no container.
    Only,
}

/// One target image, all defaults filled in.
#[derive(Debug, Clone)]
pub(crate) struct ContainerWishes {
    /// Without a registry, in lower case.
    pub(crate) repository: String,
    /// Its tag.
    pub(crate) tag: String,
    /// Of layer and disk.
    pub(crate) compression: Compression,
    /// `false`: the file system's tar alone.
    pub(crate) metadata: bool,
    /// `config` of the image configuration.
    pub(crate) config: Map<String, Value>,
    /// For the history.
    pub(crate) comment: String,
    /// `linux`.
    pub(crate) os: String,
    /// What does not go into the container.
    pub(crate) selection: Selection,
    /// What becomes of the disk.
    pub(crate) disk: DiskWish,
    /// Is a list of its packages attached?
    pub(crate) sbom: bool,
    /// The id in `repositories`, for readers of that time.
    pub(crate) image_id: Option<String>,
}

impl ContainerWishes {
    pub(crate) fn of(stage: &Stage<'_>, template: &Template) -> Result<ContainerWishes> {
        let repository = match stage.text_parameter("repository")? {
            Some(given) => check_repository(&given.to_lowercase())?,
            None => plain_repository(&template.name),
        };
        let tag = stage.text_parameter("tag")?.unwrap_or_else(|| "latest".to_owned());
        check_tag(&tag)?;
        let text = |name: &str, or: &str| {
            stage.text_parameter(name).map(|given| given.unwrap_or_else(|| or.to_owned()))
        };
        Ok(ContainerWishes {
            repository,
            tag,
            compression: compression(stage)?,
            metadata: flag(stage, "create_docker_metadata", true)?,
            config: config(stage)?,
            comment: text("comment", "Created by Image Factory")?,
            os: text("os", "linux")?,
            selection: selection(stage)?,
            disk: disk(stage)?,
            sbom: flag(stage, "docker_sbom", true)?,
            image_id: stage.text_parameter("docker_image_id")?,
        })
    }
}

fn compression(stage: &Stage<'_>) -> Result<Compression> {
    match stage.text_parameter("compress")?.as_deref() {
        None | Some("gzip") => Ok(Compression::Gzip),
        Some("zstd") => Ok(Compression::Zstd),
        Some("none") => Ok(Compression::None),
        Some(other) => {
            let message = format!("compress is {other:?}, not one of gzip, zstd, none");
            let error = PluginError::user_fault(message);
            Err(match other {
                "xz" | "bzip2" => error.hint(
                    "no registry takes layers in that form; zstd is as small and faster to read",
                ),
                _ => error,
            })
        }
    }
}

fn disk(stage: &Stage<'_>) -> Result<DiskWish> {
    match stage.text_parameter("docker_disk")?.as_deref() {
        None | Some("none") => Ok(DiskWish::No),
        Some("referrer") => Ok(DiskWish::Referrer),
        Some("only") => Ok(DiskWish::Only),
        Some(other) => {
            let message = format!("docker_disk is {other:?}, not one of none, referrer, only");
            Err(PluginError::user_fault(message))
        }
    }
}

fn selection(stage: &Stage<'_>) -> Result<Selection> {
    let groups = match value(stage, "docker_leave_out")? {
        None => Group::ALL.to_vec(),
        Some(names) => texts("docker_leave_out", &names)?
            .iter()
            .map(|name| group_named(name))
            .collect::<Result<_>>()?,
    };
    let further = match value(stage, "docker_exclude")? {
        None => Vec::new(),
        Some(paths) => texts("docker_exclude", &paths)?,
    };
    if let Some(path) = further.iter().find(|path| !path.starts_with('/') || path.len() < 2) {
        let message = format!("docker_exclude has {path:?}, which is no absolute path");
        return Err(PluginError::user_fault(message).hint("write it as /usr/share/doc"));
    }
    Ok(Selection { groups, further })
}

fn group_named(name: &str) -> Result<Group> {
    Group::ALL.into_iter().find(|group| group.name() == name).ok_or_else(|| {
        let known = Group::ALL.map(Group::name).join(", ");
        PluginError::user_fault(format!("docker_leave_out has {name:?}, not one of {known}"))
    })
}

/// `config` of the OCI image configuration.
fn config(stage: &Stage<'_>) -> Result<Map<String, Value>> {
    let mut config = Map::new();
    for (parameter, key) in [("docker_cmd", "Cmd"), ("docker_entrypoint", "Entrypoint")] {
        match value(stage, parameter)? {
            None => {}
            // As in a Dockerfile: a text is for the shell.
            Some(Value::String(line)) => {
                config.insert(key.to_owned(), json!(["/bin/sh", "-c", line]));
            }
            Some(words) => {
                config.insert(key.to_owned(), texts(parameter, &words)?.into());
            }
        }
    }
    if let Some(given) = value(stage, "docker_env")? {
        config.insert("Env".to_owned(), environment(&given)?.into());
    }
    if let Some(given) = value(stage, "docker_label")? {
        config.insert("Labels".to_owned(), labels(&given)?.into());
    }
    for (parameter, key) in [("docker_user", "User"), ("docker_workdir", "WorkingDir")] {
        if let Some(given) = stage.text_parameter(parameter)? {
            config.insert(key.to_owned(), given.into());
        }
    }
    if let Some(given) = value(stage, "docker_exposed_ports")? {
        let ports = texts("docker_exposed_ports", &given)?;
        let ports: Map<String, Value> = ports.into_iter().map(|port| (port, json!({}))).collect();
        config.insert("ExposedPorts".to_owned(), ports.into());
    }
    Ok(config)
}

/// `["A=b"]`, as the original has it, or `{"A": "b"}`.
fn environment(given: &Value) -> Result<Vec<String>> {
    let lines = match given {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| Some(format!("{name}={}", value.as_str()?)))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| wrong("docker_env", "an object of texts"))?,
        other => texts("docker_env", other)?,
    };
    match lines.iter().find(|line| !line.contains('=') || line.starts_with('=')) {
        None => Ok(lines),
        // Not quoted: what is no NAME=value may be a value, and that a password.
        Some(_) => Err(wrong("docker_env", "a list of NAME=value")),
    }
}

fn labels(given: &Value) -> Result<Map<String, Value>> {
    let members = given.as_object().filter(|members| members.values().all(Value::is_string));
    members.cloned().ok_or_else(|| wrong("docker_label", "an object of texts"))
}

/// A parameter, unpacked if it is JSON in a text; `None`: not there, or null either way.
fn value(stage: &Stage<'_>, name: &str) -> Result<Option<Value>> {
    let Some(given) = stage.parameter(name)? else { return Ok(None) };
    let given: Value = serde_json::from_str(given.raw())
        .map_err(|error| PluginError::user_fault(format!("parameter {name}: {error}")))?;
    let Value::String(text) = &given else { return Ok(Some(given)) };
    let text = text.trim();
    if text == "null" {
        return Ok(None);
    }
    if !text.starts_with(['[', '{']) {
        return Ok(Some(given));
    }
    serde_json::from_str(text).map(Some).map_err(|error| {
        let message = format!("parameter {name} begins like JSON and is none: {error}");
        PluginError::user_fault(message)
    })
}

/// A list of texts; one alone is a list of one.
fn texts(name: &str, given: &Value) -> Result<Vec<String>> {
    let list = match given {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(list) => list.iter().map(|it| it.as_str().map(str::to_owned)).collect(),
        _ => None,
    };
    list.ok_or_else(|| wrong(name, "a list of texts"))
}

/// True and false, and what the original took for them.
fn flag(stage: &Stage<'_>, name: &str, default: bool) -> Result<bool> {
    match value(stage, name)? {
        None => Ok(default),
        Some(Value::Bool(flag)) => Ok(flag),
        Some(Value::String(word)) => match word.to_lowercase().as_str() {
            "true" | "yes" | "1" => Ok(true),
            "false" | "no" | "0" => Ok(false),
            _ => Err(wrong(name, "true or false")),
        },
        Some(_) => Err(wrong(name, "true or false")),
    }
}

fn wrong(name: &str, expected: &str) -> PluginError {
    PluginError::user_fault(format!("parameter {name} is not {expected}"))
}
