/* SPDX-License-Identifier: MIT */
/* Giving the program another mapping at an address, in one step. */
#ifndef EXCHANGE_H
#define EXCHANGE_H

#include <stddef.h>
#include <stdint.h>

struct umm_ctx;

/*
 * An anonymous mapping that nobody has touched yet, guarded by the context's userfaultfd: who
 * touches it where it is put will wait. 0: no memory.
 */
uintptr_t exchange_make(struct umm_ctx *ctx, size_t len, int prot);
/* It was not needed. */
void exchange_drop(struct umm_ctx *ctx, uintptr_t map, size_t len);
/* Put it at start, instead of what is mapped there. 0 or -errno. No lock held; not on a server. */
int exchange_put(struct umm_ctx *ctx, uintptr_t map, uintptr_t start, size_t len);

#endif
