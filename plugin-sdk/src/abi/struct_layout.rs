//! Where each byte of the ABI's structs lies, as data that a test can hold against the C headers.
//!
//! [`abi_struct!`] declares a `repr(C)` struct, asserts at compile time that it has exactly the
//! size the header states and no padding, and keeps the list of its fields; [`abi_constants!`]
//! does the same for `#define`s. No `offset_of!` and no dependency: this compiles with rustc 1.63.

/// One struct of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StructLayout {
    /// As in the C header: `imgf_stage`.
    pub name: &'static str,
    /// `sizeof`, in bytes, on a 64-bit machine.
    pub size: usize,
    /// In declaration order.
    pub fields: &'static [FieldLayout],
}

/// One field of a struct of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldLayout {
    /// As in the C header.
    pub name: &'static str,
    /// `offsetof`, in bytes. There is no padding, so this is the sum of the sizes before it.
    pub offset: usize,
    /// `sizeof`, in bytes.
    pub size: usize,
}

/// Fills in the offsets of fields that lie one after the other without a gap.
pub(super) const fn one_after_the_other<const N: usize>(
    mut fields: [FieldLayout; N],
) -> [FieldLayout; N] {
    let mut offset = 0;
    let mut i = 0;
    while i < N {
        fields[i].offset = offset;
        offset += fields[i].size;
        i += 1;
    }
    fields
}

/// Bytes of all fields together.
#[allow(dead_code)] // old compilers do not see the use in a const assertion
pub(super) const fn bytes_of(fields: &[FieldLayout]) -> usize {
    let mut bytes = 0;
    let mut i = 0;
    while i < fields.len() {
        bytes += fields[i].size;
        i += 1;
    }
    bytes
}

/// How many entries several lists have together.
pub(super) const fn count<T>(lists: &[&[T]]) -> usize {
    let mut entries = 0;
    let mut i = 0;
    while i < lists.len() {
        entries += lists[i].len();
        i += 1;
    }
    entries
}

/// Joins several lists into one of `N` entries; `first` is any entry (it is overwritten).
pub(super) const fn join<T: Copy, const N: usize>(lists: &[&[T]], first: T) -> [T; N] {
    let mut joined = [first; N];
    let mut at = 0;
    let mut i = 0;
    while i < lists.len() {
        let mut j = 0;
        while j < lists[i].len() {
            joined[at] = lists[i][j];
            at += 1;
            j += 1;
        }
        i += 1;
    }
    joined
}

/// Declares one struct of the header; `= N` is its size in bytes on a 64-bit machine.
macro_rules! abi_struct {
    (
        $(#[$meta:meta])*
        pub struct $name:ident = $size:literal {
            $( $(#[$field_meta:meta])* pub $field:ident : $type:ty, )+
        }
    ) => {
        $(#[$meta])*
        #[repr(C)]
        #[cfg_attr(feature = "layout-check", derive(abi_stable::StableAbi))]
        #[derive(Clone, Copy)]
        #[allow(non_camel_case_types)] // the header's name
        pub struct $name {
            $( $(#[$field_meta])* pub $field: $type, )+
        }

        impl $name {
            /// `sizeof` in the width that `struct_size` fields have.
            pub const SIZE: u32 = std::mem::size_of::<$name>() as u32;

            /// The fields with their places.
            pub const FIELDS: &'static [$crate::abi::FieldLayout] =
                &$crate::abi::struct_layout::one_after_the_other([
                    $( $crate::abi::FieldLayout {
                        name: stringify!($field),
                        offset: 0,
                        size: std::mem::size_of::<$type>(),
                    }, )+
                ]);

            /// The struct with its fields and their places.
            pub const LAYOUT: $crate::abi::StructLayout = $crate::abi::StructLayout {
                name: stringify!($name),
                size: std::mem::size_of::<$name>(),
                fields: Self::FIELDS,
            };
        }

        // No padding in a repr(C) struct: its size is the sum of its fields' sizes. Every offset
        // is then the sum of the sizes before it, as `one_after_the_other` says.
        #[cfg(target_pointer_width = "64")]
        const _: () = assert!(
            std::mem::size_of::<$name>() == $size
                && $crate::abi::struct_layout::bytes_of($name::FIELDS) == $size,
            concat!("size or padding of ", stringify!($name), " differs from the C header")
        );
    };
}
pub(super) use abi_struct;

/// Declares `#define`s of the header and lists them as `CONSTANTS` of the file.
macro_rules! abi_constants {
    ( $( $(#[$meta:meta])* pub const $name:ident : $type:ty = $value:expr; )+ ) => {
        $( $(#[$meta])* pub const $name: $type = $value; )+

        /// This file's constants by name.
        pub(super) const CONSTANTS: &[(&str, i64)] =
            &[ $( (stringify!($name), $name as i64), )+ ];
    };
}
pub(super) use abi_constants;

/// Declares string `#define`s of the header and lists them as `STRINGS` of the file.
macro_rules! abi_strings {
    ( $( $(#[$meta:meta])* pub const $name:ident = $value:literal; )+ ) => {
        $( $(#[$meta])* pub const $name: &str = $value; )+

        /// This file's strings by name.
        pub(super) const STRINGS: &[(&str, &str)] = &[ $( (stringify!($name), $name), )+ ];
    };
}
pub(super) use abi_strings;
