/* Sizes and offsets of every struct, proved by the compiler.
 *
 * C99 has no _Static_assert, so each line declares an array type whose length is negative if the
 * line is untrue. Only for LP64 (64-bit Linux), the one data model that plugins are loaded on
 * today. Rust's twin holds the same numbers, and a test compares the two field by field; here they
 * stop a compiler with odd packing options before anything is built. */
#ifndef IMAGEFACTORY_LAYOUT_H
#define IMAGEFACTORY_LAYOUT_H

#include <stddef.h>

#include <imagefactory/text.h>
#include <imagefactory/error.h>
#include <imagefactory/progress.h>
#include <imagefactory/journal.h>
#include <imagefactory/host.h>
#include <imagefactory/host_checkpoint.h>
#include <imagefactory/host_artifact.h>
#include <imagefactory/host_reserve.h>
#include <imagefactory/stage.h>
#include <imagefactory/os.h>
#include <imagefactory/os_inputs.h>
#include <imagefactory/os_verify.h>
#include <imagefactory/cloud.h>
#include <imagefactory/cleanup.h>
#include <imagefactory/descriptor.h>
#include <imagefactory/negotiate.h>

#if defined(__LP64__)

#define IMGF_LAYOUT_SIZE(type, bytes) \
  typedef char imgf_layout_of_##type[sizeof(type) == (bytes) ? 1 : -1]
#define IMGF_LAYOUT_AT(type, field, bytes) \
  typedef char imgf_layout_of_##type##_##field[offsetof(type, field) == (bytes) ? 1 : -1]

IMGF_LAYOUT_SIZE(imgf_str, 16);
IMGF_LAYOUT_AT(imgf_str, ptr, 0);
IMGF_LAYOUT_AT(imgf_str, len, 8);

IMGF_LAYOUT_SIZE(imgf_error, 88);
IMGF_LAYOUT_AT(imgf_error, struct_size, 0);
IMGF_LAYOUT_AT(imgf_error, code, 4);
IMGF_LAYOUT_AT(imgf_error, flags, 8);
IMGF_LAYOUT_AT(imgf_error, os_errno, 12);
IMGF_LAYOUT_AT(imgf_error, retry_after_ms, 16);
IMGF_LAYOUT_AT(imgf_error, message, 24);
IMGF_LAYOUT_AT(imgf_error, hint, 40);
IMGF_LAYOUT_AT(imgf_error, vendor_code, 56);
IMGF_LAYOUT_AT(imgf_error, details_json, 72);

IMGF_LAYOUT_SIZE(imgf_progress, 56);
IMGF_LAYOUT_AT(imgf_progress, struct_size, 0);
IMGF_LAYOUT_AT(imgf_progress, flags, 4);
IMGF_LAYOUT_AT(imgf_progress, done, 8);
IMGF_LAYOUT_AT(imgf_progress, total, 16);
IMGF_LAYOUT_AT(imgf_progress, phase, 24);
IMGF_LAYOUT_AT(imgf_progress, message, 40);

IMGF_LAYOUT_SIZE(imgf_journal_entry, 80);
IMGF_LAYOUT_AT(imgf_journal_entry, struct_size, 0);
IMGF_LAYOUT_AT(imgf_journal_entry, event, 4);
IMGF_LAYOUT_AT(imgf_journal_entry, flags, 8);
IMGF_LAYOUT_AT(imgf_journal_entry, reserved0, 12);
IMGF_LAYOUT_AT(imgf_journal_entry, token, 16);
IMGF_LAYOUT_AT(imgf_journal_entry, kind, 32);
IMGF_LAYOUT_AT(imgf_journal_entry, resource_id, 48);
IMGF_LAYOUT_AT(imgf_journal_entry, details_json, 64);

