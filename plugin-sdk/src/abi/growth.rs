//! Reads structs that grow: those that begin with `struct_size` and gain fields only at the end.
//!
//! Both sides use it: the plugin for `imgf_stage`, the host for what plugins hand to its
//! functions. What the other side does not know is zero, which every field of these structs reads
//! as absent, none or unknown.

use std::mem::{align_of, size_of, MaybeUninit};

use super::{
    imgf_error, imgf_journal_entry, imgf_negotiate, imgf_progress, imgf_stage, FieldLayout,
};

/// A data struct that begins with `struct_size` and may grow at its end.
///
/// # Safety
/// The type is `repr(C)`, its first field is the `u32` size, `FIELDS` describes it, and all bytes
/// zero is a valid value of it.
pub unsafe trait Growing: Copy {
    /// The fields that this side knows.
    const FIELDS: &'static [FieldLayout];
}

macro_rules! growing {
    ($($name:ident),+) => { $(
        // SAFETY: declared by abi_struct! with struct_size first; integers and raw pointers only.
        unsafe impl Growing for $name {
            const FIELDS: &'static [FieldLayout] = $name::FIELDS;
        }
    )+ };
}
growing!(imgf_error, imgf_progress, imgf_journal_entry, imgf_stage, imgf_negotiate);

/// Copies what both sides know of `*from`: whole fields within the stated `struct_size`; the rest
/// is zero. `struct_size` of the copy is the stated one. `None`: NULL, misaligned, or too small to
/// hold even its own size.
///
/// # Safety
/// `from` is NULL or points to at least 4 readable bytes, and to as many as it states there.
pub unsafe fn read_growing<T: Growing>(from: *const T) -> Option<T> {
    if from.is_null() || (from as usize) % align_of::<T>() != 0 {
        return None;
    }
    // SAFETY: not NULL, aligned, 4 bytes are readable; the first field is a u32.
    let stated = unsafe { *(from as *const u32) } as usize;
    let known = whole_fields_bytes(T::FIELDS, stated.min(size_of::<T>()));
    if known < size_of::<u32>() {
        return None;
    }
    let mut copy = MaybeUninit::<T>::zeroed();
    // SAFETY: `known` bytes are readable (at most what is stated) and writable (at most size_of T);
    // the copy is our own, so they do not overlap. Zeroed and copied bytes are a valid T.
    unsafe {
        std::ptr::copy_nonoverlapping(from as *const u8, copy.as_mut_ptr() as *mut u8, known);
        Some(copy.assume_init())
    }
}

/// The largest number of bytes within `limit` that ends with a whole field.
fn whole_fields_bytes(fields: &[FieldLayout], limit: usize) -> usize {
    let ends = fields.iter().map(|field| field.offset + field.size);
    ends.take_while(|end| *end <= limit).last().unwrap_or(0)
}
