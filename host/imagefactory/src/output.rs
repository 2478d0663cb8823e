//! What goes to standard output: the lines that scripts parse, or one JSON document. Whoever closes
//! the pipe does not want to read on: the command ends, and that is no error. Progress and errors
//! go to standard error and are not written here.

use std::io::{ErrorKind, Write};

use imagefactory_model::status::Status;
use serde_json::Value;

use crate::cli::{OutputFlags, OutputFormat};
use crate::error::CommandError;
use crate::image_view::ImageView;

/// Writes answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    flags: OutputFlags,
}

impl Output {
    /// As the flags say.
    pub(crate) fn new(flags: OutputFlags) -> Output {
        Output { flags }
    }

    /// Is a JSON document wanted?
    pub(crate) fn is_json(self) -> bool {
        self.flags.output == OutputFormat::Json
    }

    /// One JSON document and a line end; for people, unless `--raw`.
    pub(crate) fn document(self, document: &Value) -> Result<(), CommandError> {
        let text = if self.flags.raw { document.to_string() } else { format!("{document:#}") };
        self.text(&format!("{text}\n"))
    }

    /// One JSON document on one line: where there are several, one after the other.
    pub(crate) fn document_line(self, document: &Value) -> Result<(), CommandError> {
        self.text(&format!("{document}\n"))
    }

    /// Text as it is.
    pub(crate) fn text(self, text: &str) -> Result<(), CommandError> {
        self.bytes(text.as_bytes())
    }

    /// Bytes as they are.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Result<(), CommandError> {
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(CommandError::ReaderGone),
            written => written.map_err(CommandError::Output),
        }
    }

    /// How a build ended. `command` is the image's kind as the command is called.
    pub(crate) fn final_details(
        self,
        command: &str,
        image: &ImageView,
    ) -> Result<(), CommandError> {
        let written = match self.flags.output {
            OutputFormat::Log => self.text(&final_lines(command, image)),
            OutputFormat::Json => self.document(&image.document),
        };
        match written {
            // How the build ended is what counts.
            Err(CommandError::ReaderGone) => Ok(()),
            written => written,
        }
    }
}

/// The lines that a build ends with. Scripts parse them: never change one.
fn final_lines(command: &str, image: &ImageView) -> String {
    let mut lines = format!(
        "\n============ Final Image Details ============\nUUID: {}\nType: {command}\n\
         Image filename: {}\n",
        image.id, image.file
    );
    if image.status == Status::Complete {
        if let Some(identifier) = &image.identifier_on_provider {
            lines.push_str(&format!("Image ID on provider: {identifier}\n"));
        }
        lines.push_str("Image build completed SUCCESSFULLY!\n");
    } else {
        let error = image.error.as_deref().unwrap_or(image.status.name());
        lines.push_str(&format!("Image build FAILED with error: {error}\n"));
    }
    lines
}
