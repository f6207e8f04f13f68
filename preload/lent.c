/* SPDX-License-Identifier: MIT */
/*
 * vmsplice(), and sockets that send without copying (SO_ZEROCOPY, or somebody else had set that:
 * MSG_ZEROCOPY): a pipe or a socket refers to pages of the program for as long as nobody has read
 * them. Such a reference does not keep a page from being moved to a device, and nobody can see it.
 * The contents move, the frame stays what the other side will read; so no frame that was the
 * program's may be written to for another page. From the first such call on they go back to the
 * kernel, which knows who refers to them.
 *
 * No locks, no state: the engine remembers.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "engine.h"
#include "lent.h"
#include "raw.h"
#include "shim.h"

/* The C library's, in which a thread may be cancelled; NULL before the constructor has run. */
static struct {
	ssize_t (*send)(int fd, const void *data, size_t len, int flags);
	ssize_t (*sendto)(int fd, const void *data, size_t len, int flags,
			  const struct sockaddr *to, socklen_t to_len);
	ssize_t (*sendmsg)(int fd, const struct msghdr *message, int flags);
	int (*sendmmsg)(int fd, struct mmsghdr *messages, unsigned n, int flags);
} next;

void lent_start(void)
{
	*(void **)&next.send = dlsym(RTLD_NEXT, "send");
	*(void **)&next.sendto = dlsym(RTLD_NEXT, "sendto");
	*(void **)&next.sendmsg = dlsym(RTLD_NEXT, "sendmsg");
	*(void **)&next.sendmmsg = dlsym(RTLD_NEXT, "sendmmsg");
}

static void begin(const void *caller)
{
	if (shim_is_armed() && thread_mode != THREAD_INTERNAL && !shim_is_internal_code(caller))
		engine_recycle_nothing();
}

long lent_vmsplice(const long arg[4], const void *caller)
{
	begin(caller);
	return raw_syscall(SYS_vmsplice, arg[0], arg[1], arg[2], arg[3], 0, 0);
}

PRELOAD_API ssize_t vmsplice(int fd, const struct iovec *iov, size_t count, unsigned flags)
{
	return lent_vmsplice((long[]){ fd, (long)iov, (long)count, flags },
			     __builtin_return_address(0));
}

long lent_setsockopt(const long arg[5], const void *caller)
{
	if (arg[1] == SOL_SOCKET && arg[2] == SO_ZEROCOPY)
		begin(caller);
	return raw_syscall(SYS_setsockopt, arg[0], arg[1], arg[2], arg[3], arg[4], 0);
}

PRELOAD_API int setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	return (int)lent_setsockopt((long[]){ fd, level, name, (long)value, len },
				    __builtin_return_address(0));
}

void lent_send(int flags, const void *caller)
{
	if (flags & MSG_ZEROCOPY)
		begin(caller);
}

PRELOAD_API ssize_t send(int fd, const void *data, size_t len, int flags)
{
	lent_send(flags, __builtin_return_address(0));
	if (next.send)
		return next.send(fd, data, len, flags);
	return raw_syscall(SYS_sendto, fd, (long)data, (long)len, flags, 0, 0);
}

PRELOAD_API ssize_t sendto(int fd, const void *data, size_t len, int flags,
			   const struct sockaddr *to, socklen_t to_len)
{
	lent_send(flags, __builtin_return_address(0));
	if (next.sendto)
		return next.sendto(fd, data, len, flags, to, to_len);
	return raw_syscall(SYS_sendto, fd, (long)data, (long)len, flags, (long)to, to_len);
}

PRELOAD_API ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	lent_send(flags, __builtin_return_address(0));
	if (next.sendmsg)
		return next.sendmsg(fd, message, flags);
	return raw_syscall(SYS_sendmsg, fd, (long)message, flags, 0, 0, 0);
}

PRELOAD_API int sendmmsg(int fd, struct mmsghdr *messages, unsigned n, int flags)
{
	lent_send(flags, __builtin_return_address(0));
	if (next.sendmmsg)
		return next.sendmmsg(fd, messages, n, flags);
	return (int)raw_syscall(SYS_sendmmsg, fd, (long)messages, n, flags, 0, 0);
}
