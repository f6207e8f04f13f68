/* SPDX-License-Identifier: MIT */
/* Fault servers: threads that read the userfaultfd and resolve CPU faults. */
#ifndef FAULT_H
#define FAULT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

struct umm_ctx;
struct uffd_msg_info;

#define MAX_SERVERS 8

struct servers {
	pthread_t threads[MAX_SERVERS];
	int poll_fds[MAX_SERVERS]; /* epoll, one per server */
	unsigned nthreads;
	unsigned wanted;
	_Atomic unsigned started; /* takes a number at start */
	_Atomic int cpu;	  /* that they go to; -1: none yet */
	int stop_fd;		  /* readable: end */
};

/* Start `wanted` servers (0: one per CPU that the process may use, at most MAX_SERVERS). */
int servers_start(struct umm_ctx *ctx, unsigned wanted);
void servers_stop(struct umm_ctx *ctx);
/* Are descriptors gone that the servers sleep on? The program has closed or replaced them. */
bool servers_lost(struct umm_ctx *ctx);

/*
 * Serve a fault that was read, or hand it to the workers if it needs what may sleep. Not always
 * to the workers: all of them may be waiting for a device that is what faults here.
 */
void fault_take(struct umm_ctx *ctx, const struct uffd_msg_info *info);

/*
 * Serve the calling thread's own fault, in a signal handler: returns when it may try again. False:
 * nothing of ctx explains this fault.
 */
bool fault_serve_here(struct umm_ctx *ctx, const struct uffd_msg_info *info);

#endif
