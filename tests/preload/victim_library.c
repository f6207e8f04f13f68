/* SPDX-License-Identifier: MIT */
/* A library that is loaded late, and allocates, and may filter system calls, when it is. */
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <string.h>
#include <sys/prctl.h>

#include "victim.h"

void *library_make(size_t len);
void library_destroy(void *ptr);

static void *early;
static size_t early_len;

static void allow_all(void)
{
	struct sock_filter code = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog filter = { 1, &code };

	check(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	check(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter));
}

/* While the dynamic loader is locked: more than the limit, if that is wanted. */
__attribute__((constructor)) static void library_start(void)
{
	const char *what = getenv("VICTIM_LOADER");

	early_len = what ? 48 * MIB : 200000;
	early = malloc(early_len);
	fill(early, early_len, 1);
	if (what && !strcmp(what, "filters"))
		allow_all();
}

__attribute__((destructor)) static void library_end(void)
{
	check(is_filled(early, early_len, 1));
	free(early);
}

__attribute__((visibility("default"))) void *library_make(size_t len)
{
	void *ptr = malloc(len);

	fill(ptr, len, 11);
	return ptr;
}

__attribute__((visibility("default"))) void library_destroy(void *ptr)
{
	free(ptr);
}
