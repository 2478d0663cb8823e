//! The export macros: the only thing in a plugin that touches the C ABI, written here once.
//!
//! Use them in the final `cdylib` crate only, once: a library has one entry symbol. Keep logic that
//! others want to link in an ordinary library beside it.

/// Exports an OS plugin: the library's one entry symbol, for a type that implements
/// [`OsPlugin`](crate::author::OsPlugin) and the traits of the operations that it offers.
#[macro_export]
macro_rules! export_os_plugin {
    ($plugin:ty) => {
        $crate::__export_plugin!($crate::os_plugin!($plugin));
    };
}

/// Exports a cloud plugin: the library's one entry symbol, for a type that implements
/// [`CloudPlugin`](crate::author::CloudPlugin) and the traits of the operations that it offers.
#[macro_export]
macro_rules! export_cloud_plugin {
    ($plugin:ty) => {
        $crate::__export_plugin!($crate::cloud_plugin!($plugin));
    };
}

/// The descriptor of an OS plugin (`&'static imgf_plugin`), without exporting it: for tests.
#[macro_export]
macro_rules! os_plugin {
    ($plugin:ty) => {{
        #[allow(unused_imports)] // a plugin that offers everything needs no fallback
        use $crate::author::export::NotOffered as _;
        type __Offered = $crate::author::export::Offered<$plugin>;

        static OS: $crate::abi::imgf_os_v1 = $crate::abi::imgf_os_v1 {
            struct_size: $crate::abi::imgf_os_v1::SIZE,
            reserved0: 0,
            create_base_image: Some($crate::author::export::create_base_image::<$plugin>),
            create_target_image: __Offered::CREATE_TARGET_IMAGE,
            add_cloud_plugin_content: __Offered::ADD_CLOUD_PLUGIN_CONTENT,
            abort: Some($crate::author::export::abort::<$plugin>),
        };
        static INPUTS: $crate::abi::imgf_os_inputs_v1 = $crate::abi::imgf_os_inputs_v1 {
            struct_size: $crate::abi::imgf_os_inputs_v1::SIZE,
            reserved0: 0,
            resolve_inputs: __Offered::RESOLVE_INPUTS,
        };
        static VERIFY: $crate::abi::imgf_os_verify_v1 = $crate::abi::imgf_os_verify_v1 {
            struct_size: $crate::abi::imgf_os_verify_v1::SIZE,
            reserved0: 0,
            verify_image: __Offered::VERIFY_IMAGE,
        };
        $crate::__plugin_descriptor!(
            $plugin,
            $crate::abi::IMGF_KIND_OS,
            [
                ($crate::abi::IMGF_IFACE_OS_V1, OS, OS.create_base_image),
                ($crate::abi::IMGF_IFACE_OS_INPUTS_V1, INPUTS, INPUTS.resolve_inputs),
                ($crate::abi::IMGF_IFACE_OS_VERIFY_V1, VERIFY, VERIFY.verify_image),
            ]
        )
    }};
}

/// The descriptor of a cloud plugin (`&'static imgf_plugin`), without exporting it: for tests.
#[macro_export]
macro_rules! cloud_plugin {
    ($plugin:ty) => {{
        #[allow(unused_imports)] // a plugin that offers everything needs no fallback
        use $crate::author::export::NotOffered as _;
        type __Offered = $crate::author::export::Offered<$plugin>;
        const _: fn() = $crate::author::export::is_cloud_plugin::<$plugin>;

        static CLOUD: $crate::abi::imgf_cloud_v1 = $crate::abi::imgf_cloud_v1 {
            struct_size: $crate::abi::imgf_cloud_v1::SIZE,
            reserved0: 0,
            builder_should_create_target_image: __Offered::BUILDER_SHOULD,
            builder_will_create_target_image: __Offered::BUILDER_WILL,
            builder_did_create_target_image: __Offered::BUILDER_DID,
            push_image_to_provider: __Offered::PUSH,
            snapshot_image_on_provider: __Offered::SNAPSHOT,
            delete_from_provider: __Offered::DELETE,
            abort: Some($crate::author::export::abort::<$plugin>),
        };
        $crate::__plugin_descriptor!(
            $plugin,
            $crate::abi::IMGF_KIND_CLOUD,
            [($crate::abi::IMGF_IFACE_CLOUD_V1, CLOUD, CLOUD.abort),]
        )
    }};
}

/// The part of a descriptor that both kinds share. Expands where `__Offered` is in scope.
#[doc(hidden)]
#[macro_export]
macro_rules! __plugin_descriptor {
    ($plugin:ty, $kind:expr, [ $( ($id:expr, $table:ident, $operation:expr), )+ ]) => {{
        static CLEANUP: $crate::abi::imgf_cleanup_v1 = $crate::abi::imgf_cleanup_v1 {
            struct_size: $crate::abi::imgf_cleanup_v1::SIZE,
            reserved0: 0,
            cleanup: __Offered::CLEANUP,
        };
        unsafe extern "C" fn get_interface(
            id: $crate::abi::imgf_str,
        ) -> *const ::std::ffi::c_void {
            let tables = [
                $( ($id, $crate::author::export::table_if(&$table, $operation)), )+
                (
                    $crate::abi::IMGF_IFACE_CLEANUP_V1,
                    $crate::author::export::table_if(&CLEANUP, CLEANUP.cleanup),
                ),
            ];
            // SAFETY: the host promises readable text.
            unsafe { $crate::author::export::find(id, &tables) }
        }
        static PLUGIN: $crate::abi::imgf_plugin = $crate::abi::imgf_plugin {
            struct_size: $crate::abi::imgf_plugin::SIZE,
            abi_version: $crate::abi::IMGF_ABI_1_0,
            id: $crate::abi::imgf_str::new(<$plugin as $crate::author::Plugin>::ID),
            version: $crate::abi::imgf_str::new(<$plugin as $crate::author::Plugin>::VERSION),
            kind: $kind,
            flags: 0,
            create: Some($crate::author::export::create::<$plugin>),
            destroy: Some($crate::author::export::destroy::<$plugin>),
            get_interface: Some(get_interface),
        };
        &PLUGIN
    }};
}

/// The entry symbol for a descriptor.
#[doc(hidden)]
#[macro_export]
macro_rules! __export_plugin {
    ($descriptor:expr) => {
        const _: () = {
            static DESCRIPTOR: &$crate::abi::imgf_plugin = $descriptor;

            #[no_mangle]
            pub unsafe extern "C" fn imagefactory_plugin_negotiate(
                n: *mut $crate::abi::imgf_negotiate,
            ) -> i32 {
                // SAFETY: the host's promises are those that `negotiate` asks for.
                unsafe { $crate::author::export::negotiate(n, DESCRIPTOR) }
            }
        };
        $crate::__export_layout!();
    };
}

/// The layout side-car; nothing without the `layout-check` feature.
#[cfg(not(feature = "layout-check"))]
#[doc(hidden)]
#[macro_export]
macro_rules! __export_layout {
    () => {};
}

/// The layout side-car: abi_stable's header of a module that holds types and no behaviour.
#[cfg(feature = "layout-check")]
#[doc(hidden)]
#[macro_export]
macro_rules! __export_layout {
    () => {
        const _: () = {
            // abi_stable::library::ROOT_MODULE_LOADER_NAME, which an attribute cannot name;
            // layout.rs asserts that it is the same.
            #[export_name = "_1as_0lib_1header_0root_bmodule_bloader"]
            pub static LAYOUT: $crate::layout::SideCarHeader = $crate::layout::side_car_header();
        };
    };
}
