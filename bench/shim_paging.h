/* SPDX-License-Identifier: MIT */
/* Paging by one server on a userfaultfd, as UMap does it: the shim's limit against that. */
#ifndef SHIM_PAGING_H
#define SHIM_PAGING_H

#include <stddef.h>

/* Memory of which no more than @buffer_len is there at any time. Ends the program if it cannot. */
void *paging_alloc(size_t len, size_t buffer_len);

#endif
