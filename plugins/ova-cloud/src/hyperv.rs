//! The machine's description in a Hyper-V export of generation 1, as far as `Import-VM` and
//! Vagrant's provider read it: name, processors, memory, one disk on IDE, one network card.

use imagefactory_plugin_sdk::author::Result;
use xmltree::Element;

use crate::identity::Identity;
use crate::machine::Machine;
use crate::xml::{add, document, text};

/// The virtual device that an IDE controller is.
const IDE_CONTROLLER: &str = "_83f8638b-8dca-4152-9eda-2ca8b33039b4_";
/// Version of the configuration: Windows Server 2012 R2, which all later ones take.
const VERSION: &str = "1280";

/// The whole document; `disk` is the file's name beside it.
pub(crate) fn description(machine: &Machine, identity: &Identity, disk: &str) -> Result<Vec<u8>> {
    let mut configuration = Element::new("configuration");
    let id = identity.uuid("hyperv machine").to_uppercase();

    let mut drive = Element::new("drive0");
    typed(&mut drive, &[("pathname", "string", disk), ("type", "string", "VHD")]);
    let mut empty = Element::new("drive1");
    typed(&mut empty, &[("pathname", "string", ""), ("type", "string", "NONE")]);
    let mut controller = Element::new("controller0");
    add(&mut controller, drive);
    add(&mut controller, empty);
    let mut ide = Element::new(IDE_CONTROLLER);
    add(&mut ide, controller);
    add(&mut configuration, ide);

    let mut properties = Element::new("properties");
    typed(
        &mut properties,
        &[
            ("global_id", "string", &id),
            ("name", "string", &machine.name),
            ("subtype", "integer", "0"),
            ("type_id", "string", "Virtual Machines"),
            ("version", "integer", VERSION),
        ],
    );
    add(&mut configuration, properties);

    let mut bank = Element::new("bank");
    let memory = machine.memory_mb.to_string();
    typed(
        &mut bank,
        &[
            ("dynamic_memory_enabled", "bool", "False"),
            ("limit", "integer", &memory),
            ("reservation", "integer", &memory),
            ("size", "integer", &memory),
        ],
    );
    let mut memory = Element::new("memory");
    add(&mut memory, bank);
    let mut processors = Element::new("processors");
    typed(&mut processors, &[("count", "integer", &machine.cpu_count.to_string())]);
    let mut settings = Element::new("settings");
    add(&mut settings, memory);
    add(&mut settings, processors);
    add(&mut configuration, settings);
    document(&configuration)
}

fn typed(parent: &mut Element, members: &[(&str, &str, &str)]) {
    for (name, kind, content) in members {
        let mut member = text(name, content);
        member.attributes.insert("type".to_owned(), (*kind).to_owned());
        add(parent, member);
    }
}
