/* SPDX-License-Identifier: MIT */
/*
 * A program that lends pages to a pipe or a socket, uses other memory, more than is to be in the
 * host, and then reads what it sent.
 * usage: victim_lends (pipe|socket) (function|number), or
 * victim_lends inherited (send|sendto|sendmsg|sendmmsg|sys_sendto|sys_sendmsg|sys_sendmmsg)
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "victim.h"

#define LENT ((size_t)512 << 10)
#define ALL  (64 * MIB)

static bool by_number;

static int lend_to_a_pipe(const char *lent, size_t *len)
{
	struct iovec pages = { (void *)lent, LENT };
	int fds[2];

	check(!pipe(fds) && fcntl(fds[1], F_SETPIPE_SZ, MIB) >= 0);
	*len = by_number ? (size_t)syscall(SYS_vmsplice, fds[1], &pages, 1UL, 0UL) :
			   (size_t)vmsplice(fds[1], &pages, 1, 0);
	return fds[0];
}

static int set_option(int fd, int name, int value)
{
	return by_number ?
		       (int)syscall(SYS_setsockopt, fd, SOL_SOCKET, name, &value, sizeof(value)) :
		       setsockopt(fd, SOL_SOCKET, name, &value, sizeof(value));
}

/* As if somebody else had: by an instruction. */
static void set_unseen(int fd, int name, int value)
{
	long ret = SYS_setsockopt;
#if defined(__x86_64__)
	register long level __asm__("rdi") = fd;
	register long value_ptr __asm__("r10") = (long)&value;
	register long value_len __asm__("r8") = sizeof(value);

	__asm__ volatile("syscall"
			 : "+a"(ret)
			 : "r"(level), "S"((long)SOL_SOCKET), "d"((long)name), "r"(value_ptr),
			   "r"(value_len)
			 : "rcx", "r11", "memory");
#else
	(void)fd, (void)name, (void)value;
#endif
	check(!ret);
}

static ssize_t send_by(const char *how, int fd, const char *lent)
{
	struct iovec pages = { (void *)lent, LENT };
	struct mmsghdr messages = { .msg_hdr = { .msg_iov = &pages, .msg_iovlen = 1 } };
	int flags = MSG_ZEROCOPY | MSG_DONTWAIT;

	if (!strcmp(how, "sendto"))
		return sendto(fd, lent, LENT, flags, NULL, 0);
	if (!strcmp(how, "sendmsg"))
		return sendmsg(fd, &messages.msg_hdr, flags);
	if (!strcmp(how, "sendmmsg"))
		return sendmmsg(fd, &messages, 1, flags) == 1 ? (ssize_t)messages.msg_len : -1;
	if (!strcmp(how, "sys_sendto"))
		return syscall(SYS_sendto, fd, lent, LENT, flags, NULL, 0L);
	if (!strcmp(how, "sys_sendmsg"))
		return syscall(SYS_sendmsg, fd, &messages.msg_hdr, flags);
	if (!strcmp(how, "sys_sendmmsg"))
		return syscall(SYS_sendmmsg, fd, &messages, 1L, flags) == 1 ?
			       (ssize_t)messages.msg_len :
			       -1;
	return send(fd, lent, LENT, flags);
}

/* A reader who takes little before he begins to read: the rest is in the hands of the sender. */
static int lend_to_a_socket(const char *lent, size_t *len, const char *inherited)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0), peer;
	socklen_t addr_len = sizeof(addr);

	check(!set_option(listener, SO_RCVBUF, 65536));
	check(!bind(listener, (struct sockaddr *)&addr, sizeof(addr)) && !listen(listener, 1));
	check(!getsockname(listener, (struct sockaddr *)&addr, &addr_len));
	check(!set_option(fd, SO_SNDBUF, 4 << 20));
	if (inherited)
		set_unseen(fd, SO_ZEROCOPY, 1);
	else
		check(!set_option(fd, SO_ZEROCOPY, 1));
	check(!connect(fd, (struct sockaddr *)&addr, sizeof(addr)));
	peer = accept(listener, NULL, NULL);
	check(peer >= 0);
	*len = (size_t)send_by(inherited ? inherited : "send", fd, lent);
	return peer;
}

int main(int argc, char **argv)
{
	static char got[LENT];
	size_t len, n = 0;
	char *ptr;
	ssize_t ret;
	int fd;

	check(argc == 3);
	by_number = !strcmp(argv[2], "number");
	ptr = mmap(NULL, ALL, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(ptr != MAP_FAILED);
	fill(ptr, ALL, 41);
	if (!strcmp(argv[1], "pipe"))
		fd = lend_to_a_pipe(ptr, &len);
	else
		fd = lend_to_a_socket(ptr, &len, strcmp(argv[1], "socket") ? argv[2] : NULL);
	check(len > LENT / 2 && len <= LENT);
	for (int i = 0; i < 2; i++)
		fill(ptr + MIB, ALL - MIB, (uint64_t)i);
	while (n < len) {
		ret = read(fd, got + n, len - n);
		check(ret > 0);
		n += (size_t)ret;
	}
	check(is_filled(got, len & ~(size_t)4095, 41));
	check(is_filled(ptr, MIB, 41));
	puts("victim: all as it should be");
	return 0;
}