IMGF_LAYOUT_SIZE(imgf_host, 136);
IMGF_LAYOUT_AT(imgf_host, struct_size, 0);
IMGF_LAYOUT_AT(imgf_host, abi_version, 4);
IMGF_LAYOUT_AT(imgf_host, ctx, 8);
IMGF_LAYOUT_AT(imgf_host, log, 16);
IMGF_LAYOUT_AT(imgf_host, progress, 24);
IMGF_LAYOUT_AT(imgf_host, is_cancelled, 32);
IMGF_LAYOUT_AT(imgf_host, cancel_fd, 40);
IMGF_LAYOUT_AT(imgf_host, report_error, 48);
IMGF_LAYOUT_AT(imgf_host, set_result, 56);
IMGF_LAYOUT_AT(imgf_host, journal, 64);
IMGF_LAYOUT_AT(imgf_host, config_get, 72);
IMGF_LAYOUT_AT(imgf_host, path_get, 80);
IMGF_LAYOUT_AT(imgf_host, image_get, 88);
IMGF_LAYOUT_AT(imgf_host, secret_get, 96);
IMGF_LAYOUT_AT(imgf_host, secret_release, 104);
IMGF_LAYOUT_AT(imgf_host, add_cloud_plugin_content, 112);
IMGF_LAYOUT_AT(imgf_host, last_error, 120);
IMGF_LAYOUT_AT(imgf_host, get_interface, 128);

IMGF_LAYOUT_SIZE(imgf_host_checkpoint_v1, 24);
IMGF_LAYOUT_AT(imgf_host_checkpoint_v1, struct_size, 0);
IMGF_LAYOUT_AT(imgf_host_checkpoint_v1, reserved0, 4);
IMGF_LAYOUT_AT(imgf_host_checkpoint_v1, put, 8);
IMGF_LAYOUT_AT(imgf_host_checkpoint_v1, get, 16);

IMGF_LAYOUT_SIZE(imgf_host_artifact_v1, 16);
IMGF_LAYOUT_AT(imgf_host_artifact_v1, struct_size, 0);
IMGF_LAYOUT_AT(imgf_host_artifact_v1, reserved0, 4);
IMGF_LAYOUT_AT(imgf_host_artifact_v1, add, 8);

IMGF_LAYOUT_SIZE(imgf_host_reserve_v1, 32);
IMGF_LAYOUT_AT(imgf_host_reserve_v1, struct_size, 0);
IMGF_LAYOUT_AT(imgf_host_reserve_v1, reserved0, 4);
IMGF_LAYOUT_AT(imgf_host_reserve_v1, lock, 8);
IMGF_LAYOUT_AT(imgf_host_reserve_v1, unlock, 16);
IMGF_LAYOUT_AT(imgf_host_reserve_v1, next_listen_port, 24);

IMGF_LAYOUT_SIZE(imgf_stage, 184);
IMGF_LAYOUT_AT(imgf_stage, struct_size, 0);
IMGF_LAYOUT_AT(imgf_stage, flags, 4);
IMGF_LAYOUT_AT(imgf_stage, deadline_unix_ms, 8);
IMGF_LAYOUT_AT(imgf_stage, attempt, 16);
IMGF_LAYOUT_AT(imgf_stage, reserved0, 20);
IMGF_LAYOUT_AT(imgf_stage, stage_id, 24);
IMGF_LAYOUT_AT(imgf_stage, image_id, 40);
IMGF_LAYOUT_AT(imgf_stage, target, 56);
IMGF_LAYOUT_AT(imgf_stage, provider, 72);
IMGF_LAYOUT_AT(imgf_stage, template_xml, 88);
IMGF_LAYOUT_AT(imgf_stage, template_json, 104);
IMGF_LAYOUT_AT(imgf_stage, parameters_json, 120);
IMGF_LAYOUT_AT(imgf_stage, images_json, 136);
IMGF_LAYOUT_AT(imgf_stage, resources_json, 152);
IMGF_LAYOUT_AT(imgf_stage, credential_name, 168);

