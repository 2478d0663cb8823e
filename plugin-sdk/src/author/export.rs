//! Turns a plugin type into the static tables of the C ABI, and exports the entry symbol.
//!
//! A slot is filled if the type implements the operation's trait, else NULL. That is decided by
//! the compiler, without a list that could differ from the code: [`Offered`] has an inherent
//! constant for each operation where the trait is implemented, which hides the one of
//! [`NotOffered`] that exists for every type. Only the macros use what is here.

use std::ffi::c_void;
use std::marker::PhantomData;

use super::instance::{run, run_stage};
use super::operations::*;
use super::plugin::{CloudPlugin, OsPlugin};
use super::resource::Resource;
use crate::abi::*;

pub use super::instance::{abort, create, destroy};
pub use super::negotiate::negotiate;

/// An operation that gets a stage.
pub type StageFn = unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage) -> i32;
/// `builder_should_create_target_image`.
pub type ShouldFn = unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage, *mut u32) -> i32;
/// `add_cloud_plugin_content`.
pub type ContentFn = unsafe extern "C" fn(*mut imgf_instance, imgf_str) -> i32;
/// `cleanup`.
pub type CleanupFn = unsafe extern "C" fn(*mut imgf_instance, *const imgf_stage, imgf_str) -> i32;

/// What the type `T` offers.
pub struct Offered<T>(PhantomData<T>);

macro_rules! slots {
    ($( $slot:ident: $type:ty = $function:ident where $trait:ident; )+) => {
        /// NULL for every operation, unless [`Offered`] knows better.
        pub trait NotOffered {
            $( #[doc(hidden)] const $slot: Option<$type> = None; )+
        }
        impl<T> NotOffered for Offered<T> {}
        $(
            impl<T: $trait> Offered<T> {
                #[doc(hidden)]
                pub const $slot: Option<$type> = Some($function::<T>);
            }
        )+
    };
}

slots! {
    CREATE_TARGET_IMAGE: StageFn = create_target_image where CreateTargetImage;
    ADD_CLOUD_PLUGIN_CONTENT: ContentFn = add_cloud_plugin_content where AddCloudPluginContent;
    RESOLVE_INPUTS: StageFn = resolve_inputs where ResolveInputs;
    VERIFY_IMAGE: StageFn = verify_image where VerifyImage;
    BUILDER_SHOULD: ShouldFn = builder_should where BuilderShouldCreateTargetImage;
    BUILDER_WILL: StageFn = builder_will where BuilderWillCreateTargetImage;
    BUILDER_DID: StageFn = builder_did where BuilderDidCreateTargetImage;
    PUSH: StageFn = push where PushImageToProvider;
    SNAPSHOT: StageFn = snapshot where SnapshotImageOnProvider;
    DELETE: StageFn = delete where DeleteFromProvider;
    CLEANUP: CleanupFn = cleanup where Cleanup;
}

macro_rules! stage_functions {
    ($( $function:ident = $trait:ident :: $method:ident; )+) => { $(
        /// # Safety
        /// As the C headers say of the operation.
        pub unsafe extern "C" fn $function<T: $trait>(
            this: *mut imgf_instance,
            stage: *const imgf_stage,
        ) -> i32 {
            // SAFETY: the host's promises are those that `run_stage` asks for.
            unsafe { run_stage(this, stage, |plugin: &T, stage| plugin.$method(stage)) }
        }
    )+ };
}

stage_functions! {
    create_base_image = OsPlugin::create_base_image;
    create_target_image = CreateTargetImage::create_target_image;
    resolve_inputs = ResolveInputs::resolve_inputs;
    verify_image = VerifyImage::verify_image;
    builder_will = BuilderWillCreateTargetImage::builder_will_create_target_image;
    builder_did = BuilderDidCreateTargetImage::builder_did_create_target_image;
    push = PushImageToProvider::push_image_to_provider;
    snapshot = SnapshotImageOnProvider::snapshot_image_on_provider;
    delete = DeleteFromProvider::delete_from_provider;
}

unsafe extern "C" fn builder_should<T: BuilderShouldCreateTargetImage>(
    this: *mut imgf_instance,
    stage: *const imgf_stage,
    out_yes: *mut u32,
) -> i32 {
    if out_yes.is_null() {
        return IMGF_E_INVALID_ARGUMENT;
    }
    // SAFETY: the host's promises are those that `run_stage` asks for; out_yes is writable.
    unsafe {
        run_stage(this, stage, |plugin: &T, stage| {
            let answer = plugin.builder_should_create_target_image(stage)?;
            *out_yes = u32::from(answer == ShouldCreate::Yes);
            Ok(())
        })
    }
}

unsafe extern "C" fn add_cloud_plugin_content<T: AddCloudPluginContent>(
    this: *mut imgf_instance,
    content_json: imgf_str,
) -> i32 {
    // SAFETY: the host's promises: a living instance, and text that is readable until we return.
    unsafe {
        run(this, |plugin: &T| {
            plugin.add_cloud_plugin_content(required("content_json", content_json.text())?)
        })
    }
}

unsafe extern "C" fn cleanup<T: Cleanup>(
    this: *mut imgf_instance,
    stage: *const imgf_stage,
    journal_json: imgf_str,
) -> i32 {
    // SAFETY: the host's promises: a living instance, a readable stage, and readable text.
    unsafe {
        run_stage(this, stage, |plugin: &T, stage| {
            let journal = required("journal_json", journal_json.text())?;
            plugin.cleanup(stage, &Resource::from_journal(journal)?)
        })
    }
}

fn required<'a>(
    name: &str,
    text: Result<Option<&'a str>, std::str::Utf8Error>,
) -> super::Result<&'a str> {
    let fault = match text {
        Ok(Some(text)) => return Ok(text),
        Ok(None) => "is absent",
        Err(_) => "is not UTF-8",
    };
    let message = format!("the host's {name} {fault}");
    Err(super::PluginError::new(super::ErrorCode::InvalidArgument, message))
}

/// Compiles only for cloud plugins.
pub fn is_cloud_plugin<T: CloudPlugin>() {}

/// Finds a table by its whole id; NULL = not offered.
///
/// # Safety
/// `id` is absent or readable.
pub unsafe fn find(id: imgf_str, tables: &[(&str, *const c_void)]) -> *const c_void {
    // SAFETY: the caller's promise. No NUL is expected behind the id.
    let asked = unsafe { id.bytes() };
    tables
        .iter()
        .find(|(known, _)| asked == Some(known.as_bytes()))
        .map_or(std::ptr::null(), |(_, table)| *table)
}

/// The table's address if one of its operations is offered, else NULL.
pub fn table_if<T, F>(table: &'static T, operation: Option<F>) -> *const c_void {
    match operation {
        Some(_) => table as *const T as *const c_void,
        None => std::ptr::null(),
    }
}
