//! The type behind the side-car: an abi_stable root module that names every C table.
//!
//! Its fields are function pointer types that mention the tables, never called and never set: root
//! modules must be `Sync`, which raw pointers are not. The macro lets the frozen copy of a released
//! ABI declare the same module over its own types.

/// Declares `SideCar` over the `imgf_*` types in scope.
macro_rules! side_car_type {
    () => {
        /// Names every table of the C ABI.
        #[repr(C)]
        #[derive(abi_stable::StableAbi)]
        #[sabi(kind(Prefix(prefix_ref = SideCar_Ref)))]
        #[sabi(missing_field(panic))]
        pub struct SideCar {
            /// The entry function's argument, and through it the descriptor and the host table.
            pub negotiate: Option<unsafe extern "C" fn(*mut imgf_negotiate) -> i32>,
            /// `imagefactory.os/1`.
            pub os: Option<unsafe extern "C" fn(*const imgf_os_v1)>,
            /// `imagefactory.os.inputs/1`.
            pub os_inputs: Option<unsafe extern "C" fn(*const imgf_os_inputs_v1)>,
            /// `imagefactory.os.verify/1`.
            pub os_verify: Option<unsafe extern "C" fn(*const imgf_os_verify_v1)>,
            /// `imagefactory.cloud/1`.
            pub cloud: Option<unsafe extern "C" fn(*const imgf_cloud_v1)>,
            /// `imagefactory.cleanup/1`.
            pub cleanup: Option<unsafe extern "C" fn(*const imgf_cleanup_v1)>,
            /// `imagefactory.host.checkpoint/1`.
            pub host_checkpoint: Option<unsafe extern "C" fn(*const imgf_host_checkpoint_v1)>,
            /// `imagefactory.host.artifact/1`.
            pub host_artifact: Option<unsafe extern "C" fn(*const imgf_host_artifact_v1)>,
            /// `imagefactory.host.reserve/1`.
            #[sabi(last_prefix_field)]
            pub host_reserve: Option<unsafe extern "C" fn(*const imgf_host_reserve_v1)>,
        }
    };
}
pub(super) use side_car_type;
