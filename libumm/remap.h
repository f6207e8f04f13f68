/* SPDX-License-Identifier: MIT */
/* mremap() of managed memory: pages follow their mapping. */
#ifndef REMAP_H
#define REMAP_H

struct umm_ctx;
struct uffd_msg_info;

/* Apply the message. Under the gate, held exclusively. */
void remap_apply(struct umm_ctx *ctx, const struct uffd_msg_info *info);

#endif
