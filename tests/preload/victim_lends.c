/* SPDX-License-Identifier: MIT */
/*
 * A program that lends pages to a pipe or a socket, uses other memory, more than is to be in the
 * host, and then reads what it sent. usage: victim_lends (pipe|socket) (function|number)
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

/* A reader who takes little before he begins to read: the rest is in the hands of the sender. */
static int lend_to_a_socket(const char *lent, size_t *len)
{
	struct sockaddr_in addr = { .sin_family = AF_INET,
				    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listener = socket(AF_INET, SOCK_STREAM, 0), fd = socket(AF_INET, SOCK_STREAM, 0), peer;
	socklen_t addr_len = sizeof(addr);

	check(!set_option(listener, SO_RCVBUF, 65536));
	check(!bind(listener, (struct sockaddr *)&addr, sizeof(addr)) && !listen(listener, 1));
	check(!getsockname(listener, (struct sockaddr *)&addr, &addr_len));
	check(!set_option(fd, SO_SNDBUF, 4 << 20) && !set_option(fd, SO_ZEROCOPY, 1));
	check(!connect(fd, (struct sockaddr *)&addr, sizeof(addr)));
	peer = accept(listener, NULL, NULL);
	check(peer >= 0);
	*len = (size_t)send(fd, lent, LENT, MSG_ZEROCOPY | MSG_DONTWAIT);
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
	fd = !strcmp(argv[1], "pipe") ? lend_to_a_pipe(ptr, &len) : lend_to_a_socket(ptr, &len);
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
