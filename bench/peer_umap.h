/* SPDX-License-Identifier: MIT */
/*
 * LLNL's UMap as a competitor, where an installed copy was found when this was built. Its page
 * size and threads are the process's, read when it first maps memory.
 */
#ifndef PEER_UMAP_H
#define PEER_UMAP_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Memory that UMap pages in from a store in RAM, so many bytes at a time; the first word of every
 * 4 KiB says how far it is from the first. Its threads run where the caller may. NULL: it could
 * not.
 */
char *peer_umap_map(size_t len, size_t page_bytes);
void peer_umap_unmap(char *memory, size_t len);

#ifdef __cplusplus
}
#endif

#endif
