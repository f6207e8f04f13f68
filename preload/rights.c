/* SPDX-License-Identifier: MIT */
/*
 * setuid() and its sisters, for the whole program. Daemons give up root's rights once they have
 * what only root may open. The engine belongs to that: a userfaultfd that is open serves on, but
 * nobody else may open one. So it starts before, however little memory there is by then; unless
 * the thread is to keep capabilities: no other thread would, and the C library ends programs whose
 * threads differ in what they may do.
 *
 * The C library has every thread of the process change its rights, and tells them how by way of the
 * caller's stack. That may be managed memory: were it put away meanwhile, the threads that bring
 * pages home would wait for themselves. So the engine stands still.
 *
 * Whoever the program becomes has to find its file, and the program to take it away: the
 * file is given to that user. Rights that can be taken back (seteuid()) change no owner.
 *
 * A child of vfork() shares the parent's memory and has none of its threads: there, only the rights
 * change. Locks: the engine's, over the C library's function.
 */
#include "rights.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine.h"
#include "shim.h"

#define KEEP ((uid_t)-1)

struct rights {
	sigset_t signals;
	uid_t was, becomes; /* KEEP: its owner stays the same */
	bool held;
};

static pid_t process; /* that these pages belong to, be it forked or not */
static int (*next_setuid)(uid_t uid);
static int (*next_seteuid)(uid_t effective);
static int (*next_setreuid)(uid_t real, uid_t effective);
static int (*next_setresuid)(uid_t real, uid_t effective, uid_t saved);

void rights_start(void)
{
	process = getpid();
	*(void **)&next_setuid = dlsym(RTLD_NEXT, "setuid");
	*(void **)&next_seteuid = dlsym(RTLD_NEXT, "seteuid");
	*(void **)&next_setreuid = dlsym(RTLD_NEXT, "setreuid");
	*(void **)&next_setresuid = dlsym(RTLD_NEXT, "setresuid");
}

void rights_fork_child(void)
{
	process = getpid();
}

/* To become @effective, for good where @final. */
static struct rights begin(uid_t effective, bool final)
{
	struct rights rights = { .was = geteuid(), .becomes = KEEP };
	sigset_t all;

	if (!shim_is_armed() || thread_mode == THREAD_INTERNAL || effective == KEEP ||
	    effective == rights.was || process != getpid())
		return rights;
	rights.held = true;
	/* A handler could change them, too. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &rights.signals);
	if (!rights.was && !prctl(PR_GET_SECUREBITS))
		engine_start();
	engine_hold();
	if (final) {
		rights.becomes = effective;
		engine_give(rights.was, effective);
	}
	return rights;
}

static int end(const struct rights *rights, int ret)
{
	int saved = errno;

	if (!rights->held)
		return ret;
	if (ret && rights->becomes != KEEP)
		engine_give(rights->becomes, rights->was);
	engine_release();
	pthread_sigmask(SIG_SETMASK, &rights->signals, NULL);
	errno = saved;
	return ret;
}

PRELOAD_API int setuid(uid_t uid)
{
	struct rights rights = begin(uid, true);

	return end(&rights, next_setuid ? next_setuid(uid) : (int)syscall(SYS_setuid, uid));
}

PRELOAD_API int seteuid(uid_t effective)
{
	struct rights rights = begin(effective, false);

	return end(&rights, next_seteuid ? next_seteuid(effective) :
					   (int)syscall(SYS_setresuid, KEEP, effective, KEEP));
}

PRELOAD_API int setreuid(uid_t real, uid_t effective)
{
	struct rights rights = begin(effective, real == effective);

	return end(&rights, next_setreuid ? next_setreuid(real, effective) :
					    (int)syscall(SYS_setreuid, real, effective));
}

PRELOAD_API int setresuid(uid_t real, uid_t effective, uid_t saved)
{
	struct rights rights = begin(effective, effective == saved);

	return end(&rights, next_setresuid ? next_setresuid(real, effective, saved) :
					     (int)syscall(SYS_setresuid, real, effective, saved));
}
