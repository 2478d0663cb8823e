//! What there is on a vCenter: objects by type and name, and their properties.

use imagefactory_plugin_sdk::author::{ErrorCode, Host, PluginError, Result};
use roxmltree::Node;

use crate::element::Xml;
use crate::soap::{Answer, Reference, Vim, incomplete};

/// Objects in one answer; vCenter's own page.
const PAGE_OBJECTS: u32 = 100;
/// Pages of one listing: 100,000 objects is beyond what one vCenter manages.
const PAGES_MAX: usize = 1000;
/// Names that an error lists.
const NAMES_SHOWN: usize = 12;

/// One object with the name that people see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// Which.
    pub(crate) reference: Reference,
    /// Its name, with vSphere's escapes (`%2f`) undone.
    pub(crate) name: String,
}

impl Vim {
    /// The only object of these types and this name below `container`.
    pub(crate) fn find(
        &self,
        what: &str,
        kinds: &[&str],
        (container, name): (&Reference, &str),
    ) -> Result<Reference> {
        let all = self.list(kinds, container)?;
        let mut matching = all.iter().filter(|known| known.name == name);
        match (matching.next(), matching.next()) {
            (Some(only), None) => Ok(only.reference.clone()),
            (Some(_), Some(_)) => {
                let message = format!("there are several {what}s called {name:?}");
                Err(PluginError::user_fault(message).hint("name the datacenter as well"))
            }
            (None, _) => {
                let mut names: Vec<&str> = all.iter().map(|known| known.name.as_str()).collect();
                names.sort_unstable();
                names.truncate(NAMES_SHOWN);
                let message =
                    format!("there is no {what} {name:?}; there are: {}", names.join(", "));
                Err(PluginError::new(ErrorCode::NotFound, message).by_user())
            }
        }
    }

    /// All objects of these types below `container`.
    pub(crate) fn list(&self, kinds: &[&str], container: &Reference) -> Result<Vec<Named>> {
        let types = kinds.iter().map(|kind| Xml::text("type", kind));
        let manager = self.service("viewManager")?;
        let arguments = std::iter::once(container.xml("container"))
            .chain(types)
            .chain([Xml::text("recursive", true)]);
        let view = self.read("CreateContainerView", &manager, arguments)?.reference("returnval")?;
        let listed = self.listed(kinds, &view);
        // It ends with the session; meanwhile the server keeps it up to date for nobody.
        self.write("DestroyView", &view, []).ok();
        listed
    }

    fn listed(&self, kinds: &[&str], view: &Reference) -> Result<Vec<Named>> {
        let traversal = Xml::new("selectSet")
            .with("xsi:type", "TraversalSpec")
            .leaf("name", "view")
            .leaf("type", "ContainerView")
            .leaf("path", "view")
            .leaf("skip", false);
        let objects =
            Xml::new("objectSet").child(view.xml("obj")).leaf("skip", true).child(traversal);
        let filter = Xml::new("specSet")
            .children(kinds.iter().map(|kind| wanted(kind, &["name"])))
            .child(objects);
        let collector = self.service("propertyCollector")?;
        let options = Xml::new("options").leaf("maxObjects", PAGE_OBJECTS);
        let mut answer = self.read("RetrievePropertiesEx", &collector, [filter, options])?;
        let mut all = Vec::new();
        for _ in 0..PAGES_MAX {
            let token = read_page(&answer, &mut all)?;
            let Some(token) = token else { return Ok(all) };
            let arguments = [Xml::text("token", token)];
            answer = self.read("ContinueRetrievePropertiesEx", &collector, arguments)?;
        }
        let message = format!("vSphere's listing does not end after {PAGES_MAX} pages");
        Err(PluginError::new(ErrorCode::Io, message))
    }

