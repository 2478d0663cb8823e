//! What templates and clouds add to a tree: packages, files and commands, in the order of Oz:
//! precommands, packages, files, commands.
//!
//! Commands run without a network unless the parameter `command_network` allows one.

use std::collections::BTreeMap;

use imagefactory_plugin_sdk::author::{PluginError, Result};
use imagefactory_plugin_sdk::payload::target_content::TargetContent;
use imagefactory_plugin_sdk::payload::template::{
    Command as TemplateCommand, ContentType, TemplateFile,
};

use crate::apt::{self, Upgrade};
use crate::archive::Archive;
use crate::fetch::{Fetcher, MEDIUM_BYTES_MAX};
use crate::packages::{Installation, installations};
use crate::plan::Plan;
use crate::tree::{Network, Tree};

/// Where packages that are files lie in the tree while apt needs them.
const DEBS: &str = "tmp/imagefactory-debs";

/// Packages, files and commands of the template; answers the digest of each content by its URL.
pub(crate) fn apply_template(tree: &Tree<'_>, plan: &Plan) -> Result<BTreeMap<String, String>> {
    let template = &plan.template;
    let fetcher = Fetcher::of(tree.host, &plan.mirrors)?;
    let precommands = orders(&fetcher, &template.precommands)?;
    run(tree, &precommands, "precommand", plan.command_network)?;
    if !plan.installations.is_empty() || plan.upgrade {
        tree.host.progress("packages", "Installing the template's packages", 72, 100)?;
        let runs = with_files(tree, &fetcher, &plan.installations, &template.files)?;
        let upgrade = if plan.upgrade { Upgrade::All } else { Upgrade::Nothing };
        apt::install(tree, &plan.archives, &runs, upgrade)?;
    }
    for file in &template.files {
        let bytes = content(&fetcher, "file", &file.name, file.kind, &file.file, file.bytes())?;
        tree.write(&file.name, &bytes)?;
    }
    let commands = orders(&fetcher, &template.commands)?;
    run(tree, &commands, "command", plan.command_network)?;
    Ok(fetcher.digests())
}

/// The contents of a template that lie behind URLs, for the key of what is built.
pub(crate) fn fetch_contents(plan: &Plan, fetcher: &Fetcher<'_>) -> Result<()> {
    let template = &plan.template;
    orders(fetcher, &template.precommands)?;
    orders(fetcher, &template.commands)?;
    for file in &template.files {
        content(fetcher, "file", &file.name, file.kind, &file.file, file.bytes())?;
    }
    let files = plan.installations.iter().flat_map(|run| &run.files);
    for url in files.filter(|file| !file.starts_with('/')) {
        fetcher.bytes(url, &format!("the package {url}"))?;
    }
    Ok(())
}

/// What a cloud asked for, into the tree of a finished image.
pub(crate) fn apply_content(tree: &Tree<'_>, plan: &Plan, asked: &TargetContent) -> Result<()> {
    let mut archives = plan.archives.clone();
    archives.retain(|archive| !archive.build_url.is_empty());
    let mut kept = String::new();
    for repository in &asked.repositories {
        let archive = Archive::further(repository, &plan.suite, &plan.mirrors, &plan.keys)?;
        if archive.persisted {
            kept.push_str(&format!("{}\n", archive.image_line()));
        }
        archives.push(archive);
    }
    let fetcher = Fetcher::of(tree.host, &plan.mirrors)?;
    let runs = installations(&asked.packages, &archives)?;
    let runs = with_files(tree, &fetcher, &runs, &asked.files)?;
    apt::install(tree, &archives, &runs, Upgrade::Nothing)?;
    if !kept.is_empty() {
        tree.write("/etc/apt/sources.list.d/imagefactory-target.list", kept.as_bytes())?;
    }
    for file in &asked.files {
        tree.write(&file.name, &file.bytes().unwrap_or_default())?;
    }
    let commands: Vec<Order> = asked
        .commands
        .iter()
        .map(|command| Order {
            name: command.name.clone(),
            script: command.bytes().unwrap_or_default(),
        })
        .collect();
    run(tree, &commands, "command of the cloud plugin", plan.command_network)
}

/// A command with its content.
struct Order {
    name: String,
    script: Vec<u8>,
}

fn orders(fetcher: &Fetcher<'_>, commands: &[TemplateCommand]) -> Result<Vec<Order>> {
    let order = |command: &TemplateCommand| {
        let (name, bytes) = (&command.name, command.bytes());
        let script = content(fetcher, "command", name, command.kind, &command.command, bytes)?;
        Ok(Order { name: name.clone(), script })
    };
    commands.iter().map(order).collect()
}

fn content(
    fetcher: &Fetcher<'_>,
    what: &str,
    name: &str,
    kind: ContentType,
    text: &str,
    bytes: Option<Vec<u8>>,
) -> Result<Vec<u8>> {
    match (kind, bytes) {
        (ContentType::Url, _) => fetcher.bytes(text, &format!("the {what} '{name}'")),
        (_, Some(bytes)) => Ok(bytes),
        (_, None) => {
            let message = format!("the content of the {what} '{name}' is no base64");
            Err(PluginError::user_fault(message))
        }
    }
}

fn run(tree: &Tree<'_>, orders: &[Order], what: &str, network: Network) -> Result<()> {
    for (index, order) in orders.iter().enumerate() {
        let message = format!("Running the {what} {}", order.name);
        let percent = 80 + index as u64 * 2 / orders.len() as u64;
        tree.host.progress("commands", &message, percent, 100)?;
        let ran = match network {
            Network::Stage => tree.with_guests(|| tree.run_content(&order.script, network)),
            Network::Nothing => tree.run_content(&order.script, network),
        };
        ran.map_err(|error| {
            let error = error.while_doing(format!("running the {what} '{}'", order.name));
            let hint = "commands have no network unless the parameter command_network is true";
            match network {
                Network::Stage => error.by_user(),
                Network::Nothing => error.by_user().hint(hint),
            }
        })?;
    }
    Ok(())
}

/// The runs with their package files put into the tree: from a URL, or one of the template's files.
fn with_files(
    tree: &Tree<'_>,
    fetcher: &Fetcher<'_>,
    runs: &[Installation],
    files: &[TemplateFile],
) -> Result<Vec<Installation>> {
    let mut all = runs.to_vec();
    for (number, file) in all.iter_mut().flat_map(|run| &mut run.files).enumerate() {
        // The name that apt is given says nothing of where the file came from.
        let place = format!("{DEBS}/{number}.deb");
        std::fs::create_dir_all(tree.root.join(DEBS))?;
        let path = tree.root.join(&place);
        if file.starts_with('/') {
            let found = files.iter().find(|one| one.name == *file).ok_or_else(|| {
                let message = format!(
                    "the package file '{file}' is none of the template's <files>; name one of \
                     them or an http URL"
                );
                PluginError::user_fault(message)
            })?;
            let (name, bytes) = (&found.name, found.bytes());
            std::fs::write(&path, content(fetcher, "file", name, found.kind, &found.file, bytes)?)?;
        } else {
            fetcher.file(file, &format!("the package {file}"), MEDIUM_BYTES_MAX, &path)?;
        }
        *file = format!("/{place}");
    }
    Ok(all)
}
