//! TDL's vocabulary as a table: which elements and attributes there are and how often. This is the
//! whole grammar; the order of children is free everywhere.

use crate::payload::xml::walk::{ElementRule, Times};

const fn children(children: &'static [(&'static str, Times)]) -> ElementRule {
    ElementRule { attributes: &[], children }
}

pub(crate) const TEMPLATE: ElementRule = ElementRule {
    attributes: &[("version", false)],
    children: &[
        ("name", Times::One),
        ("description", Times::AtMostOne),
        ("os", Times::One),
        ("disk", Times::AtMostOne),
        ("packages", Times::AtMostOne),
        ("repositories", Times::AtMostOne),
        ("files", Times::AtMostOne),
        ("commands", Times::AtMostOne),
        ("precommands", Times::AtMostOne),
    ],
};

pub(crate) const OS: ElementRule = children(&[
    ("name", Times::One),
    ("version", Times::One),
    ("arch", Times::One),
    ("install", Times::One),
    ("rootpw", Times::AtMostOne),
    ("key", Times::AtMostOne),
    ("kernelparam", Times::AtMostOne),
    ("icicle", Times::AtMostOne),
]);

pub(crate) const INSTALL_URL: ElementRule =
    ElementRule { attributes: &[("type", true)], children: &[("url", Times::One)] };

pub(crate) const INSTALL_ISO: ElementRule = ElementRule {
    attributes: &[("type", true)],
    children: &[
        ("iso", Times::One),
        ("md5sum", Times::AtMostOne),
        ("sha1sum", Times::AtMostOne),
        ("sha256sum", Times::AtMostOne),
        ("extras", Times::AtMostOne),
    ],
};

pub(crate) const EXTRAS: ElementRule = children(&[("directory", Times::Any), ("file", Times::Any)]);

pub(crate) const EXTRA: ElementRule =
    ElementRule { attributes: &[("source", true), ("destination", true)], children: &[] };

pub(crate) const ICICLE: ElementRule = children(&[("extra_command", Times::One)]);

pub(crate) const DISK: ElementRule = children(&[("size", Times::One)]);

pub(crate) const PACKAGES: ElementRule = children(&[("package", Times::Any)]);

pub(crate) const PACKAGE: ElementRule = ElementRule {
    attributes: &[("name", true)],
    children: &[
        ("repository", Times::AtMostOne),
        ("file", Times::AtMostOne),
        ("arguments", Times::AtMostOne),
    ],
};

pub(crate) const REPOSITORIES: ElementRule = children(&[("repository", Times::Any)]);

pub(crate) const REPOSITORY: ElementRule = ElementRule {
    attributes: &[("name", true)],
    children: &[
        ("url", Times::One),
        ("signed", Times::AtMostOne),
        ("persisted", Times::AtMostOne),
        ("sslverify", Times::AtMostOne),
    ],
};

pub(crate) const FILES: ElementRule = children(&[("file", Times::Any)]);

pub(crate) const FILE: ElementRule =
    ElementRule { attributes: &[("name", true), ("type", false)], children: &[] };

pub(crate) const COMMANDS: ElementRule = children(&[("command", Times::Any)]);

pub(crate) const COMMAND: ElementRule = ElementRule {
    attributes: &[("name", true), ("type", false), ("position", false)],
    children: &[],
};