    /// Some properties of one object; `read` looks at each `val` element.
    pub(crate) fn properties(
        &self,
        of: &Reference,
        paths: &[&str],
        mut read: impl FnMut(&str, Node<'_, '_>) -> Result<()>,
    ) -> Result<()> {
        let filter = Xml::new("specSet")
            .child(wanted(&of.kind, paths))
            .child(Xml::new("objectSet").child(of.xml("obj")).leaf("skip", false));
        let collector = self.service("propertyCollector")?;
        let answer =
            self.read("RetrievePropertiesEx", &collector, [filter, Xml::new("options")])?;
        let document = answer.parse()?;
        for set in document.descendants().filter(|node| node.tag_name().name() == "propSet") {
            if let (Some(name), Some(value)) = (member(set, "name"), member(set, "val")) {
                read(name.text().unwrap_or_default(), value)?;
            }
        }
        Ok(())
    }

    /// A property that is a reference.
    pub(crate) fn reference_of(&self, of: &Reference, path: &str) -> Result<Reference> {
        let mut found = None;
        self.properties(of, &[path], |_, value| {
            found = Reference::read(value);
            Ok(())
        })?;
        found.ok_or_else(|| incomplete(path))
    }

    /// Waits for a task, and answers what its result refers to, if to anything.
    pub(crate) fn finish(&self, host: &Host, task: &Reference) -> Result<Option<Reference>> {
        loop {
            let (mut state, mut result, mut failed) = (String::new(), None, None);
            self.properties(task, &["info.state", "info.result", "info.error"], |name, value| {
                match name {
                    "info.state" => value.text().unwrap_or_default().clone_into(&mut state),
                    "info.result" => result = Reference::read(value),
                    _ => failed = Some(localized(value)),
                }
                Ok(())
            })?;
            match (state.as_str(), failed) {
                ("success", _) => return Ok(result),
                ("error", failed) => return Err(failed.unwrap_or_else(|| incomplete("error"))),
                ("queued" | "running", _) => {
                    host.sleep_unless_cancelled(crate::import::LOOK_EVERY)?
                }
                (other, _) => {
                    let message = format!("a task of vSphere's is {other:?}");
                    return Err(PluginError::new(ErrorCode::Io, message));
                }
            }
        }
    }
}

/// A LocalizedMethodFault as an error.
pub(crate) fn localized(node: Node<'_, '_>) -> PluginError {
    let said = member(node, "localizedMessage").and_then(|said| said.text()).unwrap_or_default();
    let fault = member(node, "fault");
    let kind = fault.and_then(|fault| fault.attributes().find(|at| at.name() == "type"));
    let kind = kind.map(|at| at.value().rsplit(':').next().unwrap_or_default());
    crate::soap::fault_of(kind.unwrap_or_default(), said)
}

/// A child by its name.
pub(crate) fn member<'a, 'd>(node: Node<'a, 'd>, name: &str) -> Option<Node<'a, 'd>> {
    node.children().find(|child| child.tag_name().name() == name)
}

fn wanted(kind: &str, paths: &[&str]) -> Xml {
    let paths = paths.iter().map(|path| Xml::text("pathSet", path));
    Xml::new("propSet").leaf("type", kind).leaf("all", false).children(paths)
}

fn read_page(answer: &Answer, all: &mut Vec<Named>) -> Result<Option<String>> {
    let document = answer.parse()?;
    for node in document.descendants().filter(|node| node.tag_name().name() == "objects") {
        let reference = member(node, "obj").and_then(Reference::read);
        let name = member(node, "propSet").and_then(|set| member(set, "val"));
        if let (Some(reference), Some(name)) = (reference, name.and_then(|name| name.text())) {
            all.push(Named { reference, name: unescaped(name) });
        }
    }
    let token = document.descendants().find(|node| node.tag_name().name() == "token");
    Ok(token.and_then(|token| token.text()).map(str::to_owned))
}

/// vSphere writes `%`, `/` and `\` in names as `%25`, `%2f` and `%5c`.
fn unescaped(name: &str) -> String {
    name.replace("%2f", "/").replace("%5c", "\\").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_people_see() {
        assert_eq!(unescaped("a%2fb%5cc%25"), "a/b\\c%");
    }
}
