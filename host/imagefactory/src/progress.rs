//! Shows on standard error how far images are: bars on a terminal, else one line for each change of
//! status or activity.

use std::collections::HashMap;
use std::io::{IsTerminal, Write};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use uuid::Uuid;

use crate::image_view::ImageView;

/// `base_image  [=====>    ] 52% Installing packages`
const TEMPLATE: &str = "{prefix:14} [{bar:30}] {percent:>3}% {wide_msg}";

/// Shows progress.
pub(crate) struct Progress {
    seen: HashMap<Uuid, ImageView>,
    bars: Option<Bars>,
}

struct Bars {
    all: MultiProgress,
    by_image: HashMap<Uuid, ProgressBar>,
}

impl Progress {
    /// Bars where standard error is a terminal and nothing else is written there (`with_logs`).
    pub(crate) fn new(with_logs: bool) -> Progress {
        let is_terminal = std::io::stderr().is_terminal();
        let bars = (is_terminal && !with_logs)
            .then(|| Bars { all: MultiProgress::new(), by_image: HashMap::new() });
        Progress { seen: HashMap::new(), bars }
    }

    /// The image is like this now.
    pub(crate) fn show(&mut self, image: &ImageView) {
        match &mut self.bars {
            Some(bars) => bars.show(image),
            None => {
                let is_new = match self.seen.get(&image.id) {
                    Some(before) => image.tells_more_than(before),
                    None => true,
                };
                if is_new {
                    write_line(&image.line());
                }
            }
        }
        self.seen.insert(image.id, image.clone());
    }

    /// A sentence between the lines or above the bars.
    pub(crate) fn say(&self, text: &str) {
        match &self.bars {
            // A terminal that went away is nobody's loss.
            Some(bars) => drop(bars.all.println(text)),
            None => write_line(text),
        }
    }

    /// Leaves the screen as it is for what comes after.
    pub(crate) fn end(&mut self) {
        if let Some(bars) = &mut self.bars {
            for bar in bars.by_image.values() {
                if !bar.is_finished() {
                    bar.abandon();
                }
            }
        }
    }
}

impl Bars {
    fn show(&mut self, image: &ImageView) {
        let bar = self.by_image.entry(image.id).or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new(100));
            let style = ProgressStyle::with_template(TEMPLATE);
            bar.set_style(
                style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "),
            );
            bar.set_prefix(image.kind.name());
            bar
        });
        bar.set_position(u64::from(image.percent));
        bar.set_message(format!("{} {}", image.status, image.activity));
        if image.status.is_final() && !bar.is_finished() {
            bar.abandon();
        }
    }
}

fn write_line(text: &str) {
    // Standard error is closed: there is nobody to tell.
    writeln!(std::io::stderr().lock(), "{text}").ok();
}
