/* SPDX-License-Identifier: MIT */
/*
 * Where a thread's stack is does not change, and to ask is slow for a program's first thread: so it
 * is asked once. A thread that runs on another stack, its signal stack or one that it has switched
 * to, has all of its own in use; of the other one, only what is near the stack pointer is known.
 *
 * Locks: none.
 */
#include "stack.h"

#include <pthread.h>

#include "util.h"

struct stack {
	bool asked;
	uintptr_t low, high; /* equal: nobody knows */
};

/* initial-exec: the other models may call malloc on a thread's first access. */
static _Thread_local struct stack mine __attribute__((tls_model("initial-exec")));

static void ask(struct stack *stack)
{
	pthread_attr_t attr;
	size_t len = 0;
	void *low = NULL;

	stack->asked = true;
	if (pthread_getattr_np(pthread_self(), &attr))
		return;
	if (!pthread_attr_getstack(&attr, &low, &len)) {
		stack->low = (uintptr_t)low;
		stack->high = stack->low + len;
	}
	pthread_attr_destroy(&attr);
}

bool stack_in_use(uintptr_t start, uintptr_t end)
{
	uintptr_t here = (uintptr_t)__builtin_frame_address(0), low;

	if (own_stack_in(start, end))
		return true;
	if (!mine.asked)
		ask(&mine);
	low = mine.low;
	if (here >= low && here < mine.high)
		low = here;
	return start < mine.high && end > low;
}
