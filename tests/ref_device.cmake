# SPDX-License-Identifier: MIT
# The reference device, for whoever links it.
set(umm_ref_device
    ${PROJECT_SOURCE_DIR}/tests/ref_access.c
    ${PROJECT_SOURCE_DIR}/tests/ref_device.c
    ${PROJECT_SOURCE_DIR}/tests/ref_queue.c
    ${PROJECT_SOURCE_DIR}/tests/ref_table.c)
