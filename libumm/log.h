/* SPDX-License-Identifier: MIT */
/*
 * Messages for people. Safe on the fault path: formats on the stack, one write(2).
 * Takes a lock of RANK_LEAF, so not while holding one of that rank.
 */
#ifndef LOG_H
#define LOG_H

#include <stdint.h>

#include "umm.h"

/* In a forked child, before it logs: another thread of the parent may have held the lock. */
void log_after_fork(void);

#define log_error(...) umm_log(UMM_LOG_ERROR, __VA_ARGS__)

/* What a driver's op answered: 0, -errno, or, if it is neither, -EINVAL and a line in the log. */
int log_bad_answer(const char *op, int ret);
/* A call is refused for memory that nobody manages: -EFAULT. */
int log_unmanaged(const char *function, uintptr_t start, uintptr_t end);
#define log_warning(...) umm_log(UMM_LOG_WARNING, __VA_ARGS__)
#define log_info(...)	 umm_log(UMM_LOG_INFO, __VA_ARGS__)
#define log_debug(...)	 umm_log(UMM_LOG_DEBUG, __VA_ARGS__)

#endif
