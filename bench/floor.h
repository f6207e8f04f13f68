/* SPDX-License-Identifier: MIT */
/*
 * The competitors: bare programs without libumm, each as fast as we can make it. They
 * return 0 or a negative errno; the close functions accept NULL.
 */
#ifndef FLOOR_H
#define FLOOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Paging by hand: one userfaultfd, one server thread in a blocking read, that copies a
 * page from "device" memory into a staging page and puts it in place with
 * UFFDIO_MOVE. On an idle CPU normal priority is faster than nice -20: the woken thread then
 * preempts the server, whose next read finds a fault without sleeping. Or without a server.
 */
struct floor_uffd_options {
	size_t npages;
	size_t apart;	/* bytes between pages that are copied, not moved; 0: moved neighbours */
	int cpu;	/* that the server is pinned to; -1: free to roam */
	bool raise;	/* ask for nice -20 */
	bool protect;	/* pages are there, write-protected; the server lets writes through */
	bool in_thread; /* no server: a handler of SIGBUS does it, where the fault is */
};

struct floor_uffd;
int floor_uffd_open(const struct floor_uffd_options *options, struct floor_uffd **out);
/*
 * Before each run: every page is on the device again, or protected. Each of them must have been
 * touched.
 */
int floor_uffd_reset(struct floor_uffd *f);
/* End the run: no server waits, SIGBUS is whose it was. floor_uffd_reset() does so, too. */
void floor_uffd_stop(struct floor_uffd *f);
/* The paged memory; the first word of every page says how far it is from the first one. */
char *floor_uffd_memory(const struct floor_uffd *f);
void floor_uffd_close(struct floor_uffd *f);

/* By /dev/userfaultfd, else the system call, as libumm does; blocking. Or -errno. */
int floor_uffd_descriptor(uint64_t features);

/* Migration by hand: every other page of small ones to a "device", by UFFDIO_MOVE and memcpy(). */
struct floor_move;
int floor_move_open(size_t len, struct floor_move **out);
/* All of them, one way; the next time the other. */
int floor_move_run(struct floor_move *f);
void floor_move_close(struct floor_move *f);

/* memcpy() between two warm buffers of huge pages, at once or by blocks: what is faster here. */
struct floor_copy;
int floor_copy_open(size_t len, struct floor_copy **out);
/* The same bytes page by page: between every other page of small ones and a buffer. */
int floor_copy_open_scattered(size_t len, struct floor_copy **out);
/* One copy; the next one goes the other way. */
void floor_copy_run(struct floor_copy *f);
void floor_copy_close(struct floor_copy *f);

#endif
