/* SPDX-License-Identifier: MIT */
/* Faults that are served by the thread that has them: UMM_CTX_FAULTS_IN_THREAD. */
#ifndef SIGBUS_H
#define SIGBUS_H

struct umm_ctx;

/* The handler knows this context from here on, until sigbus_close(). 0 or -errno. */
int sigbus_open(struct umm_ctx *ctx);
/* No thread serves a fault of ctx any more when this returns. No lock held. */
void sigbus_close(struct umm_ctx *ctx);
/* In a forked child: no context that it inherits has faults. */
void sigbus_after_fork(void);

#endif
