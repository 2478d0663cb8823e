//! Turns the events of a running stage into log lines, activity and percentages of its image.

use std::time::Duration;

use imagefactory_model::frames::SandboxReport;
use imagefactory_model::order::OrderKind;
use imagefactory_model::stage::{LogLevel, LogLine, LogSource, Progress};
use imagefactory_store::images::ImageStep;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::engine::Engine;
use crate::stage_process::StageEvent;
use crate::stage_work::{OrderContext, StageWork};

/// Progress is recorded at most so often: a person sees no more, and each record is a write.
const RECORD_EVERY: Duration = Duration::from_millis(250);

/// Ends when the supervisor has closed its end.
pub(crate) async fn watch(
    engine: &Engine,
    context: &OrderContext,
    work: &StageWork,
    mut seen: mpsc::Receiver<StageEvent>,
) {
    let mut percent = work.percent.start;
    let mut waiting: Option<ImageStep> = None;
    let mut last_recorded: Option<Instant> = None;
    loop {
        let due = last_recorded.map_or_else(Instant::now, |last| last + RECORD_EVERY);
        tokio::select! {
            event = seen.recv() => match event {
                Some(StageEvent::Log(line)) => context.log.stage_line(&work.step, &line),
                Some(StageEvent::Progress(progress)) => {
                    percent = percent.max(percent_of(&progress, &work.percent));
                    waiting = Some(step_of(progress, percent));
                }
                Some(StageEvent::SandboxReport(report)) => note_sandbox(context, work, &report),
                Some(StageEvent::Journal(_)) => {
                    // Durable progress: interruptions before it no longer count.
                    if let Err(error) =
                        engine.store.count_interruption(context.order.id, None).await
                    {
                        tracing::warn!(image = %context.image.id, "{error}");
                    }
                }
                Some(StageEvent::Spawned(_) | StageEvent::TargetContent(_)) => {}
                None => break,
            },
            () = tokio::time::sleep_until(due), if waiting.is_some() => {
                record(engine, context, waiting.take()).await;
                last_recorded = Some(Instant::now());
            }
        }
    }
    record(engine, context, waiting).await;
}

async fn record(engine: &Engine, context: &OrderContext, step: Option<ImageStep>) {
    let Some(step) = step else { return };
    if context.order.kind == OrderKind::Cleanup {
        return; // its image is final, or gone
    }
    // Progress that cannot be recorded is not worth a build.
    if let Err(error) = engine.progress.step(context.image.id, step).await {
        tracing::warn!(image = %context.image.id, "progress was not recorded: {error}");
    }
}

fn step_of(progress: Progress, percent: u8) -> ImageStep {
    let activity = if progress.message.is_empty() { progress.phase } else { progress.message };
    ImageStep {
        activity: Some(activity).filter(|text| !text.is_empty()),
        percent_complete: Some(percent),
        ..ImageStep::default()
    }
}

/// Where in the stage's part of the percentage it is; 100 is kept for COMPLETE.
fn percent_of(progress: &Progress, part: &std::ops::Range<u8>) -> u8 {
    if progress.total == 0 {
        return part.start;
    }
    let span = u128::from(part.end.saturating_sub(part.start));
    let done = u128::from(progress.done.min(progress.total));
    let within = done * span / u128::from(progress.total);
    part.start.saturating_add(u8::try_from(within).unwrap_or(0)).min(99)
}

fn note_sandbox(context: &OrderContext, work: &StageWork, report: &SandboxReport) {
    let mut message = format!("confined by {}", report.active.join(", "));
    if report.active.is_empty() {
        message = "not confined".to_owned();
    }
    for missing in &report.missing {
        message.push_str("; missing: ");
        message.push_str(missing);
    }
    let line = LogLine { level: LogLevel::Info, source: LogSource::Host, message, fields: None };
    context.log.stage_line(&work.step, &line);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_percent(done: u64, total: u64, part: std::ops::Range<u8>, percent: u8) {
        let progress = Progress { phase: String::new(), message: String::new(), done, total };
        assert_eq!(percent_of(&progress, &part), percent, "{done} of {total} in {part:?}");
    }

    #[test]
    fn a_stage_fills_its_own_part_of_the_percentage_and_never_100() {
        check_percent(0, 10, 0..90, 0);
        check_percent(5, 10, 0..90, 45);
        check_percent(5, 10, 50..100, 75);
        check_percent(10, 10, 0..100, 99);
        check_percent(99, 10, 0..90, 90);
        check_percent(3, 0, 20..40, 20);
        check_percent(u64::MAX, u64::MAX, 0..90, 90);
    }
}