IMGF_LAYOUT_SIZE(imgf_os_v1, 40);
IMGF_LAYOUT_AT(imgf_os_v1, struct_size, 0);
IMGF_LAYOUT_AT(imgf_os_v1, reserved0, 4);
IMGF_LAYOUT_AT(imgf_os_v1, create_base_image, 8);
IMGF_LAYOUT_AT(imgf_os_v1, create_target_image, 16);
IMGF_LAYOUT_AT(imgf_os_v1, add_cloud_plugin_content, 24);
IMGF_LAYOUT_AT(imgf_os_v1, abort, 32);

IMGF_LAYOUT_SIZE(imgf_os_inputs_v1, 16);
IMGF_LAYOUT_AT(imgf_os_inputs_v1, struct_size, 0);
IMGF_LAYOUT_AT(imgf_os_inputs_v1, reserved0, 4);
IMGF_LAYOUT_AT(imgf_os_inputs_v1, resolve_inputs, 8);

IMGF_LAYOUT_SIZE(imgf_os_verify_v1, 16);
IMGF_LAYOUT_AT(imgf_os_verify_v1, struct_size, 0);
IMGF_LAYOUT_AT(imgf_os_verify_v1, reserved0, 4);
IMGF_LAYOUT_AT(imgf_os_verify_v1, verify_image, 8);

IMGF_LAYOUT_SIZE(imgf_cloud_v1, 64);
IMGF_LAYOUT_AT(imgf_cloud_v1, struct_size, 0);
IMGF_LAYOUT_AT(imgf_cloud_v1, reserved0, 4);
IMGF_LAYOUT_AT(imgf_cloud_v1, builder_should_create_target_image, 8);
IMGF_LAYOUT_AT(imgf_cloud_v1, builder_will_create_target_image, 16);
IMGF_LAYOUT_AT(imgf_cloud_v1, builder_did_create_target_image, 24);
IMGF_LAYOUT_AT(imgf_cloud_v1, push_image_to_provider, 32);
IMGF_LAYOUT_AT(imgf_cloud_v1, snapshot_image_on_provider, 40);
IMGF_LAYOUT_AT(imgf_cloud_v1, delete_from_provider, 48);
IMGF_LAYOUT_AT(imgf_cloud_v1, abort, 56);

IMGF_LAYOUT_SIZE(imgf_cleanup_v1, 16);
IMGF_LAYOUT_AT(imgf_cleanup_v1, struct_size, 0);
IMGF_LAYOUT_AT(imgf_cleanup_v1, reserved0, 4);
IMGF_LAYOUT_AT(imgf_cleanup_v1, cleanup, 8);

IMGF_LAYOUT_SIZE(imgf_plugin, 72);
IMGF_LAYOUT_AT(imgf_plugin, struct_size, 0);
IMGF_LAYOUT_AT(imgf_plugin, abi_version, 4);
IMGF_LAYOUT_AT(imgf_plugin, id, 8);
IMGF_LAYOUT_AT(imgf_plugin, version, 24);
IMGF_LAYOUT_AT(imgf_plugin, kind, 40);
IMGF_LAYOUT_AT(imgf_plugin, flags, 44);
IMGF_LAYOUT_AT(imgf_plugin, create, 48);
IMGF_LAYOUT_AT(imgf_plugin, destroy, 56);
IMGF_LAYOUT_AT(imgf_plugin, get_interface, 64);

IMGF_LAYOUT_SIZE(imgf_negotiate, 48);
IMGF_LAYOUT_AT(imgf_negotiate, struct_size, 0);
IMGF_LAYOUT_AT(imgf_negotiate, host_abi_min, 4);
IMGF_LAYOUT_AT(imgf_negotiate, host_abi_max, 8);
IMGF_LAYOUT_AT(imgf_negotiate, flags, 12);
IMGF_LAYOUT_AT(imgf_negotiate, chosen_abi, 16);
IMGF_LAYOUT_AT(imgf_negotiate, reserved0, 20);
IMGF_LAYOUT_AT(imgf_negotiate, plugin, 24);
IMGF_LAYOUT_AT(imgf_negotiate, refusal, 32);

#undef IMGF_LAYOUT_SIZE
#undef IMGF_LAYOUT_AT

#endif /* __LP64__ */

#endif
