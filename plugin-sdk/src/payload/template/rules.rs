//! What a reader of templates is told beside the text: where it came from, how much is read, and
//! whether the operator insists on a root password.

use super::source::TemplateSource;
use crate::payload::xml::XmlLimits;

/// How much of a template is read; see [`XmlLimits`] for each limit and its reason.
pub type TemplateLimits = XmlLimits;

/// How a template is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateRules {
    /// Where it came from, which decides about `file:` URLs and local paths.
    pub source: TemplateSource,
    /// How much is read.
    pub limits: TemplateLimits,
    /// The configuration's `tdl_require_root_pw`: a template without `<rootpw>` is refused.
    pub require_root_password: bool,
}

impl TemplateRules {
    /// For a template that came over the network: no local files.
    pub fn rest() -> Self {
        TemplateRules {
            source: TemplateSource::Rest,
            limits: TemplateLimits::default(),
            require_root_password: false,
        }
    }

    /// For a template that the person at the machine names: local files are theirs to read.
    pub fn command_line() -> Self {
        TemplateRules { source: TemplateSource::CommandLine, ..TemplateRules::rest() }
    }
}
