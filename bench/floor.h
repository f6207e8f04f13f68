/* SPDX-License-Identifier: MIT */
/*
 * The competitors: bare programs without libumm, each as fast as we can make it. They
 * return 0 or a negative errno; the close functions accept NULL.
 */
#ifndef FLOOR_H
#define FLOOR_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Paging by hand: one userfaultfd, one server thread in a blocking read, that copies a
 * page from "device" memory into a staging page and puts it in place with
 * UFFDIO_MOVE. The server is pinned to cpu, or free to roam where cpu is -1; raise asks for
 * nice -20. On an idle CPU normal priority is faster: the woken thread then preempts the
 * server, whose next read finds a fault without sleeping.
 */
struct floor_uffd;
int floor_uffd_open(size_t npages, int cpu, bool raise, struct floor_uffd **out);
/* Before each run: every page is on the device again. Each of them must have been touched. */
int floor_uffd_reset(struct floor_uffd *f);
/* The paged memory; the first word of every page says its offset. */
const char *floor_uffd_memory(const struct floor_uffd *f);
void floor_uffd_close(struct floor_uffd *f);

/* memcpy() between two warm buffers of huge pages, at once or by blocks: what is faster here. */
struct floor_copy;
int floor_copy_open(size_t len, struct floor_copy **out);
void floor_copy_run(struct floor_copy *f);
void floor_copy_close(struct floor_copy *f);

#endif
