//! The log: lines on standard error, which journald takes as they are.
//!
//! Under journald each line begins with its priority (`<6>`, sd-daemon(3)) and has no time stamp,
//! because the journal adds its own. Elsewhere lines have both. `RUST_LOG` narrows or widens what
//! the flags say.

use imagefactory_configuration::settings::Verbosity;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Begins to log. Called once.
pub(crate) fn start(verbosity: Verbosity) {
    let default = match verbosity {
        Verbosity::Normal => "info",
        Verbosity::Verbose => "info,imagefactory=debug,imagefactoryd=debug",
        Verbosity::Debug => "debug,hyper=info,h2=info,rustls=info,sqlx=info",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false);
    // Set by systemd for what it connects to the journal (systemd.exec(5)).
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        builder.event_format(JournalLine).init();
    } else {
        builder.init();
    }
}

/// `<6>target: message field=value`.
struct JournalLine;

impl<S, N> FormatEvent<S, N> for JournalLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let priority = match *event.metadata().level() {
            Level::ERROR => 3,
            Level::WARN => 4,
            Level::INFO => 6,
            Level::DEBUG | Level::TRACE => 7,
        };
        write!(writer, "<{priority}>")?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
