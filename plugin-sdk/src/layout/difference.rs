//! Words a difference between two type graphs: where, what was expected, what was found.

use abi_stable::abi_stability::abi_checking::{
    AbiInstability, AbiInstabilityError, AbiInstabilityErrors,
};
use abi_stable::type_layout::TLFieldOrFunction;

/// Differences that are listed; the rest are consequences of the first ones as a rule.
const LISTED_MAX: usize = 8;

/// The differences in one line.
pub(super) fn in_words(errors: &AbiInstabilityErrors) -> String {
    // abi_stable also lists every type on the way to a difference, with nothing to say about it.
    let found: Vec<_> = errors.errors.iter().filter(|error| !error.errs.is_empty()).collect();
    let listed = found.iter().take(LISTED_MAX).map(|error| {
        let what: Vec<String> = error.errs.iter().map(wording).collect();
        format!("{}: {}", place(error), what.join(", "))
    });
    let mut text = listed.collect::<Vec<_>>().join("; ");
    if found.len() > LISTED_MAX {
        text.push_str(&format!("; and {} more", found.len() - LISTED_MAX));
    }
    text
}

/// `imgf_os_v1`, or `imgf_negotiate.flags` where it is one field that differs.
fn place(error: &AbiInstabilityError) -> String {
    let way: Vec<&TLFieldOrFunction> =
        error.stack_trace.iter().map(|step| &step.expected).collect();
    match way.as_slice() {
        [] => "the side-car".to_owned(),
        [.., holder, last] if is_named(last) => format!("{}.{}", type_of(holder), name_of(last)),
        [.., last] => type_of(last),
    }
}

/// Pointers and tuples call their parts `0`, parameter lists separate them by `,`.
fn is_named(step: &TLFieldOrFunction) -> bool {
    name_of(step).starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn name_of(step: &TLFieldOrFunction) -> &str {
    match step {
        TLFieldOrFunction::Field(field) => field.name(),
        TLFieldOrFunction::Function(function) => function.name.as_str(),
    }
}

fn type_of(step: &TLFieldOrFunction) -> String {
    match step {
        TLFieldOrFunction::Field(field) => field.layout().name().to_owned(),
        TLFieldOrFunction::Function(function) => function.name.as_str().to_owned(),
    }
}

/// What is different there.
fn wording(what: &AbiInstability) -> String {
    use AbiInstability as Is;
    match what {
        Is::Name(it) => format!("type {} expected, {} found", it.expected, it.found),
        Is::Size(it) => format!("{} bytes expected, {} found", it.expected, it.found),
        Is::Alignment(it) => format!("alignment {} expected, {} found", it.expected, it.found),
        Is::FieldCountMismatch(it) => {
            format!("{} fields expected, {} found", it.expected, it.found)
        }
        Is::UnexpectedField(it) => {
            format!("field {} expected, {} found", it.expected.name(), it.found.name())
        }
        Is::PackageVersion(it) => {
            format!("SDK version {} expected, {} found", it.expected, it.found)
        }
        other => format!("{other:?}").chars().take(300).collect(),
    }
}
