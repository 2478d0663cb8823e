//! Resource limits that the kernel holds for each process of the stage.
//!
//! Memory is limited here only where the supervisor has no cgroup that does: by RLIMIT_DATA, which
//! counts writable memory of one process. Not by RLIMIT_AS, which breaks runtimes that reserve
//! address space (Go, JIT).

use imagefactory_model::frames::{ResourceLimits, SandboxReport};
use rustix::process::{Resource, Rlimit};

use crate::error::RunnerError;

/// The runner's own processes, which count too.
const OWN_PROCESSES: u64 = 2;

/// No core files, for any process of the runner: there may be secrets in them.
pub fn forbid_core_files() -> Result<(), RunnerError> {
    set(Resource::Core, 0, "core files")
}

/// Whose processes RLIMIT_NPROC would count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessCount {
    /// Those of this stage alone: its ids or its user namespace are its own.
    OfTheStage,
    /// Those of the daemon's user too, or none (root is not limited).
    OfOthers,
}

/// Sets what the order asks for.
pub fn set_all(
    limits: &ResourceLimits,
    count: ProcessCount,
    report: &mut SandboxReport,
) -> Result<(), RunnerError> {
    if limits.open_files_max > 0 {
        set(Resource::Nofile, limits.open_files_max, "open files")?;
    }
    if limits.file_bytes_max > 0 {
        set(Resource::Fsize, limits.file_bytes_max, "file size")?;
    }
    if limits.memory_bytes_max > 0 {
        set(Resource::Data, limits.memory_bytes_max, "memory")?;
        report.active.push(format!("memory {} bytes a process", limits.memory_bytes_max));
    }
    if limits.processes_max > 0 && count == ProcessCount::OfTheStage {
        set(Resource::Nproc, limits.processes_max.saturating_add(OWN_PROCESSES), "processes")?;
        report.active.push(format!("processes {}", limits.processes_max));
    }
    Ok(())
}

/// Lowers soft and hard limit; a hard limit that is lower already stays.
fn set(resource: Resource, value: u64, name: &str) -> Result<(), RunnerError> {
    let hard = rustix::process::getrlimit(resource).maximum;
    let value = hard.map_or(value, |hard| hard.min(value));
    let limit = Rlimit { current: Some(value), maximum: Some(value) };
    rustix::process::setrlimit(resource, limit)
        .map_err(|errno| RunnerError::layer(format!("cannot limit {name}"), errno))
}
