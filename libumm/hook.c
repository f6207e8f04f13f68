/* SPDX-License-Identifier: MIT */
/* Test hooks; see hook.h. They are set while the library runs: both words are atomic. */
#include "hook.h"

#include <stdatomic.h>
#include <stddef.h>

#ifdef UMM_HOOKS
static struct {
	_Atomic(hook_fn) fn;
	_Atomic(void *) priv;
} hooks[HOOK_NR];

void hook_set(enum hook_point point, hook_fn fn, void *priv)
{
	atomic_store(&hooks[point].fn, NULL);
	atomic_store(&hooks[point].priv, priv);
	atomic_store(&hooks[point].fn, fn);
}

void hook_run(enum hook_point point, uintptr_t addr)
{
	hook_fn fn = atomic_load(&hooks[point].fn);

	if (fn)
		fn(atomic_load(&hooks[point].priv), point, addr);
}
#endif
